"""Signs of up to 64 hinges at once at the vertices of cells in D dimensions.

The hinges of a stage that may cut a cell are tried 64 at a time, and each vertex of a cell has three words for them: in which of them it is certainly
positive, certainly negative, zero. They are made when a cell begins with these hinges, and for each vertex of a cut; a hinge that has one certain sign at
both ends of the cut edge has it there too. What cuts a cell, and what is on in all of it, are unions and meets of its vertices' words.

A sign belongs to a vertex and a hinge, whatever the cell: where the float filter leaves it open, it is computed once in
exact arithmetic and remembered.
"""

import numpy as np

from relukit._lanes import above, equal, load, multiply_add, negative, spread
from relukit._numba import njit
from relukit.geometry._bits import nth, ones
from relukit.geometry._vertex import facet_labels, polish, value_at, vertex_sign
from relukit.geometry._walk import SIGNS
from relukit.geometry._words import having, missing, union

MANY = 64  # hinges of one word


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def take(rows, base, wide, found, at, many, D, C, grid, q):
    """Rows of the candidates found[at : at + many] into a grid from place q on: D coefficients, a constant, and what an error radius is multiplied with."""
    for c in range(many):
        u = base + found[nth(at + c)]
        steep = D * C
        for k in range(D):
            a = rows[nth(u + k * wide)]
            grid[nth(q + k * MANY + c)] = a
            steep += abs(a)
        grid[nth(q + D * MANY + c)] = rows[nth(u + D * wide)]
        grid[nth(q + (D + 1) * MANY + c)] = steep


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def words_at(grid, q, D, vx, vd, v, C, E, need):
    """Words (positive, negative, zero) of the hinges in `need` at vertex v, as far as floats are certain."""
    size = 0.0
    for k in range(D):
        size += abs(vx[nth(v), k])
    t, r, none = spread(E + C * size), spread(vd[nth(v)]), spread(0.0)
    plus, minus, zero, left, b = 0, 0, 0, need, 0
    while left:
        if left & 255:
            z = load(grid, nth(q + D * MANY + b))
            for k in range(D):
                z = multiply_add(load(grid, nth(q + k * MANY + b)), spread(vx[nth(v), k]), z)
            bar = multiply_add(load(grid, nth(q + (D + 1) * MANY + b)), r, t)
            plus |= above(z, bar) << b
            minus |= above(negative(bar), z) << b
            zero |= equal(bar, none) << b
        left = (left >> 8) & ((1 << 56) - 1)
        b += 8
    return plus & need, minus & need, zero & need & ~(plus | minus)


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def begin(V, plus, minus, zero, f, n, grid, q, D, vx, vd, C, E, whole):
    """Words of all vertices of a cell for the hinges in `whole`; which of them may cut it, and which are on in all of it."""
    some, other, known = 0, 0, -1
    for i in range(f, f + n):
        a, b, c = words_at(grid, q, D, vx, vd, V[nth(i)], C, E, whole)
        plus[nth(i)], minus[nth(i)], zero[nth(i)] = a, b, c
        some, other, known = some | a, other | b, known & (a | b | c)
    return whole & (some & other | ~known), whole & some & ~other & known


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def open_in(plus, minus, zero, f, n, rest):
    """Of the hinges in `rest`: which may cut a cell, and which are on in all of it."""
    some, other, open_ = 0, 0, 0
    for i in range(0, n, 8):
        whole = 255 if n - i >= 8 else (1 << (n - i)) - 1
        some |= union(plus, nth(f + i), whole)
        other |= union(minus, nth(f + i), whole)
        open_ |= missing(plus, minus, zero, nth(f + i), whole)
    return rest & (some & other | open_), rest & some & ~(other | open_)


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def sort_by_sign(plus, minus, zero, f, n, b, sides):
    """In which of a cell's vertices hinge number b is +, -, 0, eight by eight; returns how many of each."""
    some, other, none, bit = 0, 0, 0, 1 << b
    for i in range(0, n, 8):
        whole = 255 if n - i >= 8 else (1 << (n - i)) - 1
        x, y = having(plus, nth(f + i), bit) & whole, having(minus, nth(f + i), bit) & whole
        z = having(zero, nth(f + i), bit) & whole
        sides[0, nth(i >> 3)], sides[1, nth(i >> 3)], sides[2, nth(i >> 3)] = x, y, z
        some, other, none = some + ones(x), other + ones(y), none + ones(z)
    return some, other, none


@njit(cache=True, nogil=True, _nrt=False)
def settle_open(net, w, p, g, b, f, n, D, W, q, C, E):
    """Find the sign of hinge g, number b of the word, at all vertices of a cell where floats left it open; False for no room to remember."""
    counts, vx, vd, labels, bit = w.counts, p.vx, p.vd, p.labels, 1 << b
    for i in range(f, f + n):
        if (p.plus[i] | p.minus[i] | p.zero[i]) & bit:
            continue
        v, s = p.v[i], 2
        key = v * len(w.exact_stamp) + g + 1
        at = sign_slot(p.sign_key, key)
        while p.sign_key[at] and p.sign_key[at] != key:
            at = (at + 1) & (len(p.sign_key) - 1)
        if p.sign_key[at] == key:
            s = p.sign[at]
        else:
            if 2 * counts[SIGNS] > len(p.sign_key):
                return False
            many = facet_labels(p.mask, W, i, p.slot, labels)
            if polish(net, w, D, labels, many, vx, vd, v):
                z, size = value_at(p.grid, q + b, D, vx, v), 0.0
                for k in range(D):
                    size += abs(vx[v, k])
                limit = E + C * size + p.grid[q + (D + 1) * MANY + b] * vd[v]
                s = 1 if z > limit else (-1 if z < -limit else 2)
            if s == 2:
                s = vertex_sign(net, w, D, labels, many, g)
            p.sign_key[at], p.sign[at] = key, s
            counts[SIGNS] += 1
        if s > 0:
            p.plus[i] |= bit
        elif s < 0:
            p.minus[i] |= bit
        else:
            p.zero[i] |= bit
    return True


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def sign_slot(table, key):
    h = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((h >> np.uint64(20)) & np.uint64(len(table) - 1))


@njit(cache=True, nogil=True)
def rehash_signs(old_key, old_sign, key, sign):
    """Remembered signs into a larger table."""
    for i in range(len(old_key)):
        if old_key[i]:
            s = sign_slot(key, old_key[i])
            while key[s]:
                s = (s + 1) & (len(key) - 1)
            key[s], sign[s] = old_key[i], old_sign[i]
