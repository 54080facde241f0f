"""Running the walk through D-dimensional cells: room is made and grown here, progress told, Ctrl-C answered."""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from relukit._errors import UnsupportedOperation
from relukit._types import Array
from relukit.geometry._enumerate import Pace, longer, memory_full, within_memory
from relukit.geometry._form import Form

DIMENSIONS = 12  # a box has 2^D corners, and an exact sign takes 2^(D + 1) minors
_SLICE = 4096  # cells of three inputs before the first call of `on_progress`, fewer of more


def solids(
    form: Form, lower: Array, upper: Array, limit: int | None, on_progress: Callable[[int], Any] | None, threads: int = 1
) -> tuple[Any, Any, bool, Any]:  # fmt: skip
    """All cells: the finished arrays, the walk, whether all were found; and neighbors with how many are missing, if threads found them."""
    if threads > 1:
        from relukit.geometry._threads_cells import cells_on_threads

        together = cells_on_threads(form, lower, upper, limit, on_progress, threads)
        if together is not None:
            return together
    state: Any = None
    try:
        for state in slices(form, lower, upper, limit):
            if on_progress is not None:
                from relukit.geometry._walk import CELLS

                on_progress(int(state[1].counts[CELLS]))
    except KeyboardInterrupt:
        if state is None:
            raise
        return state[0], state[1], False, None
    return *state, None


def slices(
    form: Form, lower: Array, upper: Array, limit: int | None, step: int | None = None, forget: bool = False
) -> Iterator[tuple[Any, Any, bool]]:
    """The walk after every `step` cells, or every tenth of a second or so: `(found, walk, complete)`.

    Arguments:
        forget: Begin with empty arrays of cells after each step; otherwise they go on growing. Vertices are kept either way.

    Raises:
        KeyboardInterrupt: Ctrl-C, with `forget`; otherwise what was found so far comes as the last one.
    """
    from relukit.geometry._walk import BUDGET, CELLS, DONE, FACETS, INDICES

    if form.dimension > DIMENSIONS:
        raise UnsupportedOperation(
            f"cells are listed for up to {DIMENSIONS} inputs, this network has {form.dimension}: cut it with a plane (three points), or a segment"
        )
    form.rational.begin()
    walk, found = start_cells(form, lower, upper)
    pace = pace_of(form)
    ahead = pace.step
    try:
        while True:
            done = int(walk.counts[CELLS])
            block = done + ahead if step is None else done - done % step + step
            block = block if limit is None else min(block, limit)
            found, walk, why = advance(form, found, walk, min(block, done + ahead))
            if why == DONE:
                if not forget:
                    remember(form, walk)
                    give_back(form, walk, found)
                yield found, walk, True
                return
            if why != BUDGET:
                yield found, walk, False
                return
            done, ahead = int(walk.counts[CELLS]), pace.next()
            if limit is not None and done >= limit:
                yield found, walk, False
                return
            if done < block and forget:
                continue
            yield found, walk, False
            if forget:
                walk.counts[[CELLS, INDICES, FACETS]] = 0
                names = ("offsets", "indices", "masks", "facet_offsets", "facets", "patterns")
                found = found._replace(**{n: np.empty_like(getattr(found, n)) for n in names})
                found.offsets[0] = found.facet_offsets[0] = 0
    except KeyboardInterrupt:
        if forget:
            raise
        yield found, walk, False


def pace_of(form: Form) -> Pace:
    """How many cells of so many inputs to begin with."""
    return Pace(max(1, _SLICE >> 2 * max(0, form.dimension - 3)))


def advance(form: Form, found: Any, walk: Any, stop: int) -> tuple[Any, Any, int]:
    """Walk until `stop` cells are found or none waits, with more room where it runs out: found, walk, and why it ended; neither `BUDGET` nor `DONE` where there is no memory."""
    from relukit.geometry._solid import walk_cells
    from relukit.geometry._walk import BUDGET, DONE, FACETS_FULL, FULL

    while True:
        words = len(found.mask)
        why = form.rational.run(walk_cells, form.net, walk, found, form.dimension, words, stop)
        if why in (BUDGET, DONE):
            return found, walk, why
        if why == FACETS_FULL:
            room = within_memory(_widened, found, walk, 2 * words)
        else:
            room = None if memory_full(found) else within_memory(grown, found, walk, why, words)
        if room is None:
            walk.counts[FULL] = 1
            return found, walk, why
        found, walk = room


