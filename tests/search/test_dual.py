"""Bounds over gates: valid for any parameters and phases, and equal to what exact arithmetic gives."""

from fractions import Fraction

import numpy as np
import pytest

from relukit import Ball, Box
from relukit.bounds import compact
from relukit.bounds._shrink import shrink
from relukit.network import from_layers
from relukit.search._dual import Dual
from relukit.search._dual_kernel import forward
from relukit.search._refine import optimize_gates, refine
from tests.oracles import exact_forward, exact_minimum
from tests.strategies import RELU


def layers(seed, inputs=4, hidden=(6, 5), scale=1.0):
    g = np.random.default_rng(seed)
    sizes = [inputs, *hidden, 2]
    weights = [scale * g.standard_normal((b, a)) for a, b in zip(sizes[:-1], sizes[1:])]
    return weights, [g.standard_normal(b) / 2 for b in sizes[1:]], g.uniform(-1, 1, inputs)


def regions(x):
    around = Box(x - 0.7, x + 0.5)
    return [around, Ball(x, 0.8, 2, around), Ball(x, 1.0, 1, around), Ball(x, 0.9, 2), Ball(x, 1.1, 1)]


@pytest.mark.parametrize("which", range(5))
def test_any_parameters_give_a_valid_bound(which):
    """Random slopes, random multipliers, random held gates: no point with those phases has a row below its bound."""
    tight = 0
    for seed in range(6):
        weights, biases, x = layers(seed)
        region = regions(x)[which]
        network = from_layers(weights, biases, [RELU, RELU])
        small = compact(network, region)
        dual, g = Dual(small), np.random.default_rng(seed)
        points = region.sample(3000, 1)
        z = small.hidden(points) > 0
        rows = dual.output_rows()
        S = dual.start(2)[1]
        for trial in range(12):
            some = np.where(g.random(S.shape) < 0.2 * (trial % 3), np.where(z[g.integers(len(z))], 1, -1), S)
            held = some.astype(np.int8)
            params = np.where(held == 0, g.random(S.shape), g.exponential(size=S.shape) * (trial % 2)).astype(
                np.float32
            )
            for found in (dual.certify(rows, params, held), dual.bound(rows, params, held, 8)):
                for r in range(2):
                    fits = np.all((held[r] == 0) | ((held[r] > 0) == z), axis=1)
                    if fits.any():
                        assert found.bound[r] <= network(points[fits])[:, r].min() + 1e-9
                        tight += found.bound[r] > network(points[fits])[:, r].min() - 0.5
    assert tight > 5


def test_the_bound_holds_in_exact_arithmetic():
    """Huge and tiny weights: every certified bound lies at or below the exact value of the row at every corner."""
    for seed in range(8):
        weights, biases, x = layers(seed, inputs=3, hidden=(4, 4), scale=10.0 ** (3 * (seed % 3)))
        weights[1] *= 1e-6
        box = Box(x - 0.3, x + 0.3)
        small = compact(from_layers(weights, biases, [RELU, RELU]), box)
        if not small.gates:
            continue
        dual = Dual(small)
        P, S = dual.start(2)
        found = dual.bound(dual.output_rows(), P, S, 20)
        for corner in np.array(np.meshgrid(*zip(box.lower, box.upper))).reshape(3, -1).T:
            values = exact_forward(weights, biases, corner)[1]
            for r in range(2):
                assert Fraction(float(found.bound[r])) <= values[r]


def test_steps_follow_the_exact_derivative():
    """A single row, one step along the derivative: the bound rises, and to first order by as much as it says."""
    weights, biases, x = layers(1)
    small = compact(from_layers(weights, biases, [RELU, RELU]), Box(x - 0.7, x + 0.7))
    dual = Dual(small)
    rows = dual.output_rows()[np.array([0])]
    S = dual.start(1)[1]
    at = lambda p: float(dual.certify(rows, p[None].astype(np.float64), S).bound[0])
    P = np.full(small.gates, 0.4)
    base = at(P)
    numeric = np.array([(at(P + 1e-5 * e) - at(P - 1e-5 * e)) / 2e-5 for e in np.eye(small.gates)])
    moved = dual.improve(rows, P[None].astype(np.float32), S, 1, rate=1e-3)[0][0] - P
    moving = np.abs(numeric) > 1e-3
    assert moving.any() and np.all(np.sign(moved[moving]) == np.sign(numeric[moving]))
    assert at(P + moved) > base


