"""All cells of a form with D coordinates, as vertex lists that hinges cut, with exact signs (see `_signs`).

A cell is the list of its vertices, each with a bit mask of the facets it lies on; slots say which hinge (or side of the
domain) a facet belongs to. A hinge that is positive at one vertex and negative at another cuts the cell, and each edge that
changes sign gets a vertex. A facet that only vertices on the cut still touch is none.

Cells lie one after the other on a stack; a cut writes its two parts behind the cell it cuts. The part where the hinge is
off waits there, the other goes on. Signs are words of bits, so that what still may cut a part is known from its vertices' words alone; the
first of these hinges, in their order, cuts it.

Vertices are shared: an edge is cut first by one hinge only, seen alike from all cells around it since every hinge is
continuous, so the pair of its ends names the new vertex.
"""

from typing import NamedTuple

import numpy as np

from relukit._numba import njit
from relukit._types import Array, IntArray
from relukit.geometry._bits import lowest, nth
from relukit.geometry._cut import cut, facets_of, finish, free_slot, keep, keep_fresh, only_facets
from relukit.geometry._rational import STOP
from relukit.geometry._signs import MANY, begin, open_in, settle_open, sort_by_sign, take
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
    sign_by_terms,
)


class Solids(NamedTuple):
    """Waiting cells (a stack), the shared vertices, remembered signs, and the finished cells; W words per mask."""

    meta: IntArray  # stage, first candidate of the word, vertices, place of the first one, place of the sum in `Walk.rows`
    open: IntArray  # hinges of the word that are still to be tried; that are on, and not yet in the pattern
    slots: IntArray  # (depth, 64 W)
    pattern: Array
    v: IntArray  # vertices of the cells on the stack
    mask: Array  # (W, ...): facets of the cell that they lie on
    plus: IntArray  # words of signs (see `_signs`)
    minus: IntArray
    zero: IntArray
    grid: Array  # for each word of each stage of the path, the rows of its hinges (see `_signs.take`)
    grid_at: IntArray  # number of each stage's first word
    reach: Array  # largest |x|_1 of the path's cell in each stage, at least
    vx: Array  # (V, D)
    vd: Array  # error radius of each coordinate
    link: IntArray  # (V, 3), as in `Polygons`
    sign_key: IntArray  # vertex * hinges + hinge, + 1
    sign: IntArray
    offsets: IntArray
    indices: IntArray
    masks: Array  # (W, ...): facets of the cell that each vertex lies on, numbered within the cell
    facet_offsets: IntArray
    facets: IntArray  # label of each facet
    patterns: Array
    ends: IntArray  # (2, ...): room for vertices of one cell
    sides: IntArray  # (3, ...): which vertices are +, -, 0, eight by eight
    slot: IntArray  # the current cell's slots
    labels: IntArray
    used: Array  # (3, W): facets of the vertices on either side and on the cut
    extent: Array  # (2, D)


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def _box(V, vx, vd, f, n, D, center, half):
    """The box around a cell, rounded outward; returns the largest |x|_1 and error radius, at least."""
    reach, spread = 0.0, 0.0
    for k in range(D):
        low = vx[nth(V[nth(f)]), k]
        high = low
        for i in range(f + 1, f + n):
            x = vx[nth(V[nth(i)]), k]
            low, high = min(low, x), max(high, x)
        center[k] = 0.5 * (low + high)
        half[k] = 0.5 * (high - low) + 4 * 2.0**-52 * (abs(low) + abs(high))
        reach += max(abs(low), abs(high))
    for i in range(f, f + n):
        spread = max(spread, vd[nth(V[nth(i)])])
    return reach, spread


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def _wait(p, s, l, at, n, f, sums, rest, on, pattern, slots):
    """A cell of the stack waits as number s."""
    p.meta[nth(s), 0], p.meta[nth(s), 1], p.meta[nth(s), 2], p.meta[nth(s), 3], p.meta[nth(s), 4] = l, at, n, f, sums
    p.open[nth(s), 0], p.open[nth(s), 1] = rest, on
    for i in range(len(pattern)):
        p.pattern[nth(s), i] = pattern[i]
    kept = p.slots[nth(s)]
    for i in range(len(slots)):
        kept[i] = slots[i]


