"""What the walks in two and in more dimensions share: rows of the current stage, the next stage's partial sums, exact rows.

A walk goes depth first: a cell enters a stage, its candidates (hinges that may cut it) are tried one by one, a cut
cell goes on with the side where the hinge is on while the other side waits on a stack. The next stage's rows are
carried down as partial sums, so that a cut costs one rank-one update. Fused multiply-add is allowed in these sums: the
bounds of `Net.slope_error` hold with and without.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from relukit._types import Array, IntArray
from relukit.geometry._expansions import ROOM, WIDTH, add_product, add_scaled, compress, determinant_sign, grow
from relukit.geometry._form import Form

FAST = {"contract"}
# places in `Walk.counts`
STACK, CELLS, INDICES, VERTICES, STAMP, EXACT, RANGE, TESTS, ZERO, INNER, FACETS, FLAT, SIGNS = range(13)
# why a walk returns
DONE, BUDGET, STACK_FULL, VERTICES_FULL, CORNERS_FULL, FACETS_FULL, SIGNS_FULL, OUTPUT_FULL = range(8)


class Walk(NamedTuple):
    """The current path, and room for the exact stage."""

    rows: Array  # as Net.direct: rows of each stage of the path
    found: IntArray  # candidates of each stage of the path, from Net.first on
    found_count: IntArray
    stamp: IntArray  # one number per entry into a stage: exact rows made under another number are stale
    value: Array  # room for one stage: z at the center, and how much of it is uncertain
    margin: Array
    on: IntArray
    carry: Array
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
        np.empty(len(net.direct)), np.empty(form.hinges + 1, np.int64), np.zeros(len(net.size), np.int64),
        np.zeros(len(net.size), np.int64), np.empty(width), np.empty(width), np.empty(width, np.int64),
        np.empty(n * width), np.zeros(words, np.uint64), np.zeros(16, np.int64),
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
            a, b, c, d = base + on[i], base + on[i + 1], base + on[i + 2], base + on[i + 3]
            wa, wb = (
                weight[at + on[i] * m : at + (on[i] + 1) * m],
                weight[at + on[i + 1] * m : at + (on[i + 1] + 1) * m],
            )
            wc, wd = (
                weight[at + on[i + 2] * m : at + (on[i + 2] + 1) * m],
                weight[at + on[i + 3] * m : at + (on[i + 3] + 1) * m],
            )
            a0, b0, c0, d0 = rows[a], rows[b], rows[c], rows[d]
            a1, b1, c1, d1 = rows[a + n], rows[b + n], rows[c + n], rows[d + n]
            a2, b2, c2, d2 = rows[a + 2 * n], rows[b + 2 * n], rows[c + 2 * n], rows[d + 2 * n]
            for v in range(m):
                x[v] += (wa[v] * a0 + wb[v] * b0) + (wc[v] * c0 + wd[v] * d0)
                y[v] += (wa[v] * a1 + wb[v] * b1) + (wc[v] * c1 + wd[v] * d1)
                z[v] += (wa[v] * a2 + wb[v] * b2) + (wc[v] * c2 + wd[v] * d2)
            i += 4
    while i + 4 <= count:
        a, b, c, d = on[i], on[i + 1], on[i + 2], on[i + 3]
        wa = weight[at + a * m : at + (a + 1) * m]
        wb = weight[at + b * m : at + (b + 1) * m]
        wc = weight[at + c * m : at + (c + 1) * m]
        wd = weight[at + d * m : at + (d + 1) * m]
        for k in range(D + 1):
            row = base + k * n
            ra, rb, rc, rd = rows[row + a], rows[row + b], rows[row + c], rows[row + d]
            part = carry[k * m : (k + 1) * m]
            for v in range(m):
                part[v] += (wa[v] * ra + wb[v] * rb) + (wc[v] * rc + wd[v] * rd)
        i += 4
    while i < count:
        add_on(rows, base, n, weight, at, m, on[i], D, carry)
        i += 1


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def is_on(pattern, g):
    return (pattern[g >> 6] >> np.uint64(g & 63)) & np.uint64(1) != np.uint64(0)


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def set_on(pattern, g):
    pattern[g >> 6] |= np.uint64(1) << np.uint64(g & 63)


@njit(cache=True, nogil=True, _nrt=False, fastmath=FAST)
def add_skips(net, w, l, D):
    """What stages before the last one add to the rows of stage l."""
    n, base = net.size[l], net.direct_at[l]
    for s in range(len(net.skip)):
        if net.skip[s, 0] == l:
            k, place = net.skip[s, 1], net.skip[s, 2]
            for i in range(net.size[k]):
                if is_on(w.pattern, net.first[k] + i):
                    for c in range(D + 1):
                        r = w.rows[net.direct_at[k] + c * net.size[k] + i]
                        for v in range(n):
                            w.rows[base + c * n + v] += net.skip_weight[place + i * n + v] * r


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
    candidates, decided = 0, 0
    for v in range(n):
        if abs(value[v]) > margin[v]:
            if value[v] > 0:
                set_on(pattern, first + v)
                on[decided] = v
                decided += 1
        else:
            found[first + candidates] = v
            candidates += 1
    return decided, candidates


@njit(cache=True, nogil=True, _nrt=False)
def _exact_row(net, w, l, u, D):
    """The expansions of row u of stage l for the current pattern; rows of earlier stages that are on must be there."""
    g = net.first[l] + u
    if w.exact_stamp[g] == w.stamp[l]:
        return
    n, s = net.size[l], net.scale[l]
    cuts = 1 if len(net.keep) and net.keep[0] == 1 else 0
    from_plane = len(net.plane) > 0 and l == cuts
    for c in range(D + 1):
        m = 0
        if from_plane:
            if c == D and net.plane_bias[u] != 0.0:
                m = grow(w.room, m, net.plane_bias[u] * s)
            for k in range(len(net.plane)):
                m = add_product(w.room, m, net.plane_weight[u, k] * s, net.plane[k, c], w.flag)
        elif net.direct[net.direct_at[l] + c * n + u] != 0.0:
            m = grow(w.room, m, net.direct[net.direct_at[l] + c * n + u] * s)
        if l and net.weight_at[l] >= 0:
            ratio = s / net.scale[l - 1]
            for i in range(net.size[l - 1]):
                h = net.first[l - 1] + i
                if is_on(w.pattern, h):
                    x = net.weight[net.weight_at[l] + i * n + u] * ratio
                    m = add_scaled(w.room, m, w.exact_rows[h, c], w.exact_counts[h, c], x, w.flag)
        for k in range(len(net.skip)):
            if net.skip[k, 0] == l:
                e = net.skip[k, 1]
                for i in range(net.size[e]):
                    h = net.first[e] + i
                    if is_on(w.pattern, h):
                        x = net.skip_weight[net.skip[k, 2] + i * n + u] * (s / net.scale[e])
                        m = add_scaled(w.room, m, w.exact_rows[h, c], w.exact_counts[h, c], x, w.flag)
        m = compress(w.room, m)
        for i in range(m):
            w.exact_rows[g, c, i] = w.room[i]
        w.exact_counts[g, c] = m
    w.exact_stamp[g] = w.stamp[l]


@njit(cache=True, nogil=True, _nrt=False)
def _need_row(net, w, l, u, D):
    if w.exact_stamp[net.first[l] + u] == w.stamp[l]:
        return
    for k in range(l):
        for i in range(net.size[k]):
            if is_on(w.pattern, net.first[k] + i):
                _exact_row(net, w, k, i, D)
    _exact_row(net, w, l, u, D)


@njit(cache=True, nogil=True, _nrt=False)
def load_line(net, w, i, label, D):
    """Row i of the exact matrix: hinge `label`, or side -1 - label of the box."""
    if label >= 0:
        l = net.stage[label]
        _need_row(net, w, l, label - net.first[l], D)
        for c in range(D + 1):
            w.matrix_counts[i, c] = w.exact_counts[label, c]
            for k in range(w.exact_counts[label, c]):
                w.matrix[i, c, k] = w.exact_rows[label, c, k]
        return
    side = -1 - label
    for c in range(D + 1):
        w.matrix_counts[i, c] = 0
    w.matrix[i, side >> 1, 0] = 1.0
    w.matrix_counts[i, side >> 1] = 1
    bound = w.lower[side >> 1] if side % 2 == 0 else w.upper[side >> 1]
    if bound != 0.0:
        w.matrix[i, D, 0] = -bound
        w.matrix_counts[i, D] = 1


@njit(cache=True, nogil=True, _nrt=False)
def exact_sign(net, w, labels, g, D):
    """Exact sign of hinge g where the D lines `labels` meet; 0 where they do not meet in one point."""
    w.counts[EXACT] += 1
    w.flag[0] = 0
    for i in range(D):
        load_line(net, w, i, labels[i], D)
    load_line(net, w, D, g, D)
    sign = determinant_sign(w.matrix, w.matrix_counts, D, w.minors, w.minor_lengths, w.room, w.flag)
    if w.flag[0]:
        w.counts[RANGE] += 1
        return 0
    return sign
