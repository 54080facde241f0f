"""Bounds of a network's slopes over a box, and its Lipschitz constant there."""

import time
from typing import Any

import numpy as np

from relukit._errors import InvalidInput
from relukit._numerics import gamma
from relukit._types import Array
from relukit.bounds import compact
from relukit.network import Network, load
from relukit.network._nodes import Affine
from relukit.sets import Box, require_set
from relukit.verification._verdict import Interval


def slopes(network: Any, box: Box, A: Array | None = None) -> tuple[Array, Array]:
    """Bounds of every slope of rows `A y` over a box, shape `(rows, inputs)`: no piece in the box has one outside."""
    low, high, _ = _slopes(load(network), box, A)
    return low, high


_PATTERNS = 9  # with at most so many open gates every pattern is taken by itself


def _slopes(network: Network, box: Box, A: Array | None = None) -> tuple[Array, Array, Array | None]:
    """Bounds of slopes; and where few gates are open the slopes of every pattern `(patterns, rows, inputs)`.

    Otherwise each open gate contributes a factor in [0, 1]: interval sums from the outputs back. Rounded outward.
    """
    network.require_piecewise_linear("slopes")
    A = np.eye(network.outputs) if A is None else np.atleast_2d(np.asarray(A, float))
    small = compact(network, box)
    K = small.gates
    # Folding rounds weights themselves: how far is part of the magnitude of what was multiplied.
    slack = gamma(4 * network.units + network.inputs + 8 * len(network) + 8) * _weight_size(network, A)
    base = A @ small.X
    if K <= _PATTERNS:
        on = (np.arange(1 << K)[:, None] >> np.arange(K)) & 1
        h = np.zeros((1 << K, K, network.inputs))
        for k in range(K):
            h[:, k] = on[:, k, None] * (small.C[k] + np.einsum("j,pji->pi", small.W[k, :k], h[:, :k]))
        S = base + np.einsum("rk,pki->pri", A @ small.H, h)
        return S.min(axis=0) - slack, S.max(axis=0) + slack, S
    low, high = A @ small.H, A @ small.H
    base_low, base_high = base.copy(), base.copy()
    for k in range(K - 1, -1, -1):
        l, h = np.minimum(low[:, k], 0.0), np.maximum(high[:, k], 0.0)  # times the gate's slope in [0, 1]
        row, side = small.W[k, :k], small.C[k]
        low[:, :k] += np.where(row >= 0, l[:, None] * row, h[:, None] * row)
        high[:, :k] += np.where(row >= 0, h[:, None] * row, l[:, None] * row)
        base_low += np.where(side >= 0, l[:, None] * side, h[:, None] * side)
        base_high += np.where(side >= 0, h[:, None] * side, l[:, None] * side)
    return base_low - slack, base_high + slack, None


def _weight_size(network: Network, A: Array) -> Array:
    """|A| times the product of all |W|: what rounding of folded weights is measured by."""
    sizes: dict[int, Array] = {len(network) - 1: np.abs(A)}
    for i in range(len(network) - 1, 0, -1):
        v, node = sizes.pop(i, None), network.nodes[i]
        if v is None:
            continue
        for k, j in enumerate(node.inputs):
            op = node.op
            part = op.maps[k].absolute().adjoint(v) if isinstance(op, Affine) else v * op.lipschitz()
            sizes[j] = sizes[j] + part if j in sizes else part
    return sizes.get(0, np.zeros((len(A), network.inputs)))


def _operator_norm(S: Array, norm: float) -> float:
    """The largest operator norm of matrices; larger entries in size never make it smaller than that of the matrix of sizes."""
    if norm == 2:
        return float(np.linalg.norm(S, 2, axis=(-2, -1)).max())
    return float(np.max(np.abs(S).sum(axis=-1 if norm == np.inf else -2)))


def lipschitz(network: Any, box: Box, norm: float = np.inf, tolerance: float = 1e-3, timeout: float = 60.0) -> Interval:
    r"""The smallest L with :math:`\|f(x) - f(x')\|_p \le L \|x - x'\|_p` on a box, p = 1, 2 or inf: between bounds.

    The largest slope met at samples is a lower bound; above, the box is halved where slopes are least decided, best first.
    On a convex box the constant is the largest operator norm of a piece's slopes.

    References:
        Exactly Computing the Local Lipschitz Constant of ReLU Networks, Jordan and Dimakis, 2020.
    """
    import heapq
    import itertools

    if norm not in (1, 2, np.inf):
        raise InvalidInput(f"norm must be 1, 2 or inf, got {norm}")
    require_set(box, "box")
    found = load(network)
    started, stop, count = time.process_time(), time.perf_counter() + timeout, itertools.count()
    measure = lambda S: _operator_norm(S, norm)

    def bound(part: Box) -> float:
        low, high, patterns = _slopes(found, part)
        top = measure(np.maximum(np.abs(low), np.abs(high)))
        if patterns is not None:
            room = measure(np.maximum(high - patterns.max(axis=0), patterns.min(axis=0) - low))
            top = min(top, measure(patterns) + 2 * room)
        rounding = 1e-15 * (found.inputs + found.outputs) * (100 if norm == 2 else 1)  # singular values take more steps
        return float(np.nextafter(top * (1 + rounding), np.inf))

    best, at = 0.0, box.center()

    def sample(part: Box, many: int) -> None:
        nonlocal best, at
        for x in part.sample(many, next(count)):
            S = np.stack([found.gradient(x, row) for row in np.eye(found.outputs)])
            if measure(S) > best:
                best, at = measure(S), x

    sample(box, 64)
    heap = [(-bound(box), next(count), box)]
    done = 1
    while heap and -heap[0][0] > best * (1 + tolerance) and time.perf_counter() < stop:
        top, _, part = heapq.heappop(heap)
        side = int(np.argmax(part.upper - part.lower))
        middle = 0.5 * (part.lower[side] + part.upper[side])
        if not part.lower[side] < middle < part.upper[side]:
            heapq.heappush(heap, (top, next(count), part))
            break
        for a, b in ((part.lower[side], middle), (middle, part.upper[side])):
            lower, upper = part.lower.copy(), part.upper.copy()
            lower[side], upper[side] = a, b
            half = Box(lower, upper)
            done += 1
            value = min(bound(half), -top)
            if value > best:
                sample(half, 2)
                heapq.heappush(heap, (-value, next(count), half))
    limit = max(-heap[0][0], best) if heap else best
    return Interval(best, limit, limit <= best * (1 + tolerance), at, done, time.process_time() - started)
