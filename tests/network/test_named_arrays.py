"""Names of arrays that say which layer they belong to, and names that do not."""

import numpy as np
import pytest

import relukit
from relukit import InvalidInput, ShapeMismatch

_SHAPES = [(5, 2), (4, 5), (1, 4)]


def layers():
    g = np.random.default_rng(0)
    return [g.standard_normal(s) for s in _SHAPES], [g.standard_normal(s[0]) for s in _SHAPES]


def by_hand(x):
    weights, biases = layers()
    for W, b in zip(weights[:-1], biases[:-1]):
        x = np.maximum(x @ W.T + b, 0)
    return x @ weights[-1].T + biases[-1]


@pytest.mark.parametrize(
    "weight, bias, numbers",
    [
        ("weight{}", "bias{}", (0, 1, 2)),
        ("w{}", "b{}", (1, 2, 3)),
        ("W_{}", "b_{}", (8, 9, 10)),
        ("fc{}.weight", "fc{}.bias", (1, 2, 3)),
        ("{}.weight", "{}.bias", (0, 2, 10)),
        ("{}.weight", "{}.bias", ("hidden", "again", "out")),
        ("coefs_{}", "intercepts_{}", (0, 1, 2)),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_names_of_other_programs(tmp_path, weight, bias, numbers, turned):
    weights, biases = layers()
    arrays = {weight.format(n): W.T if turned else W for n, W in zip(numbers, weights)}
    arrays |= {bias.format(n): b for n, b in zip(numbers, biases)}
    np.savez(tmp_path / "net.npz", lo=-np.ones(2), hi=np.ones(2), **arrays)
    network = relukit.load(tmp_path / "net.npz")
    x = np.random.default_rng(1).standard_normal((9, 2))
    np.testing.assert_allclose(network(x), by_hand(x), rtol=1e-12)
    assert network.box is not None and network.box.size == 2
    assert len(relukit.regions(network)) > 1


def test_square_keras_kernels_are_turned_and_linear_layers_may_lack_a_bias():
    g = np.random.default_rng(2)
    W, V, x = g.standard_normal((3, 3)), g.standard_normal((3, 3)), g.standard_normal((4, 3))
    expected = np.maximum(x @ W, 0) @ V
    np.testing.assert_allclose(relukit.load({"dense/kernel:0": W, "dense_1/kernel:0": V})(x), expected)
    np.testing.assert_allclose(relukit.load({"0.weight": W.T, "2.weight": V.T})(x), expected)


@pytest.mark.parametrize(
    "names, error, words",
    [
        (("A",), InvalidInput, r"expected W0, b0.*found \['A'\]"),
        (("W0",), InvalidInput, "'b0' is missing"),
        (("W0", "b0", "W2", "b2"), InvalidInput, "'W1' is missing"),
        (("fc1.weight", "fc2.bias"), InvalidInput, "bias without its weights"),
    ],
)
def test_what_is_expected_and_found_is_said(names, error, words):
    with pytest.raises(error, match=words):
        relukit.load({name: np.ones((2, 2)) for name in names})


def test_layers_that_do_not_follow_each_other_and_other_kinds_are_refused():
    with pytest.raises(ShapeMismatch, match="layer 1"):
        relukit.load({"w0": np.ones((3, 2)), "b0": np.ones(3), "w1": np.ones((1, 5)), "b1": np.ones(1)})
    with pytest.raises(InvalidInput, match=r"'conv\.weight' has shape \(3, 1, 3, 3\)"):
        relukit.load({"conv.weight": np.ones((3, 1, 3, 3)), "conv.bias": np.ones(3)})
