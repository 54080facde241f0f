r"""All breakpoints of a form with one coordinate at once, stage by stage, where float64 can be certain of every one.

Between neighboring breakpoints of the stages before it (`nodes`), a stage's hinges are affine, so their values at the nodes show
every sign change. The next stage's values need a product with the weights at the nodes of the stages before only: at a
breakpoint of this stage itself they are interpolated, and each hinge that switches on the way adds one kink. With B_k breakpoints of
stage k this takes B_0 (L - 2) + B_1 (L - 3) + ... products of a vector with a matrix, where a walk from cell to cell sums up all rows anew.

Let I be the interpolant of the computed values of stage l and e bound \|I - z\| on the whole segment. Then W max(0, I) + b, an affine
function between nodes and roots of I, is within \|W\| e of the next stage's z; rounding, and roots that are off by an ulp, add terms
of order u. A sign at a node is certain beyond e plus what the hinge changes within the node's own error radius. If one sign, or the order of two
breakpoints, is not certain, the sweep gives up, and the walk with exact signs takes over.
"""

import numpy as np
from numba import njit

from relukit.geometry._bits import nth, wide
from relukit.geometry._walk import FAST, set_on

DONE, DOUBT, FULL = range(3)
_U = 2.0**-52
_NEAR = 2.0**-40  # nodes closer than this share of the segment's reach are left to the walk


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def _sign_changes(a, b, n, e, ratio):
    """Of n hinges with values a and b at neighboring nodes: how many change sign, and how many are uncertain."""
    changes, open_ = 0, 0
    for v in range(n):
        p, q = a[v], b[v]
        bound = e + ratio * abs(p - q)
        open_ += 1 - ((abs(p) > bound) & (abs(q) > bound))
        changes += (p > 0) != (q > 0)
    return changes, open_


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def _roots(a, b, n, ta, tb, reach, e, first, t, d, label, slope, at, count):
    """Append the `count` roots in an interval, in order, from place `at` on; False where one is uncertain."""
    dt, many = tb - ta, 0
    for v in range(n):
        p, q = a[v], b[v]
        if (p > 0) == (q > 0):
            continue
        gap = abs(q - p)
        if gap < 8 * e:
            return False
        r, s = ta + dt * (p / (p - q)), gap / dt
        k = at + many
        while k > at and t[nth(k - 1)] > r:
            t[nth(k)], d[nth(k)] = t[nth(k - 1)], d[nth(k - 1)]
            label[nth(k)], slope[nth(k)] = label[nth(k - 1)], slope[nth(k - 1)]
            k -= 1
        t[nth(k)], d[nth(k)], label[nth(k)], slope[nth(k)] = r, 3 * e / s + 4 * _U * (dt + reach), first + v, s
        many += 1
    return many == count


