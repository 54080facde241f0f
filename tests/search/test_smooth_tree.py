"""Optimized lines and splits of units, against grids, samples and all patterns of jumps."""

import itertools
import time

import numpy as np
import pytest

import relukit
from relukit import Box
from relukit.activations import get
from relukit.bounds import linear
from relukit.network import curves, products
from relukit.network.rewrite import Builder
from relukit.search._smooth_rows import Lanes, Rows
from relukit.verification.vnnlib import Case, Property

KINDS = {
    "sigmoid": (lambda: get("sigmoid"), lambda z: 1 / (1 + np.exp(-z))),
    "tanh": (lambda: get("tanh"), np.tanh),
    "silu": (lambda: get("silu"), lambda z: z / (1 + np.exp(-z))),
    "relu": (lambda: get("relu"), lambda z: np.maximum(z, 0)),
    "hardtanh": (lambda: get("hardtanh"), lambda z: np.clip(z, -1, 1)),
    "sin": (curves.Wave, np.sin),
    "square": (curves.square, np.square),
    "exp": (curves.exponential, np.exp),
    "sign": (curves.sign, np.sign),
    "step": (lambda: curves.above(True), lambda z: (z > 0).astype(float)),
    "reached": (lambda: curves.above(False), lambda z: (z >= 0).astype(float)),
}


def mixed(kind, seed, inputs=2, width=4):
    """Two layers of one kind, their product with the first layer added; and the same by formula, with all units' inputs."""
    rng = np.random.default_rng(seed)
    W, V = rng.normal(size=(inputs, width)), rng.normal(size=(width, width)) / 2
    b, c = rng.normal(size=width) * 0.5, rng.normal(size=width) * 0.5
    make, formula = KINDS[kind]
    net = Builder((inputs,))
    first = net.activation(net.matmul(net.reshape(0, (1, inputs)), W, b), make())
    second = net.activation(net.matmul(first, V, c), make())
    both = products.multiply(net, first, net.scale(second, 0.5, 0.25))
    network = net.build(net.matmul(both, np.eye(width)[:, :2] + 0.1))

    def by_hand(x):
        z = x @ W + b
        h = formula(z)
        u = h @ V + c
        g = formula(u)
        return z, u, (h * (0.5 * g + 0.25)) @ (np.eye(width)[:, :2] + 0.1)

    return network, by_hand


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", KINDS)
def test_any_lines_and_multipliers_stay_below_what_samples_reach(kind, seed):
    network, by_hand = mixed(kind, seed)
    rng = np.random.default_rng(seed)
    box = Box(-np.ones(2), np.ones(2))
    rows = Rows(network, box)
    rows.sweep(0, np.inf)
    x = np.concatenate([box.sample(20_000, seed=seed), *(np.array([[a, b]]) for a in (-1.0, 1.0) for b in (-1.0, 1.0))])
    z, u, y = by_hand(x)
    assert np.allclose(y, network(x))
    layers = [i for i in network.activations if network.nodes[i].op.name != "square" or kind == "square"][:2]
    assert [rows.spans[i].stop - rows.spans[i].start for i in layers] == [4, 4]
    start = rng.normal(size=(12, 2))
    lanes = rows.lanes(len(network) - 1, start, rng.normal(size=12))
    lanes.low, lanes.high = (np.repeat(v, 12, axis=0) for v in (lanes.low, lanes.high))
    for slopes in (lanes.below, lanes.above):
        slopes += rng.normal(size=slopes.shape) * 0.2
    lanes.unit, lanes.side, lanes.at, lanes.beta = np.full((12, 2), -1), np.zeros((12, 2)), np.zeros((12, 2)), np.zeros((12, 2))
    allowed = np.ones((12, len(x)), bool)
    for k in range(12):
        for d, (layer, values) in enumerate(zip(layers, (z, u))):
            entry = int(rng.integers(4))
            unit, inputs = rows.spans[layer].start + entry, values[:, entry]
            at = 0.0 if kind in ("sign", "step", "reached") else float(np.quantile(inputs, rng.uniform(0.2, 0.8)))
            if not lanes.low[k, unit] < at < lanes.high[k, unit]:
                continue
            side = int(rng.choice([-1, 1]))
            lanes.unit[k, d], lanes.side[k, d], lanes.at[k, d], lanes.beta[k, d] = unit, side, at, rng.random()
            (lanes.high if side > 0 else lanes.low)[k, unit] = at
            allowed[k] &= side * (inputs - at) <= 0
    truth = np.where(allowed, lanes.constant[:, None] + start @ y.T, np.inf).min(axis=1)
    certified, before = rows.certify(lanes), rows.estimate(lanes).bound
    assert np.all(certified <= truth) and np.isfinite(certified).any()
    assert np.allclose(certified, before, rtol=1e-3, atol=1e-3, equal_nan=True) or kind in ("exp", "square")
    rows.ascend(lanes, 15)
    better = rows.certify(lanes)
    assert np.all(better <= truth) and np.all(better >= certified - 1e-4 * (1 + np.abs(certified)))
    rows.sweep(5, np.inf)  # bounds of all nodes, optimized
    for i, values in zip(layers, (z, u)):
        source = network.nodes[i].inputs[0]
        assert np.all(rows.state.lower[source] <= values.min(axis=0)) and np.all(rows.state.upper[source] >= values.max(axis=0))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_in_parts_of_a_box_stay_below_what_samples_of_them_reach(kind):
    network, by_hand = mixed(kind, 4)
    rows, rng = Rows(network, Box(-np.ones(2), np.ones(2))), np.random.default_rng(4)
    whole = linear(network, Box(-np.ones((1, 2)), np.ones((1, 2))))
    assert np.isfinite(whole.output[0]).all()
    rows.within(whole, Box(-np.ones((1, 2)), np.ones((1, 2))), np.array([0]), np.array([0]))
    lower = rng.uniform(-1, 0.5, (5, 2))
    boxes = Box(lower, lower + rng.uniform(0.1, 0.5, (5, 2)))
    which, row = np.array([0, 2, 3, 4]), np.array([1, 0, 1, 0, 1])
    lanes = rows.within(linear(network, boxes), boxes, which, row)
    before = rows.certify(lanes)
    rows.ascend(lanes, 10)
    found = rows.certify(lanes)
    assert np.all(found >= before - 1e-4 * (1 + np.abs(before)))
    for k, bound in zip(which, found):
        y = by_hand(Box(boxes.lower[k], boxes.upper[k]).sample(5000, seed=1))[2][:, row[k]]
        assert bound <= y.min() and bound > y.min() - 3 - 3 * np.ptp(by_hand(rows.box.sample(5000))[2])


