"""Convolutions and layers beside skip connections with fewer channels: dead ones, copies, and those that nothing reads."""

from dataclasses import dataclass

import numpy as np

from relukit._numerics import gamma
from relukit._types import Array
from relukit.bounds import Bounds
from relukit.network import Affine, Network, Node, Origin
from relukit.network.affine import AbstractLinear, Conv, Dense, Gather, Identity, Sparse, dense_or_sparse
from relukit.piecewise import AbstractActivation, PiecewiseLinear

_COLLINEAR = 1e-12


@dataclass(frozen=True, eq=False)
class Channels:
    """The smaller network, a bound of its difference, how many channels were merged, and (for proofs) its gates as in `Plain`."""

    network: Network
    error: float
    merged: int
    gates: list[tuple[int, int]]
    follow: list[tuple[int, int, int, float]]


def channel_form(network: Network, bounds: Bounds) -> Channels | None:
    """Convolutions and dense layers with fewer channels and units; None where nothing goes.

    A layer is cut if its affine node is a sum of convolutions without groups, matrices and selections, only a piecewise-linear activation reads
    it, and that is read only by such maps, directly or through a change of shape. A skip connection then selects what is left.
    """
    nodes, merged, changed = list(network.nodes), 0, False
    drift: dict[int, Array] = {}  # what merging adds to the sums of a node
    stay = {i: np.arange(network.nodes[i].size) for i in network.activations}
    unread: list[tuple[int, int]] = []
    follow: list[tuple[int, int, int, float]] = []  # layer, unit, unit that it follows, factor
    for k, i in enumerate(network.activations):
        cut = _Layer.of(nodes, network, i)
        if cut is None:
            continue
        followers: set[int] = set()
        keep = ~bounds.off(i).reshape(cut.channels, -1).all(axis=1)
        top = np.maximum(np.abs(bounds.lower[i]), np.abs(bounds.upper[i]))
        op = network.nodes[i].op
        if isinstance(op, PiecewiseLinear) and op.is_relu:
            for a, b, factor in _multiples(cut.rows()):
                if keep[a] and keep[b] and cut.move(a, b, factor, top, drift):
                    keep[a], merged = False, merged + 1
                    followers.add(a)
                    pairs = zip(_places(cut.entries(a)), _places(cut.entries(b)))
                    follow += [(k, p, q, factor) for p, q in pairs]
        keep &= cut.read()
        dead = ~keep & np.array([bool(np.all(top[cut.entries(c)] == 0)) for c in range(cut.channels)])
        gone = dead | (~keep & ~cut.read())
        if not gone.any() or gone.all():
            continue
        entries = [_places(cut.entries(c)) for c in range(cut.channels)]
        stay[i] = np.array([p for c in np.flatnonzero(~gone) for p in entries[c]], int)
        unread += [(k, p) for c in np.flatnonzero(gone & ~dead) if c not in followers for p in entries[c]]
        cut.drop(np.flatnonzero(~gone))
        changed = True
    if not changed:
        return None
    made = Network(
        tuple(nodes), ("equal only on the set it was compressed for",), network.head, network.dtype, network.box, origin=Origin("built")
    )  # fmt: skip
    gates = [(k, int(p)) for k, i in enumerate(network.activations) for p in stay[i]] + unread
    number = {name: at for at, name in enumerate(gates)}
    named = [(k, p, number[k, q], f) for k, p, q, f in follow if (k, q) in number]
    return Channels(made, _propagate(network, drift), merged, gates, named)


def _places(stretch: slice) -> range:
    return range(stretch.start, stretch.stop)


def _fits(m: AbstractLinear) -> bool:
    return isinstance(m, Dense | Sparse | Identity | Gather) or (isinstance(m, Conv) and m.groups == 1)


