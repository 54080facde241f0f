r"""Gates that are multiples of each other but for rounding become one as well, and what that can change is bounded.

Where z = c w + e with a tiny e over the set, relu(z) is relu(c w) up to |e|. The network with such gates joined computes the values of the
original at the joined layers' readers up to a radius, and from there on differences pass every gate with a slope between the least and the
largest on its bounds: the difference of the outputs is a sum of interval matrices times the radii.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from relukit._numerics import gamma
from relukit._types import Array, IntArray
from relukit.bounds._bounds import Bounds
from relukit.bounds._interval import affine_interval, interval
from relukit.bounds._linear import linear
from relukit.bounds._mirror import Plan, chosen, combined, map_of, planned, read_by, rebuilt, rows_and_readers, rows_of
from relukit.network import Affine, Network
from relukit.network.affine import Conv
from relukit.piecewise import PiecewiseLinear
from relukit.sets import Box

_ALIKE = (
    2.0**-20
)  # of its largest entry, by which a row may miss a multiple of another: weights of float32 miss by 2^-24 or so
_BESIDE, _LOOK, _BLOCK = (
    1e-6,
    4,
    256,
)  # distance of two rows along one direction, how many next ones are looked at, and pairs at once
_SPREAD = 2.0**-16  # share of the range of z that joining may change it by
_TINY = 2.0**-18  # share of what cancels that a gate may be read with and still be replaced by a line


@dataclass(frozen=True, eq=False)
class NearNetwork:
    """A network whose outputs are near those of another over a box.

    Arguments:
        network: The nearly equal one.
        radii: By node: what the other's value there adds, at most, when both read the same.
        box: Where that holds.
    """

    network: Network
    radii: dict[int, Array]
    box: Box

    def slack(self, A: Array, bounds: Bounds | None = None) -> Array:
        """What rows `A y` of the outputs, shape `(m, outputs)`, can differ by, shape `(m,)`.

        Arguments:
            bounds: Of `network` over the box; linear bounds by default, interval bounds are quicker.
        """
        network, bounds = self.network, self._linear if bounds is None else bounds
        slopes = self._slopes(bounds)
        pending, slack = {len(network) - 1: (np.asarray(A, np.float64), np.zeros(np.shape(A)))}, np.zeros(len(A))
        for i in range(len(network) - 1, 0, -1):
            if i not in pending:
                continue
            center, radius = pending.pop(i)
            op, inputs = network.nodes[i].op, network.nodes[i].inputs
            if isinstance(op, Affine):
                if i in self.radii:
                    slack = slack + (np.abs(center) + radius) @ self.radii[i]
                for m, j in zip(op.maps, inputs):
                    middle = m.adjoint(center)
                    # Twice: the product is rounded, and so may be its sum with what is pending.
                    around = m.absolute().adjoint(1.01 * radius + 2 * gamma(m.adjoint_terms + 2) * np.abs(center))
                    before = pending.get(j, (0.0, 0.0))
                    pending[j] = (before[0] + middle, before[1] + 1.01 * around)
            else:
                least, most = slopes[i]
                ends = [s * e for s in (least, most) for e in (center - radius, center + radius)]
                low, high = np.minimum.reduce(ends), np.maximum.reduce(ends)
                middle = 0.5 * (low + high)
                around = 1.01 * np.maximum(high - middle, middle - low) + gamma(8) * (np.abs(low) + np.abs(high))
                before = pending.get(inputs[0], (0.0, 0.0))
                pending[inputs[0]] = (before[0] + middle, before[1] + around)
        return 1.01 * slack

    @cached_property
    def _linear(self) -> Bounds:
        return linear(self.network, self.box)

    def _slopes(self, bounds: Bounds) -> dict[int, tuple[Array, Array]]:
        """Slopes between the values of both networks at every activation: each lies between those of the pieces that either can be on."""
        apart: list[Array] = [np.zeros(self.network.inputs)]
        slopes = {}
        for i, node in enumerate(self.network.nodes[1:], start=1):
            if isinstance(node.op, Affine):
                off = 1.01 * sum(m.absolute().apply(apart[j]) for m, j in zip(node.op.maps, node.inputs))
                apart.append(off + self.radii.get(i, 0.0))
                continue
            assert isinstance(node.op, PiecewiseLinear)
            lower, upper = bounds.before(i)
            off = 1.01 * apart[node.inputs[0]]
            low, high = np.nextafter(lower - off, -np.inf), np.nextafter(upper + off, np.inf)
            pieces = (
                node.op.piece(np.where(np.isnan(low), -np.inf, low)),
                node.op.piece(np.where(np.isnan(high), np.inf, high)),
            )
            of = np.stack([np.broadcast_to(s, lower.shape) for s in node.op.slopes])
            on = np.arange(len(of))[:, None]
            on = (on >= pieces[0]) & (on <= pieces[1])
            slopes[i] = np.where(on, of, np.inf).min(axis=0), np.where(on, of, -np.inf).max(axis=0)
            apart.append(off * np.maximum(np.abs(slopes[i][0]), np.abs(slopes[i][1])))
        return slopes


def nearly_joined(network: Network, box: Box) -> NearNetwork | None:
    """The network with gates joined that are nearly multiples over a box; None where there are none.

    Arguments:
        network: Piecewise linear; equal gates are joined already (`without_mirrored`).
    """
    known: list[Bounds] = []
    radii: dict[int, Array] = {}
    parts: dict[
        int, tuple[int, IntArray, IntArray, int]
    ] = {}  # by node: the activation that reads it, what that keeps of it, units

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
        if plan is not None:
            radii[reader] = radius
            parts[network.nodes[i].inputs[0]] = i, plan[0], plan[1], len(constants)
        return plan

    with np.errstate(all="ignore"):  # of what has no bounds nothing is known: its radius is no number
        made, renamed = rebuilt(network, find)
    placed = {}
    for reader, radius in radii.items():
        if reader not in parts:
            placed[renamed[reader]] = radius
            continue
        i, gates, kept, count = parts[reader]
        for node, which in ((renamed[reader], gates), (renamed[-i], kept)):
            if len(which):
                placed[node] = radius.reshape(count, -1)[which].ravel()
    return NearNetwork(made, placed, box) if radii else None


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
        rounding = gamma(line.terms + 4) * (np.abs(target.bias) + size)
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
