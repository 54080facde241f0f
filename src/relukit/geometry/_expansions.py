"""Exact sums and products of float64 numbers as expansions: lists of numbers whose sum is the value.

The components do not overlap and grow in size, so the last one has the sign of the whole. A product whose rounding
error could leave the range of float64 sets `state[0]`; everything else is exact.

References:
    Adaptive Precision Floating-Point Arithmetic and Fast Robust Geometric Predicates, Shewchuk, 1997.
"""

from relukit._numba import njit

WIDTH = 48  # a compressed expansion over the whole range of float64 has at most 41 components
ROOM = 512  # while summing
_SMALL = 2.0**-960  # below, the rounding error of a product may underflow
_LARGE = 2.0**1000  # Splitting a factor multiplies it by 2^27
_SPLIT = 134217729.0  # 2^27 + 1


@njit(cache=True, nogil=True, _nrt=False)
def grow(e, n, b):
    """Add `b` to the expansion `e[:n]`; returns its new length (zeros dropped)."""
    Q, m = b, 0
    for i in range(n):
        s = Q + e[i]
        v = s - Q
        h = (Q - (s - v)) + (e[i] - v)
        Q = s
        if h != 0.0:
            e[m] = h
            m += 1
    if Q != 0.0:
        e[m] = Q
        m += 1
    return compress(e, m) if m > ROOM // 2 else m


@njit(cache=True, nogil=True, _nrt=False)
def compress(e, m):
    """The same value in as few components as may be."""
    if m < 2:
        return m
    Q, bottom = e[m - 1], m - 1
    for i in range(m - 2, -1, -1):
        s = Q + e[i]
        q = e[i] - (s - Q)
        Q = s
        if q != 0.0:
            e[bottom] = Q
            bottom -= 1
            Q = q
    e[bottom] = Q
    top, Q = 0, e[bottom]
    for i in range(bottom + 1, m):
        s = e[i] + Q
        q = Q - (s - e[i])
        Q = s
        if q != 0.0:
            e[top] = q
            top += 1
    e[top] = Q
    return top + 1


@njit(cache=True, nogil=True, _nrt=False)
def add_product(e, n, a, b, state):
    """Add `a * b` to the expansion, exactly."""
    if a == 0.0 or b == 0.0:
        return n
    p = a * b
    if not (_SMALL < abs(p) < _LARGE and abs(a) < 2.0**990 and abs(b) < 2.0**990):
        state[0] = 1
        return n
    c, d = _SPLIT * a, _SPLIT * b
    ah = c - (c - a)
    al = a - ah
    bh = d - (d - b)
    bl = b - bh
    n = grow(e, n, al * bl - (((p - ah * bh) - al * bh) - ah * bl))
    return grow(e, n, p)


@njit(cache=True, nogil=True, _nrt=False)
def add_scaled(e, n, x, nx, w, state):
    """Add `w` times the expansion `x[:nx]`."""
    for i in range(nx):
        n = add_product(e, n, x[i], w, state)
    return n


@njit(cache=True, nogil=True, _nrt=False)
def determinant_sign(rows, counts, D, minors, lengths, room, state):
    """Sign of the last row's function at the point where the first D rows vanish; 0 also where these are dependent.

    `rows[i, c, :counts[i, c]]` are expansions, i < D + 1 rows with D slopes and a constant. The minors of the first k
    rows over every set of k columns are made one after the other: 2^(D + 1) in all.
    """
    n = D + 1
    minors[0, 0] = 1.0
    lengths[0] = 1
    for S in range(1, 1 << n):
        k = 0
        for c in range(n):
            k += (S >> c) & 1
        r, p, m = k - 1, 0, 0
        for c in range(n):
            if (S >> c) & 1:
                T = S ^ (1 << c)
                sign = 1.0 if (r + p) % 2 == 0 else -1.0
                p += 1
                for i in range(counts[r, c]):
                    m = add_scaled(room, m, minors[T], lengths[T], sign * rows[r, c, i], state)
        m = compress(room, m)
        for i in range(m):
            minors[S, i] = room[i]
        lengths[S] = m
    whole, base = (1 << n) - 1, (1 << D) - 1
    if lengths[whole] == 0 or lengths[base] == 0:
        return 0
    a, b = minors[whole, lengths[whole] - 1], minors[base, lengths[base] - 1]
    return 1 if (a > 0) == (b > 0) else -1
