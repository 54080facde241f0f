"""The walk through polygons on several threads: the first stage's polygons are shared out, each thread keeps its own vertices.

A form cut off after its first stage has that stage's polygons as pieces, and the next stage's rows as their maps: all that a
polygon needs to go on alone. A vertex is named by the two vertices of the edge that it cuts, whoever finds it, so that two lists of
vertices become one by a look-up for each, in the order in which they were made.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np
from numba import njit

from relukit._types import Array
from relukit.geometry._bits import nth
from relukit.geometry._clip import known, remember
from relukit.geometry._enumerate import longer, planar, start_polygons, walk_on
from relukit.geometry._form import Form
from relukit.geometry._walk import CELLS, EXACT, INDICES, INNER, RANGE, STACK, STAMP, VERTICES, walk_of

_SHARE = 64  # polygons that a thread takes at a time
_NONE_LEFT = 1 << 40  # the next candidate of a polygon that has none left in its stage


def polygons_on_threads(
    form: Form, lower: Array, upper: Array, limit: int | None, on_progress: Callable[[int], Any] | None, threads: int
) -> tuple[Any, Any, bool] | None:
    """As `planar`; None where there is nothing to share out: one stage only, a polytope, or stages that skip."""
    net = form.net
    if len(net.size) < 3 or len(net.skip) or net.keep.any():
        return None
    n, m = int(net.size[0]), int(net.size[1])
    head = net._replace(size=net.size[:2], stage=net.stage[:n], keep=net.keep[:n])
    first, first_walk, complete = planar(replace(form, net=head, outputs=m, hinges=n), lower, upper, limit, None)
    if not complete:
        return None
    total, prefix = int(first_walk.counts[CELLS]), int(first_walk.counts[VERTICES])
    share = max(1, min(_SHARE, total // (4 * threads)))
    starts, lock = iter(range(0, total, share)), Lock()

    def work(_: int) -> tuple[Any, Any, bool]:
        walk = walk_of(form, lower, upper)
        found = start_polygons(form, walk, lower, upper)
        names = ("vx", "vy", "vd", "other", "head", "after")
        found = found._replace(**{k: longer(getattr(first, k)[:prefix], 4 * prefix + 1024) for k in names})
        walk.counts[VERTICES], walk.counts[STACK] = prefix, 0
        walk.counts[STAMP], walk.stamp[0] = (
            1,
            1,
        )  # the first stage counts as entered: its exact rows are still to be made
        rows = 3 * n
        walk = walk._replace(rows=longer(walk.rows, len(walk.rows) + rows + 3 * m * _SHARE))
        walk.rows[:rows] = net.direct[:rows]
        found = found._replace(
            **{k: longer(getattr(found, k), len(found.meta) + _SHARE) for k in ("meta", "pattern", "bound")}
        )
        while True:
            with lock:
                begin = next(starts, None)
            if begin is None:
                return found, walk, True
            found = _load(found, walk, first, begin, min(begin + share, total), rows, m)
            found, walk, done = walk_on(form, found, walk, limit, on_progress)
            if not done:
                return found, walk, False

    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(work, range(threads)))
    found, walk, complete = parts[0]
    for more, other, whole in parts[1:]:
        found, walk = _joined(found, walk, more, other, prefix)
        complete = complete and whole
    return found, walk, complete and (limit is None or walk.counts[CELLS] <= limit)


def _load(found: Any, walk: Any, first: Any, begin: int, end: int, rows: int, m: int) -> Any:
    """Put polygons of the first stage on an empty stack."""
    total = int(first.offsets[end] - first.offsets[begin])
    if total + 64 > len(found.x):
        names = ("x", "y", "d", "v", "label")
        found = found._replace(**{name: longer(getattr(found, name), 2 * total + 64) for name in names})
    walk.found_count[0], walk.row_at[0], walk.counts[STACK] = 0, 0, end - begin
    _fill(
        begin, end, rows, 3 * m, first.offsets, first.indices, first.labels, first.vx, first.vy, first.vd, first.patterns, first.maps,
        found.x, found.y, found.d, found.v, found.label, found.meta, found.bound, found.pattern, walk.rows,
    )  # fmt: skip
    return found


@njit(cache=True, nogil=True, _nrt=False)
def _fill(
    begin, end, rows_at, size, offsets, indices, labels, vx, vy, vd, patterns, maps, x, y, d, v, label, meta, bound, pattern, rows
):  # fmt: skip
    at = 0
    for k in range(begin, end):
        s, n = k - begin, offsets[k + 1] - offsets[k]
        meta[s, 0], meta[s, 1], meta[s, 2], meta[s, 3], meta[s, 4] = 0, _NONE_LEFT, n, at, rows_at + s * size
        reach, spread = 0.0, 0.0
        for i in range(n):
            q = indices[offsets[k] + i]
            x[at + i], y[at + i], d[at + i], v[at + i], label[at + i] = vx[q], vy[q], vd[q], q, labels[offsets[k] + i]
            reach, spread = max(reach, abs(vx[q]) + abs(vy[q])), max(spread, vd[q])
        bound[s, 0], bound[s, 1] = reach, spread
        for i in range(pattern.shape[1]):
            pattern[s, i] = patterns[k, i] if i < patterns.shape[1] else np.uint64(0)
        for i in range(size):
            rows[rows_at + s * size + i] = maps[k, i]
        at += n


def _joined(a: Any, walk: Any, b: Any, other: Any, prefix: int) -> tuple[Any, Any]:
    """The polygons of two walks that began with the same `prefix` vertices as one list."""
    count, more = (w.counts[[CELLS, INDICES, VERTICES]] for w in (walk, other))
    names = ("vx", "vy", "vd", "other", "head", "after")
    a = a._replace(**{k: longer(getattr(a, k)[: count[2]], int(count[2] + more[2])) for k in names})
    number = np.empty(more[2], np.int64)
    vertices = _put_together(
        prefix, more[2], b.head, b.after, b.other, b.vx, b.vy, b.vd, number, np.empty(more[2], np.int64), count[2],
        a.head, a.after, a.other, a.vx, a.vy, a.vd,
    )  # fmt: skip
    both = lambda name, k: np.concatenate([getattr(a, name)[: count[k]], getattr(b, name)[: more[k]]])
    a = a._replace(
        indices=np.concatenate([a.indices[: count[1]], number[b.indices[: more[1]]].astype(a.indices.dtype)]),
        labels=both("labels", 1), patterns=both("patterns", 0), maps=both("maps", 0),
        offsets=np.concatenate([a.offsets[: count[0] + 1], b.offsets[1 : more[0] + 1] + count[1]]),
        area=a.area + b.area,
    )  # fmt: skip
    walk.counts[[CELLS, INDICES, VERTICES]] = count[0] + more[0], count[1] + more[1], vertices
    walk.counts[[INNER, EXACT, RANGE]] += other.counts[[INNER, EXACT, RANGE]]
    return a, walk


@njit(cache=True, nogil=True, _nrt=False)
def _put_together(
    prefix, count, head, after, other, vx, vy, vd, number, young, total, head2, after2, other2, vx2, vy2, vd2
):  # fmt: skip
    """Number the vertices of one walk in the list of another, which grows by those it lacks; returns its new length."""
    for v in range(count):
        number[v] = v
        u = np.int64(head[v])
        while u >= 0:
            young[u] = v
            u = np.int64(after[u])
    for v in range(prefix, count):
        a, b = nth(number[young[v]]), nth(number[other[v]])
        q = known(head2, after2, other2, a, b)
        if q < 0:
            q = total
            vx2[q], vy2[q], vd2[q] = vx[v], vy[v], vd[v]
            remember(head2, after2, other2, a, b, q)
            total += 1
        number[v] = q
    return total
