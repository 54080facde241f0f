"""Values and derivatives against mpmath, derived facts against torch, and the articles' examples."""

import math
import warnings

import mpmath
import numpy as np
import pytest

from relukit._errors import InvalidInput, UnsupportedOperation
from relukit.activations import CATALOGUE, gain, get

mpmath.mp.dps = 50
M = mpmath.mpf
S_ALPHA, S_SCALE = M(1.6732632423543772848170429916717), M(1.0507009873554804934193349852946)


def _sigmoid(x):
    return 1 / (1 + mpmath.exp(-x))


def _gelu_tanh(x):
    return x * _sigmoid(2 * mpmath.sqrt(2 / mpmath.pi) * (x + M("0.044715") * x**3))


def _gelu_tanh_slope(x):
    t = mpmath.sqrt(2 / mpmath.pi) * (x + M("0.044715") * x**3)
    rate = mpmath.sqrt(2 / mpmath.pi) * (1 + 3 * M("0.044715") * x**2)
    # 1 + tanh written without cancellation
    return mpmath.exp(2 * t) / (1 + mpmath.exp(2 * t)) + x * rate / 2 / mpmath.cosh(t) ** 2


def _mish_slope(x):
    s = mpmath.log1p(mpmath.exp(x))
    return mpmath.tanh(s) + x * _sigmoid(x) / mpmath.cosh(s) ** 2


TRUTH = {
    "sigmoid": (_sigmoid, lambda x: 1 / (2 + mpmath.exp(x) + mpmath.exp(-x))),
    "tanh": (mpmath.tanh, lambda x: 1 / mpmath.cosh(x) ** 2),
    "elu": (lambda x: x if x > 0 else mpmath.expm1(x), lambda x: M(1) if x > 0 else mpmath.exp(x)),
    "celu": (lambda x: x if x > 0 else mpmath.expm1(x), lambda x: M(1) if x > 0 else mpmath.exp(x)),
    "selu": (
        lambda x: S_SCALE * (x if x > 0 else S_ALPHA * mpmath.expm1(x)),
        lambda x: S_SCALE * (M(1) if x > 0 else S_ALPHA * mpmath.exp(x)),
    ),
    "gelu": (lambda x: x * mpmath.ncdf(x), lambda x: mpmath.ncdf(x) + x * mpmath.npdf(x)),
    "silu": (lambda x: x * _sigmoid(x), lambda x: _sigmoid(x) * (1 + x * _sigmoid(-x))),
    "mish": (lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))), _mish_slope),
    "softplus": (lambda x: mpmath.log1p(mpmath.exp(x)), _sigmoid),
    "hardswish": (
        lambda x: x * min(max(x + 3, M(0)), M(6)) / 6,
        lambda x: M(0) if x <= -3 else (2 * x + 3) / 6 if x <= 3 else M(1),
    ),
    "relu_squared": (lambda x: max(x, M(0)) ** 2, lambda x: 2 * max(x, M(0))),
    "relu": (lambda x: max(x, M(0)), lambda x: M(int(x > 0))),
    "leaky_relu": (lambda x: x if x > 0 else M(0.01) * x, lambda x: M(1) if x > 0 else M(0.01)),
    "hardtanh": (lambda x: min(max(x, M(-1)), M(1)), lambda x: M(int(-1 < x <= 1))),
    "relu6": (lambda x: min(max(x, M(0)), M(6)), lambda x: M(int(0 < x <= 6))),
    "abs": (abs, lambda x: M(1) if x > 0 else M(-1)),
    "prelu": (lambda x: x if x > 0 else x / 4, lambda x: M(1) if x > 0 else M(1) / 4),
    "hardsigmoid": (
        lambda x: min(max(x / 6 + M(1) / 2, M(0)), M(1)),
        lambda x: M(0) if x <= -3 or x > 3 else M(1) / 6,
    ),
}


PIECEWISE = ("relu", "leaky_relu", "hardsigmoid", "hardtanh", "relu6", "abs", "prelu")


