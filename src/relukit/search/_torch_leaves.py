"""The leaves of a `DeviceForest`: their state on the device, and their certificates by threads on the CPU."""

import time
from concurrent.futures import Future
from typing import Any

import numpy as np
import torch
from torch import Tensor

from relukit._types import Array
from relukit.search._torch_dual import PART, Proposed

CANDIDATES = 6  # gates that are tried where splits are chosen by looking at both children
_WAITING = 64  # parts per thread that wait for their certificate at most


class Leaves:
    """Arrays over leaves, which grow, and the leaves that are closed or at an end.

    Arguments:
        dual, rows, columns, joint: As for `DeviceForest`.
    """

    def __init__(self, dual: Any, rows: Any, columns: int, joint: bool) -> None:
        self.dual, self.rows, self.columns, self.joint = dual, rows, columns, joint
        self.there, self.place = dual.form.rows(rows), dual.device.place
        self.trees = 1 if joint else len(rows)
        self.nodes, self.used = 0, 0
        self.ends: list[tuple[int, float, np.ndarray]] = []  # leaves that no split helps: row, bound, phases
        self.stuck = np.full(self.trees, np.inf)
        self.safe = np.full(self.trees, -np.inf)  # certified at the roots
        self.closed: list[tuple[Tensor, ...]] = []  # leaves to be certified: P, S, weights, splits
        self.pending: list[tuple[Future, tuple]] = []  # those that are
        new = lambda *shape, dtype=dual.device.dtype: torch.zeros(*shape, dtype=dtype, device=self.place)
        self.P, self.S = new(0, columns), new(0, columns, dtype=torch.int8)
        self.value, self.row = new(0), new(0, dtype=torch.long)
        self.split = new(0, CANDIDATES, dtype=torch.long)
        self.weights = new(0, len(rows) if joint else 0)
        # 0 unused, 1 open, 2 closed or being certified; 3 no split helps, 4 the same after many steps
        self.state = new(0, dtype=torch.int8)

    # -- the store ---------------------------------------------------------------------------------------------------

    def _store(
        self, kept: Tensor, free: Tensor | None, row: Tensor, found: Proposed, S: Tensor, value: Tensor, split: Tensor,
        state: Tensor,
    ) -> None:  # fmt: skip
        reused = free[: len(kept)] if free is not None else kept[:0]
        self.state[reused] = 1  # taken, before others are looked for
        places = torch.cat([reused, self._places(len(kept) - len(reused))])
        self.P[places], self.S[places], self.row[places] = found.P[kept], S[kept], row[kept]
        self.value[places], self.split[places], self.state[places] = value[kept], split[kept], state[kept]
        if self.joint:
            self.weights[places] = found.weights[kept]

    def _places(self, count: int) -> Tensor:
        """Unused places, the arrays made longer where needed."""
        if count and self.used + count > len(self.P):
            gone = (self.state[: self.used] == 0).nonzero()[:, 0][:count] if self.joint else self.row[:0]
            if len(gone) == count:
                return gone
            size = max(2 * len(self.P), self.used + count, 1024)
            grow = lambda a: torch.cat([a, a.new_zeros(size - len(a), *a.shape[1:])])
            names = ("P", "S", "value", "row", "split", "weights", "state")
            for name in names:
                setattr(self, name, grow(getattr(self, name)))
        self.used += count
        return torch.arange(self.used - count, self.used, device=self.place)

    def _home(self, k: Tensor) -> tuple[Array, np.ndarray]:
        return self.P[k].cpu().numpy().astype(np.float32), self.S[k].cpu().numpy()

    # -- certificates ------------------------------------------------------------------------------------------------

    def _close(self, k: Tensor, found: Proposed, S: Tensor, split: Tensor) -> None:
        """Leaves that the device sees closed; a split of -2 marks those that had their many steps."""
        assert found.weights is not None
        self.closed.append((found.P[k], S[k], found.weights[k], split[k]))
        held = sum(P.numel() * (P.element_size() + 1) for P, *_ in self.closed)
        if held > self.dual.device.memory:
            self._certify_closed()

    def _certify_closed(self) -> None:
        """Ask the CPU about the leaves that are closed; its answers are read by `_collect`. Once time is up the rest stays uncertified."""
        P, S, weights, splits = (torch.cat(part).cpu().numpy() for part in zip(*self.closed))
        P, weights = P.astype(np.float32), weights.astype(np.float64)
        self.closed = []
        for at in range(0, len(P), PART):
            if time.perf_counter() > self.dual.stop:
                self.closed = [tuple(torch.as_tensor(a[at:], device=self.place) for a in (P, S, weights, splits))]
                return
            part = slice(at, at + PART)
            future = self.dual.later(self.rows.weighed(weights[part]), P[part], S[part])
            self.pending.append((future, (P[part], S[part], weights[part], splits[part])))
            while len(self.pending) > _WAITING * self.dual.device.workers:
                self._collect()

    def _collect(self) -> None:
        """The oldest part's certificates; leaves that they do not close are open again."""
        future, leaves = self.pending.pop(0)
        self._reopen(future.result().bound, leaves)

    def _reopen(self, bound: Array, leaves: tuple) -> None:
        failed = np.flatnonzero(~(bound > 0))
        if not len(failed):
            return
        P, S, weights, split = (torch.as_tensor(a[failed], device=self.place) for a in leaves)
        put = self.dual.form.put
        value = put(np.minimum(bound[failed], 0.0))
        found = Proposed(put(P.cpu().numpy()), put(weights.cpu().numpy()), value, value, value)
        state = torch.where(split[:, 0] >= 0, 1, 2 - split[:, 0]).to(torch.int8)  # 3 for -1, 4 for -2
        kept = torch.arange(len(failed), device=self.place)
        self._store(kept, None, torch.zeros_like(kept), found, S, value, split, state)
        last = state == 4
        self._stick(last, torch.zeros_like(kept), value)
        self.ends += [(0, v, s) for v, s in zip(value[last].tolist(), S[last].cpu().numpy())]

    def _stick(self, ends: Tensor, row: Tensor, value: Tensor) -> None:
        """Rows with a leaf that no split helps are left as they are."""
        for r, v in zip(row[ends].tolist(), value[ends].tolist()):
            self.stuck[r] = min(self.stuck[r], v)
