r"""The last stage of hinges along a line: from afar at first, since nothing reads the values of a hinge that does not switch.

The last stage's z are :math:`W \max(0, I) + b`, with I affine between the nodes and roots so far. Take every eighth node. Between two of
these, each :math:`\max(0, I_u)` is within :math:`\delta_u` of its chord, which its values at the nodes between show, so z is within
:math:`|W| \delta` of its own chord. A hinge whose values at both ends have one sign beyond that does not switch between
them; most do not. Values of the others, in all nodes between, are sums of their own.
"""

from relukit._lanes import above, larger, load, multiply_add, negative, spread, total
from relukit._numba import njit
from relukit.geometry._bits import lowest, nth
from relukit.geometry._products import products
from relukit.geometry._walk import FAST, set_on

DONE, DOUBT, FULL = range(3)
NEAR = 2.0**-40  # nodes closer than this share of the segment's reach are left to the walk
_U = 2.0**-52
_STEP = 8  # nodes from one that is looked at to the next; 16 takes 5 % longer, 32 a third


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def _sum(Z, z, across, w, n):
    """Of n hinges, from place z on, those that are on times weights from place w on."""
    zero, one = spread(0.0), spread(1.0)
    a, b = zero, zero
    for u in range(0, n, 16):
        a = multiply_add(larger(load(Z, nth(z + u)), zero), load(across, nth(w + u)), a)
        b = multiply_add(larger(load(Z, nth(z + u + 8)), zero), load(across, nth(w + u + 8)), b)
    return total(multiply_add(one, a, b))


@njit(cache=True, nogil=True, _nrt=False, forceinline=True, fastmath=FAST)
def _deviations(Z, a, b, n, t, label, first, to, D):
    """How far each max(0, I) is from its chord between nodes a and b, at most."""
    p, q, ta = Z[a], Z[b], t[to[a]]
    dt = t[to[b]] - ta
    for u in range(n):
        D[u] = 0.0
    for i in range(a, b):
        if i > a:
            z, share = Z[i], (t[to[i]] - ta) / dt
            for u in range(n):
                x, y = max(p[u], 0.0), max(q[u], 0.0)
                D[u] = max(D[u], abs(max(z[u], 0.0) - x - share * (y - x)))
        for k in range(to[i] + 1, to[i + 1]):
            u, share = label[k] - first, (t[k] - ta) / dt
            x, y = max(p[u], 0.0), max(q[u], 0.0)
            D[u] = max(D[u], x + share * (y - x))


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def _piece(p, q, k, t, d, e, reach, v, t2, d2, label2, low, end):
    """A hinge with values p and q at nodes k and k + 1: its root, if it has one, joins the new list in order, from `low` on.

    Returns:
        The list's new end; -1 where a sign is uncertain, -2 where there is no room.
    """
    dt = t[nth(k + 1)] - t[nth(k)]
    gap = abs(q - p)
    bound = e + max(d[nth(k)], d[nth(k + 1)]) / dt * gap
    if not (abs(p) > bound and abs(q) > bound):
        return -1
    if (p > 0) == (q > 0):
        return end
    if gap < 8 * e:
        return -1
    if end == len(t2) - 8:
        return -2
    r, s, at = t[nth(k)] + dt * (p / (p - q)), gap / dt, end
    while at > low and t2[nth(at - 1)] > r:
        t2[nth(at)], d2[nth(at)] = t2[nth(at - 1)], d2[nth(at - 1)]
        label2[nth(at)] = label2[nth(at - 1)]
        at -= 1
    t2[nth(at)], d2[nth(at)], label2[nth(at)] = r, 3 * e / s + 4 * _U * (dt + reach), v
    return end + 1


