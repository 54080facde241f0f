"""What follows from an activation's value and derivative, and what the installed torch does with it."""

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


def torch_facts(row: Activation) -> dict[str, Any]:
    """What the installed torch computes: derivative at 0, and where its float32 gradient is exactly 0.

    `zero_conventions` for ReLU lists the derivative at 0 of each way of writing it.
    """
    import torch
    from torch import nn

    if not row.torch or not hasattr(nn, row.torch):
        return {}
    module = getattr(nn, row.torch)().eval()

    def gradient(points: Any) -> Any:
        x = torch.as_tensor(np.asarray(points, np.float32)).requires_grad_()
        module(x).sum().backward()
        return x.grad.numpy()

    found: dict[str, Any] = {"derivative_at_0": float(gradient([0.0])[0])}
    sides = []
    for side in (-1, 1):
        grid = side * np.logspace(-3, 4, 20_001).astype(np.float32)
        alive = np.flatnonzero(gradient(grid) != 0)
        last = alive[-1] if len(alive) else -1
        sides.append(None if last == len(grid) - 1 else float(grid[last + 1]))
    found["float32_zero_gradient"] = sides
    if row.name == "relu":
        found["zero_conventions"] = zero_conventions()
    return found


def zero_conventions() -> dict[str, float]:
    """Derivative at 0 of each way to write ReLU, measured on the installed torch."""
    import torch
    from torch.nn import functional as F

    ways = {
        "F.relu(x)": F.relu,
        "torch.maximum(x, 0)": lambda x: torch.maximum(x, torch.zeros_like(x)),
        "x.clamp(min=0)": lambda x: x.clamp(min=0),
        "torch.clamp_min(x, 0)": lambda x: torch.clamp_min(x, 0),
        "torch.where(x > 0, x, 0)": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
        "x * (x > 0)": lambda x: x * (x > 0),
        "(x + |x|) / 2": lambda x: (x + x.abs()) / 2,
        "F.leaky_relu(x, 0.01)": lambda x: F.leaky_relu(x, 0.01),
        "F.hardtanh(x, 0, 1e9)": lambda x: F.hardtanh(x, 0, 1e9),
    }
    found = {}
    for name, way in ways.items():
        x = torch.zeros(1, requires_grad=True)
        way(x).sum().backward()
        found[name] = float(x.grad[0]) if x.grad is not None else math.nan
    return found
