"""Points that satisfy constraints, brought near to a given one by steps to linearized constraints and by programs on linear pieces."""

import time
from collections.abc import Callable

import numpy as np

from relukit._types import Array
from relukit.bounds import compact, linear
from relukit.network import Affine, Network, Node
from relukit.network.affine import Dense, Scale
from relukit.optimization._incumbent import FEASIBLE
from relukit.optimization._nearest_step import piece_of, shortest_step, size_of
from relukit.optimization._problem import Problem
from relukit.sets import AbstractSet, Ball, Box

_MARGIN = 3e-7  # steps aim so far inside a constraint, as a share of its terms: float32 is to agree
_ROUNDS, _CLIMB = 10, 25
_REACH = 0.15  # of the box's width: the first step of a climb
_SHARES = np.array([1.0, 0.75, 0.5, 0.35, 0.25, 0.12, 0.06])  # of a step to linearized constraints
_GATES = 600  # of a piece at most: its program costs more than it brings beyond
_UNITS = 5_000  # a larger network is not written out to find its piece


class NearestPoint:
    """The nearest feasible point so far.

    Arguments:
        problem: Its constraints, integers and categories; its goal is not read.
        point: Distances are from here, shape `(n,)`.
        norm: 1, 2 or `inf`, of `(x - point) / scale`.
        tolerance: Share of the distance that counts as nothing.
        stop: Wall-clock time to stop at (`time.perf_counter`).
        on_better: Called when a nearer point is kept.
    """

    def __init__(
        self, problem: Problem, point: Array, norm: float, scale: Array, tolerance: float, stop: float, on_better: Callable[[], None]
    ) -> None:  # fmt: skip
        self.problem, self.point, self.norm, self.scale = problem, point, norm, scale
        self.tolerance, self.stop, self.on_better = tolerance, stop, on_better
        self.plain = bool(np.all(scale == 1))
        self.rows = _rows_over_steps(problem, point, scale, self.plain)
        self.upper, self.witness = np.inf, None

    def slack(self) -> float:
        return self.tolerance * max(self.upper, 1e-6)

    def region(self, lower: Array, upper: Array, radius: float) -> AbstractSet | None:
        """Steps in a ball that stay in a part of the box; None where there are none.

        For x in a box whose nearest point to p is c, |x - p|_1 = |x - c|_1 + |c - p|_1 and |x - p|_2^2 is at least the sum of the squares.
        """
        if self.plain:
            low, high, middle = lower, upper, self.point
        else:
            outward = 4e-16 * (np.abs(self.point) + np.maximum(np.abs(lower), np.abs(upper))) / self.scale
            low, high = (lower - self.point) / self.scale - outward, (upper - self.point) / self.scale + outward
            low, high, middle = (
                np.where(low == -outward, 0.0, low),
                np.where(high == outward, 0.0, high),
                np.zeros(len(low)),
            )
        if self.norm == np.inf:
            reach = radius + 4e-16 * (radius + np.abs(middle))
            low, high = np.maximum(low, middle - reach), np.minimum(high, middle + reach)
            return None if np.any(low > high) else Box(low, high)
        center = np.clip(middle, low, high)
        spent = size_of(center - middle, self.norm) * (1 - 1e-12)
        if spent > radius:
            return None
        left = radius - spent if self.norm == 1 else np.sqrt(max(radius**2 - spent**2, 0.0))
        return Ball(center, left * (1 + 1e-12) + 1e-14 * radius + 1e-300, self.norm, Box(low, high))

    def keep(self, x: Array) -> bool:
        """Keep a point that is feasible and nearer than the one so far."""
        problem = self.problem
        x = problem.box.project(x)
        if len(problem.integers) or problem.groups:  # whole again after rounding
            rounded = problem.rounded(x, problem.box.lower, problem.box.upper)
            if rounded is None:
                return False
            x = rounded
        distance = self.distance(x)
        if not distance < self.upper:
            return False
        y = self.problem.network(x[None])[0]
        if any(c.violation(x, y) / (c.linear.size(x, y) + 1e-6) > FEASIBLE for c in self.problem.constraints):
            return False
        self.upper, self.witness = distance, x.copy()
        self.on_better()
        return True

    def improve(self, x: Array) -> None:
        """Steps to linearized constraints from x, then programs on the linear piece of the nearest point that they reached."""
        lower, upper = self.problem.box.lower, self.problem.box.upper
        if len(self.problem.integers) or self.problem.groups:
            rounded = self.problem.rounded(x.copy(), lower, upper)
            if rounded is None:
                return
            x, lower, upper = rounded, lower.copy(), upper.copy()
            held = np.concatenate([self.problem.integers, *(g.members for g in self.problem.groups)]).astype(int)
            lower[held] = upper[held] = x[held]
        before, x = self.upper, np.clip(x, lower, upper)
        x = self._towards(self._climb(x, lower, upper))
        low, high = (lower - self.point) / self.scale, (upper - self.point) / self.scale
        for _ in range(_ROUNDS):
            u = (x - self.point) / self.scale
            value, J = self._linearized(x)
            d = shortest_step(J, J @ u - value, low, high, self.norm)
            if d is None:
                break
            way = self.point + self.scale * (u + _SHARES[:, None] * (d - u))
            inside = np.flatnonzero(self._feasible(way, x))
            nearer = [k for k in inside if self.distance(way[k]) < self.distance(x) or value.max() > 0]
            moved = way[min(nearer, key=lambda k: self.distance(way[k]))] if nearer else way[0]
            if value.max() <= 0 and not nearer:
                break
            x = self._towards(moved) if nearer else moved
        while self.upper < before and time.perf_counter() < self.stop:
            before = self.upper - 1e-3 * self.slack()
            self._piece(low, high)

    def _climb(self, x: Array, lower: Array, upper: Array) -> Array:
        """From x against the worst row until all hold, by steps that shrink."""
        size = _REACH * (upper - lower)
        for k in range(_CLIMB):
            value, J = self._linearized(x)
            if value.max() <= 0:
                return x
            slope = J[int(value.argmax())] / self.scale * size
            step = slope / (np.abs(slope).max(initial=0.0) + 1e-300)
            x = np.clip(x - 0.9**k * size * step, lower, upper)
        return x

    def _towards(self, x: Array) -> Array:
        """The point nearest to the start, of those on the way to x that are feasible; kept where it is the nearest so far."""
        low, high = 0.0, 1.0
        if not self._feasible(x[None], x)[0]:
            self.keep(x)
            return x
        for _ in range(3):
            shares = np.linspace(low, high, 17)
            way = self.point + shares[:, None] * (x - self.point)
            if len(self.problem.integers) or self.problem.groups:
                break
            first = int(np.argmax(self._feasible(way, x)))
            low, high = shares[max(first - 1, 0)], shares[first]
        best = self.point + high * (x - self.point)
        self.keep(best)
        return best

    def _feasible(self, points: Array, x: Array) -> Array:
        """Which points satisfy all rows, a little inside; x is near them."""
        at = points if self.plain else (points - self.point) / self.scale
        box = self.problem.box
        inside = np.all((points >= box.lower) & (points <= box.upper), axis=1)
        return inside & (self.rows(at) + self._margin(x) <= 0).all(axis=1)

    def distance(self, x: Array) -> float:
        return size_of((x - self.point) / self.scale, self.norm)

    def _linearized(self, x: Array) -> tuple[Array, Array]:
        """Rows and their slopes over steps at x, moved inside a little."""
        at = x if self.plain else (x - self.point) / self.scale
        value = self.rows(at[None])[0]
        J = self.rows.gradient(np.repeat(at[None], len(value), axis=0), np.eye(len(value)))
        return value + self._margin(x), J

    def _margin(self, x: Array) -> Array:
        y, sizes = self.problem.network(x[None])[0], []
        for c in self.problem.constraints:
            size = c.linear.size(x, y) + 1e-6
            sizes += [-0.9 * FEASIBLE * size] * 2 if c.equal else [_MARGIN * size]
        return np.array(sizes)

    def _piece(self, low: Array, high: Array) -> None:
        """The nearest point of the incumbent's own linear piece."""
        assert self.witness is not None
        box = self.problem.box
        if self.rows.units > _UNITS:
            return
        region = self.region(box.lower, box.upper, self.upper * (1 + 1e-9) + 1e-12)
        if region is None:
            return
        small = compact(self.rows, region, linear(self.rows, region))
        if small.gates > _GATES:
            return
        at = self.witness if self.plain else (self.witness - self.point) / self.scale
        Y, y, P, p = piece_of(small, at)
        base = self.point if self.plain else np.zeros(len(at))
        J, right = np.vstack([Y, P]), np.r_[-y - self._margin(self.witness), p]
        d = shortest_step(J, right - J @ base, low, high, self.norm)
        if d is not None:
            self.keep(self.point + self.scale * d)


