"""Formulas of the smooth activations, each written once for every floating-point type.

A formula given float64 costs what NumPy costs and is right to a few ulp; given `numpy.longdouble` (64 bits of
precision on x86) it is right to the last bit once rounded to float64. `Smooth.__call__` uses the wide form and
`Smooth.fast` the narrow one, which networks evaluate. Where long double is no wider than double (Windows, Apple
silicon) both are the narrow one.
"""

import math
from functools import cache

import numpy as np

from relukit._types import Array
from relukit.piecewise import Smooth

# Mills's ratio Phi(-x) / phi(x) times x + 1 on [0, inf), as a Chebyshev series in s = (x - k) / (x + k); the terms left
# out are below 1e-21 (computed with mpmath, 60 digits).
_K = 4.5
_MILLS = """1.1622890943668537423446 -0.16244622078463712567688 -0.020442087834082800322665 0.031538326336854548588411
-0.014396293456628504448318 0.0041743557391115824348863 -0.000798659160929406314333 0.000079098278112087190956149
0.0000048399984455485286499715 -0.0000026875369141045505464528 1.8469327970966854556632e-7 6.0651187770460671256163e-8
-1.0348101767189742773701e-8 -1.3782705896431843920795e-9 4.1438506799746545663315e-10 3.8212921114738197190918e-11
-1.6081662082563119426108e-11 -1.4793610582723637219375e-12 6.3417104736859764938142e-13 7.6382292940798801940765e-14
-2.484719714545441657002e-14 -4.4899732086149836260378e-15 8.9773402184804237919057e-16 2.6763676237508087591167e-16
-2.4120044880240294824333e-17 -1.516226696767030217498e-17 -1.2044779992317636435483e-19 7.7205948071536891828216e-19
8.6483876092476835234167e-20 -3.1963843003337096868064e-20 -8.5214236457790940985816e-21""".split()


@cache
def _constant(text: str, dtype: type) -> np.floating:
    """A decimal constant rounded once, to the type that the formula runs in."""
    return np.dtype(dtype).type(text)


