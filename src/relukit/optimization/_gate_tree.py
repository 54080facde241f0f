"""Branch and bound over phases of gates, integers and one-hot groups: best first, on linear programs whose bounds hold by themselves."""

import heapq
import itertools
from typing import Any

import numpy as np

from relukit._types import Array
from relukit.bounds import Bounds, compact
from relukit.optimization._incumbent import Incumbent
from relukit.optimization._problem import Problem
from relukit.search._relaxation import OFF, ON, GateProgram, Solution, _output_rows, moving_inputs


class GateTree:
    r"""Minimize the first output of `problem.rows` where all others are at most 0.

    A node fixes phases of gates and narrows integers and groups. Its linear program gives a bound from its multipliers alone;
    its point proposes a pattern, on which the program is solved once more: that point is feasible if the pattern holds any.

    Arguments:
        problem: What is minimized.
        incumbent: The best point so far; points met here are offered to it.
        bounds: Linear bounds of `problem.rows` over the box.
    """

    name = "gate splitting over linear programs"

    def __init__(self, problem: Problem, incumbent: Incumbent, bounds: Bounds) -> None:
        self.problem, self.incumbent = problem, incumbent
        self.small = compact(problem.rows, problem.box, bounds)
        self.program = self._program()
        self.counter, self.boxes = itertools.count(), 0
        first = (problem.box.lower, problem.box.upper)
        self.heap: list[Any] = [
            (float(bounds.output[0][0]), next(self.counter), np.zeros(self.small.gates, np.int8), first, None, None)
        ]
        self.leaves = np.inf  # of leaves that could be neither closed nor split
        self.closed = np.inf  # of nodes closed because they cannot beat the incumbent
        self.tried: set[bytes] = set()

    @property
    def bound(self) -> float:
        """No point has a smaller goal; infinite where no point exists."""
        return min(self.leaves, self.closed, self.heap[0][0] if self.heap else np.inf)

    @property
    def done(self) -> bool:
        return not self.heap or self.heap[0][0] >= min(self.leaves, self.closed)

    def settle(self) -> None:
        """Nothing to do before a stop: every open node has its bound."""

    def step(self, stop: float) -> None:
        """One node."""
        low, _, fixed, inputs, found, basis = heapq.heappop(self.heap)
        if self.incumbent.is_closed(low):
            self.closed = min(self.closed, low)
            return
        if found is None:
            found = self.program.solve(fixed, basis, stop, inputs)
            self.boxes += 1
            if found.x is not None:
                self._propose(found.x, inputs, stop)
            low = max(low, found.bound)
            if np.isfinite(low):
                heapq.heappush(self.heap, (low, next(self.counter), fixed, inputs, found, None))
            return
        children = self._children(fixed, inputs, found)
        if children is None:
            self.leaves = min(self.leaves, low)
            return
        for child_fixed, child_inputs in children:
            heapq.heappush(self.heap, (low, next(self.counter), child_fixed, child_inputs, None, found.basis))

    def _program(self) -> GateProgram:
        small = self.small
        x0, count = small.input_set.center(), len(small.c)
        moving, box = moving_inputs(small, x0), small.input_set.box()
        X, H, value, slack = _output_rows(small, x0, np.eye(count), np.zeros(count))
        width = np.abs(X) @ (box.upper - box.lower) + np.abs(H) @ np.maximum(small.upper, 0.0) + np.abs(value)
        limit = float(2 * width[0] + 1)
        goal = np.zeros(count)
        goal[0] = -1.0
        program = GateProgram(
            small, x0, (-limit, limit), [(X[:, moving], goal, H, np.full(count, -np.inf), -value + slack)]
        )
        program._solver.setOptionValue("primal_feasibility_tolerance", 1e-9)
        return program

    def _children(self, fixed: np.ndarray, inputs: tuple[Array, Array], found: Solution) -> list[Any] | None:
        """Both phases of the gate that the bound pays most for; parts by an integer or group where it pays for none."""
        x = found.x if found.x is not None else 0.5 * (inputs[0] + inputs[1])
        gates = np.flatnonzero(fixed == 0)
        # Gates first, measured: on one pattern the network is affine, and its integers are mostly settled by that.
        exact = not len(gates) or found.gap[gates].max() <= 1e-9 * (1.0 + abs(found.bound))
        if exact and (self._contradicts(x, inputs) or not len(gates)):
            parts = self.problem.halves(*inputs, x)
            if parts is not None:
                return [(fixed, part) for part in parts]
        if not len(gates):
            return None
        gate = gates[int(np.argmax(found.gap[gates]))]
        children = []
        for phase in (ON, OFF):
            child = fixed.copy()
            child[gate] = phase
            children.append((child, inputs))
        return children

    def _contradicts(self, x: Array, inputs: tuple[Array, Array]) -> bool:
        """Whether an integer or a group has not settled at x."""
        rounded = self.problem.rounded(x, *inputs)
        width = self.problem.box.upper - self.problem.box.lower + 1e-300
        return rounded is None or bool(np.any(np.abs(rounded - x) / width > 1e-6))

    def _propose(self, point: Array, inputs: tuple[Array, Array], stop: float) -> None:
        """The point itself, and the best point of the pattern it lies in, integers rounded."""
        problem = self.problem
        x = problem.rounded(point, *inputs)
        if x is None:
            return
        self.incumbent.keep(x)
        pattern = np.where(self.small.hidden(x[None])[0] > 0, ON, OFF).astype(np.int8)
        lower, upper = inputs[0].copy(), inputs[1].copy()
        settled = np.r_[problem.integers, *(g.members for g in problem.groups)].astype(int)
        lower[settled] = upper[settled] = x[settled]
        key = pattern.tobytes() + x[settled].tobytes()
        if key in self.tried:
            return
        self.tried.add(key)
        found = self.program.solve(pattern, None, stop, (lower, upper))
        self.boxes += 1
        if found.x is not None:
            self.incumbent.keep(np.clip(found.x, lower, upper))
