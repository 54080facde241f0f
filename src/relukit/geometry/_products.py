"""The next stage's values at many nodes of a line: eight nodes and sixteen hinges in registers."""

from relukit._lanes import load, magnitude, multiply_add, spread, store
from relukit._numba import njit
from relukit.geometry._bits import nth


@njit(cache=True, nogil=True, _nrt=False)
def products(Z, rows, count, n, weight, at, m, absolute, direct, direct_at, x, out, to, on, h, block):
    """out[to[i]] = slopes x[i] + offsets + W max(0, Z[rows[i]]) for all nodes i, for hinges that are on at one of eight nodes.

    Arguments:
        Z, out: Rows of one width, a multiple of sixteen.
        rows, x, to: Of each node the row of its values, its place and the row of the next stage's values; `to` has seven entries more,
            of a row that nobody reads.
        weight, at, m: Row u of the weights, what hinge u adds, begins at `at + u m`.
        absolute: Sum sizes of the weights, with no slopes and offsets.
        on, h: Room: of each eight nodes how many and which hinges are on; the hinges' values there.
        block: Room for sixteen columns of the weights, which stay in the nearest cache.
    """
    wide = out.shape[1]
    for i in range(0, count, 8):
        some, place, start = 0, (i >> 3) * (wide + 1), i * wide
        for u in range(n):
            most = 0.0
            for j in range(8):
                z = Z[nth(rows[nth(i + j)]), nth(u)] if i + j < count else 0.0
                z = z if z > 0.0 else 0.0
                h[nth(start + 8 * some + j)] = z
                most = z if z > most else most
            on[nth(place + 1 + some)] = u
            some += most > 0.0
        on[nth(place)] = some
    for v in range(0, m, 16):
        two = v + 8 < m
        for u in range(n):
            p = load(weight, nth(at + u * m + v))
            store(block, nth(16 * u), magnitude(p) if absolute else p)
            if two:
                p = load(weight, nth(at + u * m + v + 8))
                store(block, nth(16 * u + 8), magnitude(p) if absolute else p)
        s = o = s2 = o2 = spread(0.0)
        if not absolute:
            s, o = load(direct, nth(direct_at + v)), load(direct, nth(direct_at + m + v))
            if two:
                s2, o2 = load(direct, nth(direct_at + v + 8)), load(direct, nth(direct_at + m + v + 8))
        for i in range(0, count, 8):
            place, start = (i >> 3) * (wide + 1), i * wide
            x0 = spread(x[nth(i)])
            a0, b0 = multiply_add(s, x0, o), multiply_add(s2, x0, o2)
            x1 = spread(x[nth(i + 1)])
            a1, b1 = multiply_add(s, x1, o), multiply_add(s2, x1, o2)
            x2 = spread(x[nth(i + 2)])
            a2, b2 = multiply_add(s, x2, o), multiply_add(s2, x2, o2)
            x3 = spread(x[nth(i + 3)])
            a3, b3 = multiply_add(s, x3, o), multiply_add(s2, x3, o2)
            x4 = spread(x[nth(i + 4)])
            a4, b4 = multiply_add(s, x4, o), multiply_add(s2, x4, o2)
            x5 = spread(x[nth(i + 5)])
            a5, b5 = multiply_add(s, x5, o), multiply_add(s2, x5, o2)
            x6 = spread(x[nth(i + 6)])
            a6, b6 = multiply_add(s, x6, o), multiply_add(s2, x6, o2)
            x7 = spread(x[nth(i + 7)])
            a7, b7 = multiply_add(s, x7, o), multiply_add(s2, x7, o2)
            for k in range(on[nth(place)]):
                w, r = 16 * on[nth(place + 1 + k)], start + 8 * k
                p, q = load(block, nth(w)), load(block, nth(w + 8))
                z = spread(h[nth(r)])
                a0, b0 = multiply_add(p, z, a0), multiply_add(q, z, b0)
                z = spread(h[nth(r + 1)])
                a1, b1 = multiply_add(p, z, a1), multiply_add(q, z, b1)
                z = spread(h[nth(r + 2)])
                a2, b2 = multiply_add(p, z, a2), multiply_add(q, z, b2)
                z = spread(h[nth(r + 3)])
                a3, b3 = multiply_add(p, z, a3), multiply_add(q, z, b3)
                z = spread(h[nth(r + 4)])
                a4, b4 = multiply_add(p, z, a4), multiply_add(q, z, b4)
                z = spread(h[nth(r + 5)])
                a5, b5 = multiply_add(p, z, a5), multiply_add(q, z, b5)
                z = spread(h[nth(r + 6)])
                a6, b6 = multiply_add(p, z, a6), multiply_add(q, z, b6)
                z = spread(h[nth(r + 7)])
                a7, b7 = multiply_add(p, z, a7), multiply_add(q, z, b7)
            y = to[nth(i)] * wide + v
            store(out, nth(y), a0)
            store(out, nth(y + 8), b0)
            y = to[nth(i + 1)] * wide + v
            store(out, nth(y), a1)
            store(out, nth(y + 8), b1)
            y = to[nth(i + 2)] * wide + v
            store(out, nth(y), a2)
            store(out, nth(y + 8), b2)
            y = to[nth(i + 3)] * wide + v
            store(out, nth(y), a3)
            store(out, nth(y + 8), b3)
            y = to[nth(i + 4)] * wide + v
            store(out, nth(y), a4)
            store(out, nth(y + 8), b4)
            y = to[nth(i + 5)] * wide + v
            store(out, nth(y), a5)
            store(out, nth(y + 8), b5)
            y = to[nth(i + 6)] * wide + v
            store(out, nth(y), a6)
            store(out, nth(y + 8), b6)
            y = to[nth(i + 7)] * wide + v
            store(out, nth(y), a7)
            store(out, nth(y + 8), b7)
