"""A question asked of a network whose gates are joined where they are multiples up to rounding, every row widened by what that can change."""

from dataclasses import replace

import numpy as np

from relukit._types import Array
from relukit.bounds import interval
from relukit.bounds._mirror_near import nearly_joined
from relukit.search._few_moving import joined
from relukit.sets import Box
from relukit.verification._question import Question

_LITTLE = 1e-4  # share of a row's value at the middle of its box that widening may take at once
_SHARE = 1e-3  # and at most, after tighter bounds


def nearly(asked: Question, around: Box) -> Question | None:
    """The question about a network of fewer gates: proven there, it holds; None where none is to be had or it would ask too much.

    Its witnesses are confirmed in the original, as before.

    Arguments:
        around: Contains the box of every case.
    """
    found = nearly_joined(joined(asked.network), around) if asked.network.is_piecewise_linear else None
    if found is None:
        return None
    A = np.concatenate([A for A, _ in asked.rows])
    ends = np.cumsum([len(b) for _, b in asked.rows])[:-1]
    values = [A @ asked.network(box.center()) - b for box, (A, b) in zip(asked.boxes, asked.rows)]
    for share, bounds in ((_LITTLE, interval(found.network, around)), (_SHARE, None)):
        slack = np.split(found.slack(A, bounds), ends)
        if all(_is_little(s, v, share) for s, v in zip(slack, values)):
            rows = [(A, np.nextafter(b + s, np.inf)) for (A, b), s in zip(asked.rows, slack)]
            return replace(asked, network=found.network, rows=rows)
    return None


def _is_little(slack: Array, value: Array, share: float) -> bool:
    """Whether the row that is furthest on the safe side is widened by little: one row proves a case."""
    k = int(np.argmax(value))
    return bool(slack[k] <= share * abs(value[k]))
