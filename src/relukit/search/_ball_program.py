"""The triangle relaxation over an l1 or l2 ball: the nearest point of the relaxation that satisfies all rows, or none within the radius."""

import time
from typing import Any

import numpy as np

from relukit._clock import loading
from relukit._numerics import gamma
from relukit._types import Array
from relukit.bounds import CompactNetwork
from relukit.search._relaxation import GateProgram, Solution, _output_rows, moving_inputs, rows_program
from relukit.sets import Ball

_PATIENCE = 3.0  # seconds for one quadratic program: some do not end


class BallProgram(GateProgram):
    r"""Minimize the distance of x from the ball's middle over the relaxation where all rows `A y + b` are at most 0.

    For l2 this is a quadratic program, for l1 a linear one with a column :math:`a_j \ge |d_j|` per input. Half-spaces around the
    ball, added one at a time, would take hundreds of programs for one answer.

    A node is proven empty from the multipliers y of its rows alone: with c = -A'y over d, split as :math:`c = c_1 + c_2`,
    :math:`y \cdot side + \min_z + \min_h - r \|c_1\|_* + \min_{box} c_2 \cdot d > 0`. At the optimum :math:`c_1` is minus the gradient of the
    distance and :math:`c_2` the multipliers of the box; any split is valid.

    Arguments:
        small: Compact form over a `Ball` with norm 1 or 2.
        A, b: Rows over its outputs.
    """

    def __init__(self, small: CompactNetwork, A: Array, b: Array) -> None:
        assert isinstance(small.input_set, Ball)
        self.ball, self.small, self.claim = small.input_set, small, (A, b)
        self._box: GateProgram | None = None
        self.radius = float(np.nextafter(float(self.ball.radius), np.inf))
        x0 = self.ball.middle
        X, H, value, slack = _output_rows(small, x0, A, b)
        count = len(b)
        rows = (X[:, moving_inputs(small, x0)], np.zeros(count), H, np.full(count, -np.inf), -value + slack)
        super().__init__(small, x0, (0.0, 0.0), [rows])

    def _pass(self) -> Any:
        with loading():
            import highspy

        solver, m = super()._pass(), len(self.moving)
        columns = self.A.shape[1]
        solver.changeColCost(m, 0.0)
        if self.ball.norm == 1:
            for j in range(m):
                solver.addCol(1.0, 0.0, np.inf, 0, [], [])
                pair = np.array([j, columns + j], np.int32)
                solver.addRow(0.0, np.inf, 2, pair, np.array([-1.0, 1.0]))
                solver.addRow(0.0, np.inf, 2, pair, np.array([1.0, 1.0]))
            return solver
        curve = highspy.HighsHessian()
        curve.dim_, curve.format_ = columns, highspy.HessianFormat.kTriangular
        curve.start_ = np.r_[np.arange(m + 1), np.full(columns - m, m)].astype(np.int32)
        curve.index_, curve.value_ = np.arange(m, dtype=np.int32), np.ones(m)
        solver.passHessian(curve)
        return solver

    def solve(
        self, fixed: np.ndarray, basis: Any = None, stop: float = np.inf, inputs: tuple[Array, Array] | None = None
    ) -> Solution:
        if self.ball.norm == 1:
            found = super().solve(fixed, basis, stop, inputs)
        else:
            found = super().solve(fixed, None, min(stop, time.perf_counter() + _PATIENCE), inputs)
            if found.x is None and found.bound < 0:  # the quadratic solver stumbles now and then
                self._solver, self._fixed = self._pass(), np.zeros_like(fixed)
                return self._around().solve(fixed, None, stop, inputs)
        if found.x is None or found.bound > 0:
            return found
        inside = float(np.linalg.norm(found.x - self.x0, ord=self.ball.norm)) - self.radius
        return Solution(min(inside, 0.0), found.x, found.gap, found.basis)

    def _around(self) -> GateProgram:
        """The linear program over the box around the ball: what it proves holds in the ball as well."""
        if self._box is None:
            self._box = rows_program(self.small, *self.claim)
        return self._box

    def _safe(self, y: Array, weight: float, lower: Array, upper: Array, rows: Array) -> float:
        """Above 0 where multipliers y prove that no point of the ball is left."""
        y, m = y[: self.A.shape[0]], len(self.moving)
        y = np.where((y > 0) & np.isinf(self.row_lower), 0.0, np.where((y < 0) & np.isinf(rows), 0.0, y))
        side = np.where(y > 0, self.row_lower, np.where(y < 0, rows, 0.0))
        rest = -(self.A.T @ y)
        reach = np.maximum(np.abs(lower), np.abs(upper))
        size = np.abs(y) @ np.abs(side) + (self._absolute.T @ np.abs(y)) @ reach
        base = float(y @ side + np.minimum(rest[m:] * lower[m:], rest[m:] * upper[m:]).sum())
        c, best = rest[:m], -np.inf
        for part in self._splits(c, weight):
            over = c - part
            norm = float(np.abs(part).max(initial=0.0)) if self.ball.norm == 1 else float(np.sqrt(part @ part))
            low = base - self.radius * norm + float(np.minimum(over * lower[:m], over * upper[:m]).sum())
            lost = gamma(sum(self.A.shape) + m + 12) * (size + self.radius * norm + np.abs(part) @ reach[:m])
            best = max(best, low - lost)
        return best

    def _splits(self, c: Array, weight: float) -> list[Array]:
        """Parts of c that are bounded over the ball, the rest being bounded over the box; `weight` is 0 for a ray."""
        if self.ball.norm == 1:
            return [np.clip(c, -1.0, 1.0), c]
        return [-np.asarray(self._solver.getSolution().col_value)[: len(c)], c] if weight else [c]
