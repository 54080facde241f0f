"""`relukit optimize MODEL`."""

from pathlib import Path

import typer


def command(
    model: Path = typer.Argument(..., help="A network"),
    maximize: str = typer.Option("", help='What to maximize: "y[0]" or "2*y[3] - y[2]"'),
    minimize: str = typer.Option("", help="What to minimize"),
    box: Path | None = typer.Option(None, help="VNN-LIB file with the box (default: the file's lo and hi)"),
    constraint: list[str] = typer.Option([], help='Such as "x[0] + x[1] <= 1" or "y[1] >= 0.9"; several may be given'),
    integer: list[int] = typer.Option([], help="Inputs that take whole numbers only"),
    export: Path | None = typer.Option(None, help="Write the problem as a mixed-integer program instead: .mps or .lp"),
    second_opinion: bool = typer.Option(
        False, "--second-opinion", help="Ask HiGHS as well, and fail where it contradicts the proof"
    ),
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
    network = relukit.load(model)
    if export is not None:
        from relukit.optimization import to_program

        program = to_program(network, maximize or None, minimize or None, domain, constraint, integer)
        program.write(export)
        content = {
            "written": str(export),
            "columns": len(program.names),
            "rows": int(program.A.shape[0]),
            "integer": int(program.integer.sum()),
        }
        print_json(content) if as_json else print(f"{export}: {program}")
        return
    opinion = None
    if second_opinion:
        from relukit.optimization import second_opinion as ask

        found, opinion = ask(network, maximize or None, minimize or None, domain, constraint, integer, timeout)
    else:
        found = relukit.optimize(
            network,
            maximize or None,
            minimize or None,
            domain,
            constraint,
            integer,
            tolerance=tolerance,
            timeout=timeout,
        )
    if as_json:
        print_json(found.to_dict() | ({"second_opinion": opinion} if opinion else {}))
    else:
        if opinion:
            print(
                "{solver}: {status}, {value:.8g}, {agrees}".format(
                    **opinion | {"agrees": "agrees" if opinion["agrees"] else "undecided"}
                )
            )
        print(
            f"{found.status}: {found.value:.9g}, no value beyond {found.bound:.9g} ({found.engine}, {found.boxes} boxes, {found.cpu_seconds:.2f} CPU-s)"
        )
        if len(found.witness) <= 20:
            print("at x =", ", ".join(f"{v:.9g}" for v in found.witness))
    if check and found.status != "optimal":
        raise typer.Exit(UNDECIDED)
