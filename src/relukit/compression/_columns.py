"""Columns of matrices that read constants: places of a channel that are off on the whole domain, inputs that do not move."""

from dataclasses import replace

import numpy as np

from relukit._numerics import gamma
from relukit._types import Array
from relukit.compression._cut import Draft
from relukit.network import Affine, Network, Node
from relukit.network.affine import AbstractLinear, Dense, Gather, Sparse, dense_or_sparse
from relukit.piecewise import AbstractActivation

# Which entries of a node are constant, their values (0 elsewhere), and how far these may be off.
Known = tuple[np.ndarray, Array, Array]


def fold_constants(draft: Draft) -> bool:
    """Matrices no longer read entries that are constant: their share goes into the biases. Whether there were any."""
    known, changed = _constants(draft), False
    for j in range(1, len(draft.nodes)):
        op, inputs = draft.nodes[j].op, draft.nodes[j].inputs
        for p, i in enumerate(inputs) if isinstance(op, Affine) else ():
            m, (fixed, value, off) = draft.map((j, p)), known[i]
            if not (isinstance(m, Dense | Sparse) and fixed.any() and not fixed.all()):
                continue
            W = m.matrix()
            if not W[:, fixed].any():
                continue
            share, size = W @ value, np.abs(W) @ np.abs(value)
            if share.any() or off.any():
                now = draft.nodes[j].op  # earlier maps of this node may have changed its bias
                assert isinstance(now, Affine)
                draft.off_by(j, np.abs(W) @ off + gamma(m.in_size + 4) * (size + np.abs(now.bias)))
                draft.add_bias(j, share)
            draft.put((j, p), dense_or_sparse(np.where(fixed, 0.0, W)))
            changed = True
    return changed


def trimmed(network: Network) -> Network:
    """The network with a selection in front of each matrix that has columns of zeros, where that stores fewer numbers."""
    nodes: list[Node] = []
    number: list[int] = []  # where each node is now
    made: dict[tuple[int, bytes], int] = {}
    for node in network.nodes:
        op, inputs = node.op, [number[i] for i in node.inputs]
        if isinstance(op, Affine):
            maps = list(op.maps)
            for p, m in enumerate(op.maps):
                if not isinstance(m, Dense):
                    continue
                read = m.W.any(axis=0)
                live = np.flatnonzero(read)
                if not len(live) or (m.in_size - len(live)) * m.out_size <= len(live):
                    continue
                key = (inputs[p], read.tobytes())
                if key not in made:
                    select = Affine((Gather(live, m.in_size),), np.zeros(len(live)))
                    nodes.append(Node(select, (inputs[p],), (len(live),), f"{node.name}.read{p or ''}"))
                    made[key] = len(nodes) - 1
                maps[p], inputs[p] = Dense(m.W[:, live]), made[key]
            op = Affine(tuple(maps), op.bias)
        nodes.append(Node(op, tuple(inputs), node.shape, node.name, node.source))
        number.append(len(nodes) - 1)
    return replace(network, nodes=tuple(nodes)) if made else network


def _constants(draft: Draft) -> list[Known]:
    """What of each node is constant over the domain, as bounds show it."""
    bounds, network = draft.bounds, draft.network
    assert bounds is not None
    found: list[Known] = []
    for j, node in enumerate(draft.nodes):
        kept, op = draft.kept[j], node.op
        zero = np.zeros(node.size)
        if isinstance(op, Affine):
            some = any(found[i][0].any() for i in node.inputs)
            if not some:
                found.append((np.zeros(node.size, bool), zero, zero))
                continue
            moves = sum((m.absolute().apply((~found[i][0]).astype(float)) for m, i in zip(op.maps, node.inputs)), zero)
            fixed = moves == 0
            value, size, off = op(*(found[i][1] for i in node.inputs)), np.abs(op.bias), zero
            for m, i in zip(op.maps, node.inputs):
                absolute: AbstractLinear = m.absolute()
                size, off = size + absolute.apply(np.abs(found[i][1])), off + absolute.apply(found[i][2])
            off = 1.01 * (off + gamma(op.terms + len(op.maps) + 2) * size)
            off = np.where(size == 0, 0.0, off)  # sums of zeros are exact
        elif isinstance(op, AbstractActivation):
            before, known, rest = found[node.inputs[0]]
            flat = bounds.off(j)[kept]
            low = bounds.lower[network.nodes[j].inputs[0]][kept]
            fixed = before | flat
            value = np.asarray(op(np.where(flat, low, known)))
            off = np.where(flat, 0.0, rest * op.lipschitz() + gamma(4) * np.abs(value))
            off = np.where(value == 0, np.where(flat, 0.0, rest * op.lipschitz()), off)
        else:
            low, high = bounds.lower[j][kept], bounds.upper[j][kept]
            fixed, value, off = low == high, low, zero
        found.append((fixed, np.where(fixed, value, 0.0), np.where(fixed, off, 0.0)))
    return found
