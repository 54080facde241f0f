"""Branch and bound over gates for many rows at once: every row has its own tree, and all trees grow in one batch."""

import heapq
import time

import numpy as np

from relukit._types import Array, IntArray
from relukit.search._dual import Bounded, Dual, Rows

# Gates that are tried where splits are chosen by looking at both children: in trees of more than _LARGE nodes the most, since what
# each level gains decides how many levels there are.
_CANDIDATES, _FEW, _LARGE = 24, 6, 1000
_LAST = 60  # steps for a leaf that no split helps


class Forest:
    """One tree per row; a row's bound is the least over the leaves of its tree.

    A tree is grown at its worst leaf: the free gate is split whose line above costs the bound most, and both children start
    from their parent's parameters. Leaves above 0 are let go, so that a row without leaves is proven positive.

    Arguments:
        dual: Bounds are computed with it.
        rows: Rows over its gates.
        columns: Only the first so many gates are read by the rows.
        joint: There is one tree, and a leaf is closed where some sum of the rows with weights at least 0 is above 0.

    References:
        Branch and Bound for Piecewise Linear Neural Network Verification, Bunel et al., 2020.
    """

    def __init__(self, dual: Dual, rows: Rows, columns: int, joint: bool = False) -> None:
        self.dual, self.rows, self.columns = dual, rows, columns
        self.joint, R = joint, 1 if joint else len(rows)
        self.weights = np.zeros((0, len(rows)))
        self.heaps: list[list[tuple[float, int]]] = [[] for _ in range(R)]
        self.stuck = np.full(R, np.inf)  # least bound of leaves that cannot be split
        self.ends: list[tuple[int, float, np.ndarray]] = []  # these leaves: row, bound, phases
        self.used, self.nodes = 0, 0
        self.free: list[int] = []  # places below `used` that hold no leaf
        self.P = np.zeros((0, columns), np.float32)
        self.S = np.zeros((0, columns), np.int8)
        self.split = np.zeros((0, _CANDIDATES), np.int64)

    @property
    def bound(self) -> Array:
        """The proven lower bound of every row; infinite where its tree is empty."""
        return np.minimum([heap[0][0] if heap else np.inf for heap in self.heaps], self.stuck)

    @property
    def promised(self) -> Array:
        """What the bounds look like while trees grow: here the proven ones."""
        return self.bound

    @property
    def leaves(self) -> int:
        """Leaves that can be split."""
        return sum(map(len, self.heaps))

    def plant(self, steps: int, which: IntArray | None = None, phases: np.ndarray | None = None) -> Array:
        """The roots, after so many steps, with phases `(columns,)` of gates that are held from the start; returns their minimizers."""
        which = np.arange(len(self.heaps)) if which is None else which
        P, S = self.dual.start(len(which), self.columns)
        if phases is not None:
            S = np.tile(phases, (len(S), 1))
            P[S != 0] = 0
        weights = np.full((1, len(self.rows)), 1 / len(self.rows)) if self.joint else None
        return self._grown(which, np.full(len(which), -np.inf), P, S, weights, steps)

    def _grown(
        self, which: IntArray, least: Array, P: Array, S: np.ndarray, weights: Array | None, steps: int
    ) -> Array:
        """Bound new leaves and hang up those that are not above 0."""
        found = self.dual.bound(self.rows if self.joint else self.rows[which], P, S, steps, weights)
        P, bound = found.P, np.maximum(found.bound, least)
        scores = self.dual.scores(found, S)
        if self.joint:
            self._polish(found, S, bound, scores)
        self.nodes += len(which)
        open_ = np.flatnonzero(bound <= 0)
        places, scores = self._places(len(open_)), scores[open_]
        split = _largest(scores, _CANDIDATES) if self.joint else scores.argmax(axis=1)[:, None]
        split = np.where(np.take_along_axis(scores, split, axis=1) > 0, split, -1)
        split = np.pad(split, ((0, 0), (0, _CANDIDATES - split.shape[1])), constant_values=-1)
        self.P[places], self.S[places] = P[open_], S[open_]
        if found.weights is not None:
            self.weights[places] = found.weights[open_]
        self.split[places] = split
        for i, place, gate in zip(open_, places, split[:, 0]):
            if gate < 0:
                self.free.append(int(place))
                self.stuck[which[i]] = min(self.stuck[which[i]], bound[i])
                self.ends.append((int(which[i]), float(bound[i]), S[i].copy()))
            else:
                heapq.heappush(self.heaps[which[i]], (float(bound[i]), int(place)))
        return found.x

    def _polish(self, found: Bounded, S: np.ndarray, bound: Array, scores: Array) -> None:
        """Leaves that no split helps are linear where they matter: what is open is how far their multipliers have converged."""
        ends = np.flatnonzero((bound <= 0) & (scores.max(axis=1, initial=0.0) <= 0))
        if len(ends):
            weights = None if found.weights is None else found.weights[ends]
            more = self.dual.bound(self.rows, found.P[ends], S[ends], _LAST, weights, rate=0.05, rate_fixed=0.05)
            bound[ends] = np.maximum(bound[ends], more.bound)
            found.P[ends], scores[ends] = more.P, self.dual.scores(more, S[ends])
            if found.weights is not None:
                found.weights[ends] = more.weights

    def _places(self, count: int) -> IntArray:
        """Places of new leaves: those of leaves that were split first."""
        more = count - len(self.free)
        if more > 0:
            if self.used + more > len(self.P):
                size = max(2 * len(self.P), self.used + more, 64)
                grow = lambda a: np.concatenate([a, np.zeros((size - len(a), *a.shape[1:]), a.dtype)])
                self.P, self.S, self.split = grow(self.P), grow(self.S), grow(self.split)
                self.weights = grow(self.weights) if self.joint else self.weights
            self.free.extend(range(self.used + more - 1, self.used - 1, -1))
            self.used += more
        return np.array([self.free.pop() for _ in range(count)], np.int64)

    def grow(
        self,
        rounds: int,
        steps: int,
        stop: float,
        width: int = 1,
        skip: np.ndarray | None = None,
        look_ahead: bool = False,
    ) -> Array:
        """So many rounds, each of which splits up to `width` worst leaves of every open row; returns the last minimizers."""
        x = np.zeros((0, len(self.dual.center)))
        for _ in range(rounds):
            if time.perf_counter() > stop:
                break
            which, places, least = [], [], []
            for r, heap in enumerate(self.heaps):
                if (skip is not None and skip[r]) or (self.stuck[r] <= 0 and not self.joint):
                    continue
                for _ in range(min(width, len(heap))):
                    bound, place = heapq.heappop(heap)
                    which.append(r)
                    places.append(place)
                    least.append(bound)
            if not which:
                break
            which, places, least = np.array(which), np.array(places), np.array(least)
            P, S, gates = self.P[places], self.S[places], self.split[places]
            weights = self.weights[places] if self.joint else None
            self.free.extend(places.tolist())
            tried = _CANDIDATES if self.nodes > _LARGE else _FEW
            gates = self._look_ahead(which, P, S, gates[:, :tried], weights) if look_ahead else gates[:, 0]
            P, S = _children(P, S, gates)
            twice = None if weights is None else np.tile(weights, (2, 1))
            x = self._grown(np.tile(which, 2), np.tile(least, 2), P, S, twice, steps)
        return x

    def _look_ahead(self, which: IntArray, P: Array, S: np.ndarray, gates: IntArray, weights: Array | None) -> IntArray:
        """Of each leaf's candidates the one whose children are bounded best with their parent's parameters (filtered smart branching)."""
        leaf, k = np.nonzero(gates >= 0)
        child_P, child_S = _children(P[leaf], S[leaf], gates[leaf, k])
        rows = (
            self.rows[np.tile(which[leaf], 2)] if weights is None else self.rows.weighed(np.tile(weights[leaf], (2, 1)))
        )
        bound = self.dual.improve(rows, child_P, child_S, 0)[1]
        on, off = bound[: len(leaf)], bound[len(leaf) :]
        value = np.full(gates.shape, -np.inf)
        value[leaf, k] = np.minimum(on, off) + 0.5 * np.maximum(on, off)
        return gates[np.arange(len(gates)), value.argmax(axis=1)]


def _children(P: Array, S: np.ndarray, gates: IntArray) -> tuple[Array, np.ndarray]:
    """Both children of every leaf: all that hold the gate on, then all that hold it off."""
    k = np.arange(len(gates))
    P = P.copy()
    P[k, gates] = 0.0
    on, off = S.copy(), S.copy()
    on[k, gates], off[k, gates] = 1, -1
    return np.tile(P, (2, 1)), np.concatenate([on, off])


def _largest(scores: Array, count: int) -> IntArray:
    """The numbers of the largest entries of each row, largest first."""
    if scores.shape[1] <= count:
        return np.argsort(-scores, axis=1)
    some = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    return np.take_along_axis(some, np.argsort(-np.take_along_axis(scores, some, axis=1), axis=1), axis=1)
