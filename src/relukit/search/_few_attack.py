"""Attacks for boxes of few inputs: descents by the sign of the slope, and resampling of many populations at once."""

import numpy as np

from relukit._types import Array
from relukit.search._few_chain import Rows
from relukit.sets import Box

_FACES = 0.08  # share of coordinates put on a face of the box
_KEPT = 0.3  # share of coordinates kept from the parent
_BATCH = 40  # populations evaluated at once


def descend(rows: Rows, box: Box, points: Array, steps: int) -> Array:
    """Minimize the largest row by sign steps from some points of the box; returns the best points met, best first.

    References:
        Towards Deep Learning Models Resistant to Adversarial Attacks, Madry et al., 2018.
    """
    width = box.upper - box.lower
    best, value = points.copy(), np.full(len(points), np.inf)
    for k in range(steps + 1):
        out, grad = rows.slope(points)
        now = out.max(axis=1)
        better = now < value
        best[better], value[better] = points[better], now[better]
        if k == steps or value.min() < 0:
            break
        points = np.clip(points - 0.3 * 0.85**k * width * np.sign(grad), box.lower, box.upper)
    return best[np.argsort(value)]


def resample(rows: Rows, box: Box, populations: int, generator: np.random.Generator, first: Array) -> Array:
    """Resample around the best points with shrinking width, in independent populations: works on plateaus, where slopes say
    nothing, and each population finds another basin.

    Arguments:
        first: Points `(k, n)` that half of the populations start with.

    Returns:
        The best points of the populations, best first; it ends early once some point has all rows below 0.
    """
    best: list[Array] = []
    values: list[Array] = []
    for start in range(0, populations, _BATCH):
        points, value = _populations(rows, box, min(_BATCH, populations - start), generator, first)
        best.append(points)
        values.append(value)
        if value.min() < 0:
            break
    order = np.argsort(np.concatenate(values))
    return np.concatenate(best)[order]


def _populations(
    rows: Rows, box: Box, populations: int, generator: np.random.Generator, first: Array, rounds: int = 12, count: int = 64
) -> tuple[Array, Array]:  # fmt: skip
    """The best point of each population and its largest row."""
    n, width = box.size, box.upper - box.lower
    single = np.float32
    evaluate = lambda p: rows.worst(p.reshape(-1, n)).reshape(p.shape[:2]).astype(np.float64)
    low, step_width = box.lower.astype(single), width.astype(single)
    pool = low + step_width * generator.random((populations, count, n), single)
    if len(first):
        some = np.clip(first[: count // 2], box.lower, box.upper).astype(single)
        pool[::2, : len(some)] = some
    value = evaluate(pool)
    each = np.arange(populations)[:, None]
    for k in range(rounds):
        keep = np.argpartition(value, 40, axis=1)[:, :40] if value.shape[1] > 40 else np.argsort(value, axis=1)
        pool, value = pool[each, keep], value[each, keep]
        if value.min() < 0:
            break
        parents = pool[each, generator.integers(0, pool.shape[1], (populations, count))]
        step = single(0.3 * 0.6**k) * step_width * generator.standard_normal(parents.shape, single)
        chance = generator.random(parents.shape, single)
        step[chance < _KEPT] = 0
        fresh = np.clip(parents + step, box.lower, box.upper).astype(single)
        faces = chance > 1 - _FACES
        fresh[faces] = np.where(chance > 1 - _FACES / 2, box.lower, box.upper)[faces]
        pool, value = np.concatenate([pool, fresh], axis=1), np.concatenate([value, evaluate(fresh)], axis=1)
    at = value.argmin(axis=1)
    return pool[each[:, 0], at].astype(np.float64), value[each[:, 0], at]
