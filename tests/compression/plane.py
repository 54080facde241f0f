"""Networks of two inputs in rational arithmetic: all pieces of a polygon, every unit's sign, and the largest difference of two networks.

Shares no code with the package: networks are lists of `Node`s, polygons are split by every kink of every unit.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

Line = tuple[Fraction, Fraction, Fraction]  # a x + b y + c
Polygon = list[tuple[Fraction, Fraction]]


@dataclass
class Node:
    """An affine sum of earlier nodes' values (`parts`: node and matrix), or a piecewise-linear function of one node's entries.

    Arguments:
        knots, slopes: One more slope than knots; `height` is the value at the first knot.
    """

    parts: list[tuple[int, np.ndarray]]
    bias: np.ndarray
    knots: tuple[Fraction, ...] = ()
    slopes: tuple[Fraction, ...] = ()
    height: Fraction = Fraction(0)


def affine(parts, bias) -> Node:
    return Node([(i, np.asarray(W, float)) for i, W in parts], np.asarray(bias, float))


def kinked(i: int, size: int, knots, slopes, height=0) -> Node:
    exact = lambda values: tuple(Fraction(v) for v in values)
    return Node([(i, np.zeros((size, 0)))], np.zeros(size), exact(knots), exact(slopes), Fraction(height))


def relu(i: int, size: int) -> Node:
    return kinked(i, size, (0,), (0, 1))


def rectangle(lower, upper) -> Polygon:
    """Corners of a box, also of one without width or height."""
    (a, b), (c, d) = ([Fraction(float(v)) for v in ends] for ends in (lower, upper))
    corners = [(a, b), (c, b), (c, d), (a, d)]
    return [p for k, p in enumerate(corners) if p not in corners[:k]]


def cut(polygon: Polygon, line: Line, sign: int) -> Polygon:
    """The part of a convex polygon (or segment, or point) where `sign * line >= 0`."""
    values = [sign * _at(line, p) for p in polygon]
    if len(polygon) == 1:
        return polygon if values[0] >= 0 else []
    found: Polygon = []
    for k, (p, v) in enumerate(zip(polygon, values)):
        q, w = polygon[(k + 1) % len(polygon)], values[(k + 1) % len(polygon)]
        if v >= 0:
            found.append(p)
        if (v > 0) != (w > 0) and v != 0 and w != 0:
            t = v / (v - w)
            found.append((p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1])))
    return [p for k, p in enumerate(found) if p not in found[:k]]


@dataclass
class Ranges:
    """Smallest and largest value that each unit of each kinked node reads, over all polygons."""

    low: dict[int, list[Fraction]]
    high: dict[int, list[Fraction]]

    def see(self, node: int, unit: int, units: int, values: list[Fraction]) -> None:
        low, high = self.low.setdefault(node, []), self.high.setdefault(node, [])
        if len(low) < units:  # units come in order
            low.append(min(values))
            high.append(max(values))
            return
        low[unit], high[unit] = min(low[unit], *values), max(high[unit], *values)

    def flat(self, nodes: list[Node]) -> int:
        """Units that stay on one flat piece, its ends included."""
        return self._within(nodes, lambda slope: slope == 0)

    def sloped(self, nodes: list[Node]) -> int:
        """Units that stay on one sloped piece, its ends included."""
        return self._within(nodes, lambda slope: slope != 0)

    def _within(self, nodes: list[Node], wanted) -> int:
        pieces = lambda node: zip(node.slopes, (None, *node.knots), (*node.knots, None))
        return sum(
            any(wanted(s) and (l is None or l <= a) and (r is None or b <= r) for s, l, r in pieces(nodes[i]))
            for i in self.low
            for a, b in zip(self.low[i], self.high[i])
        )

    def crossing(self, nodes: list[Node]) -> int:
        return sum(
            any(a < knot < b for knot in nodes[i].knots) for i in self.low for a, b in zip(self.low[i], self.high[i])
        )


def walk(polygons: list[Polygon], nets: list[list[Node]], leaf) -> list[Ranges]:
    """Split polygons by the kinks of all networks; `leaf(polygon, outputs of each net as lines)` for each common piece. Returns each net's ranges."""
    ranges = [Ranges({}, {}) for _ in nets]
    x, y = (Fraction(1), Fraction(0), Fraction(0)), (Fraction(0), Fraction(1), Fraction(0))
    exact = [[[(i, _rows(W)) for i, W in node.parts] for node in net] for net in nets]

    def step(polygon: Polygon, at: int, k: int, values: list[list[Line]], done: list[list[Line]]) -> None:
        if at == len(nets):
            leaf(polygon, done)
            return
        net = nets[at]
        if k == len(net) + 1:
            step(polygon, at + 1, 1, [[x, y]], [*done, values[-1]])
            return
        node = net[k - 1]
        if not node.knots:
            step(polygon, at, k + 1, [*values, _sums(exact[at][k - 1], node.bias, values)], done)
            return
        before = values[node.parts[0][0]]
        pieces: list[tuple[Polygon, list[Line]]] = [(polygon, [])]
        for u, line in enumerate(before):
            ranges[at].see(k - 1, u, len(before), [_at(line, p) for p in polygon])
            pieces = [(p, [*made, new]) for part, made in pieces for p, new in _pieces(part, line, node)]
        for part, made in pieces:
            step(part, at, k + 1, [*values, made], done)

    for polygon in polygons:
        step(polygon, 0, 1, [[x, y]], [])
    return ranges


