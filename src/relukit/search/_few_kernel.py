"""Compiled branch and bound on the compact form: depth first, sound in float64, no allocation inside.

A box is bounded gate by gate with backward planes (only for gates that are still undecided there), output rows last; the
rows are then weighed so that their joint lower bound is best. A bound above 0 closes the box. The joint plane is at most 0
at any counterexample, so below the box every gate is bounded over that half-space, too. Otherwise the input is halved that
the looseness of the relaxation is due to, and where enough gates have become stable the network is compacted for the
subtree. With few open gates left, or many inputs, a gate is split by its phases: the phase is one more row.

Memory is two stacks in flat pools: nets (one per compaction) and boxes. `path[d]` is the joint plane of the ancestor at
depth d.
"""

from typing import NamedTuple

import numpy as np

from relukit._lanes import numbers, spread, store
from relukit._numba import njit
from relukit._types import LANES
from relukit.search._few_bounds import half_space, outputs, tighten
from relukit.search._few_lp import joint, weigh
from relukit.search._few_net import evaluate, room, shrink, views
from relukit.search._few_slopes import ROUNDS, improve, inherit, usual

# What a run returns.
DONE, CANDIDATE, LEAF, BUDGET = 0, 1, 2, 3
DEEPEST = 400  # levels of the tree; a box below them is given back
ANCESTORS = 12  # half-spaces of ancestors that may join the rows of one box
_LAZY = 20  # with at most so many open gates they do


class State(NamedTuple):
    """All arrays of a search.

    Arguments:
        head: `[boxes on the stack, rows of the box given back, boxes done, deepest level so far]`.
        sizes: `[n, S0, most rows, open gates from which phases are split, most boxes on the stack]`.
        pool, firsts: Nets one after another (see `_few_net`), and their `first`.
        net: `(nets, 4)`: gates, rows, place in the pool, place in `firsts`.
        box: `(boxes, 3)`: net, depth, and the gate split by phase: `2 gate + (1 if on)`, or -1.
        x, L, U: Ends of the boxes and bounds of the gates.
        window: Ends of the box that still counts, shape `(2, n)`: boxes are cut to it when their turn comes.
        path: Joint planes by depth.
        threshold: When maximizing, `[0]` is added to row 0, which is `threshold - f`, and raised by points found; `[1]` is
            what was added for the last box.
        best: `[value, what the threshold lies above it, x...]` when maximizing; else the value is minus the largest row of the
            nearest miss.
        point: The candidate.
        planes, errors, weights: The rows of the last box over x alone.
        blocks: The same rows in lanes (see `_few_bounds`), eight to a block, with the coefficients on gates.
    """

    head: np.ndarray
    sizes: np.ndarray
    pool: np.ndarray
    firsts: np.ndarray
    net: np.ndarray
    box: np.ndarray
    x: np.ndarray
    L: np.ndarray
    U: np.ndarray
    window: np.ndarray
    path: np.ndarray
    threshold: np.ndarray
    best: np.ndarray
    point: np.ndarray
    planes: np.ndarray
    errors: np.ndarray
    weights: np.ndarray
    blocks: np.ndarray
    gates: np.ndarray  # (11, K): scratch
    T: np.ndarray  # a block of rows being substituted
    met: np.ndarray  # (K, lanes): its coefficients on the gates of one group
    slopes: np.ndarray  # (K, n)
    inputs: np.ndarray  # (10, n + 1)
    rows: np.ndarray  # (3, rows)
    dictionary: np.ndarray
    index: np.ndarray  # (4, K + rows + n)
    runs: np.ndarray  # (K, 3), see `copy_runs`
    flags: np.ndarray
    below: np.ndarray  # slopes below (see `_few_slopes`), one block for each level of the tree
    below_end: np.ndarray  # (2, levels): where a level's block ends, and whether there is one
    height: np.ndarray  # (K, S0)
    corner: np.ndarray  # (n, lanes): where the rows of a block are least


@njit(cache=True, nogil=True)
def _stride(K, R):
    """Length of a row of slopes below."""
    return (2 * K + R + 7) // 8 * 8


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def _gap(v, slope, low, high):
    """Largest distance between a gate and its line, times its coefficient."""
    return v * max(-slope * low, (1.0 - slope) * high) if v > 0.0 else v * high * low / (high - low)


