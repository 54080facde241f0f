"""Arrays that are read eight entries at a time (see `relukit._lanes`): strides, slack, and where they begin."""

from typing import Any

import numpy as np

from relukit._types import LANES, Array


def padded(n: int) -> int:
    """The next multiple of eight."""
    return -(-n // LANES) * LANES


def room_for(count: int, dtype: Any = np.float64) -> Any:
    """An array of this many entries and eight more, not set, that begins at a cache line: no vector lies on two."""
    room = np.empty(count + 2 * LANES, dtype)
    start = -(room.ctypes.data // 8) % LANES
    return room[start : start + count + LANES]


def at_a_line(values: Array) -> Array:
    """The same numbers in such an array, zeros behind them."""
    out = room_for(len(values))
    out[: len(values)], out[len(values) :] = values, 0.0
    return out
