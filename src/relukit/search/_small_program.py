"""Small dense linear programs by HiGHS itself: `scipy.optimize` takes thirty times as long to import."""

from typing import NamedTuple

import numpy as np

from relukit._clock import loading
from relukit._numerics import quiet_highs
from relukit._types import Array


class Optimum(NamedTuple):
    """A minimizer, and the multipliers of the rows: at least 0, of `A v <= b`."""

    v: Array
    multipliers: Array


def minimize(cost: Array, A: Array, b: Array, lower: Array, upper: Array) -> Optimum | None:
    """Minimize `cost . v` with `A v <= b` between bounds (infinite where there are none); None unless the solver says optimal.

    Nothing is proven by what it returns: who needs a bound computes it from the multipliers.
    """
    with loading():
        import highspy

    solver, model = quiet_highs(), highspy.HighsLp()
    rows, columns = A.shape
    model.num_col_, model.num_row_ = columns, rows
    model.col_cost_, model.col_lower_, model.col_upper_ = cost, lower, upper
    model.row_lower_, model.row_upper_ = np.full(rows, -np.inf), b
    at = A != 0
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_ = np.concatenate([[0], np.cumsum(at.sum(axis=1))]).astype(np.int32)
    model.a_matrix_.index_, model.a_matrix_.value_ = np.nonzero(at)[1].astype(np.int32), A[at]
    solver.passModel(model)
    solver.run()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    found = solver.getSolution()
    return Optimum(np.asarray(found.col_value), np.maximum(-np.asarray(found.row_dual), 0.0))
