"""The smallest or largest value of a linear function of inputs and outputs of networks, with proof."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from relukit._clock import Clock
from relukit._errors import InvalidInput
from relukit._shown import Shown
from relukit._types import Array
from relukit.bounds import interval
from relukit.network import Network
from relukit.optimization._expression import Constraint, Linear, Scope, parse_constraints, parse_goal
from relukit.optimization._joint import join, original_outputs
from relukit.optimization._portfolio import Found, run
from relukit.optimization._problem import Problem, make_problem
from relukit.sets import AbstractSet, require_set

Networks = Network | Mapping[str, Network]
Domain = AbstractSet | Mapping[str, Any] | None
Progress = Callable[[float, float, float], None]
_SMALL, _LARGE = 1e-3, 1e6  # reach of a goal between which it is taken as it is


@dataclass(frozen=True, eq=False)
class Optimum(Shown):
    """The best point found and a bound that no point beats.

    Arguments:
        status: `optimal` (the gap is within the tolerance), `feasible` (no goal was given, and a point was found), `bounded` (stopped
            early), `infeasible` (proven: no point satisfies the constraints) or `undecided` (stopped before a point was found).
        value: At the witness, in float64; infinite where there is none.
        bound: No point of the domain has a larger (smaller, when minimizing) value; sound, rounding included.
        witness: The inputs (with several networks: the joint ones); empty where there is none. `outputs` are those there.
        replayed: The value at the witness in the original, in its own precision.
        engine: What proved the bound.
        boxes: Nodes that were bounded.
        cpu_seconds: Of work by this process. What Python and Numba spent on loading or compiling code, once in a process, is
            `load_seconds`; `first_seconds` is wall time until the first point.
        violations: By how much each constraint is off at the witness, in float64; `replayed_violation` is the largest in the original.
        reason: Why it stopped early, or why nothing is feasible.
        history: `(seconds, value, bound)` as both closed in.
        inputs: With several networks, each one's inputs at the witness, linked ones included.
    """

    status: str
    value: float
    bound: float
    witness: Array
    replayed: float
    engine: str
    boxes: int
    cpu_seconds: float
    load_seconds: float = 0.0
    violations: dict[str, float] = field(default_factory=dict)
    outputs: Array = field(default_factory=lambda: np.zeros(0))
    replayed_violation: float = 0.0
    reason: str = ""
    first_seconds: float = float("nan")
    history: tuple[tuple[float, float, float], ...] = ()
    inputs: dict[str, Array] = field(default_factory=dict)

    @property
    def gap(self) -> float:
        if self.value == self.bound:
            return 0.0
        return abs(self.bound - self.value) if np.isfinite(self.value) else float("inf")

    def to_dict(self) -> dict[str, Any]:
        """All fields for JSON; numbers that are not finite are None."""
        steps = self.history[:: max(1, len(self.history) // 60)]
        return {
            "status": self.status, "value": _plain(self.value), "bound": _plain(self.bound), "gap": _plain(self.gap),
            "witness": self.witness.tolist(), "outputs": self.outputs.tolist(), "replayed": _plain(self.replayed), "engine": self.engine,
            "boxes": self.boxes, "cpu_seconds": self.cpu_seconds, "load_seconds": self.load_seconds,
            "first_seconds": _plain(self.first_seconds),
            "violations": self.violations, "replayed_violation": self.replayed_violation, "reason": self.reason,
            "history": [[_plain(v) for v in step] for step in steps],
            **({"inputs": {k: v.tolist() for k, v in self.inputs.items()}} if self.inputs else {}),
        }  # fmt: skip

    def plot(self, ax: Any = None) -> Any:
        """The value of the best point and the proven bound over time."""
        import matplotlib.pyplot as plt

        ax = plt.subplots(figsize=(6, 3.6))[1] if ax is None else ax
        steps = np.array(self.history, float).reshape(-1, 3)
        steps[~np.isfinite(steps)] = np.nan
        ax.plot(steps[:, 0], steps[:, 2], color="#b4562b", drawstyle="steps-post", label="bound")
        ax.plot(steps[:, 0], steps[:, 1], color="#1f6f54", drawstyle="steps-post", marker=".", label="best point")
        ax.set(xlabel="seconds", ylabel="goal", title=repr(self.status)[1:-1])
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False)
        return ax

    def __repr__(self) -> str:
        why = f", {self.reason}" if self.reason else ""
        return (
            f"Optimum({self.status}: {self.value:.8g}, bound {self.bound:.8g}, {self.engine}, {self.boxes} boxes{why})"
        )


def _plain(value: float) -> float | None:
    """A number as JSON knows it."""
    return float(value) if np.isfinite(value) else None


def optimize(
    network: Networks,
    maximize: str | int | Array | None = None,
    minimize: str | int | Array | None = None,
    box: Domain = None,
    constraints: Sequence[str | Constraint] = (),
    integers: Sequence[int | str] = (),
    tolerance: float = 1e-4,
    timeout: float = 60.0,
    seed: int = 0,
    *,
    categories: Sequence[Sequence[int | str]] = (),
    links: Sequence[str] = (),
    start: Array | None = None,
    on_progress: Progress | None = None,
) -> Optimum:
    """The exact maximum or minimum of a linear function of inputs and outputs over a box or polytope; or a point, or none.

    Gradient ascent and linear programs on single pieces give a point at once. Then boxes are split, depth first in compiled
    code (up to 15 moving inputs), or gates over linear programs whose bounds hold whatever the solver does; each point met
    is tried, and the threshold rises. Where constraints or integers come in, both run side by side on one incumbent.

    Arguments:
        network: Piecewise linear; or several by name, `{"a": net, "b": net}`, whose variables are `a.x[0]`, `b.y[1]`.
        maximize: An expression in inputs and outputs such as `"y[0]"`, `"2*y[3] - y[2]"` or `"y[0] - 0.1*x[2]"`; or an output's number, or coefficients of the outputs.
        minimize: Likewise. Without either, any point that satisfies the constraints is sought, or a proof that there is none.
        box: The domain, a `Box` or `Polytope`; the network's own by default. With several networks, by name.
        constraints: Such as `"x[0] + x[1] <= 1"`, `"y[1] >= 0.9"`, `"y[0] == 3 +- 0.1"` or `"0 <= y[0] <= 1"`.
        integers: Inputs that take whole numbers only: `3`, or `"a.x[3]"` with several networks.
        categories: One-hot groups of inputs such as `[[3, 4, 5]]`: exactly one is at its upper end, the others at their lower.
        links: With several networks: `"b.x[0] == a.x[0]"` shares an input, `"b.x[1] == a.y[0]"` feeds one into another.
        start: Points to begin with, `(k, inputs)`.
        tolerance: The proof ends when bound and value differ by at most this share of the value.
        timeout: Seconds of wall time; then, or on Ctrl-C, the best value and the best bound so far come back.
        on_progress: Called with (seconds, value, bound) as both close in.
        seed: Of everything that is drawn at random; the same seed gives the same answer.

    Raises:
        InvalidInput: Two goals, no box, or an expression that cannot be read.
        UnboundedSet: The domain is not bounded.
        EmptySet: A polytope holds no point.
        UnsupportedOperation: A smooth activation.

    References:
        Strong mixed-integer programming formulations for trained neural networks, Anderson et al., 2020 (the problem);
        Branch and Bound for Piecewise Linear Neural Network Verification, Bunel et al., 2020 (the search).

    Example:
        >>> best = relukit.optimize(net, "y[0]", box=Box([0, 0], [1, 1]), constraints=["x[0] + x[1] <= 1"])
        >>> best.value, best.bound, best.witness
    """
    clock = Clock()
    question = pose(network, maximize, minimize, box, constraints, integers, categories, links)
    return question.answer(tolerance, timeout, seed, start, on_progress, clock)


@dataclass(frozen=True, eq=False)
class Question:
    """A problem in the user's direction: `sign` is -1 where the goal is maximized."""

    problem: Problem | str
    network: Network
    goal: Linear
    sign: float
    scope: Scope
    has_goal: bool

    def answer(
        self, tolerance: float = 1e-4, timeout: float = 60.0, seed: int = 0, start: Array | None = None,
        on_progress: Progress | None = None, clock: Clock | None = None, explain: bool = True,
    ) -> Optimum:  # fmt: skip
        """The optimum; an infeasible one says why, which takes longer than to know it."""
        back = self.sign * self.size
        report = None if on_progress is None else lambda t, v, b: on_progress(t, back * v, back * b)

        def search(problem: Problem) -> Found:
            if self.size == 1:
                return run(problem, tolerance, timeout, seed, report, start, not self.has_goal)
            even = replace(problem, goal=problem.goal.times(1 / self.size))
            found = run(even, tolerance, timeout, seed, report, start, not self.has_goal)
            history = [(t, v * self.size, b * self.size) for t, v, b in found.history]
            return replace(found, value=found.value * self.size, bound=found.bound * self.size, history=history)

        return self.answer_by(search, tolerance, timeout, clock, explain)

    @cached_property
    def size(self) -> float:
        """What goals of ugly scale are divided by, a power of two: a linear program's tolerances are absolute."""
        if isinstance(self.problem, str) or not self.has_goal:
            return 1.0
        rows = self.problem.rows
        bounds = interval(rows, self.problem.box)
        reach = float(max(-bounds.output[0][0], bounds.output[1][0]))
        return 1.0 if _SMALL < reach < _LARGE or not 0 < reach < np.inf else 2.0 ** int(np.log2(reach))

    def answer_by(
        self, search: Callable[[Problem], Found], tolerance: float, timeout: float, clock: Clock | None = None,
        explain: bool = True,
    ) -> Optimum:  # fmt: skip
        """The optimum that a search finds."""
        clock = Clock() if clock is None else clock
        sign = self.sign
        if isinstance(self.problem, str):
            return self._nothing("infeasible", "the domain", 0, clock, self.problem)
        if not (np.isfinite(tolerance) and tolerance > 0 and timeout > 0):
            raise InvalidInput(f"tolerance and timeout must be above 0, got {tolerance:g} and {timeout:g}")
        found = search(self.problem)
        if found.witness is None:
            if found.bound < np.inf:
                return self._nothing("undecided", found.engine, found.boxes, clock, found.reason, sign * found.bound)
            from relukit.optimization._why import why_infeasible

            reason = why_infeasible(self.problem, self.scope, min(timeout, 20.0)) if explain else ""
            return self._nothing("infeasible", found.engine, found.boxes, clock, reason)
        return self._found(found, found.witness, tolerance, clock)

    def _found(self, found: Found, x: Array, tolerance: float, clock: Clock) -> Optimum:
        assert isinstance(self.problem, Problem)
        sign, y = self.sign, self.network(x[None])[0]
        own = original_outputs(self.network, x[None])[0]
        slack = tolerance * max(abs(found.value), 1e-6 * self.size)
        status = "optimal" if found.bound >= found.value - 1.001 * slack else "bounded"
        violations: dict[str, float] = {}
        for c in self.problem.constraints:
            violations[c.text] = max(violations.get(c.text, 0.0), c.violation(x, y))
        worst = max((c.violation(x, own) for c in self.problem.constraints), default=0.0)
        history = tuple((t, sign * v, sign * b) for t, v, b in found.history)
        bound = sign * found.bound if self.has_goal else 0.0
        return Optimum(
            status if self.has_goal else "feasible", sign * found.value + 0.0, bound + 0.0, x, self.goal(x, own), found.engine, found.boxes,
            clock.seconds, clock.loading, violations, y, worst, found.reason if status == "bounded" and self.has_goal else "",
            found.first, history if self.has_goal else (), self._inputs(x, y),
        )  # fmt: skip

    def _inputs(self, x: Array, y: Array) -> dict[str, Array]:
        """Each named network's inputs."""
        found = {}
        for name, part in self.scope.parts.items():
            if name:
                own = x[np.maximum(part.inputs, 0)].copy()
                for i, row in part.linked.items():
                    own[i] = row(x, y)
                found[name] = own
        return found

    def _nothing(
        self, status: str, engine: str, boxes: int, clock: Clock, reason: str, bound: float | None = None
    ) -> Optimum:
        worst = self.sign * np.inf  # as the value of a minimum over nothing
        return Optimum(
            status, worst, worst if bound is None else bound, np.zeros(0), float("nan"), engine, boxes,
            clock.seconds, clock.loading, reason=reason,
        )  # fmt: skip


