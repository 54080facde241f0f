"""The walk through polygons on several threads (see `_shares`): how each one begins with some parts, and how their lists are put together."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Event
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from relukit._numba import njit
from relukit._types import Array, IntArray
from relukit.geometry._bits import nth
from relukit.geometry._clip import name_of
from relukit.geometry._enumerate import NEEDED, give_back, longer, longer_line, start_polygons, walk_on
from relukit.geometry._form import Form
from relukit.geometry._shares import Gaps, Segment, head_of, number_vertices, on_threads, pool, taken, with_rows
from relukit.geometry._walk import CELLS, EXACT, FULL, INDICES, INNER, RANGE, STACK, STAMP, VERTICES

_HINGES = (
    14  # that cut the domain into parts: up to 106; with 9 a single part held half of the pieces of a deep network
)
_PARTS: WeakKeyDictionary[Form, list[tuple[Any, Any]]] = WeakKeyDictionary()  # arrays that no thread uses at the moment
_FEW = 4000  # pieces that one thread finds before two have begun
_MANY = 20_000  # pieces from which on copying them is shared out too: to wake a thread takes as long as copying some thousand


def polygons_on_threads(
    form: Form, lower: Array, upper: Array, limit: int | None, on_progress: Callable[[int], Any] | None, threads: int
) -> tuple[Any, Any, bool] | None:
    """As `planar`; None where there is nothing to share out: no hinges, a polytope, or few pieces as the last walk knows."""
    if form.net.keep.any() or not form.hinges or NEEDED.get(form, (_FEW,))[0] < _FEW:
        return None
    head, totals = head_of(form, min(int(form.net.size[0]), _HINGES)), [0] * threads

    def cut() -> tuple[Any, Any, int, Gaps]:
        walk, parts = start_polygons(head, lower, upper)
        parts, walk, _ = walk_on(head, parts, walk, None, None)
        return parts, walk, int(walk.counts[VERTICES]), Gaps(int(walk.counts[CELLS]), threads)

    def work(k: int, ready: Future[Any], halt: Event) -> tuple[Any, Any, list[Segment]]:
        def progress(count: int) -> None:
            totals[k] = count
            if on_progress is not None and k == 0:  # it comes from the calling thread only
                on_progress(sum(totals))

        # the first thread's arrays become the result's: only the others' pieces are copied
        walk, found = (k and taken(_PARTS, form)) or start_polygons(form, lower, upper)
        walk.lower[:], walk.upper[:] = lower, upper
        walk.counts[[CELLS, INDICES, INNER, EXACT, RANGE, FULL]], found.area[:] = 0, 0.0
        parts, _, prefix, gaps = ready.result()
        found = _with_room(found, parts, prefix, gaps.most, len(walk.on))
        walk.counts[VERTICES] = prefix
        segments = []
        while not halt.is_set():
            begin, end = gaps.next(k)
            if begin == end:
                break
            before = int(walk.counts[CELLS])
            _load(
                form.net, walk, begin, end, head.hinges, parts.offsets, parts.indices, parts.labels, parts.patterns, parts.place, parts.radius,
                found.x, found.y, found.d, found.name, found.meta, found.bound, found.pattern, found.list, found.pending,
            )  # fmt: skip
            found, walk, done = walk_on(form, found, walk, limit, progress, halt.is_set)
            segments.append(Segment(begin, k, before, int(walk.counts[CELLS])))
            if not done:
                halt.set()
        return found, walk, segments

    (parts, walk_of_head, prefix, _), done, complete = on_threads(threads, cut, work)
    found, walk = _together(done, prefix, threads)
    give_back(head, walk_of_head, parts)
    for part, its_walk, _ in done[1:]:
        _PARTS.setdefault(form, []).append((its_walk, part))
    if complete:
        give_back(form, walk, found)
        NEEDED[form] = tuple(int(walk.counts[k]) for k in (CELLS, VERTICES, INDICES))
    if limit is not None and walk.counts[CELLS] > limit:
        complete = False
        _shorten(found, walk, limit)
    return found, walk, complete


def _shorten(found: Any, walk: Any, limit: int) -> None:
    """Keep the first pieces only: each thread may have found as many."""
    entries, begin = int(found.offsets[limit]), found.offsets[: limit + 1]
    x, y = found.place[found.indices[:entries]].T
    after = np.arange(1, entries + 1)
    after[begin[1:] - 1] = begin[:-1]
    found.area[:] = float(np.sum(x * y[after] - y * x[after])), 0.0
    walk.counts[[CELLS, INDICES]] = limit, entries


def _with_room(found: Any, parts: Any, prefix: int, share: int, width: int) -> Any:
    """A walk's arrays with the first `prefix` vertices, and room for a share: its corners, and a list of hinges for each part."""
    if len(found.list) < (share + 8) * width:
        found = found._replace(list=np.empty((share + 8) * width, np.int64))
    if len(found.pending) < share * _HINGES + found.pattern.shape[1] * 64 + width + 8:
        found = found._replace(pending=np.empty(share * _HINGES + found.pattern.shape[1] * 64 + width + 8, np.int64))
    corners = share * len(parts.value) + 64
    if len(found.place) < 2 * prefix + 64:
        found = found._replace(**{k: longer(getattr(found, k), 2 * prefix + 64) for k in ("place", "radius", "link")})
    if len(found.meta) < share + 8:
        found = found._replace(**{k: longer(getattr(found, k), share + 64) for k in ("meta", "pattern", "bound")})
    if len(found.x) < corners:
        found = found._replace(**{k: longer_line(getattr(found, k), corners) for k in ("x", "y", "d", "name")})
    for k in ("place", "radius", "link"):
        getattr(found, k)[:prefix] = getattr(parts, k)[:prefix]
    return found


