"""The compiled loop that cuts a convex polygon by the gates of a chain of dense layers, depth first.

Lines are numbered: gate k of the whole network is line k, side s of the domain is line G + s. A polygon is a ring of vertex numbers and of
the lines of its edges (edge k runs from corner k to corner k + 1). Rows `(a, b, c)` of the gates of one layer hold on
one cell of the layers before; the rows of the next layer are carried down the tree as sums that each gate switched on
adds to.

Signs are certain: a corner lies within `vd` of its stored coordinates, a row within `E` (constant) and `C`
(coefficients) of the exact one, and a value below what these allow is handed back as undecided; the caller settles it in
rational arithmetic and calls again. All state is in the arrays, so the loop goes on where it stopped.
"""

import numpy as np
from numba import njit

DONE, UNDECIDED, OUTPUT_FULL, VERTICES_FULL, STACK_FULL = 0, 1, 2, 3, 4
MOST_CORNERS = 512
HUGE = 1e300

# state[]: top, vertices, polygons, ring entries, forced valid, current line, table used
TOP, COUNT_V, COUNT_P, COUNT_I, FORCED, LINE = 0, 1, 2, 3, 4, 5


@njit(cache=True, nogil=True)
def find(keys, values, a, b):
    """Value of the unordered pair (a, b), or -1; the place where it belongs is returned beside it."""
    if a > b:
        a, b = b, a
    key = (np.uint64(a) << np.uint64(32)) | np.uint64(b)
    mask = np.uint64(len(keys) - 1)
    at = (key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20)
    at = at & mask
    while keys[at] != 0:
        if keys[at] == key + np.uint64(1):
            return values[at], at
        at = (at + np.uint64(1)) & mask
    return np.int32(-1), at


