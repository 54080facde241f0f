"""`relukit open MODEL`: the main job."""

from pathlib import Path

import typer

from relukit.cli._domains import WRITTEN, box_of


def command(
    model: Path = typer.Argument(..., help="A network: .onnx, .onnx.gz, .npz, .pt, .pt2, .safetensors, .keras, .nnet"),
    data: Path | None = typer.Option(None, help="Rows: .npz with x (and y), .npy, .csv or .csv.gz"),
    box: str = typer.Option("", help="The inputs that count: " + WRITTEN),
    out: Path = typer.Option(Path("report"), "--out", "-o", help="Folder of the report"),
    input_shape: str = typer.Option("", help="Shape of one input where the file does not tell it: 3,32,32"),
    time_limit: float = typer.Option(60.0, help="Seconds for the smallest flips together"),
    seed: int = typer.Option(0, help="Seed of everything that samples"),
    as_json: bool = typer.Option(False, "--json", help="Print report.json"),
) -> None:
    """Everything that applies to one network, in one report."""
    from relukit.cli._frame import print_json, progress
    from relukit.report import open as open_network

    where = (lambda size: box_of(box, size)) if box else None
    with progress("opening", 7) as step:
        report = open_network(
            model, data, where, out, _shape(input_shape), seed, time_limit, lambda done, total, what: step(done, what)
        )
    if as_json:
        print_json(report.content)
        return
    content = report.content
    if "network" in content:
        net = content["network"]
        print(
            f"network   {net['inputs']:,} -> {net['outputs']:,}, {net['units']:,} units, {net['parameters']:,} parameters"
        )
    if "health" in content:
        layers = content["health"]["layers"]
        print(
            f"health    {sum(layer['dead'] for layer in layers)} of {sum(layer['units'] for layer in layers)} units dead on {content['health']['rows']} rows"
        )
    if "regions" in content:
        count = content["regions"]["count"]
        print(f"regions   {count:,} linear piece{'' if count == 1 else 's'} on {content['regions']['where']}")
    if content.get("flips"):
        proven = sum(f["status"] == "proven" for f in content["flips"])
        found = [f["distance"] for f in content["flips"] if f["distance"] is not None]
        nearest = f", nearest {min(found):.4g}" if found else ""
        print(f"flips     {len(content['flips'])} rows, {proven} proven{nearest}")
    if "compress" in content:
        print(
            f"compress  {content['compress']['parameters_before']} -> {content['compress']['parameters_after']} parameters: {content['compress']['reason']}"
        )
    missing: dict[str, list[str]] = {}
    for part in content["skipped"]:
        missing.setdefault(part["reason"], []).append(part["section"])
    for reason, names in missing.items():
        print(f"no {', '.join(names)}: {reason}")
    print(f"report    {report.path}")


def _shape(text: str) -> tuple[int, ...] | None:
    """`3,32,32` or `3x32x32` as a shape."""
    from relukit._errors import InvalidInput

    if not text:
        return None
    parts = text.lower().replace("x", ",").split(",")
    if not all(p.strip().isdigit() and int(p) > 0 for p in parts):
        raise InvalidInput(f"--input-shape takes the sizes of one input, such as 3,32,32, got '{text}'")
    return tuple(map(int, parts))
