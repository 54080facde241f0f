"""The shortest step that satisfies linear rows within bounds: what every proposal of the nearest point is made of."""

import numpy as np

from relukit._numerics import quiet_highs
from relukit._types import Array
from relukit.bounds import CompactNetwork
from relukit.search._small_program import minimize

NORMS = {"l1": 1.0, "l2": 2.0, "linf": np.inf}


def size_of(step: Array, norm: float) -> float:
    """The norm of a step."""
    return float(np.linalg.norm(step, ord=norm)) if len(step) else 0.0


def shortest_step(J: Array, right: Array, low: Array, high: Array, norm: float) -> Array | None:
    """The shortest d with `J d <= right` between bounds; None where the solver has none. Nothing is proven by it.

    Arguments:
        J: Shape `(rows, n)`; `right` shape `(rows,)`.
        norm: 1, 2 or `inf`.
    """
    n, eye = J.shape[1], np.eye(J.shape[1])
    if norm == 2:
        return _shortest_l2(J, right, low, high)
    if norm == 1:  # d = p - q
        found = minimize(
            np.ones(2 * n), np.hstack([J, -J]), right, np.zeros(2 * n), np.r_[np.maximum(high, 0), np.maximum(-low, 0)]
        )
        return None if found is None else np.clip(found.v[:n] - found.v[n:], low, high)
    one = np.ones((n, 1))
    rows = np.vstack([np.hstack([J, np.zeros((len(J), 1))]), np.hstack([eye, -one]), np.hstack([-eye, -one])])
    found = minimize(np.r_[np.zeros(n), 1.0], rows, np.r_[right, np.zeros(2 * n)], np.r_[low, 0.0], np.r_[high, np.inf])
    return None if found is None else np.clip(found.v[:n], low, high)


def _shortest_l2(J: Array, right: Array, low: Array, high: Array) -> Array | None:
    import highspy

    rows, n = J.shape
    solver, model, curve = quiet_highs(), highspy.HighsLp(), highspy.HighsHessian()
    model.num_col_, model.num_row_ = n, rows
    model.col_cost_, model.col_lower_, model.col_upper_ = np.zeros(n), low, high
    model.row_lower_, model.row_upper_ = np.full(rows, -np.inf), right
    at = J != 0
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_ = np.r_[0, np.cumsum(at.sum(axis=1))].astype(np.int32)
    model.a_matrix_.index_, model.a_matrix_.value_ = np.nonzero(at)[1].astype(np.int32), J[at]
    solver.passModel(model)
    curve.dim_, curve.format_ = n, highspy.HessianFormat.kTriangular
    curve.start_ = np.arange(n + 1, dtype=np.int32)
    curve.index_, curve.value_ = np.arange(n, dtype=np.int32), np.ones(n)
    solver.passHessian(curve)
    solver.setOptionValue("time_limit", 5.0)
    solver.run()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    return np.clip(np.asarray(solver.getSolution().col_value), low, high)


def piece_of(small: CompactNetwork, x: Array) -> tuple[Array, Array, Array, Array]:
    """The linear piece around x: outputs `Y x + y`, and rows `P x <= p` under which its pattern of gates holds."""
    on = (small.hidden(x[None])[0] > 0).astype(float)
    # z = C x + W h + b with h = on z, W strictly lower triangular.
    both = np.linalg.solve(np.eye(small.gates) - small.W * on, np.c_[small.C, small.b])
    M, m = both[:, :-1], both[:, -1]
    sign = 1.0 - 2.0 * on
    return small.X + (small.H * on) @ M, small.c + (small.H * on) @ m, sign[:, None] * M, -sign * m
