"""The triangle relaxation of a compact network as a linear program whose bounds hold whatever the solver does."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from relukit._errors import UnsupportedOperation
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
        gap: For each gate how far h lies above max(0, z).
        basis: For a warm start of children.
    """

    bound: float
    x: Array | None
    gap: Array
    basis: Any


class DistanceProgram:
    r"""Smallest :math:`\epsilon` with :math:`|x - x_0| \le \epsilon` at which :math:`q \cdot y \ge r` over the relaxation.

    Columns: the step d = x - x0, epsilon, z and h of each gate. For every gate :math:`h \ge z`, :math:`h \ge 0` and
    :math:`h \le u (z - l) / (u - l)`; fixing a gate changes three bounds, so that the simplex method starts from the parent's basis.

    Every bound is recomputed from the multipliers: for any y, the minimum of c.v is at least
    :math:`\sum_i \min(y_i L_i, y_i U_i) + \sum_j \min_{v_j} (c - A'y)_j v_j`, less the rounding of these sums
    (Neumaier and Shcherbina, Safe bounds in linear and mixed-integer linear programming, 2004). The solver may be wrong; the bound is not.
    """

    def __init__(self, small: CompactNetwork, x0: Array, radius: float, q: Array, r: float) -> None:
        import highspy
        import scipy.sparse as sp

        self.small, self.x0 = small, x0
        n, K = small.C.shape[1], small.gates
        box = small.input_set.box()
        step = (np.minimum(box.lower - x0, 0.0), np.maximum(box.upper - x0, 0.0))
        moving = np.flatnonzero(step[0] < step[1])
        self.moving, m = moving, len(moving)
        pad = np.nextafter(radius, np.inf)
        self.lower = np.concatenate([step[0][moving], [0.0], small.lower, np.zeros(K)])
        self.upper = np.concatenate([step[1][moving], [pad], small.upper, np.maximum(small.upper, 0.0)])
        eye, one = sp.identity(m), np.ones((m, 1))
        I, Z = sp.identity(K), sp.csr_matrix((K, m + 1))
        slope = small.upper / (small.upper - small.lower)
        base = small.C @ x0 + small.b
        # Rounding of C x0 + b, and of the folded weights themselves.
        loose = small.error + gamma(n + 2) * (np.abs(small.C) @ np.abs(x0) + np.abs(small.b))
        top = -slope * small.lower
        row_q, out = q @ small.H, q @ small.X
        level = r - float(q @ small.c) - float(out @ x0)
        size = float(np.abs(q) @ (np.abs(small.c) + np.abs(small.X) @ np.abs(x0)))
        slack = float(np.abs(q) @ small.output_error) + gamma(n + 4) * (size + abs(r)) + self._reach(q, small)
        parts = [
            sp.hstack([eye, -one, sp.csr_matrix((m, 2 * K))]),
            sp.hstack([eye, one, sp.csr_matrix((m, 2 * K))]),
            sp.hstack([-small.C[:, moving], sp.csr_matrix((K, 1)), I, -small.W]),
            sp.hstack([Z, -I, I]),
            sp.hstack([Z, -sp.diags(slope), I]),
            sp.hstack([out[moving][None], sp.csr_matrix((1, 1 + K)), row_q[None]]),
        ]
        self.A = sp.vstack(parts).tocsc()
        inf = np.inf
        self.row_lower = np.concatenate(
            [np.full(m, -inf), np.zeros(m), base - loose, np.zeros(K), np.full(K, -inf), [level - slack]]
        )
        self.row_upper = np.concatenate(
            [
                np.zeros(m),
                np.full(m, inf),
                base + loose,
                np.full(K, inf),
                np.nextafter(top * (1 + 1e-14), inf) if K else top,
                [inf],
            ]
        )
        self.cost = np.zeros(self.A.shape[1])
        self.cost[m] = 1.0
        self.first_z, self.first_h, self.first_gap = m + 1, m + 1 + K, 2 * m + K
        self._absolute = abs(self.A)
        self._solver = self._pass(highspy)
        self._fixed = np.zeros(K, np.int8)

    @staticmethod
    def _reach(q: Array, small: CompactNetwork) -> float:
        """Rounding of q H and q X, times what they multiply."""
        box = small.input_set.box()
        reach = np.maximum(np.abs(box.lower), np.abs(box.upper))
        h = np.maximum(small.upper, 0.0)
        return float(gamma(len(q) + 2) * (np.abs(q) @ (np.abs(small.X) @ reach + np.abs(small.H) @ h)))

    def _pass(self, highspy: Any) -> Any:
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
        self._optimal = highspy.HighsModelStatus.kOptimal
        self._infeasible = highspy.HighsModelStatus.kInfeasible
        return solver

    def _bounds_for(self, fixed: np.ndarray) -> tuple[Array, Array, Array]:
        """Column bounds and row upper bounds under fixed phases."""
        lower, upper, rows = self.lower.copy(), self.upper.copy(), self.row_upper.copy()
        on, off = np.flatnonzero(fixed == ON), np.flatnonzero(fixed == OFF)
        lower[self.first_z + on] = np.maximum(lower[self.first_z + on], 0.0)
        rows[self.first_gap + on] = 0.0
        upper[self.first_z + off] = np.minimum(upper[self.first_z + off], 0.0)
        upper[self.first_h + off] = 0.0
        return lower, upper, rows

    def solve(self, fixed: np.ndarray, basis: Any = None) -> Solution:
        """The relaxation under fixed phases of gates (`ON`, `OFF`, `OPEN`)."""
        lower, upper, rows = self._bounds_for(fixed)
        solver, K = self._solver, len(fixed)
        for k in np.flatnonzero(fixed != self._fixed):
            solver.changeColBounds(int(self.first_z + k), lower[self.first_z + k], upper[self.first_z + k])
            solver.changeColBounds(int(self.first_h + k), lower[self.first_h + k], upper[self.first_h + k])
            row = int(self.first_gap + k)
            solver.changeRowBounds(row, self.row_lower[row], rows[row])
        self._fixed = fixed.copy()
        if basis is not None:
            solver.setBasis(basis)
        solver.run()
        status = solver.getModelStatus()
        if status == self._infeasible:
            _, has, ray = solver.getDualRay()
            proven = (
                has
                and max(
                    self._safe(np.asarray(ray), 0.0, lower, upper, rows),
                    self._safe(-np.asarray(ray), 0.0, lower, upper, rows),
                )
                > 0
            )
            return Solution(np.inf if proven else -np.inf, None, np.zeros(K), None)
        if status != self._optimal:
            return Solution(-np.inf, None, np.zeros(K), None)
        found = solver.getSolution()
        v = np.asarray(found.col_value)
        x = self.x0.copy()
        x[self.moving] += v[: len(self.moving)]
        z, h = v[self.first_z : self.first_z + K], v[self.first_h : self.first_h + K]
        return Solution(
            self._safe(np.asarray(found.row_dual), 1.0, lower, upper, rows),
            x,
            h - np.maximum(z, 0.0),
            solver.getBasis(),
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


def require_gates(small: CompactNetwork, most: int) -> None:
    """Refuse programs that no one would wait for."""
    if small.gates > most:
        raise UnsupportedOperation(
            f"{small.gates} undecided gates are more than the {most} that the exact search takes"
        )
