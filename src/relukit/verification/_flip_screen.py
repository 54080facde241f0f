"""Linear bounds over balls in the time that is left, and the largest ball that they alone clear of flips."""

import time
from collections.abc import Callable

import numpy as np

from relukit.bounds import Bounds, linear
from relukit.bounds._linear import BUDGET
from relukit.network import Network
from relukit.sets import AbstractSet
from relukit.verification._flip_question import Question

_UNHURRIED = 10.0  # seconds left from which on bounds of large networks get all the work that pays
_SMALL = 5000  # units of a network whose bounds take a fraction of a second anyway
_SECONDS = 5.0  # at most for a screening
_FIRST = 0.25  # of the whole radius, where nothing is known: linear bounds of deep networks are of use on small balls


def hurried(network: Network, region: AbstractSet, stop: float) -> Bounds:
    """Linear bounds; nodes of large networks that would take long, for the time left until `stop`, have intervals."""
    left = max(stop - time.perf_counter(), 0.0)
    share = 1.0 if network.units <= _SMALL else min(left / _UNHURRIED, 1.0)
    return linear(network, region, budget=share * BUDGET)


def screened(
    network: Network, question: Question, ball: Callable[[float], AbstractSet], low: float, high: float, stop: float
) -> float:
    """The largest radius from `low` to `high`, within 3 %, at which linear bounds alone show that no other decision occurs."""
    goals = list(question.goals.values())
    rows = network.append(np.vstack([g.A for g in goals]), np.concatenate([g.b for g in goals]))
    ends = np.cumsum([len(g.b) for g in goals])[:-1]
    enough = 0.03 * high
    stop = min(stop, time.perf_counter() + _SECONDS)
    while high - low > enough and time.perf_counter() < stop:
        middle = 0.5 * (low + high) if low else _FIRST * high
        least = hurried(rows, ball(middle), stop).output[0]
        if all(part.max() > 0 for part in np.split(least, ends)):
            low = middle
        else:
            high = middle
    return low
