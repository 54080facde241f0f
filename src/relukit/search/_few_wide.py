"""Networks with few inputs and thousands of sparse gates: planes carried forward, for many boxes at once.

Every value is kept between two planes over its box, in coordinates t of [-1, 1]: one sparse product per layer and plane. That is
looser than substituting backward and hundreds of times cheaper; boxes are halved until few gates are open that the rows
still depend on, and the compact form takes over.

Rounding: `error` bounds what the arithmetic put between a plane and the value that it bounds, `gamma` times the sums of magnitudes of
each row, carried on through |W|.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from relukit._numerics import gamma, unit_roundoff
from relukit._types import Array, BoolArray, IntArray
from relukit.bounds import Bounds, CompactNetwork, compact, linear
from relukit.bounds._bounds import undecided
from relukit.bounds._interval import activation_interval, lines
from relukit.network import Affine, Network
from relukit.network.affine import Conv, Gather, Identity, Scale, Sparse
from relukit.piecewise import PiecewiseLinear
from relukit.sets import Box

_BATCH = 32  # boxes bounded at once
_NUMBERS = 6_000_000  # in one layer's planes of a batch: of larger networks fewer boxes are bounded at once
_ENTRIES = 2_000_000  # of a matrix of convolution or selection, beyond which it is not written out
_HARDLY = 2.0**-40  # gates that open by less than this share of their layer count as closed (see `bounds.compact`)


@dataclass(frozen=True, eq=False)
class _Map:
    """A matrix and its parts: positive, negative, of absolute values; and the transpose of which entries are filled."""

    plus: Any
    minus: Any
    size: Any
    filled: Any


def _parts(m: Any) -> _Map:
    """The parts of a map, made once."""
    cache = m.__dict__.setdefault("_parts", {})
    if "map" not in cache:
        cache["map"] = _split(m)
    return cache["map"]


class _Product:
    """A convolution that multiplies columns from the left, as its matrix would."""

    def __init__(self, conv: Conv, transposed: bool = False) -> None:
        self.conv, self.transposed = conv, transposed

    def __matmul__(self, columns: Array) -> Array:
        rows = np.ascontiguousarray(columns.T)
        return (self.conv.adjoint(rows) if self.transposed else self.conv.apply(rows)).T


def _split(m: Any) -> _Map:
    if isinstance(m, Conv) and m.in_size * m.out_size > _ENTRIES:
        kernels = np.maximum(m.kernel, 0), np.minimum(m.kernel, 0), np.abs(m.kernel), (m.kernel != 0).astype(float)
        plus, minus, size, filled = (replace(m, kernel=k) for k in kernels)
        return _Map(_Product(plus), _Product(minus), _Product(size), _Product(filled, transposed=True))
    if isinstance(m, Sparse):
        W = m.W.tocsr()
        plus, minus = W.copy(), W.copy()
        plus.data, minus.data = np.maximum(W.data, 0), np.minimum(W.data, 0)
        filled = (W != 0).astype(np.float64).T.tocsr()
        plus.eliminate_zeros()
        minus.eliminate_zeros()
        return _Map(plus, minus, abs(W), filled)
    if m.in_size * m.out_size > _ENTRIES and isinstance(m, Gather | Identity | Scale):
        import scipy.sparse

        if isinstance(m, Gather):
            rows = np.flatnonzero(m.index >= 0)
            columns, values = m.index[rows], np.ones(len(rows))
        else:
            rows = columns = np.arange(m.in_size)
            values = m.diagonal if isinstance(m, Scale) else np.ones(m.in_size)
        return _split(Sparse(scipy.sparse.csr_matrix((values, (rows, columns)), shape=(m.out_size, m.in_size))))
    W = m.matrix()
    if W.size > 10_000 and np.count_nonzero(W) < 0.3 * W.size:  # convolutions
        import scipy.sparse

        return _split(Sparse(scipy.sparse.csr_matrix(W)))
    return _Map(np.maximum(W, 0), np.minimum(W, 0), np.abs(W), (W != 0).astype(np.float64).T)


class Forward:
    """Forward planes of one network over batches of boxes."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.maps = [[_parts(m) for m in node.op.maps] if isinstance(node.op, Affine) else [] for node in network.nodes]

    def bounds(self, lower: Array, upper: Array, shared: dict[str, Any] | None = None) -> list[tuple[Array, Array]]:
        """Lower and upper bounds of every node, each `(size, boxes)`, over boxes with ends `(boxes, n)`.

        Arguments:
            shared: Keeps what was found up to the last node, for a network that differs in it alone over the same boxes.
        """
        B, n = lower.shape
        known = (shared or {}).get("forward")
        if known is not None and self._same(known, lower, upper):
            planes, found = [*known["planes"]], [*known["found"]]
            last = self.network.nodes[-1]
            final = self._affine(last.op, self.maps[-1], [planes[j] for j in last.inputs], B, n)
            return [*found, _range(*final)]
        middle = 0.5 * lower + 0.5 * upper
        radius = np.nextafter(np.maximum(upper - middle, middle - lower), np.inf)
        start = np.zeros((n, B, n + 1))
        start[np.arange(n), :, np.arange(n)] = radius.T
        start[:, :, n] = middle.T
        planes: list[Any] = [(start, start, np.zeros((n, B)))]
        found: list[tuple[Array, Array]] = [(lower.T, upper.T)]
        readers = [max(c, default=len(self.network)) for c in self.network.consumers]
        for i, node in enumerate(self.network.nodes[1:], start=1):
            if isinstance(node.op, Affine):
                planes.append(self._affine(node.op, self.maps[i], [planes[j] for j in node.inputs], B, n))
                found.append(_range(*planes[i]))
            else:
                source = node.inputs[0]
                planes.append(_bent(node.op, *planes[source], *found[source]))
                low, high = found[source]
                if _is_relu(node.op):
                    found.append((np.maximum(low, 0), np.maximum(high, 0)))
                else:
                    low, high = activation_interval(node.op, low.T, high.T)
                    found.append((low.T, high.T))
            for j in node.inputs:
                if readers[j] == i and i < len(self.network) - 1:
                    planes[j] = None
        if shared is not None:
            shared["forward"] = {
                "nodes": self.network.nodes,
                "ends": (lower, upper),
                "planes": planes[:-1],
                "found": found[:-1],
            }
        return found

    def _same(self, known: dict[str, Any], lower: Array, upper: Array) -> bool:
        """Whether the nodes up to the last and the boxes are those of what is known."""
        nodes, mine = known["nodes"], self.network.nodes
        return (
            len(nodes) == len(mine)
            and all(a is b for a, b in zip(nodes[:-1], mine[:-1]))
            and nodes[-1].inputs == mine[-1].inputs
            and isinstance(mine[-1].op, Affine)
            and all(np.array_equal(a, b) for a, b in zip(known["ends"], (lower, upper)))
        )

    @staticmethod
    def _affine(op: Affine, maps: list[_Map], inputs: list[Any], B: int, n: int) -> tuple[Array, Array, Array]:
        size = op.size
        low, up = np.zeros((size, B * (n + 1))), np.zeros((size, B * (n + 1)))
        error, mass = np.zeros((size, B)), np.abs(op.bias)[:, None] + np.zeros((1, B))
        for m, (a, b, e) in zip(maps, inputs):
            flat_a, flat_b = a.reshape(len(a), -1), b.reshape(len(b), -1)
            low += m.plus @ flat_a + m.minus @ flat_b
            up += m.plus @ flat_b + m.minus @ flat_a
            error += m.size @ e
            mass += m.size @ np.maximum(np.abs(a).sum(axis=2), np.abs(b).sum(axis=2))
        low, up = low.reshape(size, B, n + 1), up.reshape(size, B, n + 1)
        low[:, :, n] += op.bias[:, None]
        up[:, :, n] += op.bias[:, None]
        return low, up, 1.001 * (error + gamma(op.terms + len(maps) + 4) * mass)

    def needed(self, found: list[tuple[Array, Array]]) -> list[BoolArray]:
        """Which units `(size, boxes)` of every node the outputs depend on: gates that are off end it."""
        B = found[0][0].shape[1]
        need: list[Array] = [np.zeros((node.size, B)) for node in self.network.nodes]
        need[-1][:] = 1
        for i in range(len(self.network) - 1, 0, -1):
            node = self.network.nodes[i]
            if isinstance(node.op, Affine):
                for m, j in zip(self.maps[i], node.inputs):
                    need[j] += m.filled @ need[i] > 0
            else:
                source, op = node.inputs[0], node.op
                alive = found[source][1] > 0 if _is_relu(op) else True
                need[source] += (need[i] > 0) & alive
        return [v > 0 for v in need]

    def open(self, found: list[tuple[Array, Array]], need: list[BoolArray]) -> IntArray:
        """How many gates of each box are open and needed."""
        count = np.zeros(found[0][0].shape[1], int)
        for i in self.network.activations:
            low, high = found[self.network.nodes[i].inputs[0]]
            least = _HARDLY * np.abs(low + high).max(axis=0, initial=0)
            crossed = undecided(self.network.nodes[i].op, (low + least).T, (high - least).T).T
            count += np.sum(crossed & need[i], axis=0)
        return count

    def of_box(self, found: list[tuple[Array, Array]], need: list[BoolArray], k: int) -> Bounds:
        """Bounds of one box; gates that nothing depends on are called off, which changes no output."""
        lower, upper = [v[0][:, k].copy() for v in found], [v[1][:, k].copy() for v in found]
        for i in self.network.activations:
            source = self.network.nodes[i].inputs[0]
            if not _is_relu(self.network.nodes[i].op):
                continue
            idle = ~need[i][:, k] & (lower[source] < 0) & (upper[source] > 0)
            upper[source][idle] = 0.0
            lower[i][idle] = upper[i][idle] = 0.0
        return Bounds(self.network, tuple(lower), tuple(upper))


