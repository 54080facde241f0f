"""Gates that are multiples of each other become one, in exact arithmetic only."""

from fractions import Fraction

import numpy as np
import pytest

from relukit.bounds._mirror import without_mirrored
from relukit.network import Affine, from_layers
from relukit.network.affine import Dense, Sparse
from relukit.network.rewrite import RELU
from relukit.piecewise import PiecewiseLinear


def planted(seed, factors):
    """A layer of rows and their multiples, read with other weights; weights have few bits, so that multiples are exact."""
    rng = np.random.default_rng(seed)
    W, b = rng.integers(-99, 100, (4, 3)) / 64.0, rng.integers(-99, 100, 4) / 64.0
    rows = np.concatenate([f * W for f in factors])
    order = rng.permutation(len(rows))
    V = rng.integers(-99, 100, (2, len(rows))) / 32.0
    return from_layers([rows[order], V], [np.concatenate([f * b for f in factors])[order], np.zeros(2)], [RELU])


def exactly(network, x):
    """The outputs in rational arithmetic, node by node."""
    values = [[Fraction(float(v)) for v in x]]
    for node in network.nodes[1:]:
        if isinstance(node.op, Affine):
            out = [Fraction(float(v)) for v in node.op.bias]
            for m, j in zip(node.op.maps, node.inputs):
                assert isinstance(m, Dense | Sparse)
                matrix = m.W if isinstance(m, Dense) else m.W.toarray()
                out = [o + sum(Fraction(float(w)) * v for w, v in zip(row, values[j])) for o, row in zip(out, matrix)]
        else:
            assert isinstance(node.op, PiecewiseLinear) and node.op.is_relu
            out = [max(v, Fraction(0)) for v in values[node.inputs[0]]]
        values.append(out)
    return values[-1]


@pytest.mark.parametrize("seed", range(6))
def test_multiples_are_one_gate_and_no_value_changes_at_all(seed):
    network = planted(seed, [1.0, 3.0, -0.5, -7.0])
    joined = without_mirrored(network)
    assert joined.units == 4
    for x in np.random.default_rng(seed).normal(size=(20, 3)):
        assert exactly(joined, x) == exactly(network, x)


def test_rows_that_are_multiples_up_to_rounding_stay():
    rng = np.random.default_rng(0)
    W, c = rng.normal(size=(1, 5)), 1 / 3
    network = from_layers([np.concatenate([W, c * W]), np.ones((1, 2))], [np.zeros(2), np.zeros(1)], [RELU])
    assert without_mirrored(network) is network
    shifted = from_layers([np.concatenate([W, 2 * W]), np.ones((1, 2))], [np.array([1.0, 2.0 + 2**-40]), np.zeros(1)], [RELU])
    assert without_mirrored(shifted) is shifted
    read = from_layers([np.array([[1.0], [1 + 2.0**-52]]), np.array([[1.0, 1 + 2.0**-52]])], [np.zeros(2), np.zeros(1)], [RELU])
    assert without_mirrored(read) is read  # (1 + 2^-52)^2 would be rounded
    e = 2.0**-40
    rounded = from_layers([np.array([[1 + e, 1.0], [1 + 2 * e, 1 + e]]), np.eye(2)], [np.zeros(2), np.zeros(2)], [RELU])
    assert without_mirrored(rounded) is rounded  # the second row is 1 + 2^-40 times the first, rounded


def test_a_layer_whose_gates_all_cancel_has_none_left():
    """Every unit written as tau + relu(z - tau) - relu(tau - z): a gate that is kept and read with 0 would stay undecided for ever."""
    rng = np.random.default_rng(0)
    W, b, tau = rng.integers(-99, 100, (4, 3)) / 64.0, rng.integers(-99, 100, 4) / 64.0, np.arange(4) / 4
    merge = np.concatenate([np.eye(4), -np.eye(4)], axis=1)
    layers = [np.concatenate([W, -W]), merge, rng.integers(-9, 9, (2, 4)) / 8.0]
    network = from_layers(layers, [np.concatenate([b - tau, tau - b]), tau, np.zeros(2)], [RELU, RELU])
    joined = without_mirrored(network)
    assert (network.units, joined.units) == (12, 4)
    for x in rng.normal(size=(20, 3)):
        assert exactly(joined, x) == exactly(network, x)
