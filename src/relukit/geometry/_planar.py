"""All polygons of a form with two coordinates, by clipping, with exact signs (see `_clip`).

Polygons lie one after the other on a stack; a cut writes its two parts behind the polygon it cuts. The part where the
hinge is off waits there, the other goes on.

Vertices are shared: a new vertex is known by the two vertices of the edge it cuts. An edge is cut first by one hinge
only, seen alike from both of its sides since every hinge is continuous, so the pair is a unique name.
"""

from typing import NamedTuple

from numba import njit

from relukit._types import Array, IntArray
from relukit.geometry._bits import nth
from relukit.geometry._clip import (
    add_area,
    box,
    doubt,
    exact_signs,
    known,
    line,
    meeting,
    put,
    remember,
    tally,
    values,
)
from relukit.geometry._exact import place_exactly
from relukit.geometry._walk import (
    BUDGET,
    CELLS,
    CORNERS_FULL,
    DONE,
    INDICES,
    INNER,
    OUTPUT_FULL,
    STACK,
    STACK_FULL,
    STAMP,
    VERTICES,
    VERTICES_FULL,
    add_decided,
    add_skips,
    decide,
    set_on,
    settle,
)


class Polygons(NamedTuple):
    """Waiting polygons (a stack), the shared vertices, and the finished pieces."""

    meta: IntArray  # stage, next candidate, corners, place of the first one, place of the sum in `Walk.rows`
    pattern: Array
    bound: Array  # largest |x| + |y| and corner error, at least
    x: Array
    y: Array
    d: Array
    v: IntArray
    label: IntArray  # of the edge from this corner to the next
    vx: Array
    vy: Array
    vd: Array
    other: IntArray  # the older end of the edge that a vertex cuts
    head: IntArray  # the last vertex that cuts an edge with this one as its younger end, and the one before it
    after: IntArray
    offsets: IntArray
    indices: IntArray
    labels: IntArray
    patterns: Array
    maps: Array
    area: Array  # twice the sum, and what rounding took from it
    value: Array  # room for one polygon
    sign: IntArray
    pair: IntArray
    extent: Array  # (2, 2)


