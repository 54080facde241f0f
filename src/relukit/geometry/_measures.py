"""What is asked of finished cells: affine maps, half-spaces, Chebyshev centers, volumes."""

from typing import Any

import numpy as np

from relukit._numba import njit
from relukit._types import Array
from relukit.geometry._bits import lowest, nth
from relukit.geometry._room import room_for
from relukit.geometry._sums import add_rows

_FAST = {"contract"}


@njit(cache=True, nogil=True, _nrt=False)
def _is_on(patterns, c, g):
    return (patterns[c, g >> 6] >> np.uint64(g & 63)) & np.uint64(1) != np.uint64(0)


@njit(cache=True, nogil=True, _nrt=False, fastmath=_FAST)
def _rows(net, D, patterns, c, rows, start, stop):
    """Rows of stages `start` to `stop` - 1 for the pattern of cell c, as in the walk; those of earlier stages must be there."""
    for l in range(start, stop):
        n, base = net.size[l], net.direct_at[l]
        for i in range((D + 1) * n):
            rows[base + i] = net.direct[base + i]
        if l and net.weight_at[l] >= 0:
            k = l - 1
            for i in range(net.size[k]):
                if _is_on(patterns, c, net.first[k] + i):
                    at = net.weight_at[l] + i * n
                    for d in range(D + 1):
                        r = rows[net.direct_at[k] + d * net.size[k] + i]
                        for v in range(n):
                            rows[base + d * n + v] += net.weight[at + v] * r
        for s in range(len(net.skip)):
            if net.skip[s, 0] == l:
                k, place = net.skip[s, 1], net.skip[s, 2]
                for i in range(net.size[k]):
                    if _is_on(patterns, c, net.first[k] + i):
                        for d in range(D + 1):
                            r = rows[net.direct_at[k] + d * net.size[k] + i]
                            for v in range(n):
                                rows[base + d * n + v] += net.skip_weight[place + i * n + v] * r


@njit(cache=True, nogil=True, _nrt=False)
def maps_of(net, D, patterns, count, rows, row_at, on, maps):
    """The last stage's rows on each cell, and of each stage only from where the pattern differs from the last cell's.

    Arguments:
        rows, row_at, on: Room: (D + 1) columns of every stage, where each stage begins, and one stage's hinges.
    """
    last, place = len(net.size) - 1, 0
    for l in range(last + 1):
        row_at[l] = place
        place += (D + 1) * net.stride[l]
    for c in range(count):
        start = 0
        if c:
            start = last + 1
            for k in range(patterns.shape[1]):
                flipped = patterns[c, k] ^ patterns[c - 1, k]
                if flipped:
                    start = net.stage[64 * k + lowest(flipped)] + 1
                    break
        for l in range(start, last + 1):
            n, many, place = net.size[l], 0, np.int64(-1)
            before, wide = np.int64(0), np.int64(0)
            if l:
                k, place = net.first[l - 1], net.weight_at[l]
                before, wide = row_at[l - 1], net.stride[l - 1]
                for i in range(net.size[l - 1]):
                    on[nth(many)] = i
                    many += np.int64((patterns[c, nth((k + i) >> 6)] >> np.uint64((k + i) & 63)) & np.uint64(1))
            add_rows(
                D + 1, net.direct, net.direct_at[l], n, rows, before, wide, net.weight, place, n, on, 0, many, row_at[l], net.stride[l]
            )  # fmt: skip
            for s in range(len(net.skip)):
                if net.skip[s, 0] == l:
                    k, place = net.skip[s, 1], net.skip[s, 2]
                    for i in range(net.size[k]):
                        if _is_on(patterns, c, net.first[k] + i):
                            for d in range(D + 1):
                                r = rows[row_at[k] + d * net.stride[k] + i]
                                for v in range(n):
                                    rows[row_at[l] + d * net.stride[l] + v] += net.skip_weight[place + i * n + v] * r
        m = net.size[last]
        for d in range(D + 1):
            for i in range(m):
                maps[nth(c), nth(d * m + i)] = rows[nth(row_at[last] + d * net.stride[last] + i)]


def all_maps(net: Any, D: int, patterns: Array, count: int) -> Array:
    """The affine maps of cells by their patterns, shape (count, (D + 1) m)."""
    out, stages = np.empty((count, (D + 1) * int(net.size[-1]))), len(net.size)
    room = room_for((D + 1) * int(net.stride.sum()))
    maps_of(net, D, patterns, count, room, np.empty(stages, np.int64), np.empty(int(net.size.max()) + 1, np.int64), out)
    return out


