"""`relukit build TABLE.csv`."""

from pathlib import Path

import typer


def command(
    table: Path = typer.Argument(
        ..., help="Columns x, y; or two or three inputs and the value on a regular grid (.csv, .tsv, .npy)"
    ),
    out: Path | None = typer.Option(None, "--out", "-o", help="Write the network: .onnx or .npz"),
    form: str = typer.Option("", help="hinges, hats or anchored hats (default: the fewest units that stay accurate)"),
    plain: bool = typer.Option(False, "--plain", help="Layers in a row only, no skip connections"),
    dtype: str = typer.Option("float32", help="float32 or float64: precision of the file"),
    sort: bool = typer.Option(False, "--sort", help="Sort the rows by x first"),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """A network that equals the piecewise-linear function through the points of a table."""
    import relukit
    from relukit._errors import InvalidInput
    from relukit.cli._frame import print_json

    if dtype not in ("float32", "float64"):
        raise InvalidInput(f"--dtype is float32 or float64, got '{dtype}'")
    found = relukit.build(table, form=form, skip=not plain, dtype=dtype, sort=sort)
    if out is not None:
        relukit.save(found.network, out)
    if as_json:
        print_json(found.to_dict() | ({} if out is None else {"file": str(out)}))
        return
    print(found)
    if found.error_bound_float64 is not None:
        single = "" if found.error_bound_float32 is None else f"{found.error_bound_float32:.1e} in float32, "
        print(f"bounds for every point: {single}{found.error_bound_float64:.1e} in float64")
    for row in found.tried[:-1]:
        errors = ", ".join(f"{v:.1e} in {k[10:]}" for k, v in row.items() if k.startswith("max_error"))
        print(f"{row['form']} would take {row['hidden_units']} units, with errors {errors}")
