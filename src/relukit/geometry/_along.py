"""One-dimensional pieces as `Cells`, by the sweep over all breakpoints where it is certain."""

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from relukit._types import IntArray
from relukit.geometry._cells import Cells
from relukit.geometry._form import Form, gates_at
from relukit.geometry._room import room_for

_ROOM: WeakKeyDictionary[Form, list[tuple[Any, ...]]] = WeakKeyDictionary()  # arrays that no sweep uses at the moment
_KEPT = 64 << 20  # bytes of them that a form keeps


@dataclass(frozen=True, eq=False)
class Raw:
    """What `Cells` reads of a walk."""

    patterns: Any
    facets: IntArray


def cells_along(form: Form, lower: float, upper: float, limit: int | None = None) -> Cells | None:
    """All pieces between two ends, in order; None where the walk has to decide (see `_sweep`), or at the limit."""
    net = form.net
    if len(net.skip) or np.any(net.weight_at[1:] < 0) or not form.hinges:
        return None
    from relukit.geometry._sweep import DONE, FULL, patterns_between, sweep

    room, kept = form.hinges + 64, _ROOM.setdefault(form, [])
    while True:
        try:
            arrays = kept.pop()
        except IndexError:
            arrays = _arrays(form, room)
        t, label, pattern = arrays[0], arrays[2], arrays[-1]
        pattern[:] = 0
        why, count = sweep(net, float(lower), float(upper), *arrays)
        if why != FULL:
            break
        room = 4 * t.shape[1]
    if sum(a.nbytes for a in arrays) < _KEPT:
        t, label, pattern = t.copy(), label[:1].copy(), pattern.copy()
        kept.append(arrays)
    if why != DONE or (limit is not None and count - 1 > limit):
        return None
    R = count - 1
    patterns = np.empty((R, len(pattern)), np.uint64)
    patterns_between(label[0], count, pattern, patterns)
    entries, pairs = 2 * np.arange(count), np.repeat(np.arange(count, dtype=np.int32), 2)[1:-1]
    facets = label[0][pairs].astype(np.int32)
    neighbors = np.stack([np.arange(-1, R - 1), np.arange(1, count)], axis=1).ravel()
    neighbors[-1] = -1
    walls = np.where(facets < 0, form.hinges - 1 - facets, facets)
    masks = np.tile(np.array([[1, 2]], np.uint64), R)
    packed = patterns.view(np.uint8)[:, : -(-form.hinges // 8)]
    return Cells(
        t[0, :count, None], entries, pairs, masks, entries, walls, neighbors, packed, form.hinges, form.owners, True, 0,
        not form.rewritten, 0, np.array([lower], float), np.array([upper], float), None, form, Raw(patterns, facets),
        (lambda p: gates_at(form, p)),
    )  # fmt: skip


def _arrays(form: Form, room: int) -> tuple[Any, ...]:
    """What a sweep over up to `room` breakpoints works in; fresh memory costs time at its first touch."""
    width = -(-int(form.net.size.max()) // 16) * 16
    values = [np.empty((room + 8, width)) for _ in range(3)]
    return (
        np.empty((2, room)), np.empty((2, room)), np.empty((2, room), np.int64), np.empty((2, room)), *values,
        np.empty((room // 8 + 2) * (width + 1), np.int64), room_for(16 * width), np.empty(width), np.zeros(-(-form.hinges // 64), np.uint64),
    )  # fmt: skip
