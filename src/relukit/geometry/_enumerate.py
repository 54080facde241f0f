"""Running a compiled walk: room is made and grown here, progress told, and Ctrl-C answered between slices."""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from relukit._errors import UnsupportedOperation
from relukit._types import Array
from relukit.geometry._form import Form

_SLICE = 50_000  # cells between two calls of `on_progress`

Progress = Callable[[int], Any]


def memory_full(found: Any) -> bool:
    """Whether arrays four times as large, the next ones, would not fit in this machine's memory."""
    import os

    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on this system
        memory = 8 << 30
    return 4 * sum(array.nbytes for array in found) > memory


def stopped(found: Any, walk: Any, limit: int | None) -> BaseException:
    """What to raise for an unfinished walk: the limit, no more memory, or Ctrl-C."""
    from relukit.geometry._walk import CELLS

    count = int(walk.counts[CELLS])
    if limit is not None and count >= limit:
        return UnsupportedOperation(f"more than {limit} pieces: raise limit=, take a smaller domain, or stream them")
    if memory_full(found):
        size = sum(array.nbytes for array in found) / 1e9
        return UnsupportedOperation(
            f"too many pieces for memory: {count:,} so far fill {size:.1f} GB; take a smaller domain, partial=True, or geometry.stream"
        )
    return KeyboardInterrupt()


def planar(
    form: Form, lower: Array, upper: Array, limit: int | None, on_progress: Progress | None, threads: int = 1
) -> tuple[Any, Any, bool]:
    """Polygons of a two-dimensional form: the finished arrays, the walk, and whether all were found."""
    from relukit.geometry._walk import CELLS, INDICES, VERTICES, walk_of

    if threads > 1:
        from relukit.geometry._threads import polygons_on_threads

        together = polygons_on_threads(form, lower, upper, limit, on_progress, threads)
        if together is not None:
            return together
    walk = walk_of(form, lower, upper)
    found, walk, complete = walk_on(form, start_polygons(form, walk, lower, upper), walk, limit, on_progress)
    if complete:
        _ROOM[form] = tuple(int(walk.counts[k]) for k in (CELLS, VERTICES, INDICES))
    return found, walk, complete


def walk_on(
    form: Form, found: Any, walk: Any, limit: int | None, on_progress: Progress | None
) -> tuple[Any, Any, bool]:
    """Walk until no polygon waits, with more room where it runs out: found, walk, and whether it got there."""
    from relukit.geometry._planar import walk_polygons
    from relukit.geometry._walk import BUDGET, CELLS, DONE

    while True:
        stop = walk.counts[CELLS] + _SLICE
        stop = stop if limit is None else min(stop, limit)
        try:
            why = walk_polygons(form.net, walk, found, stop)
            if on_progress is not None:
                on_progress(int(walk.counts[CELLS]))
        except KeyboardInterrupt:
            return found, walk, False
        if why == DONE:
            return found, walk, True
        if why == BUDGET:
            if limit is not None and walk.counts[CELLS] >= limit:
                return found, walk, False
            continue
        if memory_full(found):
            return found, walk, False
        found, walk = _grown(found, walk, why)


_ROOM: WeakKeyDictionary[Form, tuple[int, int, int]] = WeakKeyDictionary()  # what the last walk needed


def start_polygons(form: Form, walk: Any, lower: Array, upper: Array) -> Any:
    from relukit.geometry._planar import Polygons
    from relukit.geometry._walk import STACK, VERTICES

    corners, depth, I, S = 32, min(form.hinges + 4, 128), np.int64, np.int32
    cells, vertices, entries = _ROOM.get(form, (1024, 2048, 8192))
    cells, vertices, entries, flat = cells + 1, vertices + 2, entries + corners, 8 * depth + 3 * corners
    words = len(walk.pattern)
    real = lambda *shape: np.empty(shape)
    found = Polygons(
        np.empty((depth, 5), I), np.empty((depth, words), np.uint64), real(depth, 2),
        real(flat), real(flat), real(flat), np.empty(flat, I), np.empty(flat, I),
        real(vertices), real(vertices), real(vertices), np.empty(vertices, S), np.empty(vertices, S), np.empty(vertices, S),
        np.zeros(cells + 1, I), np.empty(entries, S), np.empty(entries, S), np.empty((cells, words), np.uint64),
        real(cells, 3 * form.outputs), np.zeros(2), real(corners), np.empty(corners, I), np.empty(2, I), real(2, 2),
    )  # fmt: skip
    (a, b), (c, d) = lower, upper
    found.x[:4], found.y[:4], found.d[:4], found.v[:4] = (a, c, c, a), (b, b, d, d), 0.0, range(4)
    found.label[:4] = -3, -2, -4, -1  # y = lower, x = upper, y = upper, x = lower
    found.vx[:4], found.vy[:4], found.vd[:4], found.head[:4] = found.x[:4], found.y[:4], 0.0, -1
    found.meta[0] = -1, 0, 4, 0, 0
    found.pattern[0] = 0
    found.bound[0] = np.abs(found.x[:4]).max() + np.abs(found.y[:4]).max(), 0.0
    n = 3 * int(form.net.size[0])
    walk.rows[:n] = form.net.direct[:n]
    walk.counts[STACK], walk.counts[VERTICES] = 1, 4
    return found


def longer(array: Array, rows: int) -> Array:
    """The array with more rows, not set."""
    out = np.empty((rows,) + array.shape[1:], array.dtype)
    out[: len(array)] = array
    return out


def _grown(found: Any, walk: Any, why: int) -> tuple[Any, Any]:
    """More room where it ran out."""
    from relukit.geometry._walk import CELLS, CORNERS_FULL, INDICES, STACK_FULL, VERTICES_FULL

    more = lambda size, *names: found._replace(**{n: longer(getattr(found, n), size) for n in names})
    corners = len(found.value)
    if why == STACK_FULL:
        found = more(2 * len(found.meta), "meta", "pattern", "bound")
        found = more(2 * len(found.x), "x", "y", "d", "v", "label")
        walk = walk._replace(rows=longer(walk.rows, 2 * len(walk.rows)))
    if why == CORNERS_FULL:
        found = more(2 * corners, "value", "sign")
        found = more(len(found.x) + 4 * corners, "x", "y", "d", "v", "label")
    if why == VERTICES_FULL:
        found = more(4 * len(found.vx), "vx", "vy", "vd", "other", "head", "after")
    corners = len(found.value)
    if walk.counts[CELLS] == len(found.patterns):
        cells = 4 * len(found.patterns)
        found = more(cells + 1, "offsets")
        found = more(cells, "patterns", "maps")
    if walk.counts[INDICES] + corners > len(found.indices):
        found = more(4 * len(found.indices) + 16 * corners, "indices", "labels")
    return found, walk
