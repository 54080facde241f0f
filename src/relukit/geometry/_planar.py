"""All polygons of a form with two coordinates, by clipping, with exact signs (see `_clip`).

A polygon in a stage has a list of hinges that may cut it. Those that do not are settled at once, for it and all that is cut from it;
the first of the others cuts it, and both parts begin with what is left of the list. The order in a list is that of the hinges: an edge is
therefore cut by the same hinge first, seen from either side, since every hinge is continuous, and the pair of its ends is a
unique name for the vertex that cuts it. So vertices are shared.

Polygons lie one after the other on a stack; a cut writes its two parts behind the polygon it cuts. The part where the
hinge is off waits there, the other goes on. The same holds for lists, for hinges that are on and whose rows have not joined the next
stage's sum yet (`pending`), and for these sums (`Walk.rows`): both parts begin with the same sum. The last stage's rows, the
network's outputs, are not summed up here but when they are asked for.
"""

from typing import NamedTuple

from relukit._lanes import above, load, multiply_add, negative, spread
from relukit._numba import njit
from relukit._types import Array, IntArray
from relukit.geometry._bits import lowest, nth, ones
from relukit.geometry._clip import add_area, box, copy_run, current, label_of, name_of, put, signs, tally, vertex_of
from relukit.geometry._divide import crossing, cut_any
from relukit.geometry._rational import STOP
from relukit.geometry._sums import add_rows, settle_box
from relukit.geometry._walk import (
    BUDGET,
    CELLS,
    CORNERS_FULL,
    DONE,
    INDICES,
    INNER,
    OUTPUT_FULL,
    STACK,
    STACK_FULL,
    STAMP,
    VERTICES,
    VERTICES_FULL,
    add_skips,
    sign_by_terms,
)

_LATE = 4  # pending rows join the sum before a cut once there are so many


class Polygons(NamedTuple):
    """Waiting polygons (a stack), the shared vertices, and the finished pieces."""

    meta: IntArray  # stage, place and number of corners, place of the sum, whether it is its own, pending from and to, place and length of the list
    pattern: IntArray  # bits
    bound: Array  # largest |x| + |y| and corner error, at least
    x: Array
    y: Array
    d: Array
    name: IntArray
    list: IntArray
    pending: IntArray
    place: Array  # (V, 2): the vertices
    radius: Array
    link: IntArray  # (V, 3): the older end of the edge that a vertex cuts; the last vertex that cuts an edge with this one as its younger end; the one before it
    offsets: IntArray
    indices: IntArray
    labels: IntArray
    patterns: IntArray
    area: Array  # twice the sum, and what rounding took from it
    value: Array  # room for one polygon
    sign: IntArray
    pair: IntArray
    extent: Array  # (2, 2)


