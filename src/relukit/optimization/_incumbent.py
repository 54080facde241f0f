"""The best point so far: found by gradient ascent and by linear programs on one linear piece, valued on the network itself."""

import time
from collections.abc import Callable

import numpy as np

from relukit._clock import loading
from relukit._types import Array
from relukit.network import Network
from relukit.optimization._problem import Problem

FEASIBLE = 1e-6  # a point counts as feasible when no constraint is off by more than this share of its terms
_STARTS, _STEPS = 64, 16
_IDLE = 4  # steps without a gain beyond the tolerance, after which ascent ends
_PROGRAMS = 6  # linear programs per start while a feasible point is sought


class Incumbent:
    """The best feasible point; searches share it.

    Arguments:
        problem: What is minimized.
        tolerance: Share of the value that counts as a gap of nothing.
        on_better: Called with (value) when a better point is kept.
    """

    def __init__(self, problem: Problem, tolerance: float, on_better: Callable[[float], None] | None = None) -> None:
        self.problem, self.tolerance, self.on_better = problem, tolerance, on_better
        self.value, self.witness = np.inf, None
        self.began, self.first = time.perf_counter(), float("nan")

    @property
    def slack(self) -> float:
        """The absolute gap at which the search ends; 0 as long as there is no point."""
        return self.tolerance * max(abs(self.value), 1e-6) if np.isfinite(self.value) else 0.0

    def is_closed(self, bound: float) -> bool:
        return bound >= self.value - self.slack

    def keep(self, points: Array) -> bool:
        """Keep the best of some points, after rounding integers; whether it is better than the one so far."""
        problem = self.problem
        points = problem.box.project(np.atleast_2d(points))
        if len(problem.integers) or problem.groups:
            rounded = [problem.rounded(x, problem.box.lower, problem.box.upper) for x in points]
            points = np.array([x for x in rounded if x is not None]).reshape(-1, problem.box.size)
        if not len(points):
            return False
        y = problem.network(points)
        goal = problem.goal
        values = points @ goal.inputs + y @ goal.outputs + goal.constant
        good = values < self.value
        for k in np.flatnonzero(good):
            good[k] = self.violation(points[k], y[k]) <= FEASIBLE
        if not np.any(good):
            return False
        best = int(np.argmin(np.where(good, values, np.inf)))
        if not np.isfinite(self.value):
            self.first = time.perf_counter() - self.began
        self.value, self.witness = float(values[best]), points[best].copy()
        if self.on_better is not None:
            self.on_better(self.value)
        return True

    def violation(self, x: Array, y: Array) -> float:
        """The largest violation, relative to the sizes of the constraint's terms."""
        return max((c.violation(x, y) / (c.linear.size(x, y) + 1e-6) for c in self.problem.constraints), default=0.0)

    def search(self, seed: int, stop: float) -> None:
        """Normalized gradient ascent from random starts and the center; with constraints, on penalties, then linear programs."""
        problem, generator = self.problem, np.random.default_rng(seed)
        box = problem.box
        points = np.concatenate([box.center()[None], box.sample(_STARTS - 1, generator)])
        free = np.ones(box.size, bool)
        free[problem.integers] = False
        for g in problem.groups:
            free[g.members] = False
        if not np.all(free):
            points = np.array([x for x in (problem.rounded(p, box.lower, box.upper) for p in points) if x is not None])
        width = (box.upper - box.lower) * free
        idle = 0
        for k in range(_STEPS):
            if problem.is_box_only:
                before = self.value - self.slack
                self.keep(points)
                idle = 0 if self.value < before else idle + 1
                if idle >= _IDLE:
                    return
            if time.perf_counter() > stop:
                return
            step = -self._slopes(points) * width
            size = np.sqrt(np.sum(step**2, axis=1, keepdims=True)) + 1e-300
            points = box.project(
                points + 0.5 * 0.75**k * width * step / size * np.sqrt(max(np.count_nonzero(width), 1))
            )
        self.keep(points)
        if problem.constraints:
            self._with_programs(points, free, stop)

    def _slopes(self, points: Array) -> Array:
        """Gradients of the goal, plus those of the violated constraints at the points."""
        problem = self.problem
        net = problem.rows
        if net.outputs == 1:
            return net.gradient(points, np.ones(1))
        values = net(points)
        weights = np.zeros(values.shape)
        off = np.maximum(values[:, 1:], 0)
        spread, usual = np.ptp(values[:, 0]) + 1e-9, np.median(off[off > 0]) if np.any(off > 0) else 1.0
        weights[:, 1:] = np.where(off > 0, 3.0 * spread / usual, 0.0)
        # Points that satisfy all constraints follow the goal alone, the others mostly the constraints they violate.
        weights[:, 0] = np.where(off.max(axis=1) > 0, 0.1, 1.0)
        return net.gradient(points, weights)

    def _with_programs(self, points: Array, free: np.ndarray, stop: float) -> None:
        """Sequential linear programs from the starts that violate least."""
        net = self.problem.rows
        values = net(points)
        worst = values[:, 1:].max(axis=1)
        order = np.lexsort((values[:, 0], np.maximum(worst, 0)))
        for k in order[:6]:
            self.polish(points[k], free, stop)
            if time.perf_counter() > stop:
                return

    def polish(self, x: Array, free: np.ndarray | None = None, stop: float = np.inf) -> None:
        """From x, step to the best feasible point of the linear piece around it, and again from there."""
        with loading():
            from scipy.optimize import linprog

        problem, net = self.problem, self.problem.rows
        box = problem.box
        free = np.ones(box.size, bool) if free is None else free
        lower, upper = np.where(free, box.lower, x), np.where(free, box.upper, x)
        width = box.upper - box.lower
        reach, before = 1.0, np.inf
        for _ in range(_PROGRAMS):
            if time.perf_counter() > stop:
                return
            values = net(x[None])[0]
            J = net.gradient(np.repeat(x[None], len(values), axis=0), np.eye(len(values)))
            low, high = np.maximum(lower, x - reach * width), np.minimum(upper, x + reach * width)
            # A soft program: violations cost more than the goal can gain.
            m = len(values) - 1
            dear = 10.0 * (np.abs(J[0]) @ width + 1e-9)
            scale = np.abs(J[1:]) @ width + 1e-12
            found = linprog(
                np.r_[J[0], np.full(m, dear)],
                np.c_[J[1:] / scale[:, None], -np.eye(m)] if m else None,
                (J[1:] @ x - values[1:]) / scale if m else None,
                bounds=[*zip(low, high), *[(0, None)] * m],
                method="highs",
                options={"primal_feasibility_tolerance": 1e-10},
            )
            if found.x is None:
                return
            new = np.clip(found.x[: len(x)], low, high)
            self.keep(new)
            merit = self._merit(net, new)
            if merit >= before - 1e-12 * abs(before):
                reach *= 0.25
                if reach < 1e-4:
                    return
                continue
            x, before = new, merit

    @staticmethod
    def _merit(net: Network, x: Array) -> float:
        values = net(x[None])[0]
        return float(values[0] + 10.0 * np.maximum(values[1:], 0).sum())