def _logistic(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def _logistic_slope(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return e / ((1 + e) * (1 + e))


def _mills(x: Array) -> Array:
    """Phi(-x) / phi(x) for x >= 0, by Clenshaw's recurrence."""
    s = (x - _K) / (x + _K)
    ahead, behind = np.zeros_like(s), np.zeros_like(s)
    for text in _MILLS[:0:-1]:
        ahead, behind = _constant(text, s.dtype.type) + 2 * s * ahead - behind, ahead
    return (_constant(_MILLS[0], s.dtype.type) + s * ahead - behind) / (x + 1)


def normal(x: Array) -> tuple[Array, Array]:
    """Distribution function and density of the standard normal; the left tail keeps its relative accuracy."""
    if x.dtype.itemsize <= 8:
        from scipy.special import ndtr

        return ndtr(x), np.exp(-0.5 * x * x) * x.dtype.type(0.3989422804014327)
    density = np.exp(-0.5 * x * x) * _constant("0.39894228040143267793994605993438186848", x.dtype.type)
    tail = _mills(np.abs(x)) * density
    return np.where(x > 0, 1 - tail, tail), density


def _gelu(x: Array) -> Array:
    return x * normal(x)[0]


def _gelu_slope(x: Array) -> Array:
    if x.dtype.itemsize <= 8:
        below, density = normal(x)
        return below + x * density
    size = np.abs(x)
    density = np.exp(-0.5 * x * x) * _constant("0.39894228040143267793994605993438186848", x.dtype.type)
    left = density * (_mills(size) - size)  # Phi(x) + x phi(x) for x <= 0; its zero is that of the bracket
    return np.where(x > 0, 1 - left, left)


def _gelu_tanh_argument(x: Array) -> Array:
    twice = _constant("1.59576912160573071175978423973752747390", x.dtype.type)  # 2 sqrt(2 / pi)
    return twice * (x + _constant("0.044715", x.dtype.type) * x * x * x)


def _gelu_tanh(x: Array) -> Array:
    return x * _logistic(_gelu_tanh_argument(x))


def _gelu_tanh_slope(x: Array) -> Array:
    t = _gelu_tanh_argument(x)
    twice = _constant("1.59576912160573071175978423973752747390", x.dtype.type)
    rate = twice * (1 + _constant("0.134145", x.dtype.type) * x * x)
    return _logistic(t) * (1 + x * rate * _logistic(-t))


def _tanh_slope(x: Array) -> Array:
    e = np.exp(-2 * np.abs(x))
    return 4 * e / ((1 + e) * (1 + e))


def _silu_slope(x: Array) -> Array:
    return _logistic(x) * (1 + x * _logistic(-x))


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _mish(x: Array) -> Array:
    e = np.exp(-np.abs(x))  # tanh(log(1 + exp x)) as a ratio that neither overflows nor cancels
    up = (1 + 2 * e) / (1 + 2 * e + 2 * e * e)
    down = e * (e + 2) / (e * e + 2 * e + 2)
    return x * np.where(x > 0, up, down)


def _mish_slope(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    up = 1 + 2 * e + 2 * e * e
    down = e * e + 2 * e + 2
    # tanh(s) + x sech(s)^2 logistic(x), s = softplus(x); 1 - tanh(s)^2 = 4 (1 + e)^2 e^0 / down^2 on the left
    right = (1 + 2 * e) / up + x * 4 * e * e * (1 + e) / (up * up)
    left = e * ((e + 2) * down + x * 4 * (1 + e)) / (down * down)
    return np.where(x > 0, right, left)


def _bent(x: Array, left: Array, right: Array) -> Array:
    return np.where(x > 0, right, left)


def sigmoid() -> Smooth:
    return Smooth("sigmoid", _logistic, _logistic_slope, (0.0,), 0.25, limits=(0.0, 1.0), far_slopes=(0.0, 0.0))


def tanh() -> Smooth:
    return Smooth("tanh", np.tanh, _tanh_slope, (0.0,), 1.0, limits=(-1.0, 1.0), far_slopes=(0.0, 0.0))


def elu(alpha: float = 1.0) -> Smooth:
    return _exponential("elu", alpha, 1.0, 1.0, {"alpha": alpha})


def celu(alpha: float = 1.0) -> Smooth:
    return _exponential("celu", alpha, alpha, 1.0, {"alpha": alpha})


def selu() -> Smooth:
    """Constants of Klambauer et al., 2017, as torch and Keras have them."""
    return _exponential("selu", 1.6732632423543772848170429916717, 1.0, 1.0507009873554804934193349852946, {})


def _exponential(name: str, alpha: float, width: float, scale: float, parameters: dict) -> Smooth:
    """scale x for x > 0, scale alpha (exp(x / width) - 1) below."""

    def value(x: Array) -> Array:
        below = x.dtype.type(alpha) * np.expm1(np.minimum(x, 0) / x.dtype.type(width))
        return x.dtype.type(scale) * _bent(x, below, x)

    def slope(x: Array) -> Array:
        rate = x.dtype.type(alpha) / x.dtype.type(width)
        return x.dtype.type(scale) * _bent(x, rate * np.exp(np.minimum(x, 0) / x.dtype.type(width)), np.ones_like(x))

    limits, steepest = (-scale * alpha, math.inf), scale * max(1.0, abs(alpha / width))
    kinks = () if alpha == width else (0.0,)
    return Smooth(name, value, slope, (0.0,), steepest, parameters, limits, (0.0, scale), kinks)


def gelu(approximate: str = "none") -> Smooth:
    if approximate == "tanh":
        bend = 1.4185040087908283  # root of the second derivative (mpmath, 40 digits)
        return Smooth(
            "gelu", _gelu_tanh, _gelu_tanh_slope, (-bend, bend), 1.1289930686587719, {"approximate": "tanh"},
            (0.0, math.inf), (0.0, 1.0),
        )  # fmt: skip
    root = math.sqrt(2)  # gelu'' = phi(x) (2 - x^2)
    return Smooth(
        "gelu", _gelu, _gelu_slope, (-root, root), 1.1289041451851549, {"approximate": "none"},
        (0.0, math.inf), (0.0, 1.0),
    )  # fmt: skip


def silu() -> Smooth:
    bend = 2.3993572805154677
    return Smooth(
        "silu", lambda x: x * _logistic(x), _silu_slope, (-bend, bend), 1.0998393201288672,
        limits=(0.0, math.inf), far_slopes=(0.0, 1.0),
    )  # fmt: skip


def mish() -> Smooth:
    return Smooth(
        "mish", _mish, _mish_slope, (-2.25637639636079312, 1.4905711794854284593), 1.0884981612517281,
        limits=(0.0, math.inf), far_slopes=(0.0, 1.0),
    )  # fmt: skip


def softplus(beta: float = 1.0) -> Smooth:
    return Smooth(
        "softplus",
        lambda x: _softplus(x.dtype.type(beta) * x) / x.dtype.type(beta),
        lambda x: _logistic(x.dtype.type(beta) * x),
        (), 1.0, {"beta": beta}, (0.0, math.inf), (0.0, 1.0),
    )  # fmt: skip


def hardswish() -> Smooth:
    # x clip(x + 3, 0, 6) / 6: quadratic between -3 and 3, where its slope jumps; those are stretch ends, too.
    def slope(x: Array) -> Array:
        return np.where(x <= -3, 0, np.where(x <= 3, (2 * x + 3) / 6, 1)).astype(x.dtype)

    return Smooth(
        "hardswish", lambda x: x * np.clip(x + 3, 0, 6) / 6, slope, (-3.0, 3.0), 1.5,
        limits=(0.0, math.inf), far_slopes=(0.0, 1.0), kinks=(-3.0, 3.0),
    )  # fmt: skip


def relu_squared() -> Smooth:
    r"""max(0, x)^2: its derivative 2 max(0, x) has no bound (So et al., Primer, 2021)."""
    return Smooth(
        "relu_squared", lambda x: np.maximum(x, 0) * np.maximum(x, 0), lambda x: 2 * np.maximum(x, 0), (0.0,),
        math.inf, limits=(0.0, math.inf), far_slopes=(0.0, math.inf),
    )  # fmt: skip