@njit(cache=True, nogil=True, _nrt=False)
def half_spaces(net, D, patterns, first, stop, facet_offsets, facets, lower, upper, rows, A, b):
    """Half-spaces A x <= b of cells first to stop - 1: one row per facet, of length one, so none is redundant."""
    start = facet_offsets[first]
    for c in range(first, stop):
        _rows(net, D, patterns, c, rows, 0, len(net.size) - 1)
        for f in range(facet_offsets[c], facet_offsets[c + 1]):
            g, k = facets[f], f - start
            if g < 0:
                side = -1 - g
                for d in range(D):
                    A[k, d] = 0.0
                A[k, side >> 1] = -1.0 if side % 2 == 0 else 1.0
                b[k] = -lower[side >> 1] if side % 2 == 0 else upper[side >> 1]
                continue
            l = net.stage[g]
            at, n, size = net.direct_at[l] + g - net.first[l], net.size[l], 0.0
            for d in range(D):
                size += rows[at + d * n] ** 2
            size = 1.0 / np.sqrt(size) if size > 0 else 1.0
            sign = -size if _is_on(patterns, c, g) else size
            for d in range(D):
                A[k, d] = sign * rows[at + d * n]
            b[k] = -sign * rows[at + D * n]


@njit(cache=True, nogil=True, _nrt=False)
def _solve(T, n):
    """Gauss-Jordan on the n x (n + 1) system T, in place; False where it is singular."""
    for r in range(n):
        best = r
        for i in range(r + 1, n):
            if abs(T[i, r]) > abs(T[best, r]):
                best = i
        if abs(T[best, r]) < 1e-14:
            return False
        if best != r:
            for k in range(r, n + 1):
                T[r, k], T[best, k] = T[best, k], T[r, k]
        scale = 1.0 / T[r, r]
        for k in range(r, n + 1):
            T[r, k] *= scale
        for i in range(n):
            factor = T[i, r]
            if i != r and factor != 0.0:
                for k in range(r, n + 1):
                    T[i, k] -= factor * T[r, k]
    return True


@njit(cache=True, nogil=True, _nrt=False)
def chebyshev(A, b, m, D, x, T, y, working):
    """Center of the largest ball in {A x <= b} (rows of length one), from a point x inside; returns its radius.

    Primal simplex in (x, r) from inside: r grows along a direction that keeps the rows met so far, until D + 1 of them hold;
    then a row with a negative multiplier leaves. x is overwritten; at least the inscribed radius at x comes back.
    """
    n, r = D + 1, 1e300
    for i in range(m):
        slack = b[i]
        for k in range(D):
            slack -= A[i, k] * x[k]
        r = min(r, slack)
    count = 0
    for _ in range(60 + 4 * m):
        # direction: the projection of e_r onto the null space of the working rows, by normal equations
        for i in range(count):
            for j in range(count):
                dot = 1.0
                for k in range(D):
                    dot += A[working[i], k] * A[working[j], k]
                T[i, j] = dot
            T[i, count] = 1.0
        if count and not _solve(T, count):
            count -= 1
            continue
        size = 1.0
        for i in range(count):
            size -= T[i, count]
        if size <= 1e-13:  # r cannot grow along the working rows: multipliers T[:, count]
            worst, low = -1, -1e-12
            for i in range(count):
                if T[i, count] < low:
                    worst, low = i, T[i, count]
            if worst < 0:
                return r
            for i in range(worst, count - 1):
                working[i] = working[i + 1]
            count -= 1
            continue
        for k in range(D):
            y[k] = 0.0
            for i in range(count):
                y[k] -= T[i, count] * A[working[i], k]
        step, hit = 1e300, -1
        for i in range(m):
            speed, slack = size, b[i] - r
            for k in range(D):
                speed += A[i, k] * y[k]
                slack -= A[i, k] * x[k]
            if speed > 1e-13:
                held = False
                for j in range(count):
                    held = held or working[j] == i
                if not held and slack < step * speed:
                    step, hit = max(slack, 0.0) / speed, i
        if hit < 0:
            return r
        for k in range(D):
            x[k] += step * y[k]
        r += step * size
        if count < n:
            working[count] = hit
            count += 1
    return r


@njit(cache=True, nogil=True, _nrt=False)
def centers(offsets, indices, vertices, first, stop, facet_offsets, A, b, D, x, T, y, working, radius):
    """Chebyshev centers and radii of cells first to stop - 1 with half-spaces A, b, started at the mean vertex."""
    for c in range(first, stop):
        at = facet_offsets[c] - facet_offsets[first]
        m, k = facet_offsets[c + 1] - facet_offsets[c], c - first
        for d in range(D):
            x[k, d] = 0.0
            for i in range(offsets[c], offsets[c + 1]):
                x[k, d] += vertices[indices[i], d]
            x[k, d] /= offsets[c + 1] - offsets[c]
        radius[k] = chebyshev(A[at : at + m], b[at : at + m], m, D, x[k], T, y, working)


