"""Compiled bounds of gates and rows over a box: backward planes, over the box and a half-space that a counterexample obeys.

Rounding: substituting gate j with coefficient c adds `|c| loose_j` to a row's error, where `loose_j` holds `gamma` times the
sum of magnitudes of row j over the box; a line above carries `(gamma + 8 eps) |v| (u - l)`. So every bound holds in real
arithmetic, whatever the order of summation.

Functions take many rows at once: passing an array costs as much as a short row's work.
"""

import numpy as np

from relukit._numba import njit
from relukit.search._few_net import EPS
from relukit.search._few_slopes import STEP, SURE, improve

# Rows of `lines`: least and largest slope below, slope above, intercept above, error of the line above.
LEAST, MOST, ABOVE, LIFT, E_ABOVE = 0, 1, 2, 3, 4


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def _relax(lo, hi, L, U, loose, gamma, lines):
    """Lines around gates lo..hi-1."""
    for j in range(lo, hi):
        if U[j] <= 0.0:
            lines[:, j] = 0.0
        elif L[j] >= 0.0:
            lines[LEAST, j] = lines[MOST, j] = lines[ABOVE, j] = 1.0
            lines[LIFT, j] = 0.0
            lines[E_ABOVE, j] = loose[j]
        else:
            s = U[j] / (U[j] - L[j])
            lines[LEAST, j] = max(0.0, 1.0 + SURE * L[j] / U[j])
            lines[MOST, j] = min(1.0, -SURE * U[j] / L[j])
            lines[ABOVE, j], lines[LIFT, j] = s, -s * L[j]
            lines[E_ABOVE, j] = s * loose[j] + (gamma + 8.0 * EPS) * (U[j] - L[j])


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def substitute(T, count, hi, n, S0, M, loose, first, lines, old, below, which, errors, c, index):
    """Replace all gates before `hi` in rows `T[:count]` by lines and their own rows: `T[r, :n + 1]` become planes over x
    below the rows. Errors are added to; the coefficients with which gates were met stay in `T[r, S0:]`.

    Lines below have the slopes `old[which[r]]`, kept within what the gates' bounds allow: so they are written to `below[which[r]]`.
    """
    S = M.shape[1]
    flat = M.reshape(M.size)
    while hi > 0:
        lo = first[hi - 1]
        size = hi - lo
        width = (S0 + lo + 7) // 8 * 8  # weights from there to the group are 0
        least, most, above, lift = lines[LEAST, lo:hi], lines[MOST, lo:hi], lines[ABOVE, lo:hi], lines[LIFT, lo:hi]
        e_above, slack = lines[E_ABOVE, lo:hi], loose[lo:hi]
        for r in range(count):
            v = T[r, S0 + lo : S0 + hi]
            row = which[r]
            constant, error = 0.0, 0.0
            for j in range(size):
                s = min(max(old[row, lo + j], least[j]), most[j])
                below[row, lo + j] = s
                p = max(v[j], 0.0)
                m = v[j] - p
                p *= s
                c[j] = p + m * above[j]
                constant += m * lift[j]
                error += p * slack[j] - m * e_above[j]
            errors[r] += error
            found = 0
            for j in range(size):
                index[found] = j
                found += c[j] != 0.0
            c[size] = 0.0
            for k in range(4):  # filled up to whole fours with zeros
                index[found + k] = size
            t = T[r, :width]
            t[n] += constant
            for k in range(0, found, 4):
                i0, i1, i2, i3 = index[k], index[k + 1], index[k + 2], index[k + 3]
                a0, a1, a2, a3 = c[i0], c[i1], c[i2], c[i3]
                last = size - 1
                p0, p1, p2, p3 = lo + i0, lo + min(i1, last), lo + min(i2, last), lo + min(i3, last)
                m0 = flat[p0 * S : p0 * S + width]
                m1 = flat[p1 * S : p1 * S + width]
                m2 = flat[p2 * S : p2 * S + width]
                m3 = flat[p3 * S : p3 * S + width]
                for i in range(width):
                    t[i] += (a0 * m0[i] + a1 * m1[i]) + (a2 * m2[i] + a3 * m3[i])
        hi = lo


@njit(cache=True, nogil=True, fastmath={"contract", "nsz"})
def half_space(n, plane, xl, xu, q):
    """What `lowest` needs of the half-space `plane[:n] . x + plane[n] <= 0`: `q[0]` slopes, `q[1]` |slope| times width,
    `q[2]` 1 / |slope|, and `q[3]`, `q[4]` for use by it."""
    for i in range(n):
        s = plane[i]
        q[0, i] = s
        q[1, i] = abs(s) * (xu[i] - xl[i])
        q[2, i] = 1.0 / abs(s) if abs(s) > 1e-200 else 0.0
    q[0, n] = plane[n]