@njit(cache=True, nogil=True, _nrt=False)
def walk_polygons(net, w, p, stop):
    """Finish waiting polygons until none waits, `stop` pieces are found, or room runs out; returns why."""
    room, Z, S, center, half = len(p.value), p.value, p.sign, p.extent[0], p.extent[1]
    size, stride, first, direct, direct_at, stage = (
        net.size,
        net.stride,
        net.first,
        net.direct,
        net.direct_at,
        net.stage,
    )
    weight, weight_at = net.weight, net.weight_at
    slope_error, shift_error, skips = net.slope_error, net.shift_error, len(net.skip)
    rows, row_at, on, counts, stamp, lower, upper = w.rows, w.row_at, w.on, w.counts, w.stamp, w.lower, w.upper
    meta, pattern, bound, x, y, d, name = p.meta, p.pattern, p.bound, p.x, p.y, p.d, p.name
    hinges, pending, place, radius, link = p.list, p.pending, p.place, p.radius, p.link
    offsets, indices, labels, patterns, area, pair = p.offsets, p.indices, p.labels, p.patterns, p.area, p.pair
    last, words, widest = len(size) - 1, pattern.shape[1], len(on)
    domain = len(net.keep) > 0 and net.keep[0] == 1  # the first stage holds half-spaces that the domain keeps to
    spare = 0  # the most rows that stages may need without a cut
    for k in range(len(stride)):
        spare += 9 * stride[nth(k)]
    s, full = counts[STACK] - 1, DONE
    while s >= 0:
        if counts[CELLS] >= stop or net.oracle[STOP]:
            full = BUDGET
            break
        if counts[CELLS] == len(patterns) or counts[INDICES] + room > len(indices):  # one piece is finished per turn
            full = OUTPUT_FULL
            break
        l, f, n, sums, own = meta[nth(s), 0], meta[nth(s), 1], meta[nth(s), 2], meta[nth(s), 3], meta[nth(s), 4]
        begin, end, at, many = meta[nth(s), 5], meta[nth(s), 6], meta[nth(s), 7], meta[nth(s), 8]
        reach, blur = bound[nth(s), 0], bound[nth(s), 1]
        source, home, top, dead = at, at, sums + 3 * stride[nth(l + 1)], False
        while True:
            cut = False
            if many:
                wide, base, start = stride[nth(l)], row_at[nth(l)], first[nth(l)]
                C, E, carried, half_spaces = slope_error[nth(l)], shift_error[nth(l)], l + 1 < last, domain and l == 0
                limit, whole, short = E + C * (reach + 2 * blur), (1 << n) - 1, n <= 8
                xs, ys = load(x, nth(f)), load(y, nth(f))
                left = 0
                for k in range(source, source + many):  # what does not cut the polygon is settled
                    u = hinges[nth(k)]
                    r = base + u
                    a, b, c = rows[nth(r)], rows[nth(r + wide)], rows[nth(r + 2 * wide)]
                    t = limit + (abs(a) + abs(b)) * blur
                    if short:
                        z, bar = multiply_add(spread(a), xs, multiply_add(spread(b), ys, spread(c))), spread(t)
                        yes, no = above(z, bar) & whole == whole, above(negative(bar), z) & whole == whole
                    else:
                        plus, minus = tally(x, y, f, n, a, b, c, t)
                        yes, no = plus == n, minus == n
                    if yes:
                        g = start + u
                        pattern[nth(s), nth(g >> 6)] |= 1 << (g & 63)
                        dead |= half_spaces
                    pending[nth(end)] = u
                    end += yes & carried
                    hinges[nth(at + left)] = u
                    left += 1 - (yes | no)
                many = left
                while many and not dead:
                    u = hinges[nth(at)]
                    g, r = start + u, base + u
                    a, b, c = rows[nth(r)], rows[nth(r + wide)], rows[nth(r + 2 * wide)]
                    up, down = 0, 0
                    if short:
                        z, bar = (
                            multiply_add(spread(a), xs, multiply_add(spread(b), ys, spread(c))),
                            spread(limit + (abs(a) + abs(b)) * blur),
                        )
                        up, down = above(z, bar) & whole, above(negative(bar), z) & whole
                    sure = short and up | down == whole
                    if not sure:
                        if n + 2 > room:
                            full = CORNERS_FULL
                            break
                        plus, minus = signs(net, w, g, x, y, d, name, f, n, a, b, c, C, E, pattern, s, Z, S, pair)
                        if not (plus and minus):
                            at += 1
                            many -= 1
                            if plus:
                                pattern[nth(s), nth(g >> 6)] |= 1 << (g & 63)
                                pending[nth(end)] = u
                                end += 1 if carried else 0
                                dead = half_spaces
                            continue
                    if n + 2 > room:
                        full = CORNERS_FULL
                    elif (
                        s + 2 > len(meta)
                        or f + 3 * n + 40 > len(x)
                        or top + spare > len(rows)
                        or at + 2 * (many + widest) > len(hinges)
                    ):
                        full = STACK_FULL
                    elif counts[VERTICES] + n > len(radius):
                        full = VERTICES_FULL
                    if full:
                        break
                    cut = True
                    break
                if full:  # wait as it stands
                    meta[nth(s), 0], meta[nth(s), 1], meta[nth(s), 2], meta[nth(s), 3], meta[nth(s), 4] = (
                        l,
                        f,
                        n,
                        sums,
                        own,
                    )
                    meta[nth(s), 5], meta[nth(s), 6], meta[nth(s), 7], meta[nth(s), 8] = begin, end, at, many
                    bound[nth(s), 0], bound[nth(s), 1] = reach, blur
                    break
                if dead:
                    break
                if cut:
                    low = f + n
                    if sure:
                        ups = ones(up)
                        i = lowest(up & ~(up << 1 | up >> (n - 1)))  # the first corner above, seen from one below
                        j = i + ups if i + ups < n else i + ups - n  # the first one below
                        h, k = i - 1 if i else n - 1, j - 1 if j else n - 1  # the corners before these
                        below = n - ups + 2
                        high = low + below
                        copy_run(x, y, d, name, f, n, j, low + 1)
                        copy_run(x, y, d, name, f, n, i, high + 1)
                        above_ = ups + 2
                        total = counts[VERTICES]
                        for turn in range(2):
                            e, o = (f + h, f + i) if turn == 0 else (f + k, f + j)
                            ze = a * x[nth(e)] + b * y[nth(e)] + c
                            zo = a * x[nth(o)] + b * y[nth(o)] + c
                            q, X, Y, rad, total = crossing(
                                net, w, x, y, d, name, place, radius, link, pattern, s, pair, e, o, ze, zo, g, a, b, c, C, E,
                                size, stride, first, stage, row_at, rows, slope_error, shift_error, lower, upper, total, center,
                            )  # fmt: skip
                            reach, blur = max(reach, abs(X) + abs(Y)), max(blur, rad)
                            goes, ends = name_of(q, label_of(name[nth(e)])), name_of(q, g)
                            if turn == 0:
                                put(x, y, d, name, high, X, Y, rad, goes)
                                put(x, y, d, name, high - 1, X, Y, rad, ends)
                            else:
                                put(x, y, d, name, low, X, Y, rad, goes)
                                put(x, y, d, name, high + above_ - 1, X, Y, rad, ends)
                        counts[VERTICES] = total
                    else:
                        high = f + 2 * n + 2
                        below, above_, reach, blur = cut_any(
                            net, w, x, y, d, name, place, radius, link, pattern, s, pair, f, n, g, a, b, c, C, E, Z, S, reach, blur, center
                        )  # fmt: skip
                    source, many = at + 1, many - 1
                    if half_spaces:
                        f, n, at, home = low, below, source, source
                        continue
                    if carried and end - begin >= _LATE:
                        to = sums if own else top
                        m = size[nth(l + 1)]
                        add_rows(
                            3, rows, sums, stride[nth(l + 1)], rows, base, wide, weight, weight_at[nth(l + 1)], m, pending, begin, end,
                            to, stride[nth(l + 1)],
                        )  # fmt: skip
                        top = max(top, to + 3 * stride[nth(l + 1)])
                        sums, own, begin = to, 1, end
                    meta[nth(s), 0], meta[nth(s), 1], meta[nth(s), 2], meta[nth(s), 3], meta[nth(s), 4] = (
                        l,
                        low,
                        below,
                        sums,
                        own,
                    )
                    meta[nth(s), 5], meta[nth(s), 6], meta[nth(s), 7], meta[nth(s), 8] = begin, end, source, many
                    bound[nth(s), 0], bound[nth(s), 1] = reach, blur
                    for i in range(words):
                        pattern[nth(s + 1), nth(i)] = pattern[nth(s), nth(i)]
                    s += 1
                    pattern[nth(s), nth(g >> 6)] |= 1 << (g & 63)
                    pending[nth(end)] = u
                    end += 1 if carried else 0
                    f, n, at, own = high, above_, source + many, 0
                    home = at
                    continue
            if l + 1 >= last:
                k, q, inner = counts[CELLS], counts[INDICES], 0
                for i in range(n):
                    word = name[nth(f + i)]
                    edge = label_of(word)
                    indices[nth(q + i)], labels[nth(q + i)] = vertex_of(word), edge
                    inner += edge >= 0
                counts[INNER] += inner
                counts[INDICES] = q + n
                counts[CELLS] = k + 1
                offsets[nth(k + 1)] = q + n
                for i in range(words):
                    patterns[nth(k), nth(i)] = pattern[nth(s), nth(i)]
                add_area(x, y, f, n, area)
                break
            step, at = stride[nth(l + 1)], home
            if end > begin or (skips and not own):
                to = sums if own else top
                add_rows(
                    3, rows, sums, step, rows, row_at[nth(l)], stride[nth(l)], weight, weight_at[nth(l + 1)], size[nth(l + 1)], pending, begin, end,
                    to, step,
                )  # fmt: skip
                top = max(top, to + 3 * step)
                sums, begin = to, end
            l += 1
            row_at[nth(l)], wide, base = sums, step, sums
            if skips:
                current(w, pattern, s)
                add_skips(net, w, l, 2, stride)
            reach, blur = box(x, y, d, f, n, center, half)
            counts[STAMP] += 1
            stamp[nth(l)] = counts[STAMP]
            C = slope_error[nth(l)]
            slack = shift_error[nth(l)] + C * (reach + 4 * blur)
            decided, many = settle_box(
                rows, base, wide, size[nth(l)], center[0], center[1], half[0] + blur, half[1] + blur, slack, pattern, s, first[nth(l)], on,
                hinges, at,
            )  # fmt: skip
            if l and net.sparse[nth(l)]:
                left = 0
                for k in range(at, at + many):
                    u = hinges[nth(k)]
                    sign = sign_by_terms(net, pattern[nth(s)], l, u, 2)
                    g = first[nth(l)] + u
                    if sign == 1:
                        pattern[nth(s), nth(g >> 6)] |= 1 << (g & 63)
                        on[nth(decided)] = u
                        decided += 1
                    hinges[nth(at + left)] = u
                    left += sign == 2
                many = left
            if decided and domain and l == 0:  # a half-space of the domain leaves it out
                break
            source, own = at, 1
            if l + 1 < last:
                m, step = size[nth(l + 1)], stride[nth(l + 1)]
                add_rows(
                    3,
                    direct,
                    direct_at[nth(l + 1)],
                    m,
                    rows,
                    base,
                    wide,
                    weight,
                    weight_at[nth(l + 1)],
                    m,
                    on,
                    0,
                    decided,
                    top,
                    step,
                )
                sums = top
                top += 3 * step
        if full:
            break
        s -= 1
    counts[STACK] = s + 1
    return full
