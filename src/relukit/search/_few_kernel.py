"""Compiled branch and bound over input boxes on the compact form: sound in float64, no allocation inside.

A box is bounded gate by gate with backward planes (only for gates that are still undecided there), output rows last;
a row whose lower bound is above 0 closes the box. Otherwise the input is halved that the looseness of the relaxation
is due to, and where enough gates have become stable the network is compacted for the whole subtree.

Rounding: substituting gate j with coefficient c adds `|c| (error_j + gamma mag_j)` to the row's error, `mag_j` being the
sum of magnitudes of row j over the box; lines carry `8 eps |v| (u - l)`. So every bound holds in real arithmetic.

Memory is two stacks in flat pools: nets (one per compaction) and boxes (depth first).
"""

import numpy as np
from numba import njit

EPS = 2.220446049250313e-16

# fmt: off
# What a run returns.
DONE, CANDIDATE, LEAF, BUDGET = 0, 1, 2, 3


@njit(cache=True, nogil=True)
def _substitute(row, x_row, constant, error, upto, n, C, W, b, loose, first, L, U, used):
    """Replace gates `upto - 1 ... 0` of a row by lines below, then by their own rows; returns the constant and the error.

    `used[j]` receives the coefficient with which gate j was met.
    """
    for j in range(upto - 1, -1, -1):
        v = row[j]
        used[j] = v
        if v == 0.0 or U[j] <= 0.0:
            continue
        slope = 1.0
        if L[j] < 0.0:
            if v > 0.0:
                if U[j] <= -L[j]:
                    continue
            else:
                slope = U[j] / (U[j] - L[j])
                constant -= v * slope * L[j]
                error += -v * 8.0 * EPS * (U[j] - L[j])
        c = v * slope
        stop = first[j]
        for i in range(stop):
            row[i] += c * W[j, i]
        for i in range(n):
            x_row[i] += c * C[j, i]
        constant += c * b[j]
        error += abs(c) * loose[j]
    return constant, error


@njit(cache=True, nogil=True)
def _lowest(x_row, constant, error, xl, xu, n, gamma):
    """Smallest value of the row over the box, rounded down."""
    value, size = constant, abs(constant)
    for i in range(n):
        term = x_row[i] * (xl[i] if x_row[i] >= 0.0 else xu[i])
        value += term
        size += abs(term)
    return value - 1.01 * error - gamma * size


@njit(cache=True, nogil=True)
def _tighten(K, n, C, W, b, loose, first, L, U, xl, xu, gamma, row, x_row, used, P):
    """Bounds of every undecided gate over the box; `P[k]` receives the size of its planes' slopes."""
    for k in range(K):
        if L[k] >= 0.0 or U[k] <= 0.0:
            continue
        for i in range(n):
            P[k, i] = 0.0
        for side in range(2):
            sign = 1.0 if side == 0 else -1.0
            for i in range(first[k]):
                row[i] = sign * W[k, i]
            for i in range(n):
                x_row[i] = sign * C[k, i]
            constant, error = _substitute(
                row, x_row, sign * b[k], loose[k], first[k], n, C, W, b, loose, first, L, U, used
            )
            low = _lowest(x_row, constant, error, xl, xu, n, gamma)
            if side == 0:
                L[k] = max(L[k], low)
            else:
                U[k] = min(U[k], -low)
            for i in range(n):
                P[k, i] += abs(x_row[i])
        if L[k] > U[k]:  # rounding of one point: keep it open
            L[k], U[k] = min(L[k], U[k]), max(L[k], U[k])


@njit(cache=True, nogil=True)
def _rows(
    K,
    n,
    R,
    C,
    W,
    b,
    loose,
    first,
    L,
    U,
    xl,
    xu,
    gamma,
    O,
    OX,
    o,
    o_loose,
    row,
    x_row,
    used_by,
    planes,
    plane_c,
    plane_e,
):
    """Lower bound of every output row; returns the largest and its number. `planes` receives the rows over x alone."""
    top, which = -np.inf, 0
    for r in range(R):
        for i in range(K):
            row[i] = O[r, i]
        for i in range(n):
            x_row[i] = OX[r, i]
        constant, error = _substitute(row, x_row, o[r], o_loose[r], K, n, C, W, b, loose, first, L, U, used_by[r])
        low = _lowest(x_row, constant, error, xl, xu, n, gamma)
        for i in range(n):
            planes[r, i] = x_row[i]
        plane_c[r], plane_e[r] = constant, error
        if low > top:
            top, which = low, r
    return top, which


