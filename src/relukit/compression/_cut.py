"""One layer of a network and all that hangs on its channels up to the maps that mix them: what has to be cut together."""

from dataclasses import dataclass, field

import numpy as np

from relukit._numerics import gamma
from relukit._types import Array, IntArray
from relukit.bounds import Bounds
from relukit.compression._channel_maps import (
    FOREIGN,
    NONE,
    alike,
    homogeneous,
    joined,
    mixes,
    padded,
    readable,
    renumbered,
    restricted,
    rows_of,
    selected,
    slots,
    weights_by_row,
    weights_of,
    with_weights,
)
from relukit.compression._copies import added, rounding
from relukit.network import Affine, Network, Node
from relukit.network.affine import AbstractLinear, Conv, Gather
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
    (poolings, depthwise convolutions, changes of shape and order, concatenations with other values).

    Arguments:
        owners: For the source and each node of the group, in order: which channel each entry belongs to (`_channel_maps`). A channel goes in all of them.
        readers: Maps behind the group that mix or select channels.
    """

    draft: Draft
    source: int
    owners: dict[int, IntArray]
    readers: list[Reader]
    channels: int

    @staticmethod
    def of(draft: Draft, source: int) -> "Layer | None":
        """The layer that begins at a node, as far as its channels stay apart; None where they cannot be cut."""
        return Layer._found(draft, source, True) or Layer._found(draft, source, False)

    @staticmethod
    def _found(draft: Draft, source: int, far: bool) -> "Layer | None":
        """Far: through changes of order and concatenations, too; what lies behind them may be nothing that can be cut."""
        nodes, op = draft.nodes, draft.nodes[source].op
        if not isinstance(op, Affine) or not all(mixes(m) for m in op.maps):
            return None
        counts = {m.kernel.shape[0] for m in op.maps if isinstance(m, Conv)} or {nodes[source].size}
        if len(counts) > 1 or not nodes[source].size:
            return None
        channels, last = counts.pop(), len(nodes) - 1
        owners = {source: np.repeat(np.arange(channels), nodes[source].size // channels)}
        readers: list[Reader] = []
        for j in range(source + 1, len(nodes)):
            reader, inputs = nodes[j].op, nodes[j].inputs
            if not any(i in owners for i in inputs):
                continue
            if not isinstance(reader, Affine):
                if j == last:
                    return None
                owners[j] = owners[inputs[0]]
                continue
            owner = None if j == last else Layer._behind(nodes[j], [owners.get(i) for i in inputs], channels, far)
            if owner is not None:
                owners[j] = owner
                continue
            found = [(j, p) for p, i in enumerate(inputs) if i in owners]
            if not all(readable(reader.maps[p], owners[inputs[p]]) for _, p in found):
                return None
            readers += found
        return Layer(draft, source, owners, readers, channels) if readers else None

    @staticmethod
    def _behind(node: Node, before: list[IntArray | None], channels: int, far: bool) -> IntArray | None:
        """Whose the entries of an affine node of the group are; None where it is a reader."""
        assert isinstance(node.op, Affine)
        owner = joined(node.op.maps, before, node.size)
        if owner is None:
            return None
        blocks = np.repeat(np.arange(channels), node.size // channels) if node.size % channels == 0 else None
        selects = all(isinstance(m, Gather) for m in node.op.maps)
        if blocks is not None and np.all((owner == blocks) | ((owner == NONE) & selects)):
            return blocks
        if not far:
            return None
        return padded(owner, node.shape) if selects else owner

    @property
    def group(self) -> list[int]:
        return [i for i in self.owners if i != self.source]

    def entries(self, i: int, channel: int) -> IntArray:
        """Entries of a node that belong to a channel, in order."""
        return np.flatnonzero(self.owners[i] == channel)

    def _every(self, i: int, flags: np.ndarray) -> np.ndarray:
        """For which channels all entries of a node are flagged."""
        found, owner = np.ones(self.channels, bool), self.owners[i]
        found[owner[~flags & (owner >= 0)]] = False
        return found

    def _spread(self, i: int, flags: np.ndarray) -> np.ndarray:
        """Flags of channels as flags of a node's entries."""
        return np.r_[flags, False, False][self.owners[i]]  # -1 and -2 take the last two

    def rows(self) -> Array:
        """Weights and bias of each channel; nothing is compared beside selections."""
        op = self.draft.nodes[self.source].op
        assert isinstance(op, Affine)
        if len({isinstance(m, Conv) for m in op.maps}) > 1 or any(selected(m) is not None for m in op.maps):
            return np.zeros((self.channels, 1))
        weights = [m.kernel.reshape(self.channels, -1) if isinstance(m, Conv) else m.matrix() for m in op.maps]
        return np.c_[*weights, op.bias.reshape(self.channels, -1)]

    def constants(self) -> dict[int, tuple[np.ndarray, Array]]:
        """For each node: which channels are constant over the domain, and the values of all entries (0 where not constant)."""
        draft, bounds = self.draft, self.draft.bounds
        op = draft.nodes[self.source].op
        assert bounds is not None and isinstance(op, Affine)
        still = ~np.any([weights_by_row(m, self.channels).any(axis=1) for m in op.maps], axis=0)
        found = {self.source: (still, np.where(self._spread(self.source, still), op.bias, 0.0))}
        for j in self.group:
            node = draft.nodes[j]
            if isinstance(node.op, Affine):
                fixed = np.all([found[i][0] for i in node.inputs if i in found], axis=0)
                value = node.op(*(found[i][1] if i in found else np.zeros(draft.nodes[i].size) for i in node.inputs))
            else:
                before, known = found[node.inputs[0]]
                fixed = before | self._every(j, bounds.off(j)[draft.kept[j]])
                low = bounds.lower[draft.network.nodes[j].inputs[0]][draft.kept[j]]
                assert isinstance(node.op, AbstractActivation)
                value = np.asarray(node.op(np.where(self._spread(j, before), known, low)))
            found[j] = fixed, np.where(self._spread(j, fixed), value, 0.0)
        return found

    def fold(self) -> np.ndarray:
        """Constant channels whose value readers took over into their biases (or had no need to: it is 0); every node keeps one that is not."""
        found = self.constants()
        fixed = np.all([found[self.value(r)][0] for r in self.readers], axis=0)
        for owner in self.owners.values():
            if (owner >= 0).all() and fixed[owner].all():
                fixed[owner[-1]] = False
        values = {i: found[i][1] for i in {self.value(r) for r in self.readers}}
        for c in np.flatnonzero(fixed).tolist():
            more: dict[int, Array] = {}
            for r in self.readers:
                only = np.where(self.owners[self.value(r)] == c, values[self.value(r)], 0.0)
                if only.any():
                    more[r[0]] = more.get(r[0], 0.0) + self.draft.map(r).apply(only)
            if not all(self._even(j, v) for j, v in more.items()):
                fixed[c] = False  # a bias of its own for every place would cost more than the channel
                continue
            for j, v in more.items():
                op = self.draft.nodes[j].op
                assert isinstance(op, Affine)
                size = np.abs(v) + np.abs(op.bias) + self._weight(j, c, values)
                self.draft.off_by(j, gamma(op.terms + 4) * size)
                self.draft.add_bias(j, self._evened(j, v))
        return fixed

    def _weight(self, j: int, c: int, values: dict[int, Array]) -> Array:
        """What the absolute values of a channel's constants add up to in a reader."""
        total = np.zeros(self.draft.nodes[j].size)
        for r in (r for r in self.readers if r[0] == j):
            only = np.where(self.owners[self.value(r)] == c, np.abs(values[self.value(r)]), 0.0)
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

    def value(self, reader: Reader) -> int:
        """The node that a reader reads."""
        return self.draft.nodes[reader[0]].inputs[reader[1]]

    def read(self) -> np.ndarray:
        """Which channels have a weight that is not 0 in a reader."""
        found = np.zeros(self.channels + 2, bool)  # -1 and -2 mark the last two
        for r in self.readers:
            m, owner = self.draft.map(r), self.owners[self.value(r)]
            index = selected(m)
            if index is not None:
                found[owner[index[index >= 0]]] = True
            else:
                found[slots(m, owner)[weights_of(m).any(axis=(0, 2))]] = True
        return found[: self.channels]

    def twins(self, a: int, b: int, factor: float) -> bool:
        """Whether channel a is `factor` times channel b in the whole group, if it is so in the source."""
        if factor != 1 and any(selected(self.draft.map(r)) is not None for r in self.readers):
            return False
        for j in self.group:
            node = self.draft.nodes[j]
            one, two = self.entries(j, a), self.entries(j, b)
            if len(one) != len(two):
                return False
            if isinstance(node.op, PiecewiseLinear):
                if node.op.take(one) != node.op.take(two) or (factor != 1 and not homogeneous(node.op.take(one))):
                    return False
                continue
            assert isinstance(node.op, Affine)
            inside = [(m, self.owners[i]) for m, i in zip(node.op.maps, node.inputs) if i in self.owners]
            if np.any(node.op.bias[one] != factor * node.op.bias[two]) or not all(
                alike(m, before, self.owners[j], a, b) for m, before in inside
            ):
                return False
        return True

    def move(self, a: int, b: int, factor: float) -> None:
        """Readers take channel a, `factor` times channel b, from b."""
        rest, stretch = self._rest(a, b, factor), self._stretch()
        for r in self.readers:
            m, value = self.draft.map(r), self.value(r)
            index = selected(m)
            if index is not None:  # then the factor is 1
                instead = np.arange(m.in_size + 1)
                instead[self.entries(value, a)] = self.entries(value, b)
                index = np.where(index >= 0, instead[index], -1)
                off = (
                    (self.owners[value][m.index if isinstance(m, Gather) else slice(None)] == a) * rest * stretch[value]
                )
                self.draft.put(r, Gather(index, m.in_size))
                self.draft.off_by(r[0], 1.01 * off)
                continue
            slot, weights = slots(m, self.owners[value]), weights_of(m).copy()
            one, two = np.flatnonzero(slot == a), np.flatnonzero(slot == b)
            if not len(one):
                continue
            total, lost = added(weights[:, two], weights[:, one], factor)
            size = float(self.draft.reach(value)[self.entries(value, b)].max())
            grown = np.abs(weights[:, one]).sum(axis=(1, 2)) * rest * stretch[value]
            off = 1.01 * (grown + lost.sum(axis=(1, 2)) * size)
            weights[:, two] = total
            weights[:, one] = 0
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
                    if i in found
                ]
                found[j] = 1.01 * sum(parts)
            else:
                assert isinstance(node.op, AbstractActivation)
                found[j] = found[node.inputs[0]] * node.op.lipschitz()
        return found

    def spared(self, gone: np.ndarray, folded: np.ndarray) -> np.ndarray:
        """The channels that go, less those without which a node would be left empty."""
        gone = gone.copy()
        for owner in self.owners.values():
            if (owner >= 0).all() and gone[owner].all():
                gone[owner[~folded[owner]][0]] = False
        return gone

    def drop(self, gone: np.ndarray) -> None:
        """Leave out some channels."""
        draft, nodes = self.draft, self.draft.nodes
        width = {i: nodes[i].size for i in self.owners}
        places = {i: np.flatnonzero(~self._spread(i, gone)) for i in self.owners}
        for i, at in places.items():
            node = nodes[i]
            if i == self.source:
                assert isinstance(node.op, Affine)
                op = Affine(tuple(rows_of(m, np.flatnonzero(~gone), at) for m in node.op.maps), node.op.bias[at])
            elif isinstance(node.op, Affine):
                maps = tuple(
                    restricted(m, places[s], at, width[s]) if s in places else rows_of(m, at, at)
                    for m, s in zip(node.op.maps, node.inputs)
                )
                op = Affine(maps, node.op.bias[at])
            else:
                assert isinstance(node.op, AbstractActivation)
                op = node.op.take(at)
            nodes[i] = Node(op, node.inputs, _shape(node.shape, at), node.name, node.source)
        for r in self.readers:
            m, value = draft.map(r), self.value(r)
            index = selected(m)
            if index is not None:
                draft.put(r, Gather(renumbered(index, places[value], m.in_size), len(places[value])))
            else:
                left = ~np.r_[gone, False, False][slots(m, self.owners[value])]
                draft.put(r, with_weights(m, weights_of(m)[:, left]))
        number = np.r_[np.cumsum(~gone) - 1, FOREIGN, NONE]
        for i, at in places.items():
            draft.kept[i] = draft.kept[i][at]
            self.owners[i] = number[self.owners[i][at]]
        self.channels = int((~gone).sum())


def _shape(shape: tuple[int, ...], at: IntArray) -> tuple[int, ...]:
    """The shape of some entries of a value: one axis shorter where that is what they are, else flat."""
    kept = np.zeros(int(np.prod(shape)), bool)
    kept[at] = True
    for axis in range(len(shape)):
        lines = np.moveaxis(kept.reshape(shape), axis, 0).reshape(shape[axis], -1)
        if (lines == lines[:, :1]).all():
            return (*shape[:axis], int(lines[:, 0].sum()), *shape[axis + 1 :])
    return (len(at),)
