r"""Networks for tables: the fewest hinges, and forms that stay accurate in float32.

The sum of hinges :math:`ax + c + \sum_j w_j \max(0, x - t_j)` has the fewest units. Far from its first knot it adds large numbers
that cancel: with 1,000 rough knots float32 loses all but two digits. Hats do not cancel. With ramps
:math:`r_i = \max(0, x - x_i)`, whose relative error is one rounding, the hat of knot i is

.. math:: \varphi_i = \max\left(0, \frac{r_{i-1}}{h_{i-1}} - \left(\frac1{h_{i-1}} + \frac1{h_i}\right) r_i\right),

and :math:`f = \sum_i y_i \varphi_i` has at most two terms that are not 0 at any x. The error is a few roundings of the two values
beside x, whatever the number of knots. Beyond knot i + 1 the bracket is negative by a margin, so that rounding cannot wake it.

Where the next interval is much longer than the last, the bracket cancels; such knots use
:math:`\max(0, 1 - r_i/h_i - \max(0, x_i - x)/h_{i-1})` instead, one more unit.

Knots that float32 cannot hold move by half a unit in the last place, which steep pieces turn into an error. There, ramps are made in
two steps: :math:`\max(0, x - c)` from an anchor c that float32 does hold, at most a few intervals to the left, then
:math:`\max(0, \cdot - (x_i - c))`, whose constant is small and so rounds to almost nothing.
"""

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from relukit._types import Array, IntArray
from relukit.construction._table import Table
from relukit.network import Network
from relukit.network.affine import Dense, Sparse
from relukit.network.rewrite import RELU, Builder

_RATIO = (
    2.0  # of neighboring intervals from which a hat gets its own left ramp: below, its bracket loses at most 3 bits
)
_SHORT = 34  # points up to which every center is tried
_GROUP = 3  # knots that share an anchor: the anchor's rounding counts as many times


def hinges(table: Table, skip: bool = True, center: int | None = None) -> Network:
    """One hidden layer: k hinges and a line beside them, or k + 1 units without that skip connection.

    Arguments:
        center: The inner point (1 .. n - 2) from which hinges point outward; by default where they cancel least.
    """
    slopes = table.exact_slopes
    jumps = [b - a for a, b in zip(slopes, slopes[1:])]
    return _hinges_from(table, slopes, jumps, _middle(table, jumps) if center is None else center, skip)


def centers(table: Table) -> list[int | None]:
    """Centers worth measuring: all of a short table, else the one where hinges cancel least."""
    return [*range(1, len(table) - 1)] if 2 < len(table) <= _SHORT else [None]


def _middle(table: Table, jumps: list[Fraction]) -> int:
    """The knot (1 .. n - 2) from which hinges point outward: where their sizes at both ends are smallest."""
    if not jumps:
        return 0
    w, t = np.abs([float(j) for j in jumps]), table.x[1:-1]
    # sum of |w_j| |x_c - t_j| measures what cancels when the knots are far from the center
    left = np.cumsum(w) * t - np.cumsum(w * t)
    right = (np.cumsum((w * t)[::-1]) - np.cumsum(w[::-1]) * t[::-1])[::-1]
    return int(np.argmin(left + right)) + 1


def _hinges_from(table: Table, slopes: list[Fraction], jumps: list[Fraction], c: int, skip: bool) -> Network:
    x, y = table.fractions
    n = len(x)
    sign: list[float] = []
    knots: list[Fraction] = []
    weights: list[Fraction] = []
    for j in range(1, n - 1):
        if j == c and not skip:
            continue
        sign.append(1.0 if j > c else -1.0)
        knots.append(x[j])
        weights.append(jumps[j - 1])
    base = slopes[c] if c < n - 1 else slopes[-1]
    if not skip:  # the knot in the middle carries both slopes
        c = min(max(c, 0), n - 1)
        before = slopes[c - 1] if c > 0 else slopes[0]
        sign += [-1.0, 1.0]
        knots += [x[c], x[c]]
        weights += [-before, base]
        keep = [k for k, w in enumerate(weights) if w != 0] or [0]
        sign, knots, weights = [sign[k] for k in keep], [knots[k] for k in keep], [weights[k] for k in keep]
    builder = Builder((1,))
    bias = np.array([-s * float(t) for s, t in zip(sign, knots)])
    parts, maps = [], []
    if skip:
        parts, maps = [0], [Dense(np.array([[float(base)]]))]
    if knots:
        z = builder.affine(0, Dense(np.array(sign)[:, None]), bias, name="hinges.z")
        parts.append(builder.activation(z, RELU, "hinges"))
        maps.append(Dense(np.array([[float(w) for w in weights]])))
    offset = y[c] - base * x[c] if skip else y[c]
    return builder.build(builder.combine(parts, maps, np.array([float(offset)]), name="output"), dtype=np.dtype(np.float32))  # fmt: skip


@dataclass
class _Ramps:
    """Ramps wanted so far: `right[i]` is the number of max(0, x - x_i) among them, `left[i]` that of max(0, x_i - x)."""

    right: dict[int, int] = field(default_factory=dict)
    left: dict[int, int] = field(default_factory=dict)
    order: list[tuple[int, float]] = field(default_factory=list)

    def get(self, i: int, sign: float) -> int:
        known = self.right if sign > 0 else self.left
        if i not in known:
            known[i] = len(self.order)
            self.order.append((i, sign))
        return known[i]


