"""Running the walk through D-dimensional cells: room is made and grown here, progress told, Ctrl-C answered."""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np

from relukit._errors import UnsupportedOperation
from relukit._types import Array
from relukit.geometry._enumerate import memory_full
from relukit.geometry._form import Form

DIMENSIONS = 12  # a box has 2^D corners, and an exact sign takes 2^(D + 1) minors
_SLICE = 20_000  # cells between two calls of `on_progress`


def solids(
    form: Form, lower: Array, upper: Array, limit: int | None, on_progress: Callable[[int], Any] | None
) -> tuple[Any, Any, bool]:
    """All cells: the finished arrays, the walk, and whether all were found."""
    state: Any = None
    try:
        for state in slices(form, lower, upper, limit):
            if on_progress is not None:
                from relukit.geometry._walk import CELLS

                on_progress(int(state[1].counts[CELLS]))
    except KeyboardInterrupt:
        if state is None:
            raise
        return state[0], state[1], False
    return state


def slices(
    form: Form, lower: Array, upper: Array, limit: int | None, step: int = _SLICE, forget: bool = False
) -> Iterator[tuple[Any, Any, bool]]:
    """The walk after every `step` cells: `(found, walk, complete)`.

    Arguments:
        forget: Begin with empty arrays of cells after each step; otherwise they go on growing. Vertices are kept either way.
    """
    from relukit.geometry._solid import walk_cells
    from relukit.geometry._walk import BUDGET, CELLS, DONE, FACETS, FACETS_FULL, INDICES, walk_of

    D = form.dimension
    if D > DIMENSIONS:
        raise UnsupportedOperation(
            f"cells are listed for up to {DIMENSIONS} inputs, this network has {D}: cut it with a plane (three points), or a segment"
        )
    words = 1
    walk = walk_of(form, lower, upper)
    found = _start(form, walk, lower, upper, words)
    while True:
        done = int(walk.counts[CELLS])
        stop = done - done % step + step
        stop = stop if limit is None else min(stop, limit)
        why = walk_cells(form.net, walk, found, D, words, stop)
        if why == DONE:
            yield found, walk, True
            return
        if why == FACETS_FULL:
            words *= 2
            found = _widened(found, words)
            continue
        if why == BUDGET:
            done = int(walk.counts[CELLS])
            if limit is not None and done >= limit:
                yield found, walk, False
                return
            if forget and done == step:
                yield found, walk, False
                walk.counts[[CELLS, INDICES, FACETS]] = 0
                names = ("offsets", "indices", "masks", "facet_offsets", "facets", "patterns", "maps")
                found = found._replace(**{n: np.empty_like(getattr(found, n)) for n in names})
                found.offsets[0] = found.facet_offsets[0] = 0
                continue
            yield found, walk, False
            continue
        if memory_full(found):
            yield found, walk, False
            return
        found = _grown(found, walk, why, words)


def _start(form: Form, walk: Any, lower: Array, upper: Array, words: int) -> Any:
    """The box as the first waiting cell."""
    from relukit.geometry._solid import Solids
    from relukit.geometry._walk import FLAT, STACK, VERTICES

    D, n = form.dimension, 1 << form.dimension
    corners = 4 * n + 32
    depth, cells, vertices = min(form.hinges + 4, 64), 1024, max(2048, 2 * n)
    wide = (D + 1) * int(form.net.size.max())
    pattern, I = len(walk.pattern), np.int64
    found = Solids(
        np.empty((depth, 4), I), np.empty((depth, 64 * words), I), np.empty((depth, pattern), np.uint64), np.empty((depth, wide)),
        np.empty(depth * corners, I), np.empty((words, depth * corners), np.uint64),
        np.empty((vertices, D)), np.empty(vertices), np.empty(vertices, I), np.zeros(2 * _power(vertices), I),
        np.zeros(1024, I), np.zeros(1024, I),
        np.zeros(cells + 1, I), np.empty(16 * cells, I), np.empty((words, 16 * cells), np.uint64), np.zeros(cells + 1, I),
        np.empty(64 * cells, I), np.empty((cells, pattern), np.uint64), np.empty((cells, (D + 1) * form.outputs)),
        *_room(D, words, corners), np.empty((3, 64 * words + 1), I), np.empty((2, D)),
    )  # fmt: skip
    highs = np.array(list(product((0, 1), repeat=D)), I).reshape(-1, D)
    found.vx[:n] = np.where(highs == 1, upper, lower)
    found.vd[:n], found.vkey[:n] = 0.0, -1
    found.meta[0] = -1, 0, n, 0
    found.slots[0, : 2 * D] = -1 - np.arange(2 * D)  # slot 2k: lower side of coordinate k; 2k + 1: upper
    found.flat[:n] = np.arange(n)
    found.flat_mask[:, :n] = 0
    found.flat_mask[0, :n] = np.sum(
        np.uint64(1) << (2 * np.arange(D) + highs).astype(np.uint64), axis=1, dtype=np.uint64
    )
    found.pattern[0] = 0
    first = (D + 1) * int(form.net.size[0])
    found.carry[0, :first] = form.net.direct[:first]
    walk.counts[STACK], walk.counts[VERTICES], walk.counts[FLAT] = 1, n, n
    return found


