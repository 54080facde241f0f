"""All cells of a form with D coordinates, as vertex lists that hinges cut, with exact signs.

A cell is the list of its vertices, each with a bit mask of the facets it lies on; slots say which hinge (or side of the
domain) a facet belongs to. A hinge that is positive at one vertex and negative at another cuts the cell: an edge joins
two vertices that share D - 1 facets (where both lie on more than D facets, also no third vertex may lie on all shared
ones), and each edge that changes sign gets a vertex. A facet that only vertices on the cut still touch is none.

Vertices are shared: an edge is cut first by one hinge only, seen alike from all cells around it since every hinge is
continuous, so the pair of its ends names the new vertex. A sign belongs to a vertex and a hinge, whatever the cell:
where the float filter leaves it open, it is computed once in exact arithmetic and remembered.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from relukit._types import Array, IntArray
from relukit.geometry._bits import lowest, ones
from relukit.geometry._vertex import facet_labels, place_vertex, polish, vertex_sign
from relukit.geometry._walk import (
    BUDGET,
    CELLS,
    CORNERS_FULL,
    DONE,
    FACETS,
    FACETS_FULL,
    FAST,
    FLAT,
    INDICES,
    OUTPUT_FULL,
    SIGNS,
    SIGNS_FULL,
    STACK,
    STACK_FULL,
    STAMP,
    TESTS,
    VERTICES,
    VERTICES_FULL,
    add_decided,
    add_on,
    add_skips,
    decide,
    set_on,
)

_BLURRED = 2.0**-27  # error radius, relative to |x|_1, at which a vertex is placed anew


class Solids(NamedTuple):
    """Waiting cells (a stack), the shared vertices, remembered signs, and the finished cells; W words per mask."""

    meta: IntArray  # stage, next candidate, vertices, place in `flat`
    slots: IntArray  # (depth, 64 W)
    pattern: Array
    carry: Array
    flat: IntArray  # vertices of waiting cells
    flat_mask: Array  # (W, ...)
    vx: Array  # (V, D)
    vd: Array  # error radius of each coordinate
    vkey: IntArray
    table: IntArray
    sign_key: IntArray  # vertex * hinges + hinge, + 1
    sign: IntArray
    offsets: IntArray
    indices: IntArray
    masks: Array  # (W, ...): facets of the cell that each vertex lies on, numbered within the cell
    facet_offsets: IntArray
    facets: IntArray  # label of each facet
    patterns: Array
    maps: Array
    number: Array  # room for one cell, (D + 1, vertices): coordinates and a hinge's values
    whole: IntArray  # (7, vertices)
    word: Array  # (3 W + 1, vertices)
    small: IntArray  # (3, 64 W + 1)
    extent: Array  # (2, D)


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def slot(table, key):
    h = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((h >> np.uint64(20)) & np.uint64(len(table) - 1))


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def known(table, keys, a, b):
    """The vertex that cuts the edge between vertices a and b, or -1 - (its place in the table)."""
    key = (a << 32) | b if a > b else (b << 32) | a
    s = slot(table, key)
    while table[s]:
        v = table[s] - 1
        if keys[v] == key:
            return v
        s = (s + 1) & (len(table) - 1)
    return -1 - s


@njit(cache=True, nogil=True)
def rehash_signs(old_key, old_sign, key, sign):
    """Remembered signs into a larger table."""
    for i in range(len(old_key)):
        if old_key[i]:
            s = slot(key, old_key[i])
            while key[s]:
                s = (s + 1) & (len(key) - 1)
            key[s], sign[s] = old_key[i], old_sign[i]


@njit(cache=True, nogil=True, _nrt=False, forceinline=True, fastmath=FAST)
def _values(net_rows, at, wide, X, n, D, Z, limit):
    """A hinge's values at all vertices; how many lie above `limit` and how many below its negative."""
    c = net_rows[at + D * wide]
    for i in range(n):
        Z[i] = c
    for k in range(D):
        a = net_rows[at + k * wide]
        x = X[k]
        for i in range(n):
            Z[i] += a * x[i]
    plus, minus = 0, 0
    for i in range(n):
        plus += Z[i] > limit
        minus += Z[i] < -limit
    return plus, minus


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def _load(V, n, D, vx, vd, X):
    """Coordinates of a cell's vertices; returns the largest |x|_1 and the largest error radius."""
    reach, spread = 0.0, 0.0
    for i in range(n):
        v = V[i]
        size = 0.0
        for k in range(D):
            x = vx[v, k]
            X[k, i] = x
            size += abs(x)
        reach = max(reach, size)
        spread = max(spread, vd[v])
    return reach, spread


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def _box(X, n, D, center, half):
    """The box around a cell, rounded outward."""
    for k in range(D):
        x = X[k]
        low, high = x[0], x[0]
        for i in range(1, n):
            low, high = min(low, x[i]), max(high, x[i])
        center[k] = 0.5 * (low + high)
        half[k] = 0.5 * (high - low) + 4 * 2.0**-52 * (abs(low) + abs(high))


