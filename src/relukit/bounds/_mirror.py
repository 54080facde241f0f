"""Gates that are equal or opposite become one: `relu(-z) = relu(z) - z` needs no gate of its own."""

from dataclasses import replace
from typing import Any

import numpy as np

from relukit._types import Array, IntArray
from relukit.network import Affine, Network, Node
from relukit.network.affine import AbstractLinear, Conv, Dense, Sparse
from relukit.piecewise import PiecewiseLinear


def without_mirrored(network: Network) -> Network:
    """An equal network, in exact arithmetic, whose ReLU layers hold each row and its negative once.

    Maxima and absolute values are often written with both `relu(z)` and `relu(-z)`; relaxed one by one they forget that
    their difference is z. Here the layer's reader gets the gate and z itself. Only rows that agree bit for bit are joined,
    and only where the joined weights are sums without rounding; anything else stays as it is. Of a convolution that a convolution
    reads, whole channels are joined.

    Arguments:
        network: Any; only ReLU nodes between two affine nodes that nobody else reads are looked at.
    """
    nodes, renamed, changed = [network.nodes[0]], {0: 0}, False
    plans: dict[int, tuple[int, Any, Any]] = {}  # reader -> (its activation, weights on gates, weights on z)
    for i, node in enumerate(network.nodes[1:], start=1):
        if i in plans:
            source, on_gates, on_z = plans[i]
            assert isinstance(node.op, Affine)
            parts = [(on_gates, renamed[source]), (on_z, renamed[-source])]
            parts = [(m, j) for m, j in parts if m.in_size]
            nodes.append(Node(Affine(tuple(m for m, _ in parts), node.op.bias), tuple(j for _, j in parts), node.shape, node.name, node.source))  # fmt: skip
            renamed[i] = len(nodes) - 1
            continue
        reader = _reader(network, i)
        found = _joined(network, i, reader) if reader is not None else None
        if found is None:
            nodes.append(Node(node.op, tuple(renamed[j] for j in node.inputs), node.shape, node.name, node.source))
            renamed[i] = len(nodes) - 1
            continue
        changed = True
        gates, kept, on_gates, on_z = found
        before = nodes[renamed[node.inputs[0]]]  # as it has become: it may read joined gates itself
        assert isinstance(before.op, Affine)
        # The affine node before has been copied with all its rows: it is written once more with the rows that are needed.
        inputs = before.inputs
        for which, key, label in ((gates, i, "gates"), (kept, -i, "values")):
            rows, shape = _chosen(before.op, which)
            if key > 0:
                nodes[renamed[node.inputs[0]]] = Node(rows, inputs, shape, before.name, before.source)
                nodes.append(Node(node.op, (renamed[node.inputs[0]],), shape, node.name, node.source))
            else:
                nodes.append(Node(rows, inputs, shape, f"{before.name} {label}", before.source))
            renamed[key] = len(nodes) - 1
        assert reader is not None
        plans[reader] = (i, on_gates, on_z)
    if not changed:
        return network
    return Network(
        tuple(nodes), network.notes, network.head, network.dtype, network.box, network.extras, network.origin
    )


def _reader(network: Network, i: int) -> int | None:
    """The one affine node that reads a ReLU node with an affine node of its own before it."""
    node = network.nodes[i]
    if not (isinstance(node.op, PiecewiseLinear) and node.op.is_relu):
        return None
    before, after = node.inputs[0], network.consumers[i]
    source = network.nodes[before].op
    if not isinstance(source, Affine) or network.consumers[before] != (i,) or len(after) != 1:
        return None
    target = network.nodes[after[0]]
    if not (isinstance(target.op, Affine) and target.inputs == (i,)):
        return None
    maps = (*source.maps, *target.op.maps)
    if all(isinstance(m, Dense | Sparse) for m in maps):
        return after[0]
    if len(maps) != 2 or not all(isinstance(m, Conv) and m.groups == 1 for m in maps):
        return None
    by_channel = source.bias.reshape(maps[0].out_shape[0], -1)
    fits = maps[0].out_shape == maps[1].in_shape and np.all(by_channel == by_channel[:, :1])
    return after[0] if fits else None


def _matrix(m: AbstractLinear) -> Any:
    """The matrix, sparse where it is stored so."""
    return m.W if isinstance(m, Dense | Sparse) else m.matrix()


def _map(W: Any) -> AbstractLinear:
    return Dense(W) if isinstance(W, np.ndarray) else Sparse(W.tocsr())


def _chosen(op: Affine, which: IntArray) -> tuple[Affine, tuple[int, ...]]:
    """Some rows of an affine map, or some channels of a convolution, and the shape of what they give."""
    conv = op.maps[0]
    if not isinstance(conv, Conv):
        return Affine(tuple(_map(_matrix(m)[which]) for m in op.maps), op.bias[which]), (len(which),)
    bias = op.bias.reshape(conv.out_shape[0], -1)[which].ravel()
    return Affine((replace(conv, kernel=conv.kernel[which]),), bias), (len(which), *conv.out_shape[1:])


def _rows_and_readers(source: Affine, target: Affine) -> tuple[list[Any], Array, Any]:
    """What each unit (of a convolution each channel) computes: rows and constants; and the weights it is read with, a column each."""
    conv, reader = source.maps[0], target.maps[0]
    if not (isinstance(conv, Conv) and isinstance(reader, Conv)):
        return [_matrix(m) for m in source.maps], source.bias, _matrix(reader)
    count = len(conv.kernel)
    V = reader.kernel.transpose(0, 2, 3, 1).reshape(-1, count)
    return [conv.kernel.reshape(count, -1)], source.bias.reshape(count, -1)[:, 0], V


