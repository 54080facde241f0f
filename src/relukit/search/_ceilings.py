"""Leaves of a tree over gates where every gate enters by its line below: what a counterexample must obey there, as rows of its own.

Such a leaf's bound is a constant b < 0 that no split of a gate it reads improves at once: the relaxation reaches it where all of these gates are off.
But row >= b + A_k h_k holds for each of them (its slope being 0, its coefficient A_k > 0), so that the row is at most 0 only where
z_k <= -b / A_k. The relaxation of these z_k reads the gates before, and a tree over sums of them closes the leaf.
"""

import time

import numpy as np

from relukit._numerics import gamma, up
from relukit.search._dual import Dual, Rows
from relukit.search._forest import Forest

_STEPS = 200
_WIDTH = 64  # leaves that are split at once


def ceilings(dual: Dual, rows: Rows, phases: np.ndarray) -> tuple[float, Rows]:
    """The leaf's bound (above 0: closed), and rows that are at most 0 wherever all given ones are: these and one for each such gate.

    Arguments:
        rows: Rows over the gates of the dual.
        phases: Of the leaf's gates, 0 where they are not held, shape `(K,)`.
    """
    P, _ = dual.start(1)
    weights = np.full((1, len(rows)), 1 / len(rows))
    found = dual.bound(rows, np.where(phases == 0, P, 0).astype(P.dtype), phases[None], _STEPS, weights, rate=0.1, rate_fixed=0.1)  # fmt: skip
    low, A = float(found.bound[0]), found.coefficients[0]
    gates = np.flatnonzero((phases == 0) & (A > 0) & (found.P[0] == 0))
    if low > 0 or not np.isfinite(low):
        return low, rows
    most = up(-low / A[gates])
    gates, most = gates[most < dual.upper[gates]], most[most < dual.upper[gates]]
    n, z = len(gates), dual.gate_rows(gates)
    both = lambda a, b: np.concatenate([a, b[:n]])
    error = z.error[:n] + gamma(2) * (np.abs(z.c[:n]) + most)
    more = Rows(
        both(rows.X, z.X), both(rows.H, z.H), np.concatenate([rows.c, z.c[:n] - most]), np.concatenate([rows.error, error]),
        np.concatenate([rows.size, z.size[:n] + most]),
    )  # fmt: skip
    return low, more


def closed_by_ceilings(dual: Dual, rows: Rows, phases: np.ndarray, stop: float) -> tuple[bool, int]:
    """Whether no point of a leaf has all rows at most 0, as far as a tree over the ceilings of its gates shows; and its nodes."""
    low, more = ceilings(dual, rows, phases)
    if low > 0 or len(more) == len(rows):
        return low > 0, 1
    tree = Forest(dual, more, dual.K, joint=True)
    tree.plant(_STEPS, phases=phases)
    nodes = 0
    while (tree.leaves or tree.ends) and time.perf_counter() < stop:
        while tree.ends:
            end = tree.ends.pop()[2]
            closed, added = (False, 0) if np.array_equal(end, phases) else closed_by_ceilings(dual, more, end, stop)
            nodes += added
            if not closed:
                return False, tree.nodes + nodes
        if tree.leaves:
            tree.grow(1, 10, stop, width=_WIDTH, look_ahead=True)
    return not (tree.leaves or tree.ends), tree.nodes + nodes
