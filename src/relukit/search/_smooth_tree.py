"""Branch and bound over the inputs of activations of any kind: knots, jumps, and places inside a curve.

A node of the tree holds some units on one side of a place each; the multipliers of these conditions and all lines are optimized
for every node, and the lines of its parent are where that starts.
"""

import heapq
import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from relukit._types import Array, IntArray
from relukit.network.curves import Jump
from relukit.piecewise import AbstractActivation, PiecewiseLinear
from relukit.search._smooth_rows import Found, Lanes, Rows, Split

_NUMBERS = 400_000  # slopes of all leaves that are split at once
_WIDTH = 32  # leaves split at once at most
_TRIED = 4  # splits that are tried for each of them
_STEPS, _ROOT, _LAST = 8, 30, 100  # of slopes at a node, at the root, and where nothing is left to split
_PLACES = (0.1, 0.3, 0.5, 0.7, 0.9)  # shares of an interval at which the gap of a line is looked at
_INNER = 0.25  # of an interval: curves are split no nearer to its ends
_LEAST = 2.0**-1074  # inputs of a jump that are just not 0
_KEPT = 100_000_000  # slopes of leaves that are kept; others go on from the root's
_CHOICES = 3  # rows of a question up to which every one is tried at every node


class Try(NamedTuple):
    """A unit, where to split it, and the coefficient and line that it has at the node."""

    unit: int
    place: float
    weight: float
    slope: float


class Leaf(NamedTuple):
    """A node still open: its splits with their multipliers, its lines (None: those of the root), its row, and where to split it."""

    splits: tuple[Split, ...]
    beta: Array
    lines: tuple[Array, Array] | None
    row: int
    tries: list[Try]


class Part(NamedTuple):
    """A node to be: its parent, all its splits, and the coefficient and line that the unit split last has at the parent."""

    leaf: Leaf
    splits: tuple[Split, ...]
    weight: float
    slope: float


