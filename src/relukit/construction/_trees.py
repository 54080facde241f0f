r"""Bounds of the rounding errors of max-min trees, for any order of summation: forms on a box, and hats of a triangulation.

Let u be the unit roundoff and the affine pieces be off by at most e, and let none exceed M by size. Every node of the tree stands for the
minimum or maximum of some of them, so it is at most M too, and a maximum of perturbed values is off by no more than they are. What a level adds is its
own rounding. With skip connections a level computes :math:`a + \max(0, b - a)`: at most :math:`3u (M + e)`. Without, a and b come as three terms
each (a gap of up to 2M, and the two sides of a kept value): at most :math:`\gamma_6 \cdot 6 (M + e)` in the gap and twice
:math:`\gamma_3 \cdot 3 (M + e)` in what is kept.

On a triangulation this is done for every hat on every simplex, with sizes taken at the simplex's corners. On a simplex of its own star a hat
is off by the tree's error. On any other its bracket is at most 0, and at most the greatest over groups of the least over pieces of the largest
corner value, so where that lies below 0 by more than the tree's error the hat is 0 in both. The hats that are left meet in the sum of the output.
"""

from typing import Any

import numpy as np

from relukit._numerics import unit_roundoff
from relukit._types import Array
from relukit.construction._maxima import Difference, MaxMin
from relukit.construction._meshes import Triangulation
from relukit.sets import Box

_MOST = 3e8  # pieces times simplices that are bounded: some 10,000 triangles, a few seconds
_LEVEL, _PLAIN, _CLOSE = (
    4,
    60,
    10,
)  # roundings of a level with skips (3), without (54), of the last sum without (9), second order included


def _levels(longest: int, groups: int) -> int:
    return (longest - 1).bit_length() + (groups - 1).bit_length()


def _tree(error: Any, size: Any, levels: int, u: float, skip: bool) -> Any:
    """How far a tree's value is off whose pieces are off by `error` and at most `size`."""
    error = error if skip else 2 * error  # the two sides of a piece round by themselves
    for _ in range(levels):
        error = error + (_LEVEL if skip else _PLAIN) * u * (size + error)
    return error if skip else error + _CLOSE * u * (size + error)


def form_bound(function: MaxMin | Difference, box: Box, dtype: Any, skip: bool) -> float | None:
    """Bound of |network - function| on a box, weights included; None where float32 cannot hold its numbers."""
    if isinstance(function, Difference):
        parts = [(form_bound(f, box, dtype, skip), _largest(f, box)) for f in (function.first, function.second)]
        if any(error is None for error, _ in parts):
            return None
        errors = sum(error for error, _ in parts if error is not None)
        return errors + 2 * unit_roundoff(dtype) * (sum(size for _, size in parts) + errors)
    u, n = unit_roundoff(dtype), function.inputs
    size = _largest(function, box)
    first = 1.01 * (n + 4) * u * size + (n + 2) * float(np.finfo(dtype).tiny)
    levels = _levels(max(map(len, function.groups)), len(function.groups))
    return _finite(float(_tree(first, size * (1 + 1e-12), levels, u, skip)), dtype, function.A, function.b)


def _largest(function: MaxMin, box: Box) -> float:
    """What no piece, summed with the sizes of its terms, exceeds on a box."""
    return float((np.abs(function.A) @ np.maximum(np.abs(box.lower), np.abs(box.upper)) + np.abs(function.b)).max())


def mesh_bound(mesh: Triangulation, dtype: Any, skip: bool, centered: bool) -> float | None:
    """Bound of |network - function| on the triangulated set, weights included; None where float32 cannot hold the numbers, or for huge meshes."""
    pieces = sum(len(functions) for _, functions, _ in mesh.hats)
    if pieces * len(mesh.simplices) > _MOST:
        return None
    u, n, tiny = unit_roundoff(dtype), mesh.inputs, float(np.finfo(dtype).tiny)
    X, S = mesh.points, mesh.simplices
    moved = np.abs(X.astype(dtype).astype(np.float64) - X)
    levels = _levels(
        max(len(g) for _, _, groups in mesh.hats for g in groups), max(len(groups) for _, _, groups in mesh.hats)
    )
    errors, awake = np.zeros(len(S)), np.zeros(len(S))
    with np.errstate(over="ignore", invalid="ignore"):
        for v, functions, groups in mesh.hats:
            F = np.array([[float(a) for a in f] for f in functions])
            slope, height = F[:, :n], abs(float(mesh.values[v]))
            if _finite(1.0, dtype, F) is None:
                return None
            reach = 1 + np.abs(X - X[v]) @ np.abs(slope).T  # corners times pieces
            value = 1 + (X - X[v]) @ slope.T
            doubt = (n + 4) * 2.0**-52 * reach  # of the line above
            high, low = (value + doubt)[S].max(axis=1), (value - doubt)[S].min(axis=1)
            if centered:
                first = (n + 5) * u * reach[S].max(axis=1) + np.abs(slope) @ moved[v]
            else:
                first = (n + 4) * u * (np.abs(X) @ np.abs(slope).T + np.abs(F[:, n]))[S].max(axis=1)
            size = np.maximum(np.abs(high), np.abs(low)).max(axis=1)
            error = _tree(1.01 * first.max(axis=1) + (n + 3) * tiny, size, levels, u, skip)
            top = np.max([high[:, g].min(axis=1) for g in groups], axis=0)
            own = np.any(v == S, axis=1)
            passed = np.where(own, error, np.maximum(0, np.minimum(top, 0) + error))
            errors += height * passed
            awake += own | (passed > 0)
        total = errors + 1.01 * (awake + 3) * u * (np.abs(mesh.values[S]).max(axis=1) + errors) + tiny
        return _finite(float(total.max()), dtype, mesh.values)


def _finite(bound: float, dtype: Any, *numbers: Array) -> float | None:
    """The bound, unless it or a number is beyond the precision's range."""
    with np.errstate(over="ignore"):
        held = all(np.all(np.isfinite(a.astype(dtype))) for a in numbers)
    return bound if held and np.isfinite(bound) else None
