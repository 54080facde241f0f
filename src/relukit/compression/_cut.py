"""One layer of a network and all that hangs on its channels up to the maps that mix them: what has to be cut together."""

from dataclasses import dataclass, field

import numpy as np

from relukit._numerics import gamma
from relukit._types import Array, IntArray
from relukit.bounds import Bounds
from relukit.compression._channel_maps import (
    alike,
    apart,
    homogeneous,
    mixes,
    renumbered,
    restricted,
    rows_of,
    weights_by_row,
    weights_of,
    with_weights,
)
from relukit.compression._copies import added, rounding
from relukit.network import Affine, Network, Node
from relukit.network.affine import AbstractLinear, Conv, Gather, Identity
from relukit.piecewise import AbstractActivation, PiecewiseLinear

Reader = tuple[int, int]  # a node, and which of its maps


@dataclass
class Draft:
    """A network while channels are taken out of it.

    Arguments:
        nodes: As they are now.
        kept: For each node, which entries of the original's value it still has.
        drift: What merging and folding add to a node's sums, entry by entry of the original.
    """

    network: Network
    bounds: Bounds | None
    nodes: list[Node]
    kept: list[IntArray]
    drift: dict[int, Array] = field(default_factory=dict)

    @staticmethod
    def of(network: Network, bounds: Bounds | None) -> "Draft":
        """The whole network; without bounds it can be looked at, not changed."""
        return Draft(network, bounds, list(network.nodes), [np.arange(node.size) for node in network.nodes])

    def reach(self, i: int) -> Array:
        """Largest magnitude of each entry that is left of a node's value."""
        assert self.bounds is not None
        return np.maximum(np.abs(self.bounds.lower[i]), np.abs(self.bounds.upper[i]))[self.kept[i]]

    def map(self, reader: Reader) -> AbstractLinear:
        op = self.nodes[reader[0]].op
        assert isinstance(op, Affine)
        return op.maps[reader[1]]

    def put(self, reader: Reader, new: AbstractLinear) -> None:
        node = self.nodes[reader[0]]
        assert isinstance(node.op, Affine)
        maps = tuple(new if p == reader[1] else m for p, m in enumerate(node.op.maps))
        self.nodes[reader[0]] = Node(Affine(maps, node.op.bias), node.inputs, node.shape, node.name, node.source)

    def add_bias(self, i: int, more: Array) -> None:
        node = self.nodes[i]
        assert isinstance(node.op, Affine)
        self.nodes[i] = Node(Affine(node.op.maps, node.op.bias + more), node.inputs, node.shape, node.name, node.source)

    def off_by(self, i: int, more: Array) -> None:
        whole = self.drift.setdefault(i, np.zeros(self.network.nodes[i].size))
        whole[self.kept[i]] += more


