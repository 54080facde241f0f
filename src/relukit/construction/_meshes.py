r"""Functions given on regular grids and on triangulations, and their networks as sums of hats.

A hat is 1 at its own vertex, 0 at all others, affine on every simplex; :math:`f = \sum_v y_v \varphi_v`, and at any point only the
hats of one simplex are not 0.

On a grid, every cell is cut along its diagonals (Kuhn, 1960). With :math:`p_k = \max(0, x_k - a_k) / h^+_k` and
:math:`m_k = \max(0, a_k - x_k) / h^-_k` the hat of the vertex a is

.. math:: \varphi_a = \max\left(0, 1 - \max_k p_k - \max_k m_k\right),

3 units in the plane and 5 in space beside the ramps, which all vertices of an axis share. The ramps are differences from knots, so
their relative error is one rounding, and the form stays accurate in float32.

On a triangulation, a hat is a max-min of the affine functions of its star's simplices and 0. In an interior star that is convex one
term is enough: the minimum of all of them. Where two of those functions cross inside a simplex of the star, the simplex
is cut there, which is what makes the max-min form right (Wang, 2004).
"""

import itertools
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import factorial
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, ShapeMismatch
from relukit._shown import Shown
from relukit._types import Array, IntArray
from relukit.construction._lattice import solve, terms
from relukit.construction._maxima import _Values, maxima
from relukit.construction._pieces import Corner, homogeneous
from relukit.network import Network
from relukit.network.affine import Dense, Scale, dense_or_sparse
from relukit.network.rewrite import RELU, Builder


