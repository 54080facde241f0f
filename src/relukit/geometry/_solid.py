"""All cells of a form with D coordinates, as vertex lists that hinges cut, with exact signs (see `_cut`).

A cell is the list of its vertices, each with a bit mask of the facets it lies on; slots say which hinge (or side of the
domain) a facet belongs to. A hinge that is positive at one vertex and negative at another cuts the cell, and each edge that
changes sign gets a vertex. A facet that only vertices on the cut still touch is none.

Cells lie one after the other on a stack; a cut writes its two parts behind the cell it cuts. The part where the hinge is
off waits there, the other goes on.

Vertices are shared: an edge is cut first by one hinge only, seen alike from all cells around it since every hinge is
continuous, so the pair of its ends names the new vertex.
"""

from typing import NamedTuple

from numba import njit

from relukit._types import Array, IntArray
from relukit.geometry._bits import nth
from relukit.geometry._cut import cut, finish, free_slot, sort_by_sign, write_part
from relukit.geometry._signs import evaluate, open_signs
from relukit.geometry._walk import (
    BUDGET,
    CELLS,
    CORNERS_FULL,
    DONE,
    FACETS,
    FACETS_FULL,
    INDICES,
    OUTPUT_FULL,
    SIGNS_FULL,
    STACK,
    STACK_FULL,
    STAMP,
    add_decided,
    add_skips,
    decide,
    set_on,
    settle,
)

_BLURRED = 2.0**-18  # error radius, relative to |x|_1, at which a vertex is placed anew


class Solids(NamedTuple):
    """Waiting cells (a stack), the shared vertices, remembered signs, and the finished cells; W words per mask."""

    meta: IntArray  # stage, next candidate, vertices, place of the first one, place of the sum in `Walk.rows`
    slots: IntArray  # (depth, 64 W)
    pattern: Array
    bound: Array  # largest |x|_1 and error radius, at least
    v: IntArray  # vertices of the cells on the stack
    x: Array  # (D + 1, ...): their coordinates and error radius
    mask: Array  # (W, ...)
    vx: Array  # (V, D)
    vd: Array  # error radius of each coordinate
    other: IntArray  # as in `Polygons`
    head: IntArray
    after: IntArray
    sign_key: IntArray  # vertex * hinges + hinge, + 1
    sign: IntArray
    offsets: IntArray
    indices: IntArray
    masks: Array  # (W, ...): facets of the cell that each vertex lies on, numbered within the cell
    facet_offsets: IntArray
    facets: IntArray  # label of each facet
    patterns: Array
    value: Array  # room for one cell: a hinge's values
    whole: IntArray  # (4, vertices): signs, and vertices by sign
    word: Array  # masks of one side
    slot: IntArray  # the current cell's slots
    labels: IntArray
    sides: Array  # (3, W): facets of the vertices on either side and on the cut
    extent: Array  # (2, D)


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def _box(X, f, n, D, center, half):
    """The box around a cell, rounded outward; returns the largest |x|_1 and error radius, at least."""
    reach, spread, d = 0.0, 0.0, X[D]
    for k in range(D):
        x = X[k]
        low, high = x[nth(f)], x[nth(f)]
        for i in range(1, n):
            low, high = min(low, x[nth(f + i)]), max(high, x[nth(f + i)])
        center[k] = 0.5 * (low + high)
        half[k] = 0.5 * (high - low) + 4 * 2.0**-52 * (abs(low) + abs(high))
        reach += max(abs(low), abs(high))
    for i in range(n):
        spread = max(spread, d[nth(f + i)])
    return reach, spread


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def _wait(p, s, l, at, n, f, sums, reach, spread, pattern, slots):
    """A cell of the stack waits as number s."""
    p.meta[nth(s), 0], p.meta[nth(s), 1], p.meta[nth(s), 2], p.meta[nth(s), 3], p.meta[nth(s), 4] = l, at, n, f, sums
    p.bound[nth(s), 0], p.bound[nth(s), 1] = reach, spread
    for i in range(len(pattern)):
        p.pattern[nth(s), i] = pattern[i]
    kept = p.slots[nth(s)]
    for i in range(len(slots)):
        kept[i] = slots[i]


