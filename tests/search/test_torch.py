"""The engine for a torch device: what it proposes equals what the compiled loops propose, and what it decides is right.

The device of these tests is the CPU, so that they run everywhere; tests/gpu repeats the decisive ones on a GPU.
"""

import time

import numpy as np
import pytest
import torch

from relukit import Box
from relukit.bounds import compact
from relukit.network import from_layers
from relukit.search import _many
from relukit.search._dual import Dual
from relukit.search._forest import Forest
from relukit.search._refine import dual_of, forest_of, optimize_gates, refine
from relukit.search._torch_device import Device
from relukit.search._torch_maps import DeviceMap
from tests.oracles import exact_minimum
from tests.search.conv_nets import random_conv
from tests.search.test_dual import layers
from tests.search.torch_cases import HERE, convolutional, dense
from tests.strategies import RELU


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors are small here, and tests run side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions_and_their_adjoints_equal_matrices(groups):
    """Any stride, padding on any side, dilation and group."""
    g = np.random.default_rng(groups)
    put = lambda a: torch.as_tensor(np.array(a))
    for _ in range(40):
        shape = (2 * int(g.integers(1, 3)), int(g.integers(2, 6)), int(g.integers(2, 6)))
        conv, M = random_conv(g, shape, 2 * int(g.integers(1, 5)), groups)
        m = DeviceMap(conv, put, torch.device("cpu"))
        x, y = g.standard_normal((3, conv.in_size)), g.standard_normal((3, conv.out_size))
        assert np.abs(m.apply(put(x)).numpy() - x @ M.T).max() < 1e-12
        assert np.abs(m.adjoint(put(y)).numpy() - y @ M).max() < 1e-12


def unfinished(steps, first, second, rows, P, S, weights=None):
    """Bounds that both find, of rows that neither has above 0: there the compiled loops stop early."""
    one = first.improve(rows[0], P, S, steps, weights=weights)
    two = second.improve(rows[1], P, S, steps, weights=weights)
    open_ = (one[1] <= 0) & (two[1] <= 0)
    return one[1][open_], two[1][open_], [a[open_] for a in (one[0], two[0])]


@pytest.mark.parametrize("steps", [0, 1, 8])
def test_proposals_equal_the_compiled_loops(steps):
    seen = 0
    for seed in range(6):
        for region in range(5):
            _, _, one, two = dense(seed, region)
            g = np.random.default_rng(seed)
            first, last = one.blocks[-1]
            gates = np.arange(first, last)
            for rows, columns in (
                ((one.output_rows(), two.output_rows()), one.K),
                ((one.gate_rows(gates), two.gate_rows(gates)), first),
            ):
                P, S = one.start(len(rows[0]), columns)
                S = np.where(g.random(S.shape) < 0.2, g.choice([-1, 1], S.shape), S).astype(np.int8)
                found, want, P = unfinished(steps, one, two, rows, np.where(S == 0, P, 0), S)
                assert np.all(np.abs(found - want) <= 2e-3 * (1 + np.abs(want)))
                seen += len(want)
    assert seen > 50


def test_proposals_through_convolutions_equal_the_compiled_loops():
    seen = 0
    for seed in range(12):
        for norm in (np.inf, 2, 1):
            _, _, one, two = convolutional(seed, norm)
            if not one.K:
                continue
            P, S = one.start(2)
            rows = one.output_rows(), two.output_rows()
            for steps in (0, 6):
                found, want, _ = unfinished(steps, one, two, rows, P, S)
                assert np.all(np.abs(found - want) <= 1e-2 * (1 + np.abs(want))), (seed, norm, steps, found, want)
                seen += len(want)
            weights = np.full((1, 2), 0.5)
            found, want, _ = unfinished(6, one, two, rows, P[:1], S[:1], weights)
            assert np.all(np.abs(found - want) <= 5e-2 * (1 + np.abs(want)))
    assert seen > 40


def test_batches_that_are_cut_change_nothing():
    _, small, _, whole = dense(3)
    parts = dual_of(small, np.inf, Device(torch.device("cpu"), memory=1.0))
    rows = whole.output_rows()
    P, S = whole.start(2)
    for a, b in zip(whole.improve(rows, P, S, 5)[:3], parts.improve(rows, P, S, 5)[:3]):
        assert np.allclose(a, b, atol=1e-5)


def test_certificates_do_not_depend_on_threads(monkeypatch):
    monkeypatch.setattr(Device, "workers", 3)
    for made in (dense(1), convolutional(1)):
        one, two = made[2], made[3]
        g = np.random.default_rng(0)
        weights = g.random((700, 2))
        P, S = (np.repeat(a[:1], 700, axis=0) for a in one.start(2))
        P = np.where(S == 0, g.random(P.shape), 0).astype(np.float32)
        found = two.certify(two.output_rows().weighed(weights), P, S)
        want = one.certify(one.output_rows().weighed(weights), P, S)
        assert np.allclose(found.bound, want.bound, rtol=1e-12, atol=1e-12)
        assert np.allclose(found.x, want.x) and np.allclose(found.coefficients, want.coefficients)


