"""Compiled passes of the dual bound: one block of gates at a time, matrix products between blocks are left to BLAS.

Each row has its own parameters `P` and phases `S`: of a free gate the slope of the line below, in [0, 1]; of a gate held on or
off the multiplier of z >= 0 or z <= 0, at least 0. Both enter as the factor with which the row goes on from h to z.
"""

import numpy as np

from relukit._numba import njit

EPS = 2.220446049250313e-16


@njit(cache=True, nogil=True, fastmath=True)
def backward(A, P, S, M, constant, largest, first, last, slope, top, b):
    """Replace gates `first ... last - 1` of every row by lines below: `M` receives the coefficients on z."""
    for i in range(A.shape[0]):
        total = A.dtype.type(0.0)
        most = largest[i]
        for j in range(first, last):
            v, p, s = A[i, j], P[i, j], S[i, j]
            up = v >= 0
            free = v * (p if up else slope[j])
            m = free if s == 0 else (v - p if s > 0 else p)
            paid = v * top[j] if (s == 0 and not up) else A.dtype.type(0.0)
            M[i, j] = m
            total += m * b[j] + paid
            most = max(most, abs(v))
        constant[i] += total
        largest[i] = most


@njit(cache=True, nogil=True)
def backward_safe(A, P, S, M, constant, error, first, last, slope, lower, upper, b):
    """As `backward`, in double precision: the line above is taken at the height that its rounded slope needs."""
    for i in range(A.shape[0]):
        total, loose, size = 0.0, 0.0, 0.0
        for j in range(first, last):
            v, p, s = A[i, j], P[i, j], S[i, j]
            if s > 0:
                m = v - p
            elif s < 0:
                m = p
            elif v >= 0:
                m = v * p
            else:
                # v h >= m z + t on the gate: the least of v h - m z is at an end or at the kink.
                m = v * slope[j]
                at_lower, at_upper = -m * lower[j], (v - m) * upper[j]
                t = min(at_lower, at_upper, 0.0)
                loose += 4 * EPS * (abs(at_lower) + abs(v) * upper[j])
                size -= t
                total += t
            M[i, j] = m
            total += m * b[j]
        constant[i] += total
        error[i, 0] += loose
        error[i, 1] += size


@njit(cache=True, nogil=True, fastmath=True)
def corner(X, value, D, low, high):
    """Add to `value` the least of every row over a box of steps, and put its minimizer into `D`."""
    for i in range(X.shape[0]):
        total = X.dtype.type(0.0)
        for j in range(X.shape[1]):
            v = X[i, j]
            d = low[j] if v >= 0 else high[j]
            D[i, j] = d
            total += v * d
        value[i] += total


@njit(cache=True, nogil=True)
def ball2(X, value, D, low, high, radius):
    """As `corner`, over steps of length at most `radius` too: the multiplier of the length is found by bisection.

    For any m >= 0 the value `sum of min (x d + m d^2) - m radius^2` is a lower bound, so the bisection need not be exact.
    """
    n = X.shape[1]
    for i in range(X.shape[0]):
        norm, inside = 0.0, 0.0
        for j in range(n):
            v = X[i, j]
            norm += v * v
            d = low[j] if v >= 0 else high[j]
            inside += d * d
        if inside <= radius * radius or norm == 0.0:
            m = 0.0
        else:
            hi = np.sqrt(norm) / (2 * radius)  # without the box
            lo = 0.0
            for _ in range(40):
                m = 0.5 * (lo + hi)
                length = 0.0
                for j in range(n):
                    d = min(max(-X[i, j] / (2 * m), low[j]), high[j])
                    length += d * d
                if length > radius * radius:
                    lo = m
                else:
                    hi = m
                if hi - lo < 1e-7 * hi:
                    break
            m = hi
        total = -m * radius * radius
        for j in range(n):
            v = X[i, j]
            if m > 0.0:
                d = min(max(-v / (2 * m), low[j]), high[j])
            else:
                d = low[j] if v >= 0 else high[j]
            D[i, j] = d
            total += v * d + m * d * d
        value[i] += total


@njit(cache=True, nogil=True)
def ball1(X, value, D, low, high, radius):
    """As `corner`, over steps whose entries sum to at most `radius`: the largest coefficients first.

    With m the first coefficient that the budget does not reach, `sum of min (x d + m |d|) - m radius` is a lower bound.
    """
    n = X.shape[1]
    for i in range(X.shape[0]):
        order = np.argsort(-np.abs(X[i]))
        left, m = radius, 0.0
        for j in range(n):
            D[i, j] = 0.0
        for k in range(n):
            j = order[k]
            v = X[i, j]
            room = -low[j] if v >= 0 else high[j]
            step = min(room, left)
            D[i, j] = -step if v >= 0 else step
            left -= step
            if left <= 0.0:
                m = abs(v)
                break
        total = -m * radius
        for j in range(n):
            v = X[i, j]
            d = low[j] if v >= 0 else high[j]
            total += min(v * d + m * abs(d), 0.0)
        value[i] += total


# Multipliers of an empty leaf grow beyond single precision: a division by what is then no number is no error.
@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def forward(A, P, S, Z, H, first, last, slope, top, M1, M2, rate, rate_fixed, largest, decay1, decay2, fix1, fix2):
    """h of a block from its z along the lines that the row took, and one Adam step of the parameters along the exact gradient."""
    for i in range(A.shape[0]):
        step_fixed = rate_fixed * largest[i]
        for j in range(first, last):
            v, p, s, z = A[i, j], P[i, j], S[i, j], Z[i, j]
            up = v >= 0
            free = p * z if up else slope[j] * z + top[j]
            H[i, j] = free if s == 0 else (z if s > 0 else A.dtype.type(0.0))
            g = (v * z if up else A.dtype.type(0.0)) if s == 0 else -s * z
            m1 = decay1 * M1[i, j] + (1 - decay1) * g
            m2 = decay2 * M2[i, j] + (1 - decay2) * g * g
            M1[i, j], M2[i, j] = m1, m2
            move = (m1 * fix1) / (np.sqrt(m2 * fix2) + A.dtype.type(1e-12))
            p = p + (rate if s == 0 else step_fixed) * move
            p = max(p, A.dtype.type(0.0))
            P[i, j] = min(p, A.dtype.type(1.0)) if s == 0 else p


@njit(cache=True, nogil=True)
def keep(value, best, P, best_P, D, best_D):
    """Remember each row's best parameters and minimizer."""
    for i in range(len(value)):
        if value[i] > best[i]:
            best[i] = value[i]
            best_P[i] = P[i]
            best_D[i] = D[i]
