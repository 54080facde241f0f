"""What the installed torch and Keras make of an activation: derivatives at 0, vanishing gradients, lost digits."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from relukit._types import Array
from relukit.activations.catalogue import Activation

_FAR = 4e4  # beyond, every float32 formula has reached its limit
_REACH = 5.0  # where relative errors are looked for: pre-activations seldom lie beyond


def torch_facts(row: Activation) -> dict[str, Any]:
    """What the installed torch computes in float32.

    Returns:
        `value_at_0`, `derivative_at_0`; `float32_zero_gradient`: the points beyond which the gradient is exactly 0 to the left
        and to the right (None: nowhere); `largest_relative_error` of the value between -5 and 5, and `at` which point.
        For ReLU `zero_conventions` lists the derivative at 0 of each way of writing it. Empty for what is no function of one
        variable.
    """
    import torch

    way = _torch_way(row)
    if way is None:
        return {}

    def gradient(points: Array) -> Array:
        x = torch.as_tensor(np.asarray(points, np.float32)).requires_grad_()
        way(x).sum().backward()
        return x.grad.numpy() if x.grad is not None else np.zeros(x.shape)

    with torch.no_grad():
        x = np.linspace(-_REACH, _REACH, 4801, dtype=np.float32)
        value, at_zero = way(torch.as_tensor(x)).numpy(), float(way(torch.zeros(1))[0])
    exact = row()(x.astype(np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(value == exact, 0.0, np.abs(value - exact) / np.abs(exact))
    worst = int(np.argmax(np.where(exact == 0, 0.0, error)))
    found: dict[str, Any] = {
        "value_at_0": at_zero,
        "derivative_at_0": float(gradient(np.zeros(1))[0]),
        "float32_zero_gradient": [_dead_side(gradient, side) for side in (-1, 1)],
        "largest_relative_error": float(error[worst]) if exact[worst] else 0.0,
        "at": float(x[worst]),
    }
    if row.name == "relu":
        found["zero_conventions"] = zero_conventions()
    return found


def _torch_way(row: Activation) -> Callable[[Any], Any] | None:
    from torch import nn

    if hasattr(nn, row.torch):
        return getattr(nn, row.torch)().eval()
    # What torch has no module for, as the catalogue says to write it.
    return {
        "abs": lambda x: x.abs(),
        "clip": lambda x: x.clamp(0, 6),
        "relu_squared": lambda x: x.relu().square(),
    }.get(row.name)


def _dead_side(gradient: Callable[[Array], Array], side: int) -> float | None:
    """The float32 number nearest to 0 beyond which the gradient stays exactly 0 on that side, or None."""
    grid = np.concatenate([[0.0], side * np.logspace(-40, math.log10(_FAR), 20_001)]).astype(np.float32)
    alive = np.flatnonzero(gradient(grid) != 0)
    if len(alive) == 0:
        return 0.0
    if alive[-1] == len(grid) - 1:
        return None
    near, far = grid[alive[-1]], grid[alive[-1] + 1]
    while True:
        middle = np.float32(0.5 * (near + far))
        if middle in (near, far):
            return float(far)
        near, far = (middle, far) if gradient(np.array([middle]))[0] != 0 else (near, middle)


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


def keras_facts(row: Activation) -> dict[str, Any]:
    """Value and derivative at 0 by the installed Keras on torch; empty where Keras is missing, runs on another backend, or
    has no such activation."""
    from importlib.util import find_spec

    if not row.keras.isidentifier() or find_spec("keras") is None:
        return {}
    import os

    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    if keras.config.backend() != "torch":
        return {}
    import torch

    way = getattr(keras.activations, row.keras, None) or getattr(keras.layers, row.keras, lambda: None)()
    if way is None:
        return {}
    x = torch.zeros(1, 1, requires_grad=True)
    y = way(x)
    y.sum().backward()
    return {"value_at_0": float(y.detach()), "derivative_at_0": float(x.grad) if x.grad is not None else math.nan}
