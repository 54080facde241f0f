"""Axis-parallel boxes."""

from dataclasses import dataclass

import numpy as np

from relukit._errors import EmptyInterval, InvalidInput, ShapeMismatch, UnboundedSet
from relukit._numerics import gamma, up
from relukit._types import Array, BoolArray
from relukit.sets._abstract import AbstractSet, Rows


@dataclass(frozen=True, eq=False)
class Box(AbstractSet):
    """All x with `lower <= x <= upper`, entrywise.

    Arguments:
        lower: Smallest values, shape `(*batch, n)`, in the units of the inputs.
        upper: Largest values, the same shape.

    Raises:
        ShapeMismatch: The two arrays differ in shape, or are no vectors.
        InvalidInput: A bound is NaN.
        UnboundedSet: A bound is infinite.
        EmptyInterval: Some `lower > upper`.

    Example:
        >>> Box([0.0, -1.0], [1.0, 1.0]).support(np.array([[1.0, -2.0]]))
        array([3.])
    """

    lower: Array
    upper: Array

    def __post_init__(self) -> None:
        lower, upper = np.asarray(self.lower), np.asarray(self.upper)
        dtype = np.result_type(lower, upper, np.float32 if lower.dtype == upper.dtype == np.float32 else np.float64)
        lower, upper = lower.astype(dtype), upper.astype(dtype)
        if lower.shape != upper.shape or lower.ndim == 0:
            raise ShapeMismatch(f"a box needs two vectors of one length, got shapes {lower.shape} and {upper.shape}")
        for name, side in (("lower", lower), ("upper", upper)):
            bad = np.argwhere(~np.isfinite(side))
            if len(bad):
                where = tuple(int(i) for i in bad[0])
                kind = InvalidInput if np.isnan(side[where]) else UnboundedSet
                raise kind(
                    f"{name}[{', '.join(map(str, where))}] is {side[where]}: a box needs finite sides. Give a finite bound for this input."
                )
        if np.any(lower > upper):
            where = tuple(int(i) for i in np.argwhere(lower > upper)[0])
            raise EmptyInterval(f"lower > upper at input {', '.join(map(str, where))}: {lower[where]} > {upper[where]}")
        lower.setflags(write=False)
        upper.setflags(write=False)
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)

    @property
    def batch(self) -> tuple[int, ...]:
        return self.lower.shape[:-1]

    def halves(self, side: int | None = None) -> tuple["Box", "Box"]:
        """The box cut at the middle of one input, by default of its widest."""
        side = int(np.argmax(self.upper - self.lower)) if side is None else side
        middle = 0.5 * (self.lower[side] + self.upper[side])
        upper, lower = self.upper.copy(), self.lower.copy()
        upper[side] = lower[side] = middle
        return Box(self.lower, upper), Box(lower, self.upper)

    @property
    def size(self) -> int:
        return self.lower.shape[-1]

    def box(self) -> "Box":
        return self

    def center(self) -> Array:
        return np.clip(0.5 * self.lower + 0.5 * self.upper, self.lower, self.upper)

    def support(self, directions: Array) -> Array:
        d = np.asarray(directions)
        # Every product is taken at the side that is largest, so only the sum rounds.
        corner = np.where(d >= 0, self.upper[..., None, :], self.lower[..., None, :])
        value = np.einsum("...rn,...rn->...r", d, corner)
        size = np.einsum("...rn,...rn->...r", np.abs(d), np.abs(corner))
        return up(value + gamma(self.size, value.dtype) * size)

    def rows(self) -> Rows:
        return Rows(np.zeros((0, self.size)), np.zeros(0))

    def sample(self, count: int, seed: int | np.random.Generator = 0) -> Array:
        generator = np.random.default_rng(seed)
        points = self.lower + (self.upper - self.lower) * generator.random((count, self.size))
        return np.clip(points.astype(self.lower.dtype), self.lower, self.upper)

    def contains(self, x: Array) -> BoolArray:
        return np.all((x >= self.lower) & (x <= self.upper), axis=-1)

    def project(self, x: Array) -> Array:
        return np.clip(x, self.lower, self.upper)

    def intersect(self, other: "Box") -> "Box":
        """The common part.

        Raises:
            EmptyInterval: There is none.
        """
        return Box(np.maximum(self.lower, other.lower), np.minimum(self.upper, other.upper))

    def stack(self, *others: "Box") -> "Box":
        """A batch of boxes."""
        return Box(np.stack([b.lower for b in (self, *others)]), np.stack([b.upper for b in (self, *others)]))

    def __getitem__(self, index: int) -> "Box":
        """One box of a batch."""
        if not self.batch:
            raise InvalidInput("this is one box, not a batch")
        return Box(self.lower[index], self.upper[index])

    def __repr__(self) -> str:
        shape = f", batch={self.batch}" if self.batch else ""
        return f"Box(n={self.size}{shape}, widths {np.min(self.upper - self.lower):.3g} to {np.max(self.upper - self.lower):.3g})"
