"""One-dimensional pieces as `Cells`, by the sweep over all breakpoints where it is certain."""

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from relukit._types import Array, IntArray
from relukit.geometry._cells import Cells
from relukit.geometry._form import Form, gates_at
from relukit.geometry._rational import ALWAYS
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
    if form.rounded or net.oracle[ALWAYS] or len(net.skip) or np.any(net.weight_at[1:] < 0) or not form.hinges:
        return None
    from relukit.geometry._sweep import DONE, FULL, pieces_between, sweep

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
    R = count - 1
    if why != DONE or (limit is not None and limit < R):
        return None
    words, I, S = len(pattern), np.int64, np.int32
    patterns, points, entries = np.empty((R, words), np.uint64), np.empty((count, 1)), np.empty(count, I)
    masks, pairs, facets = np.empty((1, 2 * R), np.uint64), np.empty(2 * R, S), np.empty(2 * R, S)
    walls, neighbors = np.empty(2 * R, I), np.empty(2 * R, I)
    pieces_between(
        t[0], label[0], count, pattern, form.hinges, points, entries, masks, pairs, facets, walls, neighbors, patterns
    )
    if sum(a.nbytes for a in arrays) < _KEPT:
        kept.append(arrays)
    packed = patterns.view(np.uint8)[:, : -(-form.hinges // 8)]
    return Cells(
        points, entries, pairs, masks, entries, walls, neighbors, packed, form.hinges, form.owners, True, 0,
        True, 0, np.array([lower], float), np.array([upper], float), None, form, Raw(patterns, facets),
        (lambda p: gates_at(form, p)),
    )  # fmt: skip


def _arrays(form: Form, room: int) -> tuple[Any, ...]:
    """What a sweep over up to `room` breakpoints works in; fresh memory costs time at its first touch."""
    width = -(-int(form.net.size.max()) // 16) * 16
    I = np.int64
    return (
        np.empty((2, room + 8)), np.empty((2, room + 8)), np.empty((2, room + 8), I), np.empty((2, room + 8)), np.zeros((room + 8, width)),
        np.zeros((room + 8, width)), np.empty((room // 8 + 2) * (width + 1) + room, I), room_for((room + 16) * width), _cleared(16 * width),
        np.empty(width), np.empty(width + 8, I), np.empty(room + 16, I), np.arange(room + 8), _across(form, width),
        np.zeros(-(-form.hinges // 64), np.uint64),
    )  # fmt: skip


def _cleared(count: int) -> Array:
    room = room_for(count)
    room[:] = 0.0
    return room


def _across(form: Form, width: int) -> Array:
    """Rows of the last stage's weights (the network's own are columns: what each hinge adds), as wide as the values."""
    net, last = form.net, len(form.net.size) - 2
    if last < 1:
        return np.empty(0)
    n, m, at = int(net.size[last - 1]), int(net.size[last]), int(net.weight_at[last])
    rows = _cleared(m * width)
    rows[: m * width].reshape(m, width)[:, :n] = net.weight[at : at + n * m].reshape(n, m).T
    return rows
