r"""Networks that stay within a proven eps of any function with a Lipschitz constant or bounded second derivatives.

The network is the interpolant on a grid with steps h, cut into Kuhn simplices. All vertices of such a simplex lie on a sphere with the
cell's diagonal as diameter, whose center lies in the simplex. With barycentric coordinates :math:`\lambda_v(x)`,
:math:`\sum_v \lambda_v \|x - v\|^2 = R^2 - \|x - c\|^2 \le \|h\|^2 / 4`, hence

- :math:`|f(x) - f(y)| \le L \|x - y\|_2`: error at most :math:`\sum_v \lambda_v L \|x - v\| \le L \|h\|_2 / 2` (Jensen);
- :math:`|f(x) - f(y)| \le \sum_k L_k |x_k - y_k|`: error at most :math:`\sum_k L_k h_k / 2`;
- :math:`\|D^2 f\|_2 \le M`: error at most :math:`M \|h\|_2^2 / 8` (Waldron, 1998).

In one dimension these are the well-known L h / 2 and M h^2 / 8. Rounding of the network's own arithmetic comes on top and is part of eps.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import ceil, prod
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, ShapeMismatch
from relukit._numerics import unit_roundoff
from relukit._shown import Shown
from relukit._types import Array
from relukit.construction._meshes import Grid
from relukit.sets import Box

_UNIT = 2.0**-53


@dataclass(frozen=True)
class Proof(Shown):
    """Why the network is within eps of the function, in numbers; `check` computes them again.

    Arguments:
        statement: What is proven.
        assumptions: What the caller vouches for.
        steps: Largest step of the grid along each input.
        interpolation: Bound of |f - interpolant|.
        value_error: How far the values of f at the grid's vertices may be off, as the caller said.
        rounding_float64, rounding_float32: Bounds of the network's arithmetic and of its rounded weights (inf or nan where unknown).
        eps: What was asked for; `total` is at most that, in float64.
    """

    statement: str
    assumptions: tuple[str, ...]
    steps: tuple[float, ...]
    lipschitz: float | tuple[float, ...] | None
    curvature: float | None
    interpolation: float
    value_error: float
    rounding_float64: float
    rounding_float32: float
    eps: float

    @property
    def total(self) -> float:
        return (self.interpolation + self.value_error + self.rounding_float64) * (1 + 8 * _UNIT)

    def check(self) -> bool:
        """Whether the bound follows from the steps and the constant, computed again with outward rounding."""
        bound = interpolation_bound(np.array(self.steps), self.lipschitz, self.curvature)
        return bound <= self.interpolation and self.total <= self.eps

    def to_dict(self) -> dict[str, Any]:
        known = lambda v: v if not isinstance(v, float) or np.isfinite(v) else None
        return {k: known(v) for k, v in asdict(self).items()} | {"total": self.total}


def interpolation_bound(steps: Array, lipschitz: Any, curvature: float | None) -> float:
    """The best of the bounds that the constants give, rounded up."""
    found, wide = [], 1 + (len(steps) + 6) * 2 * _UNIT
    if lipschitz is not None:
        L = np.asarray(lipschitz, float)
        found.append(float(L @ steps / 2 if L.ndim else L * np.sqrt((steps**2).sum()) / 2) * wide)
    if curvature is not None:
        found.append(float(curvature * (steps**2).sum() / 8) * wide)
    return min(found)


def _counts(box: Box, eps: float, lipschitz: Any, curvature: float | None) -> list[int]:
    """Cells along each input, as few as the constants allow."""
    side, n, options = box.upper - box.lower, box.size, []
    if lipschitz is not None:
        L = np.asarray(lipschitz, float)
        step = 2 * eps / (n * np.maximum(L, 1e-300)) if L.ndim else np.full(n, 2 * eps / (max(float(L), 1e-300) * np.sqrt(n)))  # fmt: skip
        options.append(step)
    if curvature is not None:
        options.append(np.full(n, np.sqrt(8 * eps / (max(curvature, 1e-300) * n))))
    counts = [[max(1, ceil(float(s / h * (1 - 1e-12)))) if s / h < 1e15 else 1 << 50 for s, h in zip(side, step)] for step in options]  # fmt: skip
    return min(counts, key=lambda c: prod(m + 1 for m in c))


def _constants(lipschitz: Any, curvature: Any, n: int) -> tuple[Any, float | None]:
    if lipschitz is None and curvature is None:
        raise InvalidInput("give lipschitz= (a bound of the gradient's length, or one per input) or curvature= (a bound of second derivatives): without one of them no finite set of values proves anything")  # fmt: skip
    if lipschitz is not None:
        L = np.asarray(lipschitz, float)
        if L.ndim > 1 or (L.ndim == 1 and len(L) != n):
            raise ShapeMismatch(f"lipschitz is one number or {n} of them, got shape {L.shape}")
        if not np.all(np.isfinite(L)) or np.any(L < 0):
            raise InvalidInput(f"lipschitz must be finite and not negative, got {lipschitz}")
        lipschitz = float(L) if not L.ndim else tuple(L.tolist())
    if curvature is not None:
        if not (np.isfinite(curvature) and curvature >= 0):
            raise InvalidInput(f"curvature must be finite and not negative, got {curvature}")
        curvature = float(curvature)
    return lipschitz, curvature


def interpolate(
    f: Callable[..., Any],
    box: Box,
    eps: float,
    lipschitz: Any = None,
    curvature: float | None = None,
    value_error: float = 0.0,
    limit: int = 1_000_000,
) -> tuple[Grid, Proof]:
    """A grid fine enough for eps, its values, and the proof; rounding is left for the caller to fill in.

    Arguments:
        f: Takes rows `(count, n)` and returns `(count,)` (or one row and a number).
        box: 1 to 3 inputs, with interior.
        value_error: How far a value of f may be from the truth.
        limit: Most vertices.

    Raises:
        InvalidInput: No constant was given, eps is not positive, f is not finite, or f moves faster than its constant allows.
    """
    if not isinstance(box, Box):
        box = Box(*np.atleast_2d(np.asarray(box, float).T if np.ndim(box) == 2 else np.asarray(box, float)[:, None]))
    n = box.size
    if box.batch or not 1 <= n <= 3:
        raise InvalidInput(f"functions of 1 to 3 inputs are built, the box has {n}")
    if np.any(box.lower >= box.upper):
        raise InvalidInput("the box has no interior: every input needs lower < upper")
    if not (np.isfinite(eps) and eps > 0):
        raise InvalidInput(f"eps must be positive, got {eps}")
    lipschitz, curvature = _constants(lipschitz, curvature, n)
    room = (eps - value_error) * (1 - 1e-6)
    counts: list[int] = []
    for _ in range(3):  # the rounding bound depends on the values: shrink the room once it is known
        if room <= 0:
            raise InvalidInput(f"eps = {eps} is below what float64 and the values' own error leave. Take a larger eps.")
        counts = _counts(box, room, lipschitz, curvature)
        if prod(m + 1 for m in counts) > limit:
            raise InvalidInput(
                f"eps = {eps} needs a grid of {' x '.join(str(m + 1) for m in counts)} vertices, more than limit={limit}. "
                "Take a larger eps or a smaller box, bound second derivatives (curvature=), or raise `limit`."
            )
        axes = tuple(np.linspace(a, b, m + 1) for a, b, m in zip(box.lower, box.upper, counts))
        if any(np.any(np.diff(a) <= 0) for a in axes):
            raise InvalidInput(f"eps = {eps} needs steps below the distance of two floats. Take a larger eps.")
        grid = Grid(axes, _values(f, axes))
        rounding = grid_rounding(grid, np.float64)
        steps = np.array([float(np.nextafter(np.diff(a).max(), np.inf)) for a in axes])
        bound = interpolation_bound(steps, lipschitz, curvature)
        if (bound + value_error + rounding) * (1 + 8 * _UNIT) <= eps:
            break
        room = min(room, eps - value_error - 1.01 * rounding) * (1 - 1e-6)
    else:
        raise InvalidInput(f"eps = {eps} is below what float64 leaves of it. Take a larger eps.")
    _consistent(grid, lipschitz, curvature, value_error)
    said = []
    if lipschitz is not None:
        said.append("|f(x) - f(y)| <= L |x - y|_2" if np.ndim(lipschitz) == 0 else "|f(x) - f(y)| <= sum_k L_k |x_k - y_k|")  # fmt: skip
    if curvature is not None:
        said.append("the Hessian's spectral norm is at most M")
    said.append(f"values of f at the vertices are within {value_error:g} of the truth")
    statement = f"|network(x) - f(x)| <= {eps:g} for every x of the box, in float64 arithmetic"
    proof = Proof(statement, tuple(said), tuple(steps.tolist()), lipschitz, curvature, bound, value_error, rounding, grid_rounding(grid, np.float32), float(eps))  # fmt: skip
    return grid, proof


def _values(f: Callable[..., Any], axes: tuple[Array, ...]) -> Array:
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))
    try:
        values = np.asarray(f(points), float).reshape(-1)
    except Exception:  # f may take one point only; where it fails there too, that error is told below
        values = None
    if values is None or len(values) != len(points):
        one = (lambda p: f(p[0])) if len(axes) == 1 else f
        found = []
        for p in points:
            try:
                v = np.asarray(one(p), float)
            except Exception as error:
                raise InvalidInput(
                    f"f takes neither rows of {len(axes)} input(s) nor one: {type(error).__name__}: {error}. The box decides how many: "
                    "box=([0, 0], [1, 1]) has two."
                ) from error
            if v.size != 1:
                raise ShapeMismatch(f"f must return one number for each point, got shape {v.shape}")
            found.append(float(v.reshape(())))
        values = np.array(found)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise InvalidInput(f"f is {values[bad[0]]} at {points[bad[0]].tolist()}: it must be finite on the whole box")
    return values.reshape([len(a) for a in axes])


def _consistent(grid: Grid, lipschitz: Any, curvature: float | None, value_error: float) -> None:
    """Refuse constants that the values themselves contradict."""
    scale = float(np.abs(grid.values).max())
    room = 2 * value_error + 1e-12 * scale
    for k, axis in enumerate(grid.axes):
        rise, step = np.diff(grid.values, axis=k), np.diff(axis)
        shape = [1] * grid.inputs
        shape[k] = -1
        if lipschitz is not None:
            L = float(np.broadcast_to(lipschitz, (grid.inputs,))[k])
            over = np.abs(rise) - L * step.reshape(shape) - room
            if over.max() > 0:
                i = np.unravel_index(int(over.argmax()), over.shape)
                raise InvalidInput(f"f rises by {abs(rise[i]):.6g} over a step of {step[i[k]]:.6g} of input {k} near {[float(a[j]) for a, j in zip(grid.axes, i)]}: lipschitz = {L} is too small. Give a valid bound.")  # fmt: skip
        if curvature is not None and len(axis) > 2:
            slope = rise / step.reshape(shape)
            bend = np.abs(np.diff(slope, axis=k)) / ((step[1:] + step[:-1]) / 2).reshape(shape)
            if bend.max() > curvature + 8 * room / step.min() ** 2:
                raise InvalidInput(f"second differences of f reach {bend.max():.6g} along input {k}: curvature = {curvature} is too small. Give a valid bound.")  # fmt: skip


def grid_rounding(grid: Grid, dtype: Any) -> float:
    r"""Bound of a grid network's rounding anywhere on its box, weights included.

    A ramp is a difference from a knot: relative error u, and the knot's own rounding d. Scaled by a rounded 1/h: 3u relative, d/h
    absolute. Each of the n - 1 levels of a maximum adds two roundings of it; 1 - A - B adds two of numbers below 3. At any x the
    simplices that are not off by a margin share a vertex, so at most 3, 7, 15 hats (1, 2, 3 inputs) carry an error, and as
    many products are summed.
    """
    u, n = unit_roundoff(dtype), grid.inputs
    moved = uneven = 0.0
    for axis in grid.axes:
        d = np.abs(axis.astype(dtype).astype(np.float64) - axis)
        h = np.diff(axis)
        moved = max(moved, float((d / np.minimum(np.r_[h, h[-1:]], np.r_[h[:1], h])).max()))
        uneven = max(uneven, float(h.max() / h.min()))
    largest, hats = float(np.abs(grid.values).max()), (2 << n) - 1
    hat = 2 * ((3 + 2 * (n - 1)) * u * 1.5 + moved) + 6 * u
    if hat * uneven > 0.1:  # a hat's error could reach beyond the next simplices
        return float("inf")
    return (hats * (hat + u) + (hats + 3) * u * 2) * largest * 1.01