def test_slopes_by_lines_are_those_of_small_steps():
    """What optimizes lines: the derivative of a bound by each slope and each multiplier."""
    network, _ = mixed("tanh", 0)
    rows = Rows(network, Box(-np.ones(2), np.ones(2)))
    rows.sweep(0, np.inf)
    lanes = rows.lanes(len(network) - 1, np.array([[1.0, -0.7]]), np.zeros(1))
    unit = rows.spans[network.activations[0]].start + 1
    at = 0.5 * float(lanes.low[0, unit] + lanes.high[0, unit])
    lanes = Lanes(
        lanes.target, lanes.start, lanes.constant, lanes.below + 0.013, lanes.above - 0.017, lanes.low.copy(), lanes.high.copy(),
        np.array([[unit]]), np.ones((1, 1)), np.full((1, 1), at), np.full((1, 1), 0.3),
    )  # fmt: skip
    lanes.high[0, unit] = at
    _, slopes, _ = rows._walk(lanes, exact=False, slopes=True)
    for values, slope in zip((lanes.below, lanes.above, lanes.beta), slopes):
        for k in range(values.shape[1]):
            found, kept = [], values[0, k]
            for step in (1e-5, -1e-5):
                values[0, k] = kept + step
                found.append(float(rows.certify(lanes)[0]))
            values[0, k] = kept
            assert slope[0, k] == pytest.approx((found[0] - found[1]) / 2e-5, abs=2e-2), k


