"""A compact network made smaller by tighter bounds of its gates."""

from dataclasses import replace

import numpy as np

from relukit._numerics import gamma
from relukit._types import Array, IntArray
from relukit.bounds._compact import CompactNetwork


def shrink(small: CompactNetwork, lower: Array, upper: Array) -> tuple[CompactNetwork, IntArray]:
    """Fold gates that tighter bounds show to be always on, and drop those that are always off.

    Arguments:
        small: Any compact network.
        lower, upper: Bounds of its gates' z over the same set, shape `(K,)`.

    Returns:
        The smaller network, equal to `small` on the set, and the numbers of the gates that it keeps.
    """
    on = lower >= 0
    keep = ~on & (upper > 0)
    K, n, kept = small.gates, small.C.shape[1], np.flatnonzero(keep)
    if len(kept) == K:
        return replace(small, lower=lower, upper=upper), kept
    box = small.input_set.box()
    reach, h = np.maximum(np.abs(box.lower), np.abs(box.upper)), np.maximum(upper, 0.0)
    order = np.flatnonzero(on)
    # Values of the gates that are always on, over x and the kept gates.
    X, H, c = np.zeros((len(order), n)), np.zeros((len(order), len(kept))), np.zeros(len(order))
    error, size = np.zeros(len(order)), np.zeros(len(order))
    done = 0
    for first, last in blocks(small):
        mine = order[(order >= first) & (order < last)]
        if not len(mine):
            continue
        before = order[:done]
        part = _fold(
            (small.C[mine], small.W[mine], small.b[mine], small.error[mine]),
            (X[:done], H[:done], c[:done], error[:done], size[:done]),
            before,
            kept,
            reach,
            h,
        )
        rows = slice(done, done + len(mine))
        X[rows], H[rows], c[rows], error[rows], size[rows] = part
        done += len(mine)
    folded = (X, H, c, error, size)
    gates = _fold((small.C[kept], small.W[kept], small.b[kept], small.error[kept]), folded, order, kept, reach, h)
    outputs = _fold((small.X, small.H, small.c, small.output_error), folded, order, kept, reach, h)
    new = CompactNetwork(
        gates[0], gates[1], gates[2], outputs[0], outputs[1], outputs[2], lower[kept], upper[kept],
        gates[3], outputs[3], small.units[kept], small.input_set,
    )  # fmt: skip
    return new, kept


def blocks(small: CompactNetwork) -> list[tuple[int, int]]:
    """Runs of gates that do not read each other: those of one activation node."""
    starts = np.flatnonzero(np.diff(small.units[:, 0], prepend=-1)) if small.gates else np.zeros(0, int)
    return list(zip(starts.tolist(), [*starts[1:].tolist(), small.gates]))


def _fold(
    rows: tuple[Array, Array, Array, Array], folded: tuple, order: IntArray, kept: IntArray, reach: Array, h: Array
) -> tuple[Array, Array, Array, Array, Array]:
    """Rows over (x, all gates) as rows over (x, kept gates): slopes, constants, errors, and sums of magnitudes."""
    C, W, b, error = rows
    X, H, c, folded_error, folded_size = folded
    V = W[:, order]
    terms = gamma(len(order) + 2)
    size = np.abs(C) @ reach + np.abs(W[:, kept]) @ h[kept] + np.abs(b) + np.abs(V) @ folded_size
    new_error = 1.01 * (error + np.abs(V) @ folded_error + (terms * size if len(order) else 0.0))
    return C + V @ X, W[:, kept] + V @ H, b + V @ c, new_error, size
