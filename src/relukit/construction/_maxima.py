"""Functions written with max and min of affine pieces, and their networks as balanced trees."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, ShapeMismatch
from relukit._shown import Shown
from relukit._types import Array
from relukit.network.affine import Gather, Scale, dense_or_sparse
from relukit.network.rewrite import RELU, Builder

_DENSE = 1_000_000  # entries of a matrix of signs up to which one matrix replaces several selections


def _pieces(A: Any, b: Any, what: str) -> tuple[Array, Array]:
    """Checked float64 copies of rows A (m, n) and offsets b (m,)."""
    try:
        A, b = np.array(A, np.float64), np.array(b, np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{what} needs numbers for A and b") from error
    if A.ndim != 2 or b.shape != A.shape[:1] or not A.size:
        raise ShapeMismatch(f"{what} needs A of shape (pieces, inputs) and b of shape (pieces,), got {A.shape} and {b.shape}")  # fmt: skip
    for name, values in (("A", A), ("b", b)):
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            raise InvalidInput(
                f"{what}: {name}{bad[0].tolist()} is {values[tuple(bad[0])]}; all numbers must be finite"
            )
        values.setflags(write=False)
    return A, b


@dataclass(frozen=True, eq=False)
class MaxMin(Shown):
    r"""The function :math:`\max_i \min_{j \in groups_i} (A_j x + b_j)`: every continuous piecewise-linear function is one.

    Arguments:
        A, b: Shapes `(pieces, inputs)`, `(pieces,)`.
        groups: For each term the numbers of its pieces; a piece may be in many.

    Raises:
        ShapeMismatch, InvalidInput: Shapes do not fit, a number is not finite, a group is empty or names no piece.

    References:
        Region configurations for realizability of lattice piecewise-linear models, Tarela, Martinez, 1999.
        General constructive representations for continuous piecewise-linear functions, Wang, 2004.
    """

    A: Array
    b: Array
    groups: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        A, b = _pieces(self.A, self.b, type(self).__name__)
        object.__setattr__(self, "A", A)
        object.__setattr__(self, "b", b)
        groups = tuple(tuple(int(j) for j in g) for g in self.groups)
        for i, group in enumerate(groups):
            if not group or min(group) < 0 or max(group) >= len(b):
                raise InvalidInput(f"group {i} is {group}: it needs numbers of pieces, 0 to {len(b) - 1}")
        if not groups:
            raise InvalidInput("a max-min form needs at least one group")
        object.__setattr__(self, "groups", groups)

    def __call__(self, x: Any) -> Array:
        """Values at rows `(..., inputs)` in float64."""
        z = np.asarray(x, np.float64) @ self.A.T + self.b
        return np.max([z[..., list(g)].min(axis=-1) for g in self.groups], axis=0)

    def exact(self, x: tuple[Fraction, ...]) -> Fraction:
        """The value at a rational point."""
        z = [
            sum((Fraction(a) * v for a, v in zip(row, x)), Fraction(c))
            for row, c in zip(self.A.tolist(), self.b.tolist())
        ]
        return max(min(z[j] for j in group) for group in self.groups)

    @property
    def inputs(self) -> int:
        return self.A.shape[1]

    @property
    def scale(self) -> float:
        """Largest size of a piece with inputs up to 1."""
        return float((np.abs(self.A).sum(axis=1) + np.abs(self.b)).max())

    def node(self, builder: "Builder", skip: bool) -> int:
        """Its value as a node of a network under construction."""
        pieces, place = _distinct(self.A, self.b)
        groups = [sorted({place[j] for j in g}) for g in self.groups]
        groups = [g for g in groups if not any(set(h) < set(g) for h in groups)]  # a smaller group is the larger term
        groups = [list(g) for g in dict.fromkeys(map(tuple, groups))]
        A, b = self.A[pieces], self.b[pieces]
        values = _lift(builder, -A, -b, skip)  # min is -max of the negatives
        least = maxima(builder, values, groups, skip)
        negated = _Values(least.index, least.parts, [-s for s in least.signs])
        return maxima(builder, negated, [list(range(len(groups)))], skip).close(builder)

    def to_dict(self) -> dict[str, Any]:
        return {"A": self.A.tolist(), "b": self.b.tolist(), "groups": [list(g) for g in self.groups]}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.b)} pieces, {len(self.groups)} terms, {self.inputs} inputs)"


def max_affine(A: Any, b: Any) -> MaxMin:
    """The convex function max over rows of `A x + b`."""
    A, b = _pieces(A, b, "max_affine")
    return MaxMin(A, b, tuple((j,) for j in range(len(b))))


def min_affine(A: Any, b: Any) -> MaxMin:
    """The concave function min over rows of `A x + b`."""
    A, b = _pieces(A, b, "min_affine")
    return MaxMin(A, b, (tuple(range(len(b))),))


@dataclass(frozen=True, eq=False)
class Difference:
    """`first - second`, of two convex functions or of any two max-min forms.

    Raises:
        ShapeMismatch: They take different numbers of inputs.
    """

    first: MaxMin
    second: MaxMin

    def __post_init__(self) -> None:
        if self.first.inputs != self.second.inputs:
            raise ShapeMismatch(f"a difference of functions of {self.first.inputs} and {self.second.inputs} inputs")

    def __call__(self, x: Any) -> Array:
        return self.first(x) - self.second(x)

    def exact(self, x: tuple[Fraction, ...]) -> Fraction:
        return self.first.exact(x) - self.second.exact(x)

    @property
    def inputs(self) -> int:
        return self.first.inputs

    @property
    def scale(self) -> float:
        return max(self.first.scale, self.second.scale)

    def to_dict(self) -> dict[str, Any]:
        return {"first": self.first.to_dict(), "second": self.second.to_dict()}

    def node(self, builder: "Builder", skip: bool) -> int:
        a, b = self.first.node(builder, skip), self.second.node(builder, skip)
        return builder.add((a, b), (1.0, -1.0), name="difference")

    def __repr__(self) -> str:
        return f"Difference({self.first!r}, {self.second!r})"


def _distinct(A: Array, b: Array) -> tuple[list[int], dict[int, int]]:
    """Pieces without repeats: kept numbers, and for each old number its place among them."""
    seen: dict[bytes, int] = {}
    kept: list[int] = []
    place = {}
    for j, row in enumerate(np.c_[A, b] + 0.0):
        key = row.tobytes()
        if key not in seen:
            seen[key] = len(kept)
            kept.append(j)
        place[j] = seen[key]
    return kept, place


@dataclass
class _Values:
    """A vector on its way up a tree: entry k is the sum of `signs[p] * node index[p]` at entries `parts[p][k]` (-1 for none)."""

    index: list[int]
    parts: list[Array]
    signs: list[float]

    def __len__(self) -> int:
        return len(self.parts[0])

    def close(self, builder: Builder) -> int:
        """The vector as one affine node."""
        return _sum(builder, self, np.arange(len(self)))


def _sum(builder: Builder, values: _Values, entries: Array, minus: Array | None = None, name: str = "") -> int:
    """Node of `values[entries] - values[minus]`, -1 standing for 0; one map per node that is read, where it is small."""
    chosen: dict[int, list[tuple[Array, float]]] = {}
    for at, sign in ((entries, 1.0), (minus, -1.0)):
        if at is not None:
            for index, part, s in zip(values.index, values.parts, values.signs):
                found = np.where(at >= 0, part[at], -1)
                if np.any(found >= 0):
                    chosen.setdefault(index, []).append((found, sign * s))
    pairs = []
    for index, picks in chosen.items():
        size = builder.nodes[index].size
        if len(picks) == 1 and picks[0][1] == 1:
            pairs.append((index, Gather(picks[0][0], size)))
        elif len(entries) * size <= _DENSE:
            matrix = np.zeros((len(entries), size))
            for at, sign in picks:
                np.add.at(matrix, (np.flatnonzero(at >= 0), at[at >= 0]), sign)
            pairs.append((index, dense_or_sparse(matrix)))
        else:  # large: select first, then change the sign
            for at, sign in picks:
                scale = Scale(np.full(len(at), sign))
                pairs.append((index, Gather(at, size)) if sign == 1 else (builder.gather(index, at, (len(at),)), scale))
    if not pairs:
        pairs = [(values.index[0], Gather(np.full(len(entries), -1), builder.nodes[values.index[0]].size))]
    return builder.combine([i for i, _ in pairs], [m for _, m in pairs], np.zeros(len(entries)), name=name)


def _lift(builder: Builder, A: Array, b: Array, skip: bool) -> _Values:
    """Affine pieces of the input as values; without skip connections as the difference of two ReLUs each."""
    if skip:
        z = builder.affine(0, dense_or_sparse(A), b, name="pieces")
        return _Values([z], [np.arange(len(b))], [1.0])
    z = builder.affine(0, dense_or_sparse(np.r_[A, -A]), np.r_[b, -b], name="pieces.z")
    r = builder.activation(z, RELU, "pieces")
    return _Values([r, r], [np.arange(len(b)), len(b) + np.arange(len(b))], [1.0, -1.0])


def maxima(builder: Builder, values: _Values, groups: list[list[int]], skip: bool) -> _Values:
    """The maximum over each group, all groups together, level by level: max(a, b) = a + max(0, b - a).

    Each comparison is one hidden unit with skip connections; without, two more carry `a`, and two carry a value that waits.
    """
    groups = [list(g) for g in groups]
    while any(len(g) > 1 for g in groups):
        first, second, waiting, after = [], [], [], []
        for g in groups:
            after.append([len(first) + k for k in range(len(g) // 2)])
            first += g[0 : len(g) - 1 : 2]
            second += g[1::2]
        for k, g in enumerate(groups):
            if len(g) % 2:
                after[k].append(len(first) + len(waiting))
                waiting.append(g[-1])
        p, kept = len(first), np.array(first + waiting)
        if skip:
            gate = builder.activation(_sum(builder, values, np.array(second), np.array(first), "gap"), RELU, "max")
            held = _sum(builder, values, kept, name="held") if len(values.index) > 1 or values.signs[0] != 1 else -1
            index, part = (held, np.arange(len(kept))) if held >= 0 else (values.index[0], values.parts[0][kept])
            values = _Values([index, gate], [part, np.r_[np.arange(p), np.full(len(waiting), -1)]], [1.0, 1.0])
            values = _Values([values.close(builder)], [np.arange(len(kept))], [1.0])
        else:
            carry = np.r_[np.array(second), kept, np.full(len(kept), -1)].astype(int)
            minus = np.r_[np.array(first), np.full(len(kept), -1), kept].astype(int)
            layer = builder.activation(_sum(builder, values, carry, minus, "gap"), RELU, "max")
            q = p + np.arange(len(kept))
            values = _Values([layer] * 3, [np.r_[np.arange(p), np.full(len(waiting), -1)], q, q + len(kept)], [1.0, 1.0, -1.0])  # fmt: skip
        groups = after
    order = np.array([g[0] for g in groups])
    return _Values(values.index, [part[order] for part in values.parts], values.signs)
