"""Rows of a stage, eight hinges at a time: sums over the hinges that are on, and what a box in two coordinates decides.

Rows lie in columns (a, b, c of a p + b q + c), each padded to a multiple of eight (`Net.stride`). A sum keeps two times eight hinges
in registers while it goes through all that are on, so that each weight is read once and nothing is written but the sums.
"""

from relukit._lanes import above, load, magnitude, multiply_add, negative, spread, store
from relukit._numba import njit
from relukit.geometry._bits import lowest, nth


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def _three(start, at, step, rows, base, wide, weight, place, m, on, begin, end, to, stride):
    v = 0
    while v < m:
        s, t = at + v, to + v
        x, y, z = load(start, nth(s)), load(start, nth(s + step)), load(start, nth(s + 2 * step))
        if v + 8 < m:
            s += 8
            p, q, r = load(start, nth(s)), load(start, nth(s + step)), load(start, nth(s + 2 * step))
            for i in range(begin, end):
                u = on[nth(i)]
                e, f = place + u * m + v, base + u
                g, h = load(weight, nth(e)), load(weight, nth(e + 8))
                a, b, c = spread(rows[nth(f)]), spread(rows[nth(f + wide)]), spread(rows[nth(f + 2 * wide)])
                x, y, z = multiply_add(g, a, x), multiply_add(g, b, y), multiply_add(g, c, z)
                p, q, r = multiply_add(h, a, p), multiply_add(h, b, q), multiply_add(h, c, r)
            store(rows, nth(t), x)
            store(rows, nth(t + stride), y)
            store(rows, nth(t + 2 * stride), z)
            t += 8
            store(rows, nth(t), p)
            store(rows, nth(t + stride), q)
            store(rows, nth(t + 2 * stride), r)
            v += 16
        else:
            for i in range(begin, end):
                u = on[nth(i)]
                f = base + u
                g = load(weight, nth(place + u * m + v))
                a, b, c = spread(rows[nth(f)]), spread(rows[nth(f + wide)]), spread(rows[nth(f + 2 * wide)])
                x, y, z = multiply_add(g, a, x), multiply_add(g, b, y), multiply_add(g, c, z)
            store(rows, nth(t), x)
            store(rows, nth(t + stride), y)
            store(rows, nth(t + 2 * stride), z)
            v += 8


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def _one(start, at, rows, base, weight, place, m, on, begin, end, to):
    v = 0
    while v < m:
        x = load(start, nth(at + v))
        if v + 8 < m:
            y = load(start, nth(at + v + 8))
            for i in range(begin, end):
                u = on[nth(i)]
                e, a = place + u * m + v, spread(rows[nth(base + u)])
                x, y = multiply_add(load(weight, nth(e)), a, x), multiply_add(load(weight, nth(e + 8)), a, y)
            store(rows, nth(to + v), x)
            store(rows, nth(to + v + 8), y)
            v += 16
        else:
            for i in range(begin, end):
                u = on[nth(i)]
                x = multiply_add(load(weight, nth(place + u * m + v)), spread(rows[nth(base + u)]), x)
            store(rows, nth(to + v), x)
            v += 8


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def add_rows(columns, start, at, step, rows, base, wide, weight, place, m, on, begin, end, to, stride):
    """Put `start` plus the weighted rows of hinges on[begin:end] of a stage into rows[to:], the next stage's m rows.

    Arguments:
        columns: How many columns the rows have.
        start, at, step: Array, place and distance of its columns: constants, or a sum so far.
        base, wide: Place of the stage's rows, and the distance of their columns.
        weight, place: Row u of the weights begins at place + u m; place < 0: there are none.
        to, stride: As `base` and `wide`, of the next stage.
    """
    if place < 0:
        end = begin
    k = 0
    while k + 3 <= columns:
        _three(
            start,
            at + k * step,
            step,
            rows,
            base + k * wide,
            wide,
            weight,
            place,
            m,
            on,
            begin,
            end,
            to + k * stride,
            stride,
        )
        k += 3
    while k < columns:
        _one(start, at + k * step, rows, base + k * wide, weight, place, m, on, begin, end, to + k * stride)
        k += 1


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def settle_box(rows, base, wide, n, px, py, hx, hy, slack, pattern, s, first, on, found, at):
    """Hinges of a stage (n rows) that a box decides are set, the others become candidates.

    Arguments:
        px, py, hx, hy: Middle and half sides of the box. slack: what |z| loses to rounding.
        pattern, s, first: Bits of hinges from `first` on, in row s.
        on, found, at: Numbers of those that are on; of the candidates, from place `at` on.

    Returns:
        How many are on, and how many are candidates.
    """
    x, y, p, q, t = spread(px), spread(py), spread(hx), spread(hy), spread(slack)
    v, decided, candidates = 0, 0, 0
    while v < n:
        many = min(n - v, 64)
        yes, no = 0, 0
        for k in range(0, many, 8):
            r = base + v + k
            a, b, c = load(rows, nth(r)), load(rows, nth(r + wide)), load(rows, nth(r + 2 * wide))
            z = multiply_add(a, x, multiply_add(b, y, c))
            margin = multiply_add(magnitude(a), p, multiply_add(magnitude(b), q, t))
            yes |= above(z, margin) << k
            no |= above(negative(margin), z) << k
        whole = -1 if many == 64 else (1 << many) - 1
        yes &= whole
        maybe = whole & ~(yes | no)
        place = first + v
        word, shift = place >> 6, place & 63
        pattern[nth(s), nth(word)] |= yes << shift
        if shift and yes >> (64 - shift):
            pattern[nth(s), nth(word + 1)] |= (yes >> (64 - shift)) & ((1 << shift) - 1)
        while yes:
            on[nth(decided)] = v + lowest(yes)
            decided += 1
            yes &= yes - 1
        while maybe:
            found[nth(at + candidates)] = v + lowest(maybe)
            candidates += 1
            maybe &= maybe - 1
        v += many
    return decided, candidates
