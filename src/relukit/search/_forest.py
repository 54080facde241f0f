"""Branch and bound over gates for many rows at once: every row has its own tree, and all trees grow in one batch."""

import heapq
import time

import numpy as np

from relukit._types import Array, IntArray
from relukit.bounds._dual import Dual, Rows

_CANDIDATES = 6  # gates that are tried where splits are chosen by looking at both children


class Forest:
    """One tree per row; a row's bound is the least over the leaves of its tree.

    A tree is grown at its worst leaf: the free gate is split whose line above costs the bound most, and both children start
    from their parent's parameters. Leaves above 0 are let go, so that a row without leaves is proven positive.

    Arguments:
        dual: Bounds are computed with it.
        rows: Rows over its gates.
        columns: Only the first so many gates are read by the rows.

    References:
        Branch and Bound for Piecewise Linear Neural Network Verification, Bunel et al., 2020.
    """

    def __init__(self, dual: Dual, rows: Rows, columns: int) -> None:
        self.dual, self.rows, self.columns = dual, rows, columns
        R = len(rows)
        self.heaps: list[list[tuple[float, int]]] = [[] for _ in range(R)]
        self.stuck = np.full(R, np.inf)  # least bound of leaves that cannot be split
        self.ends: list[tuple[int, float, np.ndarray]] = []  # these leaves: row, bound, phases
        self.used, self.nodes = 0, 0
        self.P = np.zeros((0, columns), np.float32)
        self.S = np.zeros((0, columns), np.int8)
        self.split = np.zeros((0, _CANDIDATES), np.int64)

    @property
    def bound(self) -> Array:
        """The proven lower bound of every row; infinite where its tree is empty."""
        return np.minimum([heap[0][0] if heap else np.inf for heap in self.heaps], self.stuck)

    def plant(self, steps: int, which: IntArray | None = None) -> Array:
        """The roots, after so many steps; returns their minimizers."""
        which = np.arange(len(self.rows)) if which is None else which
        P, S = self.dual.start(len(which), self.columns)
        return self._grown(which, np.full(len(which), -np.inf), P, S, steps)

    def _grown(self, which: IntArray, least: Array, P: Array, S: np.ndarray, steps: int) -> Array:
        """Bound new leaves and hang up those that are not above 0."""
        rows = self.rows[which]
        P, _, _ = self.dual.improve(rows, P, S, steps)
        found = self.dual.certify(rows, P, S)
        bound = np.maximum(found.bound, least)
        self.nodes += len(which)
        open_ = np.flatnonzero(bound <= 0)
        places = self._places(len(open_))
        scores = self.dual.scores(found, S)[open_]
        split = np.argsort(-scores, axis=1)[:, :_CANDIDATES] if len(self.rows) == 1 else scores.argmax(axis=1)[:, None]
        split = np.where(np.take_along_axis(scores, split, axis=1) > 0, split, -1)
        self.P[places], self.S[places] = P[open_], S[open_]
        self.split[places] = np.pad(split, ((0, 0), (0, _CANDIDATES - split.shape[1])), constant_values=-1)
        for i, place, gate in zip(open_, places, split[:, 0]):
            if gate < 0:
                self.stuck[which[i]] = min(self.stuck[which[i]], bound[i])
                self.ends.append((int(which[i]), float(bound[i]), S[i].copy()))
            else:
                heapq.heappush(self.heaps[which[i]], (float(bound[i]), int(place)))
        return found.x

    def _places(self, count: int) -> IntArray:
        if self.used + count > len(self.P):
            size = max(2 * len(self.P), self.used + count, 64)
            grow = lambda a: np.concatenate([a, np.zeros((size - len(a), *a.shape[1:]), a.dtype)])
            self.P, self.S, self.split = grow(self.P), grow(self.S), grow(self.split)
        self.used += count
        return np.arange(self.used - count, self.used)

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
                if (skip is not None and skip[r]) or self.stuck[r] <= 0:
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
            gates = self._look_ahead(which, P, S, gates) if look_ahead else gates[:, 0]
            P, S = _children(P, S, gates)
            x = self._grown(np.tile(which, 2), np.tile(least, 2), P, S, steps)
        return x

    def _look_ahead(self, which: IntArray, P: Array, S: np.ndarray, gates: IntArray) -> IntArray:
        """Of each leaf's candidates the one whose children are bounded best with their parent's parameters (filtered smart branching)."""
        leaf, k = np.nonzero(gates >= 0)
        child_P, child_S = _children(P[leaf], S[leaf], gates[leaf, k])
        _, bound, _ = self.dual.improve(self.rows[np.tile(which[leaf], 2)], child_P, child_S, 0)
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