@pytest.mark.parametrize("joint", [False, True])
def test_trees_reach_the_exact_minimum(joint):
    """Every gate's tree, or one tree for a row, ends at the exact minimum, as the forest on the CPU does."""
    for seed in range(4):
        weights, biases, x = layers(seed, inputs=3, hidden=(5, 3))
        box = Box(x - 0.5, x + 0.5)
        small = compact(from_layers(weights, biases, [RELU, RELU]), box)
        low = exact_minimum(weights, biases, np.eye(2)[0], box.lower, box.upper)
        gap = 0.02 if joint else 0.1  # leaves of many trees are not polished
        for level, proven in ((low - gap, True), (low + gap, False)):
            shifted = compact(from_layers(weights, [*biases[:2], biases[2] - level], [RELU, RELU]), box)
            dual = dual_of(shifted, np.inf, HERE)
            forest = forest_of(dual, dual.output_rows()[np.array([0])], dual.K, joint)
            forest.plant(20)
            forest.grow(200, 5, np.inf, look_ahead=joint)
            assert (forest.bound[0] > 0) == proven, (seed, level, forest.bound)
        old, new = refine(small, 200, 1e18), refine(small, 200, 1e18, device=HERE)
        z = lambda s: {tuple(u): (l, h) for u, l, h in zip(s.units.tolist(), s.lower, s.upper)}
        for unit in z(old).keys() & z(new).keys():
            assert np.allclose(z(old)[unit], z(new)[unit], atol=2e-2 * (1 + np.abs(z(old)[unit])))


def test_bounds_of_gates_hold_at_samples():
    for seed in range(4):
        network, small, _, _ = dense(seed, hidden=(8, 7, 6))
        points = small.input_set.sample(500, 0)
        for found in (optimize_gates(small, 10, 1e18, HERE), refine(small, 10, 1e18, device=HERE)):
            assert np.abs(found(points) - network(points)).max() <= 1e-9
            z = points @ found.C.T + found.b + found.hidden(points) @ found.W.T
            assert np.all(z >= found.lower - 1e-9) and np.all(z <= found.upper + 1e-9)


def test_a_failed_certificate_opens_the_leaf_again():
    dual = dense(2)[3]
    forest = forest_of(dual, dual.output_rows(), dual.K, joint=True)
    forest.plant(5)
    leaves, nodes = forest.leaves, forest.nodes
    assert leaves == 1 and nodes == 0
    dual.certify_part = lambda rows, P, S: Dual.certify(dual, Rows_below(rows), P, S)
    forest.grow(60, 5, time.perf_counter() + 5, look_ahead=True)
    assert forest.leaves + len(forest.ends) > 0 and not np.isposinf(forest.bound[0])


def test_time_that_is_up_leaves_bounds_unknown():
    _, graph, _, _ = convolutional(1)
    dual = dual_of(graph, time.perf_counter() - 1, HERE)
    forest = forest_of(dual, dual.output_rows(), dual.K)
    forest.plant(3)
    forest.grow(2, 3, np.inf)
    assert np.all(np.isneginf(forest.bound))


def test_leaves_wait_uncertified_once_time_is_up():
    weights, biases, x = layers(1, inputs=3, hidden=(5, 3))
    box = Box(x - 0.5, x + 0.5)
    low = exact_minimum(weights, biases, np.eye(2)[0], box.lower, box.upper)
    dual = dual_of(
        compact(from_layers(weights, [*biases[:2], biases[2] - low + 0.02], [RELU, RELU]), box), np.inf, HERE
    )
    forest = forest_of(dual, dual.output_rows()[np.array([0])], dual.K, joint=True)
    forest.plant(5)
    dual.stop = 0.0
    forest.grow(100, 5, np.inf, look_ahead=True)
    waiting = sum(len(P) for P, *_ in forest.closed)
    assert waiting > 1 and not forest.pending and forest.leaves and not np.isposinf(forest.bound[0])
    dual.stop = np.inf
    forest.grow(100, 5, np.inf, look_ahead=True)
    assert forest.bound[0] > 0 and not forest.closed


def Rows_below(rows):
    """The same rows, far lower: what no parameters prove."""
    from dataclasses import replace

    return replace(rows, c=rows.c - 1e6)


def test_the_default_stays_on_the_cpu_loops():
    _, small, _, _ = dense(0)
    dual = dual_of(small, np.inf)
    assert type(dual) is Dual and type(forest_of(dual, dual.output_rows(), dual.K)) is Forest


def test_attacks_on_a_device_find_what_the_loops_find():
    for made in (dense(0), dense(1, 1), convolutional(2), convolutional(1, 2)):
        dual, member = made[3], np.ones((1, 2), bool)
        g = np.random.default_rng(0)
        D = dual.project(dual.low + (dual.high - dual.low) * g.random((20, dual.n)))
        case = np.zeros(20, np.int64)
        best, value = dual.descend(member, D, case, 30, np.inf)
        want = _many.descend_rows(made[2], member, D, case, 30)[1]
        assert np.allclose(dual.outputs_at(best).max(axis=1), value, atol=1e-4)
        assert abs(value.min() - want.min()) < 0.02 * (1 + abs(want.min()))
        box = dual.small.input_set.box()
        assert np.all(box.contains(dual.points(best)))
        assert np.all(np.linalg.norm(best, axis=1) <= (dual.radius if dual.norm == 2 else np.inf) * (1 + 1e-6))