def remember(form: Form, walk: Any) -> None:
    """How much room the next walk will need."""
    from relukit.geometry._walk import CELLS, FACETS, INDICES, VERTICES

    ROOM[form] = tuple(int(walk.counts[k]) for k in (CELLS, VERTICES, INDICES, FACETS))


_SPARE: WeakKeyDictionary[Form, list[tuple[Any, Any]]] = WeakKeyDictionary()  # room that no walk uses at the moment
_KEPT = 64 << 20  # bytes of room that a form keeps between calls


def give_back(form: Form, walk: Any, found: Any) -> None:
    """Keep a walk's own room, without what it found, for the next one: fresh memory costs time at its first touch."""
    own = found._replace(
        **dict.fromkeys(("vx", "offsets", "indices", "masks", "facet_offsets", "facets", "patterns"), np.empty(0))
    )
    if sum(a.nbytes for a in (*walk, *own)) < _KEPT:
        _SPARE.setdefault(form, []).append((walk._replace(counts=walk.counts.copy()), own))


def start_cells(form: Form, lower: Array, upper: Array, kept: tuple[Any, Any] | None = None) -> tuple[Any, Any]:
    """The box as the first waiting cell: the walk and its arrays; those `kept` serve again, with room for what is found."""
    from relukit.geometry._clip import HEAD
    from relukit.geometry._walk import STACK, STAMP, VERTICES, walk_of

    D, n = form.dimension, 1 << form.dimension
    try:
        walk, found = kept or _SPARE.get(form, []).pop()
    except IndexError:
        walk, found = walk_of(form, lower, upper), _fresh(form)
    words, corners = len(found.mask), found.ends.shape[1]
    cells, vertices, entries, facets = ROOM.get(form, (1024, 2048, 16 * 1024, 8 * 1024))
    cells, vertices, entries, facets = cells + 1, max(vertices + 1, 2 * n), entries + corners, facets + 64 * words
    pattern, I, S, U = len(walk.pattern), np.int64, np.int32, np.uint64
    if kept is None:
        if len(found.vd) < vertices:
            found = found._replace(vd=np.empty(vertices), link=np.empty((vertices, 3), S))
        found = found._replace(
            vx=np.empty((len(found.vd), D)), offsets=np.zeros(cells + 1, I), indices=np.empty(entries, S), masks=np.empty((words, entries), U),
            facet_offsets=np.zeros(cells + 1, I), facets=np.empty(facets, S), patterns=np.empty((cells, pattern), U),
        )  # fmt: skip
    found.sign_key[:] = 0
    stamp = int(walk.counts[STAMP])
    walk.counts[:] = 0
    walk.counts[STAMP] = stamp  # rows of the last walk are stale
    walk.lower[:], walk.upper[:] = lower, upper
    highs = np.array(list(product((0, 1), repeat=D)), I).reshape(-1, D)
    found.vx[:n] = np.where(highs == 1, upper, lower)
    found.vd[:n], found.link[:n, HEAD] = 0.0, -1
    found.v[:n] = range(n)
    found.meta[0], found.open[0], found.pattern[0] = (-1, 0, n, 0, 0), 0, 0
    found.slots[0, : 2 * D] = -1 - np.arange(2 * D)  # slot 2k: lower side of coordinate k; 2k + 1: upper
    found.mask[:, :n] = 0
    found.mask[0, :n] = np.sum(U(1) << (2 * np.arange(D) + highs).astype(U), axis=1, dtype=U)
    first = (D + 1) * int(form.net.size[0])
    walk.rows[:first] = form.net.direct[:first]
    walk.counts[STACK], walk.counts[VERTICES] = 1, n
    return walk, found