@njit(cache=True, nogil=True, _nrt=False)
def _is_edge(M, n, W, i, j, D):
    """Whether vertices i and j, which share at least D - 1 facets, are the ends of an edge."""
    a, b = 0, 0
    for q in range(W):
        a += ones(M[q, i])
        b += ones(M[q, j])
    if a <= D or b <= D:
        return True
    for k in range(n):
        if k != i and k != j:
            inside = True
            for q in range(W):
                both = M[q, i] & M[q, j]
                inside = inside and (M[q, k] & both) == both
            if inside:
                return False
    return True


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def _part(n, W, S, side, V, M, fresh, fresh_mask, count, new_slot, V2, M2, keep):
    """Vertices and masks of the part where the sign is `side` or 0, with `count` new vertices; returns how many."""
    m = 0
    for q in range(W):
        keep[q] = 0
    for i in range(n):
        if S[i] == side:
            V2[m] = V[i]
            for q in range(W):
                M2[q, m] = M[q, i]
                keep[q] |= M[q, i]
            m += 1
    word, bit = new_slot >> 6, np.uint64(1) << np.uint64(new_slot & 63)
    for i in range(n):
        if S[i] == 0:
            V2[m] = V[i]
            for q in range(W):
                M2[q, m] = M[q, i] & keep[q]
            M2[word, m] |= bit
            m += 1
    for i in range(count):
        V2[m] = fresh[i]
        for q in range(W):
            M2[q, m] = fresh_mask[q, i] & keep[q]
        M2[word, m] |= bit
        m += 1
    return m


