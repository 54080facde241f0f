"""A question asked of a network whose gates are joined where they are multiples up to rounding."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from relukit._types import Array
from relukit.bounds._mirror_near import nearly_joined
from relukit.search._few_moving import joined
from relukit.sets import Box
from relukit.verification._question import Question

_INPUTS = 12  # that move, up to which inputs are split: further ones would cost more than gates


def nearly(asked: Question, around: Box) -> Question | None:
    """The question about a network of fewer gates and more inputs: proven there, it holds; None where that is not to be had.

    Its witnesses are confirmed in the original, as before.

    Arguments:
        around: Contains the box of every case.
    """
    if not asked.network.is_piecewise_linear or np.count_nonzero(around.lower < around.upper) <= _INPUTS:
        return None
    found = nearly_joined(joined(asked.network), around)
    if found is None:
        return None
    ones = np.ones(found.inputs - asked.network.inputs)
    boxes = [Box(np.append(b.lower, -ones), np.append(b.upper, ones)) for b in asked.boxes]
    return replace(
        asked, network=found, boxes=boxes, confirms=[_of_first(asked.network.inputs, c) for c in asked.confirms]
    )


def _of_first(inputs: int, confirm: Callable[[Array], Array | None]) -> Callable[[Array], Array | None]:
    return lambda points: confirm(points[:, :inputs])
