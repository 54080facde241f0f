"""A MILP solver's answer beside the proven optimum: no solver's "Optimal" is taken at its word."""

from collections.abc import Sequence
from typing import Any

from relukit._errors import SolverDisagreement
from relukit.network import Network
from relukit.optimization._export import to_program
from relukit.optimization._optimize import Optimum, optimize
from relukit.sets import Box

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
    network: Network,
    maximize: str | None = None,
    minimize: str | None = None,
    box: Box | None = None,
    constraints: Sequence[str] = (),
    integers: Sequence[int] = (),
    timeout: float = 60.0,
) -> tuple[Optimum, dict[str, Any]]:
    """The proven optimum, and what HiGHS says to the same problem as a big-M program.

    Returns:
        The optimum, and `{"solver", "status", "value", "bound", "agrees"}`.

    Raises:
        SolverDisagreement: HiGHS contradicts what was proven.
    """
    found = optimize(network, maximize, minimize, box, constraints, integers, timeout=timeout)
    program = to_program(network, maximize, minimize, box, constraints, integers)
    status, point, bound = program.solve(timeout)
    value = float("nan") if point is None else float(program.cost @ point + program.offset)
    if status == "optimal":
        cross_check(found, "HiGHS", value, bound, maximize is not None)
    if status == "infeasible" and found.witness.size:
        raise SolverDisagreement(
            f"HiGHS says that no point satisfies the constraints, but one of value {found.value:.9g} was found and replayed"
        )
    agrees = status == "optimal" or (status == "infeasible" and found.status == "infeasible")
    return found, {"solver": "HiGHS", "status": status, "value": value, "bound": bound, "agrees": agrees}
