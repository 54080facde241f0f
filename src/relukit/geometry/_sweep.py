r"""All breakpoints of a form with one coordinate at once, stage by stage, where float64 can be certain of every one.

Between neighboring breakpoints of the stages before it (`nodes`), a stage's hinges are affine, so their values at the nodes show
every sign change. The next stage's values need a product with the weights at the nodes of the stages before only: at a
breakpoint of this stage itself they are interpolated, and each hinge that switches on the way adds one kink. With B_k breakpoints of
stage k this takes B_0 (L - 2) + B_1 (L - 3) + ... products of a vector with a matrix, where a walk from cell to cell sums up all rows anew.

Let I be the interpolant of the computed values of stage l and e bound \|I - z\| on the whole segment. Then W max(0, I) + b, an affine
function between nodes and roots of I, is within \|W\| e of the next stage's z; rounding, and roots that are off by an ulp, add terms
of order u. A sign at a node is certain beyond e plus what the hinge changes within the node's own error radius. If one sign, or the order of two
breakpoints, is not certain, the sweep gives up, and the walk with exact signs takes over. After the last stage's hinges nothing
reads their values: they are looked at from afar first (`_finish`).
"""

import numpy as np

from relukit._lanes import above, larger, load, magnitude, multiply_add, spread, store
from relukit._numba import njit
from relukit.geometry._bits import lowest, nth
from relukit.geometry._finish import DONE, DOUBT, FULL, NEAR, finish
from relukit.geometry._products import products
from relukit.geometry._walk import FAST, set_on

_U = 2.0**-52
_MANY = 48  # nodes from which the last stage is looked at from afar


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def _changes(Z, i, n, e, ratio, hit, top, room):
    """Hinges that change sign between nodes i and i + 1 into `hit`.

    Returns:
        How many, how many are uncertain, and the largest value by size of node i + 1 and of `top`.
    """
    wide, changes, open_, v = Z.shape[1], 0, 0, 0
    a, b = i * wide, i * wide + wide
    err, share, zero, most = spread(e), spread(ratio), spread(0.0), spread(top)
    while v + 8 <= n:
        p, q = load(Z, nth(a + v)), load(Z, nth(b + v))
        size = magnitude(q)
        most = larger(size, most)
        bound = multiply_add(magnitude(multiply_add(spread(-1.0), q, p)), share, err)
        open_ |= 255 & ~(above(magnitude(p), bound) & above(size, bound))
        bits = above(p, zero) ^ above(q, zero)
        while bits:
            hit[nth(changes)] = v + lowest(bits)
            changes += 1
            bits &= bits - 1
        v += 8
    store(room, 0, most)
    for k in range(8):
        top = max(top, room[nth(k)])
    while v < n:
        p, q = Z[nth(i), nth(v)], Z[nth(i + 1), nth(v)]
        bound = e + ratio * abs(p - q)
        open_ |= not (abs(p) > bound and abs(q) > bound)
        top = max(top, abs(q))
        if (p > 0) != (q > 0):
            hit[nth(changes)] = v
            changes += 1
        v += 1
    return changes, open_, top


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def _roots(a, b, hit, ta, tb, reach, e, first, t, d, label, slope, at, count):
    """Append the roots of the `count` hinges in `hit`, in order, from place `at` on; False where one is uncertain."""
    dt = tb - ta
    for j in range(count):
        v = hit[nth(j)]
        p, q = a[nth(v)], b[nth(v)]
        gap = abs(q - p)
        if gap < 8 * e:
            return False
        r, s, k = ta + dt * (p / (p - q)), gap / dt, at + j
        while k > at and t[nth(k - 1)] > r:
            t[nth(k)], d[nth(k)] = t[nth(k - 1)], d[nth(k - 1)]
            label[nth(k)], slope[nth(k)] = label[nth(k - 1)], slope[nth(k - 1)]
            k -= 1
        t[nth(k)], d[nth(k)], label[nth(k)], slope[nth(k)] = r, 3 * e / s + 4 * _U * (dt + reach), first + v, s
    return True


@njit(cache=True, nogil=True, _nrt=False, forceinline=True, fastmath=FAST)
def _between(a, b, dt, t, label, slope, at, count, end, first, weight, w_at, m, Q, row, G):
    """Values of m hinges at the `count` roots of an interval, from its values a and b at the ends: rows of Q from `row` on."""
    for v in range(m):
        G[v] = b[v] - a[v]
    for j in range(count):
        w, rise = w_at + (label[nth(at + j)] - first) * m, slope[nth(at + j)] * (end - t[nth(at + j)])
        for v in range(m):
            G[v] -= rise * weight[nth(w + v)]
    for v in range(m):
        G[v] = G[v] / dt
    last, before = end - dt, a
    for j in range(count):
        y, step = Q[row + j], t[nth(at + j)] - last
        w, s = w_at + (label[nth(at + j)] - first) * m, slope[nth(at + j)]
        for v in range(m):
            y[v] = before[v] + step * G[v]
            G[v] += s * weight[nth(w + v)]
        last, before = t[nth(at + j)], y


