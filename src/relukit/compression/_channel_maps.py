"""What single maps do to channels: whose each entry is behind them, whether they treat two channels alike; and the same maps with fewer.

Entries are told apart by an array of owners: for each entry of a value the channel that it belongs to, `NONE` where it depends on no input
(padding), `FOREIGN` where it belongs to what is not cut (the other parts of a concatenation).
"""

import numpy as np

from relukit._types import Array, IntArray
from relukit.network.affine import AbstractLinear, Conv, Dense, Gather, Identity, Scale, Sparse, dense_or_sparse
from relukit.piecewise import PiecewiseLinear

NONE, FOREIGN = -1, -2


def mixes(m: AbstractLinear) -> bool:
    return isinstance(m, Dense | Sparse | Identity | Gather) or (isinstance(m, Conv) and m.groups == 1)


def passed_on(m: AbstractLinear, owner: IntArray) -> IntArray | None:
    """Whose each entry of the output is; None where an entry reads several channels."""
    if isinstance(m, Identity | Scale):
        return owner
    if isinstance(m, Gather):
        return np.r_[owner, NONE][m.index]  # -1 takes the last
    return _convolved(m, owner) if isinstance(m, Conv) else None


def _convolved(m: Conv, owner: IntArray) -> IntArray | None:
    """Depthwise convolutions pass planes on; one number per place, the same for all planes, goes through kernels of one place."""
    planes, places = owner.reshape(m.in_shape[0], -1), int(np.prod(m.out_shape[1:]))
    if m.groups == m.in_shape[0] and (m.groups > 1 or len(m.kernel) == 1) and (planes == planes[:, :1]).all():
        return np.repeat(planes[:, 0], len(m.kernel) // m.groups * places)
    one_place = m.kernel.shape[2:] == (1, 1) and m.stride == (1, 1) and not any(m.padding)
    if one_place and (planes == planes[0]).all():
        return np.tile(planes[0], len(m.kernel))
    return None


def joined(maps: tuple[AbstractLinear, ...], owners: list[IntArray | None], size: int) -> IntArray | None:
    """Whose each entry of a sum of maps is; None where entries of several channels, or of a channel and others, are added up.

    Arguments:
        owners: Of what each map reads; None for what belongs to no channel at all.
    """
    total = np.full(size, NONE)
    for m, owner in zip(maps, owners):
        if owner is not None:
            part = passed_on(m, owner)
        else:
            part = np.where(m.index >= 0, FOREIGN, NONE) if isinstance(m, Gather) else None
        if part is None or np.any((total != NONE) & (part != NONE) & (total != part)):
            return None
        total = np.where(total == NONE, part, total)
    return total


def padded(owner: IntArray, shape: tuple[int, ...]) -> IntArray:
    """Padding that lies in a plane with entries of one channel alone belongs to that channel."""
    planes = next((s for s in shape if s > 1), 1)
    rows = owner.reshape(planes, -1)
    most = rows.max(axis=1, keepdims=True)
    alone = (most >= 0) & ((rows == most) | (rows == NONE)).all(axis=1, keepdims=True)
    return np.where(alone, most, rows).ravel()


def readable(m: AbstractLinear, owner: IntArray) -> bool:
    """Whether what a map reads can be taken away channel by channel."""
    if isinstance(m, Conv):
        planes = owner.reshape(m.in_shape[0], -1)
        return m.groups == 1 and bool((planes == planes[:, :1]).all())
    return isinstance(m, Dense | Sparse | Identity | Gather)


def alike(m: AbstractLinear, before: IntArray, after: IntArray, a: int, b: int) -> bool:
    """Whether a map that keeps channels apart does the same for two of them; owners of the entries before and after it."""
    one, two = np.flatnonzero(after == a), np.flatnonzero(after == b)
    if isinstance(m, Scale):
        return bool(np.array_equal(m.diagonal[one], m.diagonal[two]))
    if isinstance(m, Gather):
        rank = lambda at, c: np.where(m.index[at] >= 0, np.searchsorted(np.flatnonzero(before == c), m.index[at]), -1)
        return bool(np.array_equal(rank(one, a), rank(two, b)))
    if isinstance(m, Conv) and m.groups > 1:
        planes = after.reshape(len(m.kernel), -1)
        if (planes == planes[:, :1]).all():
            return bool(np.array_equal(m.kernel[planes[:, 0] == a], m.kernel[planes[:, 0] == b]))
    return True  # the same kernel at every place


def homogeneous(op: PiecewiseLinear) -> bool:
    """Whether f(t v) = t f(v) for positive t: one kink, at 0."""
    return len(op.knots) == 1 and not np.any(op.knots) and not np.any(op.height)


def selected(m: AbstractLinear) -> IntArray | None:
    """The entries that a selection takes, -1 for none; None for other maps."""
    return m.index if isinstance(m, Gather) else np.arange(m.in_size) if isinstance(m, Identity) else None


def slots(m: AbstractLinear, owner: IntArray) -> IntArray:
    """Whose each input plane of a convolution, or each column of a matrix, is."""
    return owner.reshape(m.in_shape[0], -1)[:, 0] if isinstance(m, Conv) else owner


def weights_of(m: AbstractLinear) -> Array:
    """A reader's weights: shape `(out, slots, rest)`."""
    if isinstance(m, Conv):
        return m.kernel.reshape(*m.kernel.shape[:2], -1)
    return m.matrix()[:, :, None]


def weights_by_row(m: AbstractLinear, channels: int) -> Array:
    """A source's weights by channel of its output: shape `(channels, rest)`; a selection counts as a weight."""
    if isinstance(m, Conv):
        return m.kernel.reshape(channels, -1)
    index = selected(m)
    if index is not None:
        return (index >= 0).reshape(channels, -1).astype(float)
    return m.matrix().reshape(channels, -1)


def with_weights(m: AbstractLinear, weights: Array) -> AbstractLinear:
    """The reader with other weights, as `weights_of` gives them; slots may have gone."""
    if not isinstance(m, Conv):
        return dense_or_sparse(weights[:, :, 0])
    count = weights.shape[1]
    return Conv(weights.reshape(m.kernel.shape[0], count, *m.kernel.shape[2:]), (count, *m.in_shape[1:]), m.stride, m.padding, m.dilation, 1)  # fmt: skip


def rows_of(m: AbstractLinear, keep: IntArray, at: IntArray) -> AbstractLinear:
    """A source's map with some of its channels, entries `at` of its output."""
    if isinstance(m, Conv):
        return Conv(m.kernel[keep], m.in_shape, m.stride, m.padding, m.dilation, 1)
    index = selected(m)
    return dense_or_sparse(m.matrix()[at]) if index is None else Gather(index[at], m.in_size)


def restricted(m: AbstractLinear, before: IntArray, after: IntArray, width: int) -> AbstractLinear:
    """A map that keeps channels apart between some entries of its input and of its output.

    Arguments:
        width: Entries of the input, of which `before` are left.
    """
    if isinstance(m, Scale) and len(before) == len(after):
        return Scale(m.diagonal[after])
    index = selected(m)
    if index is not None:
        left = renumbered(index[after], before, width)
        return Identity(len(after)) if np.array_equal(left, np.arange(len(before))) else Gather(left, len(before))
    assert isinstance(m, Conv)
    places = width // m.in_shape[0]
    planes = np.unique(before // places)
    if len(before) == places * len(planes):  # whole planes are left: the convolution is depthwise
        made = np.unique(after // int(np.prod(m.out_shape[1:])))
        groups = len(planes) if len(planes) < m.in_shape[0] else m.groups
        return Conv(m.kernel[made], (len(planes), *m.in_shape[1:]), m.stride, m.padding, m.dilation, groups)
    return Conv(m.kernel, (m.in_shape[0], len(before) // m.in_shape[0], 1), groups=m.groups)


def renumbered(index: IntArray, kept: IntArray, size: int) -> IntArray:
    place = np.full(size + 1, -1)  # the last stands for -1, which selects nothing
    place[kept] = np.arange(len(kept))
    return place[index]
