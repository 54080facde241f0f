"""A MILP solver's answer beside the proven optimum: no solver's "Optimal" is taken at its word."""

from typing import Any

import numpy as np

from relukit._errors import SolverDisagreement
from relukit.optimization._export import program_of
from relukit.optimization._optimize import Networks, Optimum, pose

# MILP solvers accept points that break rows by 1e-6 or so; a big-M row turns that into about so much of the goal.
_SLACK = 1e-4


def cross_check(found: Optimum, solver: str, value: float, bound: float, maximize: bool) -> None:
    """Raises where a solver's claim contradicts a replayed point or a sound bound.

    Arguments:
        found: What `optimize` proved.
        solver: Its name, for the message.
        value: Of the solver's best point; `bound`: beyond which, it says, no point lies.

    Raises:
        SolverDisagreement: The solver excludes a point that the network, replayed, attains; or it claims a point beyond a
            bound that was proven with rounding included. The message holds the numbers.
    """
    sign, slack = (1.0 if maximize else -1.0), _SLACK * max(1.0, abs(found.bound))
    if found.witness.size and sign * (found.value - bound) > slack:
        raise SolverDisagreement(
            f"{solver} says that nothing lies beyond {bound:.9g}, but the network gives {found.value:.9g} at a point of the "
            f"domain (replayed in its own precision: {found.replayed:.9g}); the witness is in the result. "
            "Tighter bounds, presolve off, or another solver may help it"
        )
    if sign * (value - found.bound) > slack:
        raise SolverDisagreement(
            f"{solver} claims a point of value {value:.9g}, but {found.bound:.9g} is proven to be out of reach: "
            "its point breaks a constraint by more than it admits"
        )


def second_opinion(
    network: Networks,
    maximize: str | None = None,
    minimize: str | None = None,
    box: Any = None,
    constraints: Any = (),
    integers: Any = (),
    timeout: float = 60.0,
    *,
    solver: str = "highs",
    formulation: str = "big-m",
    tolerance: float = 1e-4,
    **options: Any,
) -> tuple[Optimum, dict[str, Any]]:
    """The proven optimum, and what a MILP solver says to the same problem, our best point given to it as a start.

    Arguments:
        solver: `highs`, `scip` (extra `scip`) or `gurobi` (extra `gurobi`).
        formulation: `big-m`, `sos1` (SCIP) or `partition`.
        options: `categories`, `links`, ... of `optimize`; the others are as there.

    Returns:
        The optimum, and `{"solver", "status", "value", "bound", "agrees"}`.

    Raises:
        SolverDisagreement: The solver contradicts what was proven.
        MissingExtra: The solver is not installed.
    """
    from relukit.programs import solver_name

    name = solver_name(solver)
    question = pose(
        network, maximize, minimize, box, constraints, integers, options.pop("categories", ()), options.pop("links", ())
    )
    found = question.answer(tolerance, timeout, **options)
    if isinstance(question.problem, str):
        return found, {
            "solver": name,
            "status": "not asked",
            "value": float("nan"),
            "bound": float("nan"),
            "agrees": True,
        }
    program = program_of(question, formulation)
    start = np.r_[found.witness, found.outputs] if found.witness.size else None
    status, point, bound = program.solve(timeout, solver, start)
    value = float("nan") if point is None else float(program.cost @ point + program.offset)
    if status == "optimal" and question.has_goal:
        cross_check(found, name, value, bound, maximize is not None)
    if status == "optimal" and found.status == "infeasible":
        _check_point(question.problem, found, name, np.asarray(point)[: question.network.inputs])
    if status == "infeasible" and found.witness.size:
        raise SolverDisagreement(
            f"{name} says that no point satisfies the constraints, but one of value {found.value:.9g} was found and replayed"
        )
    agrees = status == "optimal" or (status == "infeasible" and found.status == "infeasible")
    return found, {"solver": name, "status": status, "value": value, "bound": bound, "agrees": agrees}


def _check_point(problem: Any, found: Optimum, name: str, x: np.ndarray) -> None:
    """A solver has a point where infeasibility was proven: it must break a constraint."""
    y = problem.network(x[None])[0]
    worst = max(problem.constraints, key=lambda c: c.violation(x, y))
    raise SolverDisagreement(
        f"{name} claims a feasible point, but there is none ({found.reason}): replayed, its point breaks '{worst.text}' by "
        f"{worst.violation(x, y):.3g}"
    )
