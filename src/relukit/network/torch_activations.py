"""Activations among ATen operators, clamps and thresholds too."""

from collections.abc import Callable
from functools import partial

import numpy as np

from relukit.activations import catalogue
from relukit.network.rewrite import Builder
from relukit.network.torch_call import Call, constant, index_of


def _threshold(call: Call, b: Builder) -> int:
    """x above the threshold, else the value: continuous where the two are equal."""
    level, fill = float(call.args[1]), float(call.args[2])
    if level != fill:
        raise call.refuse(f"jumps from {fill} to {level} there: no affine piece holds. Use equal numbers, or relu.")
    return b.activation(
        index_of(call), catalogue.relu() if level == 0 else catalogue.clip(level, np.inf), call.path, call.source
    )


def _clamp(call: Call, b: Builder) -> int:
    low, high = call.argument(1, "min"), call.argument(2, "max")
    if call.kind.startswith("clamp_max"):
        low, high = None, call.args[1]
    low, high = (-np.inf if low is None else float(low)), (np.inf if high is None else float(high))
    op = catalogue.relu() if (low, high) == (0.0, np.inf) else catalogue.clip(low, high)
    return b.activation(index_of(call), op, call.path, call.source)


def _activation(call: Call, b: Builder, name: str, names: tuple[str, ...] = ()) -> int:
    given = {n: call.argument(k + 1, n) for k, n in enumerate(names)}
    return b.activation(
        index_of(call), catalogue.get(name, **{k: v for k, v in given.items() if v is not None}), call.path, call.source
    )


def _prelu(call: Call, b: Builder) -> int:
    x, weight = index_of(call), constant(call.args[1])
    if weight.size > 1:
        shape = b.shape(x)
        weight = np.broadcast_to(weight.reshape(-1, *[1] * (len(shape) - 2)), shape[1:]).ravel()
    return b.activation(x, catalogue.prelu(weight), call.path, call.source)


ROWS: dict[str, Callable[[Call, Builder], int]] = {
    "threshold": _threshold,
    "threshold_": _threshold,
    "celu": partial(_activation, name="celu", names=("alpha",)),
    "clamp": _clamp,
    "clamp_": _clamp,
    "clamp_min": _clamp,
    "clamp_max": _clamp,
    "relu": partial(_activation, name="relu"),
    "relu_": partial(_activation, name="relu"),
    "leaky_relu": partial(_activation, name="leaky_relu", names=("negative_slope",)),
    "leaky_relu_": partial(_activation, name="leaky_relu", names=("negative_slope",)),
    "prelu": _prelu,
    "_prelu_kernel": _prelu,
    "elu": partial(_activation, name="elu", names=("alpha",)),
    "gelu": lambda c, b: b.activation(
        index_of(c), catalogue.gelu(c.kwargs.get("approximate", "none")), c.path, c.source
    ),
    "sigmoid": partial(_activation, name="sigmoid"),
    "tanh": partial(_activation, name="tanh"),
    "silu": partial(_activation, name="silu"),
    "silu_": partial(_activation, name="silu"),
    "softplus": partial(_activation, name="softplus", names=("beta",)),
    "relu6": partial(_activation, name="relu6"),
    "hardtanh": partial(_activation, name="hardtanh", names=("min_val", "max_val")),
    "hardtanh_": partial(_activation, name="hardtanh", names=("min_val", "max_val")),
    "hardsigmoid": partial(_activation, name="hardsigmoid"),
    "hardswish": partial(_activation, name="hardswish"),
    "hardswish_": partial(_activation, name="hardswish"),
    "abs": partial(_activation, name="abs"),
    "mish": partial(_activation, name="mish"),
    "selu": partial(_activation, name="selu"),
    "selu_": partial(_activation, name="selu"),
}
