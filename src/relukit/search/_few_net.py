"""Compiled forms of compact networks in one flat pool: evaluate them, and make them smaller for a subtree.

Row k of `M` is gate k: `[slopes of x (n), constant, padding to S0 | weights of earlier gates (K)]`, of `Q` an output row.
`loose[k]` bounds what rounding has put between the row and the exact gate. `first[k]` is where the gate's own group
starts: gates of a group read only gates before it, so a group is substituted at once.
"""

from relukit._numba import njit
from relukit.search._few_lanes import LANES, fill, load, store

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
def _fold(t, upto, S0, M, loose, first, on, count):
    """Replace the gates of a row that are always on by their own rows; returns the error added."""
    S, error = M.shape[1], 0.0
    for a in range(count - 1, -1, -1):
        j = on[a]
        if j >= upto or t[S0 + j] == 0.0:
            continue
        v = t[S0 + j]
        weight = fill(v)
        for i in range(0, S0 + first[j], LANES):  # weights from there on are 0
            store(t, i, load(t, i) + weight * load(M, j * S + i))
        error += abs(v) * loose[j]
    return error


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def _kept(t, n, S0, kept, upto, most, reach, row):
    """What a row has at x, at 1 and at the gates that are kept; returns the sum of its magnitudes over the box."""
    size = abs(t[n])
    for i in range(S0):
        row[i] = t[i]
    for i in range(n):
        size += abs(t[i]) * reach[i]
    for a in range(upto):
        w = t[S0 + kept[a]]
        row[S0 + a] = w
        size += abs(w) * most[a]
    row[S0 + upto :] = 0.0
    return size


@njit(cache=True, nogil=True)
def shrink(K, n, R, S0, M, Q, loose, q_loose, first, L, U, xl, xu, gamma, keep, order, t, most, reach, phase, on,
           M2, Q2, loose2, q_loose2, first2):  # fmt: skip
    """The net with only its undecided gates, written to the arrays ending in 2; `keep[k]` receives gate k's new number, or -1.

    With `phase >= 0` one more row is added: -z or z of that gate, which is at most 0 in the half that is being built.
    `order`, `t`, `most` and `reach` are scratch.
    """
    count, always = 0, 0  # `order` has the kept gates first, then those always on
    for k in range(K):
        keep[k] = -1
        if L[k] < 0.0 and U[k] > 0.0:
            keep[k], order[count], most[count] = count, k, U[k]
            count += 1
    kept = order[:count]
    ons = order[count:K]
    for k in range(K):
        if L[k] >= 0.0 and U[k] > 0.0:
            ons[always] = k
            always += 1
    for i in range(n):
        reach[i] = max(abs(xl[i]), abs(xu[i]))
    before, group = 0, -1
    for at in range(count):
        k = kept[at]
        upto = first[k]
        if upto != group:  # another group begins
            group = upto
            while before < count and kept[before] < upto:
                before += 1
        t[: S0 + upto] = M[k, : S0 + upto]
        error = loose[k] + _fold(t, upto, S0, M, loose, first, ons, always)
        first2[at] = before
        loose2[at] = error + gamma * _kept(t, n, S0, kept, before, most, reach, M2[at])
    for r in range(R + 1 if phase >= 0 else R):
        upto, before = K, count
        if r < R:
            t[: S0 + K] = Q[r, : S0 + K]
            error = q_loose[r]
        else:
            upto, before = first[phase], 0
            while before < count and kept[before] < upto:
                before += 1
            sign = -1.0 if on else 1.0
            for i in range(S0 + upto):
                t[i] = sign * M[phase, i]
            error = loose[phase]
        error += _fold(t, upto, S0, M, loose, first, ons, always)
        q_loose2[r] = error + gamma * _kept(t, n, S0, kept, before, most, reach, Q2[r])
