"""Gates that are multiples of each other but for rounding become one as well; what that can change becomes inputs of the network.

Where z = c w + e with a tiny e over the set, relu(z) is relu(c w) up to |e|. So the values that read such gates are those that read the
joined ones, up to a radius: radius times a further input in [-1, 1]. With these inputs where they should be, the network computes the original exactly.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from relukit._numerics import gamma
from relukit._types import Array, IntArray
from relukit.bounds._bounds import Bounds
from relukit.bounds._interval import affine_interval, interval
from relukit.bounds._mirror import (
    Plan,
    chosen,
    combined,
    map_of,
    planned,
    read_by,
    rebuilt,
    rows_and_readers,
    rows_of,
)
from relukit.network import Affine, Input, Network, Node
from relukit.network.affine import Conv, Gather, Sparse
from relukit.sets import Box

_ALIKE = 2.0**-20  # of its largest entry by which a row may miss a multiple of another: float32 misses by 2^-24 or so
_BESIDE, _LOOK = 1e-6, 4  # distance of two rows along one direction, and how many next ones are looked at
_BLOCK = 256  # pairs of rows compared at once
_SPREAD = 2.0**-16  # share of the range of z that joining may change it by
_TINY = 2.0**-18  # share of what cancels that a gate may be read with and still be replaced by a line


def nearly_joined(network: Network, box: Box) -> Network | None:
    """A network with fewer gates and further inputs, at the end: for every x in the box some of these in [-1, 1] give the same outputs.

    Arguments:
        network: Piecewise linear; gates that are exact multiples are joined already (`without_mirrored`).

    Returns:
        None where no gates are nearly multiples.
    """
    known: list[Bounds] = []
    radii: dict[int, Array] = {}
    # By node: the activation that reads it, what becomes of that, its units.
    parts: dict[int, tuple[int, Plan, int]] = {}

    def find(network: Network, i: int, reader: int) -> Plan | None:
        source, target = network.nodes[network.nodes[i].inputs[0]].op, network.nodes[reader].op
        assert isinstance(source, Affine) and isinstance(target, Affine)
        rows, constants, columns = rows_and_readers(source, target)
        pairs = _pairs(rows, constants)
        if not pairs:
            return None
        if not known:
            known.append(interval(network, box))
        layer = _Layer(network, i, known[0], len(constants))
        first = layer.groups(pairs)
        times, error = layer.factors(first)
        if np.all(first == np.arange(len(first))):
            return None
        plan, radius = layer.plan(target, columns, first, times, error)
        if plan is None or not np.all(np.isfinite(radius)):
            return None
        radii[reader] = radius
        parts[network.nodes[i].inputs[0]] = i, plan, len(constants)
        return plan

    with np.errstate(all="ignore"):  # of what has no bounds nothing is known: its radius is no number
        made, renamed = rebuilt(network, find)
    if not radii:
        return None
    adding: dict[int, tuple[IntArray, Array]] = {}  # by node: the further input of each entry, and its radius
    inputs = network.inputs
    for reader, radius in radii.items():
        number = np.where(radius > 0, inputs - 1 + np.cumsum(radius > 0), 0)
        inputs += int((radius > 0).sum())
        nodes = [(renamed[reader], np.arange(len(radius)))]
        if reader in parts:  # it is read by a joined layer itself
            i, plan, count = parts[reader]
            entries = np.arange(len(radius)).reshape(count, -1)
            nodes = [(renamed[-i], entries[plan[1]].ravel()), (renamed[reader], entries[plan[0]].ravel())]
        adding |= {node: (number[which], radius[which]) for node, which in nodes if len(which)}
    return _with_inputs(made, inputs, adding)


def _with_inputs(network: Network, inputs: int, adding: dict[int, tuple[IntArray, Array]]) -> Network:
    """The network with further inputs, some of whose affine nodes add multiples of these."""
    import scipy.sparse

    first = Affine((Gather(np.arange(network.inputs), inputs),), np.zeros(network.inputs))
    nodes = [Node(Input(inputs), (), (inputs,), "inputs and errors"), Node(first, (0,), network.input_shape, "inputs")]
    for i, node in enumerate(network.nodes[1:], start=1):
        op, read = node.op, tuple(j + 1 for j in node.inputs)
        if i in adding:
            assert isinstance(op, Affine)
            number, radius = adding[i]
            some = np.flatnonzero(radius)
            errors = scipy.sparse.csr_matrix((radius[some], (some, number[some])), shape=(len(radius), inputs))
            op, read = Affine((*op.maps, Sparse(errors)), op.bias), (*read, 0)
        nodes.append(Node(op, read, node.shape, node.name, node.source))
    return Network(tuple(nodes), network.notes, network.head, network.dtype)


def _pairs(matrices: list[Any], bias: Array) -> list[tuple[int, int]]:
    """Rows that are multiples of each other up to rounding: each row's part along one direction tells which can be."""
    direction = np.random.default_rng(0)
    along, size = np.zeros(len(bias)), np.zeros(len(bias))
    matrices = [*matrices, bias[:, None]]
    for W in matrices:
        along += W @ direction.standard_normal(W.shape[1])
        size += _sums(W, W)
    along = np.where(size > 0, np.abs(along) / np.sqrt(size), np.nan)
    order = np.argsort(along)  # rows of zeros last
    found = []
    for step in range(1, _LOOK + 1):
        a, b = order[:-step], order[step:]
        near = along[b] - along[a] <= _BESIDE
        found.append(np.stack([a[near], b[near]], axis=1))
    pairs = np.concatenate(found)
    kept = []
    for first in range(0, len(pairs), _BLOCK):
        a, b = pairs[first : first + _BLOCK].T
        times = sum(_sums(W[a], W[b]) for W in matrices) / size[a]
        miss = np.max([_largest(_minus(W[b], times, W[a])) for W in matrices], axis=0)
        largest = np.max([_largest(W[b]) for W in matrices], axis=0)
        good = miss <= _ALIKE * largest
        kept += zip(a[good].tolist(), b[good].tolist())
    return kept


