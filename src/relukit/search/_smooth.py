"""Networks with smooth activations or jumps: linear bounds over boxes of inputs, worst first, and attacks between them.

Where many inputs move, boxes of inputs are settled at once or hardly at all: there lines are optimized and units are split
(`_smooth_tree`). Where few move both take turns.
"""

import heapq
import itertools
import time

import numpy as np

from relukit._types import Array, BoolArray, IntArray
from relukit.bounds import Bounds, balanced, linear
from relukit.network import Network
from relukit.network.curves import Jump
from relukit.search._decision import Decision, up_to
from relukit.search._few import Search
from relukit.search._few_attack import descend
from relukit.search._few_chain import Rows
from relukit.search._few_moving import joined, moving_inputs, restricted
from relukit.search._few_wide import Forward
from relukit.search._smooth_rows import Rows as Lines
from relukit.search._smooth_soft import softened
from relukit.search._smooth_tree import Tree
from relukit.sets import Box

_BATCH = 32  # boxes bounded at once
_NUMBERS = 3_000_000  # coefficients of all their rows through the widest node at most
_WIDE = 600  # units from which on planes are carried forward where few inputs move: looser, and a hundredth of the work
_BUDGET = 3e8  # multiplications that backward bounds of one node may take
_FEW = 20
_PATIENCE, _SLICE = (
    0.05,
    1.0,
)  # share of the time left that one box may take to bound, and seconds of boxes bounded at once
_STEPS = 20  # of an attack
_FLAT = (
    1e-3  # share of the largest slope that every input counts with: at one point of a saturated unit all slopes are 0
)
_INPUTS = 12  # that move, up to which they are split
_COSTLY = 200  # units from which on the lines of the row are optimized in every box
_TURNS, _TREES = 64, 1000  # boxes after which units are split in turn, and units up to which
_SHARPER, _MOST = 6, 0.3  # steps of the bounds of all nodes, and the share of the time left that they may take
_SAMPLED = (100, 1_000, 10_000, 100_000)  # boxes after which populations are resampled