@njit(cache=True, nogil=True, _nrt=False)
def sweep(net, lower, upper, t, d, label, slope, Z, Q, on, h, block, G, hit, to, every, across, pattern):
    """Nodes into t[0], labels into label[0]; returns why it ended, and how many nodes there are.

    Arguments:
        t, d, label, slope: Shape (2, room + 8): place, error radius, hinge, and size of the slope of the hinge; two for merging.
        Z, Q: Shape (room + 8, widest stage, rounded up to a multiple of sixteen).
        on, h, block, G: Room (see `products`), and for one stage.
        hit, to: Room for one stage, and for all nodes: where in the new list each is.
        every: The numbers from 0 on, as many as rows of Z.
        across: Rows of the last stage's weights, as wide as Z; empty where that stage is to be like the others.
        pattern: Gates that are on at the lower end.
    """
    room, last, count = t.shape[1] - 8, len(net.size) - 1, 2
    reach = max(abs(lower), abs(upper))
    now, then = 0, 1
    t[0, 0], t[0, 1], d[0, 0], d[0, 1], label[0, 0], label[0, 1] = lower, upper, 0.0, 0.0, -1, -2
    n, at = net.size[0], net.direct_at[0]
    for v in range(n):
        Z[0, v] = net.direct[at + v] * lower + net.direct[at + n + v]
        Z[1, v] = net.direct[at + v] * upper + net.direct[at + n + v]
    e = net.shift_error[0] + net.slope_error[0] * reach
    for l in range(last):
        n, first = net.size[l], net.first[l]
        start, top = Z[0], 0.0
        for v in range(n):
            top = max(top, abs(start[v]))
            if start[v] > 0:
                set_on(pattern, first + v)
        total, most = 1, 0
        t[then, 0], d[then, 0], label[then, 0], to[0] = lower, 0.0, -1, 0
        for i in range(count - 1):
            ta, tb = t[now, i], t[now, i + 1]
            changes, open_, top = _changes(Z, i, n, e, max(d[now, i], d[now, i + 1]) / (tb - ta), hit, top, block)
            if open_:
                return DOUBT, 0
            if total + changes + 1 > room:
                return FULL, 0
            if changes and not _roots(
                Z[i], Z[i + 1], hit, ta, tb, reach, e, first, t[then], d[then], label[then], slope[then], total, changes
            ):
                return DOUBT, 0
            total += changes
            t[then, total], d[then, total], label[then, total], to[i + 1] = tb, d[now, i + 1], label[now, i + 1], total
            for k in range(total - changes, total + 1):
                if not t[then, k] - t[then, k - 1] > 2 * (d[then, k] + d[then, k - 1]) + NEAR * reach:
                    return DOUBT, 0
            total += 1
            most = max(most, changes)
        if l + 1 < last:
            m, at, w, R, size = net.size[l + 1], net.direct_at[l + 1], net.weight_at[l + 1], net.row_sum[l + 1], 0.0
            for v in range(m):
                size = max(size, abs(net.direct[at + v]) * reach + abs(net.direct[at + m + v]))
            size += R * top  # no value of the next stage is larger
            e = R * (e + 6 * _U * top + net.slope_error[l] * reach) + 4 * _U * (n + 4 + 3 * (most + 8)) * size
            if l + 2 == last and count >= _MANY and len(across):
                return finish(
                    net,
                    l,
                    Z,
                    Q,
                    count,
                    total,
                    t,
                    d,
                    label,
                    slope,
                    now,
                    then,
                    to,
                    every,
                    on,
                    h,
                    block,
                    across,
                    e,
                    reach,
                    pattern,
                )
            for i in range(count, count + 7):
                to[i] = room
            products(Z, every, count, n, net.weight, w, m, False, net.direct, at, t[now], Q, to, on, h, block)
            for i in range(count - 1):
                k, more = to[i], to[i + 1] - to[i] - 1
                if more:
                    _between(
                        Q[k], Q[k + more + 1], t[now, i + 1] - t[now, i], t[then], label[then], slope[then], k + 1, more, t[now, i + 1],
                        first, net.weight, w, m, Q, k + 1, G,
                    )  # fmt: skip
            Z, Q = Q, Z
        count = total
        now, then = then, now
    if now:
        for i in range(count):
            t[0, i], label[0, i] = t[1, i], label[1, i]
    return DONE, count


@njit(cache=True, nogil=True, _nrt=False)
def pieces_between(
    t, label, count, pattern, hinges, points, entries, masks, pairs, facets, walls, neighbors, patterns
):  # fmt: skip
    """The arrays of `Cells` from nodes in order: each node flips its hinge."""
    for k in range(count):
        points[k, 0], entries[k] = t[k], 2 * k
    for k in range(count - 1):
        if k:
            g = label[k]
            pattern[g >> 6] ^= np.uint64(1) << np.uint64(g & 63)
        for i in range(len(pattern)):
            patterns[k, i] = pattern[i]
        for j in range(2):
            g, at = label[k + j], 2 * k + j
            masks[0, at], pairs[at], facets[at] = j + 1, k + j, g
            walls[at] = hinges - 1 - g if g < 0 else g
            neighbors[at] = k - 1 if j == 0 else (k + 1 if k + 2 < count else -1)
