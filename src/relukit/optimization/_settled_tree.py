"""Integers and one-hot groups settled first, best bound first; below each setting a search over gates on a network made for it.

Bounds over the whole range of a category are loose, and a program made from them stays loose below it. Where the settings are
few enough to be told apart, each gets bounds and a program of its own.
"""

import heapq
import itertools
from dataclasses import replace
from typing import Any

import numpy as np

from relukit._types import Array
from relukit.bounds import linear
from relukit.optimization._gate_tree import GateTree
from relukit.optimization._incumbent import Incumbent
from relukit.optimization._problem import Problem
from relukit.sets import Box

MOST = 5_000  # settings up to which they are told apart
_NODES = 8  # nodes of one setting's search at a time


class SettledTree:
    """Best first over settings; arguments are those of `GateTree`."""

    name = "gate splitting over linear programs"

    def __init__(self, problem: Problem, incumbent: Incumbent, low: float) -> None:
        self.problem, self.incumbent = problem, incumbent
        self.counter, self.boxes, self.closed = itertools.count(), 0, np.inf
        self.heap: list[Any] = [(low, next(self.counter), (problem.box.lower, problem.box.upper))]

    @property
    def bound(self) -> float:
        """No point has a smaller goal; infinite where no point exists."""
        return min(self.closed, self.heap[0][0] if self.heap else np.inf)

    @property
    def done(self) -> bool:
        return not self.heap or self.heap[0][0] >= self.closed

    def settle(self) -> None:
        """Nothing to do before a stop: every open setting has its bound."""

    def step(self, stop: float) -> None:
        """The setting with the smallest bound: split, or searched a little further."""
        low, _, item = heapq.heappop(self.heap)
        if self.incumbent.is_closed(low):
            self.closed = min(self.closed, low)
        elif isinstance(item, GateTree):
            self._search(item, low, stop)
        else:
            self._split(*item, low)

    def _search(self, tree: GateTree, low: float, stop: float) -> None:
        before = tree.boxes
        for _ in range(_NODES):
            if tree.done or self.incumbent.is_closed(tree.bound):
                break
            tree.step(stop)
        self.boxes += tree.boxes - before
        low = max(low, tree.bound)
        if tree.done:
            self.closed = min(self.closed, low)
        else:
            heapq.heappush(self.heap, (low, next(self.counter), tree))

    def _split(self, lower: Array, upper: Array, low: float) -> None:
        parts = self.problem.halves(lower, upper)
        if parts is None:
            box = Box(lower, upper)
            own = replace(self.problem, box=box)
            bounds = linear(self.problem.rows, box)
            self.boxes += 1
            ends = bounds.output[0]
            if not np.any(ends[1:] > 0):
                tree = GateTree(own, self.incumbent, bounds)
                heapq.heappush(self.heap, (max(low, float(ends[0])), next(self.counter), tree))
            return
        if not parts:
            return
        ends = linear(self.problem.rows, Box(np.stack([p[0] for p in parts]), np.stack([p[1] for p in parts]))).output[
            0
        ]
        self.boxes += len(parts)
        for k, part in enumerate(parts):
            if not np.any(ends[k, 1:] > 0):
                heapq.heappush(self.heap, (max(low, float(ends[k, 0])), next(self.counter), part))


def settings(problem: Problem) -> float:
    """How many settings of integers and groups there are."""
    lower, upper = problem.box.lower, problem.box.upper
    whole = problem.integers
    count = float(np.prod(upper[whole] - lower[whole] + 1.0))
    for g in problem.groups:
        count *= len(g.chosen(lower, upper))
    return count
