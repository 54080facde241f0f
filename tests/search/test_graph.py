"""Bounds and decisions that keep convolutions as they are: against torch, the compact engine, samples and a MILP."""

import time

import numpy as np
import pytest
import torch

from relukit import Box, load
from relukit.bounds import compact, linear
from relukit.bounds._relu_form import relu_form
from relukit.network.affine import Conv, Dense
from relukit.search import Search, _many, decide_any
from relukit.search import _few as few
from relukit.search._dual import Dual
from relukit.search._graph import Graph, as_graph, is_relu, make_graph
from relukit.search._graph_dual import GraphDual
from relukit.search._lane_kernel import LANES
from relukit.search._lane_maps import lane_map
from relukit.sets import Ball
from tests.search.conv_nets import Builder, milp_minimum, random_conv, random_network


def both(seed, region=None):
    """The two engines over one network and set, with gates in the same order."""
    builder, lower, upper = random_network(seed)
    network, region = builder.network(), region or Box(lower, upper)
    graph = make_graph(network, region, np.inf)
    return network, region, graph, GraphDual(graph), Dual(compact(network, region, graph.bounds))


def parameters(g, dual, rows, read_by):
    """Any slopes and multipliers, and some gates held; gates that the rows do not read have no multiplier on a graph."""
    reached = dict(dual._reached(read_by))
    read = np.array([n in reached and u in reached[n] for n, u, _ in dual.graph.units.tolist()])
    S = g.choice([0, 0, 0, 1, -1], (rows, dual.K)).astype(np.int8)
    P = g.random((rows, dual.K)).astype(np.float32)
    return np.where(S == 0, P, 2 * P * (g.random(P.shape) < 0.5) * read).astype(np.float32), S


@pytest.mark.parametrize("groups", [1, 2])
def test_kernels_equal_torch(groups):
    """Any stride, padding, dilation and group; only the units asked for are touched."""
    g = np.random.default_rng(groups)
    for _ in range(20):
        shape = (2 * int(g.integers(1, 3)), int(g.integers(2, 6)), int(g.integers(2, 6)))
        conv, M = random_conv(g, shape, 2 * int(g.integers(1, 5)), groups)
        m = lane_map(conv)
        units = np.flatnonzero(g.random(conv.out_size) < 0.7)
        units = m.sorted(units)
        for dtype, close in ((np.float64, 1e-12), (np.float32, 1e-4)):
            x = g.standard_normal((conv.in_size, LANES)).astype(dtype)
            y = g.standard_normal((conv.out_size, LANES)).astype(dtype)
            out, back = np.zeros_like(y), np.zeros_like(x)
            m.apply(units, x, out)
            m.adjoint(units, y, back)
            want = np.zeros_like(y)
            want[units] = (M @ x)[units]
            assert np.abs(out - want).max() < close
            assert np.abs(back - M[units].T @ y[units]).max() < close
        mark = np.zeros(conv.in_size, bool)
        m.reach(units, mark)
        assert np.all(mark | ~np.any(M[units] != 0, axis=0))


def test_root_bounds_equal_backward_substitution():
    for seed in range(16):
        network, region, graph, _, _ = both(seed)
        want = linear(network, region)
        for low, high, wanted_low, wanted_high in zip(graph.lower, graph.upper, want.lower, want.upper):
            assert np.allclose(low, wanted_low, atol=1e-9) and np.allclose(high, wanted_high, atol=1e-9)


@pytest.mark.parametrize("norm", ["box", 2, 1])
def test_certified_bounds_equal_those_of_the_compact_form(norm):
    """The same parameters prove the same bound through kernels and through matrices, held gates and sums of rows included."""
    for seed in range(16):
        _builder, lower, upper = random_network(seed)
        ball = None if norm == "box" else Ball((lower + upper) / 2, 0.5, norm, Box(lower, upper))
        _, _, graph, dual, other = both(seed, ball)
        if not dual.K:
            continue
        assert np.array_equal(graph.units, other.small.units)
        g = np.random.default_rng(seed)
        rows, more = dual.output_rows(), other.output_rows()
        P, S = parameters(g, dual, 70, rows)
        weights = g.random((70, 2))
        found, want = dual.certify(rows.weighed(weights), P, S), other.certify(more.weighed(weights), P, S)
        scale = 1e-9 * (1 + np.abs(want.bound))
        assert np.all(np.abs(found.bound - want.bound) <= scale)
        assert np.allclose(found.coefficients, want.coefficients, atol=1e-9)
        first, last = dual.blocks[-1]
        gates = np.arange(first, last)
        P, S = parameters(g, dual, 2 * len(gates), dual.gate_rows(gates))
        found = dual.certify(dual.gate_rows(gates), P[:, :first], S[:, :first])
        want = other.certify(other.gate_rows(gates), P[:, :first], S[:, :first])
        assert np.all(np.abs(found.bound - want.bound) <= 1e-9 * (1 + np.abs(want.bound)))