def _finite(values: Any, what: str) -> Array:
    try:
        values = np.array(values, np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{what} must be an array of numbers") from error
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        raise InvalidInput(f"{what}{bad[0].tolist()} is {values[tuple(bad[0])]}: all numbers must be finite. Remove or fill it.")  # fmt: skip
    values.setflags(write=False)
    return values


@dataclass(frozen=True, eq=False)
class Grid(Shown):
    """The piecewise-linear function with given values on a regular grid, each cell cut into simplices along its diagonal.

    Arguments:
        axes: Knots of each input, strictly increasing, at least two.
        values: Shape `(len(axes[0]), len(axes[1]), ...)`.

    Raises:
        ShapeMismatch: `values` does not have that shape.
        InvalidInput: Knots are repeated, not sorted or not finite; a value is not finite.

    References:
        Some combinatorial lemmas in topology, Kuhn, 1960 (the simplices).
    """

    axes: tuple[Array, ...]
    values: Array

    def __post_init__(self) -> None:
        axes = tuple(_finite(a, f"axis {k}: knot ") for k, a in enumerate(self.axes))
        values = _finite(self.values, "value ")
        if not axes or values.shape != tuple(len(a) for a in axes) or any(a.ndim != 1 for a in axes):
            raise ShapeMismatch(f"axes of {[len(a) for a in axes]} knots need values of that shape, got {values.shape}")
        for k, axis in enumerate(axes):
            if len(axis) < 2:
                raise InvalidInput(f"axis {k} has {len(axis)} knot: a grid needs at least two on every axis")
            if np.any(np.diff(axis) <= 0):
                i = int(np.flatnonzero(np.diff(axis) <= 0)[0])
                raise InvalidInput(f"axis {k}: knots must increase strictly, got {axis[i]} and then {axis[i + 1]}. Sort it, keep each knot once.")  # fmt: skip
        object.__setattr__(self, "axes", axes)
        object.__setattr__(self, "values", values)

    @property
    def inputs(self) -> int:
        return len(self.axes)

    @cached_property
    def _known(self) -> list[list[Fraction]]:
        return [[Fraction(float(v)) for v in axis] for axis in self.axes]

    def exact(self, x: tuple[Fraction, ...]) -> Fraction:
        """The value at a rational point; beyond the grid, that of the nearest point of it."""
        low, share = [], []
        for v, axis, known in zip(x, self.axes, self._known):
            v = min(max(v, known[0]), known[-1])
            i = min(max(int(np.searchsorted(axis, float(v), side="right")) - 1, 0), len(axis) - 2)
            while known[i] > v:
                i -= 1
            while i < len(axis) - 2 and known[i + 1] <= v:
                i += 1
            low.append(i)
            share.append((v - known[i]) / (known[i + 1] - known[i]))
        order = sorted(range(len(x)), key=lambda k: -share[k])
        at, total = list(low), Fraction(float(self.values[tuple(low)]))
        before = total
        for k in order:
            at[k] += 1
            after = Fraction(float(self.values[tuple(at)]))
            total += share[k] * (after - before)
            before = after
        return total

    def __call__(self, x: Any) -> Array:
        """Values at rows `(..., inputs)` in float64."""
        x = np.asarray(x, np.float64)
        rows = x.reshape(-1, self.inputs)
        low, share = np.empty(rows.shape, np.int64), np.empty(rows.shape)
        for k, axis in enumerate(self.axes):
            v = np.clip(rows[:, k], axis[0], axis[-1])
            low[:, k] = np.clip(np.searchsorted(axis, v, side="right") - 1, 0, len(axis) - 2)
            share[:, k] = (v - axis[low[:, k]]) / (axis[low[:, k] + 1] - axis[low[:, k]])
        order = np.argsort(-share, axis=1, kind="stable")
        at, every = low.copy(), np.arange(len(rows))
        before = self.values[tuple(at.T)]
        total = before.copy()
        for k in order.T:
            at[every, k] += 1
            after = self.values[tuple(at.T)]
            total += share[every, k] * (after - before)
            before = after
        return total.reshape(x.shape[:-1])

    def network(self, skip: bool = True) -> Network:
        """Ramps, hats, and their sum."""
        builder, n = Builder((self.inputs,)), self.inputs
        starts = np.r_[0, np.cumsum([len(a) for a in self.axes])]
        M = starts[-1]
        W, knots = np.zeros((M, n)), np.concatenate(self.axes)
        for k in range(n):
            W[starts[k] : starts[k + 1], k] = 1
        steps = [np.diff(a) for a in self.axes]
        up = np.concatenate([np.r_[1 / h, 0] for h in steps])  # nothing beyond the last knot: the value stays
        down = np.concatenate([np.r_[0, 1 / h] for h in steps])
        z = builder.affine(0, dense_or_sparse(np.r_[W, -W]), np.r_[-knots, knots], name="ramps.z")
        ramps = builder.scale(builder.activation(z, RELU, "ramps"), np.r_[up, down], name="ramps.scaled")
        index = np.stack(np.meshgrid(*(np.arange(len(a)) for a in self.axes), indexing="ij"), -1).reshape(-1, n)
        entries = index + starts[:-1]
        used = self.values.ravel() != 0  # a hat of height 0 is nothing
        entries = entries[used] if used.any() else entries[:1]
        heights = self.values.ravel()[used] if used.any() else np.zeros(1)
        N = len(entries)
        groups = [row.tolist() for row in entries] + [(row + M).tolist() for row in entries]
        largest = maxima(builder, _Values([ramps], [np.arange(2 * M)], [1.0]), groups, skip)
        together = largest.close(builder)
        sides = [builder.gather(together, np.arange(N) + shift, (N,)) for shift in (0, N)]
        bent = builder.combine(sides, [Scale(-np.ones(N)), Scale(-np.ones(N))], np.ones(N), name="hats.z")
        hats = builder.activation(bent, RELU, "hats")
        return builder.build(builder.affine(hats, Dense(heights[None]), name="output"), dtype=np.dtype(np.float32))

    def triangulation(self) -> "Triangulation":
        """The same function, simplices listed."""
        shape = self.values.shape
        points = np.stack(np.meshgrid(*self.axes, indexing="ij"), -1).reshape(-1, self.inputs)
        simplices = []
        for corner in itertools.product(*(range(m - 1) for m in shape)):
            for order in itertools.permutations(range(self.inputs)):
                at, path = list(corner), [np.ravel_multi_index(corner, shape)]
                for k in order:
                    at[k] += 1
                    path.append(np.ravel_multi_index(tuple(at), shape))
                simplices.append(path)
        return Triangulation(points, np.array(simplices), self.values.ravel())

    def to_dict(self) -> dict[str, Any]:
        return {"axes": [a.tolist() for a in self.axes], "values": self.values.tolist()}

    def __repr__(self) -> str:
        return f"Grid({' x '.join(str(len(a)) for a in self.axes)} knots)"


@dataclass(frozen=True, eq=False)
class Triangulation(Shown):
    """The function with given values at the points of a triangulation, affine on every simplex.

    Arguments:
        points: Shape `(V, n)`.
        simplices: Numbers of points, shape `(S, n + 1)`; together they tile a convex set, and neighbors share whole faces.
        values: Shape `(V,)`.

    Raises:
        ShapeMismatch, InvalidInput: Shapes do not fit; a number is not finite; a simplex is flat or names no point.
    """

    points: Array
    simplices: IntArray
    values: Array

    def __post_init__(self) -> None:
        points, values = _finite(self.points, "point "), _finite(self.values, "value ")
        simplices = np.array(self.simplices)
        if points.ndim != 2 or values.shape != points.shape[:1] or simplices.ndim != 2 or simplices.shape[1] != points.shape[1] + 1:  # fmt: skip
            raise ShapeMismatch(f"points (V, n), values (V,) and simplices (S, n + 1) do not fit: got {points.shape}, {values.shape}, {simplices.shape}")  # fmt: skip
        if simplices.dtype.kind not in "iu" or not len(simplices) or simplices.min() < 0 or simplices.max() >= len(points):  # fmt: skip
            raise InvalidInput(f"simplices need whole numbers of points, 0 to {len(points) - 1}, and at least one row")
        values.setflags(write=False)
        for key, value in (("points", points), ("simplices", simplices.astype(np.int64)), ("values", values)):
            object.__setattr__(self, key, value)

    @property
    def inputs(self) -> int:
        return self.points.shape[1]

    @cached_property
    def _corners(self) -> list[tuple[Fraction, ...]]:
        return [tuple(Fraction(v) for v in row) for row in self.points.tolist()]

    @cached_property
    def volumes(self) -> list[Fraction]:
        """Of each simplex, exact and positive.

        Raises:
            InvalidInput: A simplex is flat.
        """
        found = []
        for k, simplex in enumerate(self.simplices.tolist()):
            p = [self._corners[v] for v in simplex]
            size = abs(_determinant([[a - b for a, b in zip(q, p[0])] for q in p[1:]])) / factorial(self.inputs)
            if size == 0:
                raise InvalidInput(f"simplex {k} is flat: its points {simplex} lie on one hyperplane. Remove it.")
            found.append(size)
        return found

    @cached_property
    def barycentric(self) -> list[list[tuple[Fraction, ...]]]:
        """For each simplex and each of its corners the affine function that is 1 there and 0 at the others, `(g, c)`."""
        _ = self.volumes
        found = []
        for simplex in self.simplices.tolist():
            rows = [[*self._corners[v], Fraction(1)] for v in simplex]
            unit = [[Fraction(int(i == j)) for j in range(len(rows))] for i in range(len(rows))]
            inverse = solve(rows, unit)
            found.append([tuple(inverse[i][k] for i in range(len(rows))) for k in range(len(rows))])
        return found

    def check(self) -> None:
        """Raise `InvalidInput` unless the simplices tile a convex set face to face."""
        faces: dict[tuple[int, ...], list[tuple[int, int]]] = {}
        for k, simplex in enumerate(self.simplices.tolist()):
            for i in range(len(simplex)):
                faces.setdefault(tuple(sorted(simplex[:i] + simplex[i + 1 :])), []).append((k, i))
        used = sorted(set(self.simplices.ravel().tolist()))
        for face, owners in faces.items():
            if len(owners) > 2:
                raise InvalidInput(f"face {list(face)} belongs to {len(owners)} simplices: they overlap")
            sides = [self.barycentric[k][i] for k, i in owners]
            if len(owners) == 1:
                beyond = [v for v in used if _at(sides[0], self._corners[v]) < 0]
                if beyond:
                    raise InvalidInput(
                        f"point {beyond[0]} lies beyond the face {list(face)} that has no neighbor: the simplices tile no convex set, "
                        "or do not meet face to face. Split them at shared points, and fill the domain up to its convex hull."
                    )
            else:
                k, i = owners[1]
                if _at(sides[0], self._corners[self.simplices[k][i]]) >= 0:
                    raise InvalidInput(f"simplices {owners[0][0]} and {k} lie on one side of their common face {list(face)}: they overlap")  # fmt: skip

    def exact(self, x: tuple[Fraction, ...]) -> Fraction:
        """The value at a rational point of the triangulated set.

        Raises:
            InvalidInput: The point lies outside.
        """
        order = range(len(self.simplices))
        if len(self.simplices) > 8:  # likely ones first
            order = np.argsort(np.abs(self.points[self.simplices].mean(axis=1) - [float(v) for v in x]).sum(axis=1))
        for k in order:
            shares = [_at(g, x) for g in self.barycentric[k]]
            if min(shares) >= 0:
                return sum((s * Fraction(float(self.values[v])) for s, v in zip(shares, self.simplices[k])), Fraction(0))  # fmt: skip
        raise InvalidInput(f"{[float(v) for v in x]} lies outside the triangulation")

    @cached_property
    def hats(self) -> list[tuple[int, list[tuple[Fraction, ...]], list[list[int]]]]:
        """Each vertex whose value is not 0, the affine functions of its star, and the groups of their max-min form.

        Raises:
            InvalidInput: The simplices tile no convex set.
        """
        self.check()
        star: dict[int, list[tuple[int, int]]] = {}
        for k, simplex in enumerate(self.simplices.tolist()):
            for i, v in enumerate(simplex):
                star.setdefault(v, []).append((k, i))
        found = []
        for v in [v for v in sorted(star) if self.values[v] != 0] or [min(star)]:
            functions = [self.barycentric[k][i] for k, i in star[v]]
            cells = [[self._corner(w, self.simplices[k]) for w in self.simplices[k]] for k, _ in star[v]]
            found.append((v, functions, terms(cells, functions)))
        return found

    def network(self, skip: bool = True, centered: bool = False) -> Network:
        """A hat for every vertex whose value is not 0.

        Arguments:
            centered: Make differences from the vertices first (more units), which keeps fine meshes accurate in float32.
        """
        n, pieces, owner = self.inputs, [], []
        for v, functions, groups in self.hats:
            owner.append([[len(pieces) + j for j in group] for group in groups])
            pieces += [(v, g) for g in functions]
        builder = Builder((n,))
        values = self._rows(builder, pieces, skip, centered)
        least = maxima(builder, values, [g for groups in owner for g in groups], skip)
        sizes = np.cumsum([0, *(len(groups) for groups in owner)])
        negated = _Values(least.index, least.parts, [-s for s in least.signs])
        hats = maxima(builder, negated, [list(range(a, b)) for a, b in zip(sizes, sizes[1:])], skip)
        bent = builder.activation(hats.close(builder), RELU, "hats")
        heights = self.values[[v for v, _, _ in self.hats]]
        return builder.build(builder.affine(bent, Dense(heights[None]), name="output"), dtype=np.dtype(np.float32))

    def _corner(self, v: int, simplex: IntArray) -> Corner:
        """A vertex of a simplex; facet i lies opposite its i-th vertex."""
        return homogeneous(self._corners[v], frozenset(i for i, w in enumerate(simplex) if w != v))

    def _rows(
        self, builder: Builder, pieces: list[tuple[int, tuple[Fraction, ...]]], skip: bool, centered: bool
    ) -> _Values:
        """Negatives of the hats' affine functions, as values of a network."""
        n, m = self.inputs, len(pieces)
        gradient = np.array([[float(v) for v in g[:n]] for _, g in pieces])
        if centered:  # 1 + g . (x - v), with x - v as differences of ramps, shared by vertices of equal coordinates
            keys: dict[tuple[int, float], int] = {}
            for v in dict.fromkeys(v for v, _ in pieces):
                for k in range(n):
                    keys.setdefault((k, float(self.points[v, k])), len(keys))
            sides, at = np.zeros((len(keys), n)), np.array([c for _, c in keys])
            for (k, _), row in keys.items():
                sides[row, k] = 1
            z = builder.affine(0, dense_or_sparse(np.r_[sides, -sides]), np.r_[-at, at], name="ramps.z")
            ramps = builder.activation(z, RELU, "ramps")
            W = np.zeros((m, 2 * len(keys)))
            for j, (v, _) in enumerate(pieces):
                for k in range(n):
                    row = keys[k, float(self.points[v, k])]
                    W[j, row], W[j, row + len(keys)] = -gradient[j, k], gradient[j, k]
            linear, bias, source = dense_or_sparse(W), -np.ones(m), ramps
        else:
            linear, source = dense_or_sparse(-gradient), 0
            bias = np.array([-float(g[n]) for _, g in pieces])
        if skip:
            return _Values([builder.affine(source, linear, bias, name="pieces")], [np.arange(m)], [1.0])
        both = [builder.affine(source, linear, bias, name="pieces.z")]
        both.append(builder.scale(both[0], -1.0, name="pieces.negative"))
        kept = [builder.activation(z, RELU, "pieces") for z in both]
        return _Values(kept, [np.arange(m)] * 2, [1.0, -1.0])

    def to_dict(self) -> dict[str, Any]:
        return {"points": self.points.tolist(), "simplices": self.simplices.tolist(), "values": self.values.tolist()}

    def __repr__(self) -> str:
        return f"Triangulation({len(self.points)} points, {len(self.simplices)} simplices, {self.inputs} inputs)"


def _at(g: tuple[Fraction, ...], x: tuple[Fraction, ...]) -> Fraction:
    return sum((a * b for a, b in zip(g, x)), g[-1])


def _determinant(rows: list[list[Fraction]]) -> Fraction:
    if len(rows) == 1:
        return rows[0][0]
    return sum(((-1) ** j * rows[0][j] * _determinant([r[:j] + r[j + 1 :] for r in rows[1:]]) for j in range(len(rows)) if rows[0][j]), Fraction(0))  # fmt: skip
