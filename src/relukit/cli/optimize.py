"""`relukit optimize MODEL`."""

from pathlib import Path
from typing import Any

import typer


def command(
    model: str = typer.Argument(..., help="A network, or NAME=FILE where there are several"),
    maximize: str = typer.Option("", help='What to maximize: "y[0]" or "2*y[3] - y[2] + 0.1*x[0]"'),
    minimize: str = typer.Option("", help="What to minimize"),
    target: str = typer.Option("", help='Inverse design: the output wanted, "y[0] == 3.0 +- 0.1"'),
    counterfactual: str = typer.Option("", help='The closest input to --near where this holds: "y[0] >= 0.5"'),
    argmax: bool = typer.Option(
        False, "--argmax", help="Which output is the largest over the domain, and which never is"
    ),
    near: str = typer.Option("", help="Without a goal: the closest input to this point (numbers, FILE or FILE:ROW)"),
    norm: str = typer.Option("l1", help="How --near measures: l1 (few changes), l2 or linf (small ones)"),
    scale: str = typer.Option("none", help="Divide each input's distance by: none, range (its width), or numbers"),
    box: str = typer.Option(
        "", help="The domain: VNN-LIB file, LO:HI for all inputs, or LO:HI,LO:HI,... (default: the file's lo and hi)"
    ),
    constraint: list[str] = typer.Option(
        [], help='Such as "x[0] + x[1] <= 1", "y[1] >= 0.9" or "0 <= y[0] <= 1"; several may be given'
    ),
    integer: list[str] = typer.Option([], help="Inputs that take whole numbers only: 3, or a.x[3]"),
    category: list[str] = typer.Option([], help="A one-hot group of inputs, exactly one of them on: 3,4,5"),
    also: list[str] = typer.Option([], help="A further network NAME=FILE (the same file may come again)"),
    link: list[str] = typer.Option([], help='Between networks: "b.x[0] == a.x[0]" or "b.x[1] == a.y[0]"'),
    export: Path | None = typer.Option(None, help="Write the problem as a mixed-integer program instead: .mps or .lp"),
    formulation: str = typer.Option("big-m", help="Of --export and --second-opinion: big-m, sos1 or partition"),
    second_opinion: bool = typer.Option(
        False, "--second-opinion", help="Ask a MILP solver as well, and fail where it contradicts the proof"
    ),
    solver: str = typer.Option("", help="The one to ask: highs, scip or gurobi (implies --second-opinion)"),
    tolerance: float = typer.Option(1e-4, help="Relative gap at which the proof ends"),
    timeout: float = typer.Option(60.0, help="Seconds"),
    check: bool = typer.Option(False, "--check", help="Exit with 11 where the optimum is not proven"),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """The exact maximum or minimum over a domain; a point that satisfies constraints, the closest one, or a proof that there is none."""
    from relukit.cli._frame import INTERRUPTED, UNDECIDED, print_json
    from relukit.cli._progress import Progress

    goals = {"--maximize": maximize, "--minimize": minimize, "--target": target, "--counterfactual": counterfactual}
    kind = _kind(goals | {"--argmax": "yes" if argmax else ""}, near, bool(also))
    networks, domain = _networks(model, also, box)
    rules = [*constraint, *(t for t in (target, counterfactual) if t)]
    options: dict[str, Any] = {
        "constraints": rules, "integers": [_input(t) for t in integer],
        "categories": [[_input(t) for t in group.split(",")] for group in category],
    }  # fmt: skip
    if also:
        options["links"] = link
    elif link:
        from relukit._errors import InvalidInput

        raise InvalidInput("--link joins several networks; name a second one with --also NAME=FILE")
    if export is not None:
        _export(networks, maximize, minimize, domain, options, formulation, export, as_json)
        return
    with Progress("gap") as step:
        if kind not in ("argmax", "near"):
            options["on_progress"] = lambda seconds, value, bound: step(0, f"{value:.7g}, bound {bound:.7g}")
        found, opinion = _answer(
            kind, networks, maximize, minimize, domain, options, near, norm, scale, tolerance, timeout,
            (solver or "highs") if second_opinion or solver else "", formulation,
        )  # fmt: skip
    content = found.to_dict() | ({"second_opinion": opinion} if opinion else {})
    head = "" if isinstance(networks, dict) else networks.head
    content |= {"head": head} if head else {}
    print_json(content) if as_json else _say(found, opinion)
    if head and not as_json:
        print(f"y is the value before the last {head}{_after(networks, found)}")
    if content.get("reason") == "interrupted":
        raise typer.Exit(INTERRUPTED)
    if check and content["status"] not in ("optimal", "feasible", "infeasible"):
        raise typer.Exit(UNDECIDED)


def _kind(goals: dict[str, str], near: str, several: bool) -> str:
    """`optimum`, `near`, `argmax` or `satisfy`; refuses questions that exclude each other."""
    from relukit._errors import InvalidInput

    given = [name for name, text in goals.items() if text]
    if len(given) > 1:
        raise InvalidInput(f"one question at a time: {' and '.join(given)} exclude each other")
    asked = given[0] if given else ""
    if near and asked in ("--maximize", "--minimize", "--argmax"):
        raise InvalidInput(
            f"--near asks for the closest input and goes with --constraint, --target or --counterfactual, not with {asked}"
        )
    if asked == "--counterfactual" and not near:
        raise InvalidInput("--counterfactual needs --near POINT: closest to what?")
    if several and (near or asked == "--argmax"):
        raise InvalidInput(f"{'--near' if near else '--argmax'} is asked of one network")
    if near:
        return "near"
    return "argmax" if asked == "--argmax" else "optimum"


def _input(text: str) -> int | str:
    return int(text) if text.strip().isdigit() else text.strip()


def _networks(model: str, also: list[str], box: str) -> tuple[Any, Any]:
    """The network and its domain, or several by name."""
    import relukit
    from relukit._errors import InvalidInput
    from relukit.cli._domains import box_of

    if not also:
        network = relukit.load(model)
        return network, box_of(box, network.inputs) if box else None
    found: dict[str, Any] = {}
    for text in (model, *also):
        name, equals, file = text.partition("=")
        if not equals or not name.isidentifier():
            raise InvalidInput(f"several networks need names: NAME=FILE, got '{text}'")
        if name in found:
            raise InvalidInput(f"two networks are named '{name}'")
        found[name] = relukit.load(file)
    boxes = {name: box_of(box, net.inputs) if box else net.box for name, net in found.items()}
    return found, {name: b for name, b in boxes.items() if b is not None}


def _answer(
    kind: str, networks: Any, maximize: str, minimize: str, domain: Any, options: dict[str, Any], near: str, norm: str, scale: str,
    tolerance: float, timeout: float, solver: str, formulation: str,
) -> tuple[Any, Any]:  # fmt: skip
    import relukit
    from relukit import optimization
    from relukit._errors import InvalidInput

    options |= {"tolerance": tolerance, "timeout": timeout}
    if solver:
        if kind != "optimum":
            raise InvalidInput("a second opinion goes with --maximize, --minimize, --target or --constraint alone")
        return optimization.second_opinion(
            networks, maximize or None, minimize or None, domain, solver=solver, formulation=formulation, **options
        )
    if kind == "argmax":
        return optimization.argmax(networks, domain, **options), None
    if kind == "near":
        from relukit.cli._points import point

        where = networks.box if domain is None else domain
        if where is None:
            raise InvalidInput(
                f"optimize needs a box of the {networks.inputs} inputs; the network brings none of its own: --box LO:HI,..."
            )
        rules = options.pop("constraints")
        widths = _widths(scale, where)
        return optimization.closest(
            networks, point(networks, near, "--near"), rules, where, norm, widths, **options
        ), None
    return relukit.optimize(networks, maximize or None, minimize or None, domain, **options), None


def _widths(scale: str, box: Any) -> Any:
    import numpy as np

    from relukit.cli._points import numbers

    if scale == "none":
        return None
    if scale == "range":
        width = np.asarray(box.upper - box.lower, float)
        return np.where(width > 0, width, 1.0)
    return np.array(numbers(scale, "--scale"))


def _export(
    networks: Any, maximize: str, minimize: str, domain: Any, options: dict[str, Any], formulation: str, path: Path, as_json: bool
) -> None:  # fmt: skip
    from relukit.cli._frame import print_json
    from relukit.optimization import to_program

    program = to_program(networks, maximize or None, minimize or None, domain, formulation=formulation, **options)
    program.write(path)
    content = {
        "written": str(path), "columns": len(program.names), "rows": int(program.A.shape[0]), "integer": int(program.integer.sum()),
    }  # fmt: skip
    print_json(content) if as_json else print(f"{path}: {program}")


def _say(found: Any, opinion: Any) -> None:
    """The answer in a few lines."""
    if opinion:
        agrees = "agrees" if opinion["agrees"] else "undecided"
        print(f"{opinion['solver']}: {opinion['status']}, {opinion['value']:.8g}, {agrees}")
    if hasattr(found, "largest"):
        which = f"y[{found.largest}]" if found.largest >= 0 else "not decided"
        print(
            f"largest: {which}, up to {found.value:.9g}, no value beyond {found.bound:.9g} ({found.cpu_seconds:.2f} CPU-s)"
        )
        for entry in found.outputs:
            print(f"y[{entry['output']}]: up to {entry['value']:.6g}; largest somewhere: {entry['status']}")
        return
    effort = f"{found.engine}, {found.boxes} boxes, {found.cpu_seconds:.2f} CPU-s"
    if found.status in ("infeasible", "undecided"):
        print(f"{found.status}: {found.reason or 'no point was found'} ({effort})")
        return
    if found.status == "feasible":
        print(f"feasible ({effort})")
    else:
        why = f", {found.reason}" if found.reason else ""
        print(f"{found.status}: {found.value:.9g}, no value beyond {found.bound:.9g} ({effort}{why})")
    for name, x in (found.inputs or {"x": found.witness}).items():
        if len(x) <= 20:
            print(f"at {name} =", ", ".join(f"{v:.9g}" for v in x))
    if 0 < len(found.outputs) <= 20:
        print("y =", ", ".join(f"{v:.9g}" for v in found.outputs))


def _after(network: Any, found: Any) -> str:
    """What the source's last sigmoid or softmax makes of the outputs found."""
    import numpy as np

    if not isinstance(found.outputs, np.ndarray) or not 0 < len(found.outputs) <= 20:
        return ""
    return "; after it " + ", ".join(f"{v:.6g}" for v in network.apply_head(found.outputs[None])[0])