@njit(cache=True, nogil=True, fastmath={"contract", "nsz"})
def lowest(T, count, errors, n, xl, xu, gamma, halved, q, lows, corner):
    """Smallest values of the planes `T[r, :n + 1]` over the box (and the half-space if `halved`), rounded down.

    How much of the half-space's plane is added is the dual of a fractional knapsack: at one of its n breakpoints.
    Any nonnegative amount gives a valid bound. `corner[r]` receives the point where the value is least.
    """
    for r in range(count):
        t = T[r]
        factor, last, left = 0.0, 0, 0.0
        if halved:
            left = q[0, n]
            for i in range(n):
                p, s = t[i], q[0, i]
                left += s * (xl[i] if p > 0.0 or (p == 0.0 and s >= 0.0) else xu[i])
                q[3, i] = abs(p) * q[2, i] if p * s < 0.0 else np.inf
            while left > 0.0:
                nearest = 0
                for i in range(1, n):
                    if q[3, i] < q[3, nearest]:
                        nearest = i
                if q[3, nearest] == np.inf:
                    break
                factor, last = q[3, nearest], nearest
                left -= q[1, nearest]
                q[3, nearest] = np.inf
        value, size = t[n], abs(t[n])
        if factor > 0.0:
            value += factor * q[0, n]
            size += factor * abs(q[0, n])
            for i in range(n):
                more = factor * q[0, i]
                s = t[i] + more
                corner[r, i] = xl[i] if s >= 0.0 else xu[i]
                value += s * corner[r, i]
                size += (abs(t[i]) + abs(more)) * max(abs(xl[i]), abs(xu[i]))
            back = max(-left, 0.0) * q[2, last]
            corner[r, last] = min(xl[last] + back, xu[last]) if q[0, last] > 0.0 else max(xu[last] - back, xl[last])
        else:
            for i in range(n):
                corner[r, i] = xl[i] if t[i] >= 0.0 else xu[i]
                term = t[i] * corner[r, i]
                value += term
                size += abs(term)
        lows[r] = value - 1.01 * errors[r] - gamma * size


@njit(cache=True, nogil=True)
def tighten(K, n, S0, M, loose, first, L, U, xl, xu, gamma, halved, q, T, errors, lows, c, index, lines, P,
            old, below, which, height, corner, rounds):  # fmt: skip
    """Bounds of every undecided gate, and its lines; `P[k]` receives the size of its planes' slopes.

    Slopes below are those of `old`, row by row; `below` receives them improved, after each of some rounds. `height[:, k]` receives
    a plane below gate k, in units in which a step is taken.

    Returns whether any point is left: bounds that cross mean that no counterexample is in the box.
    """
    k = 0
    while k < K:
        lo, end = first[k], k
        while end < K and first[end] == lo:
            end += 1
        for t in range(rounds if lo else 1):
            count, width = 0, S0 + lo
            for g in range(k, end):
                if L[g] < 0.0 and U[g] > 0.0:
                    up, down, m = T[count], T[count + 1], M[g]
                    for i in range(width):
                        up[i], down[i] = m[i], -m[i]
                    errors[count] = errors[count + 1] = loose[g]
                    which[count], which[count + 1] = 2 * g, 2 * g + 1
                    count += 2
            if count:
                slopes = old if t == 0 else below
                substitute(T, count, lo, n, S0, M, loose, first, lines, slopes, below, which, errors, c, index)
                lowest(T, count, errors, n, xl, xu, gamma, halved, q, lows, corner)
                if lo:
                    improve(T, count, below, which, lo, n, S0, height, corner, c)
            for r in range(0, count, 2):
                g = which[r] // 2
                if lows[r] > L[g]:
                    L[g] = lows[r]
                if -lows[r + 1] < U[g]:
                    U[g] = -lows[r + 1]
                for i in range(n):
                    P[g, i] = abs(T[r, i]) + abs(T[r + 1, i])
                for i in range(n + 1):
                    height[i, g] = T[r, i]
                if L[g] > U[g]:
                    return False
        for g in range(k, end):
            undecided = L[g] < 0.0 and U[g] > 0.0 and U[g] - L[g] > 1e-100
            scale = STEP / (U[g] - L[g]) if undecided else 0.0
            for i in range(n + 1):
                height[i, g] = height[i, g] * scale if undecided else 0.0
        _relax(k, end, L, U, loose, gamma, lines)
        k = end
    return True