@njit(cache=True, nogil=True, _nrt=False, fastmath=FAST)
def _products(Z, count, n, weight, at, m, Y, on, h):
    """Y[i] += W max(0, Z[i]) for all nodes i: eight nodes and two hinges at a time, for those that are on at one of the nodes."""
    wide()
    i = 0
    while i < count:
        many = min(8, count - i)
        for j in range(8):
            z, row = Z[i + min(j, many - 1)], h[j]
            for u in range(n):
                row[u] = max(z[u], 0.0)
            row[n] = 0.0
        some = 0
        for u in range(n):
            on[nth(some)] = u
            some += h[0, u] + h[1, u] + h[2, u] + h[3, u] + h[4, u] + h[5, u] + h[6, u] + h[7, u] > 0
        on[nth(some)] = n  # a hinge that is off, for an even number
        y0, y1, y2, y3 = Y[i], Y[i + 1], Y[i + 2], Y[i + 3]  # there are seven rows more than nodes
        y4, y5, y6, y7 = Y[i + 4], Y[i + 5], Y[i + 6], Y[i + 7]
        for k in range(0, some, 2):
            a, b = on[nth(k)], on[nth(k + 1)]
            a0, a1, a2, a3, a4, a5, a6, a7 = h[0, a], h[1, a], h[2, a], h[3, a], h[4, a], h[5, a], h[6, a], h[7, a]
            b0, b1, b2, b3, b4, b5, b6, b7 = h[0, b], h[1, b], h[2, b], h[3, b], h[4, b], h[5, b], h[6, b], h[7, b]
            a, b = at + a * m, at + min(b, n - 1) * m
            for v in range(m):
                p, q = weight[nth(a + v)], weight[nth(b + v)]
                y0[v] = y0[v] + p * a0 + q * b0
                y1[v] = y1[v] + p * a1 + q * b1
                y2[v] = y2[v] + p * a2 + q * b2
                y3[v] = y3[v] + p * a3 + q * b3
                y4[v] = y4[v] + p * a4 + q * b4
                y5[v] = y5[v] + p * a5 + q * b5
                y6[v] = y6[v] + p * a6 + q * b6
                y7[v] = y7[v] + p * a7 + q * b7
        i += 8


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
def _largest(Z, count, n):
    """Largest entry by size; a NaN is left to `_sign_changes`, which calls it uncertain."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    for i in range(count):
        row, v = Z[i], 0
        while v + 4 <= n:
            a, b = max(a, abs(row[nth(v)])), max(b, abs(row[nth(v + 1)]))
            c, d = max(c, abs(row[nth(v + 2)])), max(d, abs(row[nth(v + 3)]))
            v += 4
        while v < n:
            a = max(a, abs(row[nth(v)]))
            v += 1
    return max(max(a, b), max(c, d))


@njit(cache=True, nogil=True, _nrt=False)
def sweep(net, lower, upper, t, d, label, slope, Z, Y, Q, on, h, G, pattern):
    """Nodes into t[0], labels into label[0]; returns why it ended, and how many nodes there are.

    Arguments:
        t, d, label, slope: Shape (2, room): place, error radius, hinge, and size of the slope of the hinge; two for merging.
        Z, Y, Q: Shape (room + 8, widest stage).
        on, h, G: Room for one stage; h has shape (8, widest + 1).
        pattern: Gates that are on at the lower end.
    """
    room, last, count = t.shape[1], len(net.size) - 1, 2
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
        start = Z[0]
        for v in range(n):
            if start[v] > 0:
                set_on(pattern, first + v)
        total, most = 1, 0
        t[then, 0], d[then, 0], label[then, 0] = lower, 0.0, -1
        for i in range(count - 1):
            ta, tb = t[now, i], t[now, i + 1]
            changes, open_ = _sign_changes(Z[i], Z[i + 1], n, e, max(d[now, i], d[now, i + 1]) / (tb - ta))
            if open_:
                return DOUBT, 0
            if total + changes + 1 > room:
                return FULL, 0
            if changes and not _roots(
                Z[i], Z[i + 1], n, ta, tb, reach, e, first, t[then], d[then], label[then], slope[then], total, changes
            ):
                return DOUBT, 0
            total += changes
            t[then, total], d[then, total], label[then, total] = tb, d[now, i + 1], label[now, i + 1]
            for k in range(total - changes, total + 1):
                if not t[then, k] - t[then, k - 1] > 2 * (d[then, k] + d[then, k - 1]) + _NEAR * reach:
                    return DOUBT, 0
            total += 1
            most = max(most, changes)
        if l + 1 < last:
            m, at = net.size[l + 1], net.direct_at[l + 1]
            size = 0.0
            slopes, offsets = net.direct[at : at + m], net.direct[at + m : at + 2 * m]
            for v in range(m):
                size = max(size, abs(slopes[v]) * reach + abs(offsets[v]))
            for i in range(count):
                y, x = Y[i], t[now, i]
                for v in range(m):
                    y[v] = slopes[v] * x + offsets[v]
            _products(Z, count, n, net.weight, net.weight_at[l + 1], m, Y, on, h)
            k = 0
            for i in range(count):
                y, q = Y[i], Q[k]
                for v in range(m):
                    q[v] = y[v]
                more = 0
                while k + 1 + more < total and label[then, k + 1 + more] >= first:
                    more += 1
                if more and i + 1 < count:
                    _between(
                        y, Y[i + 1], t[now, i + 1] - t[now, i], t[then], label[then], slope[then], k + 1, more, t[now, i + 1], first,
                        net.weight, net.weight_at[l + 1], m, Q, k + 1, G,
                    )  # fmt: skip
                k += 1 + more
            R, top = net.row_sum[l + 1], _largest(Z, count, n)
            size += R * top
            e = R * (e + 6 * _U * top + net.slope_error[l] * reach) + _U * (
                4 * (n + 4) * size + 4 * (most + 8) * (_largest(Q, total, m) + size)
            )
            Z, Q = Q, Z
        count = total
        now, then = then, now
    if now:
        for i in range(count):
            t[0, i], label[0, i] = t[1, i], label[1, i]
    return DONE, count


@njit(cache=True, nogil=True, _nrt=False)
def patterns_between(label, count, pattern, patterns):
    """The pattern of each piece: each node flips its hinge."""
    for k in range(count - 1):
        if k:
            g = label[k]
            pattern[g >> 6] ^= np.uint64(1) << np.uint64(g & 63)
        for i in range(len(pattern)):
            patterns[k, i] = pattern[i]
