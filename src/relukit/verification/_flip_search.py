"""The search for the smallest flip: a descent from counterexamples, and one proof at the end."""

import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from relukit._errors import InvalidInput
from relukit._types import Array, BoolArray, IntArray
from relukit.bounds import compact
from relukit.network import Network
from relukit.search import Search, decide_any
from relukit.search._attack import representable
from relukit.search._decision import Decision
from relukit.search._few_chain import Rows
from relukit.search._many import Case, decide_cases
from relukit.search._relaxation import OFF, ON, distance_program
from relukit.sets import AbstractSet, Ball, Box
from relukit.verification._flip_descent import Descent, crossing, size_of
from relukit.verification._flip_grid import Grid
from relukit.verification._flip_near import Near
from relukit.verification._flip_question import Question
from relukit.verification._flip_screen import hurried, screened

_CLOSE = 1e-6  # a proven distance: lower and upper bound agree this far, or this share of a distance above 1
_OPEN = 1e-4  # what stays open, as a share of the distance, where rounding decides
_FEW = 12  # up to so many moving inputs, inputs are split rather than gates
_GATES = 600  # above this many gates the linear program of a piece costs more than it brings
_SMALL = 5000  # units of a network where calls cost, not numbers
_JITTER = 24  # points around a candidate that the original nearly turns at
_GRID = 100_000  # boxes of values in steps at most
_HASTE = 0.5  # seconds for a lower bound after Ctrl-C
_LESS = 0.7  # of a radius at which too many gates are open: not worth bounding them again before
_SEEK = 0.5  # share of the time in which a first flip is looked for


