"""Bounds of gates that hold wherever a counterexample can be: at points where the rows of a claim are at most 0.

There a gate's z is at least the least of z + t row, for any t >= 0: a row like others, but it reads all gates, also those behind z. The number t is
moved by the row's value at the minimizer, as slopes are by the values of gates. The nearer a claim is to being proven the less of the set is
left, and the more this gives: bounds of gates and of the row make each other better, sweep by sweep.

References:
    Provably Bounding Neural Network Preimages, Kotha, Brix, Kolter, Dvijotham, Zhang, 2023.
"""

import time

import numpy as np

from relukit._numerics import gamma
from relukit._types import Array, IntArray
from relukit.bounds import CompactNetwork
from relukit.bounds._shrink import shrink
from relukit.search._dual import Dual, Rows
from relukit.search._graph import Graph, compacted

_SWEEPS = 8
_GAINED = 0.03  # of the gap: a sweep that gains less is the last
_STEPS, _RATE, _DECAY = 20, 0.25, 0.97
# t in units of a gate's width over the row's gap: where it begins, and what a step is measured in.
_FIRST, _UNIT = 0.03, 0.3
_PORTION = 256  # rows at a time
_LEAST = 1e-12


def network_where(
    searched: CompactNetwork | Graph, mine: IntArray, until: float, stop: float
) -> CompactNetwork | Graph | None:
    """The network with bounds that hold where some outputs are all at most 0; None where no such point is left.

    Arguments:
        until: When to stop at (`time.perf_counter`).
        stop: When the whole question ends: a graph whose matrices take too much of that stays as it is.
    """
    if not isinstance(searched, Graph):
        lower, upper, empty = bounds_where(searched, mine, until)
        return None if empty else shrink(searched, lower, upper)[0]
    small = compacted(searched, stop)
    if small is None:
        return searched
    lower, upper, empty = bounds_where(small, mine, until)
    at = searched.numbers(small.units)
    low, high = np.full(searched.gates, -np.inf), np.full(searched.gates, np.inf)
    low[at], high[at] = lower, upper
    return None if empty else searched.tighter(low, high)


def bounds_where(small: CompactNetwork, mine: IntArray, stop: float) -> tuple[Array, Array, bool]:
    """Bounds of every gate that hold where some outputs are all at most 0, and whether no such point is left.

    Arguments:
        small: A compact network.
        mine: Numbers of the outputs.
        stop: Wall-clock time to stop at (`time.perf_counter`); bounds known by then are returned.
    """
    lower, upper, place = small.lower.copy(), small.upper.copy(), np.arange(small.gates)
    before = -np.inf
    for _ in range(_SWEEPS):
        dual = Dual(small)
        row, level = joint_row(dual, mine)
        if level > 0:
            return lower, upper, True
        if level < (1 - _GAINED) * before or not small.gates or time.perf_counter() > stop:
            break
        before = level
        if not _sweep(dual, row, -level, stop):
            return lower, upper, True
        lower[place], upper[place] = dual.lower, dual.upper
        small, kept = shrink(small, dual.lower, dual.upper)
        place = place[kept]
    return lower, upper, False


def joint_row(dual: Dual, mine: IntArray) -> tuple[Rows, float]:
    """The sum of the outputs whose bound is best, and that bound."""
    rows = dual.output_rows()[mine]
    P, S = dual.start(1)
    found = dual.bound(rows, P, S, 30, np.full((1, len(mine)), 1 / len(mine)))
    return rows.weighed(found.weights) if found.weights is not None else rows, float(found.bound[0])


def _sweep(dual: Dual, row: Rows, gap: float, stop: float) -> bool:
    """Bounds of all undecided gates where the row is at most 0, taken over block by block; False where they leave no point."""
    began, done, undecided = time.perf_counter(), 0, int((dual.phase == 0).sum())
    for first, last in dual.blocks:
        gates = first + np.flatnonzero(dual.phase[first:last] == 0)
        lower, upper = dual.lower.copy(), dual.upper.copy()
        for k in range(0, len(gates), _PORTION // 2):
            spent = time.perf_counter() - began
            if done and spent * (undecided - done) > (stop - time.perf_counter()) * done:  # it would not end in time
                return True
            some = gates[k : k + _PORTION // 2]
            rows, P = leaning(dual, some, row, gap)
            bound = dual.certify(rows, P, dual.start(len(rows))[1]).bound
            lower[some] = np.maximum(lower[some], bound[: len(some)])
            upper[some] = np.minimum(upper[some], -bound[len(some) :])
            done += len(some)
        if np.any(lower > upper):
            return False
        dual.set_bounds(lower, upper)
    return True


def leaning(dual: Dual, gates: IntArray, row: Rows, gap: float) -> tuple[Rows, Array]:
    """For `+z` of gates and then for `-z` the sum `z + t row` whose bound is best, with its parameters.

    Arguments:
        row: A row that is at most 0 where bounds are asked for.
        gap: How far below 0 it is known to reach at most.
    """
    f, z = np.float32, dual.gate_rows(gates)
    P, S = dual.start(len(z))
    unit = (np.tile(dual.upper[gates] - dual.lower[gates], 2) / max(gap, _LEAST)).astype(f)
    X0, H0, c0, X1, H1, c1 = (a.astype(f) for a in (z.X, z.H, z.c, row.X[0], row.H[0], row.c[0]))
    t, m, v = f(_FIRST) * unit, np.zeros(len(z), f), np.zeros(len(z), f)
    best, best_t, best_P = np.full(len(z), -np.inf, f), t, P.copy()
    M1, M2 = np.zeros_like(P), np.zeros_like(P)
    for k in range(_STEPS + 1):
        A, M, value, largest = dual._backward(H0 + t[:, None] * H1, c0 + t * c1, P, S)
        value, D = dual._at_input(X0 + t[:, None] * X1, M, value)
        better = value > best
        best, best_t = np.where(better, value, best), np.where(better, t, best_t)
        best_P[better] = P[better]
        if k == _STEPS:
            break
        rate = _RATE * _DECAY**k
        H = dual._step(A, P, S, D, M1, M2, largest, k, rate, 0.6 * rate)
        at = D @ X1 + H @ H1 + c1  # the row where z + t row is least
        m, v = 0.9 * m + 0.1 * at, 0.999 * v + 0.001 * at * at
        step = m / (1 - 0.9 ** (k + 1)) / (np.sqrt(v / (1 - 0.999 ** (k + 1))) + 1e-30)
        t = np.maximum(t + (_UNIT * rate) * unit * step, 0).astype(f)
    exact = best_t.astype(np.float64)
    many, size = exact[:, None], z.size + exact * row.size[0]
    error = 1.01 * (z.error + exact * row.error[0] + gamma(3) * size)
    return Rows(z.X + many * row.X, z.H + many * row.H, z.c + exact * row.c[0], error, size), best_P
