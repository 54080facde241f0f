"""The largest value of a linear function of the outputs over a box, with proof."""

import heapq
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, UnboundedSet
from relukit._types import Array
from relukit.bounds import CompactNetwork, compact, linear
from relukit.network import Network
from relukit.optimization._constrained import ConstrainedSearch
from relukit.optimization._expression import Constraint, Linear, parse_constraint, parse_linear
from relukit.search import Engine
from relukit.search._relaxation import OFF, ON, Solution, rows_program
from relukit.sets import Box

_INPUTS = (
    15  # above this many moving inputs gates are split instead (measured: 10 inputs need input splits, 64 need gates)
)
_FINISH = 15  # open gates from which phases are split rather than inputs
_COMPILED = 300  # with at most so many open gates, gates are split in compiled code
_STARTS, _STEPS = 64, 40


@dataclass(frozen=True, eq=False)
class Optimum:
    """The best point found and a bound that no point beats.

    Arguments:
        status: `optimal` (the gap is within the tolerance), `bounded` (time was up), `infeasible` (proven: no point satisfies the
            constraints) or `undecided` (time was up before a point was found).
        value: At the witness, in float64; infinite where there is none.
        bound: No point of the box has a larger (smaller, when minimizing) value; sound, rounding included.
        witness: The point; empty where there is none.
        replayed: The value at the witness in the original, in its own precision.
        engine: What proved the bound.
    """

    status: str
    value: float
    bound: float
    witness: Array
    replayed: float
    engine: str
    boxes: int
    cpu_seconds: float
    violations: dict[str, float] = field(default_factory=dict)

    @property
    def gap(self) -> float:
        return abs(self.bound - self.value) if np.isfinite(self.value) else float("inf")

    def to_dict(self) -> dict[str, Any]:
        return {
            "status": self.status, "value": self.value, "bound": self.bound, "gap": self.gap, "witness": self.witness.tolist(),
            "replayed": self.replayed, "engine": self.engine, "boxes": self.boxes, "cpu_seconds": self.cpu_seconds,
            "violations": self.violations,
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"Optimum({self.status}: {self.value:.8g}, bound {self.bound:.8g}, {self.engine}, {self.boxes} boxes)"


def optimize(
    network: Network,
    maximize: str | Array | None = None,
    minimize: str | Array | None = None,
    box: Box | None = None,
    constraints: Sequence[str | Constraint] = (),
    integers: Sequence[int] = (),
    tolerance: float = 1e-4,
    timeout: float = 60.0,
    seed: int = 0,
) -> Optimum:
    """The exact maximum or minimum of a linear function of the outputs over a box.

    Gradient ascent gives an incumbent at once. Then inputs are split in compiled code (up to 15 that move), or gates
    over linear programs whose bounds hold whatever the solver does; each point met is tried, and the threshold rises.

    Arguments:
        network: Piecewise linear.
        maximize: An expression such as `"y[0]"` or `"2*y[3] - y[2]"`, or coefficients `(outputs,)`.
        minimize: Likewise; give one of the two. Goals may hold inputs, too: `"y[0] - 0.1*x[2]"`.
        box: The domain; the network's own by default.
        constraints: Such as `"x[0] + x[1] <= 1"` or `"y[1] >= 0.9"`.
        integers: Inputs that take whole numbers only (numbered from 0).
        tolerance: The proof ends when bound and value differ by at most this share of the value.
        timeout: Seconds of wall time; then the bound so far is returned.

    Raises:
        InvalidInput: No goal, two goals, no box, or an expression that cannot be read.
        UnboundedSet: The box is not bounded.
        UnsupportedOperation: A smooth activation.

    References:
        Strong mixed-integer programming formulations for trained neural networks, Anderson et al., 2020 (the problem);
        Branch and Bound for Piecewise Linear Neural Network Verification, Bunel et al., 2020 (the search).
    """
    started, stop = time.process_time(), time.perf_counter() + timeout
    if (maximize is None) == (minimize is None):
        raise InvalidInput("give either maximize or minimize")
    network.require_piecewise_linear("optimize")
    box = network.box if box is None else box
    if box is None or box.size != network.inputs:
        raise InvalidInput(f"optimize needs a box of the {network.inputs} inputs; the network brings none of its own")
    if not np.all(np.isfinite(box.lower) & np.isfinite(box.upper)):
        raise UnboundedSet("optimize needs a box that is bounded on all sides")
    text = maximize if maximize is not None else minimize
    if isinstance(text, str):
        goal = parse_linear(text, network.inputs, network.outputs)
        if not (np.any(goal.inputs) or np.any(goal.outputs)):
            raise InvalidInput(f"'{text}' names no output and no input: write for instance y[0] or y[1] - y[0]")
    else:
        row = np.asarray(text, np.float64).ravel()
        if row.shape != (network.outputs,):
            raise InvalidInput(f"the goal needs {network.outputs} coefficients, one for each output, got {row.size}")
        goal = Linear(np.zeros(network.inputs), row, 0.0)
    rules = [parse_constraint(c, network.inputs, network.outputs) if isinstance(c, str) else c for c in constraints]
    wrong = [j for j in integers if not 0 <= j < network.inputs]
    if wrong:
        raise InvalidInput(f"integer inputs {wrong}: the network has inputs 0 to {network.inputs - 1}")
    sign = 1.0 if maximize is not None else -1.0
    if rules or len(integers) or np.any(goal.inputs):
        return _constrained(network, box, goal, sign, rules, list(integers), tolerance, stop, started)
    falls = network.append(-sign * goal.outputs[None], -sign * goal.constant)  # minimized: its row is -f
    search = _Search(falls, box, tolerance, stop, seed)
    value, witness, bound, engine, boxes = search.run()
    status = "optimal" if bound - value <= search.slack * 1.001 else "bounded"
    return Optimum(
        status, sign * value, sign * bound, witness, _replayed(network, goal, witness), engine, boxes, time.process_time() - started
    )  # fmt: skip


def _replayed(network: Network, goal: Linear, witness: Array) -> float:
    """The goal at a point, outputs from the original in its own precision."""
    out = np.asarray(network.replay(witness), np.float64)
    return float(goal.outputs @ out + goal.inputs @ witness + goal.constant)


def _constrained(
    network: Network, box: Box, goal: Linear, sign: float, rules: list[Constraint], integers: list[int], tolerance: float,
    stop: float, started: float,
) -> Optimum:  # fmt: skip
    falls = Linear(-sign * goal.inputs, -sign * goal.outputs, -sign * goal.constant)
    search = ConstrainedSearch(network, box, falls, rules, integers, tolerance, stop)
    value, witness, bound, status, solved = search.run()
    found = witness is not None
    replay = _replayed(network, goal, witness) if witness is not None else float("nan")
    violations = {c.text: c.violation(witness, network(witness[None])[0]) for c in rules} if witness is not None else {}
    return Optimum(
        status, -sign * value if found else -sign * np.inf, -sign * bound, witness if witness is not None else np.zeros(0), replay,
        "gate splitting with constraints", solved, time.process_time() - started, violations,
    )  # fmt: skip


class _Search:
    """Maximize f = -(the one output of `falls`) over a box."""

    def __init__(self, falls: Network, box: Box, tolerance: float, stop: float, seed: int) -> None:
        self.falls, self.box, self.tolerance, self.stop = falls, box, tolerance, stop
        self.generator = np.random.default_rng(seed)
        self.value, self.witness = -np.inf, box.center()

    @property
    def slack(self) -> float:
        return self.tolerance * max(abs(self.value), 1e-6)

    def run(self) -> tuple[float, Array, float, str, int]:
        self._ascend()
        bounds = linear(self.falls, self.box)
        bound = -float(bounds.output[0][0])
        if bound <= self.value + self.slack:
            return self.value, self.witness, bound, "linear bounds", 1
        small = compact(self.falls, self.box, bounds)
        moving = int(np.sum(self.box.lower < self.box.upper))
        if moving <= _INPUTS or small.gates <= _COMPILED:
            return self._compiled(small, bound, _FINISH if moving <= _INPUTS else small.gates)
        return self._by_gates(small, bound)

    def _try(self, points: Array) -> None:
        """Keep the best of some points of the box, valued in float64 on the network itself."""
        points = self.box.project(points)
        found = -self.falls(points)[:, 0]
        best = int(np.argmax(found))
        if found[best] > self.value:
            self.value, self.witness = float(found[best]), points[best].copy()

    def _ascend(self) -> None:
        """Normalized gradient ascent from random starts, corners and the center."""
        points = np.concatenate([self.box.sample(_STARTS - 1, self.generator), self.box.center()[None]])
        width = self.box.upper - self.box.lower
        for k in range(_STEPS):
            self._try(points)
            grad = -self.falls.gradient(points, np.ones(1))
            size = np.sqrt(np.sum((grad * width) ** 2, axis=1, keepdims=True)) + 1e-300
            points = self.box.project(points + 0.3 * 0.9**k * width * (grad * width) / size * np.sqrt(len(width)))
        self._try(points)

    def _compiled(self, small: CompactNetwork, bound: float, finish: int) -> tuple[float, Array, float, str, int]:
        """Trees in compiled code, until one proves a gap within the tolerance of the value that it ends with.

        The tolerance is a share of the value, which rises while a tree is worked on: where its size falls, one more tree
        with the best point known from the start is needed.
        """
        name = "input splitting" if finish < small.gates else "gate splitting"
        boxes = 0
        while True:
            slack = 0.95 * self.slack
            closed, top, more = self._tree(small, finish, slack)
            boxes += more
            bound = min(bound, top) if closed else bound
            if not closed or bound <= self.value + self.slack or slack <= 0.96 * self.slack:
                return self.value, self.witness, bound, name, boxes

    def _tree(self, small: CompactNetwork, finish: int, slack: float) -> tuple[bool, float, int]:
        """One tree: whether it was worked off with every leaf closed, the threshold proven, and its boxes."""
        from relukit.search._few_kernel import DONE, LEAF

        engine = Engine(small, self.box, maximize=True, finish=finish)
        engine.state.best[0], engine.state.best[1] = self.value, slack
        engine.state.threshold[0] = self.value + slack
        unresolved = False
        while time.perf_counter() < self.stop:
            code = engine.run(2_000)
            if (
                engine.state.best[0] > self.value
            ):  # valued again on the network: the compact form is off by its rounding
                self._try(engine.state.best[2:][None])
            if code == DONE:
                return not unresolved, float(engine.state.threshold[0]), engine.boxes
            if code == LEAF:
                unresolved |= not self._leaf(engine)
        return False, np.inf, engine.boxes

    def _leaf(self, engine: Engine) -> bool:
        """A box on which f is linear under linear phase conditions: its maximum by a linear program; closed by multipliers."""
        from scipy.optimize import linprog

        leaf, planes, constant, error = engine.leaf()
        bounds = [*zip(leaf.lower, leaf.upper)]
        more = {"A_ub": planes[1:], "b_ub": -constant[1:]} if len(planes) > 1 else {}
        found = linprog(planes[0], bounds=bounds, method="highs", **more)
        if found.status == 2:  # phase conditions exclude each other: by Farkas multipliers
            n, R = planes.shape[1], len(planes) - 1
            again = linprog(
                np.r_[np.zeros(n), 1.0],
                np.c_[planes[1:], -np.ones(R)],
                -constant[1:],
                bounds=[*bounds, (None, None)],
                method="highs",
            )
            if again.status != 0:
                return False
            weights = np.r_[0.0, np.maximum(-again.ineqlin.marginals, 0)]
            return self._floor(leaf, planes, constant, error, weights) > 0
        if found.status != 0:
            return False
        self._try(found.x[None])
        if self.value > engine.state.best[0]:
            engine.state.best[0], engine.state.threshold[0] = self.value, self.value + engine.state.best[1]
        weights = np.r_[1.0, np.maximum(-found.ineqlin.marginals, 0)] if more else np.ones(1)
        constant[0] += (
            engine.state.threshold[0] - engine.state.threshold[1]
        )  # the rows hold the threshold from before this box's points
        return self._floor(leaf, planes, constant, error, weights) > 0

    @staticmethod
    def _floor(leaf: Box, planes: Array, constant: Array, error: Array, weights: Array) -> float:
        """A lower bound of the weighted rows over the leaf, rounding included."""
        from relukit._numerics import gamma

        joint = weights @ planes
        reach = np.maximum(np.abs(leaf.lower), np.abs(leaf.upper))
        rounding = 1.01 * float(weights @ error) + gamma(len(reach) + len(weights) + 4) * float(
            weights @ (np.abs(planes) @ reach + np.abs(constant))
        )
        return float(weights @ constant) - float(leaf.support(-joint[None])[0]) - rounding

    def _by_gates(self, small: CompactNetwork, bound: float) -> tuple[float, Array, float, str, int]:
        """Best-first over gate phases: the goal column is -f, minimized."""
        program = rows_program(small, np.eye(1), np.zeros(1))
        counter, solved = itertools.count(), 0
        heap: list[tuple[float, int, np.ndarray, Solution | None, Any]] = [
            (-bound, next(counter), np.zeros(small.gates, np.int8), None, None)
        ]
        while heap and time.perf_counter() < self.stop:
            low, _, fixed, found, basis = heapq.heappop(heap)
            if -low <= self.value + self.slack:
                heapq.heappush(heap, (low, next(counter), fixed, found, basis))
                break
            if found is None:
                found = program.solve(fixed, basis, self.stop)
                solved += 1
                if found.x is not None:
                    self._try(found.x[None])
                new = max(low, found.bound)
                if np.isfinite(new):
                    heapq.heappush(heap, (new, next(counter), fixed, found, None))
                continue
            free = np.flatnonzero(fixed == 0)
            if not len(free):
                heapq.heappush(heap, (low, next(counter), fixed, found, basis))
                break  # a leaf that its own point does not meet: the honest bound
            gate = free[int(np.argmax(found.gap[free]))]
            for phase in (ON, OFF):
                child = fixed.copy()
                child[gate] = phase
                heapq.heappush(heap, (low, next(counter), child, None, found.basis))
        top = max(-heap[0][0], self.value) if heap else self.value + self.slack
        return self.value, self.witness, min(bound, top), "gate splitting", solved
