"""The walk through polygons on several threads: a few hinges cut the domain, the parts are shared out, each thread keeps its own vertices.

The first hinges of the first stage come first in every list, so that a part goes on as it would have in one walk, and edges are cut in the
same order on both of their sides, whoever cuts them. A vertex is named by the two vertices of the edge that it cuts: a vertex of one list
is looked up in another by the names there of these two, and where one of them is missing, so is the vertex.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from threading import Event, Lock
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from relukit._numba import njit
from relukit._types import Array
from relukit.geometry._bits import nth
from relukit.geometry._clip import AFTER, HEAD, OTHER, known_cut, name_of, remember_cut
from relukit.geometry._enumerate import NEEDED, give_back, longer, longer_line, start_polygons, walk_on
from relukit.geometry._form import Form, Stage, pack
from relukit.geometry._walk import CELLS, EXACT, FULL, INDICES, INNER, RANGE, STACK, STAMP, VERTICES

_HINGES = 14  # that cut the domain into the parts that are shared out: up to 106; with 9 a single part held half of the pieces of a deep network
_HEADS: WeakKeyDictionary[Form, Form] = WeakKeyDictionary()  # of each form its first hinges
_PARTS: WeakKeyDictionary[Form, list[tuple[Any, Any]]] = (
    WeakKeyDictionary()
)  # arrays of parts that no thread uses at the moment
_POOLS: dict[int, ThreadPoolExecutor] = {}
_FEW = 4000  # pieces that one thread finds before two have begun
_MANY = 20_000  # pieces from which on copying them is shared out too: to wake a thread takes as long as copying some thousand
_SHARES = 6  # per thread: large enough to be worth a call, small enough that no thread ends long before another


def polygons_on_threads(
    form: Form, lower: Array, upper: Array, limit: int | None, on_progress: Callable[[int], Any] | None, threads: int
) -> tuple[Any, Any, bool] | None:
    """As `planar`; None where there is nothing to share out: no hinges, a polytope, or few pieces as the last walk knows."""
    if form.net.keep.any() or not form.hinges or NEEDED.get(form, (_FEW,))[0] < _FEW:
        return None
    head = _HEADS.get(form) or _HEADS.setdefault(form, _head(form))
    cut: Future[tuple[Any, int, _Shares]] = Future()
    halt = Event()

    def work(k: int) -> tuple[Any, Any, bool]:
        # the first thread's arrays become the result's: only the others' pieces are copied
        walk, found = (k and _taken(form)) or start_polygons(form, lower, upper)
        walk.lower[:], walk.upper[:] = lower, upper
        walk.counts[[CELLS, INDICES, INNER, EXACT, RANGE, FULL]], found.area[:] = 0, 0.0
        parts, prefix, shares = cut.result()
        found = _with_room(found, parts, prefix, shares.most, len(walk.on))
        walk.counts[VERTICES] = prefix
        while not halt.is_set():
            begin, end = shares.next(k)
            if begin == end:
                break
            _load(
                form.net, walk, begin, end, head.hinges, parts.offsets, parts.indices, parts.labels, parts.patterns, parts.place, parts.radius,
                found.x, found.y, found.d, found.name, found.meta, found.bound, found.pattern, found.list, found.pending,
            )  # fmt: skip
            found, walk, done = walk_on(form, found, walk, limit, on_progress, halt.is_set)
            if not done:
                halt.set()
        return found, walk, not halt.is_set()

    pool = _POOLS.get(threads) or _POOLS.setdefault(threads, ThreadPoolExecutor(threads - 1, "relukit"))
    others = [pool.submit(work, k) for k in range(1, threads)]  # they wake up while the domain is cut
    try:
        walk_of_head, parts = start_polygons(head, lower, upper)
        parts, walk_of_head, _ = walk_on(head, parts, walk_of_head, None, None)
        prefix = int(walk_of_head.counts[VERTICES])
        cut.set_result((parts, prefix, _Shares(int(walk_of_head.counts[CELLS]), threads)))
    except BaseException as error:
        cut.set_exception(error)
        raise
    done = []
    while len(done) < threads:  # Ctrl-C comes to this thread: the others are told, and what they found is kept
        try:
            done.append(work(0) if not done else others[len(done) - 1].result())
        except KeyboardInterrupt:
            if halt.is_set():
                raise
            halt.set()
    found, walk = _together(done, prefix, pool)
    give_back(head, walk_of_head, parts)
    for part, its_walk, _ in done[1:]:
        _PARTS.setdefault(form, []).append((its_walk, part))
    if not halt.is_set():
        give_back(form, walk, found)
        NEEDED[form] = tuple(int(walk.counts[k]) for k in (CELLS, VERTICES, INDICES))
    return found, walk, not halt.is_set() and (limit is None or walk.counts[CELLS] <= limit)


class _Shares:
    """Parts of the domain by their numbers: each thread goes through a range of its own, neighbors mostly, and then helps with the longest other.

    Fewer vertices lie on the border of two threads' parts so, and are found twice, than if the parts were dealt out in turn.
    """

    def __init__(self, total: int, threads: int) -> None:
        bounds = [total * k // threads for k in range(threads + 1)]
        self.left = [[a, b] for a, b in zip(bounds, bounds[1:])]
        self.most = max(1, total // (_SHARES * threads))
        self.lock = Lock()

    def next(self, thread: int) -> tuple[int, int]:
        """Where the thread's next parts begin and end; the same twice once there are none."""
        with self.lock:
            own = self.left[thread]
            one = own if own[0] < own[1] else max(self.left, key=lambda r: r[1] - r[0])
            few = min(self.most, (one[1] - one[0] + 1) // 2)
            if one is own:
                own[0] += few
                return own[0] - few, own[0]
            one[1] -= few
            return one[1], one[1] + few


def _taken(form: Form) -> tuple[Any, Any] | None:
    """A part's arrays of an earlier call: what they hold has been copied."""
    try:
        return _PARTS.get(form, []).pop()
    except IndexError:
        return None


def _head(form: Form) -> Form:
    """The first hinges of a form as a form of their own, with no outputs."""
    net = form.net
    n = int(net.size[0])
    few = min(n, _HINGES)
    rows = net.direct[: 3 * n].reshape(3, n)[:, :few].T
    factors = None if not len(net.plane) else (net.plane, net.plane_weight[:few], net.plane_bias[:few])
    small = pack([Stage(rows, {}), Stage(np.ones((1, 3)), {})], factors, 0)
    small = small._replace(
        slope_error=net.slope_error[:2], shift_error=net.shift_error[:2], oracle=net.oracle
    )  # the same bounds, the same vertices
    return replace(form, net=small, plain=small, outputs=1, hinges=few)


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
    """Put parts of the domain on an empty stack; the first `few` hinges of the first stage are settled in them."""
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
    for k in range(begin, end):
        s, n, reach, blur, start = k - begin, offsets[k + 1] - offsets[k], 0.0, 0.0, waits
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


def _together(done: list[tuple[Any, Any, bool]], prefix: int, pool: ThreadPoolExecutor) -> tuple[Any, Any]:
    """What several walks found that began with the same `prefix` vertices, in the first one's arrays and counts."""
    found, walk, _ = done[0]
    counts = np.array([[int(w.counts[k]) for k in (CELLS, INDICES, VERTICES)] for _, w, _ in done])
    cells, entries, _ = counts.sum(axis=0)
    link, vertices, numbers = found.link, int(counts[0, 2]), []
    for k, (part, _, _) in enumerate(done[1:], start=1):
        number, before, last = np.empty(counts[k, 2], np.int64), vertices, k + 1 == len(done)
        if not last:
            link = longer(link[:vertices], int(counts[: k + 1, 2].sum()))
        vertices = _number(
            prefix, counts[k, 2], part.link, number, np.empty(counts[k, 2], np.int64), vertices, link, not last
        )
        numbers.append((number, before))
    sizes = {"place": vertices, "offsets": cells + 1, "indices": entries, "labels": entries, "patterns": cells}
    whole = found._replace(
        **{name: longer(getattr(found, name), size) for name, size in sizes.items() if len(getattr(found, name)) < size}
    )
    starts = np.cumsum(counts, axis=0) - counts

    pieces = 2 if cells > _MANY else 1

    def copy(k: int, piece: int) -> None:
        part, (number, new), (n, _, m) = done[k][0], numbers[k - 1], counts[k]
        v, to, cell, last = (int(size * i // pieces) for size in (m, n) for i in (piece, piece + 1))
        _copy(
            v, to, cell, last, int(starts[k, 0]), int(starts[k, 1]), number, new, part.place, part.offsets, part.indices,
            part.labels, part.patterns, whole.place, whole.offsets, whole.indices, whole.labels, whole.patterns,
        )  # fmt: skip

    waiting = [pool.submit(copy, k, i) for k in range(1, len(done)) for i in range(pieces) if (k, i) != (1, 0)]
    copy(1, 0)
    for other in waiting:
        other.result()
    total = walk._replace(counts=walk.counts.copy())
    total.counts[[CELLS, INDICES, VERTICES]] = cells, entries, vertices
    for part, other, _ in done[1:]:
        whole.area[:] += part.area
        total.counts[[INNER, EXACT, RANGE, FULL]] += other.counts[[INNER, EXACT, RANGE, FULL]]
    return whole, total


@njit(cache=True, nogil=True, _nrt=False)
def _number(prefix, count, link, number, young, total, link2, keep):
    """Number the vertices of one walk in the list of another, which grows by those it lacks; returns its new length.

    Only a cut of an edge between two common vertices can be common: those are followed from the first `prefix` on. To `keep` the names
    of new vertices for a third walk, all edges are gone through.
    """
    known = total
    for v in range(count):
        number[nth(v)] = v if v < prefix else -1
    for v in range(count):
        if number[nth(v)] < 0:
            number[nth(v)] = total
            if keep:
                remember_cut(link2, number[nth(young[nth(v)])], number[nth(np.int64(link[nth(v), OTHER]))], total)
            total += 1
        a = number[nth(v)]
        if a >= known and not keep:
            continue
        u = np.int64(link[nth(v), HEAD])
        while u >= 0:
            young[nth(u)] = v
            b = number[nth(np.int64(link[nth(u), OTHER]))]
            if a < known and b < known:
                number[nth(u)] = known_cut(link2, a, b)
            u = np.int64(link[nth(u), AFTER])
    return total


@njit(cache=True, nogil=True, _nrt=False)
def _copy(
    first, to, begin, end, cell, entry, number, new, place, offsets, indices, labels, patterns, place2, offsets2, indices2, labels2, patterns2
):  # fmt: skip
    """Pieces `begin` to `end` of a walk into the whole, where its own begin at `cell` and `entry`; its vertices `first` to `to` if numbered from `new` on."""
    for v in range(first, to):
        q = number[nth(v)]
        if q >= new:
            place2[nth(q), 0], place2[nth(q), 1] = place[nth(v), 0], place[nth(v), 1]
    for k in range(begin, end):
        offsets2[nth(cell + k + 1)] = offsets[nth(k + 1)] + entry
        for i in range(patterns.shape[1]):
            patterns2[nth(cell + k), nth(i)] = patterns[nth(k), nth(i)]
    for i in range(offsets[begin], offsets[end]):
        indices2[nth(entry + i)], labels2[nth(entry + i)] = number[nth(np.int64(indices[nth(i)]))], labels[nth(i)]
