"""Points that make rows of a network's outputs negative: gradient steps and resampling, in NumPy."""

import time
from typing import TYPE_CHECKING

import numpy as np

from relukit._types import Array, BoolArray, IntArray
from relukit.network import Network
from relukit.sets import Box

if TYPE_CHECKING:
    from relukit.search._dual import Dual


def worst_row(rows: Network, points: Array) -> Array:
    """The largest row at each point: a counterexample has it at most 0."""
    return rows(points).max(axis=1)


def gradient_attack(
    rows: Network, box: Box, starts: int, steps: int, generator: np.random.Generator, first: Array | None = None
) -> Array:
    """Minimize the largest row by normalized sign steps; returns the points reached, best first.

    References:
        Towards Deep Learning Models Resistant to Adversarial Attacks, Madry et al., 2018.
    """
    width = box.upper - box.lower
    points = box.lower + width * generator.random((starts, box.size))
    if first is not None:
        points[: len(first)] = first[:starts]
    best, value = points.copy(), np.full(len(points), np.inf)
    for k in range(steps + 1):
        out = rows(points)
        now = out.max(axis=1)
        better = now < value
        best[better], value[better] = points[better], now[better]
        if k == steps or value.min() < 0:
            break
        grad = np.empty_like(points)
        worst = out.argmax(axis=1)
        for r in np.unique(worst):
            mine = worst == r
            hot = np.zeros(rows.outputs)
            hot[r] = 1.0
            grad[mine] = rows.gradient(points[mine], hot)
        points = np.clip(points - 0.3 * 0.85**k * width * np.sign(grad), box.lower, box.upper)
    order = np.argsort(value)
    return best[order]


def sampling_attack(
    rows: Network, box: Box, rounds: int, count: int, generator: np.random.Generator, first: Array
) -> Array:
    """Resample around the best points with shrinking width: works on plateaus, where gradients say nothing."""
    width = box.upper - box.lower
    pool = np.clip(np.concatenate([first, box.sample(count, generator)]), box.lower, box.upper)
    value = worst_row(rows, pool)
    for k in range(rounds):
        keep = np.argsort(value)[:48]
        pool, value = pool[keep], value[keep]
        if value[0] < 0:
            break
        parents = pool[generator.integers(0, len(pool), count)]
        step = 0.3 * 0.6**k * width * generator.standard_normal((count, box.size))
        step[generator.random(step.shape) < 0.3] = 0.0
        fresh = np.clip(parents + step, box.lower, box.upper)
        faces = generator.random(fresh.shape) < 0.08
        fresh[faces] = np.where(generator.random(fresh.shape) < 0.5, box.lower, box.upper)[faces]
        pool, value = np.concatenate([pool, fresh]), np.concatenate([value, worst_row(rows, fresh)])
    return pool[np.argsort(value)]


def representable(points: Array, box: Box, dtype: np.dtype) -> Array:
    """The nearest points of the box that the original's precision can hold, where the box has any."""
    near = np.clip(points, box.lower, box.upper).astype(dtype)
    near = np.where(near.astype(np.float64) > box.upper, np.nextafter(near, np.array(-np.inf, dtype)), near)
    near = np.where(near.astype(np.float64) < box.lower, np.nextafter(near, np.array(np.inf, dtype)), near)
    # An input pinned to a number that the precision cannot hold keeps that number: running the original rounds it.
    return np.clip(near.astype(np.float64), box.lower, box.upper)


def descend_rows(dual: "Dual", member: BoolArray, D: Array, case: IntArray, steps: int) -> tuple[Array, Array]:
    """Steps d from the center whose case has its largest output smallest, by sign steps with momentum.

    Arguments:
        member: Which outputs belong to which case, shape `(cases, R)`.
        D: Starts, shape `(B, moving inputs)`.
        case: The case that each start is for, shape `(B,)`.

    Returns:
        The best steps met and their largest outputs, in the order of the starts.

    References:
        Boosting Adversarial Attacks with Momentum, Dong et al., 2018.
    """
    single = np.float32
    low, high = dual.low.astype(single), dual.high.astype(single)
    mine, width, D = member[case], high - low, D.astype(single)
    best, value, speed = D.copy(), np.full(len(D), np.inf, single), np.zeros_like(D)
    for k in range(steps + 1):
        now, grad = dual.slopes_of_worst(D, mine)
        better = now < value
        best[better], value[better] = D[better], now[better]
        if k == steps or time.perf_counter() > dual.stop:
            break
        speed = 0.75 * speed + grad / np.maximum(np.abs(grad).sum(axis=1, keepdims=True), single(1e-30))
        D = dual.project(D - single(0.25 * 0.92**k) * width * np.sign(speed))
    return best, value
