"""`relukit explain MODEL --at X`."""

from pathlib import Path
from typing import Any

import typer


def command(
    model: Path = typer.Argument(..., help="A network"),
    at: str = typer.Option(..., help="One input: numbers separated by commas, FILE, or FILE:ROW"),
    walls: int = typer.Option(64, min=1, help="Most walls to list"),
    box: bool = typer.Option(False, "--box", help="The sides of the file's own box (lo, hi) count as walls"),
    plot: Path | None = typer.Option(None, help="Draw it: .svg, .png or .pdf"),
    image: str = typer.Option("", help="A flat input drawn as an image: 28x28, 3x32x32 (these two are known)"),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """The affine map at one input, and the distances to the walls of its cell and to the nearest decision boundary in it."""
    import relukit
    from relukit._errors import InvalidInput
    from relukit.cli._frame import print_json
    from relukit.cli._points import point, shape_of

    network = relukit.load(model)
    if box and network.box is None:
        raise InvalidInput(f"{model} brings no box (lo, hi)")
    found = relukit.explain(network, point(network, at, "--at"), network.box if box else None, walls=walls)
    if plot is not None:
        from relukit.geometry._write import save_picture

        save_picture(found.plot(image=shape_of(image))[0], plot)
    if as_json:
        print_json(found.to_dict() | {"head": network.head})
    else:
        _say(found, network)


def _say(found: Any, network: Any) -> None:
    decides = network.outputs > 1 or network.head == "sigmoid"  # one output without a sigmoid is a value
    total = sum(p.size for p in found.pattern.values())
    print((f"decision {found.decision}; " if decides else "") + f"{found.on:,} of {total:,} units on")
    print(f"output{'s' if network.outputs > 1 else ''} {_listed(found.outputs)}")
    if network.head:
        after = _listed(network.apply_head(found.outputs[None])[0])
        print(f"these are the values before the last {network.head}; after it {after}")
    if found.at_kink:
        print("exactly at the switch of " + ", ".join(f"{n}[{u}]" for n, u in found.at_kink[:10]))
    for wall in found.walls[:10]:
        more = "".join(f", {n}[{u}]" for n, u in wall.same)
        print(f"{wall.distance:.6g} to the wall of {wall.node}[{wall.unit}]{more}")
    rest = len(found.walls) - 10
    if rest > 0 or found.more_walls:
        print(
            f"{max(rest, 0)} further walls (--json lists them), {found.more_walls:,} hyperplanes farther away not looked at"
        )
    if found.boundary is None:
        print(f"{'the decision is' if decides else 'the sign of the output is'} the same in the whole cell")
    else:
        where = f"the decision becomes {found.boundary.other}" if decides else "the output is 0"
        print(f"{found.boundary.distance:.6g} to the nearest place in the cell where {where}")


def _listed(values: Any) -> str:
    return ", ".join(f"{v:.6g}" for v in values[:10]) + (", ..." if len(values) > 10 else "")
