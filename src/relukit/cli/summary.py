"""`relukit summary FILE`."""

from pathlib import Path

import typer


def command(
    file: Path = typer.Argument(..., help="A network: .onnx, .npz, .pt, .keras, .nnet"),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Print what a network is, layer by layer."""
    import relukit

    print(relukit.load(file))
