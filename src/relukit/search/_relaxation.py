"""The triangle relaxation of a compact network as a linear program whose bounds hold whatever the solver does."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from relukit._clock import loading
from relukit._numerics import gamma, quiet_highs
from relukit._types import Array
from relukit.bounds import CompactNetwork

OPEN, ON, OFF = 0, 1, -1


@dataclass(frozen=True, eq=False)
class Solution:
    """One solved node.

    Arguments:
        bound: A value that the objective cannot go below, from the multipliers alone; infinite where they prove that no point exists.
        x: The minimizer's inputs, or None.
        gap: For each gate the intercept that the bound pays for its upper line: multiplier times height of the line above the kink.
        basis: For a warm start of children.
    """

    bound: float
    x: Array | None
    gap: Array
    basis: Any


class GateProgram:
    r"""A linear program over steps d = x - x0 of the inputs that move, one goal column, and z and h of each gate.

    For every gate :math:`h \ge z`, :math:`h \ge 0` and :math:`h \le u (z - l) / (u - l)`; fixing a gate changes three
    bounds, so that the simplex method starts from the parent's basis. The goal column is minimized.

    Every bound is recomputed from the multipliers: for any y, the minimum of c.v is at least
    :math:`\sum_i \min(y_i L_i, y_i U_i) + \sum_j \min_{v_j} (c - A'y)_j v_j`, less the rounding of these sums. The
    solver may be wrong; the bound is not.

    Arguments:
        small: The compact network.
        x0: The point that steps start from.
        goal: Bounds of the goal column.
        rows: Further rows over (d, goal, z, h): a list of `(matrix over d, over goal, over h, lower, upper)`.

    References:
        Safe bounds in linear and mixed-integer linear programming, Neumaier and Shcherbina, 2004.
    """

    def __init__(
        self,
        small: CompactNetwork,
        x0: Array,
        goal: tuple[float, float],
        rows: list[tuple[Any, Any, Any, Array, Array]],
    ) -> None:
        with loading():
            import scipy.sparse as sp

        n, K = small.C.shape[1], small.gates
        self.x0, self.moving = x0, moving_inputs(small, x0)
        box, m = small.input_set.box(), len(self.moving)
        down, up = np.minimum(box.lower - x0, 0.0)[self.moving], np.maximum(box.upper - x0, 0.0)[self.moving]
        slack = (
            4e-16 * (np.abs(x0) + np.maximum(np.abs(box.lower), np.abs(box.upper)))[self.moving]
        )  # rounding of the two differences
        self.lower = np.concatenate([down - slack, [goal[0]], small.lower, np.zeros(K)])
        self.upper = np.concatenate([up + slack, [goal[1]], small.upper, np.maximum(small.upper, 0.0)])
        I, Z = sp.identity(K), sp.csr_matrix((K, m + 1))
        slope = small.upper / (small.upper - small.lower)
        base = small.C @ x0 + small.b
        # Rounding of C x0 + b, and of the folded weights themselves.
        loose = small.error + gamma(n + 2) * (np.abs(small.C) @ np.abs(x0) + np.abs(small.b))
        top = -slope * small.lower + 4e-16 * (small.upper - small.lower)
        inf = np.inf
        parts = [
            sp.hstack([-small.C[:, self.moving], sp.csr_matrix((K, 1)), I, -small.W]),
            sp.hstack([Z, -I, I]),
            sp.hstack([Z, -sp.diags(slope), I]),
        ]
        lows, highs = [base - loose, np.zeros(K), np.full(K, -inf)], [base + loose, np.full(K, inf), top]
        for D, g, H, low, high in rows:
            count = len(low)
            parts.append(
                sp.hstack(
                    [
                        sp.csr_matrix(D),
                        sp.csr_matrix(np.reshape(g, (count, 1))),
                        sp.csr_matrix((count, K)),
                        sp.csr_matrix(H),
                    ]
                )
            )
            lows.append(low)
            highs.append(high)
        self.A = sp.vstack(parts).tocsc()
        self.row_lower, self.row_upper = np.concatenate(lows), np.concatenate(highs)
        self.cost = np.zeros(self.A.shape[1])
        self.cost[m] = 1.0
        self.first_z, self.first_h, self.first_gap, self.gates = m + 1, m + 1 + K, K, K
        self._absolute = abs(self.A)
        self._solver = self._pass()
        self._fixed = np.zeros(K, np.int8)

    def _pass(self) -> Any:
        with loading():
            import highspy

        solver = quiet_highs()
        solver.setOptionValue("presolve", "off")  # the children of a node start from its basis
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = self.A.shape[1], self.A.shape[0]
        model.col_cost_, model.col_lower_, model.col_upper_ = self.cost, self.lower, self.upper
        model.row_lower_, model.row_upper_ = self.row_lower, self.row_upper
        model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        model.a_matrix_.start_, model.a_matrix_.index_, model.a_matrix_.value_ = (
            self.A.indptr,
            self.A.indices,
            self.A.data,
        )
        solver.passModel(model)
        self._optimal, self._infeasible = highspy.HighsModelStatus.kOptimal, highspy.HighsModelStatus.kInfeasible
        return solver

    def _bounds_for(self, fixed: np.ndarray, inputs: tuple[Array, Array] | None) -> tuple[Array, Array, Array]:
        """Column bounds and row upper bounds under fixed phases, and with narrower inputs where they are given."""
        lower, upper, rows = self.lower.copy(), self.upper.copy(), self.row_upper.copy()
        if inputs is not None:
            m = len(self.moving)
            start = self.x0[self.moving]
            slack = 4e-16 * (np.abs(start) + np.abs(inputs[0][self.moving]) + np.abs(inputs[1][self.moving]))
            lower[:m] = np.maximum(lower[:m], inputs[0][self.moving] - start - slack)
            upper[:m] = np.minimum(upper[:m], inputs[1][self.moving] - start + slack)
        on, off = np.flatnonzero(fixed == ON), np.flatnonzero(fixed == OFF)
        lower[self.first_z + on] = np.maximum(lower[self.first_z + on], 0.0)
        rows[self.first_gap + on] = 0.0
        upper[self.first_z + off] = np.minimum(upper[self.first_z + off], 0.0)
        upper[self.first_h + off] = 0.0
        return lower, upper, rows

    def solve(
        self, fixed: np.ndarray, basis: Any = None, stop: float = np.inf, inputs: tuple[Array, Array] | None = None
    ) -> Solution:
        """The relaxation under fixed phases of gates (`ON`, `OFF`, `OPEN`); gives up at `stop` (`time.perf_counter`).

        `inputs` narrows the inputs' bounds, as branching on integer inputs does.
        """
        lower, upper, rows = self._bounds_for(fixed, inputs)
        solver, K = self._solver, self.gates
        if inputs is not None:
            for j in range(len(self.moving)):
                solver.changeColBounds(j, lower[j], upper[j])
        for k in np.flatnonzero(fixed != self._fixed):
            solver.changeColBounds(int(self.first_z + k), lower[self.first_z + k], upper[self.first_z + k])
            solver.changeColBounds(int(self.first_h + k), lower[self.first_h + k], upper[self.first_h + k])
            row = int(self.first_gap + k)
            solver.changeRowBounds(row, self.row_lower[row], rows[row])
        self._fixed = fixed.copy()
        if basis is not None:
            solver.setBasis(basis)
        if np.isfinite(stop):  # the solver's limit counts from its first run
            solver.setOptionValue("time_limit", solver.getRunTime() + max(stop - time.perf_counter(), 0.01))
        solver.run()
        status = solver.getModelStatus()
        if status == self._infeasible:
            _, has, ray = solver.getDualRay()
            ray = np.asarray(ray)
            proven = (
                has and max(self._safe(ray, 0.0, lower, upper, rows), self._safe(-ray, 0.0, lower, upper, rows)) > 0
            )
            return Solution(np.inf if proven else -np.inf, None, np.zeros(K), None)
        if status != self._optimal:
            return Solution(-np.inf, None, np.zeros(K), None)
        found = solver.getSolution()
        v = np.asarray(found.col_value)
        x = self.x0.copy()
        x[self.moving] += v[: len(self.moving)]
        z, h = v[self.first_z : self.first_z + K], v[self.first_h : self.first_h + K]
        y = np.asarray(found.row_dual)
        paid = (
            np.abs(y[self.first_gap + K : self.first_gap + 2 * K])
            * self.row_upper[self.first_gap + K : self.first_gap + 2 * K]
        )
        loose = h - np.maximum(z, 0.0)
        return Solution(
            self._safe(y, 1.0, lower, upper, rows), x, paid * (loose > 1e-9) + 1e-3 * loose, solver.getBasis()
        )

    def _safe(self, y: Array, weight: float, lower: Array, upper: Array, rows: Array) -> float:
        """The bound that multipliers y prove for `weight * cost`."""
        y = np.where((y > 0) & np.isinf(self.row_lower), 0.0, np.where((y < 0) & np.isinf(rows), 0.0, y))
        side = np.where(y > 0, self.row_lower, np.where(y < 0, rows, 0.0))
        rest = weight * self.cost - self.A.T @ y
        at = np.where(rest > 0, lower, upper)
        reach = np.maximum(np.abs(lower), np.abs(upper))
        size = np.abs(y) @ np.abs(side) + (weight * self.cost + self._absolute.T @ np.abs(y)) @ reach
        return float(y @ side + rest @ at - gamma(sum(self.A.shape) + 8) * size)


def moving_inputs(small: CompactNetwork, x0: Array) -> np.ndarray:
    """Inputs that can differ from x0 in the set."""
    box = small.input_set.box()
    return np.flatnonzero((box.lower < x0) | (box.upper > x0))


def _output_rows(small: CompactNetwork, x0: Array, A: Array, b: Array) -> tuple[Array, Array, Array, Array]:
    """Rows `A y + b` as slopes over (x, h), their value at x0 without gates, and how far rounding moves them."""
    box = small.input_set.box()
    reach, h = np.maximum(np.abs(box.lower), np.abs(box.upper)), np.maximum(small.upper, 0.0)
    X, H = A @ small.X, A @ small.H
    value = A @ small.c + b + X @ x0
    size = np.abs(A) @ (np.abs(small.c) + np.abs(small.X) @ (reach + np.abs(x0)) + np.abs(small.H) @ h) + np.abs(b)
    slack = np.abs(A) @ small.output_error + gamma(A.shape[1] + small.C.shape[1] + 6) * size
    return X, H, value, slack


def distance_program(small: CompactNetwork, x0: Array, radius: float, q: Array, level: float = 0.0) -> GateProgram:
    r"""Minimize :math:`\epsilon` with :math:`|x - x_0| \le \epsilon` over points where :math:`q \cdot y \ge` level."""
    moving = moving_inputs(small, x0)
    m = len(moving)
    X, H, value, slack = _output_rows(small, x0, q[None], np.array([-level]))
    eye, none, inf = np.eye(m), np.zeros((m, small.gates)), np.inf
    ball = [
        (eye, -np.ones(m), none, np.full(m, -inf), np.zeros(m)),
        (eye, np.ones(m), none, np.zeros(m), np.full(m, inf)),
    ]
    margin = (X[:, moving], np.zeros(1), H, -value - slack, np.full(1, inf))
    return GateProgram(small, x0, (0.0, float(np.nextafter(radius, inf))), [*ball, margin])


def rows_program(small: CompactNetwork, A: Array, b: Array) -> GateProgram:
    """Minimize the largest of the rows `A y + b`: a positive minimum proves that they are never all at most 0."""
    x0 = small.input_set.center()
    moving = moving_inputs(small, x0)
    X, H, value, slack = _output_rows(small, x0, A, b)
    box = small.input_set.box()
    reach = np.abs(X) @ (box.upper - box.lower) + np.abs(H) @ np.maximum(small.upper, 0.0) + np.abs(value)
    limit = float(2 * reach.max(initial=1.0) + 1)
    rows = (X[:, moving], -np.ones(len(b)), H, np.full(len(b), -np.inf), -value + slack)
    return GateProgram(small, x0, (-limit, limit), [rows])
