"""Some entries of each weight in one row, and statistics of its parts in one pass."""

import math
from typing import Any

import numpy as np

from relukit._types import Array


def some(tensor: Any, most: int = 1024) -> Any:
    """Evenly spaced entries of a tensor, all of them where it is small.

    Steps have no factor in common with the length of a row: else the same few inputs would be met again and again, and of
    images that may be a border that is always 0.
    """
    flat = tensor.detach().reshape(-1)
    step = flat.numel() // most
    row = max(flat.numel() // max(len(tensor), 1), 1) if tensor.ndim else 1
    while step > 1 and math.gcd(step, row) > 1:
        step += 1
    return flat[::step] if step > 1 else flat


def norms(row: Any, counts: list[int]) -> Array:
    """Euclidean norms of the parts of a row; one pass, where a call per part would cost more than its numbers."""
    squares = np.square(row.float().cpu().numpy(), dtype=np.float64)
    return np.sqrt(np.add.reduceat(squares, np.cumsum([0, *counts[:-1]])))


def moments(row: Any, counts: list[int]) -> tuple[Array, Array]:
    """Means and standard deviations of the parts of a row."""
    values, starts = row.float().cpu().numpy().astype(np.float64), np.cumsum([0, *counts[:-1]])
    means = np.add.reduceat(values, starts) / counts
    return means, np.sqrt(np.add.reduceat(np.square(values - np.repeat(means, counts)), starts) / counts)