def test_bounds_hold_at_samples_of_held_phases():
    held = 0
    for seed in range(24):
        network, region, graph, dual, _ = both(seed)
        if not dual.K:
            continue
        g = np.random.default_rng(seed)
        x = region.sample(200, seed)
        values = network.values(x)
        z = np.stack([values[network.nodes[n].inputs[0]][:, u] for n, u, _ in graph.units.tolist()], axis=1)
        P, S = parameters(g, dual, 40, dual.output_rows())
        S[np.arange(40)[:, None], g.permutation(dual.K)[: dual.K - 2]] = 0  # few held: some samples are left
        P = np.where(S == 0, np.minimum(P, 1), P)
        found = dual.certify(dual.output_rows().weighed(np.tile([[1.0, 0.0]], (40, 1))), P, S).bound
        for bound, phases in zip(found, S):
            mine = np.all((phases == 0) | (phases * z >= 0), axis=1)
            held += mine.any() and np.any(phases != 0)
            assert not mine.any() or bound <= values[-1][mine, 0].min() + 1e-12
    assert held > 50


def test_optimizing_does_as_well_as_on_the_compact_form():
    gains = []
    for seed in range(16):
        _, _, _, dual, other = both(seed)
        if not dual.K:
            continue
        P, S = dual.start(2)
        begin = dual.certify(dual.output_rows(), P, S).bound
        found, want = dual.bound(dual.output_rows(), P, S, 30), other.bound(other.output_rows(), P, S, 30)
        assert np.all(found.bound >= want.bound - 1e-2 * (1 + np.abs(want.bound)))
        gains.append(np.max(found.bound - begin))
    assert max(gains) > 0.01


def test_points_and_slopes_are_those_of_the_network():
    for seed in range(8):
        network, region, _, dual, _ = both(seed)
        x = region.sample(70, seed)
        D = dual.steps_to(x).astype(np.float32)
        out = network(x)
        assert np.allclose(dual.outputs_at(D), out, atol=1e-4)
        mine = np.tile([[True, seed % 2 == 0]], (64, 1))
        largest, slopes = dual.slopes_of_worst(D[:64], mine)
        worst = np.where(mine, out[:64], -np.inf).argmax(axis=1)
        want = np.stack([network.gradient(x[k], np.eye(2)[worst[k]]) for k in range(64)])
        assert np.allclose(largest, np.where(mine, out[:64], -np.inf).max(axis=1), atol=1e-4)
        assert np.mean(np.abs(slopes - want).max(axis=1) < 1e-4) > 0.95  # kinks within rounding may go either way


@pytest.mark.parametrize("seeds", [range(6), pytest.param(range(6, 60), marks=pytest.mark.slow)])
def test_decisions_agree_with_a_milp(seeds, monkeypatch):
    """Convolutions with odd strides, residual blocks, pooling: right on both sides of the exact minimum."""
    monkeypatch.setattr(few, "_INPUTS", 0)
    monkeypatch.setattr(few, "_BOTH", 0)
    monkeypatch.setattr(Graph, "is_small", property(lambda graph: False))
    counts, engines = {"sat": 0, "unsat": 0}, set()
    for seed in seeds:
        builder, lower, upper = random_network(seed)
        network, box = builder.network(), Box(lower, upper)
        assert as_graph(network) is network
        row = np.random.default_rng(seed).standard_normal(2)
        minimum = milp_minimum(builder, row, lower, upper)
        for gap in (-1e-2, -1e-4, 1e-4, 1e-2):
            confirm = lambda points, r=row, level=minimum + gap, n=network, b=box: next(
                (p for p in points if b.contains(p) and r @ n(p) - level <= 0), None
            )
            found = decide_any([Search(network, box, row[None], np.array([-(minimum + gap)]), confirm)], 20)
            want = "sat" if gap > 0 else "unsat"
            assert found.status == want or (found.status == "unknown" and abs(gap) < 1e-3), (seed, gap, found)
            counts[found.status] = counts.get(found.status, 0) + 1
            engines.add(found.engine)
    assert counts["sat"] >= 1.7 * len(seeds) and counts["unsat"] >= 1.7 * len(seeds), counts
    assert {"gate splitting"} & engines, engines