@dataclass
class _Layer:
    """One activation with the affine node before it and those that read it."""

    nodes: list[Node]
    source: int
    at: int
    between: list[int]  # changes of shape
    readers: list[tuple[int, int]]  # nodes, and which of their maps
    channels: int

    @staticmethod
    def of(nodes: list[Node], network: Network, at: int) -> "_Layer | None":
        source = nodes[at].inputs[0]
        op = nodes[source].op
        if not isinstance(op, Affine) or network.consumers[source] != (at,) or not all(_fits(m) for m in op.maps):
            return None
        counts = {m.kernel.shape[0] for m in op.maps if isinstance(m, Conv)} or {nodes[at].size}
        if len(counts) > 1:
            return None
        channels = counts.pop()
        between: list[int] = []
        readers: list[tuple[int, int]] = []
        queue = [(at, j) for j in network.consumers[at]]
        while queue:
            value, j = queue.pop()
            reader = nodes[j].op
            if not isinstance(reader, Affine) or not all(_fits(m) for m in reader.maps):
                return None
            alone = len(reader.maps) == 1 and isinstance(reader.maps[0], Identity) and not reader.bias.any()
            if alone and j != len(nodes) - 1:
                between.append(j)
                queue += [(j, r) for r in network.consumers[j]]
                continue
            for p in (p for p, source_ in enumerate(nodes[j].inputs) if source_ == value):
                m = reader.maps[p]
                if isinstance(m, Conv) and m.in_shape[0] != channels:
                    return None
                readers.append((j, p))
        return _Layer(nodes, source, at, between, sorted(set(readers)), channels) if readers else None

    def entries(self, channel: int) -> slice:
        size = self.nodes[self.at].size // self.channels
        return slice(channel * size, (channel + 1) * size)

    def rows(self) -> Array:
        """Weights and bias of each channel; a bias that varies within a channel keeps it apart from all others. None are compared beside selections."""
        op = self.nodes[self.source].op
        assert isinstance(op, Affine)
        kinds = {isinstance(m, Conv) for m in op.maps}
        if len(kinds) > 1 or any(isinstance(m, Identity | Gather) for m in op.maps):
            return np.zeros((self.channels, 1))
        weights = [m.kernel.reshape(self.channels, -1) if isinstance(m, Conv) else m.matrix() for m in op.maps]
        return np.c_[*weights, op.bias.reshape(self.channels, -1)]

    def _map(self, reader: tuple[int, int]) -> AbstractLinear:
        op = self.nodes[reader[0]].op
        assert isinstance(op, Affine)
        return op.maps[reader[1]]

    def _weights(self, reader: tuple[int, int]) -> tuple[AbstractLinear, Array]:
        """A reader's weights by channel of its input: shape `(out, channels, rest)`."""
        m = self._map(reader)
        if isinstance(m, Conv):
            return m, m.kernel.reshape(m.kernel.shape[0], self.channels, -1)
        return m, m.matrix().reshape(m.out_size, self.channels, -1)

    def _put(self, reader: tuple[int, int], new: AbstractLinear) -> None:
        node = self.nodes[reader[0]]
        op = node.op
        assert isinstance(op, Affine)
        maps = tuple(new if p == reader[1] else m for p, m in enumerate(op.maps))
        self.nodes[reader[0]] = Node(Affine(maps, op.bias), node.inputs, node.shape, node.name, node.source)

    def _kernel(self, m: AbstractLinear, weights: Array) -> AbstractLinear:
        if not isinstance(m, Conv):
            return dense_or_sparse(weights.reshape(len(weights), -1))
        count = weights.shape[1]
        return Conv(weights.reshape(m.kernel.shape[0], count, *m.kernel.shape[2:]), (count, *m.in_shape[1:]), m.stride, m.padding, m.dilation, 1)  # fmt: skip

    def read(self) -> np.ndarray:
        """Which channels have a weight that is not 0 in a reader."""
        found = np.zeros(self.channels, bool)
        for reader in self.readers:
            m = self._map(reader)
            if isinstance(m, Identity | Gather):
                index = m.index if isinstance(m, Gather) else np.arange(m.in_size)
                found[index[index >= 0] // (m.in_size // self.channels)] = True
            else:
                found |= self._weights(reader)[1].any(axis=(0, 2))
        return found

    def move(self, a: int, b: int, factor: float, top: Array, drift: dict[int, Array]) -> bool:
        """Channel a is `factor` times channel b: readers take it from b. Not where a selection reads it."""
        if any(isinstance(self._map(r), Identity | Gather) for r in self.readers):
            return False
        size = top[self.entries(a)].max()
        for reader in self.readers:
            m, weights = self._weights(reader)
            weights = weights.copy()
            off = 1.01 * (gamma(6) + _COLLINEAR * m.terms) * (np.abs(weights[:, a]).sum(axis=1) + np.abs(weights[:, b]).sum(axis=1)) * size * max(1.0, 1 / factor)  # fmt: skip
            weights[:, b] += factor * weights[:, a]
            weights[:, a] = 0
            self._put(reader, self._kernel(m, weights))
            spread = np.repeat(off, self.nodes[reader[0]].size // len(off))
            drift[reader[0]] = drift.get(reader[0], 0.0) + spread
        return True

    def drop(self, keep: np.ndarray) -> None:
        node, size = self.nodes[self.source], self.nodes[self.at].size // self.channels
        op = node.op
        assert isinstance(op, Affine)
        entries = (keep[:, None] * size + np.arange(size)).ravel()
        maps = tuple(self._rows_of(m, keep, entries) for m in op.maps)
        shape = (
            (len(keep), *node.shape[1:]) if len(node.shape) == 3 and node.shape[0] == self.channels else (len(entries),)
        )
        self.nodes[self.source] = Node(Affine(maps, op.bias[entries]), node.inputs, shape, node.name, node.source)
        act = self.nodes[self.at]
        assert isinstance(act.op, AbstractActivation)
        self.nodes[self.at] = Node(act.op.take(entries), act.inputs, shape, act.name, act.source)
        for j in self.between:
            old = self.nodes[j]
            flat = shape if len(old.shape) == len(shape) else (len(entries),)
            bias = np.zeros(len(entries))
            self.nodes[j] = Node(Affine((Identity(len(entries)),), bias), old.inputs, flat, old.name, old.source)
        place = np.full(self.channels * size, -1)
        place[entries] = np.arange(len(entries))
        for reader in self.readers:
            m = self._map(reader)
            if isinstance(m, Identity | Gather):
                index = m.index if isinstance(m, Gather) else np.arange(m.in_size)
                self._put(reader, Gather(np.where(index >= 0, place[index], -1), len(entries)))
            else:
                self._put(reader, self._kernel(m, self._weights(reader)[1][:, keep]))
        self.channels = len(keep)

    @staticmethod
    def _rows_of(m: AbstractLinear, keep: np.ndarray, entries: np.ndarray) -> AbstractLinear:
        if isinstance(m, Conv):
            return Conv(m.kernel[keep], m.in_shape, m.stride, m.padding, m.dilation, 1)
        if isinstance(m, Identity | Gather):
            return Gather(m.index[entries] if isinstance(m, Gather) else entries, m.in_size)
        return dense_or_sparse(m.matrix()[entries])


def _multiples(rows: Array) -> list[tuple[int, int, float]]:
    """Rows that are a positive multiple of an earlier one."""
    sizes, seen, found = np.abs(rows).max(axis=1), {}, []
    for i, row in enumerate(rows):
        if sizes[i] == 0:
            continue
        j = seen.setdefault(np.round(row / sizes[i], 7).tobytes(), i)
        if j != i:
            p = int(np.argmax(np.abs(rows[j])))
            factor = row[p] / rows[j, p]
            if factor > 0 and np.all(np.abs(row - factor * rows[j]) <= _COLLINEAR * np.abs(row)):
                found.append((i, j, float(factor)))
    return found


def _propagate(network: Network, drift: dict[int, Array]) -> float:
    """What errors at some nodes can do to the outputs: through |W|, and activations by their largest slope."""
    errors: list[Array] = []
    for i, node in enumerate(network.nodes):
        if isinstance(node.op, Affine):
            error = sum(m.absolute().apply(errors[j]) for m, j in zip(node.op.maps, node.inputs)) + drift.get(i, 0.0)
        elif i == 0:
            error = np.zeros(node.size)
        else:
            assert isinstance(node.op, AbstractActivation)
            error = errors[node.inputs[0]] * node.op.lipschitz()
        errors.append(np.asarray(error))
    return float((1 + 1e-9) * errors[-1].max(initial=0.0))
