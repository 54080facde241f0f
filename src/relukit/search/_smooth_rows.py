r"""Lower bounds of rows of any network over a box, with the lines around each activation optimized for each row.

A line with slope a below f on [l, u] has the intercept :math:`c(a) = \min f(x) - a x`, which is concave in a; the bound of a row
grows with a as :math:`\lambda (\hat z - x^*)`: the coefficient times the distance between the unit's value at the relaxation's
minimizer and the place where the line touches f. One pass back and one forward give the slopes of all units, without autograd.
A split of a unit, z <= m or z >= m, enters with a multiplier of its own.

References:
    Neural Network Verification with Branch-and-Bound for General Nonlinearities, Shi et al., 2025. Beta-CROWN, Wang et al., 2021.
"""

import time
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from relukit._numerics import gamma, unit_roundoff
from relukit._types import Array, BoolArray, IntArray
from relukit.bounds._bounds import Bounds, undecided
from relukit.bounds._interval import lines
from relukit.bounds._linear import Sweep
from relukit.bounds._linear import _refine as refine
from relukit.network import Affine, Network
from relukit.network.curves import HalfLine, Pole
from relukit.piecewise import AbstractActivation, Smooth
from relukit.sets import Box

_BUDGET = 3e10  # multiplications that first bounds of one node may take
_NUMBERS = 1_500_000  # slopes of all lanes at once
_FAR = np.geomspace(8, 1e8, 600)
_GRID = np.concatenate([-_FAR[::-1], np.linspace(-8, 8, 4001), _FAR])  # where proposed lines touch, about; what certifies halves to the last bit
_RATE, _DECAY = 0.25, 0.93  # of the slopes' range, per step
_GROWTH = 0.5  # multipliers of conditions that cannot hold together grow without end
_EPS = 1e-12
_ENOUGH = 1e-5  # above 0: estimates are off by the tables' steps
_NUDGE = 1e-4  # of the range of slopes, to find where lines around waves and jumps touch


class Split(NamedTuple):
    """`z <= at` (side 1) or `z >= at` (side -1) for a unit's input z, which then lies in [low, high] (open where f jumps there)."""

    unit: int
    side: int
    at: float
    low: float
    high: float


@dataclass(eq=False)
class Lanes:
    """Rows of node `target`, each with lines of its own; units of all activations lie side by side.

    Arguments:
        start: Coefficients of the target's entries, `(k, size)`; `constant` is added to what they give.
        below, above: Slopes of the lines, `(k, units)`.
        low, high: Where the units' inputs lie, `(k, units)` or `(1, units)`.
        unit, side, at, beta: Splits and their multipliers, `(k, depth)`, unit -1 where there is none.
    """

    target: int
    start: Array
    constant: Array
    below: Array
    above: Array
    low: Array
    high: Array
    unit: IntArray
    side: Array
    at: Array
    beta: Array
    box: Box | None = None  # a part of the whole box for each lane

    def __len__(self) -> int:
        return len(self.start)

    def take(self, which: IntArray) -> "Lanes":
        """Some of them."""
        cut = lambda v: v[which] if len(v) > 1 or len(self) == 1 else v
        box = None if self.box is None else Box(self.box.lower[which], self.box.upper[which])
        return Lanes(self.target, *(cut(getattr(self, f.name)) for f in fields(self)[1:-1]), box)


class Found(NamedTuple):
    """Of each lane: a lower bound (nothing may rest on an estimated one), the minimizer, and of all units coefficients, inputs there and lines."""

    bound: Array
    x: Array
    coefficients: Array
    inputs: Array
    slopes: Array
    offsets: Array


