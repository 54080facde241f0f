"""One cell in D dimensions and one hinge that cuts it: the vertices of the cut, the two parts, the finished cell.

An edge joins two vertices that share D - 1 facets (where both lie on more than D facets, also no third vertex may lie on
all shared ones).
"""

import numpy as np
from numba import njit

from relukit.geometry._bits import lowest, nth, ones
from relukit.geometry._clip import known, remember
from relukit.geometry._lanes import sharing
from relukit.geometry._signs import words_at
from relukit.geometry._vertex import facet_labels, place_anew, place_vertex, polish
from relukit.geometry._walk import CELLS, CORNERS_FULL, FACETS, INDICES, VERTICES, VERTICES_FULL

_BLURRED = 2.0**-18  # error radius, relative to |x|_1, at which a vertex is placed anew


@njit(cache=True, nogil=True, _nrt=False)
def is_edge(M, f, n, W, i, j, D):
    """Whether vertices i and j, which share at least D - 1 facets, are the ends of an edge."""
    a, b = 0, 0
    for q in range(W):
        a += ones(M[q, f + i])
        b += ones(M[q, f + j])
    if a <= D or b <= D:
        return True
    for k in range(n):
        if k != i and k != j:
            inside = True
            for q in range(W):
                both = M[q, f + i] & M[q, f + j]
                inside = inside and (M[q, f + k] & both) == both
            if inside:
                return False
    return True


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def free_slot(used, W):
    """A facet number that the cell does not use, or -1."""
    for q in range(W):
        free = ~(used[0, q] | used[1, q] | used[2, q])
        if free:
            return 64 * q + lowest(free)
    return -1


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def cut(net, w, p, g, b, f, n, to, room, D, W, grid, q, C, E, reach, lists, plus, minus, rest):
    """The vertices where hinge g, number b of the word, cuts edges of a cell, written from place `to` on.

    Arguments:
        grid, q: Rows of the word's hinges. rest: Those that are still to be tried.
        reach: Largest |x|_1 in the cell, at least.

    Returns:
        How many, or -1 - (why there is no room).
    """
    counts, vx, vd, V, M, mask = w.counts, p.vx, p.vd, p.v, p.mask, p.word
    some_plus, some_minus, some_zero = p.plus, p.minus, p.zero
    outer, inner, some, many, swapped = lists[0], lists[1], plus, minus, False
    if plus > minus:
        outer, inner, some, many, swapped = lists[1], lists[0], minus, plus, True
    M0 = M[0]
    for k in range(many):
        mask[nth(k)] = M0[nth(f + inner[nth(k)])]
    total, need, blurred = 0, D - 1, _BLURRED * reach
    for a in range(some):
        i = f + outer[nth(a)]
        first, start = M0[nth(i)], 0
        while start < many:
            if W == 1:
                hits = sharing(mask, nth(start), first, need)
            else:
                hits = 0
                for k in range(start, min(start + 8, many)):
                    shared = 0
                    for r in range(W):
                        shared += ones(M[r, nth(i)] & M[r, nth(f + inner[nth(k)])])
                    hits |= (shared >= need) << (k - start)
            if many - start < 8:
                hits &= (1 << (many - start)) - 1
            while hits:
                j = f + inner[nth(start + lowest(hits))]
                hits &= hits - 1
                simple = W == 1 and (ones(first) <= D or ones(M0[nth(j)]) <= D)
                if not simple and not is_edge(M, f, n, W, i - f, j - f, D):
                    continue
                if total == room:
                    return -1 - CORNERS_FULL
                one, two = np.int64(V[nth(i)]), np.int64(V[nth(j)])
                v, sharp, t = known(p.head, p.after, p.other, one, two), False, to + total
                if v < 0:
                    v = counts[VERTICES]
                    if v == len(vd):
                        return -1 - VERTICES_FULL
                    if swapped:
                        sharp = place_vertex(vx, vd, two, one, D, grid, q + b, C, E, reach, v)
                    else:
                        sharp = place_vertex(vx, vd, one, two, D, grid, q + b, C, E, reach, v)
                    remember(p.head, p.after, p.other, one, two, v)
                    counts[VERTICES] = v + 1
                V[nth(t)] = v
                for r in range(W):
                    M[r, nth(t)] = M[r, nth(i)] & M[r, nth(j)]
                if sharp or vd[nth(v)] > blurred:
                    shared = facet_labels(M, W, t, p.slot, p.labels)
                    p.labels[shared] = g
                    if sharp:
                        place_anew(net, w, D, p.labels, shared + 1, vx, vd, v)
                    else:
                        polish(net, w, D, p.labels, shared + 1, vx, vd, v)
                up, down, on = some_plus[nth(i)] & some_plus[nth(j)], some_minus[nth(i)] & some_minus[nth(j)], 0
                open_ = rest & ~(up | down)
                if open_:
                    x, y, on = words_at(grid, q, D, vx, vd, v, C, E, open_)
                    up, down = up | x, down | y
                some_plus[nth(t)], some_minus[nth(t)], some_zero[nth(t)] = up, down, on
                total += 1
            start += 8
    return total


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def keep_strict(V, M, plus, minus, zero, f, to, own, strict, used, side, W):
    """The vertices on one side of a cut, from place `to` on; their facets into `used[side]`."""
    for i in range(strict):
        a, t = f + own[nth(i)], to + i
        V[nth(t)] = V[nth(a)]
        plus[nth(t)], minus[nth(t)], zero[nth(t)] = plus[nth(a)], minus[nth(a)], zero[nth(a)]
    for q in range(W):
        row, union = M[q], np.uint64(0)
        for i in range(strict):
            m = row[nth(f + own[nth(i)])]
            row[nth(to + i)] = m
            union |= m
        used[side, q] = union


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def keep_cut(V, M, plus, minus, zero, f, to, on, many, fresh_at, fresh, used, side, new_slot, W):
    """The vertices on a cut for one of its sides, from place `to` on: those that were there, then the new ones."""
    for i in range(many):
        a, t = f + on[nth(i)], to + i
        V[nth(t)] = V[nth(a)]
        plus[nth(t)], minus[nth(t)], zero[nth(t)] = plus[nth(a)], minus[nth(a)], zero[nth(a)]
    for i in range(fresh):
        a, t = fresh_at + i, to + many + i
        V[nth(t)] = V[nth(a)]
        plus[nth(t)], minus[nth(t)], zero[nth(t)] = plus[nth(a)], minus[nth(a)], zero[nth(a)]
    for q in range(W):
        row, kept, bit = M[q], used[side, q], np.uint64(0)
        if q == new_slot >> 6:
            bit = np.uint64(1) << np.uint64(new_slot & 63)
        for i in range(many):
            row[nth(to + i)] = (row[nth(f + on[nth(i)])] & kept) | bit
        for i in range(fresh):
            row[nth(to + many + i)] = row[nth(fresh_at + i)] | bit


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def open_in(plus, minus, zero, f, n, rest):
    """Of the hinges in `rest`: which may cut a cell, and which are on in all of it."""
    some, other, known_ = 0, 0, -1
    for i in range(f, f + n):
        a, b = plus[nth(i)], minus[nth(i)]
        some, other, known_ = some | a, other | b, known_ & (a | b | zero[nth(i)])
    return rest & (some & other | ~known_), rest & some & ~other & known_