@njit(cache=True, nogil=True, _nrt=False)
def _signs(net, w, p, g, n, D, W, at, wide, C, E, steep, V, M, X, Z, S, slots, labels):
    """Signs of hinge g where the cell-wide bound left some open; counts of + and -, or minus one for no room."""
    counts, vx, vd = w.counts, p.vx, p.vd
    plus, minus = 0, 0
    for i in range(n):
        v, size = V[i], 0.0
        for k in range(D):
            size += abs(X[k, i])
        z, s = Z[i], 2
        limit = E + C * size + steep * vd[v]
        if z > limit:
            s = 1
        elif z < -limit:
            s = -1
        elif limit == 0.0:
            s = 0
        else:
            key = v * (len(w.exact_stamp)) + g + 1
            q = slot(p.sign_key, key)
            while p.sign_key[q] and p.sign_key[q] != key:
                q = (q + 1) & (len(p.sign_key) - 1)
            if p.sign_key[q] == key:
                s = p.sign[q]
            else:
                if 2 * counts[SIGNS] > len(p.sign_key):
                    return -1, 0
                many = facet_labels(M, W, i, slots, labels)
                if polish(net, w, D, labels, many, vx, vd, v):
                    z, size = w.rows[at + D * wide], 0.0
                    for k in range(D):
                        X[k, i] = vx[v, k]
                        z += w.rows[at + k * wide] * vx[v, k]
                        size += abs(vx[v, k])
                    Z[i] = z
                    limit = E + C * size + steep * vd[v]
                    if z > limit:
                        s = 1
                    elif z < -limit:
                        s = -1
                if s == 2:
                    s = vertex_sign(net, w, D, labels, many, g)
                p.sign_key[q], p.sign[q] = key, s
                counts[SIGNS] += 1
            if s * z <= 0.0:  # a value of the right sign, so that a cut lies between its ends
                Z[i] = s * max(abs(z), 1e-300)
        S[i] = s
        plus += s > 0
        minus += s < 0
    return plus, minus


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def _cut(
    net,
    w,
    p,
    g,
    n,
    D,
    W,
    limit,
    blurred,
    at,
    wide,
    C,
    E,
    steep,
    V,
    M,
    X,
    Z,
    S,
    lists,
    mask,
    fresh,
    fresh_mask,
    slots,
    labels,
):
    """The vertices where hinge g cuts edges of a cell; returns how many, or -1 - (why there is no room)."""
    counts, vx, vd, vkey, table = w.counts, p.vx, p.vd, p.vkey, p.table
    below, above = lists[0], lists[1]
    few, many = 0, 0
    for i in range(n):
        if S[i] < 0:
            below[few], mask[few] = i, M[0, i]
            few += 1
        elif S[i] > 0:
            above[many] = i
            many += 1
    total, room, need = 0, len(fresh), D - 1
    for a in range(many):
        i = above[a]
        first = M[0, i]
        for b in range(few):
            shared = ones(first & mask[b])
            if W > 1:
                for q in range(1, W):
                    shared += ones(M[q, i] & M[q, below[b]])
            if shared < need:
                continue
            j = below[b]
            if not _is_edge(M, n, W, i, j, D):
                continue
            if total == room:
                return -1 - CORNERS_FULL
            v = known(table, vkey, V[i], V[j])
            if v < 0:
                v = -1 - v
                if counts[VERTICES] == len(vd):
                    return -1 - VERTICES_FULL
                u = counts[VERTICES]
                place_vertex(X, Z, i, j, D, vd[V[i]], vd[V[j]], w.rows, at, wide, C, E, steep, limit, vx, vd, u)
                vkey[u] = (max(V[i], V[j]) << 32) | min(V[i], V[j])
                table[v] = u + 1
                counts[VERTICES] = u + 1
                v = u
            for q in range(W):
                fresh_mask[q, total] = M[q, i] & M[q, j]
            if vd[v] > blurred:
                shared = facet_labels(fresh_mask, W, total, slots, labels)
                labels[shared] = g
                polish(net, w, D, labels, shared + 1, vx, vd, v)
            fresh[total] = v
            total += 1
    return total


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def _finish(net, w, p, n, D, W, V, M, slots, local):
    """Write a finished cell."""
    counts = w.counts
    k, q, f = counts[CELLS], counts[INDICES], counts[FACETS]
    total = 0
    for word in range(W):
        union = np.uint64(0)
        for i in range(n):
            union |= M[word, i]
        while union:
            b = 64 * word + lowest(union)
            local[b] = total
            p.facets[f + total] = slots[b]
            total += 1
            union &= union - np.uint64(1)
    for i in range(n):
        p.indices[q + i] = V[i]
        for word in range(W):
            p.masks[word, q + i] = 0
        for word in range(W):
            m = M[word, i]
            while m:
                b = local[64 * word + lowest(m)]
                p.masks[b >> 6, q + i] |= np.uint64(1) << np.uint64(b & 63)
                m &= m - np.uint64(1)
    counts[INDICES], counts[FACETS], counts[CELLS] = q + n, f + total, k + 1
    p.offsets[k + 1], p.facet_offsets[k + 1] = q + n, f + total
    for i in range(len(w.pattern)):
        p.patterns[k, i] = w.pattern[i]
    last = len(net.size) - 1
    base, wide = net.direct_at[last], net.size[last]
    for i in range((D + 1) * wide):
        p.maps[k, i] = w.rows[base + i]


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def _wait(w, p, l, at, n, W, V, M, slots, values):
    """Put a cell on the stack; there must be room."""
    s, f = w.counts[STACK], w.counts[FLAT]
    p.meta[s, 0], p.meta[s, 1], p.meta[s, 2], p.meta[s, 3] = l, at, n, f
    for i in range(n):
        p.flat[f + i] = V[i]
        for q in range(W):
            p.flat_mask[q, f + i] = M[q, i]
    for i in range(64 * W):
        p.slots[s, i] = slots[i]
    for i in range(len(w.pattern)):
        p.pattern[s, i] = w.pattern[i]
    for i in range(values):
        p.carry[s, i] = w.carry[i]
    w.counts[STACK], w.counts[FLAT] = s + 1, f + n


