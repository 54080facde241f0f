"""Where the decision changes: segments in which the largest output ties, and pieces cut along them; all pieces at once."""

from typing import Any

import numpy as np

from relukit._types import Array, IntArray


def corner_values(found: Any) -> Array:
    """Outputs at each entry of `indices`, by the map of its own piece; shape `(entries, m)`."""
    A, c = found.maps
    owner = found.owner
    points = found.vertices[found.indices]
    return np.einsum("emd,ed->em", A[owner], points) + c[owner]


def levels(found: Any, gap: Array) -> tuple[Array, Array, IntArray, IntArray]:
    """Where a quantity that is affine on each piece is 0.

    A convex polygon meets the zero line in one segment, between the two places where the sign changes along its
    border; a corner with value 0 counts as positive.

    Arguments:
        gap: Values at the entries of `indices`.

    Returns:
        Shares along the edges that change sign, shape `(count, 2)`; segments, shape `(count, 2, 2)`; the entries where those
        edges start, `(count, 2)`; the piece of each, `(count,)`.
    """
    after = found.following
    a, b = gap, gap[after]
    crossing = np.flatnonzero((a >= 0) != (b >= 0))
    share = a[crossing] / (a[crossing] - b[crossing])
    start, end = found.vertices[found.indices[crossing]], found.vertices[found.indices[after[crossing]]]
    points = start + share[:, None] * (end - start)
    return share.reshape(-1, 2), points.reshape(-1, 2, 2), crossing.reshape(-1, 2), found.owner[crossing][::2]


def boundary(found: Any, first: int | None = None, second: int | None = None) -> Array:
    """Segments where two outputs tie and no other is larger, shape `(count, 2, 2)`; a single output: where it is 0."""
    values = corner_values(found)
    m = values.shape[1]
    if m == 1:
        return levels(found, values[:, 0])[1]
    pairs = [(first, second)] if first is not None and second is not None else _tying(found, values)
    parts = [_ties(found, values, i, j) for i, j in pairs]
    return np.concatenate(parts) if parts else np.zeros((0, 2, 2))


def _tying(found: Any, values: Array) -> list[tuple[int, int]]:
    """Pairs of outputs that are both largest somewhere in pieces where the largest output changes."""
    top = values.argmax(axis=1)
    mixed = np.maximum.reduceat(top, found.offsets[:-1]) != np.minimum.reduceat(top, found.offsets[:-1])
    if not mixed.any():
        return []
    inside = values[mixed[found.owner]]
    hopeful = np.flatnonzero((inside.max(axis=1, keepdims=True) - inside).min(axis=0) >= 0)
    return [(int(i), int(j)) for k, i in enumerate(hopeful) for j in hopeful[k + 1 :]]


def _ties(found: Any, values: Array, i: int, j: int) -> Array:
    share, ends, entries, _ = levels(found, values[:, i] - values[:, j])
    at = share[:, :, None]
    here = values[entries] * (1 - at) + values[found.following[entries]] * at
    low, high = np.zeros(len(ends)), np.ones(len(ends))
    for k in set(range(values.shape[1])) - {i, j}:
        lead = here[:, :, i] - here[:, :, k]  # affine along the segment, kept where >= 0
        p, q = lead[:, 0], lead[:, 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            cut = p / (p - q)
        low = np.where((p < 0) & (q >= 0), np.maximum(low, cut), low)
        high = np.where((p >= 0) & (q < 0), np.minimum(high, cut), high)
        high = np.where((p < 0) & (q < 0), -1.0, high)
    start, step = ends[:, 0], ends[:, 1] - ends[:, 0]
    cut = np.stack([start + low[:, None] * step, start + high[:, None] * step], axis=1)
    return cut[high > low]


def decided_parts(found: Any) -> tuple[list[Array], IntArray]:
    """Polygons with one decision each: pieces, cut where the decision changes inside. A single output: 1 where positive."""
    values = corner_values(found)
    if values.shape[1] == 1:
        values = np.concatenate([np.zeros_like(values), values], axis=1)
    top = values.argmax(axis=1)
    high, low = np.maximum.reduceat(top, found.offsets[:-1]), np.minimum.reduceat(top, found.offsets[:-1])
    parts, decisions = [], []
    corners = found.vertices[found.indices]
    for k in range(len(found)):
        part = slice(found.offsets[k], found.offsets[k + 1])
        if high[k] == low[k]:
            parts.append(corners[part])
            decisions.append(high[k])
            continue
        here = values[part]
        for i in np.flatnonzero(~np.any(np.all(here[:, :, None] > here[:, None, :], axis=0), axis=0)):
            ring, held = corners[part], here
            for j in range(here.shape[1]):
                if j != i and len(ring):
                    ring, held = _keep(ring, held, held[:, i] - held[:, j])
            if len(ring) >= 3:
                parts.append(ring)
                decisions.append(int(i))
    return parts, np.array(decisions, np.int64)


def _keep(ring: Array, values: Array, side: Array) -> tuple[Array, Array]:
    """The part of a convex polygon where an affine function, given at the corners, is >= 0."""
    points, held = [], []
    for k in range(len(ring)):
        q = (k + 1) % len(ring)
        if side[k] >= 0:
            points.append(ring[k])
            held.append(values[k])
        if side[k] * side[q] < 0:
            t = side[k] / (side[k] - side[q])
            points.append(ring[k] + t * (ring[q] - ring[k]))
            held.append(values[k] + t * (values[q] - values[k]))
    return np.array(points).reshape(-1, ring.shape[1]), np.array(held).reshape(-1, values.shape[1])
