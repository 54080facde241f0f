"""Slopes of the lines below undecided gates: row by row, improved a step in each box and handed down to its halves.

For one box the best slopes of all rows would take many passes; but a box's halves differ little from it, so that one step in each box
follows them down the tree. The step takes gate j's own plane below it for its value along the row's lines, which spares a forward pass.

Rows `2 k` and `2 k + 1` of a block belong to the bounds below and above of gate k, row `2 K + r` to output row r; column j to gate j.
"""

from relukit._numba import njit

SURE = 2.0  # a slope is at least 1 - SURE |L| / U and at most SURE U / |L|: gates that are nearly stable are nearly certain of theirs
STEP = 4.0  # a step in units of value / (U - L)
ROUNDS = 3  # steps in a box that inherits nothing


@njit(cache=True, nogil=True)
def usual(K, rows, L, U, below):
    """The slopes that leave the smaller triangle, for every row."""
    for r in range(rows):
        for j in range(K):
            below[r, j] = 1.0 if U[j] > -L[j] else 0.0


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def improve(T, count, below, which, hi, n, S0, height, corner, c):
    """A step of the slopes below of the gates before `hi` towards those that are best where each row is least.

    The bound of a row that met gate j with coefficient v > 0 changes by v z for each unit of the slope, z being the gate's value along the lines
    at the row's minimizer: the plane below the gate (`height`) stands for it.
    """
    for r in range(count):
        x0 = corner[r, 0]
        for j in range(hi):
            c[j] = height[n, j] + x0 * height[0, j]
        for i in range(1, n - 1, 2):
            x1, x2 = corner[r, i], corner[r, i + 1]
            for j in range(hi):
                c[j] += x1 * height[i, j] + x2 * height[i + 1, j]
        if n % 2 == 0:
            x0 = corner[r, n - 1]
            for j in range(hi):
                c[j] += x0 * height[n - 1, j]
        a = which[r]
        for j in range(hi):
            w = 1.0 if T[r, S0 + j] > 0.0 else 0.0
            y = below[a, j] + w * c[j]
            y = y if y > 0.0 else 0.0
            below[a, j] = y if y < 1.0 else 1.0


@njit(cache=True, nogil=True)
def inherit(K, R, old, index, k2, below):
    """The slopes of the gates that a smaller net keeps; works in place, and leaves rows beyond R as they are."""
    for r in range(2 * K + R):
        if r < 2 * K:
            at = index[r // 2]
            if at < 0:
                continue
            to = below[2 * at + r % 2]
        else:
            to = below[2 * k2 + r - 2 * K]
        from_ = old[r]
        for j in range(K):
            if index[j] >= 0:
                to[index[j]] = from_[j]
