"""What the walks in two and in more dimensions share: rows of the current stage, the next stage's partial sums, exact rows.

A walk goes depth first: a cell enters a stage, its candidates (hinges that may cut it) are tried one by one, a cut
cell goes on with the side where the hinge is on while the other side waits on a stack. The next stage's rows are
carried down as partial sums, which lie on a stack of their own (`Walk.rows`): both sides of a cut begin with the same sum, and
the terms of hinges that turn out to be on are added some at a time, when the cell is cut again or leaves the stage. Fused
multiply-add is allowed in these sums: the bounds of `Net.slope_error` hold with and without.
"""

from typing import NamedTuple

import numpy as np

from relukit._numba import njit
from relukit._types import Array, IntArray
from relukit.geometry._bits import lowest, nth
from relukit.geometry._expansions import ROOM, WIDTH
from relukit.geometry._form import Form
from relukit.geometry._room import padded, room_for

FAST = {"contract"}
# places in `Walk.counts`; FULL: there was no memory for more; SLOTS: finished cells keep the slots of their facets, used or not
STACK, CELLS, INDICES, VERTICES, STAMP, EXACT, RANGE, INNER, FACETS, SIGNS, FULL, SLOTS = range(12)
# why a walk returns
DONE, BUDGET, STACK_FULL, VERTICES_FULL, CORNERS_FULL, FACETS_FULL, SIGNS_FULL, OUTPUT_FULL = range(8)


class Walk(NamedTuple):
    """The current path, and room for the exact stage."""

    rows: Array  # stack of (D + 1, n) blocks: rows of the path's stages, sums of waiting cells
    row_at: IntArray  # where each stage of the path begins in it
    pending: IntArray  # hinges that are on and not yet in the sum
    found: IntArray  # candidates of each stage of the path, from Net.first on
    found_count: IntArray
    stamp: IntArray  # one number per entry into a stage: exact rows made under another number are stale
    value: Array  # room for one stage: z at the center, and how much of it is uncertain
    margin: Array
    on: IntArray
    pattern: Array
    counts: IntArray
    exact_rows: Array
    exact_counts: IntArray
    exact_stamp: IntArray
    room: Array
    matrix: Array
    matrix_counts: IntArray
    minors: Array
    minor_lengths: IntArray
    flag: IntArray
    lower: Array  # the domain's box
    upper: Array


