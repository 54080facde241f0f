"""The smallest perturbation that changes a decision."""

import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, UnsupportedOperation
from relukit._types import Array
from relukit.bounds import compact, linear
from relukit.network import Network
from relukit.search._relaxation import OFF, ON, Solution, distance_program
from relukit.sets import Ball, Box

_STARTS = 3
_GATES = 1500
_CLOSE = 1e-6  # a proven distance: lower and upper bound agree this far, absolutely, plus 1e-5 of the distance


@dataclass(frozen=True, eq=False)
class Flip:
    """The smallest change that turns a decision.

    Arguments:
        status: `proven` (no smaller one exists, up to 1e-6 plus 1e-5 of the distance) or `bounded`.
        from_, to: Decisions before and after; `to` is None where no flip was found.
        norm: The norm, `inf`.
        lower: No flip is closer; sound, rounding included.
        upper: Distance of the witness (infinite without one).
        witness: The flipped input, or None.
        replayed: Whether the original model, in its own precision, decides otherwise at the witness.
        nodes: Linear programs solved.
    """

    status: str
    from_: int
    to: int | None
    norm: float
    lower: float
    upper: float
    witness: Array | None
    replayed: bool
    nodes: int
    cpu_seconds: float

    @property
    def distance(self) -> float | None:
        return None if self.witness is None else self.upper

    def to_dict(self) -> dict[str, Any]:
        upper = None if np.isinf(self.upper) else self.upper
        return {
            "status": self.status,
            "from": self.from_,
            "to": self.to,
            "norm": "inf" if np.isinf(self.norm) else self.norm,
            "distance": self.distance,
            "lower": self.lower,
            "upper": upper,
            "lower_bound": self.lower,
            "upper_bound": upper,
            "replayed": self.replayed,
            "replay": self.replayed,
            "nodes": self.nodes,
            "cpu_seconds": self.cpu_seconds,
        }

    def __repr__(self) -> str:
        if self.witness is None:
            return f"Flip({self.from_}: none found, none below {self.lower:.6g})"
        words = (
            f"{self.upper:.6g} proven" if self.status == "proven" else f"between {self.lower:.6g} and {self.upper:.6g}"
        )
        return f"Flip({self.from_} -> {self.to}: {words}, {self.nodes} programs)"


def flip(
    network: Network,
    x: Array,
    norm: float = np.inf,
    within: Box | None = None,
    target: int | None = None,
    timeout: float = 60.0,
    on_progress: Callable[[float, float], None] | None = None,
    seed: int = 0,
    starts: Array | None = None,
) -> Flip:
    """The smallest l-infinity change of one input that changes the decision, with proof.

    A descent gives a first flip. Over the ball of that radius the network is compacted, and for every other decision
    the distance itself is minimized over the triangle relaxation, splitting gates best-first; each point that the
    relaxation proposes is tried on the network. Lower bounds come from multipliers, rounding included, and do not
    depend on the solver being right.

    Arguments:
        network: Piecewise linear, with at least two outputs or one output whose sign decides.
        x: One input.
        norm: Only `inf` so far.
        within: Inputs that are allowed (pixels in [0, 1]); everything by default.
        target: Ask for this decision only.
        timeout: Seconds of wall time; then the bounds so far are returned.
        on_progress: Called with `(lower, upper)`.
        starts: Other inputs, for instance rows of a data set: where the network is flat around x, the way to one that is decided otherwise crosses a boundary.

    Raises:
        UnsupportedOperation: A smooth activation, or another norm.
        InvalidInput: More than one row, or a point outside `within`.

    References:
        Evaluating Robustness of Neural Networks with Mixed Integer Programming, Tjeng, Xiao, Tedrake, 2019.
    """
    if norm != np.inf:
        raise UnsupportedOperation(f"flip works in the l-infinity norm so far, not l{norm:g}")
    network.require_piecewise_linear("the smallest flip")
    rows, _ = network.rows(x)
    if len(rows) != 1:
        raise InvalidInput(f"flip takes one input, got {len(rows)}")
    if within is not None and not bool(within.contains(rows[0])):
        raise InvalidInput("the input lies outside the allowed box")
    return _Search(network, rows[0], within, target, timeout, on_progress or (lambda a, b: None), seed, starts).run()