@njit(cache=True, nogil=True)
def _losses(K, R, S0, L, U, blocks, weights, below, stride, loss):
    """What each gate's relaxation may cost the joint bound; returns the gate that costs most, -1 if none is open."""
    best, most = -1, -1.0
    for j in range(K):
        loss[j] = 0.0
        if L[j] >= 0.0 or U[j] <= 0.0:
            continue
        for r in range(R):
            if weights[r] > 0.0:
                v = blocks[r // LANES, LANES * (S0 + j) + r % LANES]
                loss[j] += weights[r] * _gap(v, below[j * stride + 2 * K + r], L[j], U[j])
        if loss[j] > most:
            best, most = j, loss[j]
    return best


@njit(cache=True, nogil=True)
def _split_input(K, n, L, U, P, loss, xl, xu, score):
    """The input to halve: each gate's loss is shared among inputs by the slopes of its own planes times their widths."""
    for i in range(n):
        score[i] = 0.0
    for j in range(K):
        if loss[j] <= 0.0:
            continue
        total = 0.0
        for i in range(n):
            total += P[j, i] * (xu[i] - xl[i])
        if total > 0.0:
            share = loss[j] / total
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
def _add_ancestor(R, n, depth, path, planes, errors, point):
    """The ancestor's half-space that the point violates most becomes one more row; returns the number of rows."""
    worst, value = -1, 0.0
    for d in range(depth):
        v = path[d, n]
        size = abs(v)
        for i in range(n):
            term = path[d, i] * point[i]
            v += term
            size += abs(term)
        if v > 1e-9 * size and v > value:
            known = False
            for r in range(R):
                known = known or (planes[r, n] == path[d, n] and planes[r, 0] == path[d, 0])
            if not known:
                worst, value = d, v
    if worst < 0:
        return R
    planes[R, : n + 1] = path[worst, : n + 1]
    errors[R] = 0.0
    return R + 1


@njit(cache=True, nogil=True)
def _push(s, slot, net, depth, gate, K, n, L, U, xl, xu):
    """A box on the stack."""
    s.box[slot, 0], s.box[slot, 1], s.box[slot, 2] = net, depth, gate
    for k in range(K):
        s.L[slot, k], s.U[slot, k] = L[k], U[k]
    for i in range(n):
        s.x[slot, 0, i], s.x[slot, 1, i] = xl[i], xu[i]


@njit(cache=True, nogil=True)
def run(s, gamma, budget, maximize):
    """Work on the stack of boxes until it is empty, a candidate appears, a leaf touches the boundary, or the budget is spent."""
    n, S0, most_rows, finish, most_boxes = s.sizes[0], s.sizes[1], s.sizes[2], s.sizes[3], s.sizes[4]
    most, h, low_k, high_k, loss = s.gates[0], s.gates[1], s.gates[2], s.gates[3], s.gates[4]
    h_root, lines = s.gates[5], s.gates[6:11]
    xl, xu, score, reach, point = s.inputs[0], s.inputs[1], s.inputs[2], s.inputs[3], s.inputs[4]
    plane, q = s.inputs[5], s.inputs[6:8]
    out, value = s.rows[0], s.rows[1]
    index, basic, beside, steady = s.index[0], s.index[1], s.index[2], s.index[3]
    T, blocks, c = s.T, s.blocks, s.met
    planes, errors, weights, P, path = s.planes, s.errors, s.weights, s.slopes, s.path
    M0, Q0, _, _, _ = views(s.pool, 0, s.net[0, 0], s.net[0, 1], S0)
    K0, R0 = s.net[0, 0], s.net[0, 1]
    first0 = s.firsts[:K0]
    done = 0
    while s.head[0] > 0:
        if done >= budget:
            return BUDGET
        done += 1
        s.head[2] += 1
        top = s.head[0] - 1
        s.head[0] = top
        net, depth, phase = s.box[top, 0], s.box[top, 1], s.box[top, 2]
        K, R, place, f = s.net[net, 0], s.net[net, 1], s.net[net, 2], s.net[net, 3]
        M, Q, loose, q_loose, end = views(s.pool, place, K, R, S0)
        first = s.firsts[f : f + K]
        outside = False
        for i in range(n):
            xl[i], xu[i] = max(s.x[top, 0, i], s.window[0, i]), min(s.x[top, 1, i], s.window[1, i])
            outside = outside or xl[i] > xu[i]
        if outside:
            continue
        L, U = s.L[top], s.U[top]
        K1, R1, stretches = K, R, 0
        if phase >= 0:  # the half's own net
            gate, on = phase // 2, phase % 2 == 1
            if on:
                L[gate] = max(L[gate], 0.0)
            else:
                U[gate] = min(U[gate], 0.0)
            K2 = 0
            for k in range(K):
                K2 += L[k] < 0.0 and U[k] > 0.0
            M2, Q2, loose2, q_loose2, end = views(s.pool, end, K2, R + 1, S0)
            first2 = s.firsts[f + K : f + K + K2]
            stretches = shrink(K, n, R, S0, M, Q, loose, q_loose, first, L, U, xl, xu, gamma, index, steady, s.runs, T, most, reach, gate, on,
                   M2, Q2, loose2, q_loose2, first2)  # fmt: skip
            k2 = 0
            for k in range(K):
                if index[k] >= 0:
                    L[k2], U[k2] = L[k], U[k]
                    k2 += 1
            net += 1
            s.net[net, 0], s.net[net, 1], s.net[net, 2], s.net[net, 3] = K2, R + 1, place + room(K, R, S0), f + K
            M, Q, loose, q_loose, first = M2, Q2, loose2, q_loose2, first2
            K, R, place, f = K2, R + 1, s.net[net, 2], f + K
        start, known = 0, False  # the slopes of the parent end where this box's begin
        if depth:
            start, known = s.below_end[0, depth - 1], s.below_end[1, depth - 1] > 0
        stride = _stride(K, R)
        kept = start + K * stride <= s.below_end[0, DEEPEST + 1]
        at = start if kept else s.below_end[0, DEEPEST + 1]
        below = s.below[at : at + K * stride + LANES]
        s.below_end[0, depth], s.below_end[1, depth] = (start + K * stride, 1) if kept else (start, 0)
        old = below
        if not known:
            usual(K, stride, L, U, below)
        elif phase < 0:
            old = s.below[start - K * stride : start + LANES]
        else:
            stride1 = _stride(K1, R1)
            before = s.below[start - K1 * stride1 : start + LANES]
            inherit(K1, R1, stride1, before, index, s.runs, stretches, K, stride, below)
            for j in range(K1):
                if index[j] >= 0:
                    below[index[j] * stride + 2 * K + R1] = before[j * stride1 + phase]
        halved = depth > 0
        if halved:
            half_space(n, path[depth - 1], q)
        if not tighten(K, n, S0, M, loose, first, L, U, xl, xu, gamma, halved, q, T, c, lines, P,
                       old, below, stride, s.height, s.corner, 1 if known else ROUNDS):  # fmt: skip
            continue
        shift = s.threshold[0] if maximize else 0.0
        s.threshold[1] = shift  # the one that this box's rows hold
        closed = outputs(K, R, n, S0, M, Q, loose, q_loose, first, lines, xl, xu, gamma, halved, q, shift, c, blocks, planes, errors,
                         old, below, stride, s.corner)  # fmt: skip
        if closed:
            continue
        undecided = 0
        for k in range(K):
            undecided += L[k] < 0.0 and U[k] > 0.0
        rows = R
        if halved and rows < most_rows:  # the parent's plane is one more row
            planes[rows, : n + 1] = path[depth - 1, : n + 1]
            errors[rows] = 0.0
            rows += 1
        low = -np.inf
        for _ in range(ANCESTORS + 1):
            weigh(rows, n, planes, errors, xl, xu, s.dictionary, value, basic, beside, s.flags, weights, point)
            low = joint(rows, n, planes, errors, weights, xl, xu, gamma, plane)
            if low > 0.0 or undecided > _LAZY or rows >= min(most_rows, R + ANCESTORS):
                break
            more = _add_ancestor(rows, n, depth, path, planes, errors, point)
            if more == rows:
                break
            rows = more
        if low > 0.0:
            continue
        # The minimizer is tried on the net of the whole box: the compact one is not the network outside the half-spaces.
        evaluate(K, n, S0, M, Q, first, point, h, out)
        inside = True
        for r in range(1 if maximize else 0, R):
            inside = inside and out[r] <= 0.0
        found = False
        if maximize:
            if -out[0] > s.best[0]:
                evaluate(K0, n, S0, M0, Q0, first0, point, h_root, out)
                allowed = -out[0] > s.best[0]
                for r in range(1, R0):  # the other rows are constraints
                    allowed = allowed and out[r] <= 0.0
                if allowed:
                    s.best[0] = -out[0]
                    for i in range(n):
                        s.best[2 + i] = point[i]
                    s.threshold[0] = s.best[0] + s.best[1]
                    if low + weights[0] * (s.threshold[0] - shift) > 0.0:
                        continue
        else:
            worst_row = out[0]
            for r in range(1, R0):
                worst_row = max(worst_row, out[r])
            if -worst_row > s.best[0]:  # the nearest miss so far: attacks start from it
                evaluate(K0, n, S0, M0, Q0, first0, point, h_root, out)
                worst_row = out[0]
                for r in range(1, R0):
                    worst_row = max(worst_row, out[r])
                if -worst_row > s.best[0]:
                    s.best[0] = -worst_row
                    for i in range(n):
                        s.best[2 + i] = point[i]
        if inside and not maximize:
            evaluate(K0, n, S0, M0, Q0, first0, point, h_root, out)
            found = True
            for r in range(R0):
                found = found and out[r] <= 0.0
            if found:
                for i in range(n):
                    s.point[i] = point[i]
        widest = 0.0
        for i in range(n):
            widest = max(widest, (xu[i] - xl[i]) / (1e-300 + max(abs(xl[i]), abs(xu[i]))))
        by_phase = undecided <= finish
        full = (
            top + 2 > most_boxes
            or depth + 1 >= DEEPEST
            or place + room(K, R, S0) + room(K, R + 1, S0) > len(s.pool)
            or f + 2 * K > len(s.firsts)
            or (by_phase and most_rows < R + 1 + ANCESTORS)
        )
        if undecided == 0 or widest < 1e-14 or full:
            s.head[1] = rows
            for i in range(n):
                s.point[i] = point[i]
            s.x[top, 0, :n], s.x[top, 1, :n] = xl[:n], xu[:n]
            return LEAF
        path[depth, : n + 1] = plane[: n + 1]
        worst = _losses(K, R, S0, L, U, blocks, weights, below, stride, loss)
        for i in range(n):
            store(s.corner, LANES * i, spread(point[i]))
        for r in range(0, R, LANES):
            keep = spread(float(R - r)) - numbers()
            improve(blocks[r // LANES], below, stride, 2 * K + r, K, n, S0, s.height, s.corner, keep)
        if by_phase:
            on = h[worst] > 0.0  # the minimizer's phase goes on top of the stack
            for k in range(K):
                low_k[k], high_k[k] = L[k], U[k]
            _push(s, top, net, depth + 1, 2 * worst + (0 if on else 1), K, n, low_k, high_k, xl, xu)
            _push(s, top + 1, net, depth + 1, 2 * worst + (1 if on else 0), K, n, low_k, high_k, xl, xu)
        else:
            split = _split_input(K, n, L, U, P, loss, xl, xu, score)
            # Compact where at least a tenth of the gates has become stable.
            if K - undecided >= 0.1 * K:
                M2, Q2, loose2, q_loose2, _ = views(s.pool, place + room(K, R, S0), undecided, R, S0)
                stretches = shrink(K, n, R, S0, M, Q, loose, q_loose, first, L, U, xl, xu, gamma, index, steady, s.runs, T, most, reach, -1, False,
                       M2, Q2, loose2, q_loose2, s.firsts[f + K : f + K + undecided])  # fmt: skip
                stride2 = _stride(undecided, R)
                inherit(K, R, stride, below, index, s.runs, stretches, undecided, stride2, below)
                if kept:
                    s.below_end[0, depth] = at + undecided * stride2
                net += 1
                s.net[net, 0], s.net[net, 1], s.net[net, 2], s.net[net, 3] = undecided, R, place + room(K, R, S0), f + K
                k2 = 0
                for k in range(K):
                    if index[k] >= 0:
                        low_k[k2], high_k[k2] = L[k], U[k]
                        k2 += 1
                K = undecided
            else:
                for k in range(K):
                    low_k[k], high_k[k] = L[k], U[k]
            a, b = xl[split], xu[split]
            middle = 0.5 * (a + b)
            near_low = point[split] <= middle
            for side in range(2):  # the half with the minimizer goes on top of the stack; both share the net
                lower_half = near_low if side == 1 else not near_low
                xl[split], xu[split] = (a, middle) if lower_half else (middle, b)
                _push(s, top + side, net, depth + 1, -1, K, n, low_k, high_k, xl, xu)
        s.head[0] = top + 2
        s.head[3] = max(s.head[3], depth + 1)
        if found:
            return CANDIDATE
    return DONE
