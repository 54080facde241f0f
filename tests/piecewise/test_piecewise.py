"""Piecewise-linear activations as data: what is derived from knots and slopes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relukit import EmptyInterval, InvalidInput, PiecewiseLinear
from relukit.activations import get

RELU = get("relu")


@st.composite
def functions(draw):
    k = draw(st.integers(0, 4))
    knots = np.cumsum(draw(st.lists(st.floats(0.1, 2), min_size=k, max_size=k))) - 2 if k else []
    slopes = draw(st.lists(st.floats(-3, 3), min_size=k + 1, max_size=k + 1))
    return PiecewiseLinear(knots, slopes, draw(st.floats(-2, 2)))


def test_the_articles_values():
    np.testing.assert_array_equal(RELU(np.array([-3, -0.7, 0, 1.2, 5])), [0, 0, 0, 1.2, 5])
    np.testing.assert_array_equal(RELU.derivative(np.array([-1.0, 0.0, 2.0])), [0, 0, 1])


@settings(max_examples=60, deadline=None)
@given(functions(), st.floats(-5, 5), st.floats(0, 4))
def test_bounds_lines_and_hinges(f, low, width):
    l, u = np.array([low]), np.array([low + width])
    x = np.linspace(low, low + width, 401)
    x = np.clip(x, l, u)
    y = f(x)
    lower, upper = f.bounds(l, u)
    assert np.all(y >= lower) and np.all(y <= upper)
    knots = np.concatenate([np.clip(np.asarray(f.knots, float), l, u), l, u])
    np.testing.assert_allclose([lower[0], upper[0]], [f(knots).min(), f(knots).max()], atol=1e-12)
    a, c, A, C = f.lines(l, u)
    assert np.all(a * x + c <= y + 1e-13) and np.all(A * x + C >= y - 1e-13)
    h = f.hinges()
    split = (
        h.slope * x + h.offset + sum((w * np.maximum(0, x - t) for w, t in zip(h.weights, h.knots)), np.zeros_like(x))
    )
    np.testing.assert_allclose(split, y, atol=1e-12)
    step = 1e-7
    smooth = np.all(np.abs(x[:, None] - np.asarray(f.knots, float).reshape(1, -1)) > 2 * step, axis=1)
    np.testing.assert_allclose(f.derivative(x)[smooth], ((f(x + step) - f(x - step)) / (2 * step))[smooth], atol=1e-6)


def test_relu_lines_are_the_adaptive_ones():
    a, c, A, C = RELU.lines(np.array([-1.0, -1.0]), np.array([0.5, 2.0]))
    np.testing.assert_allclose(a, [0, 1])
    np.testing.assert_allclose(c, 0, atol=1e-15)
    np.testing.assert_allclose(A, [1 / 3, 2 / 3])
    np.testing.assert_allclose(C, [1 / 3, 2 / 3])


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "hardtanh", "abs", "relu6"])
def test_gain_keeps_the_second_moment(name):
    f = get(name)
    z = np.linspace(-12, 12, 2_000_001)
    density = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    moment = np.sum(f(z) ** 2 * density) * (z[1] - z[0])
    assert f.gain() == pytest.approx(1 / np.sqrt(moment), rel=1e-6)


def test_units_of_their_own():
    f = get("prelu", weight=np.array([0.1, 0.2, 0.3]))
    np.testing.assert_allclose(f(-np.ones((2, 3))), -np.tile([0.1, 0.2, 0.3], (2, 1)))
    np.testing.assert_allclose(f.take(np.array([2]))(np.array([-1.0])), [-0.3])
    assert f.lipschitz() == 1


def test_what_is_refused():
    with pytest.raises(InvalidInput, match="increase strictly"):
        PiecewiseLinear([1.0, 1.0], [0.0, 1.0, 2.0])
    with pytest.raises(InvalidInput, match="need 2 slopes"):
        PiecewiseLinear([1.0], [0.0])
    with pytest.raises(EmptyInterval):
        RELU.bounds(np.array([1.0]), np.array([0.0]))
    with pytest.raises(InvalidInput, match="no activation 'rleu'"):
        get("rleu")