def pose(
    network: Networks, maximize: str | int | Array | None = None, minimize: str | int | Array | None = None, box: Domain = None,
    constraints: Sequence[str | Constraint] = (), integers: Sequence[int | str] = (), categories: Sequence[Sequence[int | str]] = (),
    links: Sequence[str] = (),
) -> Question:  # fmt: skip
    """The question as the searches see it; arguments are those of `optimize`."""
    if maximize is not None and minimize is not None:
        raise InvalidInput("give either maximize or minimize, not both")
    rules: list[Constraint] = []
    if isinstance(network, Mapping):
        if box is not None and not isinstance(box, Mapping):
            raise InvalidInput("with several networks, give their boxes by name: box={'a': Box(...), 'b': Box(...)}")
        joint = join(network, box, links)
        net, domain, scope = joint.network, joint.box, joint.scope
        rules += joint.constraints
    else:
        if links:
            raise InvalidInput("links join several networks; give them by name: {'a': net, 'b': other}")
        net, domain, scope = network, network.box if box is None else box, Scope.single(network.inputs, network.outputs)
        net.require_piecewise_linear("optimize")
    if domain is None:
        raise InvalidInput(
            f"optimize needs a box of the {net.inputs} inputs; the network brings none of its own: give box=Box(lower, upper), "
            "on the command line --box LO:HI,LO:HI,..."
        )
    require_set(domain, "box")
    _finite(net)
    text = maximize if maximize is not None else minimize
    sign = -1.0 if maximize is not None else 1.0
    goal = Linear(np.zeros(net.inputs), np.zeros(net.outputs), 0.0) if text is None else _goal(text, net, scope)
    for c in constraints:
        rules += parse_constraints(c, scope) if isinstance(c, str) else [c]
    if text is None and not (rules or len(integers) or len(categories)) and domain.size == net.inputs:
        raise InvalidInput("give maximize or minimize, or constraints that a point is to satisfy")
    whole = [_place(j, scope) for j in integers]
    groups = [[_place(j, scope) for j in group] for group in categories]
    problem = make_problem(net, domain, goal.times(sign), rules, whole, groups, scope)
    return Question(problem, net, goal, sign, scope, text is not None)


