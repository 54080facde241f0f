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

from relukit.geometry._bits import nth
from relukit.geometry._lanes import load, multiply_add, spread, store
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


@njit(cache=True, nogil=True, _nrt=False)
def _products(Z, count, n, weight, at, m, Y, on, h, block):
    """Y[i] += W max(0, Z[i]) for all nodes i: eight nodes and sixteen rows in registers, for hinges that are on at one of the nodes.

    Arguments:
        on, h: Room: of each eight nodes how many and which hinges are on; the hinges' values there.
        block: Room for sixteen columns of the weights, which stay in the nearest cache.
    """
    wide = Y.shape[1]
    for i in range(0, count, 8):  # there are seven rows more than nodes
        some, place, start = 0, (i >> 3) * (wide + 1), i * wide
        for u in range(n):
            most = 0.0
            for j in range(8):
                z = Z[nth(i + j), nth(u)] if i + j < count else 0.0
                z = z if z > 0.0 else 0.0
                h[nth(start + 8 * some + j)] = z
                most = z if z > most else most
            on[nth(place + 1 + some)] = u
            some += most > 0.0
        on[nth(place)] = some
    for v in range(0, m, 16):
        for u in range(n):
            store(block, nth(16 * u), load(weight, nth(at + u * m + v)))
            if v + 8 < m:
                store(block, nth(16 * u + 8), load(weight, nth(at + u * m + v + 8)))
        for i in range(0, count, 8):
            y, place, start = i * wide + v, (i >> 3) * (wide + 1), i * wide
            a0, b0 = load(Y, nth(y)), load(Y, nth(y + 8))
            a1, b1 = load(Y, nth(y + wide)), load(Y, nth(y + wide + 8))
            a2, b2 = load(Y, nth(y + 2 * wide)), load(Y, nth(y + 2 * wide + 8))
            a3, b3 = load(Y, nth(y + 3 * wide)), load(Y, nth(y + 3 * wide + 8))
            a4, b4 = load(Y, nth(y + 4 * wide)), load(Y, nth(y + 4 * wide + 8))
            a5, b5 = load(Y, nth(y + 5 * wide)), load(Y, nth(y + 5 * wide + 8))
            a6, b6 = load(Y, nth(y + 6 * wide)), load(Y, nth(y + 6 * wide + 8))
            a7, b7 = load(Y, nth(y + 7 * wide)), load(Y, nth(y + 7 * wide + 8))
            for k in range(on[nth(place)]):
                w, r = 16 * on[nth(place + 1 + k)], start + 8 * k
                p, q = load(block, nth(w)), load(block, nth(w + 8))
                x = spread(h[nth(r)])
                a0, b0 = multiply_add(p, x, a0), multiply_add(q, x, b0)
                x = spread(h[nth(r + 1)])
                a1, b1 = multiply_add(p, x, a1), multiply_add(q, x, b1)
                x = spread(h[nth(r + 2)])
                a2, b2 = multiply_add(p, x, a2), multiply_add(q, x, b2)
                x = spread(h[nth(r + 3)])
                a3, b3 = multiply_add(p, x, a3), multiply_add(q, x, b3)
                x = spread(h[nth(r + 4)])
                a4, b4 = multiply_add(p, x, a4), multiply_add(q, x, b4)
                x = spread(h[nth(r + 5)])
                a5, b5 = multiply_add(p, x, a5), multiply_add(q, x, b5)
                x = spread(h[nth(r + 6)])
                a6, b6 = multiply_add(p, x, a6), multiply_add(q, x, b6)
                x = spread(h[nth(r + 7)])
                a7, b7 = multiply_add(p, x, a7), multiply_add(q, x, b7)
            store(Y, nth(y), a0)
            store(Y, nth(y + 8), b0)
            store(Y, nth(y + wide), a1)
            store(Y, nth(y + wide + 8), b1)
            store(Y, nth(y + 2 * wide), a2)
            store(Y, nth(y + 2 * wide + 8), b2)
            store(Y, nth(y + 3 * wide), a3)
            store(Y, nth(y + 3 * wide + 8), b3)
            store(Y, nth(y + 4 * wide), a4)
            store(Y, nth(y + 4 * wide + 8), b4)
            store(Y, nth(y + 5 * wide), a5)
            store(Y, nth(y + 5 * wide + 8), b5)
            store(Y, nth(y + 6 * wide), a6)
            store(Y, nth(y + 6 * wide + 8), b6)
            store(Y, nth(y + 7 * wide), a7)
            store(Y, nth(y + 7 * wide + 8), b7)


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
def sweep(net, lower, upper, t, d, label, slope, Z, Y, Q, on, block, G, pattern):
    """Nodes into t[0], labels into label[0]; returns why it ended, and how many nodes there are.

    Arguments:
        t, d, label, slope: Shape (2, room): place, error radius, hinge, and size of the slope of the hinge; two for merging.
        Z, Y, Q: Shape (room + 8, widest stage, rounded up to a multiple of sixteen).
        on, block, G: Room (see `_products`), and for one stage.
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
            _products(Z, count, n, net.weight, net.weight_at[l + 1], m, Y, on, Q.reshape(Q.size), block)
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
