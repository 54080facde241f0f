"""Properties of many cases: linear bounds over many boxes at once, or of all rows over one box, settle most of them."""

import time
from collections.abc import Sequence

import numpy as np

from relukit._types import Array, BoolArray
from relukit.bounds import linear
from relukit.network import Network
from relukit.search._smooth import settled_at_once
from relukit.sets import Box

_MANY = 32  # cases from which on it is worth it
_LARGE = 3000  # units of a network whose boxes are better taken one by one
_BATCH = 128  # boxes at once


def settled(network: Network, boxes: Sequence[Box], rows: Sequence[tuple[Array, Array]], seconds: float) -> BoolArray:
    """Which cases are proven empty: some row `A y` is above its limit `b` all over the box.

    Arguments:
        rows: `(A, b)` of each case, which asks for `A y <= b`.
        seconds: Of wall time at most.
    """
    done = np.zeros(len(boxes), bool)
    if not network.is_piecewise_linear and len(boxes) > 1 and all(_same(boxes[0], box) for box in boxes[1:]):
        return settled_at_once(network, boxes[0], list(rows))
    if len(boxes) < _MANY or network.units > _LARGE:
        return done
    stop, groups = time.perf_counter() + seconds, {}
    for k, (A, _) in enumerate(rows):
        groups.setdefault((A.shape, A.tobytes()), []).append(k)
    for group in groups.values():
        asked = network.append(rows[group[0]][0])
        for first in range(0, len(group), _BATCH):
            if time.perf_counter() > stop:
                return done
            some = group[first : first + _BATCH]
            batch = Box(np.stack([boxes[k].lower for k in some]), np.stack([boxes[k].upper for k in some]))
            low = linear(asked, batch).output[0]
            done[some] = (low > np.stack([rows[k][1] for k in some])).any(axis=-1)
    return done


def _same(a: Box, b: Box) -> bool:
    return a is b or (np.array_equal(a.lower, b.lower) and np.array_equal(a.upper, b.upper))