def difference(polygons: list[Polygon], one: list[Node], two: list[Node]) -> tuple[Fraction, int, Ranges]:
    """The largest difference of any output over the polygons, how many common pieces there are, and the first network's ranges."""
    worst, pieces = Fraction(0), 0

    def leaf(polygon, outputs):
        nonlocal worst, pieces
        pieces += 1
        for f, g in zip(*outputs, strict=True):
            line = tuple(a - b for a, b in zip(f, g))
            worst = max(worst, *(abs(_at(line, p)) for p in polygon)) if any(line) else worst

    ranges = walk(polygons, [one, two], leaf)
    return worst, pieces, ranges[0]


def _pieces(polygon: Polygon, line: Line, node: Node) -> list[tuple[Polygon, Line]]:
    """Parts of a polygon on which the unit is one line, and that line."""
    values = [_at(line, p) for p in polygon]
    lo, hi = min(values), max(values)
    found, height, (a, b, c) = [], node.height, line
    for k, slope in enumerate(node.slopes):
        left = node.knots[k - 1] if k else None
        right = node.knots[k] if k < len(node.knots) else None
        if k > 1:
            height += node.slopes[k - 1] * (node.knots[k - 1] - node.knots[k - 2])
        if lo < hi:
            here = (right is None or lo < right) and (left is None or hi > left)
        else:
            here = not found and (right is None or lo <= right)
        if here:
            part = polygon
            part = part if left is None or lo >= left else cut(part, (a, b, c - left), 1)
            part = part if right is None or hi <= right else cut(part, (a, b, c - right), -1)
            start = left if left is not None else node.knots[0]
            found.append((part, (slope * a, slope * b, slope * (c - start) + height)))
    return found


def _at(line: Line, point: tuple[Fraction, Fraction]) -> Fraction:
    return line[0] * point[0] + line[1] * point[1] + line[2]


def _rows(W: np.ndarray) -> list[list[tuple[int, Fraction]]]:
    return [[(j, Fraction(v)) for j, v in enumerate(row) if v] for row in W.tolist()]


def _sums(parts, bias, values) -> list[Line]:
    found = []
    for u, c in enumerate(bias.tolist()):
        total = [Fraction(0), Fraction(0), Fraction(c)]
        for i, rows in parts:
            for j, w in rows[u]:
                line = values[i][j]
                total = [t + w * v for t, v in zip(total, line)]
        found.append(tuple(total))
    return found
