"""Health on data and on a box, against values computed by hand and by torch."""

import numpy as np
import pytest
import torch
from torch import nn

import relukit
from relukit import Box, InvalidInput
from relukit.activations import get
from relukit.network import from_layers


def test_known_units():
    # Unit 0 always on, 1 dead on the box, 2 dead on the data only, 3 on for half the rows.
    W = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    network = from_layers([W, np.ones((1, 4))], [np.array([2.0, -3.0, -0.9, 0.0]), np.zeros(1)], [get("relu")])
    x = np.array([[0.5, 0.5], [0.5, -0.5], [-0.5, 0.2], [0.1, -0.2]])
    layer = relukit.health(network, x, Box([-1.0, -1.0], [1.0, 1.0])).layers[0]
    assert (layer.units, layer.silent, layer.dead, layer.always_on, layer.proven_dead) == (4, 2, 2, 1, 1)
    np.testing.assert_array_equal(layer.off_share, [0, 1, 1, 0.5])
    np.testing.assert_array_equal(layer.proven, [False, True, False, False])
    assert layer.zero_share == pytest.approx((4 + 4 + 2) / 16)


def test_gradients_match_autograd():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 7), nn.ReLU(), nn.Linear(7, 6), nn.GELU(), nn.Linear(6, 3)).double()
    x, y = torch.randn(20, 4, dtype=torch.float64), torch.randint(0, 3, (20,))
    kept = []
    h = x
    for part in module:
        h = part(h)
        if isinstance(part, nn.ReLU | nn.GELU):
            h.retain_grad()
            kept.append(h)
    nn.functional.cross_entropy(h, y, reduction="sum").backward()
    found = relukit.health(relukit.load(module), x.numpy(), targets=y.numpy())
    for layer, value in zip(found.layers, kept):
        assert layer.grad_norm == pytest.approx(float(value.grad.abs().mean(0).norm()), rel=1e-6)
    assert found.layers[1].dead == 0


def test_no_row_is_refused():
    network = from_layers([np.eye(2)] * 2, [np.zeros(2)] * 2, [get("relu")])
    with pytest.raises(InvalidInput, match="at least one row"):
        relukit.health(network, np.zeros((0, 2)))