def _sums(P: Any, Q: Any) -> Array:
    """Row by row the product of two matrices, both dense or both sparse."""
    return np.einsum("ij,ij->i", P, Q) if isinstance(P, np.ndarray) else np.asarray(P.multiply(Q).sum(axis=1))[:, 0]


def _minus(P: Any, factor: Array, Q: Any) -> Any:
    """P - factor Q, a factor for each row."""
    if isinstance(P, np.ndarray):
        return P - factor[:, None] * Q
    import scipy.sparse

    return (P - scipy.sparse.diags(factor) @ Q).tocsr()


def _largest(W: Any) -> Array:
    """The largest absolute entry of each row."""
    if not W.shape[1]:
        return np.zeros(W.shape[0])
    return np.abs(W).max(axis=1) if isinstance(W, np.ndarray) else abs(W).max(axis=1).toarray()[:, 0]


class _Layer:
    """A ReLU node over a box: its units, or the channels of a convolution."""

    def __init__(self, network: Network, i: int, known: Bounds, count: int) -> None:
        before = network.nodes[network.nodes[i].inputs[0]]
        assert isinstance(before.op, Affine)
        self.source = before.op
        self.lower, self.upper = [known.lower[j] for j in before.inputs], [known.upper[j] for j in before.inputs]
        low, high = known.before(i)
        self.low, self.high = low.reshape(count, -1), high.reshape(count, -1)
        self.reach = np.maximum(np.abs(self.low), np.abs(self.high))

    def groups(self, pairs: list[tuple[int, int]]) -> IntArray:
        """For each unit the first one that it is nearly a multiple of; those that are decided everywhere stay alone."""
        first = np.arange(len(self.low))
        open_ = np.any((self.low < 0) & (self.high > 0), axis=1)
        for a, b in pairs:
            if open_[a] and open_[b] and first[a] != first[b]:
                keep, other = sorted((first[a], first[b]))
                first[first == other] = keep
        return first

    def factors(self, first: IntArray) -> tuple[Array, Array]:
        """What each unit is multiplied by, and the largest error of that at every entry. Units that are no near multiples are taken out of `first`."""
        times, error = np.ones(len(first)), np.zeros(self.low.shape)
        members = np.flatnonzero(first != np.arange(len(first)))
        if not len(members):
            return times, error
        mine, theirs = chosen(self.source, members)[0], chosen(self.source, first[members])[0]
        best = np.full((len(members), self.low.shape[1]), np.inf)
        for factor in (_by_rows(mine, theirs), self._by_values(mine, theirs, len(members))):
            low, high = affine_interval(_less(mine, theirs, factor), self.lower, self.upper)
            spread = np.repeat(np.abs(factor), self.low.shape[1])
            found = np.maximum(-low, high) + gamma(4) * (self._size(mine) + spread * self._size(theirs))
            found = found.reshape(best.shape)
            better = found.max(axis=1) < best.max(axis=1)
            best[better], times[members[better]] = found[better], factor[better]
        apart = ~(best.max(axis=1) <= _SPREAD * (self.high - self.low)[members].max(axis=1)) | (times[members] == 0)
        error[members] = best
        alone = members[apart]
        first[alone], times[alone], error[alone] = alone, 1.0, 0.0
        # Weights that are read together are products and sums in floating point, on gates and on z.
        sizes = np.bincount(first, minlength=len(first))[first]
        rounding = 2 * gamma(int(sizes.max()) + 4) * np.abs(times)[:, None] * self.reach[first]
        return times, np.where(sizes[:, None] > 1, error + rounding, 0.0)

    def _by_values(self, mine: Affine, theirs: Affine, count: int) -> Array:
        """Factors that are right at the middle of the box."""
        middle = [0.5 * (l + u) for l, u in zip(self.lower, self.upper)]
        z, w = (
            (sum(m.apply(x) for m, x in zip(op.maps, middle)) + op.bias).reshape(count, -1) for op in (mine, theirs)
        )
        return np.nan_to_num((z * w).sum(axis=1) / (w * w).sum(axis=1), posinf=0.0, neginf=0.0)

    def _size(self, op: Affine) -> Array:
        reach = [np.maximum(np.abs(l), np.abs(u)) for l, u in zip(self.lower, self.upper)]
        return sum(m.absolute().apply(r) for m, r in zip(op.maps, reach)) + np.abs(op.bias)

    def plan(
        self, target: Affine, columns: Any, first: IntArray, times: Array, error: Array
    ) -> tuple[Plan | None, Array]:
        """The layer with one gate for each group, and by how much its reader's values may be others."""
        import scipy.sparse

        of, n = target.maps[0], len(first)
        V, on_gates, on_z, _ = combined(columns, first, times)
        together = scipy.sparse.csr_matrix((np.ones(n), (np.arange(n), first)), shape=(n, n))
        left = abs(on_gates) - _TINY * (abs(V) @ together)
        nearly = np.asarray(left.max(axis=0).todense())[0] <= 0
        nearly &= np.bincount(first, minlength=n) > 1
        # Gates that cancel up to rounding: relu(z) = share z + center, up to a radius.
        share, center, radius = self._lines()
        rest = on_gates @ scipy.sparse.diags(nearly.astype(float))
        on_z = (on_z + rest @ scipy.sparse.diags(share)).tocsc()
        on_gates = (on_gates @ scipy.sparse.diags((~nearly).astype(float))).tocsc()
        line = read_by(of, rest.tocsc())
        size = line.absolute().apply((np.abs(center) + radius + gamma(8) * self.reach).ravel())
        rounding = np.where(size > 0, gamma(line.terms + 4) * (np.abs(target.bias) + size), 0.0)
        off = of.absolute().apply(error.ravel()) + line.absolute().apply((radius + gamma(8) * self.reach).ravel())
        return planned(target, on_gates, on_z, target.bias + line.apply(center.ravel())), 1.01 * (off + rounding)

    def _lines(self) -> tuple[Array, Array, Array]:
        """A slope for each unit, and center and radius of relu(z) - slope z at each entry."""
        above, below = np.maximum(self.high, 0.0), np.maximum(-self.low, 0.0)
        whole = (above + below).sum(axis=1)
        share = np.where(whole > 0, above.sum(axis=1) / np.where(whole > 0, whole, 1.0), 0.0)[:, None]
        ends = np.stack([np.maximum(z, 0.0) - share * z for z in (self.low, self.high)])
        straddles = (self.low < 0) & (self.high > 0)
        least, most = np.where(straddles, np.minimum(ends.min(axis=0), 0.0), ends.min(axis=0)), ends.max(axis=0)
        center = 0.5 * (least + most)
        return share[:, 0], center, np.maximum(most - center, center - least)


def _by_rows(mine: Affine, theirs: Affine) -> Array:
    """Factors by least squares over the rows."""
    pairs = [(rows_of(p), rows_of(q)) for p, q in zip(mine.maps, theirs.maps)]
    with np.errstate(all="ignore"):
        factor = sum(_sums(P, Q) for P, Q in pairs) / sum(_sums(Q, Q) for _, Q in pairs)
    return np.nan_to_num(factor, posinf=0.0, neginf=0.0)


def _less(mine: Affine, theirs: Affine, factor: Array) -> Affine:
    """`mine - factor theirs`, one factor for each unit or channel."""
    maps = []
    for p, q in zip(mine.maps, theirs.maps):
        left = _minus(rows_of(p), factor, rows_of(q))
        maps.append(replace(p, kernel=left.reshape(p.kernel.shape)) if isinstance(p, Conv) else map_of(left))
    return Affine(tuple(maps), mine.bias - np.repeat(factor, len(mine.bias) // len(factor)) * theirs.bias)