def _range(low: Array, up: Array, error: Array) -> tuple[Array, Array]:
    """Smallest value of the plane below and largest of the plane above, outward rounded."""
    n = low.shape[2] - 1
    small = gamma(n + 3)
    a, b = np.abs(low[:, :, :n]).sum(axis=2), np.abs(up[:, :, :n]).sum(axis=2)
    L = low[:, :, n] - a - 1.01 * error - small * (np.abs(low[:, :, n]) + a)
    U = up[:, :, n] + b + 1.01 * error + small * (np.abs(up[:, :, n]) + b)
    return np.where(np.isnan(L), -np.inf, L), np.where(np.isnan(U), np.inf, U)


def _is_relu(op: object) -> bool:
    return isinstance(op, PiecewiseLinear) and op.is_relu


@np.errstate(invalid="ignore", over="ignore")
def _bent(op: Any, low: Array, up: Array, error: Array, L: Array, U: Array) -> tuple[Array, Array, Array]:
    """Planes of an activation of a value between planes: its lines over the bounds, each on the plane that keeps it outside."""
    if _is_relu(op):
        return _relu(low, up, error, L, U)
    a, c, A, C = (v.T for v in lines(op, L.T, U.T))
    below = np.where((a >= 0)[:, :, None], low, up) * a[:, :, None]
    above = np.where((A >= 0)[:, :, None], up, low) * A[:, :, None]
    below[:, :, -1] += c
    above[:, :, -1] += C
    steep = np.maximum(np.abs(a), np.abs(A))
    mass = np.maximum(np.abs(low).sum(axis=2), np.abs(up).sum(axis=2)) * steep + np.maximum(np.abs(c), np.abs(C))
    return below, above, steep * error + 16 * unit_roundoff() * mass


