"""The same policy with tanh units, given every advantage: it is told the answer of the Euler equation and fits it."""

from typing import Any

import numpy as np

from relukit.gallery.borrowing_limit._solve import Calibration, Policy, wanted


def fit(model: Calibration, policy: Policy, state: int, grid: np.ndarray, units: int, seed: int) -> np.ndarray:
    """Saving on `grid` of a tanh network of one hidden layer, least squares on the image of the converged policy.

    Inner weights start at random, spread over the logarithm of what is above the limit, and are trained with the outer ones by L-BFGS from the
    linear optimum; below the kink its targets are zero.
    """
    from scipy.optimize import minimize

    spend = lambda k, m: m - model.amin - policy.save(k, m)
    dense = np.concatenate([[0.0], np.geomspace(1e-4, grid.max() + 1, 600)])
    c = wanted(model, state, dense, spend)
    m = model.amin + dense + c
    below = model.amin + np.geomspace(grid.min() - model.amin, m[0] - model.amin, 100, endpoint=False)
    points, target = np.concatenate([below, m]), np.concatenate([below - model.amin, c])
    scale = 1 / target
    z, rng = np.log(points - model.amin), np.random.default_rng(seed)
    slope = rng.uniform(1, 12, units) * rng.choice([-1, 1], units)
    shift = -slope * rng.uniform(z.min(), z.max(), units)

    def design(v: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.concatenate([np.tanh(v[:, None] * a + b), np.ones((len(v), 1))], 1)

    outer = np.linalg.lstsq(design(z, slope, shift) * scale[:, None], np.ones(len(z)), rcond=1e-8)[0]

    def loss(theta: np.ndarray) -> tuple[float, Any]:
        a, b, o = np.split(theta, [units, 2 * units])
        h = design(z, a, b)
        e = scale * (h @ o) - 1
        back = 2 * (e * scale)[:, None] / len(z)
        inner = back * o[None, :-1] * (1 - h[:, :-1] ** 2)
        return float(np.mean(e**2)), np.concatenate([(inner * z[:, None]).sum(0), inner.sum(0), (back * h).sum(0)])

    found = minimize(loss, np.concatenate([slope, shift, outer]), jac=True, method="L-BFGS-B", options={"maxiter": 300})
    a, b, o = np.split(found.x, [units, 2 * units])
    return design(np.log(grid - model.amin), a, b) @ o