class _Search:
    """State of one search: the best flip so far and a lower bound for every other decision."""

    def __init__(
        self,
        network: Network,
        x: Array,
        within: Box | None,
        target: int | None,
        timeout: float,
        tell: Callable[[float, float], None],
        seed: int,
        starts: Array | None = None,
    ) -> None:
        self.network, self.x, self.within, self.tell = network, x, within, tell
        self.cpu, self.stop = time.process_time(), time.perf_counter() + timeout
        self.source, self.starts = int(network.decide(x)), starts
        self.generator = np.random.default_rng(seed)
        count = max(network.outputs, 2)
        targets = [t for t in range(count) if t != self.source and target in (None, t)]
        self.rows = {t: _direction(network.outputs, self.source, t) for t in targets}
        self.upper, self.witness, self.replayed, self.nodes = np.inf, None, False, 0

    def run(self) -> Flip:
        if not self.rows:
            raise InvalidInput(f"target {self.source} is the decision already")
        self._descend()
        if self.witness is None:
            self._climb()
        if self.witness is None:
            return self._result(self._screen(float(np.abs(self.x).max()) + 1.0))
        self._polish()
        lower = self._screen(self.upper)
        while time.perf_counter() < self.stop:
            radius = self.upper
            lower = max(lower, self._prove(radius))
            if lower >= self._goal() or self.upper >= 0.97 * radius:
                break
        return self._result(min(lower, self.upper))

    def _goal(self) -> float:
        return self.upper - _CLOSE - 1e-5 * self.upper

    def _result(self, lower: float) -> Flip:
        proven = self.witness is not None and lower >= self._goal()
        to = None if self.witness is None else int(self.network.decide(self.witness))
        return Flip(
            "proven" if proven else "bounded",
            self.source,
            to,
            np.inf,
            max(lower, 0.0),
            self.upper,
            self.witness,
            self.replayed,
            self.nodes,
            time.process_time() - self.cpu,
        )

    # -- upper bounds ------------------------------------------------------------------------------------------------

    def _allowed(self, points: Array) -> Array:
        return points if self.within is None else self.within.project(points)

    def _margins(self, points: Array, directions: Array) -> Array:
        return np.einsum("bm,bm->b", directions, self.network(points))

    def _descend(self) -> None:
        """Linearize the margin, step to where it would vanish, from several starts for every other decision (after DeepFool, 2016)."""
        targets = np.repeat(list(self.rows), _STARTS)
        directions = np.stack([self.rows[t] for t in targets])
        spread = 0.02 * (np.abs(self.x).max() + 1e-3)
        points = self._allowed(
            self.x
            + spread
            * self.generator.standard_normal((len(targets), len(self.x)))
            * (np.arange(len(targets)) % _STARTS > 0)[:, None]
        )
        best = np.full(len(targets), np.inf)
        reached = points.copy()
        least = 0.01 * (np.abs(self.x).max() + 1e-3)
        for round_ in range(60):
            value = self._margins(points, directions)
            distance = np.abs(points - self.x).max(axis=1)
            better = (value > 0) & (distance < best)
            best[better], reached[better] = distance[better], points[better]
            grad = self._gradients(points, directions)
            size = np.maximum(np.abs(grad).sum(axis=1), 1e-30)
            # Outside: on from here, at least a little. Inside: the nearest point of x to the linearized boundary, half way.
            onward = points + np.maximum(1.05 * -value / size, least)[:, None] * np.sign(grad)
            missing = np.clip(-(value + np.einsum("bn,bn->b", grad, self.x - points)) / size, 0, None)
            home = 0.5 * (points + self.x + 1.01 * missing[:, None] * np.sign(grad))
            moved = np.where((value > 0)[:, None], home, onward)
            if round_ == 30:
                moved = np.where(np.isfinite(best)[:, None], 0.5 * (self.x + reached), moved)
            points = self._allowed(moved)
        for k in np.argsort(best):
            if np.isfinite(best[k]) and best[k] < 2 * best.min():
                self._try(reached[k])

    def _gradients(self, points: Array, directions: Array) -> Array:
        out = np.zeros_like(points)
        for t in self.rows:
            mine = np.all(directions == self.rows[t], axis=1)
            if mine.any():
                out[mine] = self.network.gradient(points[mine], self.rows[t])
        return out

    def _try(self, point: Array) -> bool:
        """Bisect from x to `point` for the first flip that the original model confirms; keep it if it is closer."""
        step = self._allowed(point) - self.x
        flipped = lambda s: int(self.network.decide(self.x + s * step)) in self.rows
        if not flipped(1.0):
            for push in (1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4):
                moved = self._allowed(self.x + (1 + push) * step) - self.x
                if int(self.network.decide(self.x + moved)) in self.rows:
                    step = moved
                    break
            else:
                return False
        low, high = 0.0, 1.0
        for _ in range(50):
            middle = 0.5 * (low + high)
            low, high = (low, middle) if flipped(middle) else (middle, high)
        for push in (0.0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3):
            candidate = self._candidate(high * (1 + push), step)
            distance = float(np.abs(candidate - self.x).max())
            if distance >= self.upper:
                return False
            if int(self.network.decide(candidate)) in self.rows and self._confirmed(candidate):
                self.upper, self.witness, self.replayed = distance, candidate, True
                self.tell(0.0, self.upper)
                return True
        return False

    def _candidate(self, share: float, step: Array) -> Array:
        """A point that the original can represent exactly."""
        point = self.x + share * step
        single = point.astype(self.network.dtype).astype(np.float64)
        return (
            single
            if self.within is None
            else np.where((single < self.within.lower) | (single > self.within.upper), point, single)
        )

    def _confirmed(self, candidate: Array) -> bool:
        out = self.network.replay(candidate)
        if self.network.outputs == 1:
            return int(out[0] > (0.5 if self.network.head == "sigmoid" else 0.0)) in self.rows
        return int(np.argmax(out)) in self.rows

    def _polish(self) -> None:
        """The nearest flip within the incumbent's own activation pattern, as long as that helps."""
        for _ in range(6):
            before = self.upper
            small = self._compact(self.upper)
            if small.gates > _GATES or time.perf_counter() > self.stop:
                return
            z = small.hidden(self.witness[None])[0]
            pattern = np.where(z > 0, ON, OFF).astype(np.int8)
            target = int(self.network.decide(self.witness))
            found = distance_program(small, self.x, self.upper, self.rows[target]).solve(pattern, stop=self.stop)
            self.nodes += 1
            if found.x is None or not self._try(found.x) or self.upper > 0.999 * before:
                return

    def _climb(self) -> None:
        """Ascend each margin over growing balls with sign steps, where the descent met no boundary."""
        targets = np.repeat(list(self.rows), 8)
        directions = np.stack([self.rows[t] for t in targets])
        size = float(np.abs(self.x).max()) + 1e-3
        for radius in size * np.array([0.05, 0.1, 0.2, 0.4, 0.8, 1.6]):
            points = self._allowed(self.x + radius * self.generator.uniform(-1, 1, (len(targets), len(self.x))))
            for k in range(30):
                step = radius * 0.25 * 0.9**k * np.sign(self._gradients(points, directions))
                points = self._allowed(self.x + np.clip(points + step - self.x, -radius, radius))
            value = self._margins(points, directions)
            if value.max() > 0:
                for k in np.flatnonzero(value > 0):
                    self._try(points[k])
                if self.witness is not None:
                    return
        self._scan(size)

    def _scan(self, size: float) -> None:
        """Far points in random directions, blends of few of them, and the farthest corner: on flat stretches gradients lead nowhere."""
        reach = (
            size
            * np.sign(self.generator.standard_normal((400, len(self.x))))
            * (self.generator.random((400, 1)) < self.generator.random((400, len(self.x))))
        )
        far = self._allowed(self.x + 2 * reach)
        if self.within is not None:
            middle = self.within.center()
            far = np.concatenate(
                [
                    far,
                    np.where(self.x < middle, self.within.upper, self.within.lower)[None],
                    self.within.sample(100, self.generator),
                ]
            )
        if self.starts is not None:
            rows = self._allowed(self.network.rows(self.starts)[0])
            far = np.concatenate([rows[np.argsort(np.abs(rows - self.x).max(axis=1), kind="stable")], far])
        for point in far[np.isin(self.network.decide(far), list(self.rows))][:20]:
            self._try(point)
        if self.witness is not None:  # go on from there: the boundary is near now
            for _ in range(5):
                before, start = self.upper, self.witness
                direction = self.rows[int(self.network.decide(start))]
                for _ in range(20):
                    grad = self.network.gradient(start, direction)
                    missing = max(
                        -float(direction @ self.network(start) + grad @ (self.x - start))
                        / max(np.abs(grad).sum(), 1e-30),
                        0,
                    )
                    start = self._allowed(0.5 * (start + self.x + 1.05 * missing * np.sign(grad)))
                    self._try(start)
                if self.upper > 0.99 * before:
                    return

    # -- lower bounds ------------------------------------------------------------------------------------------------

    def _screen(self, radius: float) -> float:
        """The largest ball up to `radius`, within 2 %, on which linear bounds alone show that no other decision occurs."""
        margins = self.network.append(np.stack(list(self.rows.values())))
        low, high = 0.0, radius
        while high - low > 0.02 * radius and time.perf_counter() < self.stop:
            middle = 0.5 * (low + high)
            safe = bool(np.all(linear(margins, Ball(self.x, middle, np.inf, self.within)).output[1] < 0))
            low, high = (middle, high) if safe else (low, middle)
        return low

    def _compact(self, radius: float) -> Any:
        ball = Ball(self.x, radius * (1 + 1e-9), np.inf, self.within)
        return compact(self.network, ball, linear(self.network, ball))

    def _prove(self, radius: float) -> float:
        """Best-first over gate splits of all targets; returns a lower bound of the distance."""
        small = self._compact(radius)
        if small.gates > _GATES:
            return 0.0  # too many for the programs: the flip and the bound found so far stand
        programs = {t: distance_program(small, self.x, radius, q) for t, q in self.rows.items()}
        counter = itertools.count()
        heap: list[tuple[float, int, int, np.ndarray, Solution | None, Any]] = [
            (0.0, next(counter), t, np.zeros(small.gates, np.int8), None, None) for t in programs
        ]
        heapq.heapify(heap)
        closed = np.inf  # least bound of a leaf that was let go: nothing returned may lie above it
        while heap and time.perf_counter() < self.stop:
            bound, _, target, fixed, found, basis = heapq.heappop(heap)
            if bound >= self._goal():
                return min(bound, closed, self.upper)
            if self.upper < 0.97 * radius and found is None and bound > 0:
                return min(bound, closed)  # a smaller ball gives tighter relaxations
            if found is None:
                found = programs[target].solve(fixed, basis, self.stop)
                self.nodes += 1
                if found.x is not None:
                    self._try(found.x)
                new = max(bound, found.bound)
                if np.isfinite(new):
                    heapq.heappush(heap, (new, next(counter), target, fixed, found, None))
                self.tell(bound, self.upper)
                continue
            free = np.flatnonzero(fixed == 0)
            if not len(free):
                self._deepen(small, target, fixed)
                if bound < self._goal():
                    return min(bound, closed, self.upper)  # a leaf whose point no replay confirms: the honest bound
                closed = min(closed, bound)
                continue
            gate = free[int(np.argmax(found.gap[free]))]
            for phase in (ON, OFF):
                child = fixed.copy()
                child[gate] = phase
                heapq.heappush(heap, (bound, next(counter), target, child, None, found.basis))
        return min([h[0] for h in heap] + [closed, self.upper])

    def _deepen(self, small: Any, target: int, fixed: np.ndarray) -> None:
        """A leaf's nearest point ties, and going on along its ray may lose the tie: ask for points a little beyond the boundary."""
        for level in (1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4):
            found = distance_program(small, self.x, self.upper, self.rows[target], level).solve(fixed, stop=self.stop)
            self.nodes += 1
            if found.x is not None and self._try(found.x):
                return


def _direction(outputs: int, source: int, target: int) -> Array:
    """q with q . y >= 0 exactly where `target` beats `source`."""
    if outputs == 1:
        return np.array([1.0 if target == 1 else -1.0])
    q = np.zeros(outputs)
    q[target], q[source] = 1.0, -1.0
    return q