@njit(cache=True, nogil=True, _nrt=False)
def _direction(X, a, b, D, basis, row):
    """The part of X[a] - X[b] that is orthogonal to basis[:row], into basis[row]; returns its length."""
    for d in range(D):
        basis[row, d] = X[a, d] - X[b, d]
    for r in range(row):
        dot = 0.0
        for d in range(D):
            dot += basis[row, d] * basis[r, d]
        for d in range(D):
            basis[row, d] -= dot * basis[r, d]
    size = 0.0
    for d in range(D):
        size += basis[row, d] ** 2
    return np.sqrt(size)


@njit(cache=True, nogil=True, _nrt=False)
def _more_facets(q, n, level, face, masks, at):
    """Facets of the cell, of word q of its masks, that hold some vertices of a face, but not all and not the first."""
    shared, union = ~np.uint64(0), np.uint64(0)
    for i in range(n):
        shared &= masks[q, at + face[level, i]]
        union |= masks[q, at + face[level, i]]
    return union & ~shared & ~masks[q, at + face[level, 0]]


@njit(cache=True, nogil=True, _nrt=False)
def _simplices(n, W, D, face, state, rest, masks, indices, at, X, basis, det):
    """Sum of the determinants of simplices that fill a cell: cones from a first vertex, over each face in turn.

    face[level, :state[level, 0]] are vertices of a (D - level)-dimensional face; `basis` holds the directions between the
    tips of the cones so far, orthonormal, so that lengths multiply to the determinant. A facet of a face is a largest set of its vertices
    on one more facet of the cell; each is taken once (Two algorithms for determining volumes of convex polyhedra,
    Cohen and Hickey, 1979). No recursion: compiled recursive functions do not come back from Numba's cache.
    """
    total, level = 0.0, 0
    det[0], state[0, 0], state[0, 1] = 1.0, n, 0
    if D > 1:
        rest[0] = _more_facets(0, n, 0, face, masks, at)
    while level >= 0:
        m, tip = state[level, 0], face[level, 0]
        if level == D - 1:
            total += det[level] * _direction(X, indices[at + tip], indices[at + face[level, 1]], D, basis, level)
            level -= 1
            continue
        if rest[level] == 0:
            state[level, 1] += 1
            if state[level, 1] == W:
                level -= 1
            else:
                rest[level] = _more_facets(state[level, 1], m, level, face, masks, at)
            continue
        q, low = state[level, 1], lowest(rest[level])
        bit = np.uint64(1) << np.uint64(low)
        rest[level] &= rest[level] - np.uint64(1)
        count = 0
        for i in range(m):
            if masks[q, at + face[level, i]] & bit:
                face[level + 1, count] = face[level, i]
                count += 1
        if count < D - level or not _largest(q, low, count, m, W, level, face, masks, at):
            continue
        size = _direction(X, indices[at + tip], indices[at + face[level + 1, 0]], D, basis, level)
        if size == 0.0:
            continue
        for d in range(D):
            basis[level, d] /= size
        det[level + 1] = det[level] * size
        level += 1
        state[level, 0], state[level, 1] = count, 0
        if level < D - 1:
            rest[level] = _more_facets(0, count, level, face, masks, at)
    return total


@njit(cache=True, nogil=True, _nrt=False)
def _largest(q, low, m, n, W, level, face, masks, at):
    """Whether no other facet of the cell holds these m vertices and more of the face, or the same ones first."""
    for p in range(W):
        both, common = ~np.uint64(0), ~np.uint64(0)
        for i in range(m):
            both &= masks[p, at + face[level + 1, i]]
        for i in range(n):
            common &= masks[p, at + face[level, i]]
        both &= ~common
        while both:
            b = lowest(both)
            both &= both - np.uint64(1)
            if p == q and b == low:
                continue
            count = 0
            for i in range(n):
                count += np.int64((masks[p, at + face[level, i]] >> np.uint64(b)) & np.uint64(1))
            if count > m or (64 * p + b < 64 * q + low):
                return False
    return True


@njit(cache=True, nogil=True, _nrt=False)
def volumes(offsets, indices, masks, X, D, first, stop, face, state, rest, basis, det, out):
    """Volumes of cells first to stop - 1 (lengths for D = 1, areas for D = 2)."""
    factor = 1.0
    for k in range(2, D + 1):
        factor *= k
    for c in range(first, stop):
        at, n = offsets[c], offsets[c + 1] - offsets[c]
        for i in range(n):
            face[0, i] = i
        total = _simplices(n, len(masks), D, face, state, rest, masks, indices, at, X, basis, det)
        out[c - first] = total / factor
