"""Exact compression: equal on the set, in rational arithmetic too."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import relukit
from relukit import Box, UnsupportedOperation, compress
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
    assert (found.parameters_before, found.parameters_after, found.stable_units) == (6310, 2080, 82)
    assert found.error_bound < 1e-9 and found.max_difference < 1e-4


def test_nothing_to_remove_is_shown_by_samples():
    g = np.random.default_rng(0)
    network = from_layers([g.standard_normal((6, 2)), g.standard_normal((1, 6))], [np.zeros(6), np.zeros(1)], [RELU])
    found = compress(network, Box(-np.ones(2), np.ones(2)))
    assert found.form == "unchanged" and found.undecided_by_samples == 6 and "both sides" in found.reason


def test_smooth_networks_are_refused():
    network = from_layers([np.eye(2), np.eye(2)], [np.zeros(2), np.zeros(2)], [get("gelu")])
    with pytest.raises(UnsupportedOperation, match="gelu at node"):
        compress(network, Box(np.zeros(2), np.ones(2)))
