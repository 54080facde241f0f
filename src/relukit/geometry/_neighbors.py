"""How finished cells hang together: the cell across each facet, and the edges."""

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from relukit._numba import njit
from relukit.geometry._bits import lowest, nth, ones
from relukit.geometry._clip import AFTER, HEAD, OTHER
from relukit.geometry._form import Form

_ROOM: WeakKeyDictionary[Form, list[tuple[Any, ...]]] = WeakKeyDictionary()  # arrays of searches that are over
_KEPT = 64 << 20  # bytes of them that a form keeps
_EDGE = 48  # bytes that an edge of a cell takes while edges are counted: its name, that of the share before, up to four places in a table
_LEAST = 64 << 20  # bytes that are taken for it in any case


def search_neighbors(form: Form, offsets: Any, indices: Any, masks: Any, facet_offsets: Any, facets: Any, cuts: int, vertices: int) -> tuple[Any, int]:  # fmt: skip
    """The cell across each facet, and how many facets inside the domain have none; see `facet_neighbors`.

    Arguments:
        facets: Labels: negative for the box, below `cuts` for a half-space of a polytope.
    """
    neighbors, room = np.empty(len(facets), np.int64), take_room(form, len(facets), vertices)
    words_by_number(room[-1])
    unmatched = facet_neighbors(offsets, indices, masks, facet_offsets, facets, cuts, *room, neighbors)
    leave_room(form, room)
    return neighbors, int(unmatched)