class FlipSearch:
    """State of one search: the best flip so far and a lower bound."""

    def __init__(
        self,
        network: Network,
        x: Array,
        norm: float,
        within: Box | None,
        target: int | None,
        timeout: float,
        tell: Callable[[float, float], None],
        seed: int,
        starts: Array | None,
        frozen: IntArray,
        integer: IntArray,
        steps: Mapping[int, float],
        margin: float,
        probability: float | None,
    ) -> None:
        x = _held(x, network.dtype, within, np.union1d(integer, list(steps)).astype(np.int64))
        self.network, self.x, self.norm, self.tell = network, x, norm, tell
        self.stop, self.seed = time.perf_counter() + timeout, seed
        self.question = Question(network, x, target, margin, probability)
        self.generator = np.random.default_rng(seed)
        self.starts = None if starts is None else network.rows(starts)[0]
        far = 1e3 * (float(np.abs(x).max(initial=0.0)) + 1.0)
        limits = Box(x - far, x + far) if within is None else within
        lower, upper = limits.lower.astype(np.float64), limits.upper.astype(np.float64)
        lower[frozen] = upper[frozen] = x[frozen]
        if not np.any(lower < upper):
            raise InvalidInput("no input may move: all are frozen, or the allowed box is one point")
        self.within = Box(lower, upper)
        self.grid = Grid(x, integer, steps, frozen, self.within)
        self.bounded = within is not None  # the allowed box is the question's own
        self.upper, self.nodes, self.lower, self.reason, self.tied, self.crowded = np.inf, 0, 0.0, "", np.inf, np.inf
        self.witness: Array | None = None
        self.to: int | None = None
        self.descent = Descent(network, x, self.question, norm, lower - x, upper - x, self.attempt)
        self._parts = 16 if sum(node.size for node in network.nodes) <= _SMALL else 2  # of a step, evaluated at once
        self.near: Near | None = None
        self.rows: Rows | None = None
        if all(len(g.b) == 1 for g in self.question.goals.values()) and not len(self.grid):
            A, b = (np.concatenate([getattr(g, k) for g in self.question.goals.values()]) for k in ("A", "b"))
            rows = Rows(network.append(A, b))
            self.rows = rows if rows.layers is not None else None
            if norm == np.inf and int(np.sum(lower < upper)) <= _FEW:
                self.near = Near(network, x, A, b, lower - x, upper - x)

    def run(self) -> tuple[float, bool]:
        """The lower bound, and whether it meets the upper one; interrupted, a quick lower bound is told before it ends."""
        try:
            return self._search()
        except KeyboardInterrupt:
            self.stop = min(self.stop, time.perf_counter() + _HASTE)
            self._screen(min(self.upper, float(np.abs(self.x).max(initial=0.0)) + 1.0))
            self.tell(self.lower, self.upper)
            raise

    def _search(self) -> tuple[float, bool]:
        now = time.perf_counter()
        seek = now + _SEEK * (self.stop - now)
        if self.rows is not None:
            self.descent.balance(self.rows, 80)
        if self.witness is None:
            self.descent.run(30, 3, self.generator, seek)
        if self.witness is None and not self.descent.climb(self.rows, self.generator, seek):
            self.descent.scan(self.starts, self.generator, seek)
        if self.witness is None:
            return self._without()
        self._polish()
        share = 0.7
        while time.perf_counter() < self.stop:
            radius = self.upper - 0.9 * self._gap()
            if radius <= self.lower:
                break
            limit = time.perf_counter() + share * (self.stop - time.perf_counter())
            found = self._decide(radius, limit)
            if found.status == "unsat":
                self.lower = max(self.lower, self._left(radius))
                self.tell(self.lower, self.upper)
            elif found.status == "sat":
                self._polish()
            else:
                self._fall_back(self.upper)
                break
        self.lower = max(min(self.lower, self.upper), 0.0)
        return self.lower, self.upper - self.lower <= self._gap()

    def _gap(self) -> float:
        return _CLOSE * max(1.0, self.upper)

    def _left(self, radius: float) -> float:
        """What is left of a ball to be searched: flips that are nearer than the incumbent by the gap."""
        return min(radius, self.upper - 0.9 * self._gap())

    def _without(self) -> tuple[float, bool]:
        """No flip was found: the largest ball that is proven free of any, or the whole allowed box."""
        whole = float(size_of(np.maximum(self.within.upper - self.x, self.x - self.within.lower), self.norm))
        if self.bounded:
            found = self._decide(whole, time.perf_counter() + 0.5 * (self.stop - time.perf_counter()))
            if found.status == "unsat":
                return whole, True
            if found.status == "sat":
                return self.run_again()
        self._fall_back(whole if self.bounded else float(np.abs(self.x).max(initial=0.0)) + 1.0)
        return self.lower, False

    def run_again(self) -> tuple[float, bool]:
        """Go on from a witness that a proof attempt found."""
        self._polish()
        found = self._decide(self.upper - 0.9 * self._gap(), self.stop)
        while found.status == "sat":
            self._polish()
            found = self._decide(self.upper - 0.9 * self._gap(), self.stop)
        if found.status == "unsat":
            self.lower = self.upper - 0.9 * self._gap()
        return self.lower, found.status == "unsat"

    def why(self) -> str:
        """What keeps the bounds apart."""
        tie = f"outputs tie at a distance of {self.tied:.6g}, where the original, as it rounds, keeps its decision"
        late = not self.reason or self.reason.startswith("time")  # what the last of several proofs had come to says little
        return tie if self.tied < self.upper - self._gap() else "time was up" if late else self.reason

    # -- upper bounds ------------------------------------------------------------------------------------------------

    def attempt(self, point: Array) -> bool:
        """The first flip on the way from x to a point that the original model confirms, as far as bisection tells; kept if it is closer."""
        point, base = self.within.project(point), self.x
        if len(self.grid):
            base = self.x.copy()
            base[self.grid.i] = point[self.grid.i] = self.grid.nearest(point[self.grid.i])
        step, farthest = point - base, 0.0
        for ties in (True, False):  # where outputs tie over a region, the original may turn beyond it only
            share = crossing(partial(self._turned, base, step, ties), self._parts)
            if share is None or share <= farthest:
                return False
            for push in (0.0, 1e-8, 1e-7, 3e-7, 1e-6, 1e-5, 1e-4, 1e-3):
                candidate = self._representable(base + share * (1 + push) * step)
                distance = float(size_of(candidate - self.x, self.norm))
                if distance >= self.upper:
                    return False
                to = self.question.decided(self.network.replay(candidate))
                if to is None and self.near is not None:
                    candidate, to = self._jittered(candidate, distance)
                if to is not None:
                    self.upper, self.witness, self.to = distance, candidate, to
                    self.tell(self.lower, self.upper)
                    return True
            farthest, self.tied = share * (1 + push), min(self.tied, float(size_of(share * step + base - self.x, self.norm)))
        return False

    def _turned(self, base: Array, step: Array, ties: bool, shares: Array) -> BoolArray:
        """Whether the decision is another one at some shares of a step, or as good as this one where `ties` count."""
        y = self.network(base + shares[:, None] * step)
        off = np.array([self.question.rows(t, y) for t in self.question.targets])
        return np.any(off <= 0 if ties else off < 0, axis=0)

    def _jittered(self, point: Array, distance: float) -> tuple[Array, int | None]:
        """A point a few units in the last place away, no farther from x, where the original's rounding turns the decision."""
        ulp = np.finfo(self.network.dtype).eps * np.maximum(np.abs(point), 1e-3)
        near = point + ulp * self.generator.integers(-4, 5, (_JITTER, len(point)))
        box = Box(np.maximum(self.within.lower, self.x - distance), np.minimum(self.within.upper, self.x + distance))
        near = representable(near, box, self.network.dtype)
        found = ((candidate, self.question.decided(y)) for candidate, y in zip(near, self.network.replay(near)))
        return next(((candidate, to) for candidate, to in found if to is not None), (point, None))

    def _representable(self, point: Array) -> Array:
        """A point beside this one that the original can hold and that is allowed, no input farther from x."""
        dtype = self.network.dtype
        near = representable(self.within.project(point)[None], self.within, dtype)[0]
        inwards = np.nextafter(near.astype(dtype), self.x.astype(dtype)).astype(np.float64)
        near = np.where(np.abs(near - self.x) > np.abs(point - self.x), inwards, near)
        return np.where((near < self.within.lower) | (near > self.within.upper), point, near)

    def _polish(self) -> None:
        """The nearest flip within the incumbent's own linear piece, as long as that helps."""
        assert self.witness is not None
        if self.near is not None:
            self._polish_near(self.near)
            return
        now = time.perf_counter()
        seek = now + 0.5 * (self.stop - now)
        for _ in range(6):
            before = self.upper
            self.descent.home(self.witness, self._target(), seek)
            if self.norm == np.inf and not len(self.grid):
                self._piece()
            if self.upper > 0.999 * before or time.perf_counter() > seek:
                return

    def _polish_near(self, near: Near) -> None:
        """Few inputs: to the nearest point of the linear piece and on into others, as long as that helps."""
        for _ in range(30):
            assert self.witness is not None
            before, step = self.upper, self.witness - self.x
            found = near.nearest(step, self.question.targets.index(self._target()), self.upper)
            if found is not None:
                self.attempt(self.x + found)
            step = self.witness - self.x
            for closer in near.inside(step, self.upper, self.generator)[:4]:
                if self.attempt(self.x + closer):
                    break
            if self.upper > before - 0.3 * self._gap() or time.perf_counter() > self.stop:
                return

    def _target(self) -> int:
        y = self.network(self.witness[None])
        return min(self.question.targets, key=lambda t: float(self.question.rows(t, y)[0]))

    def _piece(self) -> None:
        """A linear program inside the incumbent's activation pattern."""
        if self.upper > _LESS * self.crowded:
            return
        ball = Ball(self.x, self.upper * (1 + 1e-9), np.inf, self.within)
        bounds = hurried(self.network, ball, self.stop)
        if sum(int(bounds.undecided(k).sum()) for k in self.network.activations) > 4 * _GATES:  # some read nothing
            self.crowded = self.upper
            return
        small = compact(self.network, ball, bounds)
        if small.gates > _GATES:
            return
        pattern = np.where(small.hidden(self.witness[None])[0] > 0, ON, OFF).astype(np.int8)
        target, y = self._target(), self.network(self.witness[None])
        slopes = self.question.slopes(target, y)[0]
        level = float(slopes @ y[0]) + float(self.question.rows(target, y)[0])
        found = distance_program(small, self.x, self.upper, slopes, level).solve(pattern, stop=self.stop)
        self.nodes += 1
        if found.x is not None:
            self.attempt(found.x)

    # -- lower bounds ------------------------------------------------------------------------------------------------

    def _region(self, radius: float) -> AbstractSet:
        ball = Ball(self.x, radius, self.norm, self.within)
        return ball.box() if self.norm == np.inf else ball

    def _decide(self, radius: float, limit: float) -> Decision:
        """Whether the ball holds a flip; `sat` where a closer one than the incumbent was kept."""
        found = self._decide_in_steps(radius, limit) if len(self.grid) else self._decide_on(self._region(radius), radius, limit)
        self.reason = found.reason
        return found

    def _decide_on(self, region: AbstractSet, radius: float, limit: float) -> Decision:
        def confirm(points: Array) -> Array | None:
            before = self.upper
            for point in points:
                self.attempt(point)
            if self.upper < before and self.near is not None:
                self._polish()
            return self.witness if self.witness is not None and self.upper <= radius and self.upper < before else None

        goals = self.question.goals.values()
        moving = int(np.sum(region.box().lower < region.box().upper))
        if moving <= _FEW and isinstance(region, Box):
            if all(len(g.b) == 1 for g in goals):
                A, b = np.vstack([g.A for g in goals]), np.concatenate([g.b for g in goals])
                whole = self.near is not None
                closer = lambda: Ball(self.x, self._left(radius), np.inf, self.within).box()
                searches = [Search(self.network, region, A, b, confirm, self.seed, True, closer if whole else None)]
            else:
                searches = [Search(self.network, region, g.A, g.b, confirm, self.seed) for g in goals]
            found = decide_any(searches, max(limit - time.perf_counter(), 0.01))
        else:
            cases = [Case(g.A, g.b, confirm) for g in goals]
            found = decide_cases(self.network, region, cases, limit, self.seed)
        self.nodes += found.boxes
        return found

    def _decide_in_steps(self, radius: float, limit: float) -> Decision:
        """As `_decide` where some inputs move in steps: their ranges are halved until one value is left."""
        grid, box = self.grid, Ball(self.x, radius, self.norm, self.within).box()
        todo, tried = [grid.range(box.lower[grid.i], box.upper[grid.i])], 0
        while todo:
            low, high = todo.pop()
            if np.any(low > high) or size_of(grid.moved(low, high), self.norm) > radius:
                continue
            tried += 1
            if time.perf_counter() > limit or tried > _GRID:
                return Decision("unknown", None, tried, "steps", "time is up in the search over values in steps")
            single = bool(np.all(low == high))
            part = grid.part(self.x, low, high, radius, self.norm, box)
            found = self._decide_on(part, radius, limit if single else self._soon(limit))
            if found.status == "sat":
                return found
            if found.status == "unsat":
                continue
            if single:
                return found
            k = int(np.argmax(grid.step * (high - low)))
            middle = np.floor(0.5 * (low[k] + high[k]))
            first, second = high.copy(), low.copy()
            first[k], second[k] = middle, middle + 1
            parts = [(low, first), (second, high)]
            todo += parts if middle < 0 else parts[::-1]
        return Decision("unsat", None, tried, "steps")

    @staticmethod
    def _soon(limit: float) -> float:
        return min(limit, time.perf_counter() + 0.2)

    def _fall_back(self, reach: float) -> None:
        """The proof at `reach` did not end: smaller balls, for the bound that can be had."""
        self._screen(reach)
        if self.lower < 0.05 * reach:
            self._close_in(self._grow(reach))
            return
        for share in (0.75, 0.5, 0.85, 0.93):
            left = self.stop - time.perf_counter()
            radius = share * min(reach, self.upper)
            if left <= 0:
                return
            if radius > self.lower and self._decide(radius, time.perf_counter() + 0.4 * left).status == "unsat":
                self.lower = radius
                self.tell(self.lower, self.upper)
        self._close_in(min(reach, self.upper))

    def _grow(self, reach: float) -> float:
        """From a small ball up, threefold each time, while proofs end; the radius of the first that did not."""
        radius, floor = 0.01 * reach, self.lower
        while (left := self.stop - time.perf_counter()) > 0 and self.lower < radius < min(reach, self.upper):
            if self._decide(radius, time.perf_counter() + 0.4 * left).status == "unsat":
                self.lower = radius
                self.tell(self.lower, self.upper)
                radius *= 3
            elif self.lower > floor:
                break
            else:
                radius *= 0.03
        return min(radius, reach, self.upper)

    def _close_in(self, open_: float) -> None:
        """Halve what is open, where time is left: flips of real numbers may be nearer than any that the original's precision holds."""
        least = _OPEN * open_
        while (left := self.stop - time.perf_counter()) > 0 and open_ - self.lower > least:
            middle = 0.5 * (self.lower + open_)
            radius = min(middle, 2 * self.lower) if self.lower else middle
            found = self._decide(radius, time.perf_counter() + 0.5 * left)
            if found.status == "unsat":
                self.lower = radius
                self.tell(self.lower, self.upper)
            open_ = min(open_, self.upper) if found.status == "unsat" else min(radius, self.upper)

    def _screen(self, radius: float) -> None:
        ball = lambda r: Ball(self.x, r, self.norm, self.within)
        self.lower = screened(self.network, self.question, ball, self.lower, max(radius, self.lower), self.stop)


def _held(x: Array, dtype: np.dtype, within: Box | None, in_steps: IntArray) -> Array:
    """The input as the original receives it: rounded to its precision, where that is allowed."""
    near = x.astype(dtype).astype(np.float64)
    keep = ~np.isfinite(near)
    keep[in_steps] = True
    if within is not None:
        keep |= (near < within.lower) | (near > within.upper)
    return np.where(keep, x, near)
