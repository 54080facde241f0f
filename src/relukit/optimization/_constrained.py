"""Optimization under linear constraints between inputs and outputs, with integer inputs: best-first over phases and inputs."""

import heapq
import itertools
import time
from typing import Any

import numpy as np

from relukit._types import Array
from relukit.bounds import compact, linear
from relukit.network import Network
from relukit.optimization._expression import Constraint, Linear
from relukit.search._relaxation import OFF, ON, GateProgram, Solution, _output_rows, moving_inputs
from relukit.sets import Box

FEASIBLE = 1e-6  # a point counts as feasible when no constraint is off by more than this share of its terms


class ConstrainedSearch:
    r"""Minimize a linear goal of inputs and outputs under linear constraints.

    A node fixes phases of gates and narrows integer inputs. Its linear program gives a bound from its multipliers alone; its
    point proposes a pattern, on which the program is solved once more: that point is feasible if the pattern holds any.
    """

    def __init__(
        self, network: Network, box: Box, goal: Linear, constraints: list[Constraint], integers: list[int],
        tolerance: float, stop: float,
    ) -> None:  # fmt: skip
        self.network, self.goal, self.constraints = network, goal, constraints
        self.integers, self.tolerance, self.stop = np.array(integers, int), tolerance, stop
        lower, upper = box.lower.copy(), box.upper.copy()
        lower[self.integers], upper[self.integers] = np.ceil(lower[self.integers]), np.floor(upper[self.integers])
        self.empty = bool(np.any(lower > upper))
        self.box = box if self.empty else Box(lower, upper)
        self.value, self.witness, self.solved = np.inf, None, 0

    @property
    def slack(self) -> float:
        return self.tolerance * max(abs(self.value), 1e-6) if np.isfinite(self.value) else 0.0

    def run(self) -> tuple[float, Array | None, float, str, int]:
        """Value, point, bound, status and number of programs; the bound is infinite where no point exists."""
        if self.empty:
            return np.inf, None, np.inf, "infeasible", 0
        self.small = compact(self.network, self.box, linear(self.network, self.box))
        self.program = self._program()
        counter = itertools.count()
        first = (self.box.lower, self.box.upper)
        heap: list[Any] = [(-np.inf, next(counter), np.zeros(self.small.gates, np.int8), first, None, None)]
        open_bound = np.inf  # of leaves that could be neither closed nor split
        while heap and time.perf_counter() < self.stop:
            low, _, fixed, inputs, found, basis = heapq.heappop(heap)
            if low >= self.value - self.slack:
                heap.append((low, next(counter), fixed, inputs, found, basis))
                break
            if found is None:
                found = self.program.solve(fixed, basis, self.stop, inputs)
                self.solved += 1
                low = max(low, found.bound)
                if found.x is not None:
                    self._propose(found.x, inputs)
                if np.isfinite(low) or found.bound == -np.inf:
                    heapq.heappush(heap, (low, next(counter), fixed, inputs, found, None))
                continue
            children = self._children(fixed, inputs, found)
            if not children:
                open_bound = min(open_bound, low)
                continue
            for child_fixed, child_inputs in children:
                heapq.heappush(heap, (low, next(counter), child_fixed, child_inputs, None, found.basis))
        bound = min([open_bound, self.value, *(h[0] for h in heap)])
        if self.witness is None:
            status = "infeasible" if not heap and open_bound == np.inf else "undecided"
        else:
            status = "optimal" if bound >= self.value - self.slack * 1.001 else "bounded"
        return self.value, self.witness, bound, status, self.solved

    def _program(self) -> GateProgram:
        small, x0 = self.small, self.small.input_set.center()
        moving = moving_inputs(small, x0)
        rows = []
        goal = self.goal
        X, H, value, slack = _output_rows(small, x0, goal.outputs[None], np.array([goal.constant]))
        D, at = X + goal.inputs[None], value + goal.inputs @ x0
        loose = slack + 1e-15 * (np.abs(goal.inputs) @ np.abs(x0))
        width = np.abs(D) @ (self.box.upper - self.box.lower) + np.abs(H) @ np.maximum(small.upper, 0.0) + np.abs(at)
        limit = float(2 * width.max() + 1)
        rows.append((D[:, moving], -np.ones(1), H, np.full(1, -np.inf), -at + loose))
        for c in self.constraints:
            X, H, value, slack = _output_rows(small, x0, c.outputs[None], np.array([c.constant]))
            D, at = X + c.inputs[None], value + c.inputs @ x0
            loose = slack + 1e-15 * (np.abs(c.inputs) @ np.abs(x0))
            rows.append((D[:, moving], np.zeros(1), H, -at - loose if c.equal else np.full(1, -np.inf), -at + loose))
        return GateProgram(small, x0, (-limit, limit), rows)

    def _children(self, fixed: np.ndarray, inputs: tuple[Array, Array], found: Solution) -> list[Any]:
        """Two halves of an integer input that is not whole, else both phases of the gate that the bound pays most for."""
        lower, upper = inputs
        x = found.x if found.x is not None else 0.5 * (lower + upper)
        free = self.integers[lower[self.integers] < upper[self.integers]]
        off = np.abs(x[free] - np.round(x[free]))
        gates = np.flatnonzero(fixed == 0)
        if len(free) and (off.max() > 1e-6 or not len(gates)):
            j = free[int(np.argmax(off))]
            at = np.floor(x[j]) if off.max() > 1e-6 else np.floor(0.5 * (lower[j] + upper[j]))
            left, right = upper.copy(), lower.copy()
            left[j], right[j] = at, at + 1
            return [(fixed, (lower, left)), (fixed, (right, upper))]
        if not len(gates):
            return []
        gate = gates[int(np.argmax(found.gap[gates]))]
        children = []
        for phase in (ON, OFF):
            child = fixed.copy()
            child[gate] = phase
            children.append((child, inputs))
        return children

    def _propose(self, x: Array, inputs: tuple[Array, Array]) -> None:
        """The point itself, and the best point of the pattern it lies in, integers rounded."""
        x = np.clip(x, *inputs)
        x[self.integers] = np.round(x[self.integers])
        x = self.box.project(x[None])[0]
        self._keep(x)
        lower, upper = inputs[0].copy(), inputs[1].copy()
        lower[self.integers] = upper[self.integers] = x[self.integers]
        z = self.small.hidden(x[None])[0]
        pattern = np.where(z > 0, ON, OFF).astype(np.int8)
        found = self.program.solve(pattern, None, self.stop, (lower, upper))
        self.solved += 1
        if found.x is not None:
            point = self.box.project(found.x[None])[0]
            point[self.integers] = x[self.integers]
            self._keep(point)

    def _keep(self, x: Array) -> None:
        y = self.network(x[None])[0]
        for c in self.constraints:
            scale = float(np.abs(c.inputs) @ np.abs(x) + np.abs(c.outputs) @ np.abs(y) + abs(c.constant)) + 1e-6
            if c.violation(x, y) > FEASIBLE * scale:
                return
        value = float(self.goal.inputs @ x + self.goal.outputs @ y + self.goal.constant)
        if value < self.value:
            self.value, self.witness = value, x.copy()
