"""Sparse inference gives the dense network's numbers, whatever form computes them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import relukit
from relukit import Box, InvalidInput
from relukit.activations import get
from relukit.inference._layers import Layer, Screen
from relukit.network import from_layers
from tests.strategies import RELU


def network(sizes, shift, seed, activation=RELU):
    g = np.random.default_rng(seed)
    weights = [
        (g.standard_normal((o, i)) / np.sqrt(i)).astype(np.float32).astype(float) for i, o in zip(sizes, sizes[1:])
    ]
    biases = [np.full(o, np.float32(shift), float) for o in sizes[1:]]
    return from_layers(weights, biases, [activation] * (len(sizes) - 2)), weights, biases


def plain(weights, biases, x):
    """float64, unit by unit."""
    for k, (W, b) in enumerate(zip(weights, biases)):
        x = np.array([[sum(w * v for w, v in zip(row, p)) + c for row, c in zip(W.tolist(), b)] for p in x.tolist()])
        x = np.where(x > 0, x, 0) if k < len(weights) - 1 else x
    return x


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, -1.5]), st.integers(1, 5))
def test_every_form_equals_loops_over_units(seed, shift, batch):
    net, weights, biases = network([7, 12, 9, 3], shift, seed)
    x = np.random.default_rng(seed + 1).standard_normal((batch, 7)).astype(np.float32)
    expected = plain(weights, biases, x.astype(float))
    fast = relukit.speed(net, x, (1,), budget=0.0)
    for engines in (("screen", "screen", "skip"), ("screen", "skip", "skip"), ("rows",) * 3, ("dense",) * 3):
        assert np.abs(fast.run(x, engines) - expected).max() < 1e-5


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_a_row_screened_off_is_off_in_exact_arithmetic(seed):
    """Biases are set a hair above and below the point where each unit turns on."""
    g = np.random.default_rng(seed)
    W, x = g.standard_normal((40, 33)).astype(np.float32), g.standard_normal((1, 33)).astype(np.float32)
    z = W.astype(np.longdouble) @ x[0].astype(np.longdouble)
    b = (-z + np.longdouble(1e-3) * g.standard_normal(40)).astype(np.float32)
    from relukit.inference._kernels import whole_numbers

    out = Layer(W, b, RELU, False).run(x, "screen")[0]
    exact = z + b.astype(np.longdouble)
    assert np.abs(out - np.maximum(exact, 0)).max() < 1e-4
    # float32 may round a positive value below 1e-5 to 0 when the row is read; screening alone never does
    screen = Screen.of(W)
    left = W.astype(np.longdouble) - screen.scale[:, None].astype(np.longdouble) * screen.Q[:, :33]
    assert np.all(screen.slack >= np.sqrt((left**2).sum(axis=1)))
    whole, _, _, units, norms, rests = whole_numbers(x, 33)
    assert norms[0] >= np.sqrt((x[0].astype(np.longdouble) ** 2).sum())
    assert rests[0] >= np.sqrt(((x[0].astype(np.longdouble) - np.longdouble(units[0]) * whole[0]) ** 2).sum())
    sums = np.array([int(q[:33].astype(int) @ whole[0].astype(int)) for q in screen.Q])
    assert np.abs(sums).max() < 2**31
    norm = np.sqrt((x[0].astype(np.longdouble) ** 2).sum())
    assert np.all(np.abs(z - screen.scale * units[0] * sums) <= screen.slack * norm + screen.reach * rests[0])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1e-30, 1.0, 1e20]), st.integers(1, 700))
def test_whole_numbers_never_overflow_and_their_rest_is_bounded(seed, scale, n):
    g = np.random.default_rng(seed)
    x = (scale * g.standard_t(1.5, (3, n))).astype(np.float32)
    x[0] = 0
    from relukit.inference._kernels import whole_numbers

    whole, high, low, units, _, rests = whole_numbers(x, n)
    assert np.array_equal(256 * high.astype(int) + low - 32768, whole)
    assert np.abs(whole.astype(int)).max() * 127 * n < 2**31
    for row, z, unit, rest in zip(x, whole, units, rests):
        assert rest >= np.sqrt(((row.astype(np.longdouble) - np.longdouble(unit) * z) ** 2).sum())


@pytest.mark.parametrize("width", [1, 127, 128, 700, 4096])
def test_sums_of_bytes_are_exact_either_way(width):
    """Whole-number arithmetic in Python as the oracle; extremes that would overflow 16-bit products included."""
    from relukit.inference import _bytes as b

    g = np.random.default_rng(width)
    most = min(32_767, (2**31 - 1) // (127 * width))
    Q = g.integers(-127, 128, (9, width)).astype(np.int8)
    z = g.integers(-most, most + 1, width).astype(np.int16)
    Q[0], Q[1], z[:2] = 127, -127, (most, -most)[:width] if width > 1 else most
    want = [sum(int(q) * int(v) for q, v in zip(row, z)) for row in Q]
    pad = -width % b.STEP
    wide, whole = np.pad(Q, ((0, 0), (0, pad))), np.pad(z, (0, pad))
    totals, rows = Q.sum(axis=1, dtype=np.int64), np.array([0, 8, 3, 1, 0, 0, 0, 0, 0])
    for over, listed in [(b._plain_rows, b._plain_listed)] + ([(b._wide_rows, b._wide_listed)] if b.WIDE else []):
        sums = np.zeros(9, np.int32)
        over(wide, totals, whole, *b.split(whole), sums, 0, 9)
        assert sums.tolist() == want
        listed(wide, totals, rows, whole, *b.split(whole), sums, 1, 4)
        assert sums[1:4].tolist() == [want[8], want[3], want[1]]


def test_infinite_sums_are_never_screened_off():
    W = np.full((2, 4), 1.0, np.float32)
    W[1] = -1
    x = np.array([[3e38, 3e38, -3e38, -3e38]], np.float32)
    x[0, 3] = -2e38
    out = Layer(W, np.zeros(2, np.float32), RELU, False).run(x, "screen")[0]
    assert out[0] != 0  # 1e38, or inf or NaN by the order of the sum: not off
    assert np.isnan(Layer(W, np.zeros(2, np.float32), RELU, False).run(x * np.float32(np.nan), "screen")).all()


def test_known_pattern_and_threads():
    net, weights, biases = network([300, 900, 5], -1.0, 3)
    x = np.random.default_rng(0).standard_normal((2, 300)).astype(np.float32)
    fast = relukit.speed(net, x, (1, 4), threads=2, budget=0.0)
    on = np.flatnonzero((x @ weights[0].T + biases[0] > -1e-3).any(axis=0))
    assert np.abs(fast.with_pattern(x, [on]) - net(x)).max() < 1e-5
    assert np.abs(fast.run(x, ("screen", "skip")) - net(x)).max() < 1e-5
    with pytest.raises(InvalidInput, match="1 hidden"):
        fast.with_pattern(x, [])


def test_measurements_and_torch_module():
    import torch

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.ReLU(), torch.nn.Linear(64, 3)).eval()
    x = torch.randn(20, 16)
    fast = relukit.speed(module, x.numpy(), (1, 4), budget=0.02)
    assert [m.batch for m in fast.measured] == [1, 4]
    with torch.no_grad():
        hidden, expected = module[1](module[0](x)), module(x)
    assert abs(fast.measured[0].zero_share - float((hidden == 0).float().mean())) < 0.1
    assert all(m.ratio >= 1 and m.dense_seconds > 0 for m in fast.measured)
    assert torch.allclose(fast.module()(x), expected, atol=1e-5) and torch.allclose(fast(x), expected, atol=1e-5)
    assert set(fast.to_dict()["batches"][0]) >= {"dense_seconds", "seconds", "ratio", "zero_share", "engine"}


def test_bad_input_and_what_cannot_be_skipped():
    net = network([3, 4, 2], 0.0, 0)[0]
    assert "standard normal inputs" in relukit.speed(net, batches=(1,), budget=0.0).reason
    with pytest.raises(InvalidInput, match="finite"):
        relukit.speed(net, np.full((1, 3), np.inf))
    for wrong in (-1.0, np.nan):
        with pytest.raises(InvalidInput, match="budget is a number of seconds"):
            relukit.speed(net, budget=wrong)
    smooth = network([3, 4, 2], 0.0, 0, get("gelu"))[0]
    fast = relukit.speed(smooth, Box(-np.ones(3), np.ones(3)).sample(4, 0), (1,), budget=0.0)
    assert fast.measured[0].engine[0] == "dense" and fast.measured[0].engine[1] in ("dense", "rows")
    assert np.abs(fast(np.ones(3)) - smooth(np.ones(3))).max() < 1e-5


def test_convolutions_stay_dense_and_are_not_multiplied_out():
    import torch

    torch.manual_seed(0)
    conv = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 3)
    ).eval()
    x = torch.randn(6, 1, 8, 8)
    fast = relukit.speed(relukit.load(conv, input_shape=(1, 8, 8)), x.numpy(), (1, 4), budget=0.01)
    assert not fast.layers and "not a chain of dense layers" in fast.reason
    assert all(m.engine == ("dense",) and m.ratio == 1 for m in fast.measured)
    with torch.no_grad():
        assert abs(fast.measured[0].zero_share - float((conv[:2](x) == 0).float().mean())) < 0.1
        assert torch.equal(fast(x), conv(x)) and np.abs(fast(x.numpy()) - conv(x).numpy()).max() < 1e-6
