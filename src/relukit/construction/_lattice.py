"""Which affine pieces lie above which on a cell: the groups of a max-min form."""

from fractions import Fraction

from relukit.construction._pieces import Corner, split

Form = tuple[Fraction, ...]


def solve(rows: list[list[Fraction]], right: list[list[Fraction]]) -> list[list[Fraction]]:
    """The solution of `rows X = right` by Gauss elimination; the matrix is square and regular."""
    n = len(rows)
    work = [[*a, *b] for a, b in zip(rows, right)]
    for k in range(n):
        pivot = next(i for i in range(k, n) if work[i][k] != 0)
        work[k], work[pivot] = work[pivot], work[k]
        scale = work[k][k]
        work[k] = [v / scale for v in work[k]]
        for i in range(n):
            if i != k and work[i][k] != 0:
                factor = work[i][k]
                work[i] = [a - factor * b for a, b in zip(work[i], work[k])]
    return [row[n:] for row in work]


def terms(cells: list[list[Corner]], forms: list[Form], mine: list[int] | None = None) -> list[list[int]]:
    r"""Groups for :math:`f = \max_i \min_{j \in groups_i} l_j`, where f equals form `mine[k]` on cell k.

    A cell on which some :math:`l_j` crosses its own piece is cut there first; then every :math:`l_j` lies above or below on all
    of it. Along the segment from a point of the cell to any x there is a piece that starts above the cell's own and
    ends at most at f(x), so the minimum over the pieces above never exceeds f. Groups that contain another group add nothing.

    Arguments:
        cells: Convex cells; together with regions where f is 0 (hats) or by themselves they fill a convex set.
        forms: Distinct affine pieces `(g_1, ..., g_n, c)`.

    References:
        General constructive representations for continuous piecewise-linear functions, Wang, 2004.
    """
    found: set[frozenset[int]] = set()
    for k, corners in enumerate(cells):
        own = k if mine is None else mine[k]
        found |= _groups(corners, forms, own, [j for j in range(len(forms)) if j != own], frozenset([own]))
    kept: list[frozenset[int]] = []
    for group in sorted(found, key=lambda g: (len(g), sorted(g))):
        if not any(other <= group for other in kept):
            kept.append(group)
    return [sorted(g) for g in kept]


def _groups(
    corners: list[Corner], forms: list[Form], own: int, open_: list[int], above: frozenset[int]
) -> set[frozenset[int]]:
    for at, j in enumerate(open_):
        row = whole([a - b for a, b in zip(forms[j], forms[own])])
        low, high = split(corners, row, -1 - j)
        if low is None or not any(row):  # above on all of the cell, or the same piece
            above = above | {j}
        elif high is not None:
            rest = open_[at + 1 :]
            return _groups(low, forms, own, rest, above) | _groups(high, forms, own, rest, above | {j})
    return {above}


def whole(row: list[Fraction]) -> tuple[int, ...]:
    """The same hyperplane with whole numbers."""
    denominator = 1
    for v in row:
        denominator = denominator * v.denominator // _gcd(denominator, v.denominator)
    return tuple(int(v * denominator) for v in row)


def _gcd(a: int, b: int) -> int:
    while b:
        a, b = b, a % b
    return a
