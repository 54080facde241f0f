"""The one table of activations: name, formula, value, what it is called elsewhere, and what speaks for and against it."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, UnsupportedOperation
from relukit._types import Array
from relukit.activations.smooth import (
    celu,
    elu,
    gelu,
    hardswish,
    mish,
    relu_squared,
    selu,
    sigmoid,
    silu,
    softplus,
    tanh,
)
from relukit.piecewise import AbstractActivation, PiecewiseLinear, Smooth


@dataclass(frozen=True)
class Activation:
    """A row of the catalogue.

    Arguments:
        name: Lower-case name.
        formula: Plain text.
        latex: The same in LaTeX.
        make: Builds the activation from its parameters (those of torch, by the same names).
        torch: Class name in `torch.nn` (in `relukit.nn` where torch has none).
        functional: Name in `torch.nn.functional`, or what to write instead.
        keras: Name in `keras.activations` or `keras.layers`.
        onnx: ONNX operator, or the few that make it.
        pros: What speaks for it, one sentence.
        cons: What speaks against it, one sentence.
        entrywise: Whether it is one function of one variable; CReLU and maxout are not.
    """

    name: str
    formula: str
    latex: str
    make: Callable[..., AbstractActivation]
    torch: str = ""
    functional: str = ""
    keras: str = ""
    onnx: str = ""
    pros: str = ""
    cons: str = ""
    entrywise: bool = True

    def __call__(self, **parameters) -> AbstractActivation:
        return self.make(**parameters)

    def facts(self) -> dict[str, Any]:
        """Everything that follows from value and derivative: kinks, limits, ranges, gain, what float32 does to it."""
        from relukit.activations.facts import facts

        return facts(self)


def _pwl(name: str, knots, slopes, height=0.0, **parameters) -> PiecewiseLinear:
    return PiecewiseLinear(knots, slopes, height, name, parameters)


def relu() -> PiecewiseLinear:
    return _pwl("relu", [0.0], [0.0, 1.0])


def leaky_relu(negative_slope: float = 0.01, alpha: float | None = None) -> PiecewiseLinear:
    """`alpha` is Keras's old name of `negative_slope`."""
    if alpha is not None:
        warnings.warn("leaky_relu(alpha=) is now negative_slope=", DeprecationWarning, stacklevel=2)
        negative_slope = alpha
    return _pwl("leaky_relu", [0.0], [negative_slope, 1.0], negative_slope=negative_slope)


def rrelu(lower: float = 1 / 8, upper: float = 1 / 3) -> PiecewiseLinear:
    """In evaluation: the mean of the slopes that training draws from."""
    return _pwl("rrelu", [0.0], [(lower + upper) / 2, 1.0], lower=lower, upper=upper)


def prelu(weight: Array | float = 0.25) -> PiecewiseLinear:
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


def _crelu() -> AbstractActivation:
    raise UnsupportedOperation(
        "crelu makes two outputs of each input, so it is no function of one variable; use relukit.nn.CReLU"
    )


def _maxout() -> AbstractActivation:
    raise UnsupportedOperation(
        "maxout takes several inputs for each output, so it is no function of one variable; use relukit.nn.Maxout"
    )


