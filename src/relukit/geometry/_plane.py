"""Exact polygons of a chain of dense layers on a plane: set-up, rational signs where floats cannot tell, results."""

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from relukit._errors import UnsupportedOperation
from relukit._types import Array

_U = 2.0**-53


class Fold(NamedTuple):
    """A first layer of many inputs on the plane `origin + s u + t v`: its exact rows are sums of products."""

    W: Array
    b: Array
    origin: Array
    u: Array
    v: Array

    def sizes(self) -> tuple[Array, Array]:
        """Largest sums of absolute terms behind the constants and the coefficients."""
        W = np.abs(self.W)
        return W @ np.abs(self.origin) + np.abs(self.b), np.maximum(W @ np.abs(self.u), W @ np.abs(self.v))

    def rows(self) -> Any:
        """The rows as fractions, shape (units, 3)."""
        rational = np.vectorize(Fraction, otypes=[object])
        used = np.flatnonzero(np.any(self.W != 0, axis=0))
        basis = rational(np.stack([self.u[used], self.v[used], self.origin[used]], axis=1))
        rows = rational(self.W[:, used]).dot(basis)
        rows[:, 2] += rational(self.b)
        return rows


class Cut:
    """What the kernel leaves: vertices, rings, lines of the edges, and patterns as 64-bit words."""

    def __init__(self, vertices: Array, offsets: Any, ring: Any, edge: Any, words: Any, gates: int, exact_tests: int) -> None:
        self.vertices, self.offsets, self.ring, self.edge = vertices, offsets, ring, edge
        self.words, self.gates, self.exact_tests = words, gates, exact_tests