@njit(cache=True, nogil=True, _nrt=False)
def walk_cells(net, w, p, D, W, stop):
    """Finish waiting cells until none waits, `stop` are found, or room runs out; returns why."""
    room = len(p.value)
    Z, S, lists, mask = p.value, p.whole[0], p.whole[1:], p.word
    V, X, M, slots, sides, center, half = p.v, p.x, p.mask, p.slot, p.sides, p.extent[0], p.extent[1]
    size, first, direct, direct_at = net.size, net.first, net.direct, net.direct_at
    weight, weight_at, keep, skips = net.weight, net.weight_at, net.keep, len(net.skip)
    rows, row_at, pending, found, found_count, counts = w.rows, w.row_at, w.pending, w.found, w.found_count, w.counts
    pattern = w.pattern
    last, spare = len(size) - 1, len(direct) + (D + 1) * len(w.value)
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
        l, at, n, f, sums = p.meta[s, 0], p.meta[s, 1], p.meta[s, 2], p.meta[s, 3], p.meta[s, 4]
        if n > room:
            return CORNERS_FULL
        reach, spread = p.bound[s, 0], p.bound[s, 1]
        for i in range(len(pattern)):
            pattern[i] = p.pattern[nth(s), i]
        kept_slots = p.slots[nth(s)]
        for i in range(64 * W):
            slots[i] = kept_slots[i]
        waits, own, alive = 0, True, True
        m = size[l + 1]
        top = sums + (D + 1) * m
        while alive:
            if l >= 0:
                wide, base, start = size[nth(l)], row_at[nth(l)], first[nth(l)]
                C, E, gain = net.slope_error[nth(l)], net.shift_error[nth(l)], weight_at[nth(l + 1)]
                carried = 1 if l + 1 < last else 0
                many, full = found_count[nth(l)], 0
                while at < many:
                    u = found[nth(start + at)]
                    g = start + u
                    steep = D * C
                    for k in range(D):
                        steep += abs(rows[nth(base + k * wide + u)])
                    limit = E + C * reach + steep * spread
                    plus, minus = evaluate(rows, base + u, wide, X, f, n, D, Z, limit)
                    if plus + minus < n:
                        plus, minus = open_signs(net, w, p, g, f, n, D, W, base + u, wide, C, E, steep, Z, S)
                        if plus < 0:
                            full = SIGNS_FULL
                            break
                    elif plus and minus:
                        for i in range(n):
                            S[i] = 1 if Z[i] > 0 else -1
                    kept = keep[nth(g)]
                    if plus and minus:
                        if s + 2 > len(p.meta) or f + 4 * room > len(V) or top + spare > len(rows):
                            full = STACK_FULL
                            break
                        plus, minus, zero = sort_by_sign(M, f, n, W, S, lists, sides)
                        new_slot = free_slot(sides, W)
                        if new_slot < 0:
                            full = FACETS_FULL
                            break
                        low = f + n
                        fresh = cut(
                            net, w, p, g, f, n, low, room, D, W, limit, _BLURRED * reach, base + u, wide, C, E, steep, Z, lists, plus, minus, mask
                        )  # fmt: skip
                        if fresh < 0:
                            full = -1 - fresh
                            break
                        if max(plus, minus) + zero + fresh > room:
                            full = CORNERS_FULL
                            break
                        at += 1
                        for i in range(fresh):
                            length = 0.0
                            for k in range(D):
                                length += abs(X[k, nth(low + i)])
                            reach, spread = max(reach, length), max(spread, X[D, nth(low + i)])
                        slots[nth(new_slot)] = g
                        high = low + fresh + minus + zero
                        if not kept:
                            write_part(V, X, M, f, high, lists, 0, plus, zero, fresh, low, sides, new_slot, D, W)
                        write_part(V, X, M, f, low, lists, 1, minus, zero, fresh, low, sides, new_slot, D, W)
                        if kept:
                            f, n = low, high - low
                            continue
                        if carried:
                            sums = settle(rows, base, wide, weight, gain, m, pending, waits, D, sums, own, top)
                        top = max(top, sums + (D + 1) * m)
                        _wait(p, s, l, at, high - low, low, sums, reach, spread, pattern, slots)
                        s += 1
                        f, n = high, fresh + plus + zero
                        pending[0] = u
                        waits, own = carried, False
                        set_on(pattern, g)
                    else:
                        at += 1
                        if plus:
                            if kept:
                                alive = False
                                break
                            set_on(pattern, g)
                            pending[nth(waits)] = u
                            waits += carried
                if not alive:
                    break
                if carried:
                    sums = settle(rows, base, wide, weight, gain, m, pending, waits, D, sums, own, top)
                top = max(top, sums + (D + 1) * m)
                waits, own = 0, True
                if full:
                    _wait(p, s, l, at, n, f, sums, reach, spread, pattern, slots)
                    counts[STACK] = s + 1
                    return full
            l += 1
            row_at[nth(l)] = sums
            if skips:
                add_skips(net, w, l, D, size)
            wide = m
            if l == last:
                k = nth(counts[CELLS])
                for i in range(len(pattern)):
                    p.patterns[k, i] = pattern[i]
                finish(counts, V, M, f, n, W, slots, p.indices, p.masks, p.facets, p.offsets, p.facet_offsets)
                break
            reach, spread = _box(X, f, n, D, center, half)
            counts[STAMP] += 1
            w.stamp[nth(l)] = counts[STAMP]
            C = net.slope_error[nth(l)]
            slack = net.shift_error[nth(l)] + C * (reach + 2 * D * spread)
            some, many = decide(
                rows, sums, wide, D, C, slack, center, half, spread, w.value, w.margin, pattern, first[nth(l)], w.on, found
            )  # fmt: skip
            found_count[nth(l)] = many
            if some and keep[first[nth(l)]]:  # a half-space of the domain leaves it out
                break
            base, m, q = sums, size[nth(l + 1)], direct_at[nth(l + 1)]
            sums = top
            top += (D + 1) * m
            if l + 1 < last:
                carry, constant = rows[sums:top], direct[q : q + (D + 1) * m]
                for i in range((D + 1) * m):
                    carry[i] = constant[i]
                add_decided(rows, base, wide, weight, weight_at[nth(l + 1)], m, w.on, some, D, carry)
            at = 0
        counts[STACK] = s
    return DONE