@njit(cache=True, nogil=True)
def _joint(R, n, planes, plane_c, plane_e, xl, xu, gamma, low, which, weights, trial, x_row, point, steps):
    """Weigh the rows so that their sum is bounded best (Frank and Wolfe's steps on the dual); any weights give a valid bound.

    `point` receives the average of the minimizers met: close to where the largest row is smallest.
    """
    for r in range(R):
        weights[r] = 0.0
        trial[r] = 0.0
    weights[which] = 1.0
    trial[which] = 1.0
    for i in range(n):
        point[i] = xl[i] if planes[which, i] >= 0.0 else xu[i]
    if R == 1:
        return low
    for step in range(steps):
        worst, worst_value = 0, -np.inf
        for r in range(R):
            value = plane_c[r]
            for i in range(n):
                value += planes[r, i] * point[i]
            if value > worst_value:
                worst, worst_value = r, value
        share = 2.0 / (step + 3.0)
        for r in range(R):
            trial[r] *= 1.0 - share
        trial[worst] += share
        constant, error = 0.0, 0.0
        for i in range(n):
            x_row[i] = 0.0
        for r in range(R):
            if trial[r] > 0.0:
                constant += trial[r] * plane_c[r]
                error += trial[r] * plane_e[r]
                for i in range(n):
                    x_row[i] += trial[r] * planes[r, i]
        found = _lowest(x_row, constant, error, xl, xu, n, 2.0 * gamma)
        for i in range(n):
            corner = xl[i] if x_row[i] >= 0.0 else xu[i]
            point[i] = min(max((1.0 - share) * point[i] + share * corner, xl[i]), xu[i])
        if found > low:
            low = found
            for r in range(R):
                weights[r] = trial[r]
            if low > 0.0:
                break
    return low


@njit(cache=True, nogil=True)
def _split_input(K, n, R, L, U, P, used_by, weights, xl, xu, score):
    """The input to halve: each gate's looseness is shared among inputs by the slopes of its own planes times their widths."""
    for i in range(n):
        score[i] = 0.0
    for j in range(K):
        if L[j] >= 0.0 or U[j] <= 0.0:
            continue
        loss = 0.0
        for r in range(R):
            v = used_by[r, j]
            if weights[r] > 0.0 and v != 0.0:
                gap = min(U[j], -L[j]) if v > 0.0 else -U[j] * L[j] / (U[j] - L[j])
                loss += weights[r] * abs(v) * gap
        total = 0.0
        for i in range(n):
            total += P[j, i] * (xu[i] - xl[i])
        if total > 0.0:
            share = loss / total
            for i in range(n):
                score[i] += share * P[j, i] * (xu[i] - xl[i])
    best = 0
    for i in range(n):
        if score[i] > score[best]:
            best = i
    if score[best] <= 0.0:
        for i in range(n):
            if xu[i] - xl[i] > xu[best] - xl[best]:
                best = i
    return best


@njit(cache=True, nogil=True)
def _evaluate(K, n, R, C, W, b, first, O, OX, o, x, h, out):
    """Output rows at a point of the box."""
    for k in range(K):
        z = b[k]
        for i in range(n):
            z += C[k, i] * x[i]
        for i in range(first[k]):
            z += W[k, i] * h[i]
        h[k] = max(z, 0.0)
    for r in range(R):
        value = o[r]
        for i in range(n):
            value += OX[r, i] * x[i]
        for k in range(K):
            value += O[r, k] * h[k]
        out[r] = value