def cut_plane(
    weights: list[Array], biases: list[Array], slopes: list[tuple[float, float]], lower: Array, upper: Array, limit: int,
    fold: Fold | None = None,
) -> Cut:
    """All cells of the hidden gates inside a box of the plane.

    Arguments:
        weights: Hidden layers' weights; the first has two columns.
        biases: Their biases.
        slopes: For each layer the activation's slopes left and right of 0.
        lower: Corner of the box; `upper` is the other.
        limit: Most polygons.
        fold: Where the first layer's rows come from, if they are rounded.

    Raises:
        UnsupportedOperation: There are more than `limit` polygons.

    References:
        Empirical Bounds on Linear Regions of Deep Rectifier Networks, Serra and Ramalingam, 2020 (patterns).
        Adaptive Precision Floating-Point Arithmetic and Fast Robust Geometric Predicates, Shewchuk, 1997 (filters).
    """
    from relukit.geometry import _plane_kernel as kernel

    sizes = np.array([len(W) for W in weights], np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    gates, widest, layers = int(sizes.sum()), int(sizes.max()), len(sizes)
    words = -(-gates // 64)
    flat = np.concatenate(biases)
    columns = np.zeros((layers, widest, widest))  # columns[l, j] = column j of layer l
    for l in range(1, layers):
        columns[l, : sizes[l - 1], : sizes[l]] = weights[l].T
    bound_e, bound_c = _row_errors(weights, biases, slopes, fold)
    rows = np.zeros((gates + 4, 3))
    rows[gates:] = [[0, 1, -lower[1]], [-1, 0, upper[0]], [0, -1, upper[1]], [1, 0, -lower[0]]]
    depth = 256
    stack = _Stack(depth, words, widest)
    stack.ring[0, :4] = [0, 1, 2, 3]
    stack.edge[0, :4] = gates + np.arange(4)
    stack.length[0], stack.layer[0] = 4, -1
    stack.sums[0, :2, : sizes[0]] = weights[0].T
    stack.sums[0, 2, : sizes[0]] = biases[0]
    vertices = np.zeros((3, 4096))
    vertices[0, :4] = [lower[0], upper[0], upper[0], lower[0]]
    vertices[1, :4] = [lower[1], lower[1], upper[1], upper[1]]
    keys, values = np.zeros(16_384, np.uint64), np.zeros(16_384, np.int32)
    offsets, ring = np.zeros(2048, np.int64), np.zeros(8192, np.int32)
    edge, bits = np.zeros(8192, np.int32), np.zeros((2048, words), np.uint64)
    candidates, counts = np.zeros((layers, widest), np.int64), np.zeros(layers, np.int64)
    state = np.zeros(8, np.int64)
    state[kernel.COUNT_V] = 4
    signs = np.zeros(kernel.MOST_CORNERS, np.int64)
    scratch = np.zeros((3, widest))
    on, off = np.array([s[1] for s in slopes], float), np.array([s[0] for s in slopes], float)
    exact: _Exact | None = None
    while True:
        code = kernel.cut(
            sizes, starts, columns, flat, on, off, bound_e, bound_c, rows, candidates, counts, stack.sums, stack.layer,
            stack.cursor, stack.length, stack.ring, stack.edge, stack.bits, signs, state, vertices[0], vertices[1],
            vertices[2], keys, values, offsets, ring, edge, bits, scratch,
        )  # fmt: skip
        if code == kernel.DONE:
            break
        if code == kernel.UNDECIDED:
            exact = exact or _Exact(weights, biases, slopes, lower, upper, fold)
            top, n = int(state[kernel.TOP]), int(stack.length[state[kernel.TOP]])
            exact.settle(int(state[kernel.LINE]), stack.edge[top, :n], stack.bits[top], signs)
            state[kernel.FORCED] = 1
        elif code == kernel.OUTPUT_FULL:
            if len(offsets) > limit:
                raise UnsupportedOperation(f"more than {limit} pieces; raise limit= or take a smaller domain")
            offsets, ring, edge, bits = (_doubled(a) for a in (offsets, ring, edge, bits))
        elif code == kernel.VERTICES_FULL:
            vertices = np.concatenate([vertices, np.zeros_like(vertices)], axis=1)
            new_keys, new_values = np.zeros(2 * len(keys), np.uint64), np.zeros(2 * len(keys), np.int32)
            kernel.rehash(keys, values, new_keys, new_values)
            keys, values = new_keys, new_values
        else:
            stack = stack.doubled()
    count, entries = int(state[kernel.COUNT_P]), int(state[kernel.COUNT_I])
    if count > limit:
        raise UnsupportedOperation(f"more than {limit} pieces; raise limit= or take a smaller domain")
    corners = np.ascontiguousarray(vertices[:2, : state[kernel.COUNT_V]].T)
    tests = exact.tests if exact is not None else 0
    return Cut(corners, offsets[: count + 1], ring[:entries], edge[:entries], bits[:count], gates, tests)


def _doubled(a: Any) -> Any:
    return np.concatenate([a, np.zeros_like(a)])


class _Stack:
    """Polygons that wait, with the next layer's rows so far."""

    def __init__(self, depth: int, words: int, widest: int) -> None:
        from relukit.geometry._plane_kernel import MOST_CORNERS

        self.ring, self.edge = np.zeros((depth, MOST_CORNERS), np.int32), np.zeros((depth, MOST_CORNERS), np.int32)
        self.length, self.layer, self.cursor = (np.zeros(depth, np.int64) for _ in range(3))
        self.bits, self.sums = np.zeros((depth, words), np.uint64), np.zeros((depth, 3, widest))

    def doubled(self) -> "_Stack":
        for name, value in vars(self).items():
            setattr(self, name, _doubled(value))
        return self


def _row_errors(weights: list[Array], biases: list[Array], slopes: list[tuple[float, float]], fold: Fold | None) -> tuple[Array, Array]:
    """For each gate, whatever the pattern: how far its float row may be from the exact one, constant and coefficients.

    With :math:`A_l = |W_l| A_{l-1}` and :math:`e_l = |W_l| e_{l-1} + |b_l|` for the size of all sums, the error is
    below :math:`K u` times that, K counting roundings along the way; the gates' own dot products with a corner are included.
    """
    e, c, size_e, size_c, count = [], [], None, None, 4.0
    for k, (W, b) in enumerate(zip(weights, biases)):
        W = np.abs(W)
        count += (fold.W.shape[1] if fold is not None and k == 0 else W.shape[1]) + 8
        if fold is not None and k == 0:
            size_e, size_c = fold.sizes()
        elif size_e is None or size_c is None:
            size_e, size_c = np.abs(b), W.max(axis=1)
        else:
            slope = max(abs(slopes[k - 1][0]), abs(slopes[k - 1][1]), 1.0)
            size_e, size_c = slope * (W @ size_e) + np.abs(b), slope * (W @ size_c)
        e.append(2 * count * _U * size_e)
        c.append(2 * count * _U * size_c)
    return np.concatenate([*e, np.zeros(4)]), np.concatenate([*c, np.zeros(4)])


class _Exact:
    """Signs in rational arithmetic: rows of the gates under a pattern as integers over a common power of two."""

    def __init__(self, weights: Any, biases: Any, slopes: Any, lower: Array, upper: Array, fold: Fold | None) -> None:
        rational = np.vectorize(Fraction, otypes=[object])
        self.weights, self.biases = [rational(W) for W in weights], [rational(b) for b in biases]
        self.first = fold.rows() if fold is not None else np.concatenate([self.weights[0], self.biases[0][:, None]], axis=1)
        self.slopes = [(Fraction(a), Fraction(b)) for a, b in slopes]
        self.starts = np.concatenate([[0], np.cumsum([len(W) for W in weights])])
        x0, y0, x1, y1 = (Fraction(float(v)) for v in (*lower, *upper))
        zero, one = Fraction(0), Fraction(1)
        self.sides = [(zero, one, -y0), (-one, zero, x1), (zero, -one, y1), (one, zero, -x0)]
        self.cache: dict[tuple[int, bytes], Any] = {}
        self.tests = 0

    def _layer(self, l: int, on: np.ndarray) -> Any:
        """Rows `(a, b, c)` of layer l, shape (units, 3), under the pattern of the layers before it."""
        key = (l, on[: self.starts[l]].tobytes())
        if key not in self.cache:
            if len(self.cache) > 64:
                self.cache.clear()
            if l == 0:
                rows = self.first
            else:
                below = self._layer(l - 1, on)
                mask = on[self.starts[l - 1] : self.starts[l]]
                left, right = self.slopes[l - 1]
                used = np.flatnonzero(mask) if left == 0 else np.arange(len(mask))
                factor = np.array([right if mask[j] else left for j in used], object)
                rows = self.weights[l][:, used].dot(below[used] * factor[:, None]) if len(used) else self.weights[l][:, :1] * 0 * np.zeros((1, 3), object)
                rows = rows + np.concatenate([np.zeros((len(rows), 2), object), self.biases[l][:, None]], axis=1)
            self.cache[key] = rows
        return self.cache[key]

    def _row(self, line: int, on: np.ndarray) -> Any:
        if line >= self.starts[-1]:
            return self.sides[line - self.starts[-1]]
        l = int(np.searchsorted(self.starts, line, side="right")) - 1
        return self._layer(l, on)[line - self.starts[l]]

    def settle(self, line: int, edges: Any, words: Any, signs: Any) -> None:
        """Replaces each undecided sign (2) of the polygon's corners by the exact one."""
        on = np.unpackbits(words.view(np.uint8), bitorder="little")[: self.starts[-1]].astype(bool)
        a, b, c = self._row(line, on)
        for k in range(len(edges)):
            if signs[k] != 2:
                continue
            self.tests += 1
            p, q = self._row(int(edges[k - 1]), on), self._row(int(edges[k]), on)
            det = p[0] * q[1] - p[1] * q[0]
            x, y = p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2]
            value = a * x + b * y + c * det  # (a, b, c) at the corner (x, y) / det
            signs[k] = ((value > 0) - (value < 0)) * (1 if det > 0 else -1)