@njit(cache=True, nogil=True, _nrt=False)
def walk_cells(net, w, p, D, W, stop):
    """Finish waiting cells until none waits, `stop` are found, or room runs out; returns why."""
    room = p.whole.shape[1]
    X, Z, S, lists, mask = p.number[:D], p.number[D], p.whole[0], p.whole[1:3], p.word[3 * W]
    V, V2, fresh = p.whole[3], p.whole[4], p.whole[5]
    M, M2, fresh_mask = p.word[:W], p.word[W : 2 * W], p.word[2 * W : 3 * W]
    slots, labels, kept_facets = p.small[0], p.small[1], p.small[2].view(np.uint64)
    center, half = p.extent[0], p.extent[1]
    size, first, direct, direct_at = net.size, net.first, net.direct, net.direct_at
    weight, weight_at, keep, skips = net.weight, net.weight_at, net.keep, len(net.skip)
    rows, found, found_count, counts = w.rows, w.found, w.found_count, w.counts
    last, words = len(size) - 1, len(w.pattern)
    while counts[STACK]:
        if counts[CELLS] >= stop:
            return BUDGET
        if (  # one cell is finished per turn
            counts[CELLS] == len(p.patterns)
            or counts[INDICES] + room > len(p.indices)
            or counts[FACETS] + 64 * W > len(p.facets)
        ):
            return OUTPUT_FULL
        s = counts[STACK] - 1
        l, at, n, f = p.meta[s, 0], p.meta[s, 1], p.meta[s, 2], p.meta[s, 3]
        if n > room:
            return CORNERS_FULL
        counts[STACK], counts[FLAT] = s, f
        for i in range(n):
            V[i] = p.flat[f + i]
            for q in range(W):
                M[q, i] = p.flat_mask[q, f + i]
        for i in range(64 * W):
            slots[i] = p.slots[s, i]
        for i in range(words):
            w.pattern[i] = p.pattern[s, i]
        for i in range((D + 1) * size[l + 1]):
            w.carry[i] = p.carry[s, i]
        reach, spread = _load(V, n, D, p.vx, p.vd, X)
        alive = True
        while alive:
            if l >= 0:
                wide, base, m = size[l], direct_at[l], size[l + 1]
                C, E, gain = net.slope_error[l], net.shift_error[l], weight_at[l + 1]
                while at < found_count[l]:
                    u = found[first[l] + at]
                    g = first[l] + u
                    steep = D * C
                    for k in range(D):
                        steep += abs(rows[base + k * wide + u])
                    limit = E + C * reach + steep * spread
                    plus, minus = _values(rows, base + u, wide, X, n, D, Z, limit)
                    counts[TESTS] += n
                    full = 0
                    if plus + minus < n:
                        plus, minus = _signs(
                            net, w, p, g, n, D, W, base + u, wide, C, E, steep, V, M, X, Z, S, slots, labels
                        )
                        if plus < 0:
                            full = SIGNS_FULL
                    elif plus and minus:
                        for i in range(n):
                            S[i] = 1 if Z[i] > 0 else -1
                    fresh_count, new_slot = 0, -1
                    if plus > 0 and minus > 0:
                        fresh_count = _cut(
                            net,
                            w,
                            p,
                            g,
                            n,
                            D,
                            W,
                            limit,
                            _BLURRED * reach,
                            base + u,
                            wide,
                            C,
                            E,
                            steep,
                            V,
                            M,
                            X,
                            Z,
                            S,
                            lists,
                            mask,
                            fresh,
                            fresh_mask,
                            slots,
                            labels,
                        )
                        on_cut = n - plus - minus + fresh_count
                        if fresh_count < 0:
                            full = -1 - fresh_count
                        elif max(plus, minus) + on_cut > room:
                            full = CORNERS_FULL
                        elif counts[STACK] + 3 > len(p.meta) or counts[FLAT] + 2 * room > len(p.flat):
                            full = STACK_FULL
                        else:
                            for word in range(W):
                                union = np.uint64(0)
                                for i in range(n):
                                    union |= M[word, i]
                                if ~union:
                                    new_slot = 64 * word + lowest(~union)
                                    break
                            if new_slot < 0:
                                full = FACETS_FULL
                    if full:
                        _wait(w, p, l, at, n, W, V, M, slots, (D + 1) * m)
                        return full
                    at += 1
                    kept = keep[g]
                    if new_slot >= 0:
                        slots[new_slot] = g
                        if not kept:
                            k = _part(n, W, S, -1, V, M, fresh, fresh_mask, fresh_count, new_slot, V2, M2, kept_facets)
                            _wait(w, p, l, at, k, W, V2, M2, slots, (D + 1) * m)
                        n = _part(
                            n,
                            W,
                            S,
                            -1 if kept else 1,
                            V,
                            M,
                            fresh,
                            fresh_mask,
                            fresh_count,
                            new_slot,
                            V2,
                            M2,
                            kept_facets,
                        )
                        V, V2 = V2, V
                        M, M2 = M2, M
                        reach, spread = _load(V, n, D, p.vx, p.vd, X)
                    if plus:
                        if kept:
                            if new_slot < 0:
                                alive = False
                                break
                        else:
                            set_on(w.pattern, g)
                            add_on(rows, base, wide, weight, gain, m, u, D, w.carry)
                if not alive:
                    break
            l += 1
            wide, base = size[l], direct_at[l]
            for i in range((D + 1) * wide):
                rows[base + i] = w.carry[i]
            if skips:
                add_skips(net, w, l, D)
            if l == last:
                _finish(net, w, p, n, D, W, V, M, slots, labels)
                break
            _box(X, n, D, center, half)
            counts[STAMP] += 1
            w.stamp[l] = counts[STAMP]
            C = net.slope_error[l]
            slack = net.shift_error[l] + C * (reach + 2 * D * spread)
            some, found_count[l] = decide(
                rows, base, wide, D, C, slack, center, half, spread, w.value, w.margin, w.pattern, first[l], w.on, found
            )
            if some and keep[first[l]]:  # a half-space of the domain leaves it out
                break
            m, q = size[l + 1], direct_at[l + 1]
            for i in range((D + 1) * m):
                w.carry[i] = direct[q + i]
            add_decided(rows, base, wide, weight, weight_at[l + 1], m, w.on, some, D, w.carry)
            at = 0
    return DONE
