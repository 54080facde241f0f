"""Exact compression: equal on the set, in rational arithmetic too."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import relukit
from relukit import Box, InvalidInput, UnsupportedOperation, compress
from relukit.activations import get
from relukit.network import from_layers
from tests.oracles import exact_forward
from tests.strategies import RELU, layers


@settings(max_examples=30, deadline=None)
@given(layers(), st.integers(0, 1000), st.sampled_from([0.05, 0.5]))
def test_the_smaller_network_is_equal_within_its_bound(net, seed, width):
    weights, biases = net
    network = from_layers(weights, biases, [RELU] * (len(weights) - 1))
    g = np.random.default_rng(seed)
    middle = g.standard_normal(network.inputs)
    side = width * (g.random(network.inputs) < 0.7)  # some inputs do not move
    box = Box(middle - side, middle + side)
    found = compress(network, box, seed)
    assert found.parameters_after <= found.parameters_before
    x = box.sample(5, seed)
    for row in x:
        exact = exact_forward(weights, biases, row)[1]
        got = found.network(row)
        scale = max(1.0, max(abs(float(v)) for v in exact))
        for k, v in enumerate(exact):
            assert abs(Fraction(float(got[k])) - v) <= Fraction(found.error_bound) + Fraction(1e-9 * scale)


def test_known_share_of_the_digits_network(data_folder):
    network = relukit.load(data_folder / "bench" / "optimize" / "adv_digits_50x50_e0.05.npz")
    bounded = compress(network, network.box, timeout=0)
    assert (bounded.parameters_before, bounded.parameters_after, bounded.stable_units) == (6310, 2246, 80)
    found = compress(network, network.box)  # branch and bound finds two more; a MILP puts their minima at 0.03 and 0.07
    assert found.parameters_before == 6310 and 80 <= found.stable_units <= 82 and found.parameters_after <= 2246
    assert found.error_bound < 1e-9 and found.max_difference < 1e-4


@pytest.mark.slow
def test_a_hard_unit_takes_no_time_from_others(data_folder):
    """One unit stays 1e-8 below its kink: another method proves it, and it does not keep the easy ones waiting."""
    network = relukit.load(data_folder / "bench/optimize/cmp_digits_100x100_l1_0.002.npz")
    found = relukit.compress(network, timeout=30.0)
    assert (found.dead, found.always_on, found.open_units) == (
        2,
        1,
        0,
    ) and found.parameters_after == 17_088  # three inputs do not move
    x = network.box.sample(2000, seed=9)
    assert np.abs(found.network(x) - network(x)).max() <= found.error_bound + 1e-12


def test_nothing_to_remove_is_shown_by_samples():
    g = np.random.default_rng(0)
    network = from_layers([g.standard_normal((6, 2)), g.standard_normal((1, 6))], [np.zeros(6), np.zeros(1)], [RELU])
    found = compress(network, Box(-np.ones(2), np.ones(2)))
    assert found.form == "unchanged" and found.undecided_by_samples == 6 and "both sides" in found.reason


def test_smooth_networks_are_refused():
    network = from_layers([np.eye(2), np.eye(2)], [np.zeros(2), np.zeros(2)], [get("gelu")])
    with pytest.raises(UnsupportedOperation, match="gelu at node"):
        compress(network, Box(np.zeros(2), np.ones(2)))


def test_copies_and_multiples_are_merged_whatever_the_domain():
    g = np.random.default_rng(0)
    W, b = g.standard_normal((9, 4)), g.standard_normal(9)
    W[3], b[3] = W[1], b[1]
    W[5], b[5] = 0.5 * W[2], 0.5 * b[2]
    W[7], b[7] = -W[4], -b[4]  # a negative multiple is another unit
    V = g.standard_normal((2, 9))
    V[:, 8] = 0  # nothing reads unit 8
    network = from_layers([W, V], [b, np.zeros(2)], [RELU])
    box = Box(-9 * np.ones(4), 9 * np.ones(4))
    found = compress(network, box)
    assert found.network.units == 6 and found.stable_units == 0
    x = box.sample(200, 1)
    assert np.abs(found.network(x) - network(x)).max() <= found.error_bound + 1e-12 and found.error_bound < 1e-9


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1e-6, 0.03, 0.3]))
def test_outputs_stay_within_the_tolerance(seed, share):
    g = np.random.default_rng(seed)
    weights = [g.standard_normal((b, a)) / np.sqrt(a) for a, b in ((3, 20), (20, 15), (15, 2))]
    network = from_layers(weights, [g.standard_normal(len(w)) / 2 for w in weights], [RELU] * 2)
    box = Box(-np.ones(3), np.ones(3))
    tolerance = share * float(np.abs(network(box.sample(50, 0))).max())
    found, exact = compress(network, box, tolerance=tolerance, timeout=0.0), compress(network, box, timeout=0.0)
    assert found.parameters_after <= exact.parameters_after
    x = np.r_[box.sample(2000, seed), box.lower[None], box.upper[None]]
    assert np.abs(found.network(x) - network(x)).max() <= found.error_bound + 1e-12
    assert found.form == "unchanged" or found.error_bound <= tolerance or not found.given_up


def test_always_on_units_are_folded_where_the_next_layer_is_smaller():
    g = np.random.default_rng(0)
    weights = [g.standard_normal((4, 3)), g.standard_normal((30, 4)), g.standard_normal((2, 30))]
    biases = [np.zeros(4), np.r_[100 * np.ones(25), np.zeros(5)], np.zeros(2)]
    network = from_layers(weights, biases, [RELU] * 2)
    box = Box(-np.ones(3), np.ones(3))
    from relukit.bounds import linear
    from relukit.compression._plain import plain_form

    plain = plain_form(network, linear(network, box), np.ones(3, bool), box)
    assert plain.folded == 23 and plain.network.units == 4 + 5 + 2
    x = box.sample(500, 0)
    assert np.abs(plain.network(x) - network(x)).max() <= plain.error + 1e-11 and plain.error < 1e-8


@pytest.mark.parametrize("seed", range(3))
def test_always_on_units_with_dependent_weights_follow_the_others(tmp_path, seed):
    """Two inputs: whatever number of first-layer units is always on, two of them say it all. Loops over units as the oracle, the checker as a second."""
    g = np.random.default_rng(seed)
    weights = [
        g.standard_normal((20, 2)),
        g.standard_normal((15, 20)),
        g.standard_normal((15, 15)),
        g.standard_normal((3, 15)),
    ]
    biases = [np.r_[9.0 * np.ones(12), g.standard_normal(8) / 2], *(g.standard_normal(len(w)) for w in weights[1:])]
    network, box = from_layers(weights, biases, [RELU] * 3), Box(-np.ones(2), np.ones(2))
    from relukit.bounds import linear
    from relukit.compression._plain import plain_form
    from relukit.network.arrays import write_npz

    plain = plain_form(network, linear(network, box), np.ones(2, bool), box)
    assert plain.folded >= 10 and plain.error < 1e-9
    for row in np.r_[box.sample(30, seed), box.lower[None], box.upper[None]]:
        exact = exact_forward(weights, biases, row)[1]
        assert max(abs(Fraction(float(a)) - b) for a, b in zip(plain.network(row), exact)) <= Fraction(
            plain.error
        ) + Fraction(1e-10)
    write_npz(network.with_(box=box), tmp_path / "net.npz")
    found = compress(network, box, proof=True)
    relukit.save(found.network, tmp_path / "small.onnx")
    assert found.save_proof(tmp_path / "p", tmp_path / "net.npz", tmp_path / "small.onnx") < 1e-9


def test_data_with_a_margin_keeps_more_than_their_hull():
    g = np.random.default_rng(1)
    weights = [g.standard_normal((20, 4)), g.standard_normal((20, 20)) / 4, g.standard_normal((2, 20))]
    network = from_layers(weights, [g.standard_normal(len(w)) for w in weights], [RELU] * 2)
    rows = np.r_[g.normal(2, 0.05, (10, 4)), g.normal(-2, 0.05, (10, 4))]
    near = compress(network, data=rows, margin=0.05)
    hull = compress(network, Box(rows.min(axis=0) - 0.05, rows.max(axis=0) + 0.05))
    assert near.stable_units > hull.stable_units and near.parameters_after < network.parameters
    x = rows[g.integers(20, size=500)] + g.uniform(-0.05, 0.05, (500, 4))
    assert np.abs(near.network(x) - network(x)).max() <= near.error_bound + 1e-11
    with pytest.raises(InvalidInput, match="not negative"):
        compress(network, data=rows, margin=-1)


def test_polytopes_settle_what_their_box_does_not():
    g = np.random.default_rng(3)
    weights = [g.standard_normal((30, 2)), g.standard_normal((1, 30))]
    network = from_layers(weights, [g.standard_normal(30), np.zeros(1)], [RELU])
    box = Box(-np.ones(2), np.ones(2))
    cut = relukit.Polytope(np.array([[1.0, 1.0], [-1.0, -1.0]]), np.array([0.1, 0.1]), box)  # a thin diagonal strip
    inside, outside = compress(network, cut), compress(network, box)
    assert inside.stable_units > outside.stable_units
    x = cut.sample(200, 0)
    assert np.abs(inside.network(x) - network(x)).max() <= inside.error_bound + 1e-12


def test_convolutions_lose_dead_copied_and_unread_channels():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    conv = torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(6, 5, 3, stride=2), torch.nn.ReLU(),
        torch.nn.Flatten(), torch.nn.Linear(45, 3),
    ).eval()  # fmt: skip
    with torch.no_grad():
        conv[0].bias[1] = -99.0  # dead on the box
        conv[0].weight[4], conv[0].bias[4] = 2 * conv[0].weight[2], 2 * conv[0].bias[2]  # a multiple
        conv[2].weight[:, 5] = 0  # nothing reads channel 5
        conv[5].weight[:, 9:18] = 0  # nor channel 1 of the second layer
    network = relukit.load(conv, input_shape=(1, 8, 8))
    box = Box(-np.ones(64), np.ones(64))
    found = compress(network, box, timeout=0.0)
    assert found.form == "channels" and found.network.units == 3 * 64 + 4 * 9
    x = box.sample(100, 0).astype(np.float32)
    with torch.no_grad():
        want = conv(torch.from_numpy(x).reshape(-1, 1, 8, 8)).numpy()
    assert np.abs(found.network(x) - want).max() < 1e-5 and found.error_bound < 1e-9


def test_nan_weights_are_refused():
    network = from_layers([np.eye(2), np.eye(2)], [np.zeros(2), np.zeros(2)], [RELU])
    from dataclasses import replace

    broken = network.nodes[1].op.bias.copy()
    broken[0] = np.nan
    node = replace(network.nodes[1], op=replace(network.nodes[1].op, bias=broken))
    with pytest.raises(InvalidInput, match="NaN or infinite"):
        compress(replace(network, nodes=(network.nodes[0], node, *network.nodes[2:])), Box(-np.ones(2), np.ones(2)))
    with pytest.raises(InvalidInput, match="needs a domain"):
        compress(network)


def test_maps_without_an_activation_between_are_one_map():
    g = np.random.default_rng(0)
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Linear(5, 30), torch.nn.Linear(30, 4)).double()
    found = relukit.compress(relukit.load(module, input_shape=(5,)), relukit.Box(-np.ones(5), np.ones(5)))
    x = g.uniform(-1, 1, (200, 5))
    want = module(torch.from_numpy(x)).detach().numpy()
    assert found.parameters_after == 24 and np.abs(found.network(x) - want).max() <= found.error_bound + 1e-15 < 1e-12
    one = relukit.compress(found.network, relukit.Box(-np.ones(5), np.ones(5)))
    assert one.form == "unchanged" and "no hidden units" in one.reason


def test_half_precision_files_become_single_ones(tmp_path):
    g = np.random.default_rng(0)
    arrays = {"W0": g.standard_normal((20, 3)), "b0": g.standard_normal(20), "W1": g.standard_normal((2, 20)), "b1": g.standard_normal(2)}  # fmt: skip
    half = {k: v.astype(np.float16) for k, v in arrays.items()}
    np.savez(tmp_path / "net.npz", **half)
    box = Box(0.2 * np.ones(3), 0.3 * np.ones(3))
    found = compress(relukit.load(tmp_path / "net.npz"), box, proof=True)
    relukit.save(found.network, tmp_path / "small.onnx")
    assert found.parameters_after < found.parameters_before
    assert found.save_proof(tmp_path / "p", tmp_path / "net.npz", tmp_path / "small.onnx") < 1e-6
    W0, b0, W1, b1 = (v.astype(float) for v in half.values())
    x = box.sample(200, 0)
    assert np.abs(found.network(x) - (np.maximum(x @ W0.T + b0, 0) @ W1.T + b1)).max() < 1e-6
