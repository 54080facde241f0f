"""Running a compiled walk: room is made and grown here, progress told, and Ctrl-C answered between slices."""

import time
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from relukit._errors import UnsupportedOperation
from relukit._types import Array
from relukit.geometry._form import Form
from relukit.geometry._room import room_for

_SLICE = 4096  # pieces before the first call of `on_progress`

Progress = Callable[[int], Any]


def memory_full(found: Any) -> bool:
    """Whether arrays four times as large, the next ones, and half as much to put pieces together, would not fit in the memory that is left."""
    return 6 * sum(array.nbytes for array in found) > memory_left()


def memory_left() -> float:
    """Bytes that this process may still take: of the machine, of its group of processes, and of its own limit."""
    import os

    left = [float("inf")]
    try:
        left.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # not on this system
        left.append(8 << 30)
    try:
        with open("/proc/meminfo") as lines:
            left += [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable")]
        with open("/sys/fs/cgroup/memory.max") as limit, open("/sys/fs/cgroup/memory.current") as now:
            left.append(int(limit.read()) - int(now.read()))
    except (OSError, ValueError):  # another system, or no limit ("max")
        pass
    try:
        import resource

        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if most != resource.RLIM_INFINITY:
            with open("/proc/self/statm") as pages:
                left.append(most - int(pages.read().split()[0]) * resource.getpagesize())
    except (ImportError, OSError, ValueError):
        pass
    return min(left)


def stopped_by(walk: Any, limit: int | None) -> str:
    """Why a walk ended before its time: "limit", "memory" or "Ctrl-C"."""
    from relukit.geometry._walk import CELLS, FULL

    if limit is not None and walk.counts[CELLS] >= limit:
        return "limit"
    return "memory" if walk.counts[FULL] else "Ctrl-C"


def stopped(found: Any, walk: Any, limit: int | None) -> BaseException:
    """What to raise for an unfinished walk."""
    from relukit.geometry._walk import CELLS

    why = stopped_by(walk, limit)
    if why == "limit":
        return UnsupportedOperation(f"more than {limit} pieces: raise limit=, take a smaller domain, or stream them")
    if why == "memory":
        size = sum(array.nbytes for array in found) / 1e9
        return UnsupportedOperation(
            f"too many pieces for memory: {walk.counts[CELLS]:,} so far fill {size:.1f} GB; take a smaller domain, partial=True, or geometry.stream"
        )
    return KeyboardInterrupt()


class Pace:
    """How many pieces to walk before Python is asked again, for progress and Ctrl-C: about a tenth of a second of them.

    Compiled code is not interrupted. Pieces take from a third of a microsecond to many milliseconds each, by the number of inputs and by
    how often exact arithmetic is asked.
    """

    def __init__(self, first: int) -> None:
        self.step, self.last = first, time.perf_counter()

    def next(self) -> int:
        """The next number, by how long the last one took."""
        now = time.perf_counter()
        if now - self.last < 0.05:
            self.step *= 2
        elif now - self.last > 0.2:
            self.step = max(1, self.step // 4)
        self.last = now
        return self.step


def planar(
    form: Form, lower: Array, upper: Array, limit: int | None, on_progress: Progress | None, threads: int = 1
) -> tuple[Any, Any, bool]:
    """Polygons of a two-dimensional form: the finished arrays, the walk, and whether all were found."""
    from relukit.geometry._walk import CELLS, INDICES, VERTICES

    form.rational.begin()
    if threads > 1:
        from relukit.geometry._threads import polygons_on_threads

        together = polygons_on_threads(form, lower, upper, limit, on_progress, threads)
        if together is not None:
            return together
    walk, found = start_polygons(form, lower, upper)
    found, walk, complete = walk_on(form, found, walk, limit, on_progress)
    if complete:
        NEEDED[form] = tuple(int(walk.counts[k]) for k in (CELLS, VERTICES, INDICES))
        give_back(form, walk, found)
    return found, walk, complete


def walk_on(
    form: Form,
    found: Any,
    walk: Any,
    limit: int | None,
    on_progress: Progress | None,
    halted: Callable[[], bool] = bool,
) -> tuple[Any, Any, bool]:
    """Walk until no polygon waits, with more room where it runs out: found, walk, and whether it got there.

    Arguments:
        halted: Asked between slices; a walk on another thread may have been interrupted.
    """
    from relukit.geometry._planar import walk_polygons
    from relukit.geometry._walk import BUDGET, CELLS, DONE, FULL

    pace = Pace(_SLICE)
    stop = int(walk.counts[CELLS]) + pace.step
    try:
        while True:
            why = form.rational.run(walk_polygons, form.net, walk, found, stop if limit is None else min(stop, limit))
            if why == DONE:
                return found, walk, True
            if halted():
                return found, walk, False
            if why != BUDGET:
                room = None if memory_full(found) else within_memory(_grown, found, walk, why)
                if room is None:
                    walk.counts[FULL] = 1
                    return found, walk, False
                found, walk = room
                continue
            if on_progress is not None:
                on_progress(int(walk.counts[CELLS]))
            if limit is not None and walk.counts[CELLS] >= limit:
                return found, walk, False
            stop = int(walk.counts[CELLS]) + pace.next()
    except KeyboardInterrupt:
        return found, walk, False


NEEDED: WeakKeyDictionary[Form, tuple[int, int, int]] = (
    WeakKeyDictionary()
)  # pieces, vertices, corners of the last walk
_SPARE: WeakKeyDictionary[Form, list[tuple[Any, Any]]] = WeakKeyDictionary()  # room that no walk uses at the moment
_KEPT = 64 << 20  # bytes of room that a form keeps between calls
_CORNERS = 32


def give_back(form: Form, walk: Any, found: Any) -> None:
    """Keep a walk's own room, without what it found, for the next one: fresh memory costs time at its first touch."""
    inner = found._replace(**dict.fromkeys(("place", "offsets", "indices", "labels", "patterns")), area=np.zeros(2))
    if sum(a.nbytes for a in (*walk, *inner) if a is not None) < _KEPT:
        _SPARE.setdefault(form, []).append((walk._replace(counts=walk.counts.copy()), inner))


def start_polygons(form: Form, lower: Array, upper: Array) -> tuple[Any, Any]:
    """The domain's box as the only waiting polygon: the walk and its arrays."""
    from relukit.geometry._clip import HEAD
    from relukit.geometry._walk import CELLS, EXACT, FULL, INDICES, INNER, RANGE, STACK, VERTICES, walk_of

    spare = _SPARE.get(form)
    try:
        walk, found = spare.pop() if spare else (None, None)  # another thread may have been quicker
    except IndexError:
        walk, found = None, None
    if walk is None:
        walk = walk_of(form, lower, upper)
        found = _fresh(form)
    cells, vertices, entries = NEEDED.get(form, (1024, 2048, 8192))
    if len(found.radius) < vertices + _CORNERS:
        found = found._replace(radius=np.empty(vertices + _CORNERS), link=np.empty((vertices + _CORNERS, 3), np.int32))
    entries, words = entries + len(found.value), len(walk.pattern)
    found = found._replace(
        place=np.empty((len(found.radius), 2)), offsets=np.empty(cells + 1, np.int64), indices=np.empty(entries, np.int32),
        labels=np.empty(entries, np.int32), patterns=np.empty((cells, words), np.int64),
    )  # fmt: skip
    (a, b), (c, d) = lower, upper
    found.x[:4], found.y[:4], found.d[:4] = (a, c, c, a), (b, b, d, d), 0.0
    found.name[:4] = (
        1,
        2 | 1 << 32,
        2 << 32,
        3 | 3 << 32,
    )  # vertex, and label + 4: y = lower, x = upper, y = upper, x = lower
    found.place[:4, 0], found.place[:4, 1], found.radius[:4], found.link[:4, HEAD] = found.x[:4], found.y[:4], 0.0, -1
    found.meta[0], found.pattern[0], found.offsets[0], found.area[:] = (-1, 4, 4, 0, 1, 0, 0, 0, 0), 0, 0, 0.0
    found.meta[0, 1] = 0
    found.bound[0] = max(abs(a), abs(c)) + max(abs(b), abs(d)), 0.0
    n, step = int(form.net.size[0]), int(form.net.stride[0])
    for k in range(3):
        walk.rows[k * step : k * step + n] = form.net.direct[k * n : (k + 1) * n]
    walk.lower[:], walk.upper[:] = lower, upper
    walk.counts[[CELLS, INDICES, INNER, EXACT, RANGE, FULL]] = 0
    walk.counts[STACK], walk.counts[VERTICES] = 1, 4
    return walk, found


def _fresh(form: Form) -> Any:
    """Room for a walk through polygons, without what it finds."""
    from relukit.geometry._planar import Polygons

    depth, words, I = min(form.hinges + 4, 128), max(1, -(-form.hinges // 64)), np.int64
    flat, width = 16 * depth + 4 * _CORNERS, int(form.net.stride.max(initial=8))
    return Polygons(
        np.empty((depth, 9), I), np.empty((depth, words), I), np.empty((depth, 2)), room_for(flat), room_for(flat), room_for(flat),
        room_for(flat, I), np.empty(8 * width, I), np.empty(form.hinges + width + 8, I),
        None, np.empty(0), np.empty((0, 3), np.int32), None, None, None, None,
        np.zeros(2), np.empty(_CORNERS), np.empty(_CORNERS, I), np.empty(2, I), np.empty((2, 2)),
    )  # fmt: skip


def longer(array: Array, rows: int) -> Array:
    """The array with more rows, not set."""
    out = np.empty((rows,) + array.shape[1:], array.dtype)
    out[: len(array)] = array
    return out


def longer_line(array: Array, count: int) -> Array:
    """As `longer`, for arrays that are read in vectors."""
    out = room_for(count, array.dtype)
    out[: len(array)] = array
    return out


def within_memory(grown: Callable[..., Any], *state: Any) -> Any:
    """What `grown` makes of a walk's arrays; None where there is no memory for it: what was found stays as it is."""
    try:
        return grown(*state)
    except MemoryError:
        return None


def _grown(found: Any, walk: Any, why: int) -> tuple[Any, Any]:
    """More room where it ran out."""
    from relukit.geometry._walk import CELLS, CORNERS_FULL, INDICES, STACK_FULL, VERTICES_FULL

    more = lambda size, *names: found._replace(**{n: longer(getattr(found, n), size) for n in names})
    lines = lambda size: found._replace(**{n: longer_line(getattr(found, n), size) for n in ("x", "y", "d", "name")})
    corners = len(found.value)
    if why == STACK_FULL:
        found = more(2 * len(found.meta), "meta", "pattern", "bound")
        found = lines(2 * len(found.x))
        found = more(2 * len(found.list), "list")
        walk = walk._replace(rows=longer_line(walk.rows, 2 * len(walk.rows)))
    if why == CORNERS_FULL:
        found = more(2 * corners, "value", "sign")
        found = lines(len(found.x) + 4 * corners)
    if why == VERTICES_FULL:
        found = more(4 * len(found.radius), "place", "radius", "link")
    corners = len(found.value)
    if walk.counts[CELLS] == len(found.patterns):
        cells = 4 * len(found.patterns)
        found = more(cells + 1, "offsets")
        found = more(cells, "patterns")
    if walk.counts[INDICES] + corners > len(found.indices):
        found = more(4 * len(found.indices) + 16 * corners, "indices", "labels")
    return found, walk
