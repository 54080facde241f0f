"""Polytopes: a box cut by half-spaces."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from relukit._errors import EmptySet, InvalidInput, ShapeMismatch
from relukit._numerics import gamma, up
from relukit._types import Array, BoolArray
from relukit.sets._abstract import AbstractSet, Rows
from relukit.sets._box import Box


@dataclass(frozen=True, eq=False)
class Polytope(AbstractSet):
    """All x in `within` with `A x <= b`; one set, no batch.

    Arguments:
        A: Shape `(m, n)`.
        b: Shape `(m,)`.
        within: A box that also holds; it keeps the set bounded.

    Raises:
        ShapeMismatch: The shapes do not belong together.
        InvalidInput: A number is not finite.
        EmptySet: No point satisfies all constraints (found when a point is first asked for).
    """

    A: Array
    b: Array
    within: Box

    def __post_init__(self) -> None:
        A, b = np.asarray(self.A, dtype=np.float64), np.asarray(self.b, dtype=np.float64)
        if A.ndim != 2 or b.shape != A.shape[:1] or A.shape[1] != self.within.size or self.within.batch:
            raise ShapeMismatch(
                f"a polytope needs A (m, n), b (m,) and one box of n: got {A.shape}, {b.shape}, n = {self.within.size}"
            )
        if not (np.all(np.isfinite(A)) and np.all(np.isfinite(b))):
            raise InvalidInput("a polytope needs finite constraints")
        object.__setattr__(self, "A", A)
        object.__setattr__(self, "b", b)

    @property
    def batch(self) -> tuple[int, ...]:
        return ()

    @property
    def size(self) -> int:
        return self.A.shape[1]

    def _maximize(self, direction: Array) -> tuple[Array, Array]:
        """A maximizer of d . x and multipliers of the rows, by HiGHS."""
        from scipy.optimize import linprog

        result = linprog(
            -direction, self.A, self.b, bounds=np.stack([self.within.lower, self.within.upper], 1), method="highs"
        )
        if result.status == 2:
            raise EmptySet("no point satisfies all constraints of the polytope")
        if result.status != 0:
            raise InvalidInput(f"the linear program over the polytope failed: {result.message}")
        return result.x, np.maximum(-result.ineqlin.marginals, 0)

    def support(self, directions: Array) -> Array:
        # Any multipliers y >= 0 give a bound: d.x <= y.b + max over the box of (d - A'y).x. So the solver need not be right.
        directions = np.asarray(directions, dtype=np.float64)
        values = np.empty(directions.shape[:-1])
        for i, d in enumerate(directions):
            y = self._maximize(d)[1]
            rest = d - y @ self.A
            reach = np.maximum(np.abs(self.within.lower), np.abs(self.within.upper))
            error = gamma(len(y) + 2) * (np.abs(y) @ np.abs(self.b) + (np.abs(d) + np.abs(y) @ np.abs(self.A)) @ reach)
            values[i] = up(y @ self.b + self.within.support(rest[None])[0] + error)
        return np.minimum(values, self.within.support(directions))

    @cached_property
    def _box(self) -> Box:
        eye = np.eye(self.size)
        lower, upper = -self.support(-eye), self.support(eye)
        return Box(np.minimum(lower, upper), upper)

    def box(self) -> Box:
        return self._box

    def rows(self) -> Rows:
        return Rows(self.A, self.b)

    @cached_property
    def _center(self) -> Array:
        # Chebyshev center: the largest ball that fits.
        from scipy.optimize import linprog

        norms = np.linalg.norm(self.A, axis=1)
        eye = np.eye(self.size)
        rows = np.vstack([np.c_[self.A, norms], np.c_[eye, np.ones(self.size)], np.c_[-eye, np.ones(self.size)]])
        limits = np.concatenate([self.b, self.within.upper, -self.within.lower])
        free = [(None, None)] * self.size + [(0, None)]
        result = linprog(np.r_[np.zeros(self.size), -1.0], rows, limits, bounds=free, method="highs")
        if result.status != 0:
            raise EmptySet("no point satisfies all constraints of the polytope")
        return result.x[:-1]

    def center(self) -> Array:
        return self._center

    def sample(self, count: int, seed: int | np.random.Generator = 0) -> Array:
        """Hit-and-run from the Chebyshev center, 10 steps between points."""
        generator = np.random.default_rng(seed)
        eye = np.eye(self.size)
        A = np.vstack([self.A, eye, -eye])
        b = np.concatenate([self.b, self.within.upper, -self.within.lower])
        x, points = self.center().copy(), np.empty((count, self.size))
        for i in range(count):
            for _ in range(10):
                d = generator.standard_normal(self.size)
                speed, slack = A @ d, np.maximum(b - A @ x, 0)
                with np.errstate(divide="ignore", invalid="ignore"):
                    ratio = slack / speed
                ahead = np.min(ratio[speed > 0], initial=np.inf)
                behind = np.max(ratio[speed < 0], initial=-np.inf)
                if np.isfinite(ahead) and np.isfinite(behind):
                    x = x + d * generator.uniform(behind, ahead)
            points[i] = x
        return self.within.project(points)

    def contains(self, x: Array) -> BoolArray:
        return np.all(np.asarray(x) @ self.A.T <= self.b, axis=-1) & self.within.contains(x)

    def project(self, x: Array) -> Array:
        """Dykstra's alternating projections (1983), 200 rounds: a point within about 1e-9 of the nearest one."""
        points = np.atleast_2d(np.asarray(x, dtype=np.float64)).copy()
        norms = np.maximum((self.A**2).sum(axis=1), 1e-300)
        memory = np.zeros((len(self.b) + 1, *points.shape))
        for _ in range(200):
            for j in range(len(self.b)):
                moved = points + memory[j]
                excess = np.maximum(moved @ self.A[j] - self.b[j], 0) / norms[j]
                points = moved - excess[:, None] * self.A[j]
                memory[j] = moved - points
            moved = points + memory[-1]
            points = self.within.project(moved)
            memory[-1] = moved - points
        return points.reshape(np.shape(x))
