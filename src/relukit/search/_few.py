"""Decide or optimize over a box by splitting inputs: the compiled engine and its driver."""

import time
from typing import Any

import numpy as np

from relukit._numerics import gamma
from relukit._types import Array
from relukit.bounds import CompactNetwork, compact, linear
from relukit.network import Network
from relukit.search._attack import gradient_attack, representable, sampling_attack
from relukit.search._decision import Decision
from relukit.sets import Box

_STACK = 1500  # boxes waiting at once: one per level of the tree, and no tree is deeper than 400
_INPUTS = 12  # above this many moving inputs gates are split instead
_GATES = 4000  # above this the dense compact form is too large


class Engine:
    """The stack of boxes and nets of one search, in flat arrays that the kernel works on."""

    def __init__(self, small: CompactNetwork, box: Box, maximize: bool = False) -> None:
        K, n, R = small.gates, small.C.shape[1], len(small.c)
        self.n, self.R, self.K = n, R, K
        self.gamma = gamma(K + n + 8)
        reach_x, reach_h = np.maximum(np.abs(box.lower), np.abs(box.upper)), np.maximum(small.upper, 0)
        size = np.abs(small.W) @ reach_h + np.abs(small.C) @ reach_x + np.abs(small.b)
        out_size = np.abs(small.H) @ reach_h + np.abs(small.X) @ reach_x + np.abs(small.c)
        loose, o_loose = small.error + self.gamma * size, small.output_error + self.gamma * out_size
        parts = [small.C, small.W, small.b, loose, small.H, small.X, small.c, o_loose]
        self.nets = np.zeros(6 * K * K + 12 * K * (n + R + 4) + 500 * (R * n + 2 * R) + 100)
        flat = np.concatenate([np.ravel(p) for p in parts])
        self.nets[: len(flat)] = flat
        self.firsts = np.zeros(12 * K + 100, np.int64)
        self.firsts[:K] = np.searchsorted(small.units[:, 0], small.units[:, 0], side="left") if K else 0
        self.net_K, self.net_at, self.net_first_at = np.zeros(400, np.int64), np.zeros(400, np.int64), np.zeros(400, np.int64)
        self.net_K[0] = K
        self.box_net, self.box_depth = np.zeros(_STACK + 2, np.int64), np.zeros(_STACK + 2, np.int64)
        self.box_x = np.zeros((_STACK + 2, 2, n))
        self.box_x[0, 0], self.box_x[0, 1] = box.lower, box.upper
        self.box_L, self.box_U = np.zeros((_STACK + 2, max(K, 1))), np.zeros((_STACK + 2, max(K, 1)))
        self.box_L[0, :K], self.box_U[0, :K] = small.lower, small.upper
        self.state = np.array([1, 1, 0, 0, 1], np.int64)
        self.sizes = np.array([n, R, K, _STACK], np.int64)
        self.work = np.zeros((12 + K + 2 * R, max(K, n, R, 1)))
        self.ints = np.zeros((1, max(K, 1)), np.int64)
        self.point, self.counters, self.threshold = np.zeros(n), np.zeros(2 + n), np.zeros(1)
        self.maximize = maximize

    def run(self, budget: int) -> int:
        from relukit.search._few_kernel import run

        return run(
            self.state, self.sizes, self.nets, self.firsts, self.net_K, self.net_at, self.net_first_at, self.box_net, self.box_x,
            self.box_L, self.box_U, self.box_depth, self.work, self.ints, self.gamma, budget, self.threshold, self.maximize, self.point, self.counters,
        )  # fmt: skip

    @property
    def boxes(self) -> int:
        return int(self.state[2])

    def leaf(self) -> tuple[Box, Array, Array, Array]:
        """The box that the kernel gave back and its rows over x alone: slopes, constants, errors (exact where no gate is open)."""
        top, start = int(self.state[0]), 10 + self.K
        planes = self.work[start : start + self.R, : self.n].copy()
        constant, error = self.work[start + self.R][: self.R].copy(), self.work[start + self.R + 1][: self.R].copy()
        return Box(self.box_x[top, 0].copy(), self.box_x[top, 1].copy()), planes, constant, error


