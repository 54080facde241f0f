"""Decide over a box by splitting inputs: the driver of the compiled engine."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from relukit._numerics import gamma
from relukit._types import Array
from relukit.bounds import CompactNetwork, compact
from relukit.network import Network
from relukit.search._attack import representable
from relukit.search._decision import Decision, touching
from relukit.search._few_attack import descend, resample
from relukit.search._few_chain import Rows, bounds_of
from relukit.search._few_engine import Engine
from relukit.search._few_least import LeastRow, least
from relukit.search._few_moving import joined, moving_inputs, restricted
from relukit.search._few_wide import Pieces
from relukit.search._graph import as_graph
from relukit.search._small_program import minimize
from relukit.sets import Box

_INPUTS = 12  # above this many moving inputs gates are split instead
_BOTH = 40  # up to so many, inputs are split first and gates after _BOXES boxes
_BOXES = 20_000
_SAMPLED = (
    (300, 10),
    (2_000, 30),
    (10_000, 120),
    (50_000, 600),
    (150_000, 1_200),
    (400_000, 2_500),
    (1_000_000, 5_000),
    (10**18, 0),
)  # populations resampled after so many boxes
_RARELY = 6  # times fewer populations where a flip is known and only nearer ones are asked for
_LEAF = 6  # points of one leaf that are tried
_LARGE = 3000  # units of a convolutional network from which it is bounded as it is where more than _INPUTS inputs move
_GATES = 600  # a box with more open gates is halved before the dense compact form is made (300 takes 3 times as long)


class Search:
    """One question, worked on in slices: whether some x in a box has `A y(x) + b <= 0`.

    Arguments:
        network: Piecewise linear.
        A, b: Rows on its outputs.
        confirm: Called with points `(k, n)` that the original can hold; returns the first that it confirms, or None.
        any_row: One row at most 0 is enough; by default all have to be. Up to 12 moving inputs only.
        closer: The box that is left after a point was confirmed in the tree, which then goes on with it; by default such a point
            ends the search. `unsat` is about the last of these boxes.

    References:
        Branch and Bound for Piecewise Linear Neural Network Verification, Bunel et al., 2020.
    """

    def __init__(
        self, network: Network, box: Box, A: Array, b: Array, confirm: Any, seed: int = 0, any_row: bool = False,
        closer: Callable[[], Box] | None = None,
    ) -> None:  # fmt: skip
        self.closer = closer
        self.network, self.box, self.confirm = network, box, confirm
        self.moving, self.domain = moving_inputs(box)
        base = restricted(joined(network), box, self.moving)
        self.rows = base.append(A, b)
        self.quick: Rows | LeastRow = Rows(self.rows, base)
        self.any_row = any_row and len(b) > 1
        self.generator = np.random.default_rng(seed)
        self.engine: Engine | None = None
        self.small: CompactNetwork | None = None
        self.tried = self.domain.center()[None]
        self.attacked = self.unresolved = 0
        self.question, self.seed = (A, b), seed
        self.pieces: Pieces | None = None
        self.shared: dict[str, Any] = {}  # what several questions about one box compute once

    def begin(self) -> Decision | None:
        """Linear bounds and a short attack: settles most questions."""
        if self.any_row and self._folded():
            return Decision("unsat", None, 1, "linear bounds")
        wide = self.rows.units > _GATES and not self.by_gates
        bounds = None if wide else bounds_of(self.rows, self.quick.layers, self.domain)
        if bounds is not None and np.any(bounds.output[0] > 0):
            return Decision("unsat", None, 1, "linear bounds")
        if wide:  # planes carried forward cost less than an attack there
            self.pieces = Pieces(self.rows, self.domain, _GATES, self.shared)
            self.pieces.step()
            if self.pieces.done:
                return Decision("unsat", None, 1, "linear bounds")
        starts = np.concatenate([self.tried, self.domain.sample(5, self.generator)])
        self.tried = descend(self.quick, self.domain, starts, 12)
        hit = self._confirmed(self.tried[:4])
        if hit is not None:
            return Decision("sat", hit, 1, "gradient attack")
        if bounds is not None:
            self.small = compact(self.rows, self.domain, bounds)
        return None

    def _folded(self) -> bool:
        """Rows that linear bounds show positive are dropped, the least of the others becomes the one row; True where none is left."""
        assert isinstance(self.quick, Rows)
        low = bounds_of(self.rows, self.quick.layers, self.domain).output[0]
        left = np.flatnonzero(~(low > 0))
        if not len(left):
            return True
        A, b = self.question
        self.rows = restricted(joined(self.network), self.box, self.moving).append(A[left], b[left])
        self.quick = Rows(self.rows)
        if len(left) > 1:
            self.rows, self.quick = least(self.rows), LeastRow(self.quick)
        return False

    @property
    def by_inputs(self) -> bool:
        """Whether inputs are split rather than gates."""
        moving = len(self.moving)
        return moving <= _INPUTS or (moving <= _BOTH and (self.engine is None or self.engine.boxes < _BOXES))

    @property
    def by_gates(self) -> bool:
        """Whether there are so many moving inputs, or some and a large convolutional network, that gates are split from the start."""
        moving = len(self.moving)
        return moving > max(_INPUTS, _BOTH) or (
            moving > _INPUTS and self.rows.units > _LARGE and as_graph(self.rows) is not None
        )

    def advance(self, boxes: int, stop: float) -> Decision | None:
        """Work on about `boxes` more boxes (or until `stop`, where gates are split); None while the question is open."""
        if self.pieces is not None:
            return self._pieces(self.pieces, stop)
        assert self.small is not None
        if not self.by_inputs:
            from relukit.search._many import split_gates

            return split_gates(self.small, self._confirmed, stop)
        self.engine = self.engine or Engine(self.small, self.domain)
        return self._tree(self.engine, boxes, stop)

    def _pieces(self, pieces: Pieces, stop: float) -> Decision | None:
        """Parts of the box, each with a compact form of its own."""
        while time.perf_counter() < stop:
            if self.engine is not None:
                found = self._tree(self.engine, 50_000, stop)
                if found is None or found.status == "sat":
                    return found
                pieces.boxes += found.boxes
                self.engine = None
            elif pieces.ready:
                box, small = pieces.ready.pop()
                self.engine = Engine(small, box)
            elif len(pieces.lower):
                pieces.step()
            else:
                return self._closed(pieces.boxes)
        return None

    def _closed(self, boxes: int) -> Decision:
        """All boxes are done: proven, unless leaves were left over."""
        if not self.unresolved:
            return Decision("unsat", None, boxes, "input splitting")
        reason = touching(self.unresolved)
        return Decision("unknown", None, boxes, "input splitting", reason)

    def _tree(self, engine: Engine, boxes: int, stop: float) -> Decision | None:
        """About `boxes` more boxes of a tree."""
        from relukit.search._few_kernel import CANDIDATE, DONE, LEAF

        until = engine.boxes + boxes
        while engine.boxes < until and time.perf_counter() < stop:
            code, hit = engine.run(min(until - engine.boxes, 2_000)), None
            if code == DONE:
                return self._closed(engine.boxes)
            if code == CANDIDATE:
                hit = self._confirmed(engine.point[None].copy())
            elif code == LEAF:
                hit, closed = self._leaf(engine)
                self.unresolved += not closed and hit is None
            if hit is not None:
                if self.closer is None:
                    return Decision("sat", hit, engine.boxes, "input splitting")
                self._narrow(engine)
        if engine.boxes >= _SAMPLED[self.attacked][0]:
            populations = _SAMPLED[self.attacked][1] // (1 if self.closer is None else _RARELY)
            self.attacked += 1
            hit = self._sample(populations, engine.state.best[2:])
            if hit is not None:
                if self.closer is None:
                    return Decision("sat", hit, engine.boxes, "sampling attack")
                self._narrow(engine)
        return None

    def _narrow(self, engine: Engine) -> None:
        assert self.closer is not None
        box = self.closer()
        self.domain = Box(box.lower[self.moving], box.upper[self.moving])
        self.box = box
        self.tried = np.clip(self.tried, self.domain.lower, self.domain.upper)
        engine.narrow(self.domain)

    def _sample(self, populations: int, nearest: Array) -> Array | None:
        """Sampling attacks over the box, and around the nearest miss of the tree: on plateaus each population finds another basin,
        so many small ones beat a large one."""
        first = np.concatenate([self.tried[:20], nearest[None]])
        low, high = self.domain.lower, self.domain.upper
        for share in (1.0, 0.2, 0.04):
            width = share * (high - low)
            local = Box(np.clip(nearest - width, low, high), np.clip(nearest + width, low, high))
            hit = self._confirmed(resample(self.quick, local, max(populations // 3, 4), self.generator, first)[:4])
            if hit is not None:
                return hit
        return None

    def _confirmed(self, points: Array) -> Array | None:
        """A point that the original confirms, after a few more steps inward where rounding spoils it."""
        if points.shape[1] > len(self.moving):  # of all inputs
            points = points[:, self.moving]
        near = points[self.quick.worst(points) <= 1e-5 * (1 + np.abs(points).max())]
        if not len(near):
            return None
        found = self.confirm(self._lifted(near))
        if found is not None:
            return found
        low, high = self.domain.lower, self.domain.upper
        width = high - low
        local = Box(np.maximum(low, near[0] - 0.01 * width), np.minimum(high, near[0] + 0.01 * width))
        starts = np.concatenate([near[:1], local.sample(3, np.random.default_rng(0))])
        return self.confirm(self._lifted(descend(self.quick, local, starts, 20)))

    def _lifted(self, points: Array) -> Array:
        """Points of all inputs, as the original can hold them."""
        whole = np.repeat(self.box.lower[None], len(points), axis=0)
        whole[:, self.moving] = points
        return representable(whole, self.box, self.network.dtype)

    def _leaf(self, engine: Engine) -> tuple[Array | None, bool]:
        """A box on which every row is linear: a linear program decides it; its multipliers prove emptiness, rounding included."""
        leaf, planes, constant, error = engine.leaf()
        found, point = None, engine.point.copy()
        for k in range(_LEAF):
            hit = self._confirmed(point[None])
            if hit is None and k:
                break
            if hit is not None:
                found = hit
                if self.closer is None:
                    return hit, True
                self._narrow(engine)
                low, high = np.maximum(leaf.lower, self.domain.lower), np.minimum(leaf.upper, self.domain.upper)
                if np.any(low > high):
                    return found, True
                leaf = Box(low, high)
            closed, point = _least_of_planes(leaf, planes, constant, error)
            if closed or point is None:
                return found, closed
        return found, False


def _least_of_planes(box: Box, planes: Array, constant: Array, error: Array) -> tuple[bool, Array | None]:
    """Whether the largest of some planes is proven positive on a box, and the point where it is least."""
    R, n = planes.shape
    # min t with planes x + constant <= t: a positive minimum closes the leaf.
    found = minimize(
        np.r_[np.zeros(n), 1.0],
        np.c_[planes, -np.ones(R)],
        -constant,
        np.r_[box.lower, -np.inf],
        np.r_[box.upper, np.inf],
    )
    if found is None:
        return False, None
    weights = found.multipliers
    weights = weights / weights.sum() if weights.sum() > 0 else np.full(R, 1 / R)
    joint = weights @ planes
    reach = np.maximum(np.abs(box.lower), np.abs(box.upper))
    rounding = 1.01 * float(weights @ error) + gamma(R + n + 4) * float(
        weights @ (np.abs(planes) @ reach + np.abs(constant))
    )
    value = float(weights @ constant) - float(box.support(-joint[None])[0]) - rounding
    return value > 0, found.v[:n]


def decide(
    network: Network, box: Box, A: Array, b: Array, confirm: Any, timeout: float = 60.0, seed: int = 0
) -> Decision:
    """Whether some x in the box has `A y(x) + b <= 0`: one `Search`, from start to end."""
    return decide_any([Search(network, box, A, b, confirm, seed)], timeout)


def decide_any(searches: list[Search], timeout: float, device: Any = None) -> Decision:
    """Whether any of several questions is answered by a point: all are begun, then worked on in turn with growing slices.

    A disjunction is often settled by an easy case while another is hard; taking them in turn costs at most a small factor.
    """
    stop = time.perf_counter() + timeout
    if searches and all(s.by_gates for s in searches):
        from relukit.search._many_searches import decide_searches

        return decide_searches(searches, stop, device)
    waiting: list[Search] = []
    shared: dict[str, Any] = {}
    for search in searches:
        search.shared = shared
    boxes, engines, unknown = 0, {"linear bounds"}, ""
    for search in searches:
        found = search.begin()
        if found is None:
            waiting.append(search)
        elif found.status == "sat":
            return found
        else:
            boxes, unknown = boxes + found.boxes, unknown or found.reason
            engines.add(found.engine)
    waiting.sort(key=lambda s: s.small.gates if s.small is not None else s.rows.units)
    slice_ = 300
    while waiting:
        left = stop - time.perf_counter()
        if left <= 0:
            done = boxes + sum(s.engine.boxes for s in waiting if s.engine)
            return Decision(
                "unknown",
                None,
                done,
                "+".join(sorted(engines)),
                f"time is up with {len(waiting)} of {len(searches)} cases open after {done} boxes",
            )
        still = []
        for k, search in enumerate(waiting):
            share = time.perf_counter() + max((stop - time.perf_counter()) / (len(waiting) - k), 0.0)
            found = search.advance(slice_, share)
            if found is None:
                still.append(search)
            elif found.status == "sat":
                return found
            else:
                boxes, unknown = boxes + found.boxes, unknown or found.reason
                engines.add(found.engine)
        waiting, slice_ = still, min(3 * slice_, 50_000)
    engine = "+".join(sorted(engines))
    return Decision("unknown", None, boxes, engine, unknown) if unknown else Decision("unsat", None, boxes, engine)
