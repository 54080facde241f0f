"""Curves beside the activations: values by the formula, and bounds and lines that hold everywhere."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import relukit
from relukit import Box, UnsupportedOperation
from relukit.bounds import linear
from relukit.network import curves
from relukit.network.rewrite import Builder

# name, curve, formula, where it is defined
CURVES = [
    ("square", curves.square(), lambda x: x * x, (-30, 30)),
    ("cube", curves.power(3), lambda x: x * x * x, (-9, 9)),
    ("fourth", curves.power(4), lambda x: (x * x) ** 2, (-9, 9)),
    ("exp", curves.exponential(), lambda x: math.e**x, (-30, 30)),
    ("erf", curves.erf(), np.vectorize(math.erf), (-4, 4)),
    ("reciprocal", curves.reciprocal(), lambda x: 1.0 / x, (0.01, 9)),
    ("reciprocal below 0", curves.reciprocal(), lambda x: 1.0 / x, (-9, -0.01)),
    ("sqrt", curves.root(), lambda x: x**0.5, (0, 9)),
    ("log", curves.logarithm(), np.vectorize(math.log), (0.001, 30)),
    ("sin", curves.Wave(), np.vectorize(math.sin), (-25, 25)),
    ("cos", curves.Wave("cos"), np.vectorize(math.cos), (-25, 25)),
    ("far sin", curves.Wave(), np.vectorize(math.sin), (99_990, 100_010)),
    ("sign", curves.sign(), lambda x: (x > 0) * 1.0 - (x < 0) * 1.0, (-2, 2)),
    ("step", curves.above(False), lambda x: (x >= 0) * 1.0, (-2, 2)),
    ("strict step", curves.above(True), lambda x: (x > 0) * 1.0, (-2, 2)),
]


@pytest.mark.parametrize("case", CURVES, ids=[c[0] for c in CURVES])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_bounds_and_lines_hold(case, dtype):
    _, op, formula, (low, high) = case
    rng = np.random.default_rng(0)
    ends = rng.uniform(low, high, (400, 2))
    ends[:150, 1] = ends[:150, 0] + rng.exponential(0.1, 150)  # short ones, and points
    ends[:20, 1] = ends[:20, 0]
    ends = np.clip(ends, low, high)
    if op.name in ("sign", "step"):
        ends[20:60, rng.integers(0, 2)] = 0.0  # at the jump itself
    l, u = (v.astype(dtype) for v in (ends.min(axis=1), ends.max(axis=1)))
    share = np.r_[0.0, rng.random(60), 1.0]
    x = np.clip(l[:, None].astype(float) + share * (u - l)[:, None].astype(float), l[:, None], u[:, None])
    x[:, 5] = np.clip(0.0, l, u) if low <= 0 <= high else x[:, 5]
    want = formula(x)
    np.testing.assert_allclose(op(x), want, rtol=1e-12, atol=1e-9)
    below, above = op.bounds(l, u)
    assert below.dtype == dtype
    assert np.all(below[:, None] <= want) and np.all(want <= above[:, None])
    a, c, A, C = (v[:, None].astype(float) for v in op.lines(l, u))
    slack = 1e-12 * (1 + np.abs(want)) if dtype is np.float64 else 0.0  # of evaluating the formula and the line here
    assert np.all(a * x + c <= want + slack + 1e-9 * np.abs(a * x)) and np.all(
        A * x + C >= want - slack - 1e-9 * np.abs(A * x)
    )
    inner = op.intercepts(np.full_like(l, 0.7), l, u)
    assert np.all(0.7 * x + inner[0][:, None] <= want + 1e-6) and np.all(0.7 * x + inner[1][:, None] >= want - 1e-6)


def test_curves_are_tight_where_they_can_be():
    """Ends of intervals are reached: the range of sin over [0, 2] is [0, 1], that of a square over [-1, 2] [0, 4]."""
    one = lambda op, l, u: tuple(float(v[0]) for v in op.bounds(np.array([l]), np.array([u])))
    assert one(curves.Wave(), 0.0, 2.0) == pytest.approx((0, 1), abs=1e-9)
    assert one(curves.Wave("cos"), 3.0, 9.0) == pytest.approx((-1, 1), abs=1e-9)
    assert one(curves.Wave("cos"), 0.5, 1.0) == pytest.approx((math.cos(1), math.cos(0.5)), abs=1e-9)
    assert one(curves.square(), -1.0, 2.0) == pytest.approx((0, 4), abs=1e-9)
    assert one(curves.sign(), -1.0, 0.0) == (-1, 0)
    assert one(curves.above(False), -1.0, 0.0) == (0, 1)
    assert one(curves.above(True), -1.0, 0.0) == (0, 0)


def test_what_is_unbounded_says_so():
    one = lambda op, l, u: tuple(float(v[0]) for v in op.bounds(np.array([l]), np.array([u])))
    assert one(curves.reciprocal(), -1.0, 1.0) == (-np.inf, np.inf)
    assert one(curves.reciprocal(), 0.0, 1.0) == (-np.inf, np.inf)
    low, high = one(curves.logarithm(), -1.0, 1.0)
    assert low == -np.inf and high == pytest.approx(0, abs=1e-9)
    low, high = one(curves.exponential(), 0.0, 2_000.0)
    assert high == np.inf
    low, high = one(curves.Wave(), -1e9, 1e9)
    assert (low, high) == (-1, 1)


class Written(nn.Module):
    """An activation in several operators."""

    def __init__(self, formula):
        super().__init__()
        self.first, self.formula = nn.Linear(2, 3), formula

    def forward(self, x):
        return self.formula(self.first(x))


def _hat(z):
    """A bump of width 0.006 between points that a coarse grid would compare."""
    return torch.relu(z - 0.01) - 2 * torch.relu(z - 0.013) + torch.relu(z - 0.016)


@pytest.mark.parametrize(
    ("formula", "read"),
    [
        (lambda z: z * torch.sigmoid(z), "silu"),
        (lambda z: 0.5 * z * (1 + torch.erf(z / 1.41421356)), "gelu"),
        (lambda z: z * nn.functional.relu6(z + 3) / 6, "hardswish"),
        (lambda z: torch.clamp(z, -10, 10) * torch.sigmoid(z), None),  # a silu up to 10 alone
        (lambda z: torch.clamp(z, max=4000.0) * torch.sigmoid(z), None),
        (lambda z: z * (torch.sigmoid(z) + _hat(z)), None),
    ],
)
def test_an_activation_in_several_operators_is_read_as_one_only_where_it_is_one(formula, read):
    torch.manual_seed(0)
    module = Written(formula).double().eval()
    network = relukit.load(module, input_shape=(2,))
    kinds = {node.op.name for node in network.nodes if node.is_activation}
    assert kinds == {read} if read else not kinds & {"silu", "gelu", "hardswish"}
    g = np.random.default_rng(0)
    box = Box([-300.0, -300.0], [300.0, 300.0])
    for scale in (1e-2, 1.0, 30.0, 300.0):
        x = np.clip(g.standard_normal((500, 2)) * scale, box.lower, box.upper)
        expected = module(torch.tensor(x)).detach().numpy()
        np.testing.assert_allclose(network(x), expected, rtol=2e-6, atol=2e-7)
        lower, upper = linear(network, Box(x.min(0), x.max(0))).output
        assert np.all(lower <= expected) and np.all(expected <= upper)  # the source's own values, not the reading's


def test_what_jumps_is_not_called_smooth():
    net = Builder((1, 2))
    network = net.build(net.activation(0, curves.sign()))
    with pytest.raises(UnsupportedOperation, match=r"sign at node .* jumps; the smallest flip needs"):
        network.require_piecewise_linear("the smallest flip")
