"""Balls around a point in the l-infinity, l2 and l1 norms, optionally cut by a box."""

from dataclasses import dataclass

import numpy as np

from relukit._errors import EmptySet, InvalidInput, UnsupportedOperation
from relukit._numerics import down, gamma, up
from relukit._types import Array, BoolArray
from relukit.sets._abstract import AbstractSet, Rows
from relukit.sets._box import Box

_ROWS_LIMIT = 12  # an l1 ball has 2^n faces


@dataclass(frozen=True, eq=False)
class Ball(AbstractSet):
    r"""All x with :math:`\|x - c\|_p \le r` for p in {1, 2, inf}, inside `within` where that is given.

    Arguments:
        middle: The center c, shape `(*batch, n)`.
        radius: r >= 0, a number or shape `batch`.
        norm: 1, 2 or `inf`.
        within: A box that also holds (pixels in [0, 1]); `support` then keeps the better of ball and box.

    Raises:
        InvalidInput: Negative or infinite radius, NaN in the center, or another norm.
        EmptySet: The center lies outside `within`.
    """

    middle: Array
    radius: Array | float
    norm: float = np.inf
    within: Box | None = None

    def __post_init__(self) -> None:
        middle = np.asarray(self.middle, dtype=np.float64)
        radius = np.broadcast_to(np.asarray(self.radius, dtype=np.float64), middle.shape[:-1])
        if not np.all(np.isfinite(middle)):
            raise InvalidInput(
                f"the center of a ball must be finite; entry {np.argwhere(~np.isfinite(middle))[0].tolist()} is not"
            )
        if not np.all(np.isfinite(radius)) or np.any(radius < 0):
            raise InvalidInput(f"a radius must be finite and at least 0, got {self.radius}")
        if self.norm not in (1, 2, np.inf):
            raise InvalidInput(f"norm must be 1, 2 or inf, got {self.norm}")
        if self.within is not None and not np.all(self.within.contains(middle)):
            raise EmptySet("the center of the ball lies outside its box")
        object.__setattr__(self, "middle", middle)
        object.__setattr__(self, "radius", radius)

    @property
    def batch(self) -> tuple[int, ...]:
        return self.middle.shape[:-1]

    @property
    def size(self) -> int:
        return self.middle.shape[-1]

    def center(self) -> Array:
        return self.middle

    def box(self) -> Box:
        reach = np.asarray(self.radius)[..., None]
        around = Box(down(self.middle - reach), up(self.middle + reach))
        return around if self.within is None else around.intersect(self.within)

    def support(self, directions: Array) -> Array:
        if self.norm == np.inf:
            return self.box().support(directions)
        d = np.asarray(directions, dtype=np.float64)
        center = np.einsum("...rn,...n->...r", d, self.middle)
        size = np.einsum("...rn,...n->...r", np.abs(d), np.abs(self.middle))
        dual = np.sqrt(np.einsum("...rn,...rn->...r", d, d)) if self.norm == 2 else np.abs(d).max(axis=-1)
        reach = np.asarray(self.radius)[..., None] * dual
        value = up(center + reach + gamma(self.size + 4) * (size + reach))
        return np.minimum(value, self.box().support(d))

    def rows(self) -> Rows:
        if self.norm == np.inf:
            return Rows(np.zeros((0, self.size)), np.zeros(0))
        if self.norm == 1 and self.size <= _ROWS_LIMIT:
            signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * self.size)).reshape(self.size, -1).T
            return Rows(signs, signs @ self.middle + self.radius)
        raise UnsupportedOperation(
            f"an l{self.norm:g} ball in {self.size} inputs is not a short list of linear constraints; use its box() or the l-inf ball"
        )

    def sample(self, count: int, seed: int | np.random.Generator = 0) -> Array:
        generator = np.random.default_rng(seed)
        if self.norm == np.inf:
            return self.box().sample(count, generator)
        if self.norm == 2:
            direction = generator.standard_normal((count, self.size))
            direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        else:
            direction = generator.exponential(size=(count, self.size)) * generator.choice(
                [-1.0, 1.0], (count, self.size)
            )
            direction /= np.abs(direction).sum(axis=1, keepdims=True)
        points = self.middle + self.radius * generator.random((count, 1)) ** (1 / self.size) * direction
        return points if self.within is None else self.within.project(points)

    def contains(self, x: Array) -> BoolArray:
        inside = np.linalg.norm(x - self.middle, ord=self.norm, axis=-1) <= self.radius
        return inside if self.within is None else inside & self.within.contains(x)

    def project(self, x: Array) -> Array:
        step = x - self.middle
        if self.norm == np.inf:
            return self.box().project(x)
        if self.norm == 2:
            length = np.linalg.norm(step, axis=-1, keepdims=True)
            step = step * np.minimum(1, np.asarray(self.radius)[..., None] / np.maximum(length, 1e-300))
        else:
            step = _project_l1(step, float(np.max(self.radius)))
        moved = self.middle + step
        return moved if self.within is None else self.within.project(moved)


def _project_l1(step: Array, radius: float) -> Array:
    """Nearest point of the l1 ball around 0 (Efficient Projections onto the l1-Ball, Duchi et al., 2008)."""
    size = np.sort(np.abs(step), axis=-1)[..., ::-1]
    excess = (np.cumsum(size, axis=-1) - radius) / np.arange(1, step.shape[-1] + 1)
    count = np.maximum(np.sum(size > excess, axis=-1, keepdims=True), 1)
    shift = np.maximum(np.take_along_axis(excess, count - 1, axis=-1), 0)
    return np.sign(step) * np.maximum(np.abs(step) - shift, 0)
