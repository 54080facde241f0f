"""Compiled bounds of gates and rows over a box: backward planes, over the box and a half-space that a counterexample obeys.

Rounding: substituting gate j with coefficient c adds `|c| loose_j` to a row's error, where `loose_j` holds `gamma` times the
sum of magnitudes of row j over the box; a line above carries `(gamma + 8 eps) |v| (u - l)`. So every bound holds in real
arithmetic, whatever the order of summation.

Rows stand side by side in the eight lanes of a block `T`: entry `8 i + q` is the coefficient of row q at i, x first (n), then the
constant, padding to S0, and earlier gates. So what is done to a row is done to eight, and nothing is summed across lanes.
"""

from relukit._lanes import every, larger, load, numbers, pairs, smaller, spread, store, where_above
from relukit._numba import njit
from relukit._types import LANES
from relukit.search._few_net import EPS
from relukit.search._few_slopes import RISE, STEP, SURE, improve

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
def substitute(T, error, hi, n, S0, M, loose, first, lines, old, below, stride, at, keep, c):
    """Replace all gates before `hi` in the rows of a block by lines and their own rows: what is left are planes over x below the rows.

    Returns the rows' errors, which begin with `error`. The coefficients with which gates were met stay in T.

    Lines below have the slopes `old[j * stride + at]` and on, kept within what the gates' bounds allow: so they are written to `below`,
    in lanes where `keep` is above 0.
    """
    S, across = M.shape[1], lines.shape[1]
    zero = spread(0.0)
    constant = zero
    while hi > 0:
        lo = first[hi - 1]
        size = hi - lo
        for j in range(lo, hi):
            v, place = load(T, 8 * (S0 + j)), j * stride + at
            s = smaller(larger(load(old, place), every(lines, LEAST * across + j)), every(lines, MOST * across + j))
            store(below, place, where_above(keep, zero, s, load(below, place)))
            p = larger(v, zero)
            m = v - p
            p = p * s
            store(c, 8 * (j - lo), p + m * every(lines, ABOVE * across + j))
            constant = constant + m * every(lines, LIFT * across + j)
            error = error + (p * every(loose, j) - m * every(lines, E_ABOVE * across + j))
        for i in range(0, S0 + lo, 8):  # eight coefficients of eight rows at once; weights from `lo` to the group are 0
            t = 8 * i
            t0, t1, t2, t3 = load(T, t), load(T, t + 8), load(T, t + 16), load(T, t + 24)
            t4, t5, t6, t7 = load(T, t + 32), load(T, t + 40), load(T, t + 48), load(T, t + 56)
            for j in range(size):
                v, w = load(c, 8 * j), (lo + j) * S + i
                t0, t1 = t0 + v * every(M, w), t1 + v * every(M, w + 1)
                t2, t3 = t2 + v * every(M, w + 2), t3 + v * every(M, w + 3)
                t4, t5 = t4 + v * every(M, w + 4), t5 + v * every(M, w + 5)
                t6, t7 = t6 + v * every(M, w + 6), t7 + v * every(M, w + 7)
            store(T, t, t0)
            store(T, t + 8, t1)
            store(T, t + 16, t2)
            store(T, t + 24, t3)
            store(T, t + 32, t4)
            store(T, t + 40, t5)
            store(T, t + 48, t6)
            store(T, t + 56, t7)
        hi = lo
    store(T, 8 * n, load(T, 8 * n) + constant)
    return error


@njit(cache=True, nogil=True, fastmath={"contract", "nsz"})
def half_space(n, plane, q):
    """What `lowest` needs of the half-space `plane[:n] . x + plane[n] <= 0`: `q[0]` slopes, `q[1]` what they divide by."""
    for i in range(n + 1):
        q[0, i] = plane[i]
        q[1, i] = 1.0 / plane[i] if abs(plane[i]) > 1e-200 else 0.0


@njit(cache=True, nogil=True, fastmath={"contract", "nsz"})
def lowest(T, error, n, xl, xu, gamma, halved, q, corner):
    """Smallest values of the planes of a block over the box (and the half-space if `halved`), rounded down.

    How much of the half-space's plane is added is the dual of a fractional knapsack: at one of its n breakpoints, or none.
    Any nonnegative amount gives a valid bound. `corner` receives the points where the values are least, lane by lane.
    """
    zero, across = spread(0.0), q.shape[1]
    factor, last = zero, spread(-1.0)
    if halved:
        most = load(T, 8 * n)
        for i in range(n):
            t = load(T, 8 * i)
            most = most + smaller(t * every(xl, i), t * every(xu, i))
        for k in range(n):
            f = larger(zero - load(T, 8 * k) * every(q, across + k), zero)
            value = load(T, 8 * n) + f * every(q, n)
            for i in range(n):
                t = load(T, 8 * i) + f * every(q, i)
                value = value + smaller(t * every(xl, i), t * every(xu, i))
            factor, last = where_above(value, most, f, factor), where_above(value, most, spread(float(k)), last)
            most = larger(value, most)
    value, more = load(T, 8 * n), factor * every(q, n)
    size = larger(value, zero - value) + larger(more, zero - more)
    value = value + more
    room = every(q, n)
    for i in range(n):
        low, high, t = every(xl, i), every(xu, i), load(T, 8 * i)
        more = factor * every(q, i)
        s = t + more
        x = where_above(zero, s, high, low)
        store(corner, 8 * i, x)
        room = room + x * every(q, i)
        value = value + s * x
        size = size + (larger(t, zero - t) + larger(more, zero - more)) * larger(high, zero - low)
    if halved:  # the input at whose breakpoint the amount lies goes to the edge of the half-space
        for i in range(n):
            x, this = load(corner, 8 * i), spread(float(i))
            edge = smaller(larger(x - room * every(q, across + i), every(xl, i)), every(xu, i))
            other = where_above(last, this, x, where_above(this, last, x, edge))
            store(corner, 8 * i, other)
    return value - spread(1.01) * error - spread(gamma) * size