def _fresh(form: Form) -> Any:
    """Room for a walk through cells, without what it finds."""
    from relukit.geometry._solid import Solids

    D, words, I, S, U = form.dimension, 1, np.int64, np.int32, np.uint64
    corners, depth, pattern = 4 * (1 << D) + 32, min(form.hinges + 4, 64), max(1, -(-form.hinges // 64))
    flat, words_of = (depth + 4) * corners, -(-form.net.size // 64)
    return Solids(
        np.empty((depth, 5), I), np.empty((depth, 2), I), np.empty((depth, 64 * words), S), np.empty((depth, pattern), U),
        np.empty(flat, I), np.empty((words, flat), U), np.empty(flat, I), np.empty(flat, I), np.empty(flat, I),
        np.zeros(int(words_of.sum()) * 64 * (D + 2)), np.cumsum(words_of) - words_of, np.zeros(len(words_of)),
        np.empty((0, D)), np.empty(0), np.empty((0, 3), S), np.zeros(1024, I), np.zeros(1024, I),
        np.zeros(0, I), np.empty(0, S), np.empty((words, 0), U), np.zeros(0, I), np.empty(0, S), np.empty((0, pattern), U),
        np.empty((2, corners + 8), I), np.empty((3, corners // 8 + 2), I), np.empty(64 * words, S), np.empty(64 * words + 1, I),
        np.empty((3, words), U), np.empty((2, D)),
    )  # fmt: skip


ROOM: WeakKeyDictionary[Form, tuple[int, int, int, int]] = WeakKeyDictionary()  # what the last walk needed


def _widened(found: Any, walk: Any, words: int) -> tuple[Any, Any]:
    """Masks of more words, for cells with more facets than fit so far."""

    def more(array: Any) -> Any:
        return np.concatenate([array, np.zeros((words - len(array), array.shape[1]), array.dtype)])

    slots = np.empty((len(found.slots), 64 * words), found.slots.dtype)
    slots[:, : found.slots.shape[1]] = found.slots
    found = found._replace(
        slots=slots, mask=more(found.mask), masks=more(found.masks), slot=np.empty(64 * words, slots.dtype),
        labels=np.empty(64 * words + 1, np.int64), used=np.empty((3, words), np.uint64),
        facets=longer(found.facets, len(found.facets) + 128 * words),
    )  # fmt: skip
    return found, walk


def _wider(array: Array, columns: int) -> Array:
    out = np.empty((len(array), columns), array.dtype)
    out[:, : array.shape[1]] = array
    return out


def grown(found: Any, walk: Any, why: int, words: int) -> tuple[Any, Any]:
    """More room where it ran out."""
    from relukit.geometry._signs import rehash_signs
    from relukit.geometry._walk import (
        CELLS,
        CORNERS_FULL,
        FACETS,
        INDICES,
        SIGNS_FULL,
        STACK_FULL,
        VERTICES_FULL,
    )

    counts = walk.counts
    more = lambda size, *names: found._replace(**{n: longer(getattr(found, n), size) for n in names})
    if why == SIGNS_FULL:
        key, sign = np.zeros(4 * len(found.sign_key), np.int64), np.zeros(4 * len(found.sign_key), np.int64)
        rehash_signs(found.sign_key, found.sign, key, sign)
        return found._replace(sign_key=key, sign=sign), walk
    if why == CORNERS_FULL:
        size = 2 * found.ends.shape[1]
        found = found._replace(ends=np.empty((2, size), np.int64), sides=np.empty((3, size // 8 + 2), np.int64))
    corners = found.ends.shape[1]
    if why in (STACK_FULL, CORNERS_FULL):
        found = more(2 * len(found.meta), "meta", "open", "slots", "pattern")
        size = 2 * found.mask.shape[1] + 8 * corners
        found = more(size, "v", "plus", "minus", "zero")._replace(mask=_wider(found.mask, size))
        walk = walk._replace(rows=longer(walk.rows, 2 * len(walk.rows)))
    if why == VERTICES_FULL:
        found = more(4 * len(found.vd), "vx", "vd", "link")
    if counts[CELLS] == len(found.patterns):
        cells = 4 * len(found.patterns)
        found = more(cells + 1, "offsets", "facet_offsets")
        found = more(cells, "patterns")
    if counts[INDICES] + corners > len(found.indices):
        size = 4 * len(found.indices) + 16 * corners
        found = found._replace(indices=longer(found.indices, size), masks=_wider(found.masks, size))
    if counts[FACETS] + 64 * words > len(found.facets):
        found = more(4 * len(found.facets) + 1024 * words, "facets")
    return found, walk
