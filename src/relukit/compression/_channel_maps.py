"""What single maps do to channels: whether they mix them, keep them apart, treat two alike; and the same maps with fewer."""

import numpy as np

from relukit._types import Array, IntArray
from relukit.network.affine import AbstractLinear, Conv, Dense, Gather, Identity, Scale, Sparse, dense_or_sparse
from relukit.piecewise import PiecewiseLinear


def mixes(m: AbstractLinear) -> bool:
    return isinstance(m, Dense | Sparse | Identity | Gather) or (isinstance(m, Conv) and m.groups == 1)


def apart(m: AbstractLinear, channels: int) -> bool:
    """Whether each channel of the output reads that channel of the input alone."""
    if m.in_size % channels or m.out_size % channels or not m.out_size:
        return False
    if isinstance(m, Identity | Scale):
        return True
    if isinstance(m, Conv):
        return m.groups == channels == m.kernel.shape[0] == m.in_shape[0]
    if isinstance(m, Gather):
        index, size = m.index.reshape(channels, -1), m.in_size // channels
        return bool(np.all((index < 0) | (index // size == np.arange(channels)[:, None])))
    return False


def alike(m: AbstractLinear, one: IntArray, two: IntArray, channels: int) -> bool:
    """Whether a map that keeps channels apart does the same for two of them, given by their entries of the output."""
    if isinstance(m, Scale):
        return bool(np.array_equal(m.diagonal[one], m.diagonal[two]))
    a, b = int(one[0]) // len(one), int(two[0]) // len(two)
    if isinstance(m, Conv):
        return bool(np.array_equal(m.kernel[a], m.kernel[b]))
    if isinstance(m, Gather):
        size = m.in_size // channels
        shift = lambda at, c: np.where(m.index[at] >= 0, m.index[at] - c * size, -1)
        return bool(np.array_equal(shift(one, a), shift(two, b)))
    return True


def homogeneous(op: PiecewiseLinear) -> bool:
    """Whether f(t v) = t f(v) for positive t: one kink, at 0."""
    return len(op.knots) == 1 and not np.any(op.knots) and not np.any(op.height)


def weights_of(m: AbstractLinear, channels: int) -> Array:
    """A reader's weights by channel of its input: shape `(out, channels, rest)`."""
    if isinstance(m, Conv):
        return m.kernel.reshape(m.kernel.shape[0], channels, -1)
    return m.matrix().reshape(m.out_size, channels, -1)


def weights_by_row(m: AbstractLinear, channels: int) -> Array:
    """A source's weights by channel of its output: shape `(channels, rest)`; a selection counts as a weight."""
    if isinstance(m, Conv):
        return m.kernel.reshape(channels, -1)
    if isinstance(m, Identity | Gather):
        index = m.index if isinstance(m, Gather) else np.arange(m.in_size)
        return (index >= 0).reshape(channels, -1).astype(float)
    return m.matrix().reshape(channels, -1)


def with_weights(m: AbstractLinear, weights: Array) -> AbstractLinear:
    if not isinstance(m, Conv):
        return dense_or_sparse(weights.reshape(len(weights), -1))
    count = weights.shape[1]
    return Conv(weights.reshape(m.kernel.shape[0], count, *m.kernel.shape[2:]), (count, *m.in_shape[1:]), m.stride, m.padding, m.dilation, 1)  # fmt: skip


def rows_of(m: AbstractLinear, keep: IntArray, at: IntArray) -> AbstractLinear:
    if isinstance(m, Conv):
        return Conv(m.kernel[keep], m.in_shape, m.stride, m.padding, m.dilation, 1)
    if isinstance(m, Identity | Gather):
        return Gather(m.index[at] if isinstance(m, Gather) else at, m.in_size)
    return dense_or_sparse(m.matrix()[at])


def restricted(m: AbstractLinear, keep: IntArray, at: IntArray, before: IntArray, channels: int) -> AbstractLinear:
    """A map that keeps channels apart, for some of them: entries `at` of its output, `before` of its input."""
    if isinstance(m, Identity):
        return Identity(len(at))
    if isinstance(m, Scale):
        return Scale(m.diagonal[at])
    if isinstance(m, Gather):
        return Gather(renumbered(m.index[at], before, m.in_size), len(before))
    assert isinstance(m, Conv)
    return Conv(m.kernel[keep], (len(keep), *m.in_shape[1:]), m.stride, m.padding, m.dilation, len(keep))


def renumbered(index: IntArray, kept: IntArray, size: int) -> IntArray:
    place = np.full(size, -1)
    place[kept] = np.arange(len(kept))
    return np.where(index >= 0, place[index], -1)