def _room(D: int, words: int, corners: int) -> tuple[Array, Any, Any]:
    return np.empty((D + 1, corners)), np.empty((6, corners), np.int64), np.empty((3 * words + 1, corners), np.uint64)


def _widened(found: Any, words: int) -> Any:
    """Masks of more words, for cells with more facets than fit so far."""

    def more(array: Any) -> Any:
        return np.concatenate([array, np.zeros((words - len(array), array.shape[1]), array.dtype)])

    D, corners = found.vx.shape[1], found.whole.shape[1]
    number, whole, word = _room(D, words, corners)
    slots = np.empty((len(found.slots), 64 * words), np.int64)
    slots[:, : found.slots.shape[1]] = found.slots
    facets = _longer(found.facets, len(found.facets) + 128 * words)
    return found._replace(
        slots=slots, flat_mask=more(found.flat_mask), masks=more(found.masks), number=number, whole=whole, word=word,
        small=np.empty((3, 64 * words + 1), np.int64), facets=facets,
    )  # fmt: skip


def _power(n: int) -> int:
    return 1 << (int(n) - 1).bit_length()


def _longer(array: Array, rows: int, axis: int = 0) -> Array:
    shape = list(array.shape)
    shape[axis] = rows
    out = np.empty(shape, array.dtype)
    if axis:
        out[:, : array.shape[1]] = array
    else:
        out[: len(array)] = array
    return out


def _grown(found: Any, walk: Any, why: int, words: int) -> Any:
    """More room where it ran out."""
    from relukit.geometry._planar import rehash
    from relukit.geometry._solid import rehash_signs
    from relukit.geometry._walk import (
        CELLS,
        CORNERS_FULL,
        FACETS,
        FLAT,
        INDICES,
        SIGNS_FULL,
        STACK,
        STACK_FULL,
        VERTICES,
        VERTICES_FULL,
    )

    counts = walk.counts
    if why == SIGNS_FULL:
        key, sign = np.zeros(4 * len(found.sign_key), np.int64), np.zeros(4 * len(found.sign_key), np.int64)
        rehash_signs(found.sign_key, found.sign, key, sign)
        return found._replace(sign_key=key, sign=sign)
    if why == CORNERS_FULL:
        number, whole, word = _room(found.vx.shape[1], words, 2 * found.whole.shape[1])
        found = found._replace(number=number, whole=whole, word=word)
    corners = found.whole.shape[1]
    if why == STACK_FULL or counts[FLAT] + 3 * corners > len(found.flat):
        if counts[STACK] + 4 > len(found.meta):
            names = ("meta", "slots", "pattern", "carry")
            found = found._replace(**{n: _longer(getattr(found, n), 2 * len(found.meta)) for n in names})
        if counts[FLAT] + 3 * corners > len(found.flat):
            size = 2 * len(found.flat) + 4 * corners
            found = found._replace(flat=_longer(found.flat, size), flat_mask=_longer(found.flat_mask, size, 1))
    if why == VERTICES_FULL:
        size = 4 * len(found.vd)
        table = np.zeros(2 * _power(size), np.int64)
        rehash(table, found.vkey, counts[VERTICES])
        found = found._replace(table=table, **{n: _longer(getattr(found, n), size) for n in ("vx", "vd", "vkey")})
    if counts[CELLS] == len(found.patterns):
        cells = 4 * len(found.patterns)
        more = {n: _longer(getattr(found, n), cells + 1) for n in ("offsets", "facet_offsets")}
        found = found._replace(patterns=_longer(found.patterns, cells), maps=_longer(found.maps, cells), **more)
    if counts[INDICES] + corners > len(found.indices):
        size = 4 * len(found.indices) + 16 * corners
        found = found._replace(indices=_longer(found.indices, size), masks=_longer(found.masks, size, 1))
    if counts[FACETS] + 64 * words > len(found.facets):
        found = found._replace(facets=_longer(found.facets, 4 * len(found.facets) + 1024 * words))
    return found
