"""What follows from an activation's value and derivative."""

import math
from typing import Any

import numpy as np

from relukit.activations.catalogue import Activation
from relukit.piecewise import PiecewiseLinear, Smooth

_FAR = 3.0e38  # just below the largest float32


def facts(row: Activation) -> dict[str, Any]:
    """A row of the catalogue with its derived numbers, ready for JSON.

    `float32_zero_gradient` holds the points beyond which the correctly rounded float32 derivative is exactly 0 to the left
    and to the right (None: nowhere).
    """
    keys = ("name", "formula", "latex", "torch", "functional", "keras", "onnx", "pros", "cons")
    found: dict[str, Any] = {key: getattr(row, key) for key in keys}
    if not row.entrywise:
        return {**found, "kind": "piecewise linear", "entrywise": False}
    f = row()
    zero = np.zeros(1)
    kinks = [float(t) for t in np.ravel(f.knots)] if isinstance(f, PiecewiseLinear) else list(getattr(f, "kinks", ()))
    low, high = f.slope_range() if isinstance(f, (PiecewiseLinear, Smooth)) else (math.nan, math.nan)
    return _plain(
        found
        | {
            "kind": "piecewise linear" if isinstance(f, PiecewiseLinear) else "smooth",
            "entrywise": True,
            "kinks": kinks,
            "limits": list(getattr(f, "limits", (math.nan, math.nan))),
            "derivative_range": [low, high],
            "lipschitz": f.lipschitz(),
            "gain": f.gain() if isinstance(f, (PiecewiseLinear, Smooth)) else math.nan,
            "value_at_0": float(f(zero)[0]),
            "derivative_at_0": float(f.derivative(zero)[0]),
            "derivative_at_0_sides": [float(f.derivative(np.array([t]))[0]) for t in (-1e-300, 1e-300)],
            "float32_zero_gradient": [_dead_point(f, -1.0), _dead_point(f, 1.0)],
        }
    )


def _plain(value: Any) -> Any:
    """Infinite numbers as the strings "inf" and "-inf": JSON has no others."""
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _dead_point(f: Any, side: float) -> float | None:
    """The float32 number nearest to 0 on that side beyond which the float32 derivative stays exactly 0."""
    gradient = lambda x: float(f.derivative(np.array([x], np.float32))[0])
    if gradient(side * _FAR) != 0:
        return None
    # From far out inwards, over the exponents, then by halving between neighbors.
    grid = side * np.logspace(-6, math.log10(_FAR), 4000, dtype=np.float64).astype(np.float32)
    alive = np.flatnonzero(f.derivative(grid) != 0)
    if not len(alive):
        return 0.0
    near, far = float(grid[alive[-1]]), float(grid[alive[-1] + 1])
    while True:
        middle = float(np.float32(0.5 * (near + far)))
        if middle in (near, far):
            return far
        near, far = (middle, far) if gradient(middle) != 0 else (near, middle)