def asked(inputs, outputs, C, d, reach):
    case = Case(Box(-np.full(inputs, reach), np.full(inputs, reach)), np.zeros((0, inputs)), np.zeros(0), np.atleast_2d(C), np.zeros((1, inputs)), np.atleast_1d(d))  # fmt: skip
    return Property((case,), inputs, outputs)


@pytest.mark.parametrize("kind, wide", [("sigmoid", 6.0), ("tanh", 2.5), ("silu", 1.5), ("sin", 0.4)])
def test_many_inputs_through_two_sums_are_decided_as_a_grid_says(kind, wide):
    """Two sums of seven inputs each take every pair of values in a rectangle, which a grid covers."""
    make, formula = KINDS[kind]
    rng = np.random.default_rng(3)
    S = np.zeros((14, 2))
    S[:7, 0], S[7:, 1] = rng.uniform(0.2, 1, 7), rng.uniform(0.2, 1, 7)
    W, b, V = rng.normal(size=(2, 6)) * wide, rng.normal(size=6), rng.normal(size=(6, 1))
    net = Builder((14,))
    network = net.build(net.matmul(net.activation(net.matmul(net.reshape(0, (1, 14)), S @ W, b), make()), V))
    reach = S.sum(axis=0)
    line = np.linspace(-1, 1, 801)
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2) * reach
    out = (formula(grid @ W + b) @ V)[:, 0]
    top, room = float(out.max()), 0.01 * float(np.ptp(out))
    found = relukit.verify(network, asked(14, 1, [[-1.0]], [-(top + room)], 1.0), timeout=60)
    assert found.status == "unsat" and "unit splitting" in found.engine and found.boxes > 2
    assert relukit.verify(network, asked(14, 1, [[-1.0]], [-(top - room)], 1.0), timeout=60).status == "sat"


@pytest.mark.parametrize("seed", range(3))
def test_networks_of_signs_are_decided_as_all_patterns_say(seed):
    """Each sign reads three inputs of its own, so that every pattern of -1, 0 and 1 is met."""
    rng = np.random.default_rng(seed)
    W = np.zeros((15, 5))
    for k in range(5):
        W[3 * k : 3 * k + 3, k] = rng.normal(size=3)
    V, c, U = rng.normal(size=(5, 4)), rng.normal(size=4), rng.normal(size=(4, 1))
    net = Builder((15,))
    first = net.activation(net.matmul(net.reshape(0, (1, 15)), W, np.zeros(5)), curves.sign())
    network = net.build(net.matmul(net.activation(net.matmul(first, V, c), curves.sign()), U))
    values = [float(np.sign(np.array(p) @ V + c) @ U[:, 0]) for p in itertools.product((-1, 0, 1), repeat=5)]
    best = max(values)
    assert relukit.verify(network, asked(15, 1, [[-1.0]], [-(best + 1e-3)], 1.0), timeout=60).status == "unsat"
    at = max(float(np.sign(np.array(p) @ V + c) @ U[:, 0]) for p in itertools.product((-1, 1), repeat=5))
    found = relukit.verify(network, asked(15, 1, [[-1.0]], [-(at - 1e-3)], 1.0), timeout=60)
    assert found.status == "sat" and found.outputs[0] >= at - 1e-3


def test_time_that_is_up_is_kept():
    rng = np.random.default_rng(0)
    net = Builder((40,))
    value = net.reshape(0, (1, 40))
    for _ in range(4):
        value = net.activation(net.matmul(value, rng.normal(size=(net.shape(value)[1], 80)) / 4, rng.normal(size=80)), get("tanh"))
    network = net.build(net.matmul(value, rng.normal(size=(80, 1))))
    top = float(network(Box(-np.ones(40), np.ones(40)).sample(2000, seed=0)).max())
    began = time.perf_counter()
    found = relukit.verify(network, asked(40, 1, [[-1.0]], [-3 * top], 1.0), timeout=2)
    assert found.status == "unknown" and time.perf_counter() - began < 8
