"""`relukit regions MODEL`."""

from pathlib import Path

import typer


def command(
    model: Path = typer.Argument(..., help="A network"),
    plane: Path | None = typer.Option(None, help="Rows: the plane through the first three of them"),
    box: str = typer.Option(
        "", help="x_low,y_low,x_high,y_high of the two inputs or plane coordinates (default: the file's lo and hi)"
    ),
    count: bool = typer.Option(False, "--count", help="Only count"),
    save: Path | None = typer.Option(None, help="Write polygons and maps as .npz"),
    plot: Path | None = typer.Option(None, help="Draw the pieces: .svg"),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """The linear pieces on a box of two inputs or on a plane, cut in float64 (tolerance 5e-13)."""
    import time

    import relukit
    from relukit._errors import InvalidInput
    from relukit.cli._frame import print_json
    from relukit.report import draw_regions, read_rows

    network = relukit.load(model)
    corners = None
    if plane is not None:
        rows = read_rows(network, plane).x
        if len(rows) < 3:
            raise InvalidInput(f"a plane needs three rows, {plane} has {len(rows)}")
        corners = tuple(rows[:3])
    domain = None
    if box:
        try:
            a, b, c, d = (float(v) for v in box.split(","))
        except ValueError as error:
            raise InvalidInput(f"--box takes four numbers x_low,y_low,x_high,y_high, got '{box}'") from error
        domain = relukit.Box([a, b], [c, d])
    relukit.regions(network, domain, corners)  # timed is the second call in the process
    started = time.process_time()
    found = relukit.regions(network, domain, corners)
    content = found.to_dict() | {"cpu_seconds": time.process_time() - started}
    if save is not None:
        found.save(save)
    if plot is not None and not count:
        from relukit._numerics import write_bytes

        write_bytes(plot, draw_regions(network, found).encode())
    if as_json:
        print_json(content)
    else:
        print(
            f"{content['regions']} pieces, {content['vertices']} vertices, {content['edges']} edges, area error {content['area_error']:.1e}, {content['cpu_seconds']:.3f} CPU-s"
        )
