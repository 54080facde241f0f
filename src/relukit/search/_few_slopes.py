"""Slopes of the lines below undecided gates: row by row, improved a step in each box and handed down to its halves.

For one box the best slopes of all rows would take many passes; but a box's halves differ little from it, so that one step in each box
follows them down the tree. The step takes a plane between gate j's own two for its value along the row's lines, which spares a forward pass.

Columns `2 k` and `2 k + 1` of a block `(K, stride)` belong to the bounds below and above of gate k, column `2 K + r` to output row r;
row j to the gate whose line it is.
"""

from relukit._lanes import every, larger, load, smaller, spread, store, where_above
from relukit._numba import njit
from relukit.search._few_net import copy_runs

SURE = 2.0  # a slope is at least 1 - SURE |L| / U and at most SURE U / |L|: gates that are nearly stable are nearly certain of theirs
STEP = 2.0  # a step in units of value / (U - L)
# The plane lies so far up from the gate's plane below to the one above: a row that meets the gate with a positive coefficient seeks its small
# values, but not the least of them. At 0 the trees of hard questions have a quarter more boxes, at 0.5 some have several times as many.
RISE = 0.3
ROUNDS = 3  # steps in a box that inherits nothing


@njit(cache=True, nogil=True)
def usual(K, stride, L, U, below):
    """The slopes that leave the smaller triangle, for every row."""
    for j in range(K):
        s = 1.0 if U[j] > -L[j] else 0.0
        for r in range(0, stride, 8):
            store(below, j * stride + r, spread(s))


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def improve(T, below, stride, at, hi, n, S0, height, corner, keep):
    """A step of the slopes below of the gates before `hi` towards those that are best where each row of a block is least.

    The bound of a row that met gate j with coefficient v > 0 changes by v z for each unit of the slope, z being the gate's value along the lines
    at the row's minimizer: a plane between the gate's own two (`height`) stands for it. `corner` holds the minimizers.
    """
    across, zero, one = height.shape[1], spread(0.0), spread(1.0)
    for j in range(hi):
        place, h = j * stride + at, j * across
        z = every(height, h + n)
        for i in range(n):
            z = z + load(corner, 8 * i) * every(height, h + i)
        s = load(below, place)
        y = s + where_above(load(T, 8 * (S0 + j)), zero, z, zero)
        store(below, place, where_above(keep, zero, smaller(larger(y, zero), one), s))


@njit(cache=True, nogil=True)
def inherit(K, R, stride, old, index, runs, stretches, k2, stride2, below):
    """The slopes of the gates that a smaller net keeps (`shrink` tells their new numbers and stretches); works in place, and leaves columns beyond R as they are."""
    begin = 0
    for j in range(K):
        if index[j] < 0:
            continue
        while begin < stretches and runs[begin, 0] + runs[begin, 2] <= j + 1:
            begin += 1
        from_, to = j * stride, index[j] * stride2
        copy_runs(old, from_, below, to, 2, runs, begin, stretches)
        for r in range(R):
            below[to + 2 * k2 + r] = old[from_ + 2 * K + r]