@njit(cache=True, nogil=True, _nrt=False)
def _hinge(
    Z, a, b, n, p, q, direct, at, m, v, across, t, d, label, slope, first, first2, to, e, reach, t2, d2, label2, low, end
):  # fmt: skip
    """All roots of hinge v between nodes a and b, where its values are p and q, as in `_piece`."""
    wide = Z.shape[1]
    w, rise, offset = v * wide, direct[nth(at + v)], direct[nth(at + m + v)]
    here = p
    for i in range(a, b):
        k, stop = to[nth(i)], to[nth(i + 1)]
        there = q if i + 1 == b else rise * t[nth(stop)] + offset + _sum(Z, (i + 1) * wide, across, w, n)
        if stop > k + 1:  # kinks where hinges of the stage before switch
            G = there - here
            for j in range(k + 1, stop):
                G -= slope[nth(j)] * (t[nth(stop)] - t[nth(j)]) * across[nth(w + label[nth(j)] - first)]
            G /= t[nth(stop)] - t[nth(k)]
            for j in range(k + 1, stop):
                y = here + (t[nth(j)] - t[nth(j - 1)]) * G
                end = _piece(here, y, j - 1, t, d, e, reach, first2 + v, t2, d2, label2, low, end)
                if end < 0:
                    return end
                here = y
                G += slope[nth(j)] * across[nth(w + label[nth(j)] - first)]
        end = _piece(here, there, stop - 1, t, d, e, reach, first2 + v, t2, d2, label2, low, end)
        if end < 0:
            return end
        here = there
    return end


@njit(cache=True, nogil=True, _nrt=False)
def finish(
    net, l, Z, Q, count, nodes, t, d, label, slope, now, then, to, every, on, h, block, across, e, reach, pattern
):  # fmt: skip
    """Roots of the last stage l + 1 join the list `then` of nodes, of which stage l has values Z in `count`; see `sweep`.

    Arguments:
        e: Bound of what the last stage's values lose.
    """
    n, m, at, w = net.size[l], net.size[l + 1], net.direct_at[l + 1], net.weight_at[l + 1]
    first, first2, wide, room = net.first[l], net.first[l + 1], Z.shape[1], t.shape[1] - 8
    chunks = (count + _STEP - 2) // _STEP
    deviations, spans = chunks + 9, 2 * chunks + 17  # rows of Q: values from 0 on, deviations, what they may add
    if spans + chunks + 8 > len(Q):
        return FULL, 0
    rows, x = on[len(on) - chunks - 9 :], t[now]
    for c in range(chunks + 1):
        rows[c] = min(c * _STEP, count - 1)
        x[c] = t[then, to[rows[c]]]
    for c in range(chunks):
        _deviations(Z, rows[c], rows[c + 1], n, t[then], label[then], first, to, Q[deviations + c])
    products(Z, rows, chunks + 1, n, net.weight, w, m, False, net.direct, at, x, Q, every, on, h, block)
    products(
        Q, every[deviations:], chunks, n, net.weight, w, m, True, net.direct, at, x, Q, every[spans:], on, h, block
    )
    for v in range(m):
        if Q[0, v] > 0:
            set_on(pattern, first2 + v)
    t2, d2, label2 = t[now], d[now], label[now]
    t2[0], d2[0], label2[0], end = t[then, 0], 0.0, -1, 1
    slop, twice = spread(1.0 + 1e-9), spread(2 * e)
    for c in range(chunks):
        a, b, low = rows[c], rows[c + 1], end
        if end + to[b] - to[a] > room:
            return FULL, 0
        for k in range(to[a] + 1, to[b] + 1):
            t2[end], d2[end], label2[end] = t[then, k], d[then, k], label[then, k]
            end += 1
        for v in range(0, m, 8):
            p, q = load(Q, nth(c * wide + v)), load(Q, nth((c + 1) * wide + v))
            bound = multiply_add(load(Q, nth((spans + c) * wide + v)), slop, twice)
            sure = (above(p, bound) & above(q, bound)) | (above(negative(p), bound) & above(negative(q), bound))
            maybe = ~sure & (255 if v + 8 <= m else (1 << (m - v)) - 1)
            while maybe:
                u = v + lowest(maybe)
                maybe &= maybe - 1
                end = _hinge(
                    Z, a, b, n, Q[nth(c), nth(u)], Q[nth(c + 1), nth(u)], net.direct, at, m, u, across, t[then], d[then], label[then],
                    slope[then], first, first2, to, e, reach, t2, d2, label2, low, end,
                )  # fmt: skip
                if end < 0:
                    return DOUBT if end == -1 else FULL, 0
    for k in range(1, end):
        if not t2[k] - t2[k - 1] > 2 * (d2[k] + d2[k - 1]) + NEAR * reach:
            return DOUBT, 0
    if now:
        for k in range(end):
            t[0, k], label[0, k] = t2[k], label2[k]
    return DONE, end
