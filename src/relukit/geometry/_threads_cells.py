"""The walk through cells of three and more inputs on several threads (see `_shares`): how each one begins with some parts.

Each thread also looks for neighbors among its own cells, by words of the vertices that all threads agree on. How their lists are put together: `_threads_join`.
"""

from collections.abc import Callable
from concurrent.futures import Future
from math import comb
from threading import Event
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from relukit._numba import njit
from relukit._types import Array, IntArray
from relukit.geometry._enumerate import longer
from relukit.geometry._enumerate_cells import ROOM, advance, give_back, grown, pace_of, remember, start_cells
from relukit.geometry._form import Form
from relukit.geometry._neighbors import facet_neighbors, leave_room, take_room, words_by_edge
from relukit.geometry._shares import Gaps, Segment, head_of, on_threads, taken
from relukit.geometry._signs import MANY
from relukit.geometry._threads_join import Brought, joined
from relukit.geometry._walk import (
    BUDGET,
    CELLS,
    CORNERS_FULL,
    DONE,
    EXACT,
    FACETS,
    INDICES,
    SLOTS,
    STACK,
    STACK_FULL,
    STAMP,
    VERTICES,
    add_decided,
    decide,
)

_FEW = 2000  # cells that one thread finds before two have begun
_CUT = 90  # parts that the domain is cut into, about: fewer, and threads wait for each other at the end
_KEPT = 64 << 20  # bytes of arrays that a form keeps for another call
_PARTS: WeakKeyDictionary[Form, list[tuple[Any, Any]]] = WeakKeyDictionary()  # arrays that no thread uses at the moment


def cells_on_threads(
    form: Form, lower: Array, upper: Array, limit: int | None, on_progress: Callable[[int], Any] | None, threads: int
) -> tuple[Any, Any, bool, Any] | None:
    """As `solids`; None where there is nothing to share out: no hinges, a polytope, or few cells as the last walk knows."""
    if form.net.keep.any() or form.dimension < 2 or ROOM.get(form, (_FEW,))[0] < _FEW:
        return None
    few = _hinges(form, lower, upper)
    if not few:
        return None
    form.rational.begin()
    head, totals, D = head_of(form, few), [0] * threads, form.dimension

    def cut() -> tuple[Any, Any, Gaps]:
        walk, parts = start_cells(head, lower, upper)
        walk.counts[SLOTS] = 1  # so that facets come in the order that one walk gives them
        parts, walk, _ = advance(head, parts, walk, 1 << 62)
        remember(head, walk)
        return parts, walk, Gaps(int(walk.counts[CELLS]), threads)

    def work(k: int, ready: Future[Any], halt: Event) -> Brought:
        # the first thread's arrays become the result's: only the others' cells are copied
        walk, found = start_cells(form, lower, upper, taken(_PARTS, form) if k else None)
        walk.counts[STACK], segments, pace = 0, [], pace_of(form)
        base = np.zeros(len(walk.pattern), np.uint64)
        decided = _begin(form.net, walk, found, D, few, base)
        parts, walk_of_head, gaps = ready.result()
        prefix = int(walk_of_head.counts[VERTICES])
        found, walk = _with_room(form, found, walk, parts, prefix, gaps.most)
        walk.counts[VERTICES] = prefix
        while not halt.is_set():
            begin, end = gaps.next(k)
            if begin == end:
                break
            before = int(walk.counts[CELLS])
            _load(
                form.net, walk, found, parts.offsets, parts.indices, parts.masks, parts.facet_offsets, parts.facets, parts.patterns, D, begin, end,
                few, decided, base,
            )  # fmt: skip
            why = BUDGET
            while why == BUDGET and not halt.is_set() and (limit is None or walk.counts[CELLS] < limit):
                stop = int(walk.counts[CELLS]) + pace.step
                try:
                    found, walk, why = advance(form, found, walk, stop if limit is None else min(stop, limit))
                    pace.next()
                    totals[k] = int(walk.counts[CELLS])
                    if on_progress is not None and k == 0:  # it comes from the calling thread only
                        on_progress(sum(totals))
                except KeyboardInterrupt:
                    why = BUDGET
                    break
            segments.append(Segment(begin, k, before, int(walk.counts[CELLS])))
            if why != DONE:
                halt.set()
        return Brought(found, walk, segments, *_search(form, found, walk, prefix))

    (parts, walk_of_head, _), done, complete = on_threads(threads, cut, work)
    prefix = int(walk_of_head.counts[VERTICES])
    give_back(head, walk_of_head, parts)
    found, walk, across = joined(done, prefix, threads)
    for one in done:
        leave_room(form, one.room)
    for one in done[1:]:
        if sum(a.nbytes for a in one.found) < _KEPT:
            _PARTS.setdefault(form, []).append((one.walk, one.found))
    walk.counts[EXACT] += walk_of_head.counts[EXACT]
    if complete:
        remember(form, walk)
        give_back(form, walk, found)
    if limit is not None and walk.counts[CELLS] > limit:
        complete, across = False, None
        walk.counts[[CELLS, INDICES, FACETS]] = limit, found.offsets[limit], found.facet_offsets[limit]
    return found, walk, complete, across


def _hinges(form: Form, lower: Array, upper: Array) -> int:
    """How many of the first stage's hinges cut the domain into enough parts: those among them that meet the box count."""
    net, D = form.net, form.dimension
    n = int(net.size[0])
    rows = net.direct[: (D + 1) * n].reshape(D + 1, n)
    middle, half = (lower + upper) / 2, (upper - lower) / 2
    cuts = np.flatnonzero(np.abs(middle @ rows[:D] + rows[D]) <= half @ np.abs(rows[:D]))
    wanted = next(h for h in range(1, 65) if sum(comb(h, j) for j in range(D + 1)) >= _CUT)
    return int(cuts[min(wanted, len(cuts)) - 1]) + 1 if len(cuts) and form.hinges else 0