@njit(cache=True, nogil=True, _nrt=False)
def _load(
    net, w, begin, end, few, offsets, indices, labels, patterns, place, radius, x, y, d, name, meta, bound, pattern, hinges, pending
):  # fmt: skip
    """Put parts of the domain on an empty stack, so that the first comes first; the first `few` hinges of the first stage are settled in them."""
    at, first, waits, sums, left = 0, 0, 0, 3 * net.stride[0], net.size[0] - few
    carried = len(net.size) > 2
    if carried:  # no hinge has joined the sums yet
        m, step, q = net.size[1], net.stride[1], net.direct_at[1]
        for k in range(3):
            for v in range(m):
                w.rows[sums + k * step + v] = net.direct[q + k * m + v]
    w.row_at[0] = 0
    w.counts[STAMP] += 1
    w.stamp[0] = w.counts[STAMP]
    for k in range(end - 1, begin - 1, -1):
        s, n, reach, blur, start = end - 1 - k, offsets[k + 1] - offsets[k], 0.0, 0.0, waits
        for i in range(n):
            q = np.int64(indices[offsets[k] + i])
            x[at + i], y[at + i], d[at + i] = place[q, 0], place[q, 1], radius[q]
            name[at + i] = name_of(q, np.int64(labels[offsets[k] + i]))
            reach, blur = max(reach, abs(x[at + i]) + abs(y[at + i])), max(blur, d[at + i])
        for i in range(pattern.shape[1]):
            pattern[s, i] = 0
        for g in range(few):
            if patterns[k, 0] >> g & 1:
                pattern[s, 0] |= 1 << g
                pending[waits] = g
                waits += carried
        for i in range(left):
            hinges[first + i] = few + i
        bound[s, 0], bound[s, 1] = reach, blur
        meta[s, 0], meta[s, 1], meta[s, 2], meta[s, 3], meta[s, 4] = 0, at, n, sums, 0
        meta[s, 5], meta[s, 6], meta[s, 7], meta[s, 8] = start, waits, first, left
        at, first = at + n, first + left
    w.counts[STACK] = end - begin