def hats(table: Table, anchored: bool = False, two_sided: bool = False, skip: bool = True) -> Network:
    """Two hidden layers, ramps and hats.

    Arguments:
        anchored: Three layers, for knots that float32 cannot hold.
        two_sided: Every hat gets a ramp on each side: one unit more, half the error.
    """
    x, y, n = table.x, table.y, len(table)
    inverse = _inverse_steps(table)
    ramps, rows, columns, entries, bias = _Ramps(), [], [], [], np.zeros(n)

    def enter(row: int, ramp: int, weight: float) -> None:
        rows.append(row)
        columns.append(ramp)
        entries.append(weight)

    step = np.diff(x)
    for i in range(n):
        first, last = i == 0, i == n - 1
        if not (first or last or two_sided) and step[i] <= _RATIO * step[i - 1]:
            enter(i, ramps.get(i - 1, 1.0), inverse[i - 1])
            enter(i, ramps.get(i, 1.0), -(inverse[i - 1] + inverse[i]))
            continue
        bias[i] = 1.0
        if not last:
            enter(i, ramps.get(i, 1.0), -inverse[i])
        if not first:
            enter(i, ramps.get(i, -1.0), -inverse[i - 1])
    slopes = table.exact_slopes
    outer = [(0, -1.0, -float(slopes[0])), (n - 1, 1.0, float(slopes[-1]))]
    ends = [(ramps.get(i, sign), weight) for i, sign, weight in outer if weight != 0]
    values = np.asarray(y, float)
    if ends and not skip:  # ramps beyond the ends pass through the hats' layer, being positive
        for k, (ramp, _) in enumerate(ends):
            enter(n + k, ramp, 1.0)
        bias = np.r_[bias, np.zeros(len(ends))]
        values = np.r_[values, [w for _, w in ends]]
    builder = Builder((1,))
    layer = _ramp_layer(builder, table, ramps, anchored)
    z = builder.affine(layer, _sparse(rows, columns, entries, (len(bias), len(ramps.order))), bias, name="hats.z")
    hat = builder.activation(z, RELU, "hats")
    parts, maps = [hat], [Dense(values[None])]
    if ends and skip:
        row = np.zeros((1, len(ramps.order)))
        for ramp, weight in ends:
            row[0, ramp] = weight
        parts.append(layer)
        maps.append(Dense(row))
    return builder.build(builder.combine(parts, maps, np.zeros(1), name="output"), dtype=np.dtype(np.float32))


def _inverse_steps(table: Table) -> Array:
    x, _ = table.fractions
    return np.array([float(1 / (b - a)) for a, b in zip(x, x[1:])])


def _sparse(rows: list[int], columns: list[int], entries: list[float], shape: tuple[int, int]) -> Dense | Sparse:
    import scipy.sparse

    matrix = scipy.sparse.csr_matrix((entries, (rows, columns)), shape=shape)
    return Sparse(matrix) if matrix.shape[0] * matrix.shape[1] > 10_000 else Dense(matrix.toarray())


def _ramp_layer(builder: Builder, table: Table, ramps: _Ramps, anchored: bool) -> int:
    sign = np.array([s for _, s in ramps.order])
    knot = table.x[[i for i, _ in ramps.order]]
    if not anchored:
        z = builder.affine(0, Dense(sign[:, None]), -sign * knot, name="ramps.z")
        return builder.activation(z, RELU, "ramps")
    anchors, group = _anchors(table.x)
    below = sorted({int(group[i]) for i, s in ramps.order if s < 0})  # anchors that also need their left side
    place = {g: len(anchors) + k for k, g in enumerate(below)}
    side = np.r_[np.ones(len(anchors)), -np.ones(len(below))]
    at = np.r_[anchors, anchors[below]]
    z = builder.affine(0, Dense(side[:, None]), -side * at, name="anchors.z")
    layer = builder.activation(z, RELU, "anchors")
    rows, columns, entries = [], [], []
    for k, (i, s) in enumerate(ramps.order):
        rows.append(k)
        columns.append(int(group[i]))
        entries.append(s)
        if s < 0:
            rows.append(k)
            columns.append(place[int(group[i])])
            entries.append(1.0)
    beyond = np.array([float(Fraction(float(table.x[i])) - Fraction(float(anchors[group[i]]))) for i, _ in ramps.order])
    z = builder.affine(layer, _sparse(rows, columns, entries, (len(sign), len(at))), -sign * beyond, name="ramps.z")
    return builder.activation(z, RELU, "ramps")


def _anchors(x: Array) -> tuple[Array, IntArray]:
    """Float32 numbers at or left of the knots, one for up to `_GROUP` neighbors of like distance; and each knot's anchor."""
    single = x.astype(np.float32)
    floor = np.where(single.astype(float) > x, np.nextafter(single, np.float32(-np.inf)), single).astype(float)
    step = np.diff(x)
    anchors, group, members, least = [floor[0]], np.zeros(len(x), np.int64), 1, step[0]
    for i in range(1, len(x)):
        least = min(least, step[i - 1], step[min(i, len(step) - 1)])
        if members >= _GROUP or x[i] - anchors[-1] > _GROUP * least:
            anchors.append(floor[i])
            members, least = 0, step[min(i, len(step) - 1)]
        members += 1
        group[i] = len(anchors) - 1
    return np.array(anchors), group
