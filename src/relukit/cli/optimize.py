"""`relukit optimize MODEL`."""

from pathlib import Path

import typer


def command(
    model: Path = typer.Argument(..., help="A network"),
    maximize: str = typer.Option("", help='What to maximize: "y[0]" or "2*y[3] - y[2]"'),
    minimize: str = typer.Option("", help="What to minimize"),
    box: Path | None = typer.Option(None, help="VNN-LIB file with the box (default: the file's lo and hi)"),
    tolerance: float = typer.Option(1e-4, help="Relative gap at which the proof ends"),
    timeout: float = typer.Option(60.0, help="Seconds"),
    check: bool = typer.Option(False, "--check", help="Exit with 11 where the optimum is not proven"),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """The exact maximum or minimum of an output over a box."""
    import relukit
    from relukit.cli._frame import UNDECIDED, print_json

    domain = None
    if box is not None:
        from relukit.verification import vnnlib

        domain = vnnlib.read_box(box)
    found = relukit.optimize(relukit.load(model), maximize or None, minimize or None, domain, tolerance, timeout)
    if as_json:
        print_json(found.to_dict())
    else:
        print(
            f"{found.status}: {found.value:.9g}, no value beyond {found.bound:.9g} ({found.engine}, {found.boxes} boxes, {found.cpu_seconds:.2f} CPU-s)"
        )
        if len(found.witness) <= 20:
            print("at x =", ", ".join(f"{v:.9g}" for v in found.witness))
    if check and found.status != "optimal":
        raise typer.Exit(UNDECIDED)