def _read_by(reader: AbstractLinear, V: Any) -> AbstractLinear:
    """The reader with other columns: as a matrix, or as a convolution of as many channels."""
    if not isinstance(reader, Conv):
        return Dense(V.toarray()) if isinstance(reader, Dense) else Sparse(V.tocsr())
    O, _, height, width = reader.kernel.shape
    kernel = V.toarray().reshape(O, height, width, V.shape[1]).transpose(0, 3, 1, 2)
    return replace(reader, kernel=kernel, in_shape=(V.shape[1], *reader.in_shape[1:]))


def _joined(network: Network, i: int, reader: int) -> tuple[IntArray, IntArray, Any, Any] | None:
    """Units that stay gates, units whose z is read, and the reader's maps of both; None where nothing can be joined."""
    source, target = network.nodes[network.nodes[i].inputs[0]].op, network.nodes[reader].op
    assert isinstance(source, Affine) and isinstance(target, Affine)
    rows, constants, columns = _rows_and_readers(source, target)
    first, sign = _groups(rows, constants)
    if np.all(first == np.arange(len(first))):
        return None
    import scipy.sparse

    V = scipy.sparse.csc_matrix(columns)
    units = np.arange(len(first))
    on_gates = V @ scipy.sparse.csr_matrix((np.ones(len(first)), (units, first)), shape=(len(first),) * 2)
    mirrored = units[sign < 0]
    on_z = V[:, mirrored] @ scipy.sparse.csr_matrix(
        (-np.ones(len(mirrored)), (np.arange(len(mirrored)), first[mirrored])), shape=(len(mirrored), len(first))
    )
    on_gates, on_z = on_gates.tocsc(), on_z.tocsc()
    if not (_exact(V, on_gates, first, np.ones(len(first))) and _exact(V[:, mirrored], on_z, first[mirrored], -np.ones(len(mirrored)))):  # fmt: skip
        return None
    on_gates.eliminate_zeros()
    on_z.eliminate_zeros()
    gates = np.flatnonzero(np.diff(on_gates.indptr))
    kept = np.flatnonzero(np.diff(on_z.indptr))
    if not len(gates) and len(kept):  # every gate cancels: one is kept, with the weight 0, so that no layer is empty
        gates = np.zeros(1, np.int64)
    if not len(gates) or (not len(kept) and len(gates) == len(first)):
        return None
    reader_of = target.maps[0]
    return gates, kept, _read_by(reader_of, on_gates[:, gates]), _read_by(reader_of, on_z[:, kept])


def _groups(matrices: list[Any], bias: Array) -> tuple[IntArray, Array]:
    """For each row the first row that it equals or is the negative of, and which of the two (1 or -1)."""
    first, sign = np.arange(len(bias)), np.ones(len(bias))
    seen: dict[bytes, int] = {}
    sparse = [not isinstance(W, np.ndarray) for W in matrices]
    for r in _alike(matrices, bias):
        parts: list[bytes] = []
        lead = 0.0
        values: list[Array] = []
        for W, thin in zip(matrices, sparse):
            if thin:
                span = slice(W.indptr[r], W.indptr[r + 1])
                row = W.data[span]
                parts.append(W.indices[span].tobytes())
            else:
                row = W[r]
            values.append(row)
            if lead == 0.0 and len(row):
                filled = row[row != 0]
                lead = filled[0] if len(filled) else 0.0
        if lead == 0.0:
            continue  # a constant
        turn = 1.0 if lead > 0 else -1.0
        # + 0.0: the negative of 0 is another string of bytes than 0
        key = b"|".join(
            [*parts, *((turn * v + 0.0).tobytes() for v in values), np.float64(turn * bias[r] + 0.0).tobytes()]
        )
        at = seen.setdefault(key, r if turn > 0 else ~r)
        first[r] = at if at >= 0 else ~at
        sign[r] = turn if at >= 0 else -turn
    return first, sign


def _alike(matrices: list[Any], bias: Array) -> list[int]:
    """Rows whose bias and largest weights have the magnitudes of another row's: only those can be equal or opposite."""
    largest = [np.abs(bias)]
    for W in matrices:
        if not W.shape[1]:
            continue
        ends = (W.max(axis=1), W.min(axis=1))
        high, low = ends if isinstance(W, np.ndarray) else (e.toarray()[:, 0] for e in ends)
        largest.append(np.maximum(np.abs(high), np.abs(low)))
    _, which, count = np.unique(np.stack(largest, axis=1), axis=0, return_inverse=True, return_counts=True)
    return np.flatnonzero(count[which.ravel()] > 1).tolist()


def _exact(V: Any, joined: Any, first: IntArray, factor: Array) -> bool:
    """Whether sums of columns have no rounding: they are added once more in integers of a common scale."""
    V = V.tocsc()
    if not V.nnz:
        return True
    mantissa, exponent = np.frexp(np.abs(V.data))
    filled = V.data != 0
    if not filled.any():
        return True
    # Every entry is a multiple of 2^low; sums of at most `most` of them below 2^53 times that are exact.
    trailing = (mantissa * 2.0**53).astype(np.int64)
    zeros = np.zeros(len(trailing), np.int64)
    lowest = trailing & -trailing
    zeros[filled] = np.log2(lowest[filled].astype(np.float64)).astype(np.int64)
    low = int((exponent - 53 + zeros)[filled].min())
    largest = float(np.abs(V.data).max()) * max(int(np.bincount(first).max()), 1)
    return largest < 2.0 ** min(low + 53, 1023)
