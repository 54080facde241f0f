"""Networks with smooth activations: linear bounds over boxes of inputs, worst first, and attacks between them."""

import heapq
import itertools
import time

import numpy as np

from relukit._types import Array, BoolArray, IntArray
from relukit.bounds import Bounds, balanced, linear
from relukit.network import Network
from relukit.search._decision import Decision
from relukit.search._few import Search
from relukit.search._few_attack import descend
from relukit.search._few_moving import joined, moving_inputs, restricted
from relukit.search._few_wide import Forward
from relukit.sets import Box

_BATCH = 32  # boxes bounded at once
_NUMBERS = 3_000_000  # coefficients of all their rows through the widest node at most
_WIDE = 600  # units from which on planes are carried forward where few inputs move: looser, and a hundredth of the work
_BUDGET = 3e8  # multiplications that backward bounds of one node may take
_FEW = 20
_STEPS = 20  # of an attack
_FLAT = (
    1e-3  # share of the largest slope that every input counts with: at one point of a saturated unit all slopes are 0
)
_SAMPLED = (100, 1_000, 10_000, 100_000)  # boxes after which populations are resampled


class SmoothSearch(Search):
    """A `Search` for any network that linear bounds are known of.

    Slopes are chosen by the bounds alone, so that boxes of many inputs are settled at once or hardly at all.

    References:
        Efficient Neural Network Robustness Certification with General Activation Functions, Zhang et al., 2018.
    """

    boxes = 0

    @property
    def by_gates(self) -> bool:
        """Its gates cannot be held."""
        return False

    def begin(self) -> Decision | None:
        """A short attack, and bounds over the whole box."""
        self.rows = balanced(self.rows, self.domain)
        self._forward = _carried(self.rows, len(self.moving))
        self._waiting: list[tuple[float, int, Box]] = []
        self._number = itertools.count()
        self._unsplit = 0  # boxes that cannot be halved
        self.engine = self  # type: ignore[assignment]
        starts = np.concatenate([self.tried, self.domain.sample(7, self.generator)])
        self.tried = descend(self.quick, self.domain, starts, _STEPS)
        hit = self._confirmed(self.tried[:4])
        if hit is not None:
            return Decision("sat", hit, 1, "gradient attack")
        self._bound([self.domain])
        return Decision("unsat", None, 1, "linear bounds") if not self._waiting else None

    def advance(self, boxes: int, stop: float) -> Decision | None:
        """Split the boxes with the lowest bounds, about so many or until `stop`; None while the question is open."""
        until = self.boxes + boxes
        while self._waiting and self.boxes < until:
            if time.perf_counter() > stop:
                return None
            chosen = [heapq.heappop(self._waiting)[2] for _ in range(min(self._at_once, len(self._waiting)))]
            hit = self._confirmed(np.stack([box.center() for box in chosen]))
            if hit is not None:
                return Decision("sat", hit, self.boxes, "input splitting")
            halves = [half for box, side in zip(chosen, self._sides(chosen)) for half in self._halves(box, int(side))]
            if halves:
                self._bound(halves)
            if self.boxes >= _SAMPLED[min(self.attacked, len(_SAMPLED) - 1)] and self.attacked < len(_SAMPLED):
                self.attacked += 1
                hit = self._sample(4 * self.attacked, chosen[0].center())
                if hit is not None:
                    return Decision("sat", hit, self.boxes, "sampling attack")
        if self._waiting:
            return None
        if self._unsplit:
            reason = f"{self._unsplit} boxes cannot be halved any more and touch the boundary within rounding"
            return Decision("unknown", None, self.boxes, "input splitting", reason)
        return Decision("unsat", None, self.boxes, "input splitting")

    @property
    def _at_once(self) -> int:
        widest = max(node.size for node in self.rows.nodes)
        if self._forward is not None:
            return int(np.clip(_NUMBERS // (widest * (len(self.moving) + 1)), 1, _BATCH // 2))
        return int(np.clip(_NUMBERS // (widest * (widest + self.rows.outputs)), 1, _BATCH // 2))

    def _bound(self, boxes: list[Box]) -> None:
        """Hang up the boxes in which no row is shown positive."""
        self.boxes += len(boxes)
        batch = Box(np.stack([b.lower for b in boxes]), np.stack([b.upper for b in boxes]))
        low = np.nan_to_num(_lowest(self.rows, batch, self._forward).max(axis=-1), nan=-np.inf)
        for box, least in zip(boxes, low):
            if least <= 0:
                heapq.heappush(self._waiting, (float(least), next(self._number), box))
        self.level = float(min((w[0] for w in self._waiting), default=np.inf))

    def _sides(self, boxes: list[Box]) -> IntArray:
        """The input of each box that moves its largest row most, by the slopes at the center and at a corner."""
        width = np.stack([b.upper - b.lower for b in boxes])
        points = np.concatenate([np.stack([b.center() for b in boxes]), np.stack([b.upper for b in boxes])])
        slopes = np.abs(self.quick.slope(points)[1]).reshape(2, len(boxes), -1).sum(axis=0)
        return np.argmax((slopes + _FLAT * slopes.max(axis=1, keepdims=True) + 1e-300) * width, axis=1)

    def _halves(self, box: Box, side: int) -> list[Box]:
        """A box cut at the middle of a side; none where it is too narrow for that."""
        middle = 0.5 * (box.lower[side] + box.upper[side])
        if not box.lower[side] < middle < box.upper[side]:
            self._unsplit += 1
            return []
        return list(box.halves(side))


def settled_at_once(network: Network, box: Box, rows: list[tuple[Array, Array]]) -> BoolArray:
    """Which of several cases `A y <= b` linear bounds over one box prove empty: what lies below the rows is bounded once for all."""
    moving, domain = moving_inputs(box)
    A, b = np.concatenate([A for A, _ in rows]), np.concatenate([b for _, b in rows])
    asked = balanced(restricted(joined(network), box, moving).append(A, -b), domain)
    low = _lowest(asked, Box(domain.lower[None], domain.upper[None]), _carried(asked, len(moving)))[0]
    ends = np.cumsum([len(b) for _, b in rows])[:-1]
    return np.array([bool((part > 0).any()) for part in np.split(low, ends)])


def _carried(rows: Network, moving: int) -> Forward | None:
    """Planes carried forward: a start where bounds of some nodes take too much."""
    return Forward(rows) if moving <= _FEW and rows.units > _WIDE else None


def _lowest(rows: Network, batch: Box, forward: Forward | None) -> Array:
    """Lower bounds of the rows over boxes with ends `(boxes, n)`, shape `(boxes, rows)`."""
    start = None
    if forward is not None:
        low, high = zip(*((a.T, b.T) for a, b in forward.bounds(batch.lower, batch.upper)))
        start = Bounds(rows, low, high)
    return linear(rows, batch, start, budget=_BUDGET).output[0]
