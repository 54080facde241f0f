"""One cell in D dimensions and one hinge that cuts it: the vertices of the cut, the two parts, the finished cell.

An edge joins two vertices that share D - 1 facets (where both lie on more than D facets, also no third vertex may lie on
all shared ones).
"""

import numpy as np

from relukit._lanes import copy
from relukit._numba import njit
from relukit.geometry._bits import lowest, nth, ones, squeeze
from relukit.geometry._clip import known_cut, remember_cut
from relukit.geometry._signs import words_at
from relukit.geometry._vertex import FAR, facet_labels, place_anew, place_vertex, polish
from relukit.geometry._walk import CELLS, CORNERS_FULL, FACETS, INDICES, SLOTS, VERTICES, VERTICES_FULL
from relukit.geometry._words import numbers, pack, sharing, union

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
def facets_of(M, f, n, sides, side, W, used):
    """The facets that the vertices on one side lie on, into `used[side]`."""
    for q in range(W):
        row, all_ = M[q], np.uint64(0)
        for i in range(0, n, 8):
            all_ |= union(row, nth(f + i), sides[side, nth(i >> 3)])
        used[side, q] = all_


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def free_slot(used, W):
    """A facet number that the cell does not use, or -1."""
    for q in range(W):
        free = ~(used[0, q] | used[1, q] | used[2, q])
        if free:
            return 64 * q + lowest(free)
    return -1


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def keep(V, M, plus, minus, zero, f, n, to, sides, side, W):
    """The vertices on one side of a cut (2: on it), from place `to` on; what follows there is overwritten."""
    row = M[0]
    for i in range(0, n, 8):
        bits, a = sides[side, nth(i >> 3)], nth(f + i)
        pack(V, a, bits, to)
        pack(row, a, bits, to)
        pack(plus, a, bits, to)
        pack(minus, a, bits, to)
        pack(zero, a, bits, to)
        for q in range(1, W):
            pack(M[q], a, bits, to)
        to += ones(bits)


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def keep_fresh(V, M, plus, minus, zero, f, n, to, W):
    """The n new vertices at place f, from place `to` on."""
    row = M[0]
    for i in range(0, n, 8):
        a, t = nth(f + i), nth(to + i)
        copy(V, a, t)
        copy(row, a, t)
        copy(plus, a, t)
        copy(minus, a, t)
        copy(zero, a, t)
        for q in range(1, W):
            copy(M[q], a, t)


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def only_facets(M, to, n, used, side, slot, W):
    """Vertices on a cut keep the facets of one side, and lie on the new one."""
    for q in range(W):
        row, kept, bit = M[q], used[side, q], np.uint64(0)
        if q == slot >> 6:
            bit = np.uint64(1) << np.uint64(slot & 63)
        for i in range(to, to + n):
            row[nth(i)] = (row[nth(i)] & kept) | bit


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def cut(net, w, p, g, b, f, n, to, room, D, W, grid, q, C, E, reach, swapped, rest, slot):
    """The vertices where hinge g, number b of the word, cuts edges of a cell, written from place `to` on.

    Arguments:
        grid, q: Rows of the word's hinges. rest: Those that are still to be tried.
        reach: Largest |x|_1 in the cell, at least. swapped: More vertices lie above than below. slot: Number of the new facet.

    Returns:
        How many, or -1 - (why there is no room).
    """
    counts, vx, vd, V, M, plus, minus, zero, link = w.counts, p.vx, p.vd, p.v, p.mask, p.plus, p.minus, p.zero, p.link
    outer, pairs, M0, sides, need = p.ends[0], p.ends[1], p.mask[0], p.sides, D - 1
    few, many = (1, 0) if swapped else (0, 1)
    some = 0
    for i in range(0, n, 8):
        numbers(f + i, sides[few, nth(i >> 3)], outer, nth(some))
        some += ones(sides[few, nth(i >> 3)])
    total, blurred, new = 0, _BLURRED * reach, np.uint64(1) << np.uint64(slot & 63)
    for a in range(some):
        i, found = outer[nth(a)], 0
        first = M0[nth(i)]
        for start in range(0, n, 8):  # vertices on the other side that share enough facets with vertex i
            if W == 1:
                hits = sharing(M0, nth(f + start), first, need)
            else:
                hits = 0
                for j in range(start, min(start + 8, n)):
                    shared = 0
                    for r in range(W):
                        shared += ones(M[r, nth(i)] & M[r, nth(f + j)])
                    hits |= (shared >= need) << (j - start)
            hits &= sides[many, nth(start >> 3)]
            numbers(f + start, hits, pairs, nth(found))
            found += ones(hits)
        for k in range(found):
            j = pairs[nth(k)]
            simple = W == 1 and (ones(first) <= D or ones(M0[nth(j)]) <= D)
            if not simple and not is_edge(M, f, n, W, i - f, j - f, D):
                continue
            if total == room:
                return -1 - CORNERS_FULL
            one, two = V[nth(i)], V[nth(j)]
            v, sharp, t = known_cut(link, one, two), False, to + total
            if v < 0:
                v = counts[VERTICES]
                if v == len(vd):
                    return -1 - VERTICES_FULL
                if swapped:
                    sharp = place_vertex(vx, vd, two, one, D, grid, q + b, C, E, reach, v)
                else:
                    sharp = place_vertex(vx, vd, one, two, D, grid, q + b, C, E, reach, v)
                remember_cut(link, one, two, v)
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
                    if not vd[nth(v)] < FAR:
                        place_anew(net, w, D, p.labels, shared + 1, vx, vd, v)
            M[slot >> 6, nth(t)] |= new
            up, down, on = plus[nth(i)] & plus[nth(j)], minus[nth(i)] & minus[nth(j)], 0
            open_ = rest & ~(up | down)
            if open_:
                x, y, on = words_at(grid, q, D, vx, vd, v, C, E, open_)
                up, down = up | x, down | y
            plus[nth(t)], minus[nth(t)], zero[nth(t)] = up, down, on
            total += 1
    return total