class SmoothSearch(Search):
    """A `Search` for any network that linear bounds are known of.

    References:
        Efficient Neural Network Robustness Certification with General Activation Functions, Zhang et al., 2018.
    """

    boxes = 0
    stop = np.inf  # of the question, where it is known
    tree: Tree | None = None
    _lines: Lines | None = None
    _budget, _pace = _BUDGET, 0.0  # multiplications of one node's bounds, and seconds of a box where it was raised

    @property
    def by_gates(self) -> bool:
        """Its gates cannot be held."""
        return False

    def begin(self) -> Decision | None:
        """A short attack, and bounds over the whole box."""
        self.rows = balanced(self.rows, self.domain)
        if any(isinstance(self.rows.nodes[i].op, Jump) for i in self.rows.activations):
            self.quick = Rows(softened(self.rows, self.domain))
        self._forward = _carried(self.rows, len(self.moving))
        self._waiting: list[tuple[float, int, Box]] = []
        self._number = itertools.count()
        self._unsplit = 0  # boxes that cannot be halved
        self._descents = 1  # nodes of the tree from which on descents start again
        self.engine = self  # type: ignore[assignment]
        starts = np.concatenate([self.tried, self.domain.sample(7, self.generator)])
        self.tried = descend(self.quick, self.domain, starts, _STEPS)
        hit = self._confirmed(self.tried[:4])
        if hit is not None:
            return Decision("sat", hit, 1, "gradient attack")
        if self._wide:
            self._waiting = [(-np.inf, 0, self.domain)]
            return None
        self._bound([self.domain])
        if self._waiting and self._forward is not None:
            self._invest()
        return Decision("unsat", None, 1, "linear bounds") if not self._waiting else None

    def _invest(self) -> None:
        """Bounds of wide nodes by more work, kept where they halve what is missing."""
        for budget in (10 * _BUDGET, 100 * _BUDGET):
            began, before, kept = time.perf_counter(), self.level, self._waiting
            self._waiting, self._budget = [], budget
            self._bound([self.domain])
            self._pace = time.perf_counter() - began
            if self._waiting and not self.level > 0.5 * before:
                self._waiting, self.level, self._budget, self._pace = kept, before, 0.1 * budget, 0.0
                return
            if not self._waiting or self._pace > _PATIENCE * (self.stop - time.perf_counter()):
                return

    def advance(self, boxes: int, stop: float) -> Decision | None:
        """Split the boxes with the lowest bounds, or units, about so many or until `stop`; None while the question is open."""
        if self._wide:
            return self._grow(boxes, stop)
        began, until = time.perf_counter(), self.boxes + boxes
        found = self._split(until, stop)
        if found is None and self.boxes > _TURNS and self.rows.units <= _TREES:
            now = time.perf_counter()
            found = self._grow(boxes, min(stop, 2 * now - began))
        return found

    @property
    def _wide(self) -> bool:
        return len(self.moving) > _INPUTS

    def _grow(self, nodes: int, stop: float) -> Decision | None:
        """Optimized lines, and splits of units."""
        if self.tree is None:
            found = self._plant(stop)
            if found is not None or self.tree is None:
                return found
        until = self.tree.nodes + nodes
        last = 0.0  # seconds
        while self.tree.heap and self.tree.nodes < until and (now := time.perf_counter()) < stop:
            if self._wide and now + last > self.stop:
                reason = f"time is up after {self.tree.nodes} nodes; {up_to(self.tree.level)}"
                return Decision("unknown", None, self.tree.nodes, "unit splitting", reason)
            hit = self.tree.grow(stop)
            last = 1.5 * (time.perf_counter() - now)
            if hit is not None:
                return Decision("sat", hit, self.tree.nodes, "unit splitting")
        self.level = self.tree.level
        over = not self.tree.heap and self.tree.stuck > 0
        if self.attacked < len(_SAMPLED) and (over or self.tree.nodes >= _SAMPLED[self.attacked]):
            self.attacked += 1
            hit = self._sample(4 * self.attacked, self.tried[0])
            if hit is not None:
                return Decision("sat", hit, self.tree.nodes, "sampling attack")
        if self._wide:
            self.boxes = self.tree.nodes
        if self.tree.heap:
            return None
        if self.tree.stuck:
            if not self._wide:
                return None
            reason = f"{self.tree.stuck} nodes cannot be split any more and touch the boundary"
            return Decision("unknown", None, self.tree.nodes, "unit splitting", reason)
        return Decision("unsat", None, self.tree.nodes, "unit splitting")

    def _plant(self, stop: float) -> Decision | None:
        """The root of the tree, on bounds that several questions about one box share."""
        key = (id(self.network), self.box.lower.tobytes(), self.box.upper.tobytes())
        if self.shared.get("lines", (None,))[0] != key:
            base = balanced(restricted(joined(self.network), self.box, self.moving), self.domain)
            lines = Lines(base, self.domain)
            lines.sweep(0, stop)
            self.shared["lines"] = (key, lines, [])
        _, lines, sharper = self.shared["lines"]
        A, b = self.question
        for last in (False, True):
            if last and not sharper:
                now = time.perf_counter()
                lines.sweep(_SHARPER, now + _MOST * (min(stop, self.stop) - now))
                sharper.append(True)
            self.tree = Tree(lines.followed(A, b), self._near)
            hit = self.tree.plant(stop)
            if hit is not None:
                return Decision("sat", hit, self.tree.nodes, "optimized lines")
            if self.tree.level > 0:
                return Decision("unsat", None, self.tree.nodes, "optimized lines")
            if sharper or time.perf_counter() > stop:
                break
        return None

    def _near(self, points: Array) -> Array | None:
        """A counterexample from minimizers of a relaxation; from time to time descents start there."""
        assert self.tree is not None
        if self.tree.nodes >= self._descents:
            self._descents = 2 * self.tree.nodes
            points = np.concatenate([descend(self.quick, self.domain, points[:4], _STEPS), points[4:]])
        return self._confirmed(points)

    def _split(self, until: int, stop: float) -> Decision | None:
        """Split boxes until there are so many."""
        while self._waiting and self.boxes < until:
            now = time.perf_counter()
            if now + 2 * self._pace > self.stop:
                reason = (
                    f"time is up after {self.boxes} boxes, each of which takes {self._pace:.1f} s; {up_to(self.level)}"
                )
                return Decision("unknown", None, self.boxes, "input splitting", reason)
            if now > stop:
                return None
            chosen = [heapq.heappop(self._waiting)[2] for _ in range(min(self._at_once, len(self._waiting)))]
            hit = self._confirmed(np.stack([box.center() for box in chosen]))
            if hit is not None:
                return Decision("sat", hit, self.boxes, "input splitting")
            halves = [half for box, side in zip(chosen, self._sides(chosen)) for half in self._halves(box, int(side))]
            if halves:
                began = time.perf_counter()
                self._bound(halves)
                self._pace = (time.perf_counter() - began) / len(halves) if self._pace else 0.0
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
        if self._pace:
            return int(np.clip(_SLICE / self._pace, 1, _BATCH // 2))
        widest = max(node.size for node in self.rows.nodes)
        if self._forward is not None:
            return int(np.clip(_NUMBERS // (widest * (len(self.moving) + 1)), 1, _BATCH // 2))
        return int(np.clip(_NUMBERS // (widest * (widest + self.rows.outputs)), 1, _BATCH // 2))

    def _bound(self, boxes: list[Box]) -> None:
        """Hang up the boxes in which no row is shown positive."""
        self.boxes += len(boxes)
        batch = Box(np.stack([b.lower for b in boxes]), np.stack([b.upper for b in boxes]))
        parts = _bounds(self.rows, batch, self._forward, self._budget)
        found = np.nan_to_num(parts.output[0], nan=-np.inf)
        low = found.max(axis=-1)
        open_ = np.flatnonzero(low <= 0)
        if self.rows.units >= _COSTLY and len(
            open_
        ):  # a few more steps for the row cost little beside what bounds all units
            self._lines = self._lines or Lines(self.rows, self.domain)
            lanes = self._lines.within(parts, batch, open_, found.argmax(axis=-1))
            self._lines.ascend(lanes, _STEPS, self.stop)
            low[open_] = np.maximum(low[open_], self._lines.certify(lanes))
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
    low = _bounds(asked, Box(domain.lower[None], domain.upper[None]), _carried(asked, len(moving))).output[0][0]
    ends = np.cumsum([len(b) for _, b in rows])[:-1]
    return np.array([bool((part > 0).any()) for part in np.split(low, ends)])


def _carried(rows: Network, moving: int) -> Forward | None:
    """Planes carried forward: a start where bounds of some nodes take too much."""
    return Forward(rows) if moving <= _FEW and rows.units > _WIDE else None


def _bounds(rows: Network, batch: Box, forward: Forward | None, budget: float = _BUDGET) -> Bounds:
    """Bounds over boxes with ends `(boxes, n)`."""
    start = None
    if forward is not None:
        low, high = zip(*((a.T, b.T) for a, b in forward.bounds(batch.lower, batch.upper)))
        start = Bounds(rows, low, high)
    return linear(rows, batch, start, budget=budget)