class Tree:
    """Whether all rows can be at most 0 at once.

    Arguments:
        rows: The question's rows over its box.
        confirm: Called with minimizers `(k, n)`; returns a point that counts as a counterexample, or None.
    """

    def __init__(self, rows: Rows, confirm: Callable[[Array], Array | None]) -> None:
        self.rows, self.confirm = rows, confirm
        self.nodes, self.stuck = 0, 0
        self.heap: list[tuple[float, int, Leaf]] = []
        self._number, self._kept = itertools.count(), 0
        self.level, self.root = -np.inf, (np.zeros(0), np.zeros(0))
        self.choices = np.eye(rows.network.outputs)

    @property
    def width(self) -> int:
        return int(np.clip(_NUMBERS // max(self.rows.units, 1), 1, _WIDTH))

    def plant(self, stop: float) -> Array | None:
        """Bound the rows over the whole box, each with lines of its own; a point that counts, or None."""
        network = self.rows.network
        self.heap, target = [], len(network) - 1
        if len(self.choices) > 1:
            self.choices = np.concatenate([self.choices, np.full((1, len(self.choices)), 1 / len(self.choices))])
        lanes = self.rows.lanes(target, self.choices, np.zeros(len(self.choices)))
        self.rows.ascend(lanes, _ROOT, stop)
        bound = self.rows.certify(lanes)
        best = int(bound.argmax())
        self.nodes += len(lanes)
        self.level = float(bound[best])
        self.root = (lanes.below[best].copy(), lanes.above[best].copy())
        if self.level > 0:
            return None
        if len(self.choices) > _CHOICES + 1:
            self.choices = self.choices[best : best + 1]
        which = np.array([best])
        return self._hang(lanes.take(which), which, [()])

    def grow(self, stop: float) -> Array | None:
        """Split the leaves with the lowest bounds; a point that counts, or None."""
        chosen = [heapq.heappop(self.heap)[2] for _ in range(min(self.width, len(self.heap)))]
        self._kept -= sum(2 * self.rows.units for leaf in chosen if leaf.lines is not None)
        splits = self._best_splits(chosen)
        self._finish([leaf for leaf, parts in zip(chosen, splits) if not parts], stop)
        children = [part for parts in splits for part in parts]
        if not children:
            self.level = min((h[0] for h in self.heap), default=np.inf)
            return None
        C = len(self.choices)
        lanes, _ = self._started([c for c in children for _ in range(C)], np.tile(self.choices, (len(children), 1)))
        self.rows.ascend(lanes, _STEPS, stop)
        self.nodes += len(children)
        bound = self.rows.estimate(lanes).bound if C > 1 else np.zeros(len(lanes))
        best = bound.reshape(-1, C).argmax(axis=1)
        hit = self._hang(lanes.take(best + C * np.arange(len(children))), best, [c.splits for c in children])
        self.level = min((h[0] for h in self.heap), default=np.inf)
        return hit

    def _finish(self, leaves: list[Leaf], stop: float) -> None:
        """Nodes without a unit to split: their multipliers may still show that their conditions exclude each other."""
        parts = [Part(leaf, leaf.splits, 0.0, 0.0) for leaf in leaves if leaf.splits]
        self.stuck += len(leaves) - len(parts)
        if parts:
            lanes = self._lanes(parts, np.array([self.choices[p.leaf.row % len(self.choices)] for p in parts]))
            self.rows.ascend(lanes, _LAST, stop)
            self.stuck += int(np.sum(~(self.rows.certify(lanes) > 0)))

    def _hang(self, lanes: Lanes, rows: IntArray, splits: list[tuple[Split, ...]]) -> Array | None:
        """Keep what is not proven; a minimizer that counts, or None."""
        found = self.rows.estimate(lanes, inputs=True)
        bound, proven = found.bound, np.zeros(len(lanes), bool)
        likely = np.flatnonzero(bound > 0)
        if len(likely):
            proven[likely] = self.rows.certify(lanes.take(likely)) > 0
        open_ = np.flatnonzero(~proven)
        if not len(open_):
            return None
        tries = self._tries(lanes.take(open_), Found(*(v[open_] for v in found)))
        for k, mine in zip(open_.tolist(), tries):
            lines = None
            if self._kept + 2 * self.rows.units < _KEPT:
                lines = (lanes.below[k].astype(np.float32), lanes.above[k].astype(np.float32))
                self._kept += 2 * self.rows.units
            leaf = Leaf(splits[k], lanes.beta[k, : len(splits[k])].copy(), lines, int(rows[k]), mine)
            heapq.heappush(self.heap, (min(float(bound[k]), 0.0), next(self._number), leaf))
        return self.confirm(found.x[open_])

    def _tries(self, lanes: Lanes, found: Found) -> list[list[Try]]:
        """Units whose lines lose most at each node, and where to split them."""
        low, high = lanes.low, lanes.high
        loss, places = (np.zeros(found.slopes.shape) for _ in range(2))
        near = np.clip(found.inputs, low, high)
        with np.errstate(all="ignore"):
            for i, span in self.rows.spans.items():
                op, l, h = self.rows.op(i), low[:, span], high[:, span]
                size, a, c = np.abs(found.coefficients[:, span]), found.slopes[:, span], found.offsets[:, span]
                gaps = [np.abs(op.fast(z) - a * z - c) for z in (*(l + t * (h - l) for t in _PLACES), near[:, span])]
                places[:, span] = _place(op, l, h, near[:, span])
                inside = (places[:, span] > l) & (places[:, span] < h) & np.isfinite(h - l)
                loss[:, span] = np.where(inside, size * (sum(gaps[:-1]) / len(_PLACES) + gaps[-1]), 0.0)
        loss = np.nan_to_num(loss, nan=0.0, posinf=0.0)
        tried = min(_TRIED, loss.shape[1])
        top = np.argpartition(-loss, tried - 1, axis=1)[:, :tried]
        made = lambda k, u: Try(int(u), float(places[k, u]), float(found.coefficients[k, u]), float(found.slopes[k, u]))
        return [[made(k, u) for u in top[k] if loss[k, u] > 0] for k in range(len(loss))]

    def _best_splits(self, leaves: list[Leaf]) -> list[list[Part]]:
        """For each leaf the parts of the split whose worst part is best, by bounds with the parent's lines."""
        tried = [[self._parts(leaf, t) for t in leaf.tries] for leaf in leaves]
        parts = [part for options in tried for option in options for part in option]
        if not parts:
            return [[] for _ in leaves]
        rows = np.array([self.choices[part.leaf.row % len(self.choices)] for part in parts])
        value = np.minimum(self._started(parts, rows)[1], 0.0).tolist()
        found: list[list[Part]] = []
        for options in tried:
            best, chosen = -np.inf, []
            for option in options:
                mine, value = value[: len(option)], value[len(option) :]
                worth = min(mine) + 1e-3 * sum(mine)
                if worth > best or not chosen:
                    best, chosen = worth, option
            found.append(chosen)
        return found

    def _parts(self, leaf: Leaf, t: Try) -> list[Part]:
        """The parts that a unit is split into: two, or at a jump as many as it has values."""
        low, high = self._interval(leaf, t.unit)
        op, unit, place = self.rows.op(int(self.rows.owner[t.unit])), t.unit, t.place
        if not isinstance(op, Jump):
            parts = [(Split(unit, 1, place, low, place),), (Split(unit, -1, place, place, high),)]
        else:
            left = Split(unit, 1, 0.0, low, 0.0 if op.middle == op.left else -_LEAST)
            right = Split(unit, -1, 0.0, 0.0 if op.middle == op.right else _LEAST, high)
            parts = [(left,), (right,)]
            if op.middle not in (op.left, op.right):
                parts.append((Split(unit, 1, 0.0, 0.0, 0.0), Split(unit, -1, 0.0, 0.0, 0.0)))
        return [Part(leaf, (*leaf.splits, *part), t.weight, t.slope) for part in parts]

    def _interval(self, leaf: Leaf, unit: int) -> tuple[float, float]:
        for split in reversed(leaf.splits):
            if split.unit == unit:
                return split.low, split.high
        source = self.rows.network.nodes[int(self.rows.owner[unit])].inputs[0]
        entry = unit - self.rows.spans[int(self.rows.owner[unit])].start
        return float(self.rows.state.lower[source][entry]), float(self.rows.state.upper[source][entry])

    def _started(self, parts: list[Part], rows: Array) -> tuple[Lanes, Array]:
        """One lane for each part, with its parent's lines or new ones at the unit split last: what is better; and about its bound."""
        lanes, other = (self._lanes(parts, rows, fresh) for fresh in (True, False))
        value, kept = (np.nan_to_num(self.rows.estimate(v).bound, nan=-np.inf) for v in (lanes, other))
        for a, b in ((lanes.below, other.below), (lanes.above, other.above), (lanes.beta, other.beta)):
            a[kept > value] = b[kept > value]
        return lanes, np.maximum(value, kept)

    def _lanes(self, parts: list[Part], rows: Array, fresh: bool = True) -> Lanes:
        """One lane for each part, with its parent's lines except at the unit split last: there `fresh` or such that it is no worse."""
        lanes, L = self.rows.lanes(len(self.rows.network) - 1, rows, np.zeros(len(rows))), len(parts)
        depth = max(len(p.splits) for p in parts)
        lanes.low, lanes.high = (np.repeat(v, L, axis=0) for v in (lanes.low, lanes.high))
        lanes.unit, lanes.side = np.full((L, depth), -1), np.zeros((L, depth))
        lanes.at, lanes.beta = np.zeros((L, depth)), np.zeros((L, depth))
        for k, (leaf, splits, _, _) in enumerate(parts):
            lanes.below[k], lanes.above[k] = leaf.lines or self.root
            lanes.beta[k, : len(leaf.beta)] = leaf.beta
            for d, s in enumerate(splits):
                lanes.unit[k, d], lanes.side[k, d], lanes.at[k, d] = s.unit, s.side, s.at
                lanes.low[k, s.unit], lanes.high[k, s.unit] = s.low, s.high
        for i in np.unique(self.rows.owner[[p.splits[-1].unit for p in parts]]):
            self._start(lanes, [k for k, p in enumerate(parts) if self.rows.owner[p.splits[-1].unit] == i], parts, int(i), fresh)
        return lanes

    def _start(self, lanes: Lanes, which: list[int], parts: list[Part], index: int, fresh: bool) -> None:
        """Lines of the units split last, those of one activation.

        A line with another slope leaves the difference to the split's multiplier, if that has the sign for it, after which what counts
        is its height at the place of the split. Else the parent's slope stays, unless they are to be new: no part is worse than its parent.
        """
        mine = np.array(which)
        unit = np.array([parts[k].splits[-1].unit for k in which])
        weight, slope, place = (np.array(v) for v in zip(*((parts[k].weight, parts[k].slope, parts[k].splits[-1].at) for k in which)))
        op, low, high = self.rows.op(index).take(unit - self.rows.spans[index].start), lanes.low[mine, unit], lanes.high[mine, unit]
        below = weight >= 0
        with np.errstate(all="ignore"):
            around, kept = op.lines(low, high), op.intercepts(slope, low, high)
        new = np.where(below, around.lower_slope, around.upper_slope)
        gain = new * place + np.where(below, around.lower_intercept, around.upper_intercept)
        gain = np.where(below, 1.0, -1.0) * (gain - slope * place - np.where(below, *kept))
        side = np.array([0 if len(parts[k].splits) - len(parts[k].leaf.beta) > 1 else parts[k].splits[-1].side for k in which])
        takes = (gain > 0) & (side * weight * (slope - new) >= 0)  # a unit held at one value has a multiplier of either sign
        new = np.where(takes | (weight == 0) | fresh, new, slope)
        lanes.below[mine, unit] = np.where(below, new, around.lower_slope)
        lanes.above[mine, unit] = np.where(below, around.upper_slope, new)
        for k, lack in zip(which, weight * (slope - new)):
            leaf, splits = parts[k].leaf, parts[k].splits
            old = len(leaf.beta)
            lanes.beta[k, old : len(splits)] = np.maximum([s.side * lack for s in splits[old:]], 0.0)


def _place(op: AbstractActivation, low: Array, high: Array, near: Array) -> Array:
    """Where to split units: at a jump or knot, of a curve where the relaxation's minimizer is, not too near to an end."""
    if isinstance(op, Jump):
        return np.zeros_like(near)
    if isinstance(op, PiecewiseLinear) and len(op.knots):
        knots = np.array([np.broadcast_to(t, near.shape) for t in op.knots])
        inside = (knots > low) & (knots < high)
        away = np.where(inside, np.abs(knots - near), np.inf)
        return np.take_along_axis(knots, away.argmin(axis=0)[None], axis=0)[0]
    width = high - low
    return np.clip(near, low + _INNER * width, high - _INNER * width)