def _together(done: list[tuple[Any, Any, list[Segment]]], prefix: int, threads: int) -> tuple[Any, Any]:
    """What several walks found that began with the same `prefix` vertices, in the first one's arrays and counts; pieces in the order of the parts."""
    found, walk, _ = done[0]
    counts = np.array([[int(w.counts[k]) for k in (CELLS, INDICES, VERTICES)] for _, w, _ in done])
    cells, entries, _ = counts.sum(axis=0)
    link, vertices, numbers = found.link, int(counts[0, 2]), []
    for k, (part, _, _) in enumerate(done[1:], start=1):
        number, before, last = np.empty(counts[k, 2], np.int64), vertices, k + 1 == len(done)
        if not last:
            link = longer(link[:vertices], int(counts[: k + 1, 2].sum()))
        vertices = number_vertices(
            prefix, counts[k, 2], part.link, number, np.empty(counts[k, 2], np.int64), vertices, link, not last
        )
        numbers.append((number, before))
    sizes = {"place": vertices, "offsets": cells + 1, "indices": entries, "labels": entries, "patterns": cells}
    whole = with_rows(found, sizes)
    pieces = 2 if cells > _MANY else 1

    def copy(k: int, piece: int, moves: IntArray) -> None:
        part, (number, new), m = done[k][0], numbers[k - 1], int(counts[k, 2])
        _copy(
            m * piece // pieces, m * (piece + 1) // pieces, moves, number, new, part.place, part.offsets, part.indices,
            part.labels, part.patterns, whole.place, whole.offsets, whole.indices, whole.labels, whole.patterns,
        )  # fmt: skip

    moves = _moves(done, pieces)
    waiting = [pool(threads).submit(copy, *m) for m in moves[1:]]
    for move in moves[:1]:
        copy(*move)
    for other in waiting:
        other.result()
    total = walk._replace(counts=walk.counts.copy())
    total.counts[[CELLS, INDICES, VERTICES]] = cells, entries, vertices
    for part, other, _ in done[1:]:
        whole.area[:] += part.area
        total.counts[[INNER, EXACT, RANGE, FULL]] += other.counts[[INNER, EXACT, RANGE, FULL]]
    return whole, total


def _moves(done: list[tuple[Any, Any, list[Segment]]], pieces: int) -> list[tuple[int, int, IntArray]]:
    """For each thread but the first, and each share of the copying: pieces `first` to `stop`, and the first one's number and entry in the whole."""
    cell, entry, rows = 0, 0, {k: [] for k in range(1, len(done))}
    for _, k, first, stop in sorted(s for _, _, segments in done for s in segments):
        offsets = done[k][0].offsets
        begin = int(offsets[first])
        if k:
            ends = [first + (stop - first) * i // pieces for i in range(pieces + 1)]
            rows[k] += [(i, a, b, cell + a - first, entry + int(offsets[a]) - begin) for i, (a, b) in enumerate(zip(ends, ends[1:]))]  # fmt: skip
        cell, entry = cell + stop - first, entry + int(offsets[stop]) - begin
    return [
        (k, i, np.array([r[1:] for r in of if r[0] == i], np.int64).reshape(-1, 4))
        for k, of in rows.items()
        for i in range(pieces)
    ]


@njit(cache=True, nogil=True, _nrt=False)
def _copy(
    first, to, moves, number, new, place, offsets, indices, labels, patterns, place2, offsets2, indices2, labels2, patterns2
):  # fmt: skip
    """Pieces of a walk into the whole as `moves` say; its vertices `first` to `to` if numbered from `new` on."""
    for v in range(first, to):
        q = number[nth(v)]
        if q >= new:
            place2[nth(q), 0], place2[nth(q), 1] = place[nth(v), 0], place[nth(v), 1]
    for m in range(len(moves)):
        begin, end, cell, entry = moves[m, 0], moves[m, 1], moves[m, 2], moves[m, 3]
        entry -= offsets[begin]
        for k in range(begin, end):
            offsets2[nth(cell + k - begin + 1)] = offsets[nth(k + 1)] + entry
            for i in range(patterns.shape[1]):
                patterns2[nth(cell + k - begin), nth(i)] = patterns[nth(k), nth(i)]
        for i in range(offsets[begin], offsets[end]):
            indices2[nth(entry + i)], labels2[nth(entry + i)] = number[nth(np.int64(indices[nth(i)]))], labels[nth(i)]
