"""Signs that no rounding can hide: sums without a positive (or negative) term, and first layers whose extreme value at a corner is exactly 0."""

from dataclasses import replace
from fractions import Fraction

import numpy as np

from relukit._types import Array
from relukit.bounds import Bounds
from relukit.network import Affine
from relukit.network.affine import AbstractLinear, Conv, Dense, Scale, Sparse
from relukit.sets import AbstractSet, Box

_NEAR = 1e-9  # of a row's largest sum: from here on a corner is added up in fractions
_MOST = 2_000_000  # numbers that may be added up so


def signed(bounds: Bounds, domain: AbstractSet) -> Bounds:
    """Bounds that rounding left a hair beyond 0 end at 0 where signs alone show it.

    Pruned units without weights, units without bias that read values of one sign, copies that a layer takes off again: common in stored
    networks, and no branch and bound in floating point settles them.
    """
    network, lower, upper = bounds.network, list(bounds.lower), list(bounds.upper)
    for i, node in enumerate(network.nodes):
        if isinstance(node.op, Affine):
            rises, falls = _terms(node.op, [lower[j] for j in node.inputs], [upper[j] for j in node.inputs])
            upper[i] = np.where(rises | (upper[i] <= 0), upper[i], 0.0)
            lower[i] = np.where(falls | (lower[i] >= 0), lower[i], 0.0)
            if node.inputs == (0,) and isinstance(domain, Box):
                lower[i], upper[i] = _corners(node.op, domain, lower[i], upper[i])
        elif i in network.activations and getattr(node.op, "is_relu", False):
            upper[i] = np.where(upper[node.inputs[0]] <= 0, 0.0, upper[i])
    return Bounds(network, tuple(lower), tuple(upper))


def _terms(op: Affine, lower: list[Array], upper: list[Array]) -> tuple[np.ndarray, np.ndarray]:
    """Which sums have a term that may be above 0, and which one that may be below."""
    rises, falls = op.bias > 0, op.bias < 0
    for m, l, u in zip(op.maps, lower, upper):
        above, below = (u > 0).astype(float), (l < 0).astype(float)
        rises = rises | (_count(m, 1.0, above) + _count(m, -1.0, below) > 0)
        falls = falls | (_count(m, 1.0, below) + _count(m, -1.0, above) > 0)
    return rises, falls


def _count(m: AbstractLinear, sign: float, flags: Array) -> Array:
    """How many flagged entries each output reads by a weight of a sign."""
    ones = lambda W: (sign * W > 0).astype(np.float64)
    if isinstance(m, Dense):
        return ones(m.W) @ flags
    if isinstance(m, Sparse):
        W = m.W.astype(np.float64, copy=True)
        W.data = ones(W.data)
        return W @ flags
    if isinstance(m, Conv):
        return replace(m, kernel=ones(m.kernel)).apply(flags)
    if isinstance(m, Scale):
        return ones(m.diagonal) * flags
    return m.apply(flags) if sign > 0 else np.zeros(m.out_size)  # identity and selections


def _corners(op: Affine, box: Box, lower: Array, upper: Array) -> tuple[Array, Array]:
    """Ends of sums over the inputs that lie next to 0, on the right side of it: in fractions, the corner's value is exact."""
    m, low, high = op.maps[0], lower.copy(), upper.copy()
    near = _NEAR * np.maximum(np.abs(low), np.abs(high))
    top, bottom = (high > 0) & (high <= near), (low < 0) & (-low <= near)
    rows = np.flatnonzero(top | bottom)[: _MOST // max(m.in_size, 1)]
    if not len(rows):
        return low, high
    unit = np.zeros((len(rows), m.out_size))
    unit[np.arange(len(rows)), rows] = 1
    ends = [[Fraction(v) for v in side.tolist()] for side in (box.lower, box.upper)]
    for j, w in zip(rows.tolist(), m.adjoint(unit)):
        used = np.flatnonzero(w).tolist()
        for sign, side, wanted in ((1, high, top), (-1, low, bottom)):
            if wanted[j]:
                at = [Fraction(float(w[k])) * ends[int(sign * w[k] > 0)][k] for k in used]
                if sign * (sum(at) + Fraction(float(op.bias[j]))) <= 0:
                    side[j] = 0.0
    return low, high
