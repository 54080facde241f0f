"""`relukit flip MODEL --at X`."""

from pathlib import Path

import typer


def command(
    model: Path = typer.Argument(..., help="A network"),
    at: Path = typer.Option(..., help="One input: .npy, .npz with x, or .csv"),
    norm: str = typer.Option("inf", help="The norm: inf"),
    low: float | None = typer.Option(None, help="Smallest value that every input may take"),
    high: float | None = typer.Option(None, help="Largest value that every input may take"),
    target: int | None = typer.Option(None, help="Ask for this decision only"),
    timeout: float = typer.Option(60.0, help="Seconds"),
    out: Path | None = typer.Option(None, "--out", "-o", help="Write the flipped input as .npy"),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """The smallest change of one input that changes the decision."""
    import numpy as np

    import relukit
    from relukit._errors import InvalidInput
    from relukit.cli._frame import print_json
    from relukit.report import read_rows

    if norm not in ("inf", "1", "2"):
        raise InvalidInput(f"norm must be inf, 1 or 2, got '{norm}'")
    network = relukit.load(model)
    x = read_rows(network, at).x[0]
    limits = None
    if low is not None or high is not None:
        reach = 1e6 * (1 + float(np.abs(x).max()))
        limits = relukit.Box(
            np.full(len(x), -reach if low is None else low), np.full(len(x), reach if high is None else high)
        )
    found = relukit.flip(network, x, float(norm), limits, target, timeout)
    if out is not None and found.witness is not None:
        from relukit._numerics import atomic_path

        with atomic_path(out) as path, open(path, "wb") as file:
            np.save(file, found.witness.reshape(network.input_shape))
    print_json(found.to_dict()) if as_json else print(found)