@njit(cache=True, nogil=True, _nrt=False)
def finish(counts, V, M, f, n, W, slots, indices, masks, facets, offsets, facet_offsets):
    """Write a finished cell; its facets are numbered anew, without gaps."""
    k, q, total = counts[CELLS], counts[INDICES], 0
    facets = facets[counts[FACETS] :]
    for word in range(1, W):
        for i in range(q, q + n):
            masks[word, nth(i)] = 0
    for word in range(W):
        row, all_ = M[word], np.uint64(0)
        for i in range(0, n, 8):
            all_ |= union(row, nth(f + i), 255 if n - i >= 8 else (1 << (n - i)) - 1)
        if counts[SLOTS]:
            all_ = ~np.uint64(0)
        into, shift = total >> 6, np.uint64(total & 63)
        if shift == 0 and (word == 0 or all_):
            out = masks[into]
            for i in range(n):
                out[nth(q + i)] = squeeze(row[nth(f + i)], all_)
        elif all_:
            over = total & 63 and (total & 63) + ones(all_) > 64
            for i in range(n):
                bits = squeeze(row[nth(f + i)], all_)
                masks[into, nth(q + i)] |= bits << shift
                if over:
                    masks[into + 1, nth(q + i)] |= bits >> (np.uint64(64) - shift)
        while all_:
            facets[nth(total)] = slots[nth(64 * word + lowest(all_))]
            total += 1
            all_ &= all_ - np.uint64(1)
    for i in range(n):
        indices[nth(q + i)] = V[nth(f + i)]
    counts[INDICES], counts[FACETS], counts[CELLS] = q + n, counts[FACETS] + total, k + 1
    offsets[nth(k + 1)], facet_offsets[nth(k + 1)] = q + n, counts[FACETS]
