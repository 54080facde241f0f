"""What the page draws and asks of the pieces of a network on a plane, from the arrays of `relukit.regions`."""

import numpy as np

from relukit._types import Array
from relukit.geometry import Regions


def arrays_of(found: Regions) -> dict[str, Array]:
    """Polygons, their colors (the output in their middle; of several outputs the number of the largest) and the decision boundary."""
    A, c = found.maps
    inside = (A @ middles(found)[:, :, None])[:, :, 0] + c
    color = inside[:, 0] if inside.shape[1] == 1 else inside.argmax(axis=1)
    return {
        "vertices": found.vertices.astype("<f4"), "offsets": found.offsets.astype("<u4"), "indices": found.indices.astype("<u4"),
        "color": color.astype("<f4"), "boundary": found.boundary().astype("<f4"),
    }  # fmt: skip


def middles(found: Regions) -> Array:
    """Mean of the corners of each polygon, shape `(R, 2)`: a point inside."""
    sums = np.add.reduceat(found.vertices[found.indices], found.offsets[:-1], axis=0)
    return sums / np.diff(found.offsets)[:, None]


def nearest_boundary(found: Regions, point: Array) -> tuple[float, Array] | None:
    """Distance to the decision boundary in the plane, and the boundary's nearest point."""
    segments = found.boundary()
    if not len(segments):
        return None
    start, step = segments[:, 0], segments[:, 1] - segments[:, 0]
    square = np.maximum((step**2).sum(axis=1), np.finfo(float).tiny)
    share = np.clip(((point - start) * step).sum(axis=1) / square, 0, 1)
    near = start + share[:, None] * step
    gaps = np.linalg.norm(near - point, axis=1)
    best = int(gaps.argmin())
    return float(gaps[best]), near[best]


def neighbors(found: Regions, k: int) -> list[int]:
    """Pieces that share an edge with piece k."""
    across = found.neighbors[found.offsets[k] : found.offsets[k + 1]]
    return sorted(set(across[across >= 0].tolist()))
