"""Rows that are positive multiples of earlier rows: units that do the work of others."""

import numpy as np

from relukit._types import Array
from relukit.network import Network

EXACT = 1e-12  # of the largest entry: above what folding in float64 loses, far below what training makes apart
SINGLE = 2.0**-23  # of the largest entry: two rows that were multiples before both were stored in float32


def closeness(network: Network) -> float:
    """How near two rows of a network have to be to count as multiples: as near as the precision it is stored in can tell."""
    return SINGLE if network.dtype == np.float32 else EXACT


def multiples(rows: Array, within: float = EXACT) -> list[tuple[int, int, float]]:
    """Rows that are a positive multiple of an earlier one, as `(row, earlier row, factor)`; rows of zeros are none.

    Arguments:
        rows: Shape `(count, n)`.
        within: How far from the multiple each entry may be, of the largest entry.

    Rows are scaled to largest entry 1 and sorted by one random sum of their entries; only neighbors there are compared.
    """
    sizes = np.abs(rows).max(axis=1, initial=0)
    used = np.flatnonzero(sizes > 0)
    if len(used) < 2:
        return []
    mix = np.random.default_rng(0).uniform(
        0.5, 1.5, rows.shape[1]
    )  # fixed: which rows are compared must not change from run to run
    unit = rows[used] / sizes[used, None]
    place = unit @ mix
    apart = (4 * within + 1e-13) * (np.abs(unit) @ mix)
    order = np.argsort(place, kind="stable")
    cuts = np.flatnonzero(np.diff(place[order]) > np.maximum(apart[order[:-1]], apart[order[1:]])) + 1
    found = []
    for group in np.split(used[order], cuts):
        first: list[int] = []  # rows of the group that are multiples of none
        for i in np.sort(group).tolist() if len(group) > 1 else ():
            for j in first:
                factor = _factor(rows[i], rows[j], within)
                if factor:
                    found.append((i, j, factor))
                    break
            else:
                first.append(i)
    return sorted(found)


def _factor(row: Array, other: Array, within: float) -> float:
    """The factor of a row beside another, 0 if there is none."""
    p = int(np.argmax(np.abs(other)))
    for factor in (row[p] / other[p], (row @ other) / (other @ other)):
        if factor > 0 and np.isfinite(factor) and np.abs(row - factor * other).max() <= within * np.abs(row).max():
            return float(factor)
    return 0.0


def only_rounded(row: Array, other: Array, factor: float) -> bool:
    """Whether a row is a multiple of another up to the rounding of float32 only."""
    return bool(np.abs(row - factor * other).max() > EXACT * np.abs(row).max())


def rounding(factor: float) -> float:
    """Relative error of a product with a factor: none for powers of two."""
    return 0.0 if np.frexp(factor)[0] == 0.5 else 2.0**-53


def added(weights: Array, more: Array, factor: float) -> tuple[Array, Array]:
    """`weights + factor more`, and how far each entry is from the exact sum (Knuth's two-sum)."""
    moved = factor * more
    total = weights + moved
    part = total - weights
    lost = np.abs((weights - (total - part)) + (moved - part))
    return total, lost + rounding(factor) * np.abs(moved)
