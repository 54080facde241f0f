"""The nearest point of a relaxation over a ball: proofs against exhaustive patterns, with SciPy's own solvers as the oracle."""

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog, nnls

from relukit.bounds import compact, linear
from relukit.search._ball_program import BallProgram
from relukit.sets import Ball, Box
from tests.optimization.oracle import affine_on
from tests.strategies import RELU

SIZES = (3, 4, 3, 2)


def made(seed):
    from relukit.network import from_layers

    g = np.random.default_rng(seed)
    weights = [g.normal(size=(b, a)) for a, b in zip(SIZES[:-1], SIZES[1:])]
    biases = [0.5 * g.normal(size=len(W)) for W in weights]
    return weights, biases, from_layers(weights, biases, [RELU, RELU])


def nearest(G, g, norm):
    """Smallest norm of d with G d <= g; infinite where there is none. l2: Lawson and Hanson's least distance programming."""
    if norm == 1:
        n = G.shape[1]
        found = linprog(np.ones(2 * n), np.c_[G, -G], g)
        return found.fun if found.status == 0 else np.inf
    weights, left = nnls(np.vstack([-G.T, -g]), np.r_[np.zeros(G.shape[1]), 1.0])
    r = np.vstack([-G.T, -g]) @ weights - np.r_[np.zeros(G.shape[1]), 1.0]
    return float(np.linalg.norm(r[:-1] / r[-1])) if left > 1e-9 else np.inf


def truth(weights, biases, x, A, b, low, high, norm):
    """The distance of the nearest point in the box where all rows are at most 0, over all patterns."""
    best, eye = np.inf, np.eye(len(x))
    for bits in itertools.product([0, 1], repeat=sum(SIZES[1:-1])):
        M, v, P, p = affine_on(weights, biases, bits)
        G = np.concatenate([P, A @ M, eye, -eye])
        g = np.concatenate([p, -b - A @ v, high, -low]) - G @ x
        best = min(best, nearest(G, g, norm))
    return best


@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_proves_just_inside_the_nearest_point_and_never_beyond_it(norm, seed):
    """With every gate split, what is proven empty is what all patterns say; with open gates it is never more."""
    weights, biases, net = made(seed)
    g = np.random.default_rng(100 + seed)
    low, high = -np.ones(3), np.ones(3)
    points = g.uniform(low, high, (200, 3))
    y = net(points)
    x = points[y[:, 0].argmin()]
    A, b = np.array([[-1.0, 0.0], [0.3, 1.0]]), np.array([np.quantile(y[:, 0], 0.8), -np.quantile(y[:, 1], 0.9)])
    exact = truth(weights, biases, x, A, b, low, high, norm)
    assert 1e-3 < exact < np.inf
    for share, empty in ((0.7, True), (0.999, True), (1.001, False), (1.5, False)):
        ball = Ball(x, share * exact, norm, Box(low, high))
        small = compact(net, ball, linear(net, ball))
        program = BallProgram(small, A, b)
        loose = program.solve(np.zeros(small.gates, np.int8))
        assert empty or loose.bound <= 0
        every = [program.solve(np.array(s, np.int8)) for s in itertools.product([-1, 1], repeat=small.gates)]
        assert all(found.bound > 0 for found in every) == empty
        if not empty:
            inside = [f.x for f in every if f.bound <= 0 and f.x is not None]
            assert min(np.linalg.norm(p - x, ord=norm) for p in inside) == pytest.approx(exact, rel=1e-5)
