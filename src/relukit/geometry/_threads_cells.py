"""The walk through cells of three and more inputs on several threads (see `_shares`): how each one begins with some parts, and how their lists are put together.

Each thread also looks for neighbors among its own cells, by words of the vertices that all threads agree on; what is left in their lists are the facets
between the parts of two threads.
"""

from collections.abc import Callable
from concurrent.futures import Future
from math import comb
from threading import Event
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from relukit._numba import njit
from relukit._types import Array, IntArray
from relukit.geometry._bits import nth
from relukit.geometry._enumerate import longer
from relukit.geometry._enumerate_cells import ROOM, advance, give_back, grown, pace_of, remember, start_cells
from relukit.geometry._form import Form
from relukit.geometry._neighbors import facet_neighbors, leave_room, match_across, take_room, words_by_edge
from relukit.geometry._shares import Gaps, Segment, head_of, number_vertices, on_threads, pool
from relukit.geometry._signs import MANY
from relukit.geometry._walk import (
    BUDGET,
    CELLS,
    CORNERS_FULL,
    DONE,
    EXACT,
    FACETS,
    FULL,
    INDICES,
    RANGE,
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


class Brought(NamedTuple):
    """What one thread found."""

    found: Any
    walk: Any
    segments: list[Segment]
    neighbors: IntArray
    unmatched: int
    room: tuple[Any, ...]  # of the search for neighbors: the lists hold what is left


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
        walk, found = start_cells(form, lower, upper, _taken(form) if k else None)
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
                except KeyboardInterrupt:
                    break
                pace.next()
                totals[k] = int(walk.counts[CELLS])
                if on_progress is not None and k == 0:  # it comes from the calling thread only
                    on_progress(sum(totals))
            segments.append(Segment(begin, k, before, int(walk.counts[CELLS])))
            if why != DONE:
                halt.set()
        return Brought(found, walk, segments, *_search(form, found, walk, prefix))

    (parts, walk_of_head, _), done, complete = on_threads(threads, cut, work)
    prefix = int(walk_of_head.counts[VERTICES])
    give_back(head, walk_of_head, parts)
    found, walk, joined = _together(done, prefix, threads)
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
        complete, joined = False, None
        walk.counts[[CELLS, INDICES, FACETS]] = limit, found.offsets[limit], found.facet_offsets[limit]
    return found, walk, complete, joined


def _taken(form: Form) -> tuple[Any, Any] | None:
    """A thread's arrays of an earlier call: what they hold has been copied."""
    try:
        return _PARTS.get(form, []).pop()
    except IndexError:
        return None


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


def _together(done: list[Brought], prefix: int, threads: int) -> tuple[Any, Any, Any]:
    """What several walks found that began with the same `prefix` vertices, in the first one's arrays and counts; cells in the order of the parts."""
    found, walk = done[0].found, done[0].walk
    counts = np.array([[int(one.walk.counts[k]) for k in (CELLS, INDICES, FACETS, VERTICES)] for one in done])
    cells, entries, facets, _ = counts.sum(axis=0).tolist()
    numbers, vertices = _numbers(done, counts, prefix)
    words = max(len(one.found.mask) for one in done)
    sizes = {
        "vx": vertices,
        "offsets": cells + 1,
        "indices": entries,
        "facet_offsets": cells + 1,
        "facets": facets,
        "patterns": cells,
    }
    whole = found._replace(
        **{name: longer(getattr(found, name), size) for name, size in sizes.items() if len(getattr(found, name)) < size}
    )
    if whole.masks.shape[1] < entries or len(whole.masks) < words:
        masks = np.zeros((words, max(entries, whole.masks.shape[1])), np.uint64)
        masks[: len(whole.masks), : counts[0, 1]] = whole.masks[:, : counts[0, 1]]
        whole = whole._replace(masks=masks)
    neighbors = longer(done[0].neighbors, facets)
    home = [np.empty(n, np.int32) for n in counts[:, 0]]
    shift = [np.empty(n, np.int64) for n in counts[:, 0]]
    moves = _moves(done, home, shift)

    def copy(k: int) -> None:
        part, (number, new) = done[k].found, numbers[k - 1]
        _copy(
            moves[k], number, new, home[k], part.vx, part.offsets, part.indices, part.masks, part.facet_offsets, part.facets, part.patterns,
            done[k].neighbors, whole.vx, whole.offsets, whole.indices, whole.masks, whole.facet_offsets, whole.facets, whole.patterns, neighbors,
        )  # fmt: skip

    waiting = [pool(threads).submit(copy, k) for k in range(2, len(done))]
    copy(1)
    for other in waiting:
        other.result()
    pairs = 0
    for k in range(1, len(done)):
        for j in range(k):
            one, two = done[k].room, done[j].room
            pairs += match_across(
                one[1],
                one[0],
                one[2],
                one[3],
                home[k],
                shift[k],
                two[1],
                two[0],
                two[2],
                two[3],
                home[j],
                shift[j],
                neighbors,
            )
    total = walk._replace(counts=walk.counts.copy())
    total.counts[[CELLS, INDICES, FACETS, VERTICES]] = cells, entries, facets, vertices
    for one in done[1:]:
        total.counts[[EXACT, RANGE, FULL]] += one.walk.counts[[EXACT, RANGE, FULL]]
    return whole, total, (neighbors, sum(one.unmatched for one in done) - 2 * pairs)


def _numbers(done: list[Brought], counts: Array, prefix: int) -> tuple[list[tuple[IntArray, int]], int]:
    """For each walk but the first the numbers of its vertices in the whole, and from which on they are new; and how many there are."""
    link, vertices, numbers = done[0].found.link, int(counts[0, 3]), []
    for k, one in enumerate(done[1:], start=1):
        count, before, last = int(counts[k, 3]), vertices, k + 1 == len(done)
        number, room = np.empty(count, np.int64), np.empty(count, np.int64)
        if not last:
            link = longer(link[:vertices], int(counts[: k + 1, 3].sum()))
        vertices = number_vertices(prefix, count, one.found.link, number, room, vertices, link, not last)
        numbers.append((number, before))
    return numbers, vertices


def _moves(done: list[Brought], home: list[IntArray], shift: list[IntArray]) -> list[IntArray]:
    """For each thread its cells `first` to `stop` and the first one's number, entry and facet in the whole; `home` and `shift` of `match_across` are filled in."""
    cell, entry, facet, rows = 0, 0, 0, [[] for _ in done]
    for _, k, first, stop in sorted(s for one in done for s in one.segments):
        offsets, facet_offsets = done[k].found.offsets, done[k].found.facet_offsets
        rows[k].append((first, stop, cell, entry, facet))
        home[k][first:stop] = np.arange(cell, cell + stop - first)
        shift[k][first:stop] = facet - int(facet_offsets[first])
        cell, entry = cell + stop - first, entry + int(offsets[stop] - offsets[first])
        facet += int(facet_offsets[stop] - facet_offsets[first])
    return [np.array(r, np.int64).reshape(-1, 5) for r in rows]


@njit(cache=True, nogil=True, _nrt=False)
def _copy(
    moves, number, new, home, vx, offsets, indices, masks, facet_offsets, facets, patterns, neighbors,
    vx2, offsets2, indices2, masks2, facet_offsets2, facets2, patterns2, neighbors2,
):  # fmt: skip
    """Cells of a walk into the whole as `moves` say; its vertices if numbered from `new` on."""
    for v in range(len(number)):
        q = number[nth(v)]
        if q >= new:
            for k in range(vx.shape[1]):
                vx2[nth(q), nth(k)] = vx[nth(v), nth(k)]
    for move in range(len(moves)):
        begin, end, cell, entry, facet = moves[move]
        a, b = offsets[begin], offsets[end]
        for k in range(begin, end):
            offsets2[nth(cell + k - begin + 1)] = offsets[nth(k + 1)] - a + entry
            facet_offsets2[nth(cell + k - begin + 1)] = facet_offsets[nth(k + 1)] - facet_offsets[begin] + facet
            for i in range(patterns.shape[1]):
                patterns2[nth(cell + k - begin), nth(i)] = patterns[nth(k), nth(i)]
        for i in range(a, b):
            indices2[nth(entry + i - a)] = number[nth(np.int64(indices[nth(i)]))]
        for q in range(len(masks2)):
            into = masks2[q]
            for i in range(a, b):
                into[nth(entry + i - a)] = masks[q, nth(i)] if q < len(masks) else np.uint64(0)
        a, b = facet_offsets[begin], facet_offsets[end]
        for i in range(a, b):
            other = neighbors[nth(i)]
            facets2[nth(facet + i - a)] = facets[nth(i)]
            neighbors2[nth(facet + i - a)] = home[nth(other)] if other >= 0 else other
