"""Dead units of a stored network get fresh weights, without changing what it computes on the data."""

from typing import Any

import numpy as np

from relukit._errors import InvalidInput
from relukit._types import Array, BoolArray, IntArray
from relukit.monitoring._health import _off
from relukit.network import Affine, Network, Node
from relukit.network._nodes import Origin
from relukit.network.affine import AbstractLinear, Conv, Dense, Sparse
from relukit.piecewise import PiecewiseLinear

_ROWS = 1024  # of which a fresh convolution's median is taken


def revive(network: Network, data: Array, seed: int = 0) -> tuple[Network, int]:
    """Re-initializes units that are off for every row: incoming weights drawn anew, outgoing weights 0.

    The new bias puts the unit's hinge at the median row, so that it is on for half of them; outgoing weights 0 keep all
    outputs on the data as they were (in exact arithmetic: the unit contributed its constant, which moves into the bias).
    A convolution's units share weights, so a channel is revived where it is off at every place. Pooling, reshaping and whatever
    else keeps channels apart is passed through: the weights that are set to 0 are the next ones that mix channels.

    Arguments:
        network: Any network of dense layers and convolutions; units whose value is added to another without weights between,
            or which are outputs, stay as they are.
        data: Rows, shape `(rows, inputs)`.
        seed: Of the new weights.

    Returns:
        The network and the number of units revived (all places of a channel count).

    Raises:
        InvalidInput: No row, or no unit is dead on the data that could be revived.
    """
    generator = np.random.default_rng(seed)
    rows, _ = network.rows(data)
    if not len(rows):
        raise InvalidInput("revive needs at least one row")
    nodes, values = list(network.nodes), network.values(rows)
    total = seen = 0
    for i in network.activations:
        op, source = nodes[i].op, nodes[i].inputs[0]
        if not isinstance(op, PiecewiseLinear):
            continue
        dead = _off(op, values[source]).all(axis=0) & (np.ptp(values[i], axis=0) == 0)
        seen += int(dead.sum())
        labels = _channels(nodes[source]) if network.consumers[source] == (i,) else None
        if labels is None or not dead.any():
            continue
        chosen = np.flatnonzero(np.bincount(labels, ~dead) == 0)
        if not len(chosen) or not _silence(nodes, values, i, labels, chosen):
            continue
        nodes[source] = _fresh(nodes[source], values[nodes[source].inputs[0]], chosen, generator)
        total += int(np.isin(labels, chosen).sum())
        for k in range(source, len(nodes)):
            values[k] = _value(nodes[k], values)
    if not total:
        why = (
            "nothing to revive"
            if not seen
            else f"{seen} units are, but each is one place of a channel that is on elsewhere, or its value is added to others or put out with no weights between"
        )
        raise InvalidInput(f"no dead unit on these {len(rows)} rows that could be revived: {why}")
    return network.with_(nodes=tuple(nodes), origin=Origin()), total


def _value(node: Node, values: list[Array]) -> Array:
    op: Any = node.op
    return (op if isinstance(op, Affine) else op.fast)(*(values[j] for j in node.inputs))