def _ulps(found, truth, dtype):
    """Error in units of the last place of the rounded truth; subnormal results count in the smallest number."""
    worst = 0.0
    for value, exact in zip(found, truth):
        unit = float(np.spacing(np.abs(dtype(float(exact)))))
        worst = max(worst, float(abs(M(float(value)) - exact) / M(unit)))
    return worst


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", TRUTH)
def test_value_and_derivative_are_within_two_ulp(name, dtype):
    generator = np.random.default_rng(3)
    reach = 700.0 if dtype == np.float64 else 85.0
    x = np.concatenate(
        [generator.uniform(-9, 9, 120), generator.uniform(-40, 40, 40), generator.uniform(-reach, reach, 20),
         10.0 ** generator.uniform(-20, -1, 10), -(10.0 ** generator.uniform(-20, -1, 10)), [-5.0, -1.0, 1.0, 3.0]]
    ).astype(dtype)  # fmt: skip
    f = get(name)
    value, slope = TRUTH[name]
    points = [M(float(t)) for t in x]
    assert f(x).dtype == dtype
    assert _ulps(f(x), [value(t) for t in points], dtype) <= 2
    assert _ulps(f.derivative(x), [slope(t) for t in points], dtype) <= 2


def test_tanh_form_of_gelu_keeps_its_left_tail():
    x = np.random.default_rng(0).uniform(-12, 6, 100)
    f = get("gelu", approximate="tanh")
    points = [M(float(t)) for t in x]
    assert _ulps(f(x), [_gelu_tanh(t) for t in points], np.float64) <= 2
    assert _ulps(f.derivative(x), [_gelu_tanh_slope(t) for t in points], np.float64) <= 2


@pytest.mark.parametrize("name", [n for n in TRUTH if n not in PIECEWISE])
def test_the_derivative_is_monotone_between_the_inflections(name):
    """What the bounds of smooth activations rest on."""
    for f in [get(name)] + ([get("gelu", approximate="tanh")] if name == "gelu" else []):
        ends = [-30.0, *f.inflections, 30.0]
        for left, right in zip(ends[:-1], ends[1:]):
            inside = np.linspace(np.nextafter(left, right), right, 4001)
            steps = np.diff(f.derivative(inside))
            assert np.all(steps >= 0) or np.all(steps <= 0), (name, left, right)
        low, high = f.slope_range()
        everywhere = f.derivative(np.linspace(-30, 30, 20001))
        assert low <= everywhere.min() and everywhere.max() <= high
        assert f.lipschitz() >= max(abs(low), abs(high)) * (1 - 1e-12)


def test_infinite_inputs_give_the_limits():
    x = np.array([-np.inf, np.inf])
    for name, row in CATALOGUE.items():
        if row.entrywise:
            assert tuple(row()(x)) == tuple(row().limits), name


def test_gains_and_sides_of_zero():
    assert gain("relu") == pytest.approx(math.sqrt(2), rel=1e-14)
    assert gain("leaky_relu", negative_slope=0.2) == pytest.approx(math.sqrt(2 / 1.04), rel=1e-14)
    for name in ("gelu", "silu", "elu"):  # torch.nn.init.calculate_gain refuses these
        f = get(name)
        truth = mpmath.quad(lambda t: M(TRUTH[name][0](t)) ** 2 * mpmath.npdf(t), [-20, 0, 20])  # noqa: B023
        assert gain(name) == pytest.approx(float(1 / mpmath.sqrt(truth)), rel=2e-4)
        assert f(np.zeros(1))[0] == 0


def test_facts_of_every_row_are_plain_json():
    import json

    for row in CATALOGUE.values():
        facts = row.facts()
        json.dumps(facts, allow_nan=False)
        assert facts["pros"] and facts["cons"] and facts["latex"]
    assert CATALOGUE["sigmoid"].facts()["derivative_range"] == [0.0, 0.25]
    assert CATALOGUE["relu"].facts()["derivative_at_0_sides"] == [0.0, 1.0]
    left, right = CATALOGUE["elu"].facts()["float32_zero_gradient"]
    assert right is None and get("elu").derivative(np.float32([left]))[0] == 0
    assert get("elu").derivative(np.nextafter(np.float32([left]), np.float32(0)))[0] > 0


