"""The nearest point to a given one that satisfies constraints: one proof over a ball, not a minimum of a distance made of gates.

Points are brought nearer by linear (l2: quadratic) programs on linear pieces. Then one question is asked of the searches that
`verify` and `flip` use: is there a point in the ball that is smaller by the tolerance? One that is found is brought nearer in turn; the
first proof ends the search. No bisection over radii takes place; where time runs out, smaller balls give the bound that can be had.
"""

import time
from collections.abc import Callable

import numpy as np

from relukit._types import Array
from relukit.optimization._nearest_point import NearestPoint
from relukit.optimization._nearest_step import size_of
from relukit.optimization._nearest_tangents import prove_by_tangents
from relukit.optimization._portfolio import Found
from relukit.optimization._problem import Problem
from relukit.search._decision import Decision
from relukit.search._many import Case, decide_cases
from relukit.sets import AbstractSet

_STARTS = 6
_PARTS = 20_000  # settings of whole numbers and categories at most


class Nearest:
    """State of one search: the nearest point so far, and a radius below which there is none.

    Arguments:
        problem, point, norm, scale: As for `NearestPoint`.
        tolerance: Share of the distance at which the proof ends; `timeout` in seconds.
        tangents: Prove by tangents to the norm rather than by balls (l2 with few inputs).
        start: Points `(k, n)` to begin with.
        on_progress: Called with (seconds, value, bound).
    """

    def __init__(
        self, problem: Problem, point: Array, norm: float, scale: Array, tolerance: float, timeout: float, seed: int = 0,
        start: Array | None = None, on_progress: Callable[[float, float, float], None] | None = None, tangents: bool = False,
    ) -> None:  # fmt: skip
        self.problem, self.point, self.norm, self.scale = problem, point, norm, scale
        self.began, self.tolerance, self.tangents = time.perf_counter(), tolerance, tangents
        self.stop, self.on_progress, self.seed, self.start = self.began + timeout, on_progress, seed, start
        self.best = NearestPoint(problem, point, norm, scale, tolerance, self.stop, self._better)
        self.lower, self.first = 0.0, float("nan")
        self.nodes, self.parts = 0, 0
        self.engines: set[str] = set()
        self.history: list[tuple[float, float, float]] = []

    def run(self) -> Found:
        reason = ""
        try:
            self._search_near()
            reason = prove_by_tangents(self) if self.tangents else self._prove()
        except KeyboardInterrupt:
            reason = "interrupted"
        self._note()
        engine = " and ".join(sorted(self.engines)) or "linear bounds"
        return Found(
            self.best.upper, self.best.witness, min(self.lower, self.best.upper), f"{'tangents' if self.tangents else 'balls'}: {engine}", self.nodes + 1, reason, self.first, self.history
        )  # fmt: skip

    def _prove(self) -> str:
        """Raise the lower end until it meets the upper one; the reason why not."""
        box = self.problem.box
        while True:
            if self.best.witness is not None and self.best.upper <= self.lower + self.best.slack():
                return ""
            if time.perf_counter() > self.stop:
                return "time limit"
            radius = self.best.upper - 0.9 * self.best.slack() if self.best.witness is not None else self._farthest()
            left = self.stop - time.perf_counter()
            share = 0.7 if self.best.witness is not None else 1.0
            found = self._decide(box.lower, box.upper, radius, time.perf_counter() + share * left)
            if found.status == "sat":
                continue
            if found.status == "unsat":
                if self.best.witness is None:
                    self.lower = np.inf  # there is no point at all
                    return ""
                self.raise_to(min(radius, self.best.upper - 0.9 * self.best.slack()))
                continue
            return self._smaller(found.reason)

    def _smaller(self, reason: str) -> str:
        """The proof at the incumbent's distance did not end: bounds from smaller balls."""
        box, whole = self.problem.box, self.best.upper if self.best.witness is not None else self._farthest()
        for share in (0.75, 0.5, 0.85, 0.93, 0.97):
            left = self.stop - time.perf_counter()
            if left <= 0:
                break
            radius = share * whole
            if radius > self.lower:
                found = self._decide(box.lower, box.upper, radius, time.perf_counter() + 0.4 * left)
                if found.status == "unsat":
                    self.raise_to(radius)
        return "time limit" if time.perf_counter() >= self.stop - 0.05 or reason.startswith("time") else reason

    def _farthest(self) -> float:
        box = self.problem.box
        far = np.maximum(np.abs(box.lower - self.point), np.abs(box.upper - self.point)) / self.scale
        return size_of(far, self.norm) * (1 + 1e-12)

    def _search_near(self) -> None:
        """From the point itself, given ones, and random ones at several distances."""
        box = self.problem.box
        starts = [self.point, *([] if self.start is None else np.atleast_2d(self.start))]
        width, generator = box.upper - box.lower, np.random.default_rng(self.seed)
        for k in range(_STARTS):
            starts.append(self.point + width * generator.uniform(-0.5, 0.5, len(width)) * 0.5**k)
        for k, x in enumerate(starts):
            if time.perf_counter() > self.stop or (k > 2 and self.best.upper == 0.0):
                return
            self.best.improve(x)

    def _decide(self, lower: Array, upper: Array, radius: float, limit: float) -> Decision:
        """Whether a part of the box holds a point within the radius; whole numbers and categories are settled one by one."""
        problem, settled, unknown = self.problem, not (len(self.problem.integers) or self.problem.groups), ""
        todo = [(lower, upper)]
        while todo:
            low, high = todo.pop()
            region = self.best.region(low, high, radius)
            if region is None:
                continue
            self.parts += 1
            single = settled or problem.is_settled(low, high)
            now = time.perf_counter()
            if now > limit or self.parts > _PARTS:
                return Decision(
                    "unknown", None, 0, "", "time limit" if now > limit else "too many settings of whole numbers"
                )
            found = self._ask(region, low, high, radius, limit if single else min(limit, now + 0.2))
            if found.status == "sat":
                return found
            if found.status == "unsat":
                continue
            if single:
                unknown = found.reason
                if time.perf_counter() > limit:
                    return found
                continue
            parts = problem.halves(low, high, self.point)
            assert parts is not None
            todo += parts[::-1]
        return Decision("unknown", None, 0, "", unknown) if unknown else Decision("unsat", None, 0, "")

    def _ask(self, region: AbstractSet, lower: Array, upper: Array, radius: float, limit: float) -> Decision:
        def confirm(points: Array) -> Array | None:
            before = self.best.upper
            for u in points:
                self.best.improve(np.clip(u if self.best.plain else self.point + self.scale * u, lower, upper))
            return self.best.witness if self.best.upper < before and self.best.upper <= radius else None

        count = self.best.rows.outputs
        found = decide_cases(self.best.rows, region, [Case(np.eye(count), np.zeros(count), confirm)], limit, self.seed)
        self.nodes += found.boxes
        self.engines.add(found.engine)
        return found

    def _better(self) -> None:
        if np.isnan(self.first):
            self.first = time.perf_counter() - self.began
        self._note()

    def raise_to(self, lower: float) -> None:
        if lower > self.lower:
            self.lower = lower
            self._note()

    def _note(self) -> None:
        entry = (time.perf_counter() - self.began, self.best.upper, min(self.lower, self.best.upper))
        if not self.history or self.history[-1][1:] != entry[1:]:
            self.history.append(entry)
            if self.on_progress is not None:
                self.on_progress(*entry)
