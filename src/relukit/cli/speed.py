"""`relukit speed MODEL`."""

from pathlib import Path

import typer


def command(
    model: Path = typer.Argument(..., help="A network"),
    data: Path | None = typer.Option(None, help="Rows: .npz with x, .npy or .csv (default: samples of the file's box)"),
    batch: list[int] = typer.Option([1, 4, 16, 64], help="Batch sizes; repeat the option"),
    threads: int = typer.Option(1, help="Threads of the compiled forms"),
    budget: float = typer.Option(1.0, help="Seconds of measurement per batch size"),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Inference that skips what ReLU throws away, measured against dense."""
    import relukit
    from relukit.cli._frame import print_json, progress
    from relukit.report import read_rows

    network = relukit.load(model)
    rows = None if data is None else read_rows(network, data).x
    with progress("measuring (the first time on a machine, loops are compiled)") as step:
        found = relukit.speed(network, rows, tuple(batch), threads, budget, on_progress=lambda text: step(0, text))
    if as_json:
        print_json(found.to_dict())
        return
    print(f"{'batch':>6} {'dense us':>10} {'us':>10} {'ratio':>6} {'zeros':>7} {'bytes saved':>12}  engine")
    for m in found.measured:
        print(
            f"{m.batch:6} {1e6 * m.dense_seconds:10.1f} {1e6 * m.seconds:10.1f} {m.ratio:6.2f} {100 * m.zero_share:6.1f}% "
            f"{100 * m.bytes_saved:11.1f}%  {'+'.join(m.engine)}"
        )
    if found.reason:
        print(found.reason)