@dataclass
class Layer:
    """An affine node whose rows can go channel by channel, and its group: the activations and other nodes behind it that keep channels apart
    (poolings, depthwise convolutions, changes of shape).

    Arguments:
        group: Numbers of these nodes, in order; a channel goes in all of them.
        readers: Maps behind the group that mix or select channels.
    """

    draft: Draft
    source: int
    group: list[int]
    readers: list[Reader]
    channels: int

    @staticmethod
    def of(draft: Draft, source: int) -> "Layer | None":
        nodes, op = draft.nodes, draft.nodes[source].op
        if not isinstance(op, Affine) or not all(mixes(m) for m in op.maps):
            return None
        counts = {m.kernel.shape[0] for m in op.maps if isinstance(m, Conv)} or {nodes[source].size}
        if len(counts) > 1 or not nodes[source].size:
            return None
        channels, last = counts.pop(), len(nodes) - 1
        group, readers = [], []
        for j in range(source + 1, len(nodes)):
            inside = [i == source or i in group for i in nodes[j].inputs]
            if not any(inside):
                continue
            reader = nodes[j].op
            if not isinstance(reader, Affine):
                if j == last:
                    return None
                group.append(j)
            elif all(inside) and j != last and all(apart(m, channels) for m in reader.maps):
                group.append(j)
            else:
                found = [(j, p) for p, yes in enumerate(inside) if yes]
                for m in (reader.maps[p] for _, p in found):
                    if not mixes(m) or (isinstance(m, Conv) and m.in_shape[0] != channels):
                        return None
                readers += found
        return Layer(draft, source, group, readers, channels) if readers else None

    def entries(self, i: int, channels: IntArray) -> IntArray:
        """Entries of a node of the group that belong to channels, in order."""
        size = self.draft.nodes[i].size // self.channels
        return (np.asarray(channels)[:, None] * size + np.arange(size)).ravel()

    def rows(self) -> Array:
        """Weights and bias of each channel; nothing is compared beside selections."""
        op = self.draft.nodes[self.source].op
        assert isinstance(op, Affine)
        if len({isinstance(m, Conv) for m in op.maps}) > 1 or any(isinstance(m, Identity | Gather) for m in op.maps):
            return np.zeros((self.channels, 1))
        weights = [m.kernel.reshape(self.channels, -1) if isinstance(m, Conv) else m.matrix() for m in op.maps]
        return np.c_[*weights, op.bias.reshape(self.channels, -1)]

    def constants(self) -> dict[int, tuple[np.ndarray, Array]]:
        """For each node of the group: which channels are constant over the domain, and the values of all entries (0 where not constant)."""
        draft, bounds = self.draft, self.draft.bounds
        op = draft.nodes[self.source].op
        assert bounds is not None and isinstance(op, Affine)
        still = ~np.any([weights_by_row(m, self.channels).any(axis=1) for m in op.maps], axis=0)
        found = {self.source: (still, np.where(np.repeat(still, len(op.bias) // self.channels), op.bias, 0.0))}
        for j in self.group:
            node = draft.nodes[j]
            if isinstance(node.op, Affine):
                fixed = np.all([found[i][0] for i in node.inputs], axis=0)
                value = node.op(*(found[i][1] for i in node.inputs))
            else:
                before, known = found[node.inputs[0]]
                flat = bounds.off(j)[draft.kept[j]].reshape(self.channels, -1).all(axis=1)
                low = bounds.lower[draft.network.nodes[j].inputs[0]][draft.kept[j]]
                fixed = before | flat
                assert isinstance(node.op, AbstractActivation)
                value = np.asarray(node.op(np.where(np.repeat(before, node.size // self.channels), known, low)))
            found[j] = fixed, np.where(np.repeat(fixed, node.size // self.channels), value, 0.0)
        return found

    def fold(self) -> np.ndarray:
        """Constant channels whose value readers took over into their biases (or had no need to: it is 0)."""
        found = self.constants()
        fixed = np.all([found[self._value(r)][0] for r in self.readers], axis=0)
        values = {i: found[i][1] for i in {self._value(r) for r in self.readers}}
        some = np.zeros(self.channels, bool)
        for v in values.values():
            some |= v.reshape(self.channels, -1).any(axis=1)
        for c in np.flatnonzero(fixed & some).tolist():
            more: dict[int, Array] = {}
            for r in self.readers:
                only = np.zeros(self.draft.nodes[self._value(r)].size)
                at = self.entries(self._value(r), np.array([c]))
                only[at] = values[self._value(r)][at]
                more[r[0]] = more.get(r[0], 0.0) + self.draft.map(r).apply(only)
            if not all(self._even(j, v) for j, v in more.items()):
                fixed[c] = False  # a bias of its own for every place would cost more than the channel
                continue
            for j, v in more.items():
                op = self.draft.nodes[j].op
                assert isinstance(op, Affine)
                self.draft.off_by(
                    j,
                    gamma(op.terms + 4) * (np.abs(v) + np.abs(op.bias))
                    + gamma(op.terms + 4) * self._weight(j, c, values),
                )
                self.draft.add_bias(j, self._evened(j, v))
        return fixed

    def _weight(self, j: int, c: int, values: dict[int, Array]) -> Array:
        """What the absolute values of a channel's constants add up to in a reader."""
        total = np.zeros(self.draft.nodes[j].size)
        for r in (r for r in self.readers if r[0] == j):
            only = np.zeros(self.draft.nodes[self._value(r)].size)
            at = self.entries(self._value(r), np.array([c]))
            only[at] = np.abs(values[self._value(r)][at])
            total = total + self.draft.map(r).absolute().apply(only)
        return total

    def _even(self, j: int, more: Array) -> bool:
        """Whether a bias is one number for each channel of a convolution."""
        op = self.draft.nodes[j].op
        assert isinstance(op, Affine)
        counts = [m.kernel.shape[0] for m in op.maps if isinstance(m, Conv)]
        return not counts or bool(
            np.ptp(more.reshape(counts[0], -1), axis=1).max(initial=0) <= 1e-15 * np.abs(more).max(initial=0)
        )

    def _evened(self, j: int, more: Array) -> Array:
        """The same number for all places of a channel, where rounding alone made them differ."""
        op = self.draft.nodes[j].op
        assert isinstance(op, Affine)
        counts = [m.kernel.shape[0] for m in op.maps if isinstance(m, Conv)]
        return np.repeat(more.reshape(counts[0], -1)[:, 0], len(more) // counts[0]) if counts else more

    def _value(self, reader: Reader) -> int:
        return self.draft.nodes[reader[0]].inputs[reader[1]]

    def read(self) -> np.ndarray:
        """Which channels have a weight that is not 0 in a reader."""
        found = np.zeros(self.channels, bool)
        for r in self.readers:
            m = self.draft.map(r)
            if isinstance(m, Identity | Gather):
                index = m.index if isinstance(m, Gather) else np.arange(m.in_size)
                found[index[index >= 0] // (m.in_size // self.channels)] = True
            else:
                found |= weights_of(m, self.channels).any(axis=(0, 2))
        return found

    def twins(self, a: int, b: int, factor: float) -> bool:
        """Whether channel a is `factor` times channel b in the whole group, if it is so in the source."""
        if any(isinstance(self.draft.map(r), Identity | Gather) for r in self.readers):
            return False
        for j in self.group:
            op = self.draft.nodes[j].op
            one, two = (self.entries(j, np.array([c])) for c in (a, b))
            if isinstance(op, PiecewiseLinear):
                if op.take(one) != op.take(two) or (factor != 1 and not homogeneous(op.take(one))):
                    return False
                continue
            assert isinstance(op, Affine)
            if np.any(op.bias[one] != factor * op.bias[two]) or not all(
                alike(m, one, two, self.channels) for m in op.maps
            ):
                return False
        return True

    def move(self, a: int, b: int, factor: float) -> None:
        """Readers take channel a, `factor` times channel b, from b."""
        rest, stretch = self._rest(a, b, factor), self._stretch()
        for r in self.readers:
            m, value = self.draft.map(r), self._value(r)
            weights = weights_of(m, self.channels).copy()
            total, lost = added(weights[:, b], weights[:, a], factor)
            size = float(self.draft.reach(value)[self.entries(value, np.array([b]))].max())
            off = 1.01 * (np.abs(weights[:, a]).sum(axis=1) * rest * stretch[value] + lost.sum(axis=1) * size)
            weights[:, b] = total
            weights[:, a] = 0
            self.draft.put(r, with_weights(m, weights))
            self.draft.off_by(r[0], np.repeat(off, self.draft.nodes[r[0]].size // len(off)))

    def _rest(self, a: int, b: int, factor: float) -> float:
        """How far the sums of channels a and `factor` b can be apart: what their weights differ by times what they read."""
        node, total = self.draft.nodes[self.source], 0.0
        assert isinstance(node.op, Affine)
        for m, i in zip(node.op.maps, node.inputs):
            reach = self.draft.reach(i)
            if isinstance(m, Conv):
                one, two = m.kernel[a].reshape(len(m.kernel[a]), -1), m.kernel[b].reshape(len(m.kernel[b]), -1)
                reach = reach.reshape(m.in_shape[0], -1).max(axis=1)[:, None]
            else:
                one, two = weights_by_row(m, self.channels)[[a, b]]
            total += float((np.abs(one - factor * two) * reach).sum() + rounding(factor) * (np.abs(one) * reach).sum())
        bias = node.op.bias.reshape(self.channels, -1)
        return 1.01 * (total + float((np.abs(bias[a] - factor * bias[b]) + rounding(factor) * np.abs(bias[a])).max()))

    def _stretch(self) -> dict[int, float]:
        """By how much a difference in the source can have grown at each node of the group."""
        found = {self.source: 1.0}
        for j in self.group:
            node = self.draft.nodes[j]
            if isinstance(node.op, Affine):
                parts = [
                    float(m.absolute().apply(np.ones(m.in_size)).max()) * found[i]
                    for m, i in zip(node.op.maps, node.inputs)
                ]
                found[j] = 1.01 * sum(parts)
            else:
                assert isinstance(node.op, AbstractActivation)
                found[j] = found[node.inputs[0]] * node.op.lipschitz()
        return found

    def drop(self, keep: IntArray) -> None:
        """Leave only some channels."""
        draft, nodes, count = self.draft, self.draft.nodes, len(keep)
        places = {i: self.entries(i, keep) for i in (self.source, *self.group)}
        for i in (self.source, *self.group):
            node, at = nodes[i], places[i]
            shape = (count, *node.shape[1:]) if len(node.shape) > 1 and node.shape[0] == self.channels else (len(at),)
            if i == self.source:
                assert isinstance(node.op, Affine)
                op = Affine(tuple(rows_of(m, keep, at) for m in node.op.maps), node.op.bias[at])
            elif isinstance(node.op, Affine):
                maps = tuple(
                    restricted(m, keep, at, places[s], self.channels) for m, s in zip(node.op.maps, node.inputs)
                )
                op = Affine(maps, node.op.bias[at])
            else:
                assert isinstance(node.op, AbstractActivation)
                op = node.op.take(at)
            nodes[i] = Node(op, node.inputs, shape, node.name, node.source)
        for r in self.readers:
            m, value = draft.map(r), self._value(r)
            if isinstance(m, Identity | Gather):
                index = m.index if isinstance(m, Gather) else np.arange(m.in_size)
                draft.put(r, Gather(renumbered(index, places[value], m.in_size), len(places[value])))
            else:
                draft.put(r, with_weights(m, weights_of(m, self.channels)[:, keep]))
        for i, at in places.items():
            draft.kept[i] = draft.kept[i][at]
        self.channels = count