@njit(cache=True, nogil=True)
def _fold(row, x_row, constant, error, upto, n, C, W, b, loose, first, L, U):
    """Replace gates of a row that are always on by their own rows (and drop those always off)."""
    for j in range(upto - 1, -1, -1):
        v = row[j]
        if v == 0.0:
            continue
        if U[j] <= 0.0:
            row[j] = 0.0
        elif L[j] >= 0.0:
            row[j] = 0.0
            for i in range(first[j]):
                row[i] += v * W[j, i]
            for i in range(n):
                x_row[i] += v * C[j, i]
            constant += v * b[j]
            error += abs(v) * loose[j]
    return constant, error


@njit(cache=True, nogil=True)
def _magnitude(row, x_row, constant, K, n, U, reach):
    """Sum of magnitudes of a row over the box."""
    size = abs(constant)
    for i in range(n):
        size += abs(x_row[i]) * reach[i]
    for j in range(K):
        if row[j] != 0.0:
            size += abs(row[j]) * max(U[j], 0.0)
    return size


@njit(cache=True, nogil=True)
def _compact(K, n, R, C, W, b, loose, first, O, OX, o, o_loose, L, U, xl, xu, gamma, keep, row, x_row, reach, phase, sign,
             C2, W2, b2, loose2, first2, O2, OX2, o2, o_loose2):
    """The net with only its undecided gates, written to the arrays ending in 2.

    With `phase >= 0` one more row is added: `sign * z` of that gate, which is at most 0 in the half that is being built.
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
        for i in range(first[k]):
            row[i] = W[k, i]
        for i in range(n):
            x_row[i] = C[k, i]
        constant, error = _fold(row, x_row, b[k], loose[k], first[k], n, C, W, b, loose, first, L, U)
        before = 0
        for i in range(first[k]):
            if keep[i] >= 0:
                W2[at, keep[i]] = row[i]
                before += 1
        first2[at] = before
        for i in range(n):
            C2[at, i] = x_row[i]
        b2[at] = constant
        loose2[at] = error + gamma * _magnitude(row, x_row, constant, first[k], n, U, reach)
    for r in range(R + 1 if phase >= 0 else R):
        upto = K
        if r < R:
            for i in range(K):
                row[i] = O[r, i]
            for i in range(n):
                x_row[i] = OX[r, i]
            constant, error = o[r], o_loose[r]
        else:
            upto = first[phase]
            for i in range(K):
                row[i] = sign * W[phase, i] if i < upto else 0.0
            for i in range(n):
                x_row[i] = sign * C[phase, i]
            constant, error = sign * b[phase], loose[phase]
        constant, error = _fold(row, x_row, constant, error, upto, n, C, W, b, loose, first, L, U)
        for k in range(K):
            if keep[k] >= 0:
                O2[r, keep[k]] = row[k]
        for i in range(n):
            OX2[r, i] = x_row[i]
        o2[r] = constant
        o_loose2[r] = error + gamma * _magnitude(row, x_row, constant, upto, n, U, reach)


@njit(cache=True, nogil=True)
def _views(nets, at, K, n, R):
    """The arrays of a net at an offset of the pool, and where they end."""
    C = nets[at : at + K * n].reshape(K, n)
    at += K * n
    W = nets[at : at + K * K].reshape(K, K)
    at += K * K
    b, loose = nets[at : at + K], nets[at + K : at + 2 * K]
    at += 2 * K
    O = nets[at : at + R * K].reshape(R, K)
    at += R * K
    OX = nets[at : at + R * n].reshape(R, n)
    at += R * n
    o, o_loose = nets[at : at + R], nets[at + R : at + 2 * R]
    return C, W, b, loose, O, OX, o, o_loose, at + 2 * R


@njit(cache=True, nogil=True)
def _loosest_gate(K, R, L, U, used_by, weights):
    """The undecided gate whose relaxation costs the bound most."""
    best, most = -1, -1.0
    for j in range(K):
        if L[j] >= 0.0 or U[j] <= 0.0:
            continue
        loss = 0.0
        for r in range(R):
            v = used_by[r, j]
            if weights[r] > 0.0 and v != 0.0:
                loss += weights[r] * abs(v) * (min(U[j], -L[j]) if v > 0.0 else -U[j] * L[j] / (U[j] - L[j]))
        if loss > most:
            best, most = j, loss
    return best


@njit(cache=True, nogil=True)
def run(state, sizes, nets, firsts, net_K, net_R, net_at, net_first_at, box_net, box_x, box_L, box_U, box_depth, work, ints, gamma, budget,
        threshold, maximize, point, counters):
    """Work on the stack of boxes until it is empty, a candidate appears, or the budget is spent.

    Arguments:
        state: `[boxes on the stack, unused, boxes done, unused, boxes opened]`, kept between calls.
        sizes: `[n, most rows, K of the root, most boxes on the stack, open gates from which phases are split]`.
        nets, firsts: Pools of net arrays (`C, W, b, loose, O, OX, o, o_loose` after each other) and of `first`.
        threshold: With `maximize`, `[0]` is added to row 0 and raised in place by points found: row 0 is `threshold - f`;
            `[1]` is what was added for the last box.
        point: Receives the candidate.
        counters: With `maximize`, `[best value found, tolerance]` and the point of that value.
    """
    n, most_rows, K0, most, finish = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
    row, used, spare, h = work[0], work[1], work[2], work[3]
    x_row, score, reach, out = work[4][:n], work[5][:n], work[6][:n], work[7][:most_rows]
    xl, xu = work[8][:n], work[9][:n]
    P = work[10 : 10 + K0, :n]
    base = 10 + K0
    planes, plane_c, plane_e = work[base : base + most_rows, :n], work[base + most_rows], work[base + most_rows + 1]
    weights, trial = work[base + most_rows + 2], work[base + most_rows + 3]
    used_by = work[base + most_rows + 4 : base + 2 * most_rows + 4]
    keep = ints[0]
    done = 0
    while state[0] > 0:
        if done >= budget:
            return BUDGET
        done += 1
        state[2] += 1
        top = state[0] - 1
        state[0] = top
        net = box_net[top]
        K, R, f = net_K[net], net_R[net], net_first_at[net]
        C, W, b, loose, O, OX, o, o_loose, at = _views(nets, net_at[net], K, n, R)
        first = firsts[f : f + K]
        L, U = box_L[top, :K], box_U[top, :K]
        for i in range(n):
            xl[i], xu[i] = box_x[top, 0, i], box_x[top, 1, i]
        depth = box_depth[top]
        _tighten(K, n, C, W, b, loose, first, L, U, xl, xu, gamma, row, x_row, used, P)
        shift = threshold[0] if maximize else 0.0
        threshold[1] = shift  # the one that this box's rows hold
        o[0] += shift
        low, which = _rows(K, n, R, C, W, b, loose, first, L, U, xl, xu, gamma, O, OX, o, o_loose, row, x_row, used_by, planes, plane_c, plane_e)
        o[0] -= shift
        if low > 0.0:
            continue
        undecided = 0
        for k in range(K):
            if L[k] < 0.0 and U[k] > 0.0:
                undecided += 1
        # Where no gate is open, the weights decide the box, and a linear program outside costs far more than steps here.
        steps = 12 if undecided > 0 else 400
        low = _joint(R, n, planes, plane_c, plane_e, xl, xu, gamma, low, which, weights, trial, x_row, point, steps)
        if low > 0.0:
            continue
        _evaluate(K, n, R, C, W, b, first, O, OX, o, point, h, out)
        found = False
        if maximize:
            inside = True
            for r in range(1, R):  # a phase's rows: outside of it this net is not the network
                inside = inside and out[r] <= 0.0
            if inside and -out[0] > counters[0]:
                counters[0] = -out[0]
                for i in range(n):
                    counters[2 + i] = point[i]
                threshold[0] = counters[0] + counters[1]
                if low + weights[0] * (threshold[0] - shift) > 0.0:
                    continue
        else:
            worst = out[0]
            for r in range(R):
                worst = max(worst, out[r])
            found = worst <= 0.0
        widest = 0.0
        for i in range(n):
            widest = max(widest, (xu[i] - xl[i]) / (1e-300 + max(abs(xl[i]), abs(xu[i]))))
        if undecided == 0 or widest < 1e-14 or depth > 400 or top + 2 > most:
            box_net[top] = net
            state[1] = R
            return LEAF
        if undecided <= finish and most_rows > R:
            gate = _loosest_gate(K, R, L, U, used_by, weights)
            low_gate, high_gate = L[gate], U[gate]
            z_on = h[gate] > 0.0
            K2 = undecided - 1
            start_f = f + K
            for side in range(2):
                on = z_on if side == 1 else not z_on
                L[gate], U[gate] = (0.0, high_gate) if on else (low_gate, 0.0)
                net2 = net + 1 + side
                sign = -1.0 if on else 1.0
                C2, W2, b2, loose2, O2, OX2, o2, o_loose2, end = _views(nets, at, K2, n, R + 1)
                W2[:, :] = 0.0
                first2 = firsts[start_f : start_f + K2]
                _compact(K, n, R, C, W, b, loose, first, O, OX, o, o_loose, L, U, xl, xu, gamma, keep, row, x_row, reach, gate,
                         sign, C2, W2, b2, loose2, first2, O2, OX2, o2, o_loose2)
                net_K[net2], net_R[net2], net_at[net2], net_first_at[net2] = K2, R + 1, at, start_f
                at, start_f = end, start_f + K2
                slot = top + side
                for k in range(K):
                    if keep[k] >= 0:
                        spare[keep[k]], used[keep[k]] = L[k], U[k]
                if side == 1:
                    for k in range(K2):
                        box_L[slot, k], box_U[slot, k] = spare[k], used[k]
                else:  # the parent's bounds are still needed for the other half
                    for k in range(K2):
                        trial[k], out[k] = spare[k], used[k]
                for i in range(n):
                    box_x[slot, 0, i], box_x[slot, 1, i] = xl[i], xu[i]
                box_net[slot], box_depth[slot] = net2, depth + 1
            for k in range(K2):
                box_L[top, k], box_U[top, k] = trial[k], out[k]
        else:
            split = _split_input(K, n, R, L, U, P, used_by, weights, xl, xu, score)
            # Compact where at least a tenth of the gates has become stable.
            if K - undecided >= 0.1 * K:
                K2 = undecided
                start_f = f + K
                C2, W2, b2, loose2, O2, OX2, o2, o_loose2, end = _views(nets, at, K2, n, R)
                W2[:, :] = 0.0
                first2 = firsts[start_f : start_f + K2]
                _compact(K, n, R, C, W, b, loose, first, O, OX, o, o_loose, L, U, xl, xu, gamma, keep, row, x_row, reach, -1, 0.0,
                         C2, W2, b2, loose2, first2, O2, OX2, o2, o_loose2)
                net += 1
                net_K[net], net_R[net], net_at[net], net_first_at[net] = K2, R, at, start_f
                for k in range(K):
                    if keep[k] >= 0:
                        spare[keep[k]], used[keep[k]] = L[k], U[k]
                for k in range(K2):
                    L[k], U[k] = spare[k], used[k]
                K = K2
            middle = 0.5 * (xl[split] + xu[split])
            near_low = point[split] <= middle
            # The half with the minimizer goes on top of the stack; both children share the net.
            for side in range(2):
                slot = top + side
                low_half = near_low if side == 1 else not near_low
                if side == 1:
                    for k in range(K):
                        box_L[slot, k], box_U[slot, k] = box_L[top, k], box_U[top, k]
                for i in range(n):
                    box_x[slot, 0, i], box_x[slot, 1, i] = xl[i], xu[i]
                if low_half:
                    box_x[slot, 1, split] = middle
                else:
                    box_x[slot, 0, split] = middle
                box_net[slot] = net
                box_depth[slot] = depth + 1
        state[0] = top + 2
        state[4] += 2
        if found:
            return CANDIDATE
    return DONE