def take_room(form: Form, facets: int, vertices: int) -> tuple[Any, ...]:
    """What a search works in, of an earlier one where it fits."""
    lists = 1 << max(4, (facets // 4).bit_length())
    try:
        kept = _ROOM.get(form, []).pop()
    except IndexError:
        kept = None
    if kept is not None and len(kept[0]) >= facets and len(kept[1]) == lists and len(kept[4]) >= vertices:
        kept[1][:] = -1
        return kept
    kind = np.int32 if facets < 2**31 else np.int64
    return (
        np.empty(facets, np.uint64), np.full(lists, -1, kind), np.empty(facets, kind), np.empty(facets, kind), np.empty(vertices, np.uint64)
    )  # fmt: skip


def leave_room(form: Form, room: tuple[Any, ...]) -> None:
    """A search is over: the next one may work in its arrays."""
    if sum(a.nbytes for a in room) < _KEPT:
        _ROOM.setdefault(form, []).append(room)


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def _mix(v):
    """A random-looking word per number (SplitMix64, Steele, Lea and Flood, 2014)."""
    z = np.uint64(v + 1) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(cache=True, nogil=True, _nrt=False)
def words_by_number(words):
    """A random-looking word for each vertex."""
    for v in range(len(words)):
        words[v] = _mix(v)


@njit(cache=True, nogil=True, _nrt=False)
def words_by_edge(link, prefix, count, words):
    """The same, from the words of the two vertices whose edge a vertex cuts: one for all walks that begin with the same `prefix` vertices."""
    for v in range(prefix):
        words[v] = _mix(v)
    for v in range(count):
        word = words[nth(v)]
        u = np.int64(link[nth(v), HEAD])
        while u >= 0:
            words[nth(u)] = _mix(np.int64(word + words[nth(np.int64(link[nth(u), OTHER]))]))
            u = np.int64(link[nth(u), AFTER])


@njit(cache=True, nogil=True, _nrt=False)
def facet_neighbors(offsets, indices, masks, facet_offsets, facets, cuts, keys, head, after, owner, words, neighbor):
    """The cell across each facet, -1 at the domain's sides, -2 where none was found; returns how many of the latter.

    The two sides of an inner facet hold the same vertices, so that the sum of their random words names it. Facets wait in
    lists until the other side comes and takes them out, so that the lists stay short: cells near each other come soon after each other.

    Arguments:
        facets, cuts: Labels; those below `cuts` lie on a side of the domain.
        keys, head, after, owner: Room: one word per facet; lists (-1: empty; a power of two of them); the cell of each facet.
        words: One per vertex.
    """
    W, unmatched, last = len(masks), 0, np.uint64(len(head) - 1)
    for c in range(len(offsets) - 1):
        f, stop = nth(facet_offsets[c]), facet_offsets[c + 1]
        for k in range(f, stop):
            keys[nth(k)] = 0
        for q in range(W):
            mask = masks[q]
            for i in range(nth(offsets[c]), offsets[c + 1]):
                m, h = mask[nth(i)], words[nth(np.int64(indices[nth(i)]))]
                while m:
                    keys[nth(f + 64 * q + lowest(m))] += h
                    m &= m - np.uint64(1)
        for k in range(f, stop):
            owner[nth(k)] = c
            if facets[nth(k)] < cuts:
                neighbor[nth(k)] = -1
                continue
            key = keys[nth(k)]
            s = nth(np.int64((key >> np.uint64(20)) & last))
            before, other = -1, np.int64(head[s])
            while other >= 0 and keys[nth(other)] != key:
                before, other = other, np.int64(after[nth(other)])
            if other < 0:
                after[nth(k)], head[s], neighbor[nth(k)] = head[s], k, -2
                unmatched += 1
                continue
            neighbor[nth(other)], neighbor[nth(k)] = c, owner[nth(other)]
            unmatched -= 1
            if before < 0:
                head[s] = after[nth(other)]
            else:
                after[nth(before)] = after[nth(other)]
    return unmatched


@njit(cache=True, nogil=True, _nrt=False)
def match_across(head, keys, after, owner, home, shift, head2, keys2, after2, owner2, home2, shift2, neighbor):
    """Facets that two walks left in their lists, with the same words: each is the other's; returns how many pairs.

    Arguments:
        home, shift: For each cell of a walk its number in the whole, and what its facets' numbers are less there.
    """
    last, pairs = np.uint64(len(head2) - 1), 0
    for s in range(len(head)):
        k = np.int64(head[s])
        while k >= 0:
            key = keys[nth(k)]
            t = nth(np.int64((key >> np.uint64(20)) & last))
            other = np.int64(head2[t])
            while other >= 0 and keys2[nth(other)] != key:
                other = np.int64(after2[nth(other)])
            if other >= 0:
                a, b = np.int64(owner[nth(k)]), np.int64(owner2[nth(other)])
                neighbor[nth(k + shift[nth(a)])], neighbor[nth(other + shift2[nth(b)])] = home2[nth(b)], home[nth(a)]
                pairs += 1
            k = np.int64(after[nth(k)])
    return pairs


def count_edges(offsets: Any, indices: Any, masks: Any, D: int) -> int:
    """Number of edges, those of several cells once; a share of them at a time where a fourth of the memory that is left holds no more."""
    from relukit.geometry._enumerate import memory_left

    cells, none = (offsets, indices, masks, D, len(offsets) - 1), np.empty(0, np.int64)
    total, count = cell_edges(*cells, 0, 1, none), 0
    shares = 1 + int(_EDGE * total / max(memory_left() / 4, _LEAST)) if _EDGE * total > _LEAST else 1
    for share in range(shares):
        ends = np.empty(total if shares == 1 else cell_edges(*cells, share, shares, none), np.int64)
        cell_edges(*cells, share, shares, ends)
        count += distinct(ends, np.zeros(1 << (2 * len(ends) + 1).bit_length(), np.int64))
    return int(count)


@njit(cache=True, nogil=True, _nrt=False)
def cell_edges(offsets, indices, masks, D, count, share, shares, ends):
    """Edges of all cells as vertex pairs (`larger << 32 | smaller`) into `ends`, if there is room: those with one remainder by `shares`; returns how many.

    Two vertices on more than D facets each are joined where no third one lies on all the facets they share.
    """
    W, total = len(masks), 0
    for c in range(count):
        a, b = offsets[c], offsets[c + 1]
        for i in range(a, b):
            for j in range(a, i):
                shared, first, second = 0, 0, 0
                for q in range(W):
                    shared += ones(masks[q, i] & masks[q, j])
                if shared < D - 1:
                    continue
                for q in range(W):
                    first += ones(masks[q, i])
                    second += ones(masks[q, j])
                edge = True
                if first > D and second > D:
                    for k in range(a, b):
                        if k != i and k != j:
                            inside = True
                            for q in range(W):
                                both = masks[q, i] & masks[q, j]
                                inside = inside and (masks[q, k] & both) == both
                            if inside:
                                edge = False
                                break
                if edge:
                    name = (np.int64(max(indices[i], indices[j])) << 32) | min(indices[i], indices[j])
                    if shares == 1 or name % shares == share:
                        if total < len(ends):
                            ends[total] = name
                        total += 1
    return total


@njit(cache=True, nogil=True, _nrt=False)
def distinct(keys, table):
    """How many different keys there are; `table` is zero, a power of two, and larger."""
    total, last = 0, len(table) - 1
    for i in range(len(keys)):
        s = np.int64(_mix(keys[i]) & np.uint64(last))
        while table[s] and table[s] != keys[i] + 1:
            s = (s + 1) & last
        if table[s] == 0:
            table[s] = keys[i] + 1
            total += 1
    return total
