"""Bounds are never violated: by samples, by rational arithmetic, in float32 and float64, on every kind of set and activation."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relukit import Ball, Box, Polytope, ShapeMismatch
from relukit.activations import CATALOGUE, get
from relukit.bounds import METHODS, compact, interval, linear
from relukit.network import from_layers
from relukit.network.affine import Conv, Dense
from relukit.network.rewrite import RELU, Builder
from tests.oracles import exact_forward
from tests.strategies import layers

QUICK = settings(max_examples=40, deadline=None)
NEEDS_ARGUMENTS = {"prelu"}


def box_around(seed, n, width):
    g = np.random.default_rng(seed)
    middle = g.standard_normal(n)
    return Box(middle - width * g.random(n), middle + width * g.random(n))


@QUICK
@given(
    layers(), st.integers(0, 1000), st.sampled_from([0.0, 1e-9, 0.1, 3.0]), st.sampled_from([np.float32, np.float64])
)
def test_rational_values_lie_inside(net, seed, width, dtype):
    weights, biases = net
    if dtype == np.float32:
        weights = [W.astype(np.float32).astype(float) for W in weights]
    network = from_layers(weights, biases, [RELU] * (len(weights) - 1))
    box = box_around(seed, network.inputs, width)
    points = [box.lower, box.upper, *box.sample(4, seed)]
    for method in METHODS.values():
        found = method(network, box, dtype=dtype)
        assert found.output[0].dtype == dtype
        for x in points:
            before, out = exact_forward(weights, biases, x)
            for k, i in enumerate(network.activations):
                low, high = found.before(i)
                assert all(Fraction(float(a)) <= v <= Fraction(float(b)) for a, v, b in zip(low, before[k], high))
            assert all(
                Fraction(float(a)) <= v <= Fraction(float(b)) for a, v, b in zip(found.output[0], out, found.output[1])
            )


@pytest.mark.parametrize("name", sorted({n for n, r in CATALOGUE.items() if r.entrywise} - NEEDS_ARGUMENTS))
def test_samples_lie_inside_for_every_activation_and_set(name):
    row = CATALOGUE[name]
    try:
        op = get(name)
    except TypeError:
        pytest.skip(f"{name} is no function of one variable without parameters")
    if not hasattr(op, "lines"):
        pytest.skip(f"{name} is no function of one variable")
    g = np.random.default_rng(3)
    weights = [g.standard_normal((6, 3)), g.standard_normal((5, 6)) * 0.6, g.standard_normal((2, 5))]
    network = from_layers(weights, [g.standard_normal(len(W)) for W in weights], [op, op])
    center = g.standard_normal(3)
    sets = [
        Box(center - 0.4, center + 0.7),
        Ball(center, 0.5),
        Ball(center, 0.6, 2),
        Ball(center, 0.6, 1, Box(center - 0.5, center + 0.2)),
        Polytope(np.array([[1.0, 1.0, 1.0]]), np.array([center.sum()]), Box(center - 1, center + 1)),
    ]
    assert row.formula
    for input_set in sets:
        cheap, tight = interval(network, input_set), linear(network, input_set)
        x = input_set.sample(300, 1)
        assert np.all(input_set.contains(x) | (np.abs(x - input_set.project(x)).max(axis=1) < 1e-9))
        values = network.values(x)
        for found in (cheap, tight):
            for v, low, high in zip(values, found.lower, found.upper):
                assert np.all(v >= low - 1e-9) and np.all(v <= high + 1e-9)
        assert np.all(tight.output[0] >= cheap.output[0]) and np.all(tight.output[1] <= cheap.output[1])


def residual_network():
    """Convolution, pooling, two branches added, leaky and clipped units."""
    g = np.random.default_rng(5)
    b = Builder((2, 6, 6))
    conv = b.convolve(0, Conv(g.standard_normal((3, 2, 3, 3)), (2, 6, 6), (1, 1), (1, 1, 1, 1)), g.standard_normal(3))
    left = b.activation(conv, get("leaky_relu", negative_slope=0.2))
    right = b.activation(
        b.convolve(left, Conv(g.standard_normal((3, 3, 3, 3)) * 0.3, (3, 6, 6), (1, 1), (1, 1, 1, 1))),
        get("clip", low=-0.5, high=1.0),
    )
    joined = b.add((left, right), (1.0, -1.0))
    pooled = b.max_pool(joined, (2, 2), (2, 2), (0, 0, 0, 0), (1, 1), False)
    flat = b.reshape(pooled, (27,))
    return b.build(b.affine(flat, Dense(g.standard_normal((4, 27)))))


def test_convolution_residual_pooling():
    network = residual_network()
    g = np.random.default_rng(0)
    for width in (0.01, 0.3):
        box = Ball(g.standard_normal(72), width)
        bounds = linear(network, box)
        x = box.sample(200, 0)
        for v, low, high in zip(network.values(x), bounds.lower, bounds.upper):
            assert np.all(v >= low - 1e-10) and np.all(v <= high + 1e-10)
        small = compact(network, box, bounds)
        np.testing.assert_allclose(small(x), network(x), atol=1e-11)


def test_batches_are_as_tight_as_single_sets():
    g = np.random.default_rng(2)
    weights = [g.standard_normal((7, 4)), g.standard_normal((6, 7)), g.standard_normal((3, 6))]
    network = from_layers(weights, [g.standard_normal(len(W)) for W in weights], [RELU, RELU])
    boxes = [box_around(k, 4, 0.5) for k in range(5)]
    for method in METHODS.values():
        together = method(network, boxes[0].stack(*boxes[1:]))
        for k, box in enumerate(boxes):
            alone = method(network, box)
            # A unit that is open in one box is refined in all of them, so a batch may be tighter, never looser.
            assert np.all(together.output[0][k] >= alone.output[0] - 1e-9) and np.all(
                together.output[1][k] <= alone.output[1] + 1e-9
            )
            y = network(box.sample(200, k))
            assert np.all(y >= together.output[0][k]) and np.all(y <= together.output[1][k])


def test_start_is_never_worse():
    g = np.random.default_rng(2)
    network = from_layers(
        [g.standard_normal((8, 2)), g.standard_normal((8, 8)), g.standard_normal((1, 8))],
        [g.standard_normal(8), g.standard_normal(8), np.zeros(1)],
        [RELU] * 2,
    )
    wide, narrow = Box(-np.ones(2), np.ones(2)), Box(-0.1 * np.ones(2), 0.1 * np.ones(2))
    start = linear(network, wide)
    again = linear(network, narrow, start=start)
    assert np.all(again.output[0] >= start.output[0]) and np.all(again.output[1] <= start.output[1])


def test_wrong_size_is_refused():
    network = from_layers([np.eye(2)], [np.zeros(2)], [])
    with pytest.raises(ShapeMismatch, match="3 inputs, the network takes 2"):
        interval(network, Box(np.zeros(3), np.ones(3)))


@QUICK
@given(layers(), st.integers(0, 1000), st.sampled_from([0.05, 0.5, 3.0]), st.sampled_from([0, Fraction(1, 4)]))
def test_compact_form_is_the_network_up_to_its_stated_error(net, seed, width, slope):
    """In rational arithmetic: z = C x + W h + b + e with |e| <= error for the network's own gates, and the outputs likewise."""
    weights, biases = net
    op = RELU if slope == 0 else get("leaky_relu", negative_slope=float(slope))
    network = from_layers(weights, biases, [op] * (len(weights) - 1))
    box = box_around(seed, network.inputs, width)
    small = compact(network, box)
    exact = lambda row, values: sum((Fraction(float(a)) * v for a, v in zip(row, values)), Fraction(0))
    for x in [box.lower, box.upper, *box.sample(3, seed)]:
        before, out = exact_forward(weights, biases, x, slope)
        point = [Fraction(float(v)) for v in x]
        place = {i: k for k, i in enumerate(network.activations)}
        z = [before[place[int(node)]][int(entry)] for node, entry, _ in small.units]
        h = [max(v, Fraction(0)) for v in z]
        for k in range(small.gates):
            assert Fraction(float(small.lower[k])) <= z[k] <= Fraction(float(small.upper[k]))
            assert abs(
                exact(small.C[k], point) + exact(small.W[k], h) + Fraction(float(small.b[k])) - z[k]
            ) <= Fraction(float(small.error[k]))
        for k in range(len(out)):
            value = exact(small.X[k], point) + exact(small.H[k], h) + Fraction(float(small.c[k]))
            assert abs(value - out[k]) <= Fraction(float(small.output_error[k]))
    assert np.all(np.triu(small.W) == 0)
