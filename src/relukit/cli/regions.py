"""`relukit regions MODEL`."""

from pathlib import Path
from typing import Any

import typer

CONTEXT = {"ignore_unknown_options": True}  # a point may begin with a minus: --plane -1,0 -1,1 0,0
_LONG = 20.0  # CPU seconds of a walk after which it is not run again only to time it warm; compiling, which comes first, does not count
_COMPILED = 100.0  # CPU seconds that compiling takes at most, about


def command(
    model: str = typer.Argument(..., help="A network"),
    more: list[str] = typer.Argument(None, hidden=True),
    plane: str = typer.Option(
        "", help="Three points A B C (numbers, FILE or FILE:ROW), or one file: its first three rows"
    ),
    slice_: str = typer.Option(
        "", "--slice", help="i,j: the plane in which these two inputs vary, the others as in --at"
    ),
    at: str = typer.Option(
        "", help="The point a slice goes through: numbers, FILE or FILE:ROW (default: the box's middle)"
    ),
    box: str = typer.Option(
        "",
        help="Of the inputs or plane coordinates: LO:HI,LO:HI,..., one LO:HI for all, all lower ends and then all upper ends, or a file (default: its lo and hi)",
    ),
    polygon: str = typer.Option("", help="x,y;x,y;...: a convex polygon in place of a box"),
    limit: int = typer.Option(5_000_000, min=1, help="Stop after this many pieces and keep them"),
    count: bool = typer.Option(False, "--count", help="Only count"),
    threads: int = typer.Option(1, min=1, help="Threads that share the walk; worth it from some 10,000 pieces on"),
    save: list[Path] = typer.Option(
        [], help="Write the pieces: .npz, .json, .geojson, .graphml, .ply, .obj, .svg; may be given again"
    ),
    plot: Path | None = typer.Option(None, help="Draw the pieces: .svg, .png or .pdf"),
    color: str = typer.Option("decision", help="Of the picture: decision, slope or depth"),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """The exact linear pieces: polygons of two inputs or of a plane, cells of one or three and more inputs."""
    import relukit
    from relukit._errors import UnsupportedOperation
    from relukit.cli._frame import INTERRUPTED, print_json, say_error

    model, corners = _model_and_corners(model, more or [], plane)
    network = relukit.load(model)
    where = _plane(network, corners, slice_, at)
    domain = _domain(network, where, slice_, box, polygon)
    found, seconds, call = _timed(network, domain, where, limit, threads)
    try:
        content = _content(network, where, found) | {"cpu_seconds": seconds, "timed_call": call}
        for file in save:
            found.save(file)
        if plot is not None and not count:
            from relukit.geometry._write import save_picture

            save_picture(found.plot(color=color) if hasattr(found, "plane") else found.plot(), plot)
    except MemoryError as error:
        raise UnsupportedOperation(
            f"{len(found):,} pieces were found, and there is no memory left to describe, save or draw them: stop at fewer (--limit)"
        ) from error
    if as_json:
        print_json(content)
    else:
        _say(content)
    if not found.complete:
        memory = found.stopped_by == "memory"
        why = "memory for no more: stopped" if memory else "stopped"
        say_error(f"{why} after {len(found):,} pieces: these are right, further ones are missing")
        if found.stopped_by == "Ctrl-C":
            raise typer.Exit(INTERRUPTED)


def _model_and_corners(model: str, more: list[str], plane: str) -> tuple[str, list[str]]:
    """`--plane A B C`: the option takes A, and B and C arrive among the arguments, before or after the model."""
    from relukit._errors import InvalidInput

    rest = [model, *more]
    unknown = [word for word in rest if word.startswith("--")]
    if unknown:
        raise InvalidInput(f"no such option: {unknown[0]}; see relukit regions --help")
    if not plane and more:
        raise InvalidInput(f"one network at a time, got {', '.join(rest)}")
    if len(rest) == 1:
        return model, [plane] if plane else []
    if len(rest) != 3:
        raise InvalidInput(f"--plane takes three points A B C (or one file of rows), got {1 + len(more)}")
    if not Path(rest[0]).is_file() and Path(rest[2]).is_file():  # --plane A B C MODEL
        return rest[2], [plane, *rest[:2]]
    return rest[0], [plane, *rest[1:]]


def _plane(network: Any, corners: list[str], slice_: str, at: str) -> Any:
    from relukit._errors import InvalidInput
    from relukit.cli._points import point, points

    if corners and slice_:
        raise InvalidInput("give --plane or --slice, not both")
    if at and not slice_:
        raise InvalidInput("--at belongs to --slice i,j; for one input's cell see: relukit explain MODEL --at X")
    if len(corners) == 1:
        rows = points(network, corners[0], "--plane")
        if len(rows) < 3:
            raise InvalidInput(f"a plane needs three points, {corners[0]} has {len(rows)}")
        return tuple(rows[:3])
    if corners:
        return tuple(point(network, c, "--plane") for c in corners)
    if not slice_:
        return None
    from relukit.geometry import plane_of_inputs

    i, j = _two(slice_)
    return plane_of_inputs(_middle(network) if not at else point(network, at, "--at"), i, j)


def _two(slice_: str) -> tuple[int, int]:
    from relukit._errors import InvalidInput

    parts = slice_.split(",")
    if len(parts) != 2 or not all(p.strip().isdigit() for p in parts):
        raise InvalidInput(f"--slice takes two input numbers i,j, got '{slice_}'")
    return int(parts[0]), int(parts[1])


def _middle(network: Any) -> Any:
    import numpy as np

    return np.zeros(network.inputs) if network.box is None else np.asarray(network.box.center(), float)


def _domain(network: Any, where: Any, slice_: str, box: str, polygon: str) -> Any:
    import relukit
    from relukit._errors import InvalidInput
    from relukit.cli._domains import box_of
    from relukit.cli._points import numbers

    if box and polygon:
        raise InvalidInput("give --box or --polygon, not both")
    if polygon:
        from relukit.geometry import polygon as convex

        return convex([numbers(p, "--polygon") for p in polygon.split(";")])
    if box:
        return box_of(box, 2 if where is not None else network.inputs)
    if slice_ and network.box is not None:
        pair = list(_two(slice_))
        return relukit.Box(network.box.lower[pair], network.box.upper[pair])
    if slice_:
        i, j = _two(slice_)
        raise InvalidInput(f"give --box LO:HI,LO:HI for inputs {i} and {j}: the file brings no lo and hi")
    return None


def _timed(network: Any, domain: Any, where: Any, limit: int, threads: int) -> tuple[Any, float, int]:
    """The pieces, the CPU seconds of the call, and which call that was: the second one, unless the first was long or stopped."""
    import time

    import relukit
    from relukit.cli._frame import progress

    with progress("pieces") as step:
        call, found, begun = 0, None, []

        def tell(pieces: int) -> None:
            begun.append(time.process_time())
            del begun[1:]
            step(pieces, f"{pieces:,} pieces")

        while True:
            call, found = call + 1, None  # the first call's memory goes to the second
            started = time.process_time()
            found = relukit.regions(network, domain, where, limit, partial=True, on_progress=tell, threads=threads)
            ended = time.process_time()
            is_long = ended - begun[0] > _LONG if begun else ended - started > _COMPILED
            if call == 2 or is_long or found.stopped_by in ("memory", "Ctrl-C"):
                return found, ended - started, call


def _content(network: Any, where: Any, found: Any) -> dict[str, Any]:
    """Counts, checks, why the walk stopped, and bounds of the literature."""
    content = found.to_dict()
    content |= {"stopped_at": None if found.complete else len(found), "stopped_by": found.stopped_by or None}
    if content["area_error"] != content["area_error"]:
        content["area_error"] = None
    if hasattr(network, "nodes"):
        from relukit.geometry import limits

        dimension = 2 if where is not None or not hasattr(found, "dimension") else found.dimension
        content["upper_bounds"] = limits(network, dimension)
    return content


def _say(content: dict[str, Any]) -> None:
    error = "" if content["area_error"] is None else f", area error {content['area_error']:.1e}"
    print(
        f"{content['regions']:,} pieces, {content['vertices']:,} vertices, {content['edges']:,} edges{error}, {content['cpu_seconds']:.4f} CPU-s"
    )
    bounds = content.get("upper_bounds", {})
    short = lambda n: f"{n:,}" if n < 10**15 else f"about 10^{len(str(n)) - 1}"
    known = [
        f"{name} {short(bounds[name])}"
        for name in ("zaslavsky", "serra_2018", "montufar_2017", "montufar_2014")
        if bounds.get(name)
    ]
    if known:
        print(f"at most, by its widths: {', '.join(known)}")