def test_conventions_at_zero_are_those_of_the_installed_torch():
    from relukit.activations.measured import keras_facts, torch_facts, zero_conventions

    found = zero_conventions()
    assert found["F.relu(x)"] == 0 and found["torch.maximum(x, 0)"] == 0.5 and found["torch.clamp_min(x, 0)"] == 1
    measured = torch_facts(CATALOGUE["gelu"])
    assert -16 < measured["float32_zero_gradient"][0] < -4  # GELU's float32 gradient does become 0
    assert measured["largest_relative_error"] > 1e-3 and measured["at"] < -3  # and its left tail loses digits
    assert torch_facts(CATALOGUE["relu"])["float32_zero_gradient"] == [0.0, None]
    assert torch_facts(CATALOGUE["relu6"])["float32_zero_gradient"] == [0.0, 6.0]
    assert torch_facts(CATALOGUE["maxout"]) == {}
    for row in CATALOGUE.values():
        seen = keras_facts(row)
        assert not seen or seen["value_at_0"] == pytest.approx(row()(np.zeros(1))[0], abs=1e-6), row.name


def test_unknown_names_and_rows_that_are_no_functions():
    with pytest.raises(InvalidInput, match="the catalogue has relu, leaky_relu"):
        get("rectifier")
    with pytest.raises(UnsupportedOperation, match=r"relukit\.nn\.Maxout"):
        get("maxout")
    with pytest.warns(DeprecationWarning, match="negative_slope"):
        assert get("leaky_relu", alpha=0.3).derivative(np.array([-1.0]))[0] == 0.3


def test_worked_values_of_the_articles():
    x = np.array([-3.0, -0.7, 0.0, 1.2, 5.0])
    expected = [0.0, 0.0, 0.0, 1.2, 5.0]
    assert get("relu")(x).tolist() == expected
    assert np.maximum(0, x).tolist() == expected


def test_torch_example_of_the_articles():
    import torch
    from torch import nn

    import relukit

    model = nn.Sequential(nn.Linear(5, 3), nn.ReLU())
    x = np.random.default_rng(1).normal(size=(7, 5))
    assert np.allclose(relukit.load(model)(x), model(torch.tensor(x, dtype=torch.float32)).detach(), atol=1e-6)


@pytest.mark.parametrize("spelling", ["alpha", "negative_slope"])
def test_keras_example_of_the_articles(spelling, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    import relukit

    # The articles' old spellings: input_dim= (Keras 2) is an Input layer now, alpha= was negative_slope=.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            leaky = keras.layers.LeakyReLU(**{spelling: 0.01})
        except ValueError:  # Keras 3 before 3.1 knew the new name only
            leaky = keras.layers.LeakyReLU(negative_slope=0.01)
        layers = [keras.layers.Dense(64, input_dim=10), leaky, keras.layers.Dense(1, activation="sigmoid")]
        model = keras.Sequential(layers)
    x = np.random.default_rng(2).normal(size=(5, 10)).astype(np.float32)
    network = relukit.load(model)
    assert network.head == "sigmoid"
    assert np.allclose(network.apply_head(network(x)), np.asarray(model(x).detach()), atol=1e-6)
    assert network.nodes[network.activations[0]].op.derivative(np.array([-1.0]))[0] == pytest.approx(0.01)


def test_modules_that_torch_lacks_and_decay_groups():
    import torch
    from torch import nn

    import relukit

    x = torch.randn(4, 3)
    assert relukit.nn.CReLU()(x).shape == (4, 6)
    assert torch.equal(relukit.nn.CReLU()(x)[:, :3] - relukit.nn.CReLU()(x)[:, 3:], x)
    maxout = relukit.nn.Maxout(3, 2, 4)
    pieces = maxout.linear(x).reshape(4, 2, 4)
    assert torch.equal(maxout(x), pieces.max(-1).values)
    assert torch.equal(relukit.nn.ReLUSquared()(x), torch.relu(x) ** 2)
    model = nn.Sequential(nn.Linear(3, 4), nn.PReLU(4), nn.Linear(4, 1), nn.LayerNorm(1))
    decayed, spared = relukit.nn.decay_groups(model, 0.1)
    assert {id(p) for p in decayed["params"]} == {id(model[0].weight), id(model[2].weight)}
    assert id(model[1].weight) in {id(p) for p in spared["params"]} and spared["weight_decay"] == 0
    assert len(decayed["params"]) + len(spared["params"]) == len(list(model.parameters()))