def _channels(node: Node) -> IntArray | None:
    """For each entry of an affine node the row of weights that makes it; None where that is not one dense layer or convolution."""
    if not isinstance(node.op, Affine) or len(node.op.maps) != 1:
        return None
    (m,) = node.op.maps
    if isinstance(m, Conv):
        return np.repeat(np.arange(m.out_shape[0]), m.out_size // m.out_shape[0])
    return np.arange(m.out_size) if isinstance(m, Dense) else None


def _fresh(node: Node, below: Array, chosen: IntArray, generator: np.random.Generator) -> Node:
    """The affine node with new weights (He, 2015) and hinges at the median for the chosen channels."""
    op = node.op
    assert isinstance(op, Affine)
    (m,) = op.maps
    old = m.W if isinstance(m, Dense) else m.kernel
    made = np.array(old)
    made[chosen] = generator.normal(size=made[chosen].shape) * np.sqrt(2 / made[0].size)
    below = below if isinstance(m, Dense) else below[:_ROWS]
    drawn = _with(m, made.copy())  # a map freezes its array
    z = drawn.apply(below).reshape(len(below), len(made), -1)[:, chosen]
    spread = z.std(axis=(0, 2))
    scale = np.where(spread > 0, spread, 1)
    made[chosen] /= scale.reshape(-1, *[1] * (made.ndim - 1))
    bias = np.array(op.bias).reshape(len(made), -1)
    bias[chosen] = -(np.median(z, axis=(0, 2)) / scale)[:, None]
    return _node(node, Affine((_with(m, made),), bias.reshape(-1)))


def _with(m: Any, weights: Any) -> AbstractLinear:
    if isinstance(m, Conv):
        return Conv(weights, m.in_shape, m.stride, m.padding, m.dilation, m.groups)
    return type(m)(weights)


def _node(node: Node, op: Affine) -> Node:
    return Node(op, node.inputs, node.shape, node.name, node.source)


def _silence(nodes: list[Node], values: list[Array], start: int, labels: IntArray, chosen: IntArray) -> bool:
    """Sets to 0 what follows from the chosen channels of activation `start`; False, and no change, where that cannot be."""
    places = _readers(nodes, start, labels)
    if places is None:
        return False
    made: dict[int, Affine] = {}
    for c, k, below in places:
        op = made.get(c, nodes[c].op)
        assert isinstance(op, Affine)
        m, mask, value = op.maps[k], np.isin(below, chosen), values[nodes[c].inputs[k]]
        if np.ptp(value[:, mask], axis=0).max(initial=0.0) > 1e-9 * (1 + np.abs(value[0, mask]).max(initial=0.0)):
            return False
        cut = _without(m, mask)
        if cut is None:
            return False
        bias = op.bias + m.apply(np.where(mask, value[0], 0.0))
        made[c] = Affine((*op.maps[:k], cut, *op.maps[k + 1 :]), bias)
    for c, op in made.items():
        nodes[c] = _node(nodes[c], op)
    return True


def _without(m: AbstractLinear, mask: BoolArray) -> AbstractLinear | None:
    """The map with the weights of these inputs set to 0; None where they are no whole channels of a convolution."""
    if isinstance(m, Dense):
        return Dense(np.where(mask, 0.0, m.W))
    if isinstance(m, Sparse):
        return Sparse(m.W.multiply(~mask).tocsr())
    assert isinstance(m, Conv)
    flat = mask.reshape(m.in_shape[0], -1)
    if not np.array_equal(flat.any(axis=1), flat.all(axis=1)):
        return None
    kernel, outputs, inputs = np.array(m.kernel), m.kernel.shape[0] // m.groups, m.kernel.shape[1]
    for channel in np.flatnonzero(flat[:, 0]):
        group, place = divmod(int(channel), inputs)
        kernel[group * outputs : (group + 1) * outputs, place] = 0
    return _with(m, kernel)


def _readers(nodes: list[Node], start: int, labels: IntArray) -> list[tuple[int, int, IntArray]] | None:
    """The weights that first mix the channels of activation `start`: node, which of its maps, channel of each entry they read.

    None where the channels are mixed without weights, or reach the output unmixed.
    """
    found, known = [], {start: labels}
    for c in range(start + 1, len(nodes)):
        node = nodes[c]
        reading = [k for k, j in enumerate(node.inputs) if j in known]
        if not reading:
            continue
        if not isinstance(node.op, Affine):
            if len(node.inputs) > 1:
                return None
            known[c] = known[node.inputs[0]]
            continue
        parts = [_apart(node.op.maps[k], known[node.inputs[k]]) for k in reading]
        merged = _agree(parts) if len(reading) == len(node.inputs) else None
        if merged is not None:
            known[c] = merged
            continue
        for k in reading:
            if not isinstance(node.op.maps[k], Dense | Sparse | Conv):
                return None
            found.append((c, k, known[node.inputs[k]]))
    return None if len(nodes) - 1 in known else found


def _apart(m: AbstractLinear, labels: IntArray) -> IntArray | None:
    """Channel of each output where each depends on one channel only (-1: on none), else None.

    With nonnegative weights the sums of weight, weight times label and weight times label squared have no variance just then.
    """
    known, code = labels >= 0, np.maximum(labels, 0).astype(float)
    if labels.max(initial=-1) == labels[known].min(initial=0) and isinstance(m, Dense | Sparse | Conv):
        return None  # a single channel: whatever has weights counts as mixing
    magnitude = m.absolute()
    total, first, second = (magnitude.apply(known * code**p) for p in range(3))
    reached = total > 0
    mean = np.where(reached, first / np.where(reached, total, 1), -1.0)
    varies = np.where(reached, second / np.where(reached, total, 1) - mean**2, 0.0)
    if np.any(varies > 1e-9 * (1 + mean**2)):
        return None
    return np.rint(mean).astype(np.int64)


def _agree(parts: list[IntArray | None]) -> IntArray | None:
    merged = parts[0]
    for part in parts[1:]:
        if merged is None or part is None or np.any((merged >= 0) & (part >= 0) & (merged != part)):
            return None
        merged = np.maximum(merged, part)
    return merged