def test_time_is_kept_while_bounding():
    builder, lower, upper = random_network(3)
    graph = make_graph(builder.network(), Box(lower, upper), time.perf_counter() - 1)
    x = Box(lower, upper).sample(100, 0)
    out = builder.network()(x)
    assert np.all(graph.bounds.output[0] <= out + 1e-12) and np.all(out <= graph.bounds.output[1] + 1e-12)
    assert _many.decide_cases(builder.network(), Box(lower, upper), [_many.Case(np.eye(2), np.full(2, 100.0), lambda p: None)], time.perf_counter() - 1).status in ("unsat", "unknown")  # fmt: skip


@pytest.mark.parametrize("activation", ["LeakyReLU", "ReLU6", "Hardtanh", "PReLU", "Hardsigmoid"])
def test_activations_become_relus_exactly_or_not_at_all(activation):
    torch.manual_seed(0)
    layer = getattr(torch.nn, activation)
    made = (
        layer(2) if activation == "PReLU" else layer(float(np.float32(0.01))) if activation == "LeakyReLU" else layer()
    )
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 2), made, torch.nn.Flatten(), torch.nn.Linear(8, 2))  # fmt: skip
    network = load(module.eval(), input_shape=(1, 3, 3))
    found = relu_form(network)
    assert found is not None and all(is_relu(found.nodes[i].op) for i in found.activations)
    x = 10 * np.random.default_rng(0).standard_normal((500, 9))
    assert np.abs(found(x) - network(x)).max() < 1e-12
    assert (as_graph(network) is None) == (
        activation in ("ReLU6", "Hardtanh", "Hardsigmoid")
    )  # small: their kinks are relaxed together


def test_networks_without_an_undecided_gate(monkeypatch):
    """Nothing is left to split: bounds are exact, and what no point confirms is unknown rather than an error."""
    monkeypatch.setattr(Graph, "is_small", property(lambda graph: False))
    g = np.random.default_rng(0)
    builder = Builder((1, 3, 3))
    conv, M = random_conv(g, (1, 3, 3), 2)
    last = builder.relu(builder.affine([(conv, M, 0)], np.full(conv.out_size, 50.0), conv.out_shape))
    ones = np.ones((1, conv.out_size))
    builder.affine([(Dense(ones), ones, last)], np.zeros(1), (1,))
    network = builder.network()
    corner = np.where(network.gradient(np.full(9, 0.5), np.ones(1)) >= 0, 0.0, 1.0)
    minimum = float(network(corner)[0])
    for box, least in ((Box(np.zeros(9), np.ones(9)), minimum), (Box(corner, corner), minimum)):
        ask = lambda level, confirm, box=box: (
            _many.decide_cases(
                network, box, [_many.Case(np.ones((1, 1)), np.array([-level]), confirm)], time.perf_counter() + 20
            ).status
        )
        assert ask(least - 1e-6, lambda p: None) == "unsat"
        assert ask(least + 1e-3, lambda p: p[0]) == "sat"
        assert ask(least + 1e-3, lambda p: None) == "unknown"


def test_numbers_that_overflow_prove_nothing(monkeypatch):
    """Kernels of 1e200 in a row: coefficients overflow, and a bound that is no number is no proof."""
    monkeypatch.setattr(Graph, "is_small", property(lambda graph: False))
    builder = Builder((1, 3, 3))
    last = 0
    for _ in range(3):
        conv = Conv(np.array([[[[1e200, -1e200], [1e200, -1e200]]]]), builder.nodes[last].shape, (1, 1), (1, 1, 0, 0))
        last = builder.relu(builder.affine([(conv, np.zeros((9, 9)), last)], np.full(9, -1.0), (1, 3, 3)))
    ones = np.ones((1, 9))
    builder.affine([(Dense(ones), ones, last)], np.zeros(1), (1,))
    network, box = builder.network(), Box(-np.ones(9), np.ones(9))
    with np.errstate(all="ignore"):
        graph = make_graph(network, box, np.inf)
        dual = GraphDual(graph)
        P, S = dual.start(1)
        assert not np.any(dual.certify(dual.output_rows(), P, S).bound > 0)  # the output is 0 where x is 0
        assert not np.any(graph.lower[-1] > 0)