def _rows_over_steps(problem: Problem, point: Array, scale: Array, plain: bool) -> Network:
    """The left sides of all constraints (an equality gives two) over x, or where there is a scale over `(x - point) / scale`."""
    parts = [
        part for c in problem.constraints for part in ([c.linear, c.linear.times(-1.0)] if c.equal else [c.linear])
    ]
    inputs, outputs = np.array([p.inputs for p in parts]), np.array([p.outputs for p in parts])
    bias, network = np.array([p.constant for p in parts]), problem.network
    if plain and not np.any(inputs):
        return network.append(outputs, bias)
    nodes = list(network.nodes)
    if not plain:
        first = Node(Affine((Scale(scale),), point), (0,), (network.inputs,), "from steps")
        shifted = [Node(n.op, tuple(j + 1 for j in n.inputs), n.shape, n.name, n.source) for n in nodes[1:]]
        nodes = [nodes[0], first, *shifted]
    maps, sources = [Dense(outputs)], [len(nodes) - 1]
    if np.any(inputs):
        maps.append(Dense(inputs))
        sources.append(0 if plain else 1)
    nodes.append(Node(Affine(tuple(maps), bias), tuple(sources), (len(parts),), "constraints"))
    return Network(tuple(nodes), network.notes, "", network.dtype)