def walk_of(form: Form, lower: Array, upper: Array) -> Walk:
    """Fresh room for one walk."""
    net, D = form.net, form.dimension
    width = int(net.size.max(initial=1))
    words = max(1, -(-form.hinges // 64))
    n = D + 1
    return Walk(
        room_for(9 * n * int(net.stride.sum()) + 8 * n * padded(width)), np.zeros(len(net.size), np.int64), np.empty(width + 1, np.int64),
        np.empty(form.hinges + 1, np.int64), np.zeros(len(net.size), np.int64),
        np.zeros(len(net.size), np.int64), np.empty(width), np.empty(width), np.empty(width, np.int64),
        np.zeros(words, np.uint64), np.zeros(16, np.int64),
        np.empty((form.hinges + 1, n, WIDTH)), np.empty((form.hinges + 1, n), np.int64), np.zeros(form.hinges + 1, np.int64),
        np.empty(ROOM + 2), np.empty((n, n, WIDTH)), np.empty((n, n), np.int64), np.empty((1 << n, WIDTH)),
        np.empty(1 << n, np.int64), np.zeros(1, np.int64), np.array(lower, float), np.array(upper, float),
    )  # fmt: skip


# Compiled functions take single arrays where they are called often: passing a tuple of arrays counts references to all.


@njit(cache=True, nogil=True, _nrt=False, forceinline=True, fastmath=FAST)
def add_on(rows, base, n, weight, at, m, u, D, carry):
    """Hinge u of a stage (n rows at `base`) is on: its row, times its weights, joins the next stage's m rows."""
    if at < 0:
        return
    gain = weight[at + u * m : at + (u + 1) * m]
    for c in range(D + 1):
        r = rows[base + c * n + u]
        part = carry[c * m : (c + 1) * m]
        for v in range(m):
            part[v] += gain[v] * r


@njit(cache=True, nogil=True, _nrt=False, forceinline=True, fastmath=FAST)
def add_decided(rows, base, n, weight, at, m, on, count, D, carry):
    """As `add_on` for the first `count` hinges in `on`, four at a time."""
    if at < 0:
        return
    i = 0
    if D == 2:  # all three columns in one pass over the weights
        x, y, z = carry[:m], carry[m : 2 * m], carry[2 * m : 3 * m]
        while i + 4 <= count:
            a, b, c, d = on[nth(i)], on[nth(i + 1)], on[nth(i + 2)], on[nth(i + 3)]
            wa, wb, wc, wd = at + a * m, at + b * m, at + c * m, at + d * m
            a, b, c, d = base + a, base + b, base + c, base + d
            a0, b0, c0, d0 = rows[nth(a)], rows[nth(b)], rows[nth(c)], rows[nth(d)]
            a1, b1, c1, d1 = rows[nth(a + n)], rows[nth(b + n)], rows[nth(c + n)], rows[nth(d + n)]
            a2, b2, c2, d2 = rows[nth(a + 2 * n)], rows[nth(b + 2 * n)], rows[nth(c + 2 * n)], rows[nth(d + 2 * n)]
            for v in range(m):
                p, q = weight[nth(wa + v)], weight[nth(wb + v)]
                r, s = weight[nth(wc + v)], weight[nth(wd + v)]
                x[v] = x[v] + p * a0 + q * b0 + r * c0 + s * d0
                y[v] = y[v] + p * a1 + q * b1 + r * c1 + s * d1
                z[v] = z[v] + p * a2 + q * b2 + r * c2 + s * d2
            i += 4
    while i + 4 <= count:
        a, b, c, d = on[nth(i)], on[nth(i + 1)], on[nth(i + 2)], on[nth(i + 3)]
        wa, wb, wc, wd = at + a * m, at + b * m, at + c * m, at + d * m
        for k in range(D + 1):
            row, part = base + k * n, carry[k * m : (k + 1) * m]
            ra, rb, rc, rd = rows[nth(row + a)], rows[nth(row + b)], rows[nth(row + c)], rows[nth(row + d)]
            for v in range(m):
                s = part[v] + weight[nth(wa + v)] * ra + weight[nth(wb + v)] * rb
                part[v] = s + weight[nth(wc + v)] * rc + weight[nth(wd + v)] * rd
        i += 4
    while i < count:
        add_on(rows, base, n, weight, at, m, on[nth(i)], D, carry)
        i += 1


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def is_on(pattern, g):
    return (pattern[g >> 6] >> np.uint64(g & 63)) & np.uint64(1) != np.uint64(0)


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def set_on(pattern, g):
    pattern[g >> 6] |= np.uint64(1) << np.uint64(g & 63)


@njit(cache=True, nogil=True, _nrt=False, forceinline=True, fastmath=FAST)
def settle(rows, base, n, weight, at, m, pending, count, D, sum_at, own, top):
    """Add the rows of `count` pending hinges to a cell's sum, in place if it is the cell's own, else in a copy at `top`."""
    if count == 0 and own:
        return sum_at
    size = (D + 1) * m
    old = rows[sum_at : sum_at + size]
    new = old if own else rows[top : top + size]
    if not own:
        for i in range(size):
            new[i] = old[i]
    add_decided(rows, base, n, weight, at, m, pending, count, D, new)
    return sum_at if own else top


@njit(cache=True, nogil=True, _nrt=False, fastmath=FAST)
def add_skips(net, w, l, D, stride):
    """What stages before the last one add to the rows of stage l; columns of rows are `stride` apart."""
    n, base = net.size[l], w.row_at[l]
    for s in range(len(net.skip)):
        if net.skip[s, 0] == l:
            k, place = net.skip[s, 1], net.skip[s, 2]
            for i in range(net.size[k]):
                if is_on(w.pattern, net.first[k] + i):
                    for c in range(D + 1):
                        r = w.rows[w.row_at[k] + c * stride[k] + i]
                        for v in range(n):
                            w.rows[base + c * stride[l] + v] += net.skip_weight[place + i * n + v] * r


@njit(cache=True, nogil=True, _nrt=False)
def sign_by_terms(net, pattern, l, u, D):
    """Sign that hinge u of stage l has inside a cell where the hinges on in `pattern` are positive, if its terms agree in sign; else 2.

    A maximum is b + max(0, a - b): where a or b is off, its hinge is a or -b itself, and touches the cell's walls without cutting it.
    """
    n, at = net.size[l], net.direct_at[l]
    for c in range(D):
        if net.direct[nth(at + c * n + u)] != 0.0:
            return 2
    sign, constant = 0, net.direct[nth(at + D * n + u)]
    if constant != 0.0:
        sign = 1 if constant > 0.0 else -1
    k, place = l - 1, net.weight_at[l]
    for s in range(-1, len(net.skip)):
        if s >= 0:
            if net.skip[s, 0] != l:
                continue
            k, place = net.skip[s, 1], net.skip[s, 2]
        elif place < 0:
            continue
        for i in range(net.size[k]):
            x = net.skip_weight[nth(place + i * n + u)] if s >= 0 else net.weight[nth(place + i * n + u)]
            g = net.first[k] + i
            if x != 0.0 and (pattern[nth(g >> 6)] >> (g & 63)) & 1:
                if sign * x < 0.0:
                    return 2
                sign = 1 if x > 0.0 else -1
    return sign


@njit(cache=True, nogil=True, _nrt=False, forceinline=True, fastmath=FAST)
def decide(rows, base, n, D, C, slack, center, half, spread, value, margin, pattern, first, on, found):
    """Hinges of a stage that a cell's box decides are set, the others become candidates.

    Arguments:
        center, half: Box around the cell. spread: error of its corners.

    Returns:
        How many are on, and how many are candidates.
    """
    offset = rows[base + D * n : base + (D + 1) * n]
    for v in range(n):
        value[v] = offset[v]
        margin[v] = slack
    for c in range(D):
        x, h = center[c], half[c] + spread
        row = rows[base + c * n : base + (c + 1) * n]
        for v in range(n):
            value[v] += row[v] * x
            margin[v] += abs(row[v]) * h
    candidates, decided, at = 0, 0, 0
    while at < n:  # a word of bits at a time, without branches: signs come in no order
        shift = (first + at) & 63
        many = min(n - at, 64 - shift)
        z, t = value[at : at + many], margin[at : at + many]
        yes, maybe = np.uint64(0), np.uint64(0)
        for v in range(many):
            yes |= np.uint64(z[v] > t[v]) << np.uint64(v)
            maybe |= np.uint64(not abs(z[v]) > t[v]) << np.uint64(v)
        pattern[nth((first + at) >> 6)] |= yes << np.uint64(shift)
        while yes:
            on[nth(decided)] = at + lowest(yes)
            decided += 1
            yes &= yes - np.uint64(1)
        while maybe:
            found[nth(first + candidates)] = at + lowest(maybe)
            candidates += 1
            maybe &= maybe - np.uint64(1)
        at += many
    return decided, candidates
