"""All linear pieces of a network on a box, in rational arithmetic: slow, and right without any tolerance.

Weights are floats, so every affine map inside a network is a matrix of integers times one power of two. Corners of cells are
quotients of integers. Signs are therefore decided exactly, in any dimension; there is no rounding anywhere.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import gcd

import numpy as np

from relukit._errors import InvalidInput
from relukit._types import Array
from relukit.network import Affine, Network
from relukit.network.exact import ExactAffine, ExactForm, reduced
from relukit.piecewise import PiecewiseLinear
from relukit.sets import Box

Point = tuple[Fraction, ...]
Row = tuple[int, ...]


@dataclass(frozen=True)
class Corner:
    """A vertex in homogeneous integers (the last one positive), and the numbers of the facets it lies on."""

    at: Row
    facets: frozenset[int]

    @property
    def point(self) -> Point:
        return tuple(Fraction(v, self.at[-1]) for v in self.at[:-1])


@dataclass(frozen=True)
class Piece:
    """A convex cell and the affine map on it, exact: outputs are `rows[k][:n] . x + rows[k][n]`."""

    corners: tuple[Corner, ...]
    rows: tuple[tuple[Fraction, ...], ...]

    @property
    def points(self) -> list[Point]:
        return [c.point for c in self.corners]


class _ExactActivation:
    """Knots, slopes and offsets of each unit as fractions; all are dyadic, since they are sums and products of floats."""

    def __init__(self, op: PiecewiseLinear, size: int) -> None:
        self.relu = op.is_relu
        spread = lambda a: np.broadcast_to(a.reshape(len(a), -1), (len(a), size))
        self.knots = [[Fraction(float(v)) for v in row] for row in spread(op.knots)] if len(op.knots) else []
        slopes = [[Fraction(float(v)) for v in row] for row in spread(op.slopes)]
        height = [Fraction(float(v)) for v in np.broadcast_to(op.height, (size,))]
        at = self.knots[0] if self.knots else [Fraction(0)] * size
        self.pieces = [[(slopes[0][u], height[u] - slopes[0][u] * at[u]) for u in range(size)]]
        for j, knots in enumerate(self.knots):
            before = self.pieces[-1]
            value = [before[u][0] * knots[u] + before[u][1] for u in range(size)]
            self.pieces.append([(slopes[j + 1][u], value[u] - slopes[j + 1][u] * knots[u]) for u in range(size)])

    def __call__(self, form: ExactForm, which: list[int]) -> ExactForm:
        if self.relu:
            on = np.array(which, bool)
            matrix = form.matrix.copy()
            matrix[~on] = 0
            return ExactForm(matrix, form.exponent)
        chosen = [self.pieces[j][u] for u, j in enumerate(which)]
        binary = lambda v: v.denominator.bit_length() - 1  # digits after the point
        deepest = max((binary(s) for s, _ in chosen), default=0)
        lowest = min([form.exponent - deepest, *(-binary(o) for _, o in chosen)])
        unit = Fraction(2) ** (form.exponent - lowest)
        matrix = np.empty_like(form.matrix)
        for u, (slope, offset) in enumerate(chosen):
            matrix[u] = form.matrix[u] * int(slope * unit)
            matrix[u, -1] += int(offset / Fraction(2) ** lowest)
        return ExactForm(*reduced(matrix, lowest))


def _value(row: Array | Row, corner: Corner) -> int:
    return sum(a * b for a, b in zip(row, corner.at))


def _between(p: Corner, vp: int, q: Corner, vq: int, facet: int) -> Corner:
    """Where an affine function with homogeneous values vp > 0 > vq vanishes on the edge from p to q."""
    at = [vp * b - vq * a for a, b in zip(p.at, q.at)]
    common = gcd(*at)
    return Corner(tuple(v // common for v in at), (p.facets & q.facets) | {facet})


def split(corners: list[Corner], row: Array | Row, facet: int) -> tuple[list[Corner] | None, list[Corner] | None]:
    """The parts of a cell where an affine function is at most 0, and at least 0; None for a part without interior.

    Two corners share an edge if no third corner lies on all of their common facets.
    """
    values = [_value(row, c) for c in corners]
    if min(values) >= 0:
        return None, corners
    if max(values) <= 0:
        return corners, None
    n = len(corners[0].at) - 1
    low = [c for c, v in zip(corners, values) if v < 0]
    high = [c for c, v in zip(corners, values) if v > 0]
    on = [Corner(c.at, c.facets | {facet}) for c, v in zip(corners, values) if v == 0]
    by = dict(zip(corners, values))
    fresh = []
    for p in high:
        for q in low:
            common = p.facets & q.facets
            if len(common) >= n - 1 and not any(common <= r.facets for r in corners if r is not p and r is not q):
                fresh.append(_between(p, by[p], q, by[q], facet))
    return low + on + fresh, high + on + fresh


def box_corners(box: Box) -> list[Corner]:
    """Corners of a box with interior; facet 2k is the lower side of input k, 2k + 1 the upper one."""
    if np.any(box.lower >= box.upper):
        k = int(np.flatnonzero(box.lower >= box.upper)[0])
        raise InvalidInput(f"the box has no interior: input {k} stays at {box.lower[k]}")
    found: list[tuple[tuple[Fraction, ...], frozenset[int]]] = [((), frozenset())]
    for k in range(box.size):
        ends = Fraction(float(box.lower[k])), Fraction(float(box.upper[k]))
        found = [((*p, end), f | {2 * k + side}) for p, f in found for side, end in enumerate(ends)]
    return [homogeneous(p, f) for p, f in found]


def homogeneous(point: Point, facets: frozenset[int] = frozenset()) -> Corner:
    denominator = 1
    for v in point:
        denominator = denominator * v.denominator // gcd(denominator, v.denominator)
    return Corner((*(int(v * denominator) for v in point), denominator), facets)


def exact_pieces(network: Network, box: Box, limit: int = 50_000) -> Iterator[Piece]:
    """Cells of a network on a box with their affine maps, depth first, each exact.

    Arguments:
        network: Piecewise linear, with few inputs (1 to 4 in practice).
        box: With interior.
        limit: Cells after which it gives up.

    Raises:
        UnsupportedOperation: An activation is smooth.
        InvalidInput: More cells than `limit`; the box has no interior or another number of inputs.
    """
    network.require_piecewise_linear("exact pieces")
    if box.size != network.inputs:
        raise InvalidInput(f"a box of {box.size} inputs for a network that takes {network.inputs}")
    n, steps = network.inputs, {}
    for i, node in enumerate(network.nodes):
        if isinstance(node.op, Affine):
            steps[i] = ExactAffine(node.op)
        elif isinstance(node.op, PiecewiseLinear):
            steps[i] = _ExactActivation(node.op, node.size)
    last = [max(readers, default=len(network.nodes)) for readers in network.consumers]
    start = np.array([[int(i == j) for j in range(n + 1)] for i in range(n)], object).reshape(n, n + 1)
    facet, count = 2 * n, 0
    stack = [(box_corners(box), {0: ExactForm(start, 0)}, 1)]
    while stack:
        corners, forms, i = stack.pop()
        while i < len(network.nodes):
            node, step = network.nodes[i], steps[i]
            if isinstance(step, ExactAffine):
                forms[i] = step([forms[j] for j in node.inputs])
            else:
                form = forms[node.inputs[0]]
                parts, facet = _cut(corners, form, step, facet)
                for cell, which in parts[1:]:
                    stack.append((cell, {**forms, i: step(form, which)}, i + 1))
                corners, forms[i] = parts[0][0], step(form, parts[0][1])
            for j in {*node.inputs}:
                if last[j] <= i:
                    forms.pop(j, None)
            i += 1
        count += 1
        if count > limit:
            raise InvalidInput(f"more than {limit} pieces: too many for rational arithmetic. Take a smaller box, or raise `limit`.")  # fmt: skip
        out = forms[len(network.nodes) - 1]
        scale = Fraction(2) ** out.exponent
        yield Piece(tuple(corners), tuple(tuple(v * scale for v in row) for row in out.matrix))


def _cut(
    corners: list[Corner], form: ExactForm, step: "_ExactActivation", facet: int
) -> tuple[list[tuple[list[Corner], list[int]]], int]:
    """A cell cut at every knot of every unit: parts with the number of knots that lie below each unit's value."""
    size = len(form.matrix)
    parts: list[tuple[list[Corner], list[int]]] = [(corners, [0] * size)]
    for knots in step.knots:
        for u in range(size):
            row = form.matrix[u]
            if knots[u]:
                shift = knots[u] * Fraction(2) ** -form.exponent
                row = row * shift.denominator
                row[-1] -= shift.numerator
            values = [_value(row, c) for c in corners]
            if max(values) <= 0:
                continue
            if min(values) >= 0:
                for _, which in parts:
                    which[u] += 1
                continue
            facet += 1
            after = []
            for cell, which in parts:
                low, high = split(cell, row, facet)
                if high is not None:
                    more = which if low is None else [*which]
                    more[u] += 1
                    after.append((high, more))
                if low is not None:
                    after.append((low, which if high is None else [*which]))
            parts = after
    return parts, facet
