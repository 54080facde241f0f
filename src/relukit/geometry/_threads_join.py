"""What several threads found of a walk through cells, put together: cells in the order of the parts, vertices numbered once, facets between two threads' parts matched."""

from typing import Any, NamedTuple

import numpy as np

from relukit._numba import njit
from relukit._types import Array, IntArray
from relukit.geometry._bits import nth
from relukit.geometry._enumerate import longer
from relukit.geometry._neighbors import match_across
from relukit.geometry._shares import Segment, number_vertices, pool, with_rows
from relukit.geometry._walk import CELLS, EXACT, FACETS, FULL, INDICES, RANGE, VERTICES


class Brought(NamedTuple):
    """What one thread found."""

    found: Any
    walk: Any
    segments: list[Segment]
    neighbors: IntArray
    unmatched: int
    room: tuple[Any, ...]  # of the search for neighbors: the lists hold what is left


def joined(done: list[Brought], prefix: int, threads: int) -> tuple[Any, Any, Any]:
    """What several walks found that began with the same `prefix` vertices, in the first one's arrays and counts; cells in the order of the parts."""
    found, walk = done[0].found, done[0].walk
    counts = np.array([[int(one.walk.counts[k]) for k in (CELLS, INDICES, FACETS, VERTICES)] for one in done])
    cells, entries, facets, _ = counts.sum(axis=0).tolist()
    numbers, vertices = _numbers(done, counts, prefix)
    words = max(len(one.found.mask) for one in done)
    sizes = {"vx": vertices, "offsets": cells + 1, "indices": entries, "facet_offsets": cells + 1, "facets": facets, "patterns": cells}  # fmt: skip
    whole = with_rows(found, sizes)
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
            (keys, head, after, owner, _), (keys2, head2, after2, owner2, _) = done[k].room, done[j].room
            pairs += match_across(
                head, keys, after, owner, home[k], shift[k], head2, keys2, after2, owner2, home[j], shift[j], neighbors
            )  # fmt: skip
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