@njit(cache=True, nogil=True, _nrt=False)
def walk_cells(net, w, p, D, W, stop):
    """Finish waiting cells until none waits, `stop` are found, or room runs out; returns why."""
    V, M, P, N, Z, vx, vd, grid = p.v, p.mask, p.plus, p.minus, p.zero, p.vx, p.vd, p.grid
    slots, sides, used, center, half = p.slot, p.sides, p.used, p.extent[0], p.extent[1]
    size, first, direct, direct_at = net.size, net.first, net.direct, net.direct_at
    weight, weight_at, skips = net.weight, net.weight_at, len(net.skip)
    rows, row_at, pending, found, found_count, counts = w.rows, w.row_at, w.pending, w.found, w.found_count, w.counts
    pattern, room = w.pattern, p.ends.shape[1] - 8
    last, spare, block = len(size) - 1, len(direct) + (D + 1) * len(w.value), (D + 2) * MANY
    domain = len(net.keep) > 0 and net.keep[0] == 1  # the first stage holds half-spaces that the domain keeps to
    while counts[STACK]:
        if counts[CELLS] >= stop or net.oracle[STOP]:
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
        rest, on = p.open[s, 0], p.open[s, 1]
        for i in range(len(pattern)):
            pattern[i] = p.pattern[nth(s), i]
        kept_slots = p.slots[nth(s)]
        for i in range(64 * W):
            slots[i] = kept_slots[i]
        waits, own, dead = 0, True, False
        m = size[l + 1]
        top = sums + (D + 1) * m
        while True:
            if l >= 0:
                wide, base, start = size[nth(l)], row_at[nth(l)], first[nth(l)]
                C, E, gain, reach = (
                    net.slope_error[nth(l)],
                    net.shift_error[nth(l)],
                    weight_at[nth(l + 1)],
                    p.reach[nth(l)],
                )
                carried = 1 if l + 1 < last else 0
                many, full, half_spaces = found_count[nth(l)], 0, domain and l == 0
                while True:
                    while on:
                        u = found[nth(start + at + lowest(on))]
                        on &= on - 1
                        set_on(pattern, start + u)
                        pending[nth(waits)] = u
                        waits += carried
                        dead = half_spaces
                    if dead:
                        break
                    q = (p.grid_at[nth(l)] + (at >> 6)) * block
                    if rest == 0:
                        at += MANY
                        if at >= many:
                            break
                        q += block
                        some = min(many - at, MANY)
                        take(rows, base, wide, found, start + at, some, D, C, grid, q)
                        rest, on = begin(
                            V, P, N, Z, f, n, grid, q, D, vx, vd, C, E, -1 if some == MANY else (1 << some) - 1
                        )
                        continue
                    b = lowest(rest)
                    u = found[nth(start + at + b)]
                    g = start + u
                    plus, minus, none = sort_by_sign(P, N, Z, f, n, b, sides)
                    if plus + minus + none < n:
                        if not settle_open(net, w, p, g, b, f, n, D, W, q, C, E):
                            full = SIGNS_FULL
                            break
                        plus, minus, none = sort_by_sign(P, N, Z, f, n, b, sides)
                    if not (plus and minus):
                        rest, on = rest & (rest - 1), 1 << b if plus else 0
                        continue
                    low = f + n
                    if s + 2 > len(p.meta) or low + 4 * room > len(V) - 16 or top + spare > len(rows):
                        full = STACK_FULL
                        break
                    after = rest & (rest - 1)
                    fresh_at = low + minus + none
                    for side in range(3):
                        facets_of(M, f, n, sides, side, W, used)
                    new_slot = free_slot(used, W)
                    if new_slot < 0:
                        full = FACETS_FULL
                        break
                    keep(V, M, P, N, Z, f, n, low, sides, 1, W)
                    if none:
                        keep(V, M, P, N, Z, f, n, low + minus, sides, 2, W)
                        only_facets(M, low + minus, none, used, 1, new_slot, W)
                    fresh = cut(
                        net, w, p, g, b, f, n, fresh_at, room, D, W, grid, q, C, E, reach, plus > minus, after, new_slot
                    )  # fmt: skip
                    if fresh < 0:
                        full = -1 - fresh
                        break
                    if max(plus, minus) + none + fresh > room:
                        full = CORNERS_FULL
                        break
                    high = fresh_at + fresh
                    slots[nth(new_slot)] = g
                    keep(V, M, P, N, Z, f, n, high, sides, 0, W)
                    if none:
                        keep(V, M, P, N, Z, f, n, high + plus, sides, 2, W)
                        only_facets(M, high + plus, none, used, 0, new_slot, W)
                    keep_fresh(V, M, P, N, Z, fresh_at, fresh, high + plus + none, W)
                    rest, on = open_in(P, N, Z, low, high - low, after)
                    if half_spaces:
                        f, n = low, high - low
                        continue
                    if carried:
                        sums = settle(rows, base, wide, weight, gain, m, pending, waits, D, sums, own, top)
                    top = max(top, sums + (D + 1) * m)
                    _wait(p, s, l, at, high - low, low, sums, rest, on, pattern, slots)
                    s += 1
                    f, n, waits, own = high, plus + none + fresh, 0, False
                    rest, on = open_in(P, N, Z, f, n, after)
                    on |= 1 << b
                if dead:
                    break
                if carried:
                    sums = settle(rows, base, wide, weight, gain, m, pending, waits, D, sums, own, top)
                top = max(top, sums + (D + 1) * m)
                waits, own = 0, True
                if full:
                    _wait(p, s, l, at, n, f, sums, rest, on, pattern, slots)
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
            reach, blur = _box(V, vx, vd, f, n, D, center, half)
            p.reach[nth(l)] = reach
            counts[STAMP] += 1
            w.stamp[nth(l)] = counts[STAMP]
            C, start = net.slope_error[nth(l)], first[nth(l)]
            slack = net.shift_error[nth(l)] + C * (reach + 2 * D * blur)
            some, many = decide(
                rows, sums, wide, D, C, slack, center, half, blur, w.value, w.margin, pattern, start, w.on, found
            )  # fmt: skip
            if l and net.sparse[nth(l)]:
                left = 0
                for k in range(start, start + many):
                    u = found[nth(k)]
                    sign = sign_by_terms(net, pattern.view(np.int64), l, u, D)
                    if sign == 1:
                        set_on(pattern, start + u)
                        w.on[nth(some)] = u
                        some += 1
                    found[nth(start + left)] = u
                    left += sign == 2
                many = left
            found_count[nth(l)] = many
            if some and domain and l == 0:  # a half-space of the domain leaves it out
                break
            base, m, q = sums, size[nth(l + 1)], direct_at[nth(l + 1)]
            sums = top
            top += (D + 1) * m
            if l + 1 < last:
                carry, constant = rows[sums:top], direct[q : q + (D + 1) * m]
                for i in range((D + 1) * m):
                    carry[i] = constant[i]
                add_decided(rows, base, wide, weight, weight_at[nth(l + 1)], m, w.on, some, D, carry)
            at, rest, on = -MANY, 0, 0
        counts[STACK] = s
    return DONE
