"""`Forest` on a torch device: thousands of leaves are split at once, and their state stays there.

The device proposes which leaves are closed, with which parameters; a leaf counts as closed once threads on the CPU have certified it,
in double precision with error terms. They are asked when a tree has no open leaf left (a search that is given up needs no
certificates), and a leaf that they do not confirm is open again.
"""

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from relukit._types import Array, IntArray
from relukit.search._torch_device import exact_products
from relukit.search._torch_leaves import CANDIDATES, Leaves

_LAST = 200  # steps for leaves that no split helps
_POINTS = 16  # minimizers handed back from a round: those where the rows are lowest
_GAIN = 1e-6  # a row's new bound is worth certifying where it rises by more than this share


class DeviceForest(Leaves):
    """One tree per row, or one for all rows; see `Forest`, whose place it takes.

    Arguments:
        dual: A `DeviceDual` or `DeviceGraphDual`.
        rows: Rows over its gates.
        columns: Only the first so many gates are read by the rows.
        joint: There is one tree, and a leaf is closed where some sum of the rows with weights at least 0 is above 0.
    """

    def __init__(self, dual: Any, rows: Any, columns: int, joint: bool = False) -> None:
        super().__init__(dual, rows, columns, joint)

    # -- what is known -----------------------------------------------------------------------------------------------

    @property
    def leaves(self) -> int:
        """Leaves that can be split, that more steps may close, or that wait for their certificate."""
        return int((self.state[: self.used] % 2 == 1).sum()) + len(self.pending) + len(self.closed)

    @property
    def promised(self) -> Array:
        """What the device says about each tree: the least over its leaves, infinite where none is open."""
        low = torch.full((self.trees,), np.inf, dtype=self.value.dtype, device=self.place)
        state = self.state[: self.used]
        mine = ((state == 1) | (state > 2)).nonzero()[:, 0]
        low = low.scatter_reduce(0, self.row[mine], self.value[mine], "amin")
        if self.pending or self.closed:
            low = low.clamp(max=0)
        return low.cpu().numpy().astype(np.float64)

    @property
    def bound(self) -> Array:
        """The certified lower bound of every tree; infinite where all its leaves are certified to be positive."""
        if self.joint:
            # An end stays in `stuck` until all ends are proven (see `_Many._finish`).
            done = not self.leaves and self.stuck[0] > 0
            return np.array([np.inf]) if done else np.minimum(self.safe, self.stuck)
        return self._certified()

    def _certified(self) -> Array:
        """Leaves of all trees whose bound rose, certified now."""
        promised = self.promised
        low = np.maximum(self.safe, -1e300)  # minus infinity where time was up at the root
        gained = promised > low + _GAIN * np.maximum(np.abs(low), 1e-3)
        wanted = torch.as_tensor(gained, device=self.place)
        k = (wanted[self.row[: self.used]] & (self.state[: self.used] > 0)).nonzero()[:, 0]
        which = self.row[k].cpu().numpy()
        found = self.dual.certify(self.rows[which], *self._home(k)).bound
        bound = np.where(gained, np.inf, self.safe)
        np.minimum.at(bound, which, np.where(found > 0, np.inf, found))
        return np.maximum(bound, self.safe)

    # -- growing -----------------------------------------------------------------------------------------------------

    def plant(self, steps: int, which: IntArray | None = None) -> Array:
        """The roots, after so many steps, certified; returns their minimizers."""
        assert which is None
        P, S = self.dual.start(self.trees, self.columns)
        weights = np.full((1, len(self.rows)), 1 / len(self.rows)) if self.joint else None
        found = self.dual.bound(self.rows, P, S, steps, weights)
        self.safe = found.bound.copy()
        put = self.dual.form.put
        row = torch.arange(self.trees, device=self.place)
        w = None if weights is None else put(found.weights)
        least = put(np.full(self.trees, -np.inf))
        with exact_products():
            self._grown(row, put(found.P), torch.as_tensor(S, device=self.place), w, least, 0, new=True)
        return found.x

    def grow(
        self, rounds: int, steps: int, stop: float, width: int = 1, skip: np.ndarray | None = None,
        look_ahead: bool = False,
    ) -> Array:  # fmt: skip
        """So many rounds; each splits worst leaves, as many as fill a batch. Returns the minimizers worth a try."""
        x = np.zeros((0, len(self.dual.center)))
        for _ in range(rounds):
            if time.perf_counter() > stop:
                break
            places = self._worst(skip)
            if len(places):
                with exact_products():
                    D = self._round(places, steps, look_ahead)
                if self.joint and len(D):
                    x = np.tile(self.dual.center, (len(D), 1))
                    x[:, self.dual.moving] += D[:, self.dual.form.steps].cpu().numpy()
            elif not self.joint:
                break
            if self.joint:
                self._settle(stop)
        return x

    def _settle(self, stop: float) -> None:
        """Where no leaf is open: more steps for those that no split helps, then certificates for all that are closed."""
        if (self.state[: self.used] == 1).any() or (self._polish() and (self.state[: self.used] == 1).any()):
            return
        if self.closed:
            self._certify_closed()
        while self.pending and time.perf_counter() < stop:
            self._collect()

    def _worst(self, skip: np.ndarray | None) -> Tensor:
        """The open leaves to split next: of every tree that goes on the worst, as many each as fill the batch."""
        going = self.state[: self.used] == 1
        if self.joint:
            open_ = going.nonzero()[:, 0]
            k = min(len(open_), self.dual.width)
            # More leaves than memory is meant for: those nearest to being closed come first, so that there will be fewer.
            full = len(open_) * (self.P.element_size() + 1) * self.columns > self.dual.device.store
            return open_ if k == len(open_) else open_[self.value[open_].topk(k, largest=full).indices]
        held = torch.as_tensor(self.stuck <= 0 if skip is None else skip | (self.stuck <= 0), device=self.place)
        open_ = (going & ~held[self.row[: self.used]]).nonzero()[:, 0]
        if not len(open_):
            return open_
        order = open_[self.value[open_].argsort(stable=True)]
        order = order[self.row[order].argsort(stable=True)]
        row, counts = self.row[order].unique_consecutive(return_counts=True)
        first = counts.cumsum(0) - counts
        rank = torch.arange(len(order), device=self.place) - first.repeat_interleave(counts)
        return order[rank < max(self.dual.device.batch // (2 * len(row)), 1)]

    def _round(self, places: Tensor, steps: int, look_ahead: bool) -> Tensor:
        P, S, row, value = self.P[places], self.S[places], self.row[places], self.value[places]
        weights = self.weights[places] if self.joint else None
        gates = self.split[places, 0]
        if look_ahead:
            gates = self._look_ahead(P, S, row, weights, self.split[places])
        P, S = _children(P, S, gates)
        self.state[places] = 0
        twice = lambda a: torch.cat([a, a])
        w = None if weights is None else twice(weights)
        return self._grown(twice(row), P, S, w, twice(value), steps, places)

    def _look_ahead(self, P: Tensor, S: Tensor, row: Tensor, weights: Tensor | None, split: Tensor) -> Tensor:
        """Of each leaf's candidates the one whose children are bounded best with their parent's parameters."""
        leaf, k = (split >= 0).nonzero(as_tuple=True)
        score = torch.full(split.shape, -np.inf, dtype=P.dtype, device=self.place)
        part = max(self.dual.width, 1)
        for a in range(0, len(leaf), part):
            mine, at = leaf[a : a + part], k[a : a + part]
            child_P, child_S = _children(P[mine], S[mine], split[mine, at])
            w = None if weights is None else torch.cat([weights[mine]] * 2)
            found = self.dual.ascend(self.there, torch.cat([row[mine]] * 2), child_P, child_S, 0, w).value
            on, off = found[: len(mine)], found[len(mine) :]
            score[mine, at] = torch.minimum(on, off) + 0.5 * torch.maximum(on, off)
        return split.gather(1, score.argmax(1, keepdim=True))[:, 0]

    def _grown(
        self, row: Tensor, P: Tensor, S: Tensor, weights: Tensor | None, least: Tensor, steps: int,
        free: Tensor | None = None, new: bool = False,
    ) -> Tensor:  # fmt: skip
        """Bound new leaves and store them, the first of them where their parents were; returns minimizers of open ones."""
        found = self.dual.ascend(self.there, row, P, S, steps, weights)
        self.nodes += 0 if new else len(P)
        value = torch.maximum(found.value, least)
        value = torch.where(value.isnan(), torch.full_like(value, -np.inf), value)
        open_ = value <= 0
        split = self._splits(found.coefficients, S)
        ends = open_ & (split[:, 0] < 0)
        state = torch.where(open_, torch.where(ends, 3, 1), 2).to(torch.int8)
        kept = torch.arange(len(P), device=self.place) if not self.joint else open_.nonzero()[:, 0]
        self._store(kept, free, row, found, S, value, split, state)
        if not self.joint:
            self._stick(ends, row, value)
            return found.D[:0]
        closed = (~open_).nonzero()[:, 0]
        if len(closed):
            self._close(closed, found, S, split)
        lowest = kept[found.value[kept].topk(min(_POINTS, len(kept)), largest=False).indices]
        return found.D[lowest]

    def _splits(self, coefficients: Tensor, S: Tensor) -> Tensor:
        """The gates whose lines above cost the bound most, -1 where there are fewer."""
        split = torch.full((len(S), CANDIDATES), -1, dtype=torch.long, device=self.place)
        count = min(CANDIDATES, self.columns)
        if count:
            scores = torch.where(S == 0, -coefficients.clamp(max=0) * self.dual.lines[1][: self.columns], 0.0)
            top = scores.topk(count, dim=1)
            split[:, :count] = torch.where(top.values > 0, top.indices, -1)
        return split

    def _polish(self) -> bool:
        """Leaves that no split helps are linear where they matter: what is open is how far their multipliers have converged.

        They get many steps, all at once. What then is still open and cannot be split is an end, for a linear program. Returns whether
        there were any.
        """
        places = (self.state[: self.used] == 3).nonzero()[:, 0]
        if not len(places):
            return False
        S, row, w = self.S[places], self.row[places], self.weights[places]
        with exact_products():
            found = self.dual.ascend(self.there, row, self.P[places], S, _LAST, w, rate=0.1, rate_fixed=0.1, decay=0.97)
        value = torch.maximum(found.value, self.value[places])
        split = self._splits(found.coefficients, S)
        open_ = value <= 0
        state = torch.where(split[:, 0] < 0, 4, 1).to(torch.int8)
        self.P[places], self.weights[places] = found.P, found.weights
        self.value[places], self.split[places] = value, split
        self.state[places] = torch.where(open_, state, 0).to(torch.int8)
        closed = (~open_).nonzero()[:, 0]
        if len(closed):
            self._close(closed, found, S, split.masked_fill(split[:, :1] < 0, -2))
        last = open_ & (state == 4)
        self._stick(last, row, value)
        for r, v, s in zip(row[last].tolist(), value[last].tolist(), S[last].cpu().numpy()):
            self.ends.append((r, v, s))
        return True


def _children(P: Tensor, S: Tensor, gates: Tensor) -> tuple[Tensor, Tensor]:
    """Both children of every leaf: all that hold the gate on, then all that hold it off."""
    P = P.scatter(1, gates[:, None], 0.0)
    on, off = S.scatter(1, gates[:, None], 1), S.scatter(1, gates[:, None], -1)
    return torch.cat([P, P]), torch.cat([on, off])
