"""Convolutions with fewer channels: dead ones, copies, and those that nothing reads."""

from dataclasses import dataclass

import numpy as np

from relukit._numerics import gamma
from relukit._types import Array
from relukit.bounds import Bounds
from relukit.network import Affine, Network, Node, Origin
from relukit.network.affine import AbstractLinear, Conv, Dense, Identity, Sparse, dense_or_sparse

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

    A layer is cut if its affine node has one map (a convolution without groups or a matrix), only a piecewise-linear activation reads it, and
    that is read only by convolutions without groups and matrices, directly or through a change of shape.
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
        if network.nodes[i].op.is_relu:  # type: ignore[union-attr]
            for a, b, factor in _multiples(cut.rows()):
                if keep[a] and keep[b]:
                    cut.move(a, b, factor, top, drift)
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


@dataclass
class _Layer:
    """One activation with the affine node before it and those that read it."""

    nodes: list[Node]
    source: int
    at: int
    between: list[int]  # changes of shape
    readers: list[int]
    channels: int

    @staticmethod
    def of(nodes: list[Node], network: Network, at: int) -> "_Layer | None":
        source = nodes[at].inputs[0]
        op = nodes[source].op
        if not isinstance(op, Affine) or len(op.maps) != 1 or network.consumers[source] != (at,) or source == 0:
            return None
        m = op.maps[0]
        if not (isinstance(m, Dense | Sparse) or (isinstance(m, Conv) and m.groups == 1)):
            return None
        between, readers, queue = [], [], list(network.consumers[at])
        while queue:
            j = queue.pop()
            reader = nodes[j].op
            if not isinstance(reader, Affine) or len(reader.maps) != 1:
                return None
            n = reader.maps[0]
            if isinstance(n, Identity) and not reader.bias.any() and j != len(nodes) - 1:
                between.append(j)
                queue += network.consumers[j]
            elif isinstance(n, Dense | Sparse) or (isinstance(n, Conv) and n.groups == 1):
                readers.append(j)
            else:
                return None
        if not readers:
            return None
        channels = m.kernel.shape[0] if isinstance(m, Conv) else m.out_size
        fits = all(not isinstance(nodes[j].op.maps[0], Conv) or nodes[j].op.maps[0].in_shape[0] == channels for j in readers)  # type: ignore[union-attr]  # fmt: skip
        return _Layer(nodes, source, at, between, readers, channels) if fits else None

    def entries(self, channel: int) -> slice:
        size = self.nodes[self.at].size // self.channels
        return slice(channel * size, (channel + 1) * size)

    def rows(self) -> Array:
        """Weights and bias of each channel; a bias that varies within a channel keeps it apart from all others."""
        op = self.nodes[self.source].op
        assert isinstance(op, Affine)
        m = op.maps[0]
        weights = m.kernel.reshape(self.channels, -1) if isinstance(m, Conv) else m.matrix()
        return np.c_[weights, op.bias.reshape(self.channels, -1)]

    def _weights(self, j: int) -> tuple[AbstractLinear, Array]:
        """A reader's weights by channel of its input: shape `(out, channels, rest)`."""
        m = self.nodes[j].op.maps[0]  # type: ignore[union-attr]
        if isinstance(m, Conv):
            return m, m.kernel.reshape(m.kernel.shape[0], self.channels, -1)
        return m, m.matrix().reshape(m.out_size, self.channels, -1)

    def _put(self, j: int, weights: Array) -> None:
        node = self.nodes[j]
        m, op = node.op.maps[0], node.op  # type: ignore[union-attr]
        assert isinstance(op, Affine)
        if isinstance(m, Conv):
            count = weights.shape[1]
            new: AbstractLinear = Conv(
                weights.reshape(m.kernel.shape[0], count, *m.kernel.shape[2:]), (count, *m.in_shape[1:]), m.stride, m.padding, m.dilation, 1
            )  # fmt: skip
        else:
            new = dense_or_sparse(weights.reshape(len(weights), -1))
        self.nodes[j] = Node(Affine((new,), op.bias), node.inputs, node.shape, node.name, node.source)

    def read(self) -> np.ndarray:
        """Which channels have a weight that is not 0 in a reader."""
        return np.any([self._weights(j)[1].any(axis=(0, 2)) for j in self.readers], axis=0)

    def move(self, a: int, b: int, factor: float, top: Array, drift: dict[int, Array]) -> None:
        """Channel a is `factor` times channel b: readers take it from b."""
        size = top[self.entries(a)].max()
        for j in self.readers:
            m, weights = self._weights(j)
            weights = weights.copy()
            off = 1.01 * (gamma(6) + _COLLINEAR * m.terms) * (np.abs(weights[:, a]).sum(axis=1) + np.abs(weights[:, b]).sum(axis=1)) * size * max(1.0, 1 / factor)  # fmt: skip
            weights[:, b] += factor * weights[:, a]
            weights[:, a] = 0
            self._put(j, weights)
            spread = np.repeat(off, self.nodes[j].size // len(off))
            drift[j] = drift.get(j, 0.0) + spread

    def drop(self, keep: np.ndarray) -> None:
        node, size = self.nodes[self.source], self.nodes[self.at].size // self.channels
        op, m = node.op, node.op.maps[0]  # type: ignore[union-attr]
        assert isinstance(op, Affine)
        entries = (keep[:, None] * size + np.arange(size)).ravel()
        if isinstance(m, Conv):
            new: AbstractLinear = Conv(m.kernel[keep], m.in_shape, m.stride, m.padding, m.dilation, 1)
        else:
            new = dense_or_sparse(m.matrix()[keep])
        shape = (len(keep), *node.shape[1:]) if isinstance(m, Conv) and len(node.shape) == 3 else (len(entries),)
        self.nodes[self.source] = Node(Affine((new,), op.bias[entries]), node.inputs, shape, node.name, node.source)
        act = self.nodes[self.at]
        self.nodes[self.at] = Node(act.op.take(entries), act.inputs, shape, act.name, act.source)  # type: ignore[union-attr]
        for j in self.between:
            old = self.nodes[j]
            flat = shape if len(old.shape) == len(shape) else (len(entries),)
            bias = np.zeros(len(entries))
            self.nodes[j] = Node(Affine((Identity(len(entries)),), bias), old.inputs, flat, old.name, old.source)
        for j in self.readers:
            self._put(j, self._weights(j)[1][:, keep])
        self.channels = len(keep)


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
            error = errors[node.inputs[0]] * node.op.lipschitz()  # type: ignore[union-attr]
        errors.append(np.asarray(error))
    return float((1 + 1e-9) * errors[-1].max(initial=0.0))