def _relu(low: Array, up: Array, error: Array, L: Array, U: Array) -> tuple[Array, Array, Array]:
    """Planes of ReLU of a value between planes."""
    open_ = (L < 0) & (U > 0)
    width = np.where(open_, U - L, 1.0)
    above = np.where(open_, U / width, L >= 0)
    below = np.where(open_, U > -L, L >= 0).astype(np.float64)
    a, b = low * below[:, :, None], up * above[:, :, None]
    b[:, :, -1] -= np.where(open_, above * L, 0.0)
    few = 16 * unit_roundoff()
    mass = np.abs(up).sum(axis=2) * above + np.where(open_, width, 0.0)
    return a, b, np.maximum(below, above) * error + few * mass


def halves(lower: Array, upper: Array) -> tuple[Array, Array]:
    """Every box cut at the middle of its widest side: ends of the parts, twice as many."""
    side = np.argmax(upper - lower, axis=1)
    each = np.arange(len(side))
    middle = 0.5 * (lower[each, side] + upper[each, side])
    low, high = lower.copy(), upper.copy()
    high[each, side] = middle
    low[each, side] = middle
    return np.concatenate([lower, low]), np.concatenate([high, upper])


class Pieces:
    """A box cut until parts have so few open gates that their compact form is small.

    Arguments:
        rows: Network whose outputs are the rows; a part with one of them above 0 is done.
        gates: Open gates that a part may have.
    """

    def __init__(self, rows: Network, box: Box, gates: int, shared: dict[str, Any] | None = None) -> None:
        self.rows, self.gates, self.boxes, self.shared = rows, gates, 0, shared
        self.lower, self.upper = box.lower[None], box.upper[None]
        self.ready: list[tuple[Box, CompactNetwork]] = []
        self.forward = Forward(rows)
        self.back = any(
            isinstance(m, Conv) for n in rows.nodes if isinstance(n.op, Affine) for m in n.op.maps
        )  # the rows, at last
        self._numbers = max(node.size for node in rows.nodes) * (len(box.lower) + 1)

    @property
    def done(self) -> bool:
        return not len(self.lower) and not self.ready

    def step(self) -> None:
        """Bound some of the waiting boxes: done, ready, or cut once more."""
        few = max(1, min(_BATCH, _NUMBERS // self._numbers))
        lower, upper = self.lower[-few:], self.upper[-few:]
        self.lower, self.upper = self.lower[:-few], self.upper[:-few]
        self.boxes += len(lower)
        cut = self._carry(lower, upper)
        low, high = halves(lower[cut], upper[cut])
        self.lower, self.upper = np.concatenate([self.lower, low]), np.concatenate([self.upper, high])

    def _carry(self, lower: Array, upper: Array) -> BoolArray:
        found = self.forward.bounds(lower, upper, self.shared if self.boxes == len(lower) else None)
        open_ = ~(found[-1][0] > 0).any(axis=0)
        if open_.any() and self.back:
            k = np.flatnonzero(open_)
            start = Bounds(self.rows, tuple(v[0].T[k] for v in found), tuple(v[1].T[k] for v in found))
            open_[k] = ~(linear(self.rows, Box(lower[k], upper[k]), start, budget=0).output[0] > 0).any(axis=1)
        need = self.forward.needed(found)
        small = self.forward.open(found, need) <= self.gates
        for k in np.flatnonzero(open_ & small):
            box = Box(lower[k].copy(), upper[k].copy())
            self.ready.append((box, compact(self.rows, box, self.forward.of_box(found, need, int(k)))))
        return open_ & ~small