@njit(cache=True, nogil=True, _nrt=False)
def finish(counts, V, M, f, n, W, slots, indices, masks, facets, offsets, facet_offsets):
    """Write a finished cell; its facets are numbered anew, without gaps."""
    k, q, total = counts[CELLS], counts[INDICES], 0
    facets = facets[counts[FACETS] :]
    for word in range(W):
        out = masks[word, q : q + n]
        for i in range(n):
            out[i] = 0
    for word in range(W):
        row = M[word, f : f + n]
        union = np.uint64(0)
        for i in range(n):
            union |= row[i]
        if total & 63 == 0:  # the facets before the first gap keep their places
            prefix = lowest(~union)
            keep = ~np.uint64(0) if prefix == 64 else (np.uint64(1) << np.uint64(prefix)) - np.uint64(1)
            out = masks[total >> 6, q : q + n]
            for i in range(n):
                out[i] = row[i] & keep
            for b in range(prefix):
                facets[nth(total + b)] = slots[nth(64 * word + b)]
            total += prefix
            union &= ~keep
        while union:
            b = lowest(union)
            facets[nth(total)] = slots[nth(64 * word + b)]
            out, down, up = masks[total >> 6, q : q + n], np.uint64(b), np.uint64(total & 63)
            for i in range(n):
                out[i] |= ((row[i] >> down) & np.uint64(1)) << up
            total += 1
            union &= union - np.uint64(1)
    for i in range(n):
        indices[nth(q + i)] = V[nth(f + i)]
    counts[INDICES], counts[FACETS], counts[CELLS] = q + n, counts[FACETS] + total, k + 1
    offsets[nth(k + 1)], facet_offsets[nth(k + 1)] = q + n, counts[FACETS]