def decide(network: Network, box: Box, A: Array, b: Array, confirm: Any, timeout: float = 60.0, seed: int = 0) -> Decision:
    """Whether some x in the box has `A y(x) + b <= 0`, by attack, linear bounds, and branch and bound over inputs.

    Arguments:
        network: Piecewise linear.
        A, b: Rows on its outputs.
        confirm: Called with points `(k, n)` that the original can hold; returns the first that it confirms, or None.
        timeout: Seconds of wall time.

    References:
        Branch and Bound for Piecewise Linear Neural Network Verification, Bunel et al., 2020.
    """
    stop = time.perf_counter() + timeout
    rows = network.append(A, b)
    generator = np.random.default_rng(seed)
    bounds = linear(rows, box)
    if np.any(bounds.output[0] > 0):
        return Decision("unsat", None, 1, "linear bounds")
    tried = gradient_attack(rows, box, 6, 12, generator, box.center()[None])
    hit = _confirmed(rows, box, tried[:4], network, confirm)
    if hit is not None:
        return Decision("sat", hit, 1, "gradient attack")
    small = compact(rows, box, bounds)
    if small.gates > _GATES:
        return Decision("unknown", None, 1, "linear bounds", f"{small.gates} undecided gates are more than {_GATES}")
    if int(np.sum(box.lower < box.upper)) > _INPUTS:
        from relukit.search._many import split_gates

        return split_gates(small, rows, lambda points: _confirmed(rows, box, points, network, confirm), stop, tried[:4])
    engine, attacked, unresolved = Engine(small, box), 0, 0
    from relukit.search._few_kernel import CANDIDATE, DONE, LEAF

    budget = 300
    while True:
        code = engine.run(budget)
        if code == DONE:
            break
        if code == CANDIDATE:
            hit = _confirmed(rows, box, engine.point[None], network, confirm)
        elif code == LEAF:
            hit, closed = _leaf(engine, rows, box, network, confirm)
            unresolved += not closed and hit is None
        else:
            if engine.boxes >= (300, 5_000, 50_000, 10**18)[attacked]:
                attacked += 1
                seeds = np.concatenate([tried[:20], engine.point[None]])
                hit = _sample(rows, box, (20, 120, 600)[attacked - 1], generator, seeds, network, confirm)
            budget = 300 if engine.boxes < 5_000 else 2_000
        if hit is not None:
            return Decision("sat", hit, engine.boxes, "input splitting")
        if time.perf_counter() > stop:
            return Decision("unknown", None, engine.boxes, "input splitting", f"time is up after {engine.boxes} boxes")
    if unresolved:
        return Decision("unknown", None, engine.boxes, "input splitting", f"{unresolved} leaves touch the boundary within rounding")
    return Decision("unsat", None, engine.boxes, "input splitting")


def _sample(rows: Network, box: Box, times: int, generator: np.random.Generator, first: Array, network: Network, confirm: Any) -> Array | None:
    """Independent sampling attacks: on plateaus each finds another basin, so many small ones beat a large one."""
    for k in range(times):
        tried = sampling_attack(rows, box, 12, 64, generator, first if k % 2 == 0 else first[:0])
        hit = _confirmed(rows, box, tried[:2], network, confirm)
        if hit is not None:
            return hit
    return None


def _confirmed(rows: Network, box: Box, points: Array, network: Network, confirm: Any) -> Array | None:
    """A point that the original confirms, after a few more steps inward where rounding spoils it."""
    near = points[rows(points).max(axis=1) <= 1e-6 * (1 + np.abs(points).max())]
    if not len(near):
        return None
    found = confirm(representable(near, box, network.dtype))
    if found is not None:
        return found
    width = box.upper - box.lower
    local = Box(np.maximum(box.lower, near[0] - 0.01 * width), np.minimum(box.upper, near[0] + 0.01 * width))
    deeper = gradient_attack(rows, local, 4, 20, np.random.default_rng(0), near[:1])
    return confirm(representable(deeper, box, network.dtype))


def _leaf(engine: Engine, rows: Network, box: Box, network: Network, confirm: Any) -> tuple[Array | None, bool]:
    """A box on which every row is linear: a linear program decides it; its multipliers prove emptiness, rounding included."""
    from scipy.optimize import linprog

    leaf, planes, constant, error = engine.leaf()
    hit = _confirmed(rows, box, engine.point[None].copy(), network, confirm)
    if hit is not None:
        return hit, True
    n, R = engine.n, engine.R
    # min t with planes x + constant <= t: a positive minimum closes the leaf.
    found = linprog(
        np.r_[np.zeros(n), 1.0], np.c_[planes, -np.ones(R)], -constant, bounds=[*zip(leaf.lower, leaf.upper), (None, None)], method="highs"
    )
    if found.status != 0:
        return None, False
    weights = np.maximum(-found.ineqlin.marginals, 0)
    weights = weights / weights.sum() if weights.sum() > 0 else np.full(R, 1 / R)
    joint = weights @ planes
    low = float(weights @ constant) - float(leaf.support(-joint[None])[0]) - 1.01 * float(weights @ error) - gamma(R + n + 4) * float(
        np.abs(weights) @ (np.abs(planes) @ np.maximum(np.abs(leaf.lower), np.abs(leaf.upper)) + np.abs(constant))
    )
    if low > 0:
        return None, True
    return _confirmed(rows, box, found.x[None, :n], network, confirm), False