@njit(cache=True, nogil=True, _nrt=False)
def walk_polygons(net, w, p, stop):
    """Finish waiting polygons until none waits, `stop` pieces are found, or room runs out; returns why."""
    room = len(p.value)
    Z, S, center, half = p.value, p.sign, p.extent[0], p.extent[1]
    size, first, direct, direct_at, stage = net.size, net.first, net.direct, net.direct_at, net.stage
    weight, weight_at, keep = net.weight, net.weight_at, net.keep
    slope_error, shift_error, skips = net.slope_error, net.shift_error, len(net.skip)
    rows, row_at, pending, found, found_count, stamp = w.rows, w.row_at, w.pending, w.found, w.found_count, w.stamp
    value, margin, on, pattern, counts, lower, upper = w.value, w.margin, w.on, w.pattern, w.counts, w.lower, w.upper
    meta, ppattern, bound, x, y, d, v, label = p.meta, p.pattern, p.bound, p.x, p.y, p.d, p.v, p.label
    vx, vy, vd, head, after, other = p.vx, p.vy, p.vd, p.head, p.after, p.other
    offsets, indices, labels, patterns, maps, area = p.offsets, p.indices, p.labels, p.patterns, p.maps, p.area
    last, words = len(size) - 1, len(pattern)
    pair, spare = p.pair, len(direct) + 3 * len(value)
    while counts[STACK]:
        if counts[CELLS] >= stop:
            return BUDGET
        if counts[CELLS] == len(patterns) or counts[INDICES] + room > len(indices):  # one piece is finished per turn
            return OUTPUT_FULL
        s = counts[STACK] - 1
        l, at, n, f, sums = meta[s, 0], meta[s, 1], meta[s, 2], meta[s, 3], meta[s, 4]
        reach, spread = bound[s, 0], bound[s, 1]
        for i in range(words):
            pattern[i] = ppattern[nth(s), i]
        waits, own, alive = 0, True, True
        m = size[l + 1]
        top = sums + 3 * m
        while alive:
            if l >= 0:
                wide, base, start = size[nth(l)], row_at[nth(l)], first[nth(l)]
                C, E, gain = slope_error[nth(l)], shift_error[nth(l)], weight_at[nth(l + 1)]
                many, full = found_count[nth(l)], 0
                while at < many:
                    u = found[nth(start + at)]
                    g = start + u
                    a, b, c = rows[nth(base + u)], rows[nth(base + wide + u)], rows[nth(base + 2 * wide + u)]
                    steep = abs(a) + abs(b) + 2 * C
                    plus, minus = tally(x, y, f, n, a, b, c, E + C * reach + steep * spread)
                    sure = plus + minus == n
                    if not sure:
                        values(x, y, f, n, a, b, c, Z, S)
                        plus, minus, unknown = doubt(x, y, d, f, n, C, E, steep, Z, S)
                        if unknown:
                            plus, minus = exact_signs(net, w, g, label, f, n, Z, S, pair)
                    kept = keep[nth(g)]
                    if plus and minus:
                        if n + 2 > room:
                            full = CORNERS_FULL
                        elif s + 2 > len(ppattern) or f + 3 * n + 4 > len(x) or top + spare > len(rows):
                            full = STACK_FULL
                        elif counts[VERTICES] + 2 > len(vx):
                            full = VERTICES_FULL
                        if full:  # wait as it stands
                            break
                        if sure:
                            values(x, y, f, n, a, b, c, Z, S)
                        low, high = f + n, f + 2 * n + 2  # of the two parts
                        for i in range(n):
                            j = i + 1 if i + 1 < n else 0
                            e, si, sj = f + i, S[i], S[j]
                            edge = label[nth(e)]
                            if si <= 0:
                                put(
                                    x,
                                    y,
                                    d,
                                    v,
                                    label,
                                    low,
                                    x[nth(e)],
                                    y[nth(e)],
                                    d[nth(e)],
                                    v[nth(e)],
                                    g if si == 0 and sj > 0 else edge,
                                )
                                low += 1
                            if si >= 0:
                                put(
                                    x,
                                    y,
                                    d,
                                    v,
                                    label,
                                    high,
                                    x[nth(e)],
                                    y[nth(e)],
                                    d[nth(e)],
                                    v[nth(e)],
                                    g if si == 0 and sj < 0 else edge,
                                )
                                high += 1
                            if si * sj < 0:
                                k = f + j
                                q = known(head, after, other, v[nth(e)], v[nth(k)])
                                if q < 0:
                                    t = Z[i] / (Z[i] - Z[j])
                                    q = counts[VERTICES]
                                    a2, b2, c2, C2, E2 = line(
                                        size, first, stage, row_at, rows, slope_error, shift_error, lower, upper, edge
                                    )
                                    X, Y, r, sharp = meeting(
                                        x[nth(e)] + t * (x[nth(k)] - x[nth(e)]),
                                        y[nth(e)] + t * (y[nth(k)] - y[nth(e)]),
                                        a,
                                        b,
                                        c,
                                        C,
                                        E,
                                        a2,
                                        b2,
                                        c2,
                                        C2,
                                        E2,
                                    )
                                    if sharp:
                                        pair[0], pair[1] = edge, g
                                        placed = place_exactly(net, w, pair, 2, center)
                                        if placed >= 0:
                                            X, Y, r = center[0], center[1], placed
                                    vx[nth(q)], vy[nth(q)], vd[nth(q)] = X, Y, r
                                    remember(head, after, other, v[nth(e)], v[nth(k)], q)
                                    counts[VERTICES] = q + 1
                                else:
                                    X, Y, r = vx[nth(q)], vy[nth(q)], vd[nth(q)]
                                spread = max(spread, r)
                                reach = max(reach, abs(X) + abs(Y))
                                put(x, y, d, v, label, low, X, Y, r, q, g if si < 0 else edge)
                                put(x, y, d, v, label, high, X, Y, r, q, g if si > 0 else edge)
                                low, high = low + 1, high + 1
                        at += 1
                        if kept:
                            f, n = f + n, low - (f + n)
                            continue
                        sums = settle(rows, base, wide, weight, gain, m, pending, waits, 2, sums, own, top)
                        top = max(top, sums + 3 * m)
                        meta[nth(s), 0], meta[nth(s), 1], meta[nth(s), 2], meta[nth(s), 3], meta[nth(s), 4] = (
                            l,
                            at,
                            low - (f + n),
                            f + n,
                            sums,
                        )
                        bound[nth(s), 0], bound[nth(s), 1] = reach, spread
                        for i in range(words):
                            ppattern[nth(s), i] = pattern[i]
                        s += 1
                        f, n = f + 2 * n + 2, high - (f + 2 * n + 2)
                        pending[0] = u
                        waits, own = 1, False
                        set_on(pattern, g)
                    else:
                        at += 1
                        if plus:
                            if kept:
                                alive = False
                                break
                            set_on(pattern, g)
                            pending[nth(waits)] = u
                            waits += 1
                if not alive:
                    break
                sums = settle(rows, base, wide, weight, gain, m, pending, waits, 2, sums, own, top)
                top = max(top, sums + 3 * m)
                waits, own = 0, True
                if full:
                    meta[s, 0], meta[s, 1], meta[s, 2], meta[s, 3], meta[s, 4] = l, at, n, f, sums
                    bound[s, 0], bound[s, 1] = reach, spread
                    for i in range(words):
                        ppattern[s, i] = pattern[i]
                    counts[STACK] = s + 1
                    return full
            l += 1
            row_at[nth(l)] = sums
            if skips:
                add_skips(net, w, l, 2)
            wide = m
            if l == last:
                k, q = counts[CELLS], counts[INDICES]
                inner = 0
                for i in range(n):
                    edge = label[nth(f + i)]
                    indices[nth(q + i)], labels[nth(q + i)] = v[nth(f + i)], edge
                    inner += edge >= 0
                counts[INNER] += inner
                counts[INDICES] = q + n
                counts[CELLS] = k + 1
                offsets[nth(k + 1)] = q + n
                for i in range(words):
                    patterns[nth(k), i] = pattern[i]
                for i in range(3 * wide):
                    maps[nth(k), i] = rows[nth(sums + i)]
                add_area(x, y, f, n, area)
                break
            reach, spread = box(x, y, d, f, n, center, half)
            counts[STAMP] += 1
            stamp[nth(l)] = counts[STAMP]
            C = slope_error[nth(l)]
            slack = shift_error[nth(l)] + C * (reach + 4 * spread)
            some, many = decide(
                rows, sums, wide, 2, C, slack, center, half, spread, value, margin, pattern, first[nth(l)], on, found
            )
            found_count[nth(l)] = many
            if some and keep[first[nth(l)]]:  # a half-space of the domain leaves it out
                break
            base, m, q = sums, size[nth(l + 1)], direct_at[nth(l + 1)]
            sums = top
            top += 3 * m
            carry, constant = rows[sums:top], direct[q : q + 3 * m]
            for i in range(3 * m):
                carry[i] = constant[i]
            add_decided(rows, base, wide, weight, weight_at[nth(l + 1)], m, on, some, 2, carry)
            at = 0
        counts[STACK] = s
    return DONE
