"""Inputs that move in steps: whole numbers, quarter hours, five cents."""

from collections.abc import Mapping

import numpy as np

from relukit._errors import InvalidInput
from relukit._types import Array, IntArray
from relukit.sets import AbstractSet, Ball, Box
from relukit.verification._flip_descent import size_of


class Grid:
    """Inputs i that take the values `x[i] + k * step` for whole k, within a box.

    Arguments:
        x: The input; where it takes whole numbers it is one.
        integer: Inputs of step 1.
        steps: Steps of further inputs.
        frozen: Inputs that stay, whatever their step.

    Raises:
        InvalidInput: An input of whole numbers that is none, or a step that is no positive number.
    """

    def __init__(self, x: Array, integer: IntArray, steps: Mapping[int, float], frozen: IntArray, within: Box) -> None:
        bad = [k for k, step in steps.items() if not (0 < step < np.inf)]
        if bad:
            raise InvalidInput(f"the step of input {bad[0]} must be a positive number, got {steps[bad[0]]}")
        sizes = {int(k): 1.0 for k in integer} | {int(k): float(step) for k, step in steps.items()}
        self.i = np.setdiff1d(np.array(sorted(sizes), np.int64), frozen)
        self.step = np.array([sizes[int(k)] for k in self.i])
        self.base = x[self.i]
        whole = np.isin(self.i, integer)
        broken = whole & (self.base != np.round(self.base))
        if np.any(broken):
            i, value = self.i[broken][0], self.base[broken][0]
            raise InvalidInput(f"input {i} is to take whole numbers only and is {value:g} at the start; round it first")
        self.first, self.last = self.range(within.lower[self.i], within.upper[self.i])

    def __len__(self) -> int:
        return len(self.i)

    def range(self, low: Array, high: Array) -> tuple[Array, Array]:
        """First and last k whose values lie between two bounds."""
        near = 1e-9
        return np.ceil((low - self.base) / self.step - near), np.floor((high - self.base) / self.step + near)

    def values(self, k: Array) -> Array:
        return self.base + k * self.step

    def nearest(self, values: Array) -> Array:
        """The allowed values that are nearest."""
        return self.values(np.clip(np.round((values - self.base) / self.step), self.first, self.last))

    def moved(self, low: Array, high: Array) -> Array:
        """How far each input is from x at least, for k from low to high."""
        return self.step * np.maximum(np.maximum(low, -high), 0.0)

    def part(self, x: Array, low: Array, high: Array, radius: float, norm: float, box: Box) -> AbstractSet:
        """The points of a ball whose steps lie in a range: the ball around x moved there where the range is one point."""
        lower, upper = box.lower.copy(), box.upper.copy()
        lower[self.i], upper[self.i] = self.values(low), self.values(high)
        part = Box(lower, upper)
        if norm == np.inf or not np.all(low == high):
            return part
        center, spent = x.copy(), size_of(self.step * low, norm)
        center[self.i] = self.values(low)
        left = radius - spent if norm == 1 else np.sqrt(max(radius**2 - spent**2, 0.0))
        return Ball(center, float(left) * (1 + 1e-12) + 1e-300, norm, part)
