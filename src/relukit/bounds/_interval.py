"""Interval bounds: forward, one node after the other."""

import numpy as np

from relukit._errors import ShapeMismatch
from relukit._numerics import down, gamma, up
from relukit._types import Array
from relukit.bounds._bounds import Bounds
from relukit.network import Affine, Network
from relukit.piecewise import AbstractActivation, Lines
from relukit.sets import AbstractSet, require_set


@np.errstate(invalid="ignore", over="ignore")  # a curve may be unbounded: what is no number bounds nothing
def interval(network: Network, input_set: AbstractSet, dtype: type = np.float64) -> Bounds:
    r"""Bounds by interval arithmetic in center-radius form.

    For :math:`z = W x + b` over :math:`|x - m| \le r`: :math:`W m + b \pm |W| r`, widened by the a-priori rounding
    error :math:`\gamma_n (|W| |x|_{max} + |b|)`.

    Arguments:
        network: Any network, smooth activations included.
        input_set: A set of `network.inputs` entries, or a batch.
        dtype: `float64` or `float32`; both are sound.

    Raises:
        ShapeMismatch: The set has another number of inputs.

    References:
        Introduction to Interval Analysis, Moore, Kearfott, Cloud, 2009.
    """
    lower, upper = input_bounds(network, input_set, dtype)
    lowers, uppers = [lower], [upper]
    for node in network.nodes[1:]:
        if isinstance(node.op, Affine):
            low, high = affine_interval(node.op, [lowers[j] for j in node.inputs], [uppers[j] for j in node.inputs])
        else:
            low, high = activation_interval(node.op, lowers[node.inputs[0]], uppers[node.inputs[0]])
        lowers.append(low)
        uppers.append(high)
    return Bounds(network, tuple(lowers), tuple(uppers))


def input_bounds(network: Network, input_set: AbstractSet, dtype: type = np.float64) -> tuple[Array, Array]:
    """The set's box in `dtype`, rounded outward."""
    require_set(input_set, "the input set")
    if input_set.size != network.inputs:
        raise ShapeMismatch(f"the set has {input_set.size} inputs, the network takes {network.inputs}")
    box = input_set.box()
    lower, upper = box.lower, box.upper
    if lower.dtype == dtype:
        return lower, upper
    l, u = lower.astype(dtype), upper.astype(dtype)
    return np.where(l > lower, down(l), l), np.where(u < upper, up(u), u)


def affine_interval(op: Affine, lowers: list[Array], uppers: list[Array]) -> tuple[Array, Array]:
    """Interval of an affine node, outward rounded."""
    center: Array | float = 0.0
    radius: Array | float = 0.0
    size: Array | float = 0.0
    for m, l, u in zip(op.maps, lowers, uppers):
        middle = 0.5 * l + 0.5 * u
        half = np.maximum(u - middle, middle - l)
        absolute = m.absolute()
        center = center + m.apply(middle)
        radius = radius + absolute.apply(half)
        size = size + absolute.apply(np.maximum(np.abs(l), np.abs(u)))
    bias = op.bias.astype(lowers[0].dtype)
    # 5 more roundings than products: middle, half, bias, the two final sums (weights cast to float32 included).
    error = gamma(op.terms + 5, bias.dtype) * (size + radius + np.abs(bias))
    return _known(down(center + bias - radius - error), up(center + bias + radius + error))


def activation_interval(op: AbstractActivation, lower: Array, upper: Array) -> tuple[Array, Array]:
    """Interval of an activation; nothing is known behind an unbounded value."""
    finite = np.isfinite(lower) & np.isfinite(upper)
    if finite.all():
        return _known(*op.bounds(lower, upper))
    low, high = _known(*op.bounds(np.where(finite, lower, 0), np.where(finite, upper, 0)))
    return np.where(finite, low, -np.inf).astype(low.dtype), np.where(finite, high, np.inf).astype(high.dtype)


def lines(op: AbstractActivation, lower: Array, upper: Array) -> Lines:
    """Lines around an activation; behind an unbounded value they say nothing."""
    finite = np.isfinite(lower) & np.isfinite(upper)
    if finite.all():
        return op.lines(lower, upper)
    a, c, A, C = op.lines(np.where(finite, lower, 0), np.where(finite, upper, 0))
    spread = lambda v, fill: np.where(finite, v, fill).astype(lower.dtype)
    return Lines(spread(a, 0.0), spread(c, -np.inf), spread(A, 0.0), spread(C, np.inf))


def _known(low: Array, high: Array) -> tuple[Array, Array]:
    """Bounds that are no numbers bound nothing."""
    if not np.isnan(low).any() and not np.isnan(high).any():
        return low, high
    return np.where(np.isnan(low), -np.inf, low).astype(low.dtype), np.where(np.isnan(high), np.inf, high).astype(
        high.dtype
    )
