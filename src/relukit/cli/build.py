"""`relukit build TABLE.csv`, and `relukit build NETWORK`, the way back."""

from pathlib import Path
from typing import Any

import typer

from relukit.cli._domains import WRITTEN, box_of

_NETWORKS = (".onnx", ".gz", ".pt", ".pth", ".pt2", ".safetensors", ".keras", ".nnet")


def command(
    table: Path = typer.Argument(
        ...,
        help="Columns x, y; or two or three inputs and the value (.csv, .tsv, .npy); a function's .json or .npz; a surface (.obj, .ply); "
        "or a network, for the way back",
    ),
    out: Path | None = typer.Option(
        None, "--out", "-o", help="Write the network: .onnx or .npz; of a network, its form: .json, .csv or .npz"
    ),
    form: str = typer.Option(
        "",
        help="hinges, hats or anchored hats (default: the fewest units that stay accurate); of a network: table, breakpoints, max-min, triangulation",
    ),
    plain: bool = typer.Option(False, "--plain", help="Layers in a row only, no skip connections"),
    dtype: str = typer.Option("float32", help="float32 or float64: precision of the file"),
    sort: bool = typer.Option(False, "--sort", help="Sort the rows by x first"),
    triangulate: bool = typer.Option(
        False, "--triangulate", help="Points that fill no grid: make Delaunay's triangulation"
    ),
    box: str = typer.Option("", help="Of a network: " + WRITTEN + " (default: the file's lo and hi)"),
    output: int = typer.Option(0, min=0, help="Of a network: which output"),
    check: bool = typer.Option(
        False,
        "--check",
        help="Of a network: build what was found again, and compare both networks in rational arithmetic",
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """A network that equals the piecewise-linear function in a file; or, from a network, that function."""
    import relukit
    from relukit._errors import InvalidInput
    from relukit.cli._frame import print_json

    if _is_network(table):
        _back(table, out, form, box, output, check, as_json)
        return
    if box:
        raise InvalidInput("--box belongs to the way back, from a network to its pieces; a table brings its own ends")
    if check:
        raise InvalidInput("--check belongs to the way back, from a network to its pieces and again to a network")
    if dtype not in ("float32", "float64"):
        raise InvalidInput(f"--dtype is float32 or float64, got '{dtype}'")
    found = relukit.build(table, form=form, skip=not plain, dtype=dtype, sort=sort, triangulate=triangulate)
    if out is not None:
        relukit.save(found.network, out)
    if as_json:
        print_json(found.to_dict() | ({} if out is None else {"file": str(out)}))
        return
    print(found)
    if out is None:
        print("nothing was written: -o FILE.onnx or FILE.npz writes the network")
    if found.largest_value > 4:
        single = "" if dtype == "float64" else f"{found.relative_error_float32:.1e} and "
        print(f"values reach {found.largest_value:.4g}: relative to that, errors are {single}{found.relative_error_float64:.1e}")  # fmt: skip
    if found.relative_error_float32 > 1e-3:
        print("float32 is too coarse for pieces this thin or steep: take --dtype float64")
    if found.error_bound_float64 is not None:
        single = "" if found.error_bound_float32 is None else f"{found.error_bound_float32:.1e} in float32, "
        print(f"bounds for every point: {single}{found.error_bound_float64:.1e} in float64")
    for row in found.tried[:-1]:
        errors = ", ".join(f"{v:.1e} in {k[10:]}" for k, v in row.items() if k.startswith("max_error"))
        known = [f"{v:.1e} in {k[12:]}" for k, v in row.items() if k.startswith("error_bound") and v is not None]
        bounds = f" and bounds {', '.join(known)}" if known else ""
        print(f"{row['form']} would take {row['hidden_units']} units, with errors {errors}{bounds}")


def _is_network(path: Path) -> bool:
    if path.suffix.lower() != ".npz":
        return path.suffix.lower() in _NETWORKS
    import zipfile

    from relukit._errors import InvalidInput
    from relukit.network.arrays import named_layers

    try:
        with zipfile.ZipFile(path) as file:
            return bool(named_layers(name.removesuffix(".npy") for name in file.namelist()))
    except (OSError, zipfile.BadZipFile, InvalidInput):
        return False  # said by the reader of functions


def _back(path: Path, out: Path | None, form: str, box: str, output: int, check: bool, as_json: bool) -> None:
    import relukit
    from relukit._errors import InvalidInput
    from relukit.cli._frame import print_json
    from relukit.construction import round_trip
    from relukit.construction._files import write_function

    network = relukit.load(path)
    domain = None
    if box:
        domain = box_of(box, network.inputs)
    elif network.box is None:
        raise InvalidInput(f"{path.name} brings no box (lo, hi): give --box LO:HI,LO:HI,...")
    found = relukit.unbuild(network, domain, form, output)
    content: dict[str, Any] = {"form": form or ("table" if network.inputs == 1 else "triangulation"), "pieces": found.pieces, "exact": found.exact}  # fmt: skip
    if not found.exact:
        content["fractions"] = _strings(found.fractions)
    if check:
        worst = round_trip(network, found, domain, output)
        content |= {"same_function": worst == 0, "largest_difference": float(worst)}
    if out is not None:
        if content["form"] == "breakpoints":
            raise InvalidInput("breakpoints are printed (--json); write the table, which holds their values too")
        write_function(found.form, out, content)
        content["file"] = str(out)
    elif as_json:
        content |= {"breakpoints": found.form} if content["form"] == "breakpoints" else found.form.to_dict()
        content.pop("fractions", None)
    if as_json:
        print_json(content)
    else:
        print(found, f"with {found.pieces} pieces")
        if check:
            same = content["same_function"]
            print("built again it is the same function" if same else f"built again it differs by up to {content['largest_difference']:.1e}")  # fmt: skip


def _strings(numbers: Any) -> Any:
    """Fractions as "p/q", in lists as they come."""
    return [_strings(v) for v in numbers] if isinstance(numbers, list | tuple) else str(numbers)