def _goal(text: str | int | Array, network: Network, scope: Scope) -> Linear:
    if isinstance(text, str):
        return parse_goal(text, scope)
    if np.ndim(text) == 0:
        if isinstance(text, bool) or not float(text).is_integer() or not 0 <= text < network.outputs:
            raise InvalidInput(f"a goal that is one number names an output, 0 to {network.outputs - 1}; got {text!r}")
        text = np.eye(network.outputs)[int(text)]
    row = np.asarray(text, np.float64).ravel()
    if row.shape != (network.outputs,) or not np.all(np.isfinite(row)):
        raise InvalidInput(f"the goal needs {network.outputs} finite coefficients, one for each output, got {row.size}")
    return Linear(np.zeros(network.inputs), row, 0.0)


def _place(written: int | str, scope: Scope) -> int:
    """The joint input that a number or `a.x[3]` names."""
    if not isinstance(written, str):
        return int(written)
    row = parse_goal(written, scope)
    at = np.flatnonzero(row.inputs)
    if len(at) != 1 or row.inputs[at[0]] != 1 or row.constant or np.any(row.outputs):
        raise InvalidInput(f"'{written}' is no single input: write x[3], or a.x[3] with several networks")
    return int(at[0])


def _finite(network: Network) -> None:
    """Refuses weights that are NaN or infinite, naming the node."""
    from relukit.network import Affine

    for node in network.nodes:
        if isinstance(node.op, Affine):
            held = [
                node.op.bias,
                *(getattr(m, name) for m in node.op.maps for name in ("W", "diagonal", "kernel") if hasattr(m, name)),
            ]
            for values in held:
                data = getattr(values, "data", values) if not isinstance(values, np.ndarray) else values
                if not np.all(np.isfinite(data)):
                    raise InvalidInput(f"node '{node.name}' holds NaN or infinity; train it anew or repair the file")
