"""Depth-first search over gates by propagation: what "all rows are at most 0" says of inputs and gates, with no relaxation solved.

Networks that encode logic (clauses as gates) leave linear bounds near 0 to the end, while a few phases settle all the others. Each node
propagates until nothing moves: every gate's equation, and every row with the gates that lower it replaced by the lines above them, bound
each of their terms by what the others leave. A node closes where a row or a gate is left without a value.

Rounding: a sum's computed value is within `g` times the sum of magnitudes, taken over the whole set; every bound is widened by twice that,
by the compact form's own error, and after its division by 1e-15 of itself. So a closed node has no point in real arithmetic.

References:
    A Machine Program for Theorem-Proving, Davis, Logemann, Loveland, 1962. Preprocessing and Probing Techniques for Mixed Integer
    Programming Problems, Savelsbergh, 1994.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from relukit._numba import njit
from relukit._numerics import gamma
from relukit._types import Array, IntArray
from relukit.bounds import CompactNetwork
from relukit.search._decision import Decision
from relukit.search._leaves import split_by_programs
from relukit.search._relaxation import OFF, ON

DONE, LEAF, BUDGET = 0, 1, 2
_SWEEPS = 30
_MOVED = 0.02  # share of its width by which a bound has to move for another sweep
_SMALL = 1e-9  # share of a gate's first width within which its kink does not count
_DEEP = 400  # splits on one path at most
_ENTRIES = 2_000_000  # of the matrices over gates: beyond, one node takes too long
_FIRST = 24  # nodes after which propagation must have done something
_FOLLOWS = 3  # times as many gates as were split must be decided, where no node has closed yet
# Shares of the time left: that it gets in any case, and within which it has to be on course to end.
_TRIED, _LEFT = 0.05, 0.5
_FIRMLY, _LONG = 10, 0.4  # where a split decides so many gates, it gets this share of the time left
_PROGRAMS = 20  # linear programs for one leaf
# How much more a constraint counts that holds on to one input less, and the number of inputs from which on it does not count.
_SHORTER, _WIDE = 5.0, 40


@njit(cache=True, nogil=True)
def _terms(which, a, lo, hi, low, high, limit_low, limit_high, slack, touched):
    """Bounds `lo, hi` of variables from `limit_low <= a . v[which] + rest <= limit_high`, `low, high` being what that spans.

    Variables whose bounds move are marked as touched. Returns 0 if nothing moved much, 1 if something did, 2 if a variable is left without a value.
    """
    moved = 0
    for k in range(len(which)):
        i, c = which[k], a[k]
        if c == 0.0:
            continue
        least, most = (c * lo[i], c * hi[i]) if c > 0.0 else (c * hi[i], c * lo[i])
        top = (limit_high - (low - least) + slack) / c
        bottom = (limit_low - (high - most) - slack) / c
        if c < 0.0:
            top, bottom = bottom, top
        top += 1e-15 * abs(top)
        bottom -= 1e-15 * abs(bottom)
        width = hi[i] - lo[i]
        if top < hi[i] - _MOVED * width and top < hi[i]:
            hi[i] = top
            moved, touched[i] = 1, True
        if bottom > lo[i] + _MOVED * width and bottom > lo[i]:
            lo[i] = bottom
            moved, touched[i] = 1, True
        if lo[i] > hi[i]:
            return 2
    return moved


@njit(cache=True, nogil=True)
def _span(which, a, lo, hi, low, high):
    """What `low` and `high` become with `a . v[which]` added, of variables within `lo, hi`."""
    for k in range(len(which)):
        i, c = which[k], a[k]
        if c > 0.0:
            low += c * lo[i]
            high += c * hi[i]
        else:
            low += c * hi[i]
            high += c * lo[i]
    return low, high


@njit(cache=True, nogil=True)
def _sweep(
    C, W, b, X, H, c, error, out_error, size, out_size, g, xl, xu, zl, zu, hl, hu, v, u, weight, every, stale, of_x_moved, of_h_moved
):  # fmt: skip
    """One round over gates that are stale and all rows; 0 nothing moved, 1 something did, 2 no point is left.

    Afterwards those gates are stale that read an input or gate whose bounds have moved, or whose own have.
    """
    K, n, R, moved = len(b), len(u), len(c), 0
    (Cp, Ci, Cv, Cq, Cg), (Wp, Wi, Wv, Wq, Wg) = C, W
    of_x_moved[:] = False
    of_h_moved[:] = False
    for j in range(K):
        if not stale[j]:
            continue
        stale[j] = False
        of_x, of_h = slice(Cp[j], Cp[j + 1]), slice(Wp[j], Wp[j + 1])
        low, high = _span(Ci[of_x], Cv[of_x], xl, xu, b[j], b[j])
        low, high = _span(Wi[of_h], Wv[of_h], hl, hu, low, high)
        slack = g * size[j] + error[j]
        zl[j], zu[j] = max(zl[j], low - slack), min(zu[j], high + slack)
        if zl[j] > zu[j]:
            return 2
        if zu[j] < high or zl[j] > low:
            for part in range(2):
                if part == 0:
                    code = _terms(Ci[of_x], Cv[of_x], xl, xu, low, high, zl[j], zu[j], 2.0 * slack, of_x_moved)
                else:
                    code = _terms(Wi[of_h], Wv[of_h], hl, hu, low, high, zl[j], zu[j], 2.0 * slack, of_h_moved)
                    if code == 1 and not _back(hl, hu, zl, zu, j):
                        return 2
                if code == 2:
                    return 2
                moved |= code
        if zl[j] > hl[j] or max(zu[j], 0.0) < hu[j]:
            hl[j], hu[j] = max(hl[j], zl[j]), min(hu[j], max(zu[j], 0.0))
            for k in range(Wq[j], Wq[j + 1]):
                stale[Wg[k]] = True
        if hl[j] > hu[j]:
            return 2
    weight[:] = 0.0
    for r in range(R):
        rest, slack = c[r], 2.0 * (g * out_size[r] + out_error[r])
        for i in range(n):
            u[i] = X[r, i]
        for j in range(K):
            v[j] = H[r, j]
        for j in range(K - 1, -1, -1):
            if v[j] == 0.0:
                continue
            weight[j] = max(weight[j], abs(v[j]))
            if zu[j] <= 0.0:
                v[j] = 0.0
            elif zl[j] >= 0.0 or v[j] < 0.0:
                s = v[j]
                if zl[j] < 0.0:
                    s *= zu[j] / (zu[j] - zl[j])
                    rest -= s * zl[j]
                    slack += 1e-15 * abs(v[j]) * (zu[j] - zl[j])
                for k in range(Cp[j], Cp[j + 1]):
                    u[Ci[k]] += s * Cv[k]
                for k in range(Wp[j], Wp[j + 1]):
                    v[Wi[k]] += s * Wv[k]
                rest += s * b[j]
                slack += abs(s) * (2.0 * g * size[j] + error[j])
                v[j] = 0.0
        low = rest
        for i in range(n):
            low += u[i] * (xl[i] if u[i] > 0.0 else xu[i])
        for j in range(K):
            low += v[j] * hl[j]  # what is left is positive
        if low - slack > 0.0:
            return 2
        code = _terms(every[:n], u, xl, xu, low, np.inf, -np.inf, 0.0, slack, of_x_moved)
        if code == 2:
            return 2
        moved |= code
        code = _terms(every[:K], v, hl, hu, low, np.inf, -np.inf, 0.0, slack, of_h_moved)
        if code == 2 or (code == 1 and not _back(hl, hu, zl, zu, K)):
            return 2
        moved |= code
    for i in range(n):
        if of_x_moved[i]:
            for k in range(Cq[i], Cq[i + 1]):
                stale[Cg[k]] = True
    for j in range(K):
        if of_h_moved[j]:
            stale[j] = True
            for k in range(Wq[j], Wq[j + 1]):
                stale[Wg[k]] = True
    return moved


@njit(cache=True, nogil=True)
def _back(hl, hu, zl, zu, count):
    """What bounds of `h = max(0, z)` say of z; whether a value is left."""
    for j in range(count):
        if hu[j] < 0.0:
            return False
        zu[j] = min(zu[j], hu[j])
        if hl[j] > 0.0:
            zl[j] = max(zl[j], hl[j])
        if zl[j] > zu[j]:
            return False
    return True


@njit(cache=True, nogil=True)
def _choose(C, W, b, xl, xu, zl, zu, hl, hu, first, weight, near, score):
    """The undecided gate whose phase moves the inputs most that constraints of decided gates hold on to; -1 if none is left.

    A gate that is decided holds on to its inputs as long as some of their values would decide it otherwise.
    """
    (Cp, Ci, Cv, _, _), (Wp, Wi, Wv, _, _) = C, W
    near[:] = 0.0
    for k in range(len(b)):
        if zl[k] >= 0.0 or zu[k] <= 0.0 or zu[k] < _SMALL * first[k]:
            of_x, of_h, free = slice(Cp[k], Cp[k + 1]), slice(Wp[k], Wp[k + 1]), 0
            for i in Ci[of_x]:
                free += xu[i] - xl[i] > 1e-7
            if 0 < free < _WIDE:
                low, high = _span(Ci[of_x], Cv[of_x], xl, xu, b[k], b[k])
                low, high = _span(Wi[of_h], Wv[of_h], hl, hu, low, high)
                if (low >= -1e-7 * first[k]) if zl[k] >= 0.0 else (high <= 1e-7 * first[k]):
                    continue
                for i in Ci[of_x]:
                    if xu[i] - xl[i] > 1e-7:
                        near[i] += _SHORTER ** (-free)
    best, which = -1.0, -1
    for j in range(len(b)):
        if zl[j] < -_SMALL * first[j] and zu[j] > _SMALL * first[j]:
            held = 0.0
            for i in Ci[Cp[j] : Cp[j + 1]]:
                held = max(held, near[i])
            value = (1e-9 + held) * (1e-3 + weight[j]) * zu[j] * zl[j] / (zl[j] - zu[j])
            if value > best:
                best, which = value, j
    return which


@njit(cache=True, nogil=True)
def run(C, W, b, X, H, c, error, out_error, size, out_size, g, first, stack, info, closed, split, budget):
    """Go on for `budget` nodes. C and W are compressed (`_rows`). `stack[d]` holds bounds of x, then of z; `info` the depth, nodes and the leaf's place.

    `closed[0]` is the share of the tree that is done, a node's halves counting half of it each; `closed[1 + d]` the share of the node at d;
    `split[d]` is the gate that was decided last in the node at d, -1 at the root.
    """
    K, n = len(b), X.shape[1]
    hl, hu, v, u, weight, near = np.empty(K), np.empty(K), np.empty(K), np.empty(n), np.zeros(K), np.empty(n)
    every, stale, of_x, of_h = np.arange(max(K, n)), np.zeros(K, np.bool_), np.zeros(n, np.bool_), np.zeros(K, np.bool_)
    depth, until = info[0], info[1] + budget
    while depth >= 0:
        if info[1] >= until:
            info[0] = depth
            return BUDGET
        info[1] += 1
        node = stack[depth]
        xl, xu, zl, zu = node[:n], node[n : 2 * n], node[2 * n : 2 * n + K], node[2 * n + K :]
        code = 0
        for j in range(K):
            hl[j], hu[j] = max(zl[j], 0.0), max(zu[j], 0.0)
            stale[j] = split[depth] < 0 or split[depth] == j
        if split[depth] >= 0:  # what reads the gate
            for k in range(W[3][split[depth]], W[3][split[depth] + 1]):
                stale[W[4][k]] = True
        for _ in range(_SWEEPS):
            code = _sweep(
                C, W, b, X, H, c, error, out_error, size, out_size, g, xl, xu, zl, zu, hl, hu, v, u, weight, every, stale, of_x, of_h
            )  # fmt: skip
            if code != 1:
                break
        if code == 2:
            closed[0] += closed[1 + depth]
            depth -= 1
            continue
        j = _choose(C, W, b, xl, xu, zl, zu, hl, hu, first, weight, near, v) if depth + 2 < len(stack) else -1
        if j < 0:  # the caller decides it, and takes it off by making the depth one less
            info[0] = depth
            return LEAF
        half = 0.5 * closed[1 + depth]
        stack[depth + 1] = node
        closed[1 + depth] = closed[2 + depth] = half
        split[depth] = split[depth + 1] = j
        other = stack[depth + 1]
        if zu[j] > -zl[j]:  # the likelier phase is worked on first
            other[2 * n + j], node[2 * n + K + j] = 0.0, 0.0
        else:
            node[2 * n + j], other[2 * n + K + j] = 0.0, 0.0
        depth += 1
    info[0] = -1
    return DONE


def _rows(M: Array) -> tuple[IntArray, IntArray, Array, IntArray, IntArray]:
    """A matrix by its entries: where each row begins, columns, entries; where each column begins, rows."""
    row, column = np.nonzero(M)
    begins = lambda which, count: np.append(0, np.cumsum(np.bincount(which, minlength=count)))
    by_column = np.argsort(column, kind="stable")
    return begins(row, len(M)), column, M[row, column], begins(column, M.shape[1]), row[by_column]


def propagated(search: Any) -> Decision | None:
    """What propagation decides about the open cases of a search over gates (`_many`); None where something else has to."""
    small = search.small
    if not isinstance(small, CompactNetwork) or small.gates * (small.gates + small.C.shape[1]) > _ENTRIES:
        return None
    for case in np.flatnonzero(search.open):
        found = split_by_propagation(
            small, np.flatnonzero(search.member[case]), search.cases[case].confirm, search.stop
        )
        if found is None or found.status == "sat":
            return found
        search.nodes += found.boxes
        search.open[case] = False
    return Decision("unsat", None, search.nodes, "propagation")


def split_by_propagation(
    small: CompactNetwork, rows: IntArray, confirm: Callable[[Array], Array | None], stop: float
) -> Decision | None:
    """Whether some outputs of a compact network can all be at most 0; None where propagation leads nowhere soon.

    Arguments:
        rows: The outputs.
        confirm: Polishes points and returns one that the original confirms, or None.
        stop: Wall-clock time to stop at (`time.perf_counter`).
    """
    K, n = small.C.shape
    if not K:
        return None
    box, high = small.input_set.box(), np.maximum(small.upper, 0.0)
    reach = np.maximum(np.abs(box.lower), np.abs(box.upper))
    X, H, c = small.X[rows], small.H[rows], small.c[rows]
    size = np.abs(small.C) @ reach + np.abs(small.W) @ high + np.abs(small.b)
    out_size = np.abs(X) @ reach + np.abs(H) @ high + np.abs(c)
    stack = np.zeros((min(K, _DEEP) + 2, 2 * (n + K)))
    stack[0] = np.concatenate([box.lower, box.upper, small.lower, small.upper])
    info, closed, split = np.zeros(2, np.int64), np.zeros(len(stack) + 1), np.full(len(stack), -1)
    closed[1] = 1.0
    arrays = (_rows(small.C), _rows(small.W), small.b, X, H, c, small.error, small.output_error[rows], size, out_size)
    go = lambda budget: run(*arrays, 2.0 * gamma(n + K + 20), small.upper - small.lower, stack, info, closed, split, budget)
    go(0)  # compiled before the time counts
    began = time.perf_counter()
    while (now := time.perf_counter()) < stop:
        code = go(_FIRST)
        if code == DONE:
            return Decision("unsat", None, int(info[1]), "propagation")
        node = stack[info[0]]
        zl, zu = node[2 * n : 2 * n + K], node[2 * n + K :]
        if code == LEAF:
            x = 0.5 * (node[:n] + node[n : 2 * n])
            held = np.where(zl >= 0, ON, np.where(zu <= 0, OFF, 0)).astype(np.int8)
            hit = confirm(x[None])
            found = (
                split_by_programs(
                    small, np.eye(len(small.c))[rows], np.zeros(len(rows)), held, confirm, stop, _PROGRAMS
                )
                if hit is None
                else Decision("sat", hit, 0, "")
            )
            if found.status == "sat":
                return Decision("sat", found.point, int(info[1]), "propagation")
            if found.status != "unsat":
                return None
            closed[0] += closed[1 + info[0]]
            info[0] -= 1
        decided = np.sum((zl >= 0) | (zu <= 0))
        if closed[0] == 0.0 and decided < _FOLLOWS * info[0]:
            return None
        spent, left = now - began, stop - now
        share = _LONG if decided >= _FIRMLY * info[0] else _TRIED
        if spent > share * (spent + left) and spent * (1.0 - closed[0]) > _LEFT * left * closed[0]:
            return None
    return None
