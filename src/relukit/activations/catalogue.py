"""The one table of activations: name, formula, value, and what it is called in torch, Keras and ONNX."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from relukit._errors import InvalidInput
from relukit._types import Array
from relukit.piecewise import AbstractActivation, PiecewiseLinear, Smooth


@dataclass(frozen=True)
class Activation:
    """A row of the catalogue.

    Arguments:
        name: Lower-case name.
        formula: Plain text.
        make: Builds the activation from its parameters (those of torch, by the same names).
        torch: Class name in `torch.nn`.
        keras: Name in `keras.activations` or `keras.layers`.
        onnx: ONNX operator.
    """

    name: str
    formula: str
    make: Callable[..., AbstractActivation]
    torch: str = ""
    keras: str = ""
    onnx: str = ""

    def __call__(self, **parameters) -> AbstractActivation:
        return self.make(**parameters)


def _pwl(name: str, knots, slopes, height=0.0, **parameters) -> PiecewiseLinear:
    return PiecewiseLinear(knots, slopes, height, name, parameters)


def relu() -> PiecewiseLinear:
    return _pwl("relu", [0.0], [0.0, 1.0])


def leaky_relu(negative_slope: float = 0.01) -> PiecewiseLinear:
    return _pwl("leaky_relu", [0.0], [negative_slope, 1.0], negative_slope=negative_slope)


def prelu(weight: Array) -> PiecewiseLinear:
    """Slopes learned per unit or shared."""
    weight = np.asarray(weight, np.float64)
    slopes = (
        np.stack([weight, np.ones_like(weight)]) if weight.ndim and weight.size > 1 else [float(weight.ravel()[0]), 1.0]
    )
    return _pwl("prelu", [0.0], slopes)


def clip(low: float = 0.0, high: float = 6.0, name: str = "clip") -> PiecewiseLinear:
    """min(max(x, low), high); an infinite side is left open."""
    if low == high:
        return _pwl(name, [], [0.0], low)
    if math.isinf(low) and math.isinf(high):
        return identity()
    if math.isinf(high):
        return _pwl(name, [low], [0.0, 1.0], low, low=low, high=high)
    if math.isinf(low):
        return _pwl(name, [high], [1.0, 0.0], high, low=low, high=high)
    return _pwl(name, [low, high], [0.0, 1.0, 0.0], low, low=low, high=high)


def relu6() -> PiecewiseLinear:
    return clip(0.0, 6.0, "relu6")


def hardtanh(min_val: float = -1.0, max_val: float = 1.0) -> PiecewiseLinear:
    return clip(min_val, max_val, "hardtanh")


def hardsigmoid(alpha: float = 1 / 6, beta: float = 0.5) -> PiecewiseLinear:
    return _pwl("hardsigmoid", [-beta / alpha, (1 - beta) / alpha], [0.0, alpha, 0.0], 0.0, alpha=alpha, beta=beta)


def absolute() -> PiecewiseLinear:
    return _pwl("abs", [0.0], [-1.0, 1.0])


def identity() -> PiecewiseLinear:
    return _pwl("identity", [], [1.0])


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e)).astype(x.dtype)


def sigmoid() -> Smooth:
    return Smooth("sigmoid", _sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x), (0.0,), 0.25)


def tanh() -> Smooth:
    def slope(x: Array) -> Array:
        e = np.exp(-2 * np.abs(x))
        return (4 * e / (1 + e) ** 2).astype(x.dtype)

    return Smooth("tanh", np.tanh, slope, (0.0,), 1.0)


def elu(alpha: float = 1.0) -> Smooth:
    def value(x: Array) -> Array:
        return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))).astype(x.dtype)

    def slope(x: Array) -> Array:
        return np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0))).astype(x.dtype)

    return Smooth("elu", value, slope, (0.0,), max(1.0, abs(alpha)), {"alpha": alpha})


def _normal_cdf(x: Array) -> Array:
    from scipy.special import ndtr

    return ndtr(x)


def _normal_pdf(x: Array) -> Array:
    return np.exp(-0.5 * x * x) / np.asarray(math.sqrt(2 * math.pi), x.dtype)


_C = math.sqrt(2 / math.pi)


def _gelu_tanh(x: Array) -> Array:
    return (x * _sigmoid(2 * _C * (x + 0.044715 * x**3))).astype(x.dtype)


def _gelu_tanh_slope(x: Array) -> Array:
    t = 2 * _C * (x + 0.044715 * x**3)
    s = _sigmoid(t)
    return (s + x * s * _sigmoid(-t) * 2 * _C * (1 + 3 * 0.044715 * x * x)).astype(x.dtype)


def gelu(approximate: str = "none") -> Smooth:
    if approximate == "tanh":
        # Inflections of the tanh form, found by bisection of its second difference to 1e-15.
        return Smooth("gelu", _gelu_tanh, _gelu_tanh_slope, (-1.4146124, 1.4146124), 1.13, {"approximate": "tanh"})
    root = math.sqrt(2)  # gelu'' = phi(x) (2 - x^2)
    return Smooth(
        "gelu",
        lambda x: x * _normal_cdf(x),
        lambda x: _normal_cdf(x) + x * _normal_pdf(x),
        (-root, root),
        1.1289043,
        {"approximate": "none"},
    )


def silu() -> Smooth:
    def slope(x: Array) -> Array:
        s = _sigmoid(x)
        return s + x * s * _sigmoid(-x)

    return Smooth("silu", lambda x: x * _sigmoid(x), slope, (-2.3993572805154675, 2.3993572805154675), 1.0998393)


def softplus(beta: float = 1.0) -> Smooth:
    return Smooth(
        "softplus",
        lambda x: np.logaddexp(0, beta * x).astype(x.dtype) / np.asarray(beta, x.dtype),
        lambda x: _sigmoid(beta * x),
        (),
        1.0,
        {"beta": beta},
    )


def hardswish() -> Smooth:
    # x clip(x + 3, 0, 6) / 6: quadratic between -3 and 3, where its slope jumps; those are stretch ends, too.
    def slope(x: Array) -> Array:
        return np.where(x <= -3, 0, np.where(x <= 3, (2 * x + 3) / 6, 1)).astype(x.dtype)

    return Smooth("hardswish", lambda x: (x * np.clip(x + 3, 0, 6) / 6).astype(x.dtype), slope, (-3.0, 3.0), 1.5)


CATALOGUE: dict[str, Activation] = {
    row.name: row
    for row in [
        Activation("relu", "max(0, x)", relu, "ReLU", "relu", "Relu"),
        Activation(
            "leaky_relu", "x if x > 0 else negative_slope * x", leaky_relu, "LeakyReLU", "leaky_relu", "LeakyRelu"
        ),
        Activation("prelu", "x if x > 0 else weight * x, weight learned", prelu, "PReLU", "PReLU", "PRelu"),
        Activation("elu", "x if x > 0 else alpha (exp(x) - 1)", elu, "ELU", "elu", "Elu"),
        Activation("gelu", "x Phi(x)", gelu, "GELU", "gelu", "Gelu"),
        Activation("sigmoid", "1 / (1 + exp(-x))", sigmoid, "Sigmoid", "sigmoid", "Sigmoid"),
        Activation("tanh", "tanh(x)", tanh, "Tanh", "tanh", "Tanh"),
        Activation("silu", "x / (1 + exp(-x))", silu, "SiLU", "silu", ""),
        Activation("softplus", "log(1 + exp(beta x)) / beta", softplus, "Softplus", "softplus", "Softplus"),
        Activation("relu6", "min(max(0, x), 6)", relu6, "ReLU6", "relu6", ""),
        Activation("hardtanh", "min(max(-1, x), 1)", hardtanh, "Hardtanh", "hard_tanh", ""),
        Activation(
            "hardsigmoid", "min(max(0, alpha x + beta), 1)", hardsigmoid, "Hardsigmoid", "hard_sigmoid", "HardSigmoid"
        ),
        Activation("hardswish", "x min(max(0, x + 3), 6) / 6", hardswish, "Hardswish", "hard_silu", "HardSwish"),
        Activation("abs", "|x|", absolute, "", "", "Abs"),
        Activation("clip", "min(max(x, low), high)", clip, "", "", "Clip"),
        Activation("identity", "x", identity, "Identity", "linear", "Identity"),
    ]
}


def get(name: str, **parameters) -> AbstractActivation:
    """The activation of that name.

    Raises:
        InvalidInput: There is no such row; the message lists those there are.
    """
    row = CATALOGUE.get(name.lower().replace("-", "_"))
    if row is None:
        raise InvalidInput(f"no activation '{name}'; the catalogue has {', '.join(CATALOGUE)}")
    return row(**parameters)
