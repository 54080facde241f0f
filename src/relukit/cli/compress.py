"""`relukit compress MODEL`."""

from pathlib import Path

import typer


def command(
    model: Path = typer.Argument(..., help="A network"),
    box: Path | None = typer.Option(None, help="VNN-LIB file with the domain (default: the file's lo and hi)"),
    data: Path | None = typer.Option(None, help="Rows: the domain is their range"),
    out: Path | None = typer.Option(None, "--out", "-o", help="Write the smaller network: .onnx or .npz"),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """A smaller network that equals this one on a domain, with the difference bounded."""
    import relukit
    from relukit._errors import InvalidInput
    from relukit.cli._frame import print_json

    network = relukit.load(model)
    domain = network.box
    if box is not None:
        from relukit.verification import vnnlib

        domain = vnnlib.read_box(box)
    elif data is not None:
        from relukit.report import read_rows

        x = read_rows(network, data).x
        domain = relukit.Box(x.min(axis=0), x.max(axis=0))
    if domain is None:
        raise InvalidInput("compress needs a domain: give --box FILE.vnnlib or --data ROWS.npz")
    found = relukit.compress(network, domain)
    if out is not None:
        relukit.save(found.network, out)
    print_json(found.to_dict()) if as_json else print(found)