_ROWS = [
    Activation(
        "relu", "max(0, x)", r"\max(0, x)", relu, "ReLU", "relu", "relu", "Relu",
        "Cheapest of all, exact zeros, derivative 1 on its right side at any depth.",
        "A unit that is off on all data has no gradient and stays off.",
    ),
    Activation(
        "leaky_relu", "x if x > 0 else negative_slope x", r"\max(0, x) + a \min(0, x)", leaky_relu,
        "LeakyReLU", "leaky_relu", "leaky_relu", "LeakyRelu",
        "Never without gradient, so no unit dies; as cheap as ReLU.",
        "No exact zeros to save work with; the slope is one more number to choose.",
    ),
    Activation(
        "prelu", "x if x > 0 else weight x, weight learned", r"\max(0, x) + w \min(0, x)", prelu,
        "PReLU", "prelu", "PReLU", "PRelu",
        "Learns its own slope, per channel or shared.",
        "More parameters to fit; weight decay pulls the slope to 0 unless it is kept out (relukit.nn.decay_groups).",
    ),
    Activation(
        "rrelu", "x if x > 0 else a x, a drawn from [lower, upper] in training", r"\max(0, x) + a \min(0, x)", rrelu,
        "RReLU", "rrelu", "leaky_relu (evaluation only)", "LeakyRelu",
        "Random slopes regularize like noise does.",
        "Training is noisier and evaluation is another function than training.",
    ),
    Activation(
        "elu", "x if x > 0 else alpha (exp(x) - 1)", r"x > 0: x; \; \alpha (e^{x} - 1)", elu, "ELU", "elu", "elu", "Elu",
        "Negative values bring mean activations nearer to 0; smooth for alpha = 1.",
        "Costs an exponential; its float32 gradient is exactly 0 far to the left.",
    ),
    Activation(
        "celu", "x if x > 0 else alpha (exp(x / alpha) - 1)", r"x > 0: x; \; \alpha (e^{x/\alpha} - 1)", celu,
        "CELU", "celu", "celu", "Celu",
        "ELU that stays continuously differentiable for every alpha.",
        "Costs an exponential.",
    ),
    Activation(
        "selu", "scale x if x > 0 else scale alpha (exp(x) - 1)", r"\lambda x; \; \lambda \alpha (e^{x} - 1)", selu,
        "SELU", "selu", "selu", "Selu",
        "Keeps mean 0 and variance 1 by itself in plain deep networks with LeCun initialization.",
        "Only with that initialization and alpha dropout; its derivative jumps at 0.",
    ),
    Activation(
        "gelu", "x Phi(x)", r"x \, \Phi(x)", gelu, "GELU", "gelu", "gelu", "Gelu",
        "Smooth gate; the usual choice in transformers.",
        "Not monotone, costs an error function, and libraries lose the left tail to rounding.",
    ),
    Activation(
        "silu", "x / (1 + exp(-x))", r"x \, \sigma(x)", silu, "SiLU", "silu", "silu", "Sigmoid, Mul",
        "Smooth gate, cheaper than GELU.", "Not monotone; no exact zeros.",
    ),
    Activation(
        "mish", "x tanh(log(1 + exp(x)))", r"x \tanh(\log(1 + e^{x}))", mish, "Mish", "mish", "mish", "Mish",
        "Smooth gate with a slightly deeper dip than SiLU.", "The dearest of the gates; not monotone.",
    ),
    Activation(
        "relu_squared", "max(0, x)^2", r"\max(0, x)^{2}", relu_squared, "ReLUSquared", "relu(x).square()", "square(relu(x))",
        "Relu, Mul",
        "Exact zeros and a derivative without a jump.", "No Lipschitz constant: large inputs explode.",
    ),
    Activation(
        "softplus", "log(1 + exp(beta x)) / beta", r"\log(1 + e^{\beta x}) / \beta", softplus,
        "Softplus", "softplus", "softplus", "Softplus",
        "Smooth, convex, always positive.", "Never zero, and its derivative is below 1 everywhere.",
    ),
    Activation(
        "sigmoid", "1 / (1 + exp(-x))", r"1 / (1 + e^{-x})", sigmoid, "Sigmoid", "sigmoid", "sigmoid", "Sigmoid",
        "Bounded; reads as a probability at an output.",
        "Its derivative is at most 1/4, so gradients fade with depth; outputs are not centered.",
    ),
    Activation(
        "tanh", "tanh(x)", r"\tanh(x)", tanh, "Tanh", "tanh", "tanh", "Tanh",
        "Bounded and centered; derivative 1 at 0.", "Saturates on both sides, so gradients fade with depth.",
    ),
    Activation(
        "relu6", "min(max(0, x), 6)", r"\min(\max(0, x), 6)", relu6, "ReLU6", "relu6", "relu6", "Clip",
        "Bounded: kind to low-precision arithmetic.", "No gradient on either side.",
    ),
    Activation(
        "hardtanh", "min(max(-1, x), 1)", r"\min(\max(-1, x), 1)", hardtanh, "Hardtanh", "hardtanh", "hard_tanh", "Clip",
        "tanh without transcendental functions; exactly analyzable.", "No gradient outside [-1, 1].",
    ),
    Activation(
        "hardsigmoid", "min(max(0, alpha x + beta), 1)", r"\min(\max(0, x / 6 + 1 / 2), 1)", hardsigmoid,
        "Hardsigmoid", "hardsigmoid", "hard_sigmoid", "HardSigmoid",
        "Sigmoid without an exponential; exactly analyzable.", "No gradient outside [-3, 3].",
    ),
    Activation(
        "hardswish", "x min(max(0, x + 3), 6) / 6", r"x \min(\max(0, x + 3), 6) / 6", hardswish,
        "Hardswish", "hardswish", "hard_silu", "HardSwish",
        "SiLU without an exponential, for small devices.", "Not monotone; derivative jumps at -3 and 3.",
    ),
    Activation(
        "abs", "|x|", r"|x|", absolute, "", "x.abs()", "abs(x)", "Abs", "Never without gradient; keeps the size.", "Forgets the sign.",
    ),
    Activation(
        "clip", "min(max(x, low), high)", r"\min(\max(x, l), u)", clip, "", "x.clamp(low, high)", "clip(x, low, high)", "Clip",
        "Bounded and exactly analyzable.", "No gradient outside its range.",
    ),
    Activation(
        "crelu", "(max(0, x), max(0, -x))", r"(\max(0, x), \max(0, -x))", _crelu, "CReLU",
        "torch.cat([relu(x), relu(-x)], 1)", "concatenate([relu(x), relu(-x)])", "Neg, Relu, Concat",
        "Loses nothing: both signs are kept.", "Twice the outputs.", entrywise=False,
    ),
    Activation(
        "maxout", "max of k affine maps", r"\max_j (w_j x + b_j)", _maxout, "Maxout", "linear(x).unflatten(1, (n, k)).amax(-1)",
        "max(reshape(Dense(n * k)(x), (-1, n, k)), -1)", "Gemm, Reshape, ReduceMax",
        "Learns its own convex shape.", "k times the weights.", entrywise=False,
    ),
    Activation(
        "identity", "x", "x", identity, "Identity", "x", "linear", "Identity", "Loses nothing.", "Adds nothing: depth collapses.",
    ),
]  # fmt: skip

CATALOGUE: dict[str, Activation] = {row.name: row for row in _ROWS}


def get(name: str, **parameters) -> AbstractActivation:
    """The activation of that name.

    Raises:
        InvalidInput: There is no such row; the message lists those there are.
        UnsupportedOperation: It is no function of one variable.
    """
    return row(name)(**parameters)


def row(name: str) -> Activation:
    """The catalogue's row of that name (`swish`, `leaky` and the like are understood)."""
    key = name.lower().replace("-", "_").replace(" ", "_")
    key = {"swish": "silu", "leaky": "leaky_relu", "leakyrelu": "leaky_relu", "linear": "identity"}.get(key, key)
    found = CATALOGUE.get(key)
    if found is None:
        raise InvalidInput(f"no activation '{name}'; the catalogue has {', '.join(CATALOGUE)}")
    return found


def gain(name: str, **parameters) -> float:
    r"""Gain :math:`1 / \sqrt{E[f(z)^2]}`, z standard normal: what keeps the second moment through a layer.

    References:
        Delving Deep into Rectifiers, He et al., 2015.
    """
    made = get(name, **parameters)
    return made.gain() if isinstance(made, (PiecewiseLinear, Smooth)) else math.nan
