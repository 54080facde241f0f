"""Gates that are multiples of each other become one: `relu(c z) = c relu(z)`, and `relu(-z) = relu(z) - z` needs no gate of its own."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from relukit._types import Array, IntArray
from relukit.network import Affine, Network, Node
from relukit.network.affine import AbstractLinear, Conv, Dense, Sparse
from relukit.piecewise import PiecewiseLinear


def without_mirrored(network: Network) -> Network:
    """An equal network, in exact arithmetic, whose ReLU layers hold each row, its multiples and their negatives once.

    Maxima and absolute values are often written with both `relu(z)` and `relu(-z)`; relaxed one by one they forget that
    their difference is z. Here the layer's reader gets the gate and z itself. Only rows that are multiples without any rounding are
    joined, and only where the joined weights have none either; anything else stays as it is. Of a convolution that a convolution
    reads, whole channels are joined.

    Arguments:
        network: Any; only ReLU nodes between two affine nodes that nobody else reads are looked at.
    """
    return rebuilt(network, _joined)[0]


# Units that stay gates, units whose z is read, and the reader as a map of both; its bias.
Plan = tuple[IntArray, IntArray, AbstractLinear, AbstractLinear, Array]


def rebuilt(network: Network, find: Callable[[Network, int, int], Plan | None]) -> tuple[Network, dict[int, int]]:
    """The network with each ReLU layer as `find` plans it, and where its nodes have gone.

    Arguments:
        find: Called with the network, a ReLU node and the affine node that reads it; None where that layer stays as it is.
    """
    nodes, renamed, changed = [network.nodes[0]], {0: 0}, False
    plans: dict[int, tuple[int, Any, Any, Array]] = {}  # reader -> (its activation, weights on gates, weights on z, bias)
    for i, node in enumerate(network.nodes[1:], start=1):
        if i in plans:
            source, on_gates, on_z, bias = plans[i]
            parts = [(on_gates, renamed[source]), (on_z, renamed[-source])]
            parts = [(m, j) for m, j in parts if m.in_size]
            nodes.append(Node(Affine(tuple(m for m, _ in parts), bias), tuple(j for _, j in parts), node.shape, node.name, node.source))  # fmt: skip
            renamed[i] = len(nodes) - 1
            continue
        reader = _reader(network, i)
        found = find(network, i, reader) if reader is not None else None
        if found is None:
            nodes.append(Node(node.op, tuple(renamed[j] for j in node.inputs), node.shape, node.name, node.source))
            renamed[i] = len(nodes) - 1
            continue
        changed = True
        gates, kept, on_gates, on_z, bias = found
        before = nodes[renamed[node.inputs[0]]]  # as it has become: it may read joined gates itself
        assert isinstance(before.op, Affine)
        # The affine node before has been copied with all its rows: it is written once more with the rows that are needed.
        at, values = renamed[node.inputs[0]], f"{before.name} values"
        if len(gates):
            nodes[at] = _part(before, gates, before.name)
            nodes.append(Node(node.op, (at,), nodes[at].shape, node.name, node.source))
            renamed[i] = len(nodes) - 1
            if len(kept):
                nodes.append(_part(before, kept, values))
            renamed[-i] = len(nodes) - 1
        else:  # every gate cancels
            nodes[at] = _part(before, kept, values)
            renamed[i] = renamed[-i] = at
        assert reader is not None
        plans[reader] = (i, on_gates, on_z, bias)
    if not changed:
        return network, {i: i for i in range(len(network))}
    made = Network(
        tuple(nodes), network.notes, network.head, network.dtype, network.box, network.extras, network.origin
    )
    return made, renamed


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


def rows_of(m: AbstractLinear) -> Any:
    """What each unit computes, of a convolution each channel: a matrix, sparse where it is stored so."""
    if isinstance(m, Conv):
        return m.kernel.reshape(len(m.kernel), -1)
    return m.W if isinstance(m, Dense | Sparse) else m.matrix()


def map_of(W: Any) -> AbstractLinear:
    return Dense(W) if isinstance(W, np.ndarray) else Sparse(W.tocsr())


def _part(node: Node, which: IntArray, name: str) -> Node:
    """An affine node with some of its rows."""
    assert isinstance(node.op, Affine)
    rows, shape = chosen(node.op, which)
    return Node(rows, node.inputs, shape, name, node.source)


def chosen(op: Affine, which: IntArray) -> tuple[Affine, tuple[int, ...]]:
    """Some rows of an affine map, or some channels of a convolution, and the shape of what they give."""
    conv = op.maps[0]
    if not isinstance(conv, Conv):
        return Affine(tuple(map_of(rows_of(m)[which]) for m in op.maps), op.bias[which]), (len(which),)
    bias = op.bias.reshape(conv.out_shape[0], -1)[which].ravel()
    return Affine((replace(conv, kernel=conv.kernel[which]),), bias), (len(which), *conv.out_shape[1:])


def rows_and_readers(source: Affine, target: Affine) -> tuple[list[Any], Array, Any]:
    """What each unit (of a convolution each channel) computes: rows and constants; and the weights it is read with, a column each."""
    conv, reader = source.maps[0], target.maps[0]
    if not (isinstance(conv, Conv) and isinstance(reader, Conv)):
        return [rows_of(m) for m in source.maps], source.bias, rows_of(reader)
    count = len(conv.kernel)
    V = reader.kernel.transpose(0, 2, 3, 1).reshape(-1, count)
    return [rows_of(conv)], source.bias.reshape(count, -1)[:, 0], V


def read_by(reader: AbstractLinear, V: Any) -> AbstractLinear:
    """The reader with other columns: as a matrix, or as a convolution of as many channels."""
    if not isinstance(reader, Conv):
        return Dense(V.toarray()) if isinstance(reader, Dense) else Sparse(V.tocsr())
    O, _, height, width = reader.kernel.shape
    kernel = V.toarray().reshape(O, height, width, V.shape[1]).transpose(0, 3, 1, 2)
    return replace(reader, kernel=kernel, in_shape=(V.shape[1], *reader.in_shape[1:]))


def _joined(network: Network, i: int, reader: int) -> Plan | None:
    """Units that stay gates, units whose z is read, and the reader's maps of both; None where nothing can be joined without rounding."""
    source, target = network.nodes[network.nodes[i].inputs[0]].op, network.nodes[reader].op
    assert isinstance(source, Affine) and isinstance(target, Affine)
    rows, constants, columns = rows_and_readers(source, target)
    first, times = _groups(rows, constants)
    if np.all(first == np.arange(len(first))):
        return None
    V, on_gates, on_z, exact = combined(columns, first, times)
    mirrored = np.flatnonzero(times < 0)
    if not (exact and _exact(V, first) and _exact(V[:, mirrored], first[mirrored])):
        return None
    return planned(target, on_gates, on_z)


