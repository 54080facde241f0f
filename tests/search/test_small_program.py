"""Small programs agree with SciPy's, and say nothing where there is no optimum."""

import numpy as np
import pytest
from scipy.optimize import linprog

from relukit.search._small_program import minimize


@pytest.mark.parametrize("seed", range(10))
def test_against_scipy(seed):
    g = np.random.default_rng(seed)
    m, n = int(g.integers(1, 12)), int(g.integers(1, 6))
    A, b, cost = g.standard_normal((m, n)), g.standard_normal(m) + 1, g.standard_normal(n)
    A[g.random((m, n)) < 0.3] = 0
    lower, upper = -g.random(n), np.where(g.random(n) < 0.5, g.random(n), np.inf)
    want = linprog(cost, A, b, bounds=[*zip(lower, upper)], method="highs")
    found = minimize(cost, A, b, lower, upper)
    assert (found is None) == (want.status != 0)
    if found is not None:
        assert cost @ found.v == pytest.approx(want.fun, abs=1e-7)
        np.testing.assert_allclose(found.multipliers, -want.ineqlin.marginals, atol=1e-7)


def test_no_point_and_no_end():
    one = np.ones((1, 1))
    assert minimize(np.ones(1), one, np.array([-2.0]), np.zeros(1), np.ones(1)) is None
    assert minimize(-np.ones(1), -one, np.zeros(1), np.zeros(1), np.full(1, np.inf)) is None