class Rows:
    """Rows of one network over one box. `state` holds the bounds of all nodes known so far."""

    def __init__(self, network: Network, box: Box) -> None:
        self.network, self.box = network, box
        self.state = Sweep(network, box)
        sizes = [network.nodes[i].size for i in network.activations]
        edges = np.cumsum([0, *sizes]).tolist()
        self.spans = {i: slice(a, b) for i, a, b in zip(network.activations, edges, edges[1:])}
        self.units = int(edges[-1])
        self.owner = np.repeat(np.array(network.activations, np.int64), sizes)
        self._low, self._high = np.zeros(self.units), np.zeros(self.units)

    def followed(self, A: Array, b: Array) -> "Rows":
        """Rows `A y + b` of the outputs, on the bounds known so far."""
        found = Rows(self.network.append(A, b), self.box)
        found.state.lower, found.state.upper = list(self.state.lower), list(self.state.upper)
        found.state.lines = dict(self.state.lines)
        found.state.step(len(self.network))
        return found

    def sweep(self, steps: int, stop: float) -> None:
        """Bounds of all nodes, from the first to the last: by lines for all rows alike where there are none yet, else optimized for each.

        From `stop` on intervals, or the bounds known before, must do.
        """
        known = self.state.bounds() if len(self.state.lower) == len(self.network) else None
        self.state = Sweep(self.network, self.box)
        targets = {self.network.nodes[i].inputs[0] for i in self.network.activations}
        for i in range(1, len(self.network)):
            exact = self.state.step(i, known)
            if i not in targets or exact or time.perf_counter() > stop:
                continue
            if known is None:
                refine(self.state, i, False, _BUDGET)
            else:
                self._sharpen(i, steps, stop)

    def _sharpen(self, target: int, steps: int, stop: float) -> None:
        """Optimized bounds of a node's entries, as far as they can decide something."""
        low, high = self.state.lower[target].copy(), self.state.upper[target].copy()
        open_ = np.zeros(len(low), bool)
        for i in self.network.consumers[target]:
            op = self.network.nodes[i].op
            open_ |= undecided(op, low, high) & (low < high) if isinstance(op, AbstractActivation) else False
        rows, block = np.flatnonzero(open_), max(_NUMBERS // (2 * (self.units + self.network.inputs)), 8)
        for k in range(0, len(rows), block):
            if time.perf_counter() > stop:
                break
            part = rows[k : k + block]
            start = np.zeros((2 * len(part), len(low)))
            start[np.arange(len(start)), np.tile(part, 2)] = np.repeat([1.0, -1.0], len(part))
            lanes = self.lanes(target, start, np.zeros(len(start)))
            self.ascend(lanes, steps, stop, np.inf)
            found = self.certify(lanes)
            a, c = np.maximum(low[part], found[: len(part)]), np.minimum(high[part], -found[len(part) :])
            crossed = ~(a <= c)  # by rounding: the looser pair is the safe one
            low[part], high[part] = np.where(crossed, low[part], a), np.where(crossed, high[part], c)
        self.state.lower[target], self.state.upper[target] = low, high

    def op(self, index: int) -> AbstractActivation:
        op = self.network.nodes[index].op
        assert isinstance(op, AbstractActivation)
        return op

    def lanes(self, target: int, start: Array, constant: Array) -> Lanes:
        """Lanes with the lines that suit all rows, no splits yet; bounds of all nodes before `target` are known."""
        low, high, below, above = (np.zeros(self.units) for _ in range(4))
        for i, span in self.spans.items():
            if i < target or (i == target and i in self.state.lines):
                source, around = self.network.nodes[i].inputs[0], self.state.lines[i]
                low[span], high[span] = self.state.lower[source], self.state.upper[source]
                below[span], above[span] = around.lower_slope, around.upper_slope
        k, none = len(start), np.zeros((len(start), 0))
        spread = lambda v: np.repeat(v[None], k, axis=0)
        return Lanes(
            target, start, constant, spread(below), spread(above), low[None], high[None], none.astype(np.int64), none, none, none
        )  # fmt: skip

    def within(self, parts: Bounds, boxes: Box, which: IntArray, row: IntArray) -> Lanes:
        """Lanes for one output row in each of some boxes of a batch that `parts` bounds."""
        if len(self.state.lower) < len(self.network):  # the first batch is the whole box
            self.state.lower, self.state.upper = ([v[0] for v in side] for side in (parts.lower, parts.upper))
        k, none = len(which), np.zeros((len(which), 0))
        low, high, below, above = (np.zeros((k, self.units)) for _ in range(4))
        for i, span in self.spans.items():
            l, u = (v[which] for v in parts.before(i))
            around = lines(self.op(i), l, u)
            low[:, span], high[:, span], below[:, span], above[:, span] = l, u, around.lower_slope, around.upper_slope
        box = Box(boxes.lower[which], boxes.upper[which])
        target, start = len(self.network) - 1, np.eye(self.network.outputs)[row[which]]
        return Lanes(target, start, np.zeros(k), below, above, low, high, none.astype(np.int64), none, none, none, box)

    def ascend(self, lanes: Lanes, steps: int, stop: float = np.inf, enough: float = _ENOUGH) -> None:
        """Better lines and multipliers, in place."""
        ranges = self._ranges(lanes)
        best = np.full(len(lanes), -np.inf)
        kept = [lanes.below.copy(), lanes.above.copy(), lanes.beta.copy()]
        moments = [[np.zeros_like(v), np.zeros_like(v)] for v in kept]
        pace = np.zeros_like(lanes.beta)
        for k in range(steps):
            found, grads, scale = self._walk(lanes, exact=False, slopes=True)
            better = found.bound > best
            best = np.where(better, found.bound, best)
            for old, new in zip(kept, (lanes.below, lanes.above, lanes.beta)):
                old[better] = new[better]
            if np.all(best > enough) or time.perf_counter() > stop:
                break
            if k == 0:
                pace = 0.3 * scale + 1e-6
            reach = pace + _GROWTH * lanes.beta
            rate = _RATE * _DECAY**k
            low, width = ranges
            values = (lanes.below, lanes.above, lanes.beta)
            for v, g, m, w in zip(values, grads, moments, (width, width, reach)):
                m[0] += 0.3 * (g - m[0])
                m[1] += 0.1 * (g * g - m[1])
                step = (m[0] / (1 - 0.7 ** (k + 1))) / (np.sqrt(m[1] / (1 - 0.9 ** (k + 1))) + _EPS)
                v += rate * w * step
            np.clip(lanes.below, low, low + width, out=lanes.below)
            np.clip(lanes.above, low, low + width, out=lanes.above)
            np.maximum(lanes.beta, 0, out=lanes.beta)
        for old, new in zip(kept, (lanes.below, lanes.above, lanes.beta)):
            new[:] = old

    def certify(self, lanes: Lanes) -> Array:
        """Sound bounds with the lines as they are."""
        return self._walk(lanes, exact=True, slopes=False)[0].bound

    def estimate(self, lanes: Lanes, inputs: bool = False) -> Found:
        """Bounds with the lines as they are that nothing may rest on, quickly."""
        return self._walk(lanes, exact=False, slopes=inputs)[0]

    def _ranges(self, lanes: Lanes) -> tuple[Array, Array]:
        """The least slope worth trying of each unit, and how far the largest lies above it."""
        low, width = np.zeros_like(lanes.low), np.zeros_like(lanes.low)
        for i, span in self.spans.items():
            if i < lanes.target:
                with np.errstate(all="ignore"):
                    tried = np.stack(self.op(i).candidate_slopes(*_finite(lanes.low[:, span], lanes.high[:, span])[:2]))
                tried = np.where(np.isfinite(tried), tried, 0.0)
                low[:, span], width[:, span] = tried.min(axis=0), np.ptp(tried, axis=0)
        return low, width

    @np.errstate(all="ignore")  # a curve may be unbounded: what is no number bounds nothing
    def _walk(self, lanes: Lanes, exact: bool, slopes: bool) -> tuple[Found, tuple[Array, Array, Array], Array]:
        """Back through the network, and forward again along the chosen lines for the slopes by all slopes and multipliers."""
        network, state, L = self.network, self.state, len(lanes)
        constant, error = lanes.constant.astype(np.float64), np.zeros(L)
        pending: dict[int, Array] = {lanes.target: lanes.start}
        coefficients, chosen, offset, touch = (np.zeros((L, self.units)) for _ in range(4))
        scale = np.zeros_like(lanes.beta)
        for i in range(lanes.target, 0, -1):
            rows = pending.pop(i, None)
            if rows is None:
                continue
            node = network.nodes[i]
            if isinstance(node.op, Affine):
                constant = constant + rows @ node.op.bias
                if exact:
                    terms = max(max(m.adjoint_terms for m in node.op.maps), node.size) + 4
                    error += gamma(terms) * (np.abs(rows) @ (state.weighted(i) + np.abs(node.op.bias)) + np.abs(constant))
                for m, j in zip(node.op.maps, node.inputs):
                    pending[j] = _join(pending.get(j), m.adjoint(rows))
                continue
            span, source = self.spans[i], node.inputs[0]
            positive = rows >= 0
            slope = np.where(positive, lanes.below[:, span], lanes.above[:, span])
            c, x = touching(self.op(i), slope, lanes.low[:, span], lanes.high[:, span], positive, exact)
            constant = constant + (rows * c).sum(axis=1)
            passed = rows * slope
            if exact:
                size = np.abs(rows)
                error += gamma(node.size + 4) * ((size * np.abs(c)).sum(axis=1) + np.abs(constant))
                error += 4 * unit_roundoff() * ((size * np.abs(slope)) @ state.reach(source))
            where, d = np.nonzero((lanes.unit >= span.start) & (lanes.unit < span.stop))
            if len(where):
                entry, push = lanes.unit[where, d] - span.start, lanes.side[where, d] * lanes.beta[where, d]
                scale[where, d] = np.abs(passed[where, entry]) + 1e-3 * np.abs(passed[where]).max(axis=1)
                np.add.at(passed, (where, entry), push)
                np.subtract.at(constant, where, push * lanes.at[where, d])
                if exact:
                    moved = state.reach(source)[entry] + np.abs(lanes.at[where, d])
                    # Rounding of the sums that take the multipliers up, at most as many as there are splits.
                    sums = gamma(2 * lanes.unit.shape[1] + 4)
                    np.add.at(error, where, sums * (np.abs(push) * moved + np.abs(passed[where, entry]) * moved + np.abs(constant[where])))
            coefficients[:, span], chosen[:, span], offset[:, span], touch[:, span] = rows, slope, c, x
            pending[source] = _join(pending.get(source), passed)
        at_input = pending.get(0, np.zeros((L, network.inputs)))
        box = self.box if lanes.box is None else lanes.box
        value = constant - (box.support(-at_input) if box is self.box else box.support(-at_input[:, None])[:, 0])
        if exact:
            value = value - (1.01 * error + 4 * unit_roundoff() * (np.abs(constant) + np.abs(value)))
        value = np.where(np.isnan(value), -np.inf, value)
        x = np.where(at_input >= 0, box.lower, box.upper)
        if not slopes:
            none = np.zeros((L, 0))
            return Found(value, x, coefficients, none, chosen, offset), (none, none, none), scale
        inputs = self._forward(lanes.target, x, chosen, offset)
        rise = np.nan_to_num(coefficients * (inputs - touch), nan=0.0, posinf=0.0, neginf=0.0)
        taken = np.take_along_axis(inputs, np.maximum(lanes.unit, 0), axis=1)
        grads = (np.where(coefficients >= 0, rise, 0), np.where(coefficients < 0, rise, 0), lanes.side * (taken - lanes.at) * (lanes.unit >= 0))  # fmt: skip
        return Found(value, x, coefficients, inputs, chosen, offset), grads, scale

    def _forward(self, target: int, x: Array, chosen: Array, offset: Array) -> Array:
        """What each unit's input is where all activations are the chosen lines."""
        network, values, inputs = self.network, [x], np.zeros_like(chosen)
        for i in range(1, target + 1):
            node = network.nodes[i]
            if isinstance(node.op, Affine):
                values.append(node.op(*(values[j] for j in node.inputs)))
                continue
            span, z = self.spans[i], values[node.inputs[0]]
            inputs[:, span] = z
            values.append(chosen[:, span] * z + offset[:, span])
        return inputs


def _join(known: Array | None, more: Array) -> Array:
    return more if known is None else known + more


def _finite(low: Array, high: Array) -> tuple[Array, Array, BoolArray]:
    known = np.isfinite(low) & np.isfinite(high)
    return np.where(known, low, 0.0), np.where(known, high, 0.0), known


def touching(
    op: AbstractActivation, slope: Array, low: Array, high: Array, below: Array, exact: bool
) -> tuple[Array, Array]:
    """Intercepts of lines below (or above) the graph, outward rounded where `exact`, and about where they touch it."""
    low, high, known = _finite(low, high)
    if not exact and isinstance(op, Smooth) and not (isinstance(op, Pole) and np.any((low <= 0) & (high >= 0))):
        if isinstance(op, HalfLine):
            low, high = np.maximum(low, 1e-300), np.maximum(high, 1e-300)
        c, x = _nearly(op, slope, low, high, below)
    else:
        low, high = np.broadcast_arrays(low, high)
        lower, upper = op.intercepts(slope, low, high)
        c = np.where(below, lower, upper)
        if exact:
            x = np.zeros_like(c)
        else:
            nudge = _NUDGE * (1 + np.abs(slope))
            ends = [op.intercepts(slope + s, low, high) for s in (nudge, -nudge)]
            x = np.clip(-np.where(below, ends[0][0] - ends[1][0], ends[0][1] - ends[1][1]) / (2 * nudge), low, high)
    return np.where(known, c, np.where(below, -np.inf, np.inf)), x


def _nearly(op: Smooth, slope: Array, low: Array, high: Array, below: Array) -> tuple[Array, Array]:
    """About the least (or largest) gap between a smooth activation and a line, and where it is, from tables of its slopes."""
    sign, best, at = np.where(below, 1.0, -1.0), np.inf, low
    ends = [-np.inf, *op.inflections, np.inf]
    points = [low, high]
    for (left, right), (slopes, places) in zip(zip(ends[:-1], ends[1:]), _tables(op)):
        if not len(slopes):
            continue
        a, b = np.clip(left, low, high), np.clip(right, low, high)
        points.append(np.clip(np.interp(slope, slopes, places), a, b))
    for x in points:
        gap = sign * (op.value(x) - slope * x)
        less = gap < best
        best, at = np.where(less, gap, best), np.where(less, x, at)
    loose = op.loose * (np.abs(best) + 1e-3) if op.loose else 0.0
    return sign * (best - loose), at


def _tables(op: Smooth) -> list[tuple[Array, Array]]:
    """For each stretch between inflections the places where the derivative takes some values, which rise."""
    known = op.__dict__.setdefault("_places", [])
    if not known:
        ends = [-np.inf, *op.inflections, np.inf]
        for left, right in zip(ends[:-1], ends[1:]):
            with np.errstate(all="ignore"):
                x = np.unique(np.clip(_GRID, left, right))
                slopes = op.slope(x)
            kept = np.isfinite(slopes)
            x, slopes = x[kept], slopes[kept]
            slopes, first = np.unique(slopes, return_index=True)
            known.append((slopes, x[first]))
    return known
