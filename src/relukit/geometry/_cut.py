"""One cell in D dimensions and one hinge that cuts it: the vertices of the cut, the two parts, the finished cell.

An edge joins two vertices that share D - 1 facets (where both lie on more than D facets, also no third vertex may lie on
all shared ones).
"""

import numpy as np
from numba import njit

from relukit.geometry._bits import lowest, nth, ones
from relukit.geometry._clip import known, remember
from relukit.geometry._vertex import facet_labels, place_anew, place_vertex, polish
from relukit.geometry._walk import CELLS, CORNERS_FULL, FACETS, INDICES, VERTICES, VERTICES_FULL


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
def sort_by_sign(M, f, n, W, S, lists, sides):
    """Vertices with sign +, -, 0 into the lists, the facets they lie on into `sides`; returns how many of each."""
    plus, minus, zero = 0, 0, 0
    above, below, on = lists[0], lists[1], lists[2]
    for i in range(n):
        s = S[i]
        above[nth(plus)], below[nth(minus)], on[nth(zero)] = i, i, i
        plus += s > 0
        minus += s < 0
        zero += s == 0
    for q in range(W):
        mask = M[q]
        a, b, c = np.uint64(0), np.uint64(0), np.uint64(0)
        for i in range(plus):
            a |= mask[nth(f + above[i])]
        for i in range(minus):
            b |= mask[nth(f + below[i])]
        for i in range(zero):
            c |= mask[nth(f + on[i])]
        sides[0, q], sides[1, q], sides[2, q] = a, b, c
    return plus, minus, zero


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def free_slot(sides, W):
    """A facet number that the cell does not use, or -1."""
    for q in range(W):
        free = ~(sides[0, q] | sides[1, q] | sides[2, q])
        if free:
            return 64 * q + lowest(free)
    return -1


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def cut(
    net, w, p, g, f, n, to, room, D, W, limit, blurred, at, wide, C, E, steep, Z, lists, plus, minus, mask
):  # fmt: skip
    """The vertices where hinge g cuts edges of a cell, written from place `to` on; how many, or -1 - (why there is no room)."""
    counts, vx, vd, V, X, M = w.counts, p.vx, p.vd, p.v, p.x, p.mask
    outer, inner, some, many = lists[0], lists[1], plus, minus
    if plus > minus:
        outer, inner, some, many = lists[1], lists[0], minus, plus
    M0 = M[0]
    for b in range(many):
        mask[b] = M0[nth(f + inner[b])]
    total, need = 0, D - 1
    for a in range(some):
        i = outer[a]
        first, start = M0[nth(f + i)], 0
        while start < many:
            stop = min(start + 64, many)
            part, hits = mask[start:stop], np.uint64(0)
            if W == 1:
                for b in range(stop - start):
                    hits |= np.uint64(ones(first & part[b]) >= need) << np.uint64(b)
            else:
                for b in range(stop - start):
                    shared = ones(first & part[b])
                    for q in range(1, W):
                        shared += ones(M[q, f + i] & M[q, f + inner[start + b]])
                    hits |= np.uint64(shared >= need) << np.uint64(b)
            while hits:
                j = inner[nth(start + lowest(hits))]
                hits &= hits - np.uint64(1)
                simple = W == 1 and (ones(first) <= D or ones(M0[nth(f + j)]) <= D)
                if not simple and not is_edge(M, f, n, W, i, j, D):
                    continue
                if total == room:
                    return -1 - CORNERS_FULL
                one, two = V[nth(f + i)], V[nth(f + j)]
                v, sharp = known(p.head, p.after, p.other, one, two), False
                if v < 0:
                    v = counts[VERTICES]
                    if v == len(vd):
                        return -1 - VERTICES_FULL
                    sharp = place_vertex(X, f, Z, i, j, D, w.rows, at, wide, C, E, steep, limit, vx, vd, v)
                    remember(p.head, p.after, p.other, one, two, v)
                    counts[VERTICES] = v + 1
                t = to + total
                for q in range(W):
                    M[q, nth(t)] = M[q, nth(f + i)] & M[q, nth(f + j)]
                if sharp or vd[nth(v)] > blurred:
                    shared = facet_labels(M, W, t, p.slot, p.labels)
                    p.labels[shared] = g
                    if sharp:
                        place_anew(net, w, D, p.labels, shared + 1, vx, vd, v)
                    else:
                        polish(net, w, D, p.labels, shared + 1, vx, vd, v)
                V[nth(t)] = v
                for k in range(D):
                    X[k, nth(t)] = vx[nth(v), k]
                X[D, nth(t)] = vd[nth(v)]
                total += 1
            start = stop
    return total


@njit(cache=True, nogil=True, _nrt=False)
def write_part(V, X, M, f, to, lists, side, strict, zero, fresh, fresh_at, sides, new_slot, D, W):
    """One part of a cut cell, from place `to` on: new vertices, then those on its side, then those on the cut."""
    own, on = lists[side], lists[2]
    total = fresh + strict + zero
    source, target = V[f:], V[to : to + total]
    if to != fresh_at:
        for i in range(fresh):
            target[i] = V[nth(fresh_at + i)]
    tail, end = target[fresh : fresh + strict], target[fresh + strict :]
    for i in range(strict):
        tail[i] = source[own[i]]
    for i in range(zero):
        end[i] = source[on[i]]
    for k in range(D + 1):
        row = X[k]
        if to != fresh_at:
            for i in range(fresh):
                row[nth(to + i)] = row[nth(fresh_at + i)]
        for i in range(strict):
            row[nth(to + fresh + i)] = row[nth(f + own[i])]
        for i in range(zero):
            row[nth(to + fresh + strict + i)] = row[nth(f + on[i])]
    for q in range(W):
        row, keep = M[q], sides[side, q]
        bit = np.uint64(0)
        if q == new_slot >> 6:
            bit = np.uint64(1) << np.uint64(new_slot & 63)
        for i in range(fresh):
            row[nth(to + i)] = (row[nth(fresh_at + i)] & keep) | bit
        for i in range(strict):
            row[nth(to + fresh + i)] = row[nth(f + own[i])]
        for i in range(zero):
            row[nth(to + fresh + strict + i)] = (row[nth(f + on[i])] & keep) | bit


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