def _search(form: Form, found: Any, walk: Any, prefix: int) -> tuple[IntArray, int, tuple[Any, ...]]:
    """Neighbors among one thread's own cells, how many facets have none, and the lists of these."""
    R, entries, facets, vertices = (int(walk.counts[k]) for k in (CELLS, INDICES, FACETS, VERTICES))
    room = take_room(form, facets, vertices)
    words_by_edge(found.link, prefix, vertices, room[-1])
    neighbors = np.empty(facets, np.int64)
    unmatched = facet_neighbors(
        found.offsets[: R + 1], found.indices[:entries], found.masks[:, :entries], found.facet_offsets[: R + 1], found.facets[:facets], 0, *room, neighbors
    )  # fmt: skip
    return neighbors, int(unmatched), room


def _with_room(form: Form, found: Any, walk: Any, parts: Any, prefix: int, share: int) -> tuple[Any, Any]:
    """A walk's arrays with the first `prefix` vertices, and room for a share of the parts."""
    most, block = int(np.diff(parts.offsets).max(initial=1)), (form.dimension + 1) * int(form.net.size.max())
    while found.ends.shape[1] < most + 8:
        found, walk = grown(found, walk, CORNERS_FULL, len(found.mask))
    flat = share * most + 8 * found.ends.shape[1]
    while (
        len(found.v) < flat
        or len(found.meta) < share + 8
        or len(walk.rows) < (share + 8) * block + len(form.net.direct)
    ):
        found, walk = grown(found, walk, STACK_FULL, len(found.mask))
    if len(found.vd) < prefix + 64:
        found = found._replace(**{k: longer(getattr(found, k), 2 * prefix + 64) for k in ("vx", "vd", "link")})
    for k in ("vx", "vd", "link"):
        getattr(found, k)[:prefix] = getattr(parts, k)[:prefix]
    return found, walk


@njit(cache=True, nogil=True, _nrt=False)
def _begin(net, w, p, D, few, base):
    """The first stage for the whole domain: hinges from number `few` on that may cut it become candidates, others are settled, in `base`.

    What the settled ones that are on add to the next stage stands behind the first stage's rows.

    Returns:
        How many of them are on.
    """
    center, half, n = p.extent[0], p.extent[1], net.size[0]
    reach = 0.0
    for k in range(D):
        a, b = w.lower[k], w.upper[k]
        center[k] = 0.5 * (a + b)
        half[k] = 0.5 * (b - a) + 4 * 2.0**-52 * (abs(a) + abs(b))
        reach += max(abs(a), abs(b))
    C = net.slope_error[0]
    on, many = decide(
        w.rows, 0, n, D, C, net.shift_error[0] + C * reach, center, half, 0.0, w.value, w.margin, base, 0, w.on, w.found
    )
    left, decided = 0, 0
    for i in range(many):
        u = w.found[i]
        w.found[left] = u
        left += u >= few
    for i in range(on):
        u = w.on[i]
        w.on[decided] = u
        decided += u >= few
    w.found_count[0], p.reach[0], w.row_at[0] = left, reach, 0
    if len(net.size) > 2:
        m, at, sums = net.size[1], net.direct_at[1], (D + 1) * n
        carry = w.rows[sums : sums + (D + 1) * m]
        for i in range((D + 1) * m):
            carry[i] = net.direct[at + i]
        add_decided(w.rows, 0, n, net.weight, net.weight_at[1], m, w.on, decided, D, carry)
    return decided


@njit(cache=True, nogil=True, _nrt=False)
def _load(net, w, p, offsets, indices, masks, facet_offsets, facets, patterns, D, begin, end, few, decided, base):
    """Put parts of the domain on an empty stack, so that the first comes first; the first `few` hinges of the first stage are settled in them."""
    n, m, carried, f = net.size[0], net.size[1], len(net.size) > 2, 0
    size = (D + 1) * m
    sums = (D + 1) * n + size
    w.counts[STAMP] += 1
    w.stamp[0] = w.counts[STAMP]
    for s in range(end - begin):
        k = end - 1 - s
        first, many = offsets[k], offsets[k + 1] - offsets[k]
        for i in range(many):
            p.v[f + i] = indices[first + i]
            p.mask[0, f + i] = masks[0, first + i]
            for q in range(1, len(p.mask)):
                p.mask[q, f + i] = 0
        for i in range(facet_offsets[k], facet_offsets[k + 1]):
            p.slots[s, i - facet_offsets[k]] = facets[i]
        for i in range(len(base)):
            p.pattern[s, i] = base[i]
        waits = 0
        for u in range(few):
            if patterns[k, u >> 6] >> np.uint64(u & 63) & np.uint64(1):
                p.pattern[s, u >> 6] |= np.uint64(1) << np.uint64(u & 63)
                w.pending[waits] = u
                waits += 1
        if carried:
            carry = w.rows[sums : sums + size]
            for i in range(size):
                carry[i] = w.rows[(D + 1) * n + i]
            add_decided(w.rows, 0, n, net.weight, net.weight_at[1], m, w.pending, waits, D, carry)
        p.meta[s, 0], p.meta[s, 1], p.meta[s, 2], p.meta[s, 3], p.meta[s, 4] = 0, -MANY, many, f, sums
        p.open[s, 0], p.open[s, 1] = 0, 0
        f, sums = f + many, sums + size
    w.counts[STACK] = end - begin