def combined(columns: Any, first: IntArray, times: Array) -> tuple[Any, Any, Any, bool]:
    """The columns times what their units are multiplied by; their sums on gates and on z; whether no product was rounded."""
    import scipy.sparse

    units, mirrored = np.arange(len(first)), np.flatnonzero(times < 0)
    V, exact = _scaled(scipy.sparse.csc_matrix(columns), np.abs(times))
    on_gates = V @ scipy.sparse.csr_matrix((np.ones(len(first)), (units, first)), shape=(len(first),) * 2)
    on_z = V[:, mirrored] @ scipy.sparse.csr_matrix(
        (-np.ones(len(mirrored)), (np.arange(len(mirrored)), first[mirrored])), shape=(len(mirrored), len(first))
    )
    return V, on_gates.tocsc(), on_z.tocsc(), exact


def planned(target: Affine, on_gates: Any, on_z: Any, bias: Array | None = None) -> Plan | None:
    """The plan of a layer from the weights that its reader has on every gate and every z; None where it is the layer as it was."""
    on_gates.eliminate_zeros()
    on_z.eliminate_zeros()
    gates = np.flatnonzero(np.diff(on_gates.indptr))
    kept = np.flatnonzero(np.diff(on_z.indptr))
    if not len(kept) and len(gates) in (0, on_gates.shape[1]):
        return None
    of, bias = target.maps[0], target.bias if bias is None else bias
    return gates, kept, read_by(of, on_gates[:, gates]), read_by(of, on_z[:, kept]), bias