@njit(cache=True, nogil=True)
def rehash(keys, values, new_keys, new_values):
    mask = np.uint64(len(new_keys) - 1)
    for k in range(len(keys)):
        if keys[k] != 0:
            at = (((keys[k] - np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20)) & mask
            while new_keys[at] != 0:
                at = (at + np.uint64(1)) & mask
            new_keys[at], new_values[at] = keys[k], values[k]


@njit(cache=True, nogil=True)
def crossing(i, k, va, vb, za, zb, rows, bound_e, bound_c, vx, vy, vd):
    """Where line k cuts the edge of line i between two vertices, and how far off the true point may be."""
    ai, bi, ci = rows[i, 0], rows[i, 1], rows[i, 2]
    ak, bk, ck = rows[k, 0], rows[k, 1], rows[k, 2]
    if ci == 0.0 and ck == 0.0 and bound_e[i] == 0.0 and bound_e[k] == 0.0:
        return 0.0, 0.0, 0.0  # both lines run through the origin
    t = za / (za - zb)
    x = vx[va] + t * (vx[vb] - vx[va])
    y = vy[va] + t * (vy[vb] - vy[va])
    size = abs(x) + abs(y)
    u = 8.9e-16  # 8 roundings
    ri = abs(ai * x + bi * y + ci) + bound_e[i] + bound_c[i] * size + u * (abs(ai * x) + abs(bi * y) + abs(ci))
    rk = abs(ak * x + bk * y + ck) + bound_e[k] + bound_c[k] * size + u * (abs(ak * x) + abs(bk * y) + abs(ck))
    ni, nk = abs(ai) + abs(bi) + 2 * bound_c[i], abs(ak) + abs(bk) + 2 * bound_c[k]
    det = abs(ai * bk - ak * bi)
    slack = bound_c[i] * nk + bound_c[k] * ni + u * (abs(ai * bk) + abs(ak * bi))
    if det <= 2 * slack:
        return x, y, HUGE
    return x, y, 1.0000001 * (ri * nk + rk * ni) / (det - slack)


@njit(cache=True, nogil=True)
def cut(
    sizes, starts, weights, biases, slope_on, slope_off, bound_e, bound_c, rows, candidates, counts, sums, layer, cursor,
    length, ring, edge, bits, signs, state, vx, vy, vd, keys, values, out_offsets, out_ring, out_edge, out_bits, scratch,
):  # fmt: skip
    """Runs until all polygons are out, a sign is undecided, or an array is full; returns which."""
    layers = len(sizes)
    words = bits.shape[1]
    while state[TOP] >= 0:
        top = state[TOP]
        if top + 2 >= len(layer):
            return STACK_FULL
        if state[COUNT_V] + 4 >= len(vx) or 2 * (state[COUNT_V] + 4) >= len(keys):
            return VERTICES_FULL
        l = layer[top]
        n = length[top]
        if l < 0 or cursor[top] >= counts[l]:
            if l == layers - 1:
                if state[COUNT_P] + 1 >= len(out_offsets) or state[COUNT_I] + n > len(out_ring):
                    return OUTPUT_FULL
                at, p = state[COUNT_I], state[COUNT_P]
                for k in range(n):
                    out_ring[at + k] = ring[top, k]
                    out_edge[at + k] = edge[top, k]
                for w in range(words):
                    out_bits[p, w] = bits[top, w]
                state[COUNT_I] = at + n
                state[COUNT_P] = p + 1
                out_offsets[p + 1] = at + n
                state[TOP] = top - 1
                continue
            # The next layer: its rows are the sums, and most of its gates are settled by the polygon's bounding box.
            l += 1
            layer[top] = l
            cursor[top] = 0
            x0 = x1 = vx[ring[top, 0]]
            y0 = y1 = vy[ring[top, 0]]
            d = 0.0
            for k in range(n):
                v = ring[top, k]
                x0, x1 = min(x0, vx[v]), max(x1, vx[v])
                y0, y1 = min(y0, vy[v]), max(y1, vy[v])
                d = max(d, vd[v])
            cx, cy = 0.5 * (x0 + x1), 0.5 * (y0 + y1)
            hx, hy = 0.5 * (x1 - x0) * 1.000001 + d, 0.5 * (y1 - y0) * 1.000001 + d
            reach = abs(cx) + hx + abs(cy) + hy
            first = starts[l]
            size = sizes[l]
            for j in range(size):
                rows[first + j, 0] = sums[top, 0, j]
                rows[first + j, 1] = sums[top, 1, j]
                rows[first + j, 2] = sums[top, 2, j]
            last = l == layers - 1
            if not last:
                following = sizes[l + 1]
                for j in range(following):
                    scratch[0, j] = 0.0
                    scratch[1, j] = 0.0
                    scratch[2, j] = biases[starts[l + 1] + j]
            count = 0
            for j in range(size):
                g = first + j
                a, b, c = rows[g, 0], rows[g, 1], rows[g, 2]
                z = a * cx + b * cy + c
                limit = abs(a) * hx + abs(b) * hy + bound_e[g] + bound_c[g] * 2 * reach + 4e-16 * abs(z)
                if abs(z) <= limit:
                    candidates[l, count] = g
                    count += 1
                    continue
                slope = slope_on[l] if z > 0 else slope_off[l]
                if z > 0:
                    bits[top, g >> 6] |= np.uint64(1) << np.uint64(g & 63)
                if not last and slope != 0.0:
                    a, b, c = a * slope, b * slope, c * slope
                    w = weights[l + 1, j]
                    for k in range(following):
                        scratch[0, k] += w[k] * a
                        scratch[1, k] += w[k] * b
                        scratch[2, k] += w[k] * c
            counts[l] = count
            if not last:
                for k in range(following):
                    sums[top, 0, k] = scratch[0, k]
                    sums[top, 1, k] = scratch[1, k]
                    sums[top, 2, k] = scratch[2, k]
            continue
        g = candidates[l, cursor[top]]
        a, b, c = rows[g, 0], rows[g, 1], rows[g, 2]
        slope_d = abs(a) + abs(b) + 2 * bound_c[g]
        e, cc = bound_e[g], bound_c[g]
        above = below = False
        undecided = False
        for k in range(n):
            v = ring[top, k]
            x, y = vx[v], vy[v]
            z = a * x + b * y + c
            limit = e + cc * (abs(x) + abs(y)) + slope_d * vd[v]
            if z > limit:
                signs[k] = 1
                above = True
            elif z < -limit:
                signs[k] = -1
                below = True
            elif limit == 0.0:
                signs[k] = 0
            elif state[FORCED] != 0:
                above = above or signs[k] > 0
                below = below or signs[k] < 0
            else:
                signs[k] = 2
                undecided = True
        if undecided:
            state[LINE] = g
            return UNDECIDED
        state[FORCED] = 0
        last = l == layers - 1
        cursor[top] += 1
        word, bit = g >> 6, np.uint64(1) << np.uint64(g & 63)
        j = g - starts[l]
        if not (above and below):
            slope = slope_on[l] if above else slope_off[l]
            if above:
                bits[top, word] |= bit
            if not last and slope != 0.0:
                w = weights[l + 1, j]
                a, b, c = a * slope, b * slope, c * slope
                for k in range(sizes[l + 1]):
                    sums[top, 0, k] += w[k] * a
                    sums[top, 1, k] += w[k] * b
                    sums[top, 2, k] += w[k] * c
            continue
        # Split: the part above is pushed, the part below stays.
        new = top + 1
        high = low = 0
        for k in range(n):
            q = k + 1 if k + 1 < n else 0
            s, t = signs[k], signs[q]
            v, i = ring[top, k], edge[top, k]
            if s >= 0:
                ring[new, high] = v
                edge[new, high] = g if (s == 0 and t < 0) else i
                high += 1
            if s <= 0:
                ring[new + 1, low] = v
                edge[new + 1, low] = g if (s == 0 and t > 0) else i
                low += 1
            if s * t < 0:
                r = ring[top, q]
                found, at = find(keys, values, v, r)
                if found < 0:
                    found = np.int32(state[COUNT_V])
                    za = a * vx[v] + b * vy[v] + c
                    zb = a * vx[r] + b * vy[r] + c
                    vx[found], vy[found], vd[found] = crossing(i, g, v, r, za, zb, rows, bound_e, bound_c, vx, vy, vd)
                    state[COUNT_V] += 1
                    lo, hi = (v, r) if v < r else (r, v)
                    keys[at] = ((np.uint64(lo) << np.uint64(32)) | np.uint64(hi)) + np.uint64(1)
                    values[at] = found
                ring[new, high] = found
                edge[new, high] = g if s > 0 else i
                high += 1
                ring[new + 1, low] = found
                edge[new + 1, low] = g if s < 0 else i
                low += 1
        for k in range(low):
            ring[top, k] = ring[new + 1, k]
            edge[top, k] = edge[new + 1, k]
        length[top], length[new] = low, high
        layer[new], cursor[new] = l, cursor[top]
        for w in range(words):
            bits[new, w] = bits[top, w]
        bits[new, word] |= bit
        if not last:
            on, off = slope_on[l], slope_off[l]
            w = weights[l + 1, j]
            for k in range(sizes[l + 1]):
                sums[new, 0, k] = sums[top, 0, k] + w[k] * a * on
                sums[new, 1, k] = sums[top, 1, k] + w[k] * b * on
                sums[new, 2, k] = sums[top, 2, k] + w[k] * c * on
            if off != 0.0:
                for k in range(sizes[l + 1]):
                    sums[top, 0, k] += w[k] * a * off
                    sums[top, 1, k] += w[k] * b * off
                    sums[top, 2, k] += w[k] * c * off
        state[TOP] = new
    return DONE
