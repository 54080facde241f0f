"""Running a compiled walk: room is made and grown here, progress told, and Ctrl-C answered between slices."""

from collections.abc import Callable
from typing import Any

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
    form: Form, lower: Array, upper: Array, limit: int | None, on_progress: Progress | None
) -> tuple[Any, Any, bool]:
    """Polygons of a two-dimensional form: the finished arrays, the walk, and whether all were found."""
    from relukit.geometry._planar import walk_polygons
    from relukit.geometry._walk import BUDGET, CELLS, DONE, walk_of

    walk = walk_of(form, lower, upper)
    found = _start(form, walk, lower, upper)
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
        found = _grown(form, found, walk, why)


def _start(form: Form, walk: Any, lower: Array, upper: Array) -> Any:
    from relukit.geometry._planar import Polygons
    from relukit.geometry._walk import STACK, VERTICES

    corners, depth, cells, vertices = 32, min(form.hinges + 4, 128), 1024, 2048
    wide = 3 * int(form.net.size.max())
    words = len(walk.pattern)
    found = Polygons(
        np.empty((depth, 3), np.int64), np.empty((depth, corners)), np.empty((depth, corners)), np.empty((depth, corners)),
        np.empty((depth, corners), np.int64), np.empty((depth, corners), np.int64), np.empty((depth, words), np.uint64),
        np.empty((depth, wide)), np.empty(vertices), np.empty(vertices), np.empty(vertices), np.empty(vertices, np.int64),
        np.zeros(2 * vertices, np.int64), np.zeros(cells + 1, np.int64), np.empty(8 * cells, np.int64),
        np.empty(8 * cells, np.int64), np.empty((cells, words), np.uint64), np.empty((cells, 3 * form.outputs)), np.zeros(2),
        np.empty((4, corners)), np.empty((6, corners), np.int64), np.empty((2, 2)),
    )  # fmt: skip
    (a, b), (c, d) = lower, upper
    xs, ys = np.array([a, c, c, a]), np.array([b, b, d, d])
    for place, value in ((found.x, xs), (found.y, ys), (found.d, 0.0), (found.v, np.arange(4))):
        place[0, :4] = value
    found.label[0, :4] = [-3, -2, -4, -1]  # y = lower, x = upper, y = upper, x = lower
    found.vx[:4], found.vy[:4], found.vd[:4], found.vkey[:4] = xs, ys, 0.0, -1
    found.meta[0] = -1, 0, 4
    found.pattern[0] = 0
    n = 3 * int(form.net.size[0])
    found.carry[0, :n] = form.net.direct[:n]
    walk.counts[STACK], walk.counts[VERTICES] = 1, 4
    return found


def _longer(array: Array, rows: int, fill: Any = None) -> Array:
    out = (
        np.empty((rows,) + array.shape[1:], array.dtype)
        if fill is None
        else np.full((rows,) + array.shape[1:], fill, array.dtype)
    )
    out[: len(array)] = array
    return out


def _grown(form: Form, found: Any, walk: Any, why: int) -> Any:
    """More room where it ran out."""
    from relukit.geometry._planar import rehash
    from relukit.geometry._walk import CELLS, CORNERS_FULL, INDICES, STACK_FULL, VERTICES, VERTICES_FULL

    if why == STACK_FULL:
        names = ("meta", "x", "y", "d", "v", "label", "pattern", "carry")
        return found._replace(**{n: _longer(getattr(found, n), 2 * len(found.x)) for n in names})
    if why == CORNERS_FULL:
        wider = lambda a: np.concatenate([a, np.empty_like(a)], axis=1)
        found = found._replace(
            **{n: wider(getattr(found, n)) for n in ("x", "y", "d", "v", "label", "number", "whole")}
        )
    if why == VERTICES_FULL:
        table = np.zeros(4 * len(found.table), np.int64)
        rehash(table, found.vkey, walk.counts[VERTICES])
        more = {n: _longer(getattr(found, n), 4 * len(found.vx)) for n in ("vx", "vy", "vd", "vkey")}
        return found._replace(table=table, **more)
    corners = found.x.shape[1]
    if walk.counts[CELLS] == len(found.patterns):
        cells = 4 * len(found.patterns)
        found = found._replace(
            offsets=_longer(found.offsets, cells + 1),
            patterns=_longer(found.patterns, cells),
            maps=_longer(found.maps, cells),
        )
    if walk.counts[INDICES] + corners > len(found.indices):
        size = 4 * len(found.indices) + 16 * corners
        found = found._replace(indices=_longer(found.indices, size), labels=_longer(found.labels, size))
    return found
