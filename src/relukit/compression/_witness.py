"""Points that show a unit on both sides of a kink: no proof can remove such a unit, and no search has to be asked about it."""

from dataclasses import dataclass, replace

import numpy as np

from relukit._types import Array, IntArray
from relukit.network import Affine, Network, Origin
from relukit.piecewise import PiecewiseLinear
from relukit.sets import AbstractSet, Box

_ROUNDS = 12  # of ascent for one unit; most cross in the first three
_STEPS = (1.0, 0.5, 0.1)  # shares of the way to the corner that the gradient points to
_WORK = 4e8  # products that one layer's rounds may take: about 0.1 s
_FEW = 20  # points to start from at least
_MEMORY = 1 << 24  # values held at once: 128 MB
_HAIR = 1e-7  # of the way to the middle of a set: projections lie within 1e-9 of it
_SURE = 1e-12  # of the largest sum: nearer to a kink, rounding decides the side


@dataclass
class Seen:
    """What points showed: smallest and largest value that each activation node read.

    Arguments:
        points: Rows of the domain.
        lower, upper: The box of each of the first points, or one for all, where the domain is made of boxes.
    """

    network: Network
    points: Array
    lower: Array | None
    upper: Array | None
    low: dict[int, Array]
    high: dict[int, Array]

    @staticmethod
    def of(network: Network, domain: AbstractSet, cover: Box | None, points: Array, home: IntArray) -> "Seen":
        """What given points show.

        Arguments:
            cover: Boxes of the domain, as a batch, or None; `home` says to which of them each point belongs.
        """
        lower = upper = None
        if cover is not None:
            lower, upper = cover.lower[home], cover.upper[home]
        elif isinstance(domain, Box):
            lower, upper = domain.lower[None], domain.upper[None]
        seen = Seen(network, np.zeros((0, network.inputs)), lower, upper, {}, {})
        seen.add(points)
        return seen

    def add(self, points: Array) -> None:
        """More points of the domain."""
        self.points = np.r_[self.points, points]
        block = max(1, _MEMORY // sum(node.size for node in self.network))
        for start in range(0, len(points), block):
            values = self.network.values(points[start : start + block])
            for i in self.network.activations:
                z = values[self.network.nodes[i].inputs[0]]
                low, high = z.min(axis=0), z.max(axis=0)
                self.low[i] = np.minimum(self.low[i], low) if i in self.low else low
                self.high[i] = np.maximum(self.high[i], high) if i in self.high else high

    def both(self, i: int) -> np.ndarray:
        """Units of activation node i that were seen on both sides of a kink, by more than rounding."""
        op, low, high = self.network.nodes[i].op, self.low[i], self.high[i]
        sure = _SURE * np.maximum(np.abs(low), np.abs(high)).max(initial=0.0)
        found = np.zeros(low.shape, bool)
        for knot in op.knots if isinstance(op, PiecewiseLinear) else ():
            found |= (low < knot - sure) & (high > knot + sure)
        return found

    @property
    def count(self) -> int:
        return sum(int(self.both(i).sum()) for i in self.network.activations)


def products(network: Network) -> int:
    """Multiplications that one evaluation takes."""
    return sum(m.out_size * m.terms for n in network if isinstance(n.op, Affine) for m in n.op.maps)


def ascend(seen: Seen, domain: AbstractSet) -> None:
    """Look for points on the other side of each unit's kink: from the nearest point known, along the gradient, to the edge of the domain.

    For a unit that reads the inputs alone, one step to the corner of a box is the exact answer.
    """
    network = seen.network
    for i in network.activations:
        source = network.nodes[i].inputs[0]
        op = network.nodes[i].op
        if seen.both(i).all() or not (isinstance(op, PiecewiseLinear) and isinstance(network.nodes[source].op, Affine)):
            continue
        prefix = replace(network, nodes=network.nodes[: source + 1], head="", box=None, origin=Origin("built"))
        _ascend_layer(seen, domain, prefix, i, max(products(prefix), 1))


def _ascend_layer(seen: Seen, domain: AbstractSet, prefix: Network, i: int, cost: int) -> None:
    network, spent = seen.network, 0.0
    if _FEW * (2 + len(_STEPS)) * cost > _WORK:  # a handful of units among thousands
        return
    many = seen.lower is not None and len(seen.lower) > 1
    known = seen.points[: len(seen.lower)] if many and seen.lower is not None else seen.points
    values = prefix(known[: max(_FEW, int(_WORK / cost))])
    entries = np.flatnonzero(~seen.both(i))
    entries = entries[: max(1, int(_WORK / (cost * (2 + len(_STEPS)))))]
    side = _sides(network, i, values, entries)
    start = np.argmax(values[:, entries] * side, axis=0)
    x = seen.points[start].copy()
    lower, upper = (None if v is None else v[start] if many else v for v in (seen.lower, seen.upper))
    best = values[start, entries] * side
    for _ in range(_ROUNDS):
        spent += (2 + len(_STEPS)) * len(entries) * cost
        if not len(entries) or spent > _WORK:
            return
        direction = np.zeros((len(entries), prefix.outputs))
        direction[np.arange(len(entries)), entries] = side
        slope = prefix.gradient(x, direction)
        tried = _along(domain, x, slope, lower, upper)
        got = prefix(tried.reshape(-1, tried.shape[-1])).reshape(len(_STEPS), len(entries), -1)
        got = np.take_along_axis(got, entries[None, :, None], axis=2)[..., 0] * side
        pick = np.argmax(got, axis=0)
        gained = got[pick, np.arange(len(entries))]
        moved = gained > best
        x = np.where(moved[:, None], tried[pick, np.arange(len(entries))], x)
        best = np.maximum(gained, best)
        seen.add(x[moved])
        stay = moved & ~seen.both(i)[entries]
        entries, side, x, best = entries[stay], side[stay], x[stay], best[stay]
        lower, upper = (v[stay] if many and v is not None else v for v in (lower, upper))


def _sides(network: Network, i: int, values: Array, entries: IntArray) -> Array:
    """+1 where a unit has to rise to reach its nearest kink, -1 where it has to fall."""
    op = network.nodes[i].op
    assert isinstance(op, PiecewiseLinear)
    z = values[:, entries]
    low, high = z.min(axis=0), z.max(axis=0)
    rise, fall = np.full(len(entries), np.inf), np.full(len(entries), np.inf)
    for knot in op.knots:
        at = knot[entries] if np.ndim(knot) else knot
        rise, fall = np.where(high <= at, np.minimum(rise, at - high), rise), np.where(low >= at, np.minimum(fall, low - at), fall)  # fmt: skip
    return np.where(rise <= fall, 1.0, -1.0)


def _along(domain: AbstractSet, x: Array, slope: Array, lower: Array | None, upper: Array | None) -> Array:
    """Points `(steps, rows, n)` of the domain along a gradient."""
    if lower is not None and upper is not None:
        corner = np.where(slope > 0, upper, np.where(slope < 0, lower, x))
        return np.stack([x + t * (corner - x) if t < 1 else corner for t in _STEPS])
    size = np.linalg.norm(slope, axis=1, keepdims=True)
    box = domain.box()
    reach = float(np.linalg.norm(box.upper - box.lower))
    tried = np.stack([domain.project(x + t * reach * slope / np.where(size > 0, size, 1)) for t in _STEPS])
    tried = drawn_in(domain, tried)
    return np.where(domain.contains(tried)[..., None], tried, x)


def drawn_in(domain: AbstractSet, points: Array) -> Array:
    """Points nearer to the middle by a hair: projections end outside by as much, where units may cross that do not inside."""
    middle = domain.center()
    return middle + (1 - _HAIR) * (points - middle)
