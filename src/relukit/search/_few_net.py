"""Compiled forms of compact networks in one flat pool: evaluate them, and make them smaller for a subtree.

Row k of `M` is gate k: `[slopes of x (n), constant, padding to S0 | weights of earlier gates (K)]`, of `Q` an output row.
`loose[k]` bounds what rounding has put between the row and the exact gate. `first[k]` is where the gate's own group
starts: gates of a group read only gates before it, so a group is substituted at once.
"""

from relukit._numba import njit

EPS = 2.220446049250313e-16


@njit(cache=True, nogil=True)
def stride(K, S0):
    """Length of a row, rounded up to whole vector registers."""
    return S0 + (K + 7) // 8 * 8


@njit(cache=True, nogil=True)
def views(pool, at, K, R, S0):
    """The arrays of a net at an offset of the pool: gates, output rows, their errors; and where they end."""
    S = stride(K, S0)
    M = pool[at : at + K * S].reshape(K, S)
    at += K * S
    Q = pool[at : at + R * S].reshape(R, S)
    at += R * S
    return M, Q, pool[at : at + K], pool[at + K : at + K + R], at + (K + R + 7) // 8 * 8


@njit(cache=True, nogil=True)
def room(K, R, S0):
    """Entries that `views` takes."""
    return (K + R) * stride(K, S0) + (K + R + 7) // 8 * 8


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def evaluate(K, n, S0, M, Q, first, x, h, out):
    """Output rows at a point; `h` receives the gates."""
    for k in range(K):
        z, m = M[k, n], M[k]
        for i in range(n):
            z += m[i] * x[i]
        w = m[S0:]
        for i in range(first[k]):
            z += w[i] * h[i]
        h[k] = max(z, 0.0)
    for r in range(len(Q)):
        q = Q[r]
        value, w = q[n], q[S0:]
        for i in range(n):
            value += q[i] * x[i]
        for i in range(K):
            value += w[i] * h[i]
        out[r] = value


@njit(cache=True, nogil=True, fastmath={"contract", "nsz"})
def _fold(t, upto, n, S0, M, loose, first, L, U):
    """Replace gates of a row that are always on by their own rows, drop those always off; returns the error added."""
    error = 0.0
    for j in range(upto - 1, -1, -1):
        v = t[S0 + j]
        if v == 0.0:
            continue
        if U[j] <= 0.0:
            t[S0 + j] = 0.0
        elif L[j] >= 0.0:
            t[S0 + j] = 0.0
            m = M[j]
            for i in range(S0 + first[j]):
                t[i] += v * m[i]
            error += abs(v) * loose[j]
    return error


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def _magnitude(t, upto, n, S0, U, reach):
    """Sum of magnitudes of a row over the box."""
    size = abs(t[n])
    for i in range(n):
        size += abs(t[i]) * reach[i]
    for j in range(upto):
        size += abs(t[S0 + j]) * max(U[j], 0.0)
    return size


@njit(cache=True, nogil=True)
def shrink(K, n, R, S0, M, Q, loose, q_loose, first, L, U, xl, xu, gamma, keep, t, reach, phase, on,
           M2, Q2, loose2, q_loose2, first2):  # fmt: skip
    """The net with only its undecided gates, written to the arrays ending in 2.

    With `phase >= 0` one more row is added: -z or z of that gate, which is at most 0 in the half that is being built.
    """
    count = 0
    for k in range(K):
        keep[k] = -1
        if L[k] < 0.0 and U[k] > 0.0:
            keep[k] = count
            count += 1
    for i in range(n):
        reach[i] = max(abs(xl[i]), abs(xu[i]))
    for k in range(K):
        at = keep[k]
        if at < 0:
            continue
        upto = first[k]
        t[: S0 + upto] = M[k, : S0 + upto]
        error = loose[k] + _fold(t, upto, n, S0, M, loose, first, L, U)
        M2[at, :S0] = t[:S0]
        M2[at, S0:] = 0.0
        before = 0
        for i in range(upto):
            if keep[i] >= 0:
                M2[at, S0 + keep[i]] = t[S0 + i]
                before += 1
        first2[at] = before
        loose2[at] = error + gamma * _magnitude(t, upto, n, S0, U, reach)
    for r in range(R + 1 if phase >= 0 else R):
        upto = K
        if r < R:
            t[: S0 + K] = Q[r, : S0 + K]
            error = q_loose[r]
        else:
            upto = first[phase]
            sign = -1.0 if on else 1.0
            for i in range(S0 + upto):
                t[i] = sign * M[phase, i]
            error = loose[phase]
        error += _fold(t, upto, n, S0, M, loose, first, L, U)
        Q2[r, :S0] = t[:S0]
        Q2[r, S0:] = 0.0
        for k in range(upto):
            if keep[k] >= 0:
                Q2[r, S0 + keep[k]] = t[S0 + k]
        q_loose2[r] = error + gamma * _magnitude(t, upto, n, S0, U, reach)
