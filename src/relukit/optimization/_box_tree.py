"""Branch and bound over boxes: the worst box is taken first, and worked on depth first in compiled code.

The compiled search proves that no point of a box beats a threshold, and knows nothing in between. So that an early stop
has a bound to report, its budget is limited: what it leaves open goes back among the boxes, each with a linear bound of its
own. Integers and one-hot groups are settled before a box goes to compiled code.
"""

import heapq
import itertools
import time
from typing import Any

import numpy as np

from relukit._clock import loading
from relukit._numerics import gamma
from relukit._types import Array
from relukit.bounds import Bounds, compact, linear
from relukit.optimization._incumbent import Incumbent
from relukit.optimization._problem import Problem
from relukit.search import Engine
from relukit.sets import Box

_HALVING = 0.25  # share of that time for halving the worst boxes: what lowers the bound of an early stop most
_FIRST = 2.0  # CPU seconds in compiled code before open boxes go back: every easy problem is done by then
_SHARE = 0.1  # later budgets as a share of all time so far, so that few restarts are needed
_FRONT, _AT_ONCE = 96, 12  # so many boxes are made by halving the worst ones, after the first budget was spent
FINISH = 15  # open gates from which phases are split rather than inputs


class BoxTree:
    """Minimize over a box by splitting inputs.

    Arguments:
        problem: What is minimized.
        incumbent: The best point so far; points met here are offered to it.
        bounds: Linear bounds of `problem.rows` over the box.
        finish: With at most so many open gates, gates are split; all of them where inputs are never split.
    """

    def __init__(self, problem: Problem, incumbent: Incumbent, bounds: Bounds, finish: int | None = FINISH) -> None:
        self.problem, self.incumbent, self.finish = problem, incumbent, finish
        self.root = (problem.box.lower, problem.box.upper)
        self.start = bounds
        self.highest = float(bounds.output[1][0])
        self.heap: list[Any] = []
        self.counter = itertools.count()
        self.halving = 0.0
        self.spent, self.is_split = 0.0, False  # CPU seconds in compiled code; whether the first budget is gone
        self.boxes, self.restarts, self.slice = (
            0,
            0,
            300,
        )  # compiled boxes between looks at the clock, which ask for 0.1 s
        self.engine: Engine | None = None
        self.low = -np.inf  # bound of the box in compiled code
        self._begin(float(bounds.output[0][0]))

    @property
    def name(self) -> str:
        return "gate splitting" if self.finish is None else "input splitting"

    @property
    def bound(self) -> float:
        """No point has a smaller goal; infinite where no point exists."""
        low = self.low if self.engine is not None else np.inf
        return min(self.closed, low, self.heap[0][0] if self.heap else np.inf)

    @property
    def done(self) -> bool:
        """Whether nothing is open: then `bound` is as good as it gets."""
        return self.engine is None and (not self.heap or self.heap[0][0] >= self.closed)

    def step(self, stop: float) -> None:
        """Work for a short while."""
        if self.engine is None:
            self._take()
        else:
            self._compiled(stop)
        # The tolerance is a share of the value: where the value's size fell on the way, the proof must be finer.
        finer = 0.95 * self.incumbent.slack < 0.999 * self.begun
        if self.done and finer and self.closed < self.incumbent.value - 1.001 * self.incumbent.slack:
            self._begin(max(self.bound, float(self.start.output[0][0])))

    def settle(self) -> None:
        """Before a stop: what is open in compiled code gets bounds of its own."""
        if self.engine is not None and self.finish is not None:
            self._back()

    def _begin(self, low: float) -> None:
        self.heap, self.closed = [], np.inf
        self.slack = self.begun = 0.95 * self.incumbent.slack
        self._push(low, *self.root)

    def _push(self, low: float, lower: Array, upper: Array) -> None:
        heapq.heappush(self.heap, (low, next(self.counter), lower, upper))

    def _take(self) -> None:
        """The box with the smallest bound: closed, split by an integer, halved, or handed to compiled code."""
        low, _, lower, upper = heapq.heappop(self.heap)
        if self.incumbent.is_closed(low):
            self.closed = min(self.closed, low)
            return
        parts = self.problem.halves(lower, upper)
        if parts is None and self.is_split and (len(self.heap) < _FRONT or self.halving < _HALVING * self.spent):
            began = time.process_time()
            self._bounded(self._front(lower, upper), low)
            self.halving += time.process_time() - began
            return
        if parts is not None:
            self._bounded(parts, low)
            return
        box = Box(lower, upper)
        bounds = self.start if lower is self.root[0] else linear(self.problem.rows, box)
        ends = bounds.output[0]
        self.boxes += 1
        if np.any(ends[1:] > 0):
            return
        low = max(low, float(ends[0]))
        if self.incumbent.is_closed(low):
            self.closed = min(self.closed, low)
            return
        small = compact(self.problem.rows, box, bounds)
        self.engine = Engine(small, box, maximize=True, finish=small.gates if self.finish is None else self.finish)
        self.low, self.leaves = low, np.inf
        state, value = self.engine.state, self.incumbent.value
        state.best[0], state.best[1] = -value, self.slack if self.slack else 1e-300
        # Without a point yet, the threshold lies below everything: row 0 always holds.
        below = -self.highest - 1.0 - abs(self.highest)
        state.threshold[0] = -value + self.slack if np.isfinite(value) else below
        self.vacuous = np.nan if np.isfinite(value) else below
        self.until = np.inf if self.finish is None else max(_FIRST if not self.is_split else 0.5, _SHARE * self.spent)
        self.used, self.raised = 0.0, float(state.threshold[0])

    def _bounded(self, parts: list[tuple[Array, Array]], low: float) -> None:
        """Linear bounds of several boxes at once; those that violate a constraint everywhere are dropped."""
        if not parts:
            return
        boxes = Box(np.stack([p[0] for p in parts]), np.stack([p[1] for p in parts]))
        ends = linear(self.problem.rows, boxes).output[0]
        self.boxes += len(parts)
        centers = [self.problem.rounded(0.5 * (l + u), l, u) for l, u in parts]
        points = [x for x in centers if x is not None]
        if points:
            self.incumbent.keep(np.array(points))
        for k, (lower, upper) in enumerate(parts):
            if not np.any(ends[k, 1:] > 0):
                self._push(max(low, float(ends[k, 0])), lower, upper)

    def _front(self, lower: Array, upper: Array) -> list[tuple[Array, Array]]:
        """Halves of this box and of the next few, bounded in one go."""
        parts = self._halved(lower, upper)
        while len(parts) < 2 * _AT_ONCE and self.heap:
            low, _, lower, upper = heapq.heappop(self.heap)
            if self.incumbent.is_closed(low) or self.problem.halves(lower, upper) is not None:
                self._push(low, lower, upper)
                break
            parts += self._halved(lower, upper)
        return parts

    def _halved(self, lower: Array, upper: Array) -> list[tuple[Array, Array]]:
        """Two halves, across the input along which the rows change most."""
        box = Box(lower, upper)
        points = box.sample(6, 0)
        net = self.problem.rows
        J = np.sum([np.abs(net.gradient(points, row)).mean(axis=0) for row in np.eye(net.outputs)], axis=0)
        j = int(np.argmax((J + 1e-9 * J.max(initial=1.0)) * (upper - lower)))
        middle = 0.5 * (lower[j] + upper[j])
        left, right = upper.copy(), lower.copy()
        left[j], right[j] = middle, middle
        return [(lower, left), (right, upper)]

    def _compiled(self, stop: float) -> None:
        from relukit.search._few_kernel import BUDGET, DONE, LEAF

        engine = self.engine
        assert engine is not None
        state, began, code = engine.state, time.process_time(), LEAF
        while code != BUDGET and time.perf_counter() < stop:
            before = engine.boxes
            code = engine.run(self.slice)
            self.boxes += engine.boxes - before
            if (
                -state.best[0] < self.incumbent.value
            ):  # valued again on the network: the compact form is off by its rounding
                self.incumbent.keep(state.best[2:][None].copy())
            self._lift(engine)
            if code == LEAF:
                self.leaves = min(self.leaves, self._leaf(engine))
            elif code == DONE:
                self._close(engine)
                return
        spent = time.process_time() - began
        self.spent, self.used = self.spent + spent, self.used + spent
        self.slice = int(np.clip(self.slice * 0.1 / max(spent, 1e-3), 50, 4 * self.slice))
        if self.used >= self.until:
            self._back()

    def _lift(self, engine: Engine) -> None:
        """The threshold follows points found elsewhere, and never falls; the tolerance follows the value, which may shrink."""
        state, value = engine.state, self.incumbent.value
        if not np.isfinite(value):
            return
        slack = 0.95 * self.incumbent.slack
        self.slack = min(self.slack, slack) if self.slack else slack
        self.begun = self.begun or slack
        state.best[1] = self.slack
        if -value > state.best[0]:
            state.best[0] = -value
        # A smaller tolerance lets compiled code lower it, and what is closed already is closed under the higher one.
        self.raised = max(self.raised, float(state.threshold[0]), -value + self.slack)
        state.threshold[0] = self.raised

    def _proven(self) -> float:
        """What holds on all that was closed: nothing below minus the threshold, or below an open leaf's own bound."""
        # A threshold that never rose above all values closed nothing: there was no point that satisfies the constraints.
        closed = np.inf if self.raised == self.vacuous else -self.raised
        return max(self.low, min(closed, self.leaves))

    def _close(self, engine: Engine) -> None:
        """The box is done."""
        self.engine = None
        self.closed = min(self.closed, self._proven())

    def _back(self) -> None:
        """Boxes left open in compiled code go back to the others, with linear bounds."""
        engine, self.engine = self.engine, None
        assert engine is not None
        self.is_split, self.restarts = True, self.restarts + 1
        self.closed = min(self.closed, self._proven())
        state, count = engine.state, int(engine.state.head[0])
        open_boxes = np.unique(state.x[:count].reshape(count, 2 * engine.n), axis=0).reshape(-1, 2, engine.n)
        self._bounded([(x[0].copy(), x[1].copy()) for x in open_boxes], self.low)

    def _leaf(self, engine: Engine) -> float:
        """A box on which all rows are linear: its best point by a linear program. Infinite where that program's multipliers close
        the box, else the bound that they prove."""
        with loading():
            from scipy.optimize import linprog

        leaf, planes, constant, error = engine.leaf()
        bounds = [*zip(leaf.lower, leaf.upper)]
        sides = {"A_ub": planes[1:], "b_ub": -constant[1:]} if len(planes) > 1 else {}
        found = linprog(
            planes[0], bounds=bounds, method="highs", options={"primal_feasibility_tolerance": 1e-10}, **sides
        )
        if found.status == 2:  # the rows exclude each other: by Farkas multipliers
            n, R = planes.shape[1], len(planes) - 1
            again = linprog(
                np.r_[np.zeros(n), 1.0], np.c_[planes[1:], -np.ones(R)], -constant[1:],
                bounds=[*bounds, (None, None)], method="highs",
            )  # fmt: skip
            if again.status == 0:
                weights = np.r_[0.0, np.maximum(-again.ineqlin.marginals, 0)]
                if _floor(leaf, planes, constant, error, weights) > 0:
                    return np.inf
        multipliers = (
            np.maximum(-found.ineqlin.marginals, 0) if sides and found.status == 0 else np.zeros(len(planes) - 1)
        )
        if found.status == 0:
            self.incumbent.keep(found.x[None])
            self._lift(engine)
        state = engine.state
        constant[0] += (
            state.threshold[0] - state.threshold[1]
        )  # the rows hold the threshold from before this box's points
        floor = _floor(leaf, planes, constant, error, np.r_[1.0, multipliers])
        return np.inf if floor > 0 else floor - float(state.threshold[0])


def _floor(leaf: Box, planes: Array, constant: Array, error: Array, weights: Array) -> float:
    """A lower bound of the weighted rows over the leaf, rounding included."""
    joint = weights @ planes
    reach = np.maximum(np.abs(leaf.lower), np.abs(leaf.upper))
    rounding = 1.01 * float(weights @ error) + gamma(len(reach) + len(weights) + 4) * float(
        weights @ (np.abs(planes) @ reach + np.abs(constant))
    )
    return float(weights @ constant) - float(leaf.support(-joint[None])[0]) - rounding