def test_shrunk_networks_equal_the_network():
    for seed in range(6):
        weights, biases, x = layers(seed, hidden=(8, 7))
        network, box = from_layers(weights, biases, [RELU, RELU]), Box(x - 0.4, x + 0.4)
        small = compact(network, box)
        points = box.sample(500, 0)
        for smaller in (optimize_gates(small, 10, 1e18), refine(optimize_gates(small, 10, 1e18), 10, 1e18)):
            assert smaller.gates <= small.gates
            assert np.abs(smaller(points) - network(points)).max() <= 1e-9
            z = points @ smaller.C.T + smaller.b + smaller.hidden(points) @ smaller.W.T
            assert np.all(z >= smaller.lower - 1e-9) and np.all(z <= smaller.upper + 1e-9)
        same, kept = shrink(small, small.lower, small.upper)
        assert same.gates == small.gates and np.array_equal(kept, np.arange(small.gates))


def test_refined_bounds_reach_the_exact_ones():
    """With rounds enough the branch and bound on a gate ends: the interval of z is exact where it does not cross 0."""
    for seed in range(4):
        weights, biases, x = layers(seed, inputs=3, hidden=(5, 3))
        box = Box(x - 0.5, x + 0.5)
        small = refine(compact(from_layers(weights, biases, [RELU, RELU]), box), 200, 1e18)
        for k, (node, entry, _) in enumerate(small.units):
            if node == small.units[:, 0].max() and len(np.unique(small.units[:, 0])) > 1:
                row = np.eye(3)[entry]
                low = exact_minimum(weights[:2], biases[:2], row, box.lower, box.upper)
                high = -exact_minimum(weights[:2], biases[:2], -row, box.lower, box.upper)
                assert small.lower[k] <= low + 1e-9 and small.upper[k] >= high - 1e-9
                assert low < 1e-9 and high > -1e-9  # a gate with one sign everywhere is gone


@np.errstate(over="ignore", invalid="ignore")
def test_multipliers_beyond_single_precision_end_in_no_error():
    """A leaf without points has no largest multiplier. Here it has one: what is certified holds at it, however values overflow."""
    weights, biases, x = layers(0, inputs=6, hidden=(8, 7))
    network, box = from_layers(weights, biases, [RELU, RELU]), Box(x - 0.5, x + 0.5)
    small = compact(network, box)
    dual, point = Dual(small), box.sample(1, 1)
    on = point @ small.C.T + small.b + small.hidden(point) @ small.W.T > 0
    P, S = dual.start(1)
    held = (dual.phase == 0)[None]
    S = np.where(held, np.where(on, 1, -1), S).astype(np.int8)
    for size in (1e10, 1e19, 1e38):
        found = dual.bound(dual.output_rows()[np.zeros(1, int)], np.where(held, size, P).astype(np.float32), S, 5)
        assert not found.bound[0] > network(point)[0, 0]


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e38, 1e20])
def test_a_step_along_values_that_are_no_numbers_raises_nothing(value):
    """As seen in a search of 250 gates: Numba's check for a division by 0 took no number for 0."""
    g, shape, f = np.random.default_rng(0), (64, 256), np.float32
    A, Z = (np.where(g.random(shape) < 0.1, value, g.standard_normal(shape)).astype(f) for _ in range(2))
    P, S, ones = g.random(shape).astype(f), g.choice([-1, 0, 1], shape).astype(np.int8), np.ones(256, f)
    H, M1, M2 = np.empty_like(Z), np.zeros_like(Z), np.zeros_like(Z)
    for fix in (1.0, 1000.0):
        forward(A, P, S, Z, H, 0, 256, ones, ones, M1, M2, f(0.1), f(0.1), np.full(64, 1e30, f), f(0.9), f(0.999), f(1), f(fix))  # fmt: skip
        assert np.all((P[S == 0] >= 0) | np.isnan(P[S == 0]))
