"""Exact signs: rows of hinges as expansions, and the sign of a hinge where D others (or sides of the domain) meet.

Rows are made when they are asked for, from the bits of the current pattern, and kept as long as the stage is not entered anew. Where they
are rounded, or products leave the range of float64, Python's integers answer (see `_rational`).
"""

from relukit._numba import njit
from relukit.geometry._ask import ask
from relukit.geometry._expansions import add_product, add_scaled, compress, determinant_sign, grow
from relukit.geometry._rational import ADDRESS, ALWAYS, DEPENDENT, PLACE, SIGN, STOP, UNKNOWN, ZERO
from relukit.geometry._walk import EXACT, RANGE, is_on


@njit(cache=True, nogil=True, _nrt=False)
def _exact_row(net, w, l, u, D):
    """The expansions of row u of stage l for the current pattern; rows of earlier stages that are on must be there."""
    g = net.first[l] + u
    if w.exact_stamp[g] == w.stamp[l]:
        return
    n, s = net.size[l], net.scale[l]
    cuts = 1 if len(net.keep) and net.keep[0] == 1 else 0
    from_plane = len(net.plane) > 0 and l == cuts
    for c in range(D + 1):
        m = 0
        if from_plane:
            if c == D and net.plane_bias[u] != 0.0:
                m = grow(w.room, m, net.plane_bias[u] * s)
            for k in range(len(net.plane)):
                m = add_product(w.room, m, net.plane_weight[u, k] * s, net.plane[k, c], w.flag)
        elif net.direct[net.direct_at[l] + c * n + u] != 0.0:
            m = grow(w.room, m, net.direct[net.direct_at[l] + c * n + u] * s)
        if l and net.weight_at[l] >= 0:
            ratio = s / net.scale[l - 1]
            for i in range(net.size[l - 1]):
                h = net.first[l - 1] + i
                if is_on(w.pattern, h):
                    x = net.weight[net.weight_at[l] + i * n + u] * ratio
                    m = add_scaled(w.room, m, w.exact_rows[h, c], w.exact_counts[h, c], x, w.flag)
        for k in range(len(net.skip)):
            if net.skip[k, 0] == l:
                e = net.skip[k, 1]
                for i in range(net.size[e]):
                    h = net.first[e] + i
                    if is_on(w.pattern, h):
                        x = net.skip_weight[net.skip[k, 2] + i * n + u] * (s / net.scale[e])
                        m = add_scaled(w.room, m, w.exact_rows[h, c], w.exact_counts[h, c], x, w.flag)
        m = compress(w.room, m)
        for i in range(m):
            w.exact_rows[g, c, i] = w.room[i]
        w.exact_counts[g, c] = m
    w.exact_stamp[g] = w.stamp[l]


@njit(cache=True, nogil=True, _nrt=False)
def _need_row(net, w, l, u, D):
    if w.exact_stamp[net.first[l] + u] == w.stamp[l]:
        return
    for k in range(l):
        for i in range(net.size[k]):
            if is_on(w.pattern, net.first[k] + i):
                _exact_row(net, w, k, i, D)
    _exact_row(net, w, l, u, D)


@njit(cache=True, nogil=True, _nrt=False)
def load_line(net, w, i, label, D):
    """Row i of the exact matrix: hinge `label`, or side -1 - label of the box."""
    if label >= 0:
        l = net.stage[label]
        _need_row(net, w, l, label - net.first[l], D)
        for c in range(D + 1):
            w.matrix_counts[i, c] = w.exact_counts[label, c]
            for k in range(w.exact_counts[label, c]):
                w.matrix[i, c, k] = w.exact_rows[label, c, k]
        return
    side = -1 - label
    for c in range(D + 1):
        w.matrix_counts[i, c] = 0
    w.matrix[i, side >> 1, 0] = 1.0
    w.matrix_counts[i, side >> 1] = 1
    bound = w.lower[side >> 1] if side % 2 == 0 else w.upper[side >> 1]
    if bound != 0.0:
        w.matrix[i, D, 0] = -bound
        w.matrix_counts[i, D] = 1


@njit(cache=True, nogil=True, _nrt=False)
def _answer(net, w, kind, labels, out, g):
    """What Python answers (see `_rational`); it is asked again where Ctrl-C came before it could begin."""
    for _ in range(8):
        answer = ask(
            net.oracle[ADDRESS], kind + 2 * len(w.pattern), labels, w.pattern, w.lower, w.upper, out, g
        )  # fmt: skip
        if answer:
            return answer - ZERO
        net.oracle[STOP] = 1
    return UNKNOWN


@njit(cache=True, nogil=True, _nrt=False)
def exact_sign(net, w, labels, g, D):
    """Exact sign of hinge g where the D lines `labels` meet; 0 where they do not meet in one point (`minor_lengths` of the first D columns is 0 then)."""
    w.counts[EXACT] += 1
    if net.oracle[ALWAYS] == 0:
        sign = _sign_of_rows(net, w, labels, g, D)
        if not w.flag[0]:
            return sign
    sign = _answer(net, w, SIGN, labels, w.room, g)
    if sign == UNKNOWN:
        w.counts[RANGE] += 1
        sign = _sign_of_rows(net, w, labels, g, D)
        return 0 if w.flag[0] else sign
    w.flag[0] = 0
    w.minor_lengths[(1 << D) - 1] = 0 if sign == DEPENDENT else 1
    return 0 if sign == DEPENDENT else sign


@njit(cache=True, nogil=True, _nrt=False)
def _sign_of_rows(net, w, labels, g, D):
    """As `exact_sign`, of the rows as they stand in the stages; `flag` is set where products leave the range of float64."""
    w.flag[0] = 0
    for i in range(D):
        load_line(net, w, i, labels[i], D)
    load_line(net, w, D, g, D)
    return determinant_sign(w.matrix, w.matrix_counts, D, w.minors, w.minor_lengths, w.room, w.flag)


@njit(cache=True, nogil=True, _nrt=False)
def place_exactly(net, w, labels, D, out):
    """Where the D lines `labels` meet, by Cramer's rule on exact determinants, into `out`; its error radius, or -1 for no point.

    For lines that meet at a tiny angle, where float64 arithmetic on rounded rows would be off by the inverse of that angle.
    """
    w.flag[0] = 0
    if net.oracle[ALWAYS] == 0:
        for i in range(D):
            load_line(net, w, i, labels[i], D)
        for c in range(D + 1):
            w.matrix_counts[D, c] = 0
        determinant_sign(w.matrix, w.matrix_counts, D, w.minors, w.minor_lengths, w.room, w.flag)
    base = (1 << D) - 1
    if net.oracle[ALWAYS] or w.flag[0]:
        w.flag[0] = 0
        answer = _answer(net, w, PLACE, labels, out, 0)
        if answer in (DEPENDENT, UNKNOWN):
            return -1.0
        size = 0.0
        for k in range(D):
            size = max(size, abs(out[k]))
        return 2.0**-52 * size + 2.0**-1000
    if w.minor_lengths[base] == 0:
        return -1.0
    below, largest = _rounded(w.minors[base], w.minor_lengths[base]), 0.0
    for k in range(D):
        rest = ((1 << (D + 1)) - 1) ^ (1 << k)
        x = _rounded(w.minors[rest], w.minor_lengths[rest]) / below
        out[k] = x if (D - k) % 2 == 0 else -x
        largest = max(largest, abs(out[k]))
    return 8 * 2.0**-52 * largest


@njit(cache=True, nogil=True, _nrt=False)
def _rounded(e, n):
    total = 0.0
    for i in range(n):
        total += e[i]
    return total
