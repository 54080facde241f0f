"""Rows that sharpen big-M: each gate's sum is cut into parts, and every part is told apart by phase."""

from typing import Any, NamedTuple

import numpy as np

from relukit._types import Array

PARTS = 2  # of each gate's sum: the authors find 2 to 4 best, more only make the program larger


class Partition(NamedTuple):
    """Further columns (the parts' values while the gate is off) and rows over (x, h, parts, phases)."""

    lower: Array
    upper: Array
    rows: Any
    row_lower: Array
    row_upper: Array
    labels: list[str]


def partition(C: Array, W: Array, b: Array, lower: Array, upper: Array, top: Array, parts: int = PARTS) -> Partition:
    r"""The partition-based formulation, to be added to big-M rows.

    With :math:`t_p` the p-th part of :math:`z - b` and :math:`a_p` its value while the gate is off,

    :math:`\sum_p a_p + b (1 - d) \le 0 \le \sum_p (t_p - a_p) + b d = h`, and
    :math:`l_p (1 - d) \le a_p \le u_p (1 - d)`, :math:`l_p d \le t_p - a_p \le u_p d`.

    One part is big-M again, one part for each term the convex hull.

    Arguments:
        C, W, b: Gates :math:`z = C x + W h + b`, shapes `(K, n)`, `(K, K)`, `(K,)`.
        lower, upper: The box of x.
        top: Largest h of each gate.

    References:
        Partition-Based Formulations for Mixed-Integer Optimization of Trained ReLU Neural Networks, Tsay, Kronqvist, Thebelt, Misener, 2021.
    """
    import scipy.sparse as sp

    K, n = C.shape
    weights = np.concatenate([C, W], axis=1)
    low, high = np.concatenate([lower, np.zeros(K)]), np.concatenate([upper, top])
    masks = []
    for k in range(K):
        used = np.flatnonzero(weights[k])
        used = used[np.argsort(weights[k, used], kind="stable")]  # terms of like weight together, as the authors advise
        for piece in np.array_split(used, parts):
            mask = np.zeros(n + K)
            mask[piece] = weights[k, piece]
            masks.append(mask)
    T = np.array(masks).reshape(K * parts, n + K)
    ends_low = np.minimum(T * low, T * high).sum(axis=1)
    ends_high = np.maximum(T * low, T * high).sum(axis=1)
    # A little room for the rounding of these sums: the rows must not cut off true points.
    room = 1e-12 * np.maximum(np.abs(T) @ np.maximum(np.abs(low), np.abs(high)), 1e-300)
    ends_low, ends_high = ends_low - room, ends_high + room
    t = sp.csr_matrix(T)
    eye, total = sp.identity(K * parts), sp.kron(sp.identity(K), np.ones((1, parts)))
    phase = sp.kron(sp.identity(K), np.ones((parts, 1)))  # the gate of each part
    gate = sp.hstack([sp.csr_matrix((K, n)), sp.identity(K)])
    none, inf = np.zeros(K * parts), np.full(K * parts, np.inf)
    D = lambda values: sp.diags(values) @ phase
    rows = [
        (sp.hstack([sp.csr_matrix((K, n + K)), total, -sp.diags(b)]), np.full(K, -np.inf), -b, "part_off"),
        (sp.hstack([total @ t - gate, -total, sp.diags(b)]), np.zeros(K), np.zeros(K), "part_on"),
        (sp.hstack([sp.csr_matrix((K * parts, n + K)), eye, D(ends_low)]), ends_low, inf, "part_a"),
        (sp.hstack([sp.csr_matrix((K * parts, n + K)), eye, D(ends_high)]), -inf, ends_high, "part_b"),
        (sp.hstack([t, -eye, -D(ends_low)]), none, inf, "part_c"),
        (sp.hstack([t, -eye, -D(ends_high)]), -inf, none, "part_d"),
    ]
    labels = [f"{label}{k}" for _, side, _, label in rows for k in range(len(side))]
    return Partition(
        np.minimum(ends_low, 0.0), np.maximum(ends_high, 0.0), sp.vstack([r[0] for r in rows]).tocsr(),
        np.concatenate([r[1] for r in rows]), np.concatenate([r[2] for r in rows]), labels,
    )  # fmt: skip