@njit(cache=True, nogil=True)
def tighten(K, n, S0, M, loose, first, L, U, xl, xu, gamma, halved, q, T, c, lines, P,
            old, below, stride, height, corner, rounds):  # fmt: skip
    """Bounds of every undecided gate, and its lines; `P[k]` receives the size of its planes' slopes.

    Slopes below are those of `old`, row by row; `below` receives them improved, after each of some rounds. `height[k]` receives
    a plane between those of gate k, in units in which a step is taken.

    Returns whether any point is left: bounds that cross mean that no counterexample is in the box.
    """
    S, zero = M.shape[1], spread(0.0)
    k = 0
    while k < K:
        lo, end = first[k], k
        while end < K and first[end] == lo:
            end += 1
        for t in range(rounds if lo else 1):
            slopes = old if t == 0 else below
            for g in range(k, end, 4):  # planes below and above four gates fill a block
                to, undecided = min(g + 4, end), False
                for i in range(g, to):
                    undecided = undecided or (L[i] < 0.0 and U[i] > 0.0)
                if not undecided:
                    continue
                g1, g2, g3 = min(g + 1, to - 1), min(g + 2, to - 1), min(g + 3, to - 1)
                for i in range((S0 + lo + 7) // 8 * 8):
                    store(T, 8 * i, pairs(M, g * S + i, g1 * S + i, g2 * S + i, g3 * S + i))
                keep = spread(2.0 * (to - g)) - numbers()
                error = pairs(loose, g, g1, g2, g3)
                error = larger(error, zero - error)
                error = substitute(T, error, lo, n, S0, M, loose, first, lines, slopes, below, stride, 2 * g, keep, c)
                store(c, 0, lowest(T, error, n, xl, xu, gamma, halved, q, corner))
                for i in range(g, to):
                    if not (L[i] < 0.0 and U[i] > 0.0):
                        continue
                    r = 2 * (i - g)
                    if c[r] > L[i]:
                        L[i] = c[r]
                    if -c[r + 1] < U[i]:
                        U[i] = -c[r + 1]
                    if L[i] > U[i]:
                        return False
                    for x in range(n):
                        P[i, x] = abs(T[8 * x + r]) + abs(T[8 * x + r + 1])
                    for x in range(n + 1):
                        height[i, x] = (1.0 - RISE) * T[8 * x + r] - RISE * T[8 * x + r + 1]
                if lo:
                    improve(T, below, stride, 2 * g, lo, n, S0, height, corner, keep)
        for g in range(k, end):
            undecided = L[g] < 0.0 and U[g] > 0.0 and U[g] - L[g] > 1e-100
            scale = STEP / (U[g] - L[g]) if undecided else 0.0
            for x in range(n + 1):
                height[g, x] = height[g, x] * scale if undecided else 0.0
        _relax(k, end, L, U, loose, gamma, lines)
        k = end
    return True


@njit(cache=True, nogil=True)
def outputs(K, R, n, S0, M, Q, loose, q_loose, first, lines, xl, xu, gamma, halved, q, shift, c, blocks, planes, errors,
            old, below, stride, corner):  # fmt: skip
    """The output rows `Q` as planes over x below them, `shift` added to the first; returns whether one of them is positive on all of the box.

    `blocks` receives the rows in lanes, with the coefficients with which gates were met, `planes` and `errors` what is left over x.
    """
    for r in range(R):
        errors[r] = q_loose[r]
    closed = False
    for r in range(0, R, LANES):
        block, count = blocks[r // LANES], min(R - r, LANES)
        for lane in range(count):
            for i in range(S0 + K):
                block[LANES * i + lane] = Q[r + lane, i]
        if r == 0:
            block[LANES * n] += shift
        keep = spread(float(R - r)) - numbers()
        error = load(errors, r)
        error = substitute(block, error, K, n, S0, M, loose, first, lines, old, below, stride, 2 * K + r, keep, c)
        store(errors, r, error)
        store(c, 0, lowest(block, error, n, xl, xu, gamma, halved, q, corner))
        for lane in range(count):
            closed = closed or c[lane] > 0.0
            for i in range(n + 1):
                planes[r + lane, i] = block[LANES * i + lane]
    return closed