def _groups(matrices: list[Any], bias: Array) -> tuple[IntArray, Array]:
    """For each row the first row that it is a multiple of, and the number that this one is multiplied by."""
    first, times = np.arange(len(bias)), np.ones(len(bias))
    alike: dict[bytes, list[tuple[int, Array, float]]] = {}
    sparse = [not isinstance(W, np.ndarray) for W in matrices]
    for r in _alike(matrices, bias):
        parts: list[bytes] = []
        values: list[Array] = []
        for W, thin in zip(matrices, sparse):
            if thin:
                span = slice(W.indptr[r], W.indptr[r + 1])
                values.append(W.data[span])
                parts.append(W.indices[span].tobytes())
            else:
                values.append(W[r])
        row = np.append(np.concatenate(values), bias[r])
        filled = row[:-1][row[:-1] != 0]
        if not len(filled):
            continue  # a constant
        # Quotients of multiples are the same numbers, so that they round alike; + 0.0: the negative of 0 is another string of bytes than 0.
        with np.errstate(all="ignore"):
            key = b"|".join([*parts, (row / filled[0] + 0.0).tobytes()])
        alike.setdefault(key, []).append((r, row, filled[0]))
    for rows in alike.values():
        at, held, lead = min(rows, key=lambda found: abs(found[2]))  # of whole multiples of a row this is it
        for r, row, entry in rows:
            with np.errstate(all="ignore"):
                factor = entry / lead
                equal = np.array_equal(held * factor, row)
            if equal and np.all((np.abs(factor) == 1) | (_lost(held, np.full(len(row), factor)) == 0)):
                first[r], times[r] = at, factor
    return first, times


def _alike(matrices: list[Any], bias: Array) -> list[int]:
    """Rows whose bias and largest weights are to each other as another row's: only those can be multiples."""
    largest = [np.abs(bias)]
    for W in matrices:
        if not W.shape[1]:
            continue
        ends = (W.max(axis=1), W.min(axis=1))
        high, low = ends if isinstance(W, np.ndarray) else (e.toarray()[:, 0] for e in ends)
        largest.append(np.maximum(np.abs(high), np.abs(low)))
    size = np.stack(largest, axis=1)
    with np.errstate(all="ignore"):
        size = size / size[:, 1:].max(axis=1, keepdims=True)
    _, which, count = np.unique(np.nan_to_num(size), axis=0, return_inverse=True, return_counts=True)
    return np.flatnonzero(count[which.ravel()] > 1).tolist()


def _scaled(V: Any, times: Array) -> tuple[Any, bool]:
    """Columns times a number each, and whether no product is rounded."""
    if np.all(times == 1):
        return V, True
    import scipy.sparse

    factors = np.repeat(times, np.diff(V.indptr))
    found = scipy.sparse.csc_matrix((V.data * factors, V.indices, V.indptr), shape=V.shape)
    return found, bool(np.all(_lost(V.data, factors) == 0))


def _lost(a: Array, b: Array) -> Array:
    """What rounding takes from the products a b: exactly that, or no number where it cannot be told.

    References:
        A floating-point technique for extending the available precision, Dekker, 1971.
    """
    with np.errstate(all="ignore"):
        p = a * b
        high = []
        for v in (a, b):
            t = 134217729.0 * v  # 2^27 + 1
            high.append(t - (t - v))
        lost = ((high[0] * high[1] - p) + high[0] * (b - high[1]) + (a - high[0]) * high[1]) + (a - high[0]) * (b - high[1])
        told = (p == 0) & ((a == 0) | (b == 0)) | (np.abs(p) > 1e-250) & (np.abs(p) < 1e250)
    return np.where(told, np.where(p == 0, 0.0, lost), np.nan)


def _exact(V: Any, first: IntArray) -> bool:
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
