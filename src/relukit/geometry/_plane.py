"""Planes and polygons from what people have at hand: points, a point and two directions, two inputs of a row."""

from typing import Any

import numpy as np

from relukit._errors import EmptySet, InvalidInput, ShapeMismatch
from relukit.geometry._regions import Plane
from relukit.sets import Box, Polytope


def plane_through(a: Any, b: Any, c: Any) -> Plane:
    """The plane through three points; its coordinates (0, 0), (1, 0), (0, 1) are these."""
    a, b, c = (np.asarray(p, float).ravel() for p in (a, b, c))
    if not len(a) == len(b) == len(c):
        raise ShapeMismatch(f"the three points have {len(a)}, {len(b)} and {len(c)} entries")
    return Plane(a, b - a, c - a)


def plane_of_inputs(at: Any, i: int, j: int) -> Plane:
    """The plane in which inputs i and j vary and the others stay as in `at`; coordinates are the two inputs' values."""
    origin = np.array(at, float).ravel()
    n = len(origin)
    if not (0 <= i < n and 0 <= j < n) or i == j:
        raise InvalidInput(f"a slice needs two different inputs between 0 and {n - 1}, got {i} and {j}")
    origin[[i, j]] = 0.0
    u, v = np.zeros(n), np.zeros(n)
    u[i], v[j] = 1.0, 1.0
    return Plane(origin, u, v)


def polygon(points: Any) -> Polytope:
    """A convex polygon from its corners, in either order, as a domain for `regions`.

    Arguments:
        points: Corners, shape `(count, 2)`.

    Raises:
        ShapeMismatch: Fewer than three corners, or not in two coordinates.
        InvalidInput: Not convex, or not finite.
        EmptySet: All corners lie on one line.
    """
    points = np.asarray(points, float)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
        raise ShapeMismatch(f"a polygon needs at least three corners with two coordinates, got shape {points.shape}")
    if not np.all(np.isfinite(points)):
        raise InvalidInput("a polygon needs finite corners")
    after = np.roll(points, -1, axis=0)
    x, y = points[:, 0], points[:, 1]
    area = float(np.sum(x * after[:, 1] - after[:, 0] * y))
    if area == 0:
        raise EmptySet("the polygon's corners lie on one line: it has no area")
    step = (after - points) * np.sign(area)
    A = np.stack([step[:, 1], -step[:, 0]], axis=1)
    b = np.sum(A * points, axis=1)
    outside = A @ points.T - b[:, None]
    if np.max(outside) > 1e-12 * float(np.max(np.abs(A))) * (1 + float(np.max(np.abs(points)))):
        raise InvalidInput("the polygon is not convex: cut it into convex ones and ask for each")
    b = np.maximum(b, np.max(A @ points.T, axis=1))
    return Polytope(A, b, Box(points.min(axis=0), points.max(axis=0)))
