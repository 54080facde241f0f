"""Compiled forms of compact networks in one flat pool: evaluate them, and make them smaller for a subtree.

Row k of `M` is gate k: `[slopes of x (n), constant, padding to S0 | weights of earlier gates (K)]`, of `Q` an output row.
`loose[k]` bounds what rounding has put between the row and the exact gate. `first[k]` is where the gate's own group
starts: gates of a group read only gates before it, so a group is substituted at once.
"""

from relukit._lanes import larger, load, numbers, spread, store, total, where_above
from relukit._numba import njit
from relukit._types import LANES

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


@njit(cache=True, nogil=True)
def runs_of(K, first, keep, runs):
    """Stretches of kept gates of one group: `runs[a]` holds the first one, its new number and how many they are; returns how many stretches."""
    count = 0
    for k in range(K):
        if keep[k] < 0:
            continue
        if count and k and keep[k - 1] >= 0 and first[k] == first[k - 1]:
            runs[count - 1, 2] += 1
        else:
            runs[count, 0], runs[count, 1], runs[count, 2] = k, keep[k], 1
            count += 1
    return count


@njit(cache=True, nogil=True)
def copy_runs(a, at, b, to, wide, runs, begin, end):
    """Entries of kept gates, `wide` for each, from `a[at:]` to `b[to:]`; works in place, too, towards the front."""
    for r in range(begin, end):
        i, j, left = at + wide * runs[r, 0], to + wide * runs[r, 1], wide * runs[r, 2]
        while left >= LANES:
            store(b, j, load(a, i))
            i, j, left = i + LANES, j + LANES, left - LANES
        if left:
            keep = spread(float(left)) - numbers()
            store(b, j, where_above(keep, spread(0.0), load(a, i), load(b, j)))


@njit(cache=True, nogil=True, fastmath={"contract", "nsz"})
def _fold(t, upto, S0, M, loose, first, on, count):
    """Replace the gates of a row that are always on by their own rows; returns the error added."""
    S, error = M.shape[1], 0.0
    for a in range(count - 1, -1, -1):
        j = on[a]
        if j >= upto or t[S0 + j] == 0.0:
            continue
        v = t[S0 + j]
        weight = spread(v)
        for i in range(0, S0 + first[j], LANES):  # weights from there on are 0
            store(t, i, load(t, i) + weight * load(M, j * S + i))
        error += abs(v) * loose[j]
    return error


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def _kept(t, n, S0, runs, stretches, upto, most, reach, rows, at, S):
    """What a row has at x, at 1 and at the gates that are kept, into `rows[at:]`; returns the sum of its magnitudes over the box."""
    zero, size = spread(0.0), abs(t[n])
    for i in range(n):
        size += abs(t[i]) * reach[i]
    for i in range(0, S0, LANES):
        store(rows, at + i, load(t, i))
    for i in range(S0 + upto // LANES * LANES, S, LANES):
        store(rows, at + i, zero)
    copy_runs(t, S0, rows, at + S0, 1, runs, 0, stretches)
    sizes = zero
    for i in range(0, upto, LANES):
        w = load(rows, at + S0 + i)
        sizes = sizes + larger(w, zero - w) * load(most, i)
    return size + total(sizes)


@njit(cache=True, nogil=True)
def shrink(K, n, R, S0, M, Q, loose, q_loose, first, L, U, xl, xu, gamma, keep, on, runs, t, most, reach, phase, side,
           M2, Q2, loose2, q_loose2, first2):  # fmt: skip
    """The net with only its undecided gates, written to the arrays ending in 2; `keep[k]` receives gate k's new number, or -1.

    With `phase >= 0` one more row is added: -z or z of that gate, which is at most 0 in the half (`side`: on or off) that is being built.
    `on`, `t`, `most` and `reach` are scratch; `runs` receives the stretches of kept gates. Returns how many there are.
    """
    S, S2, count, always = M.shape[1], M2.shape[1], 0, 0
    for k in range(K):
        keep[k] = -1
        if L[k] < 0.0 and U[k] > 0.0:
            keep[k], most[count] = count, U[k]
            count += 1
        elif U[k] > 0.0:
            on[always] = k
            always += 1
    all_runs = runs_of(K, first, keep, runs)
    for i in range(n):
        reach[i] = max(abs(xl[i]), abs(xu[i]))
    before, stretches = 0, 0  # kept gates, and stretches of them, that the rows of a group read
    for k in range(K):
        at, upto = keep[k], first[k]
        if at < 0:
            continue
        while stretches < all_runs and runs[stretches, 0] < upto:
            before += runs[stretches, 2]
            stretches += 1
        for i in range(0, S0 + upto, LANES):
            store(t, i, load(M, k * S + i))
        error = loose[k] + _fold(t, upto, S0, M, loose, first, on, always)
        first2[at] = before
        loose2[at] = error + gamma * _kept(t, n, S0, runs, stretches, before, most, reach, M2, at * S2, S2)
    for r in range(R + 1 if phase >= 0 else R):
        upto, before, stretches = K, count, all_runs
        if r < R:
            for i in range(0, S0 + K, LANES):
                store(t, i, load(Q, r * S + i))
            error = q_loose[r]
        else:
            upto, before, stretches = first[phase], 0, 0
            while stretches < all_runs and runs[stretches, 0] < upto:
                before += runs[stretches, 2]
                stretches += 1
            sign = spread(-1.0 if side else 1.0)
            for i in range(0, S0 + upto, LANES):
                store(t, i, sign * load(M, phase * S + i))
            error = loose[phase]
        error += _fold(t, upto, S0, M, loose, first, on, always)
        q_loose2[r] = error + gamma * _kept(t, n, S0, runs, stretches, before, most, reach, Q2, r * S2, S2)
    return all_runs
