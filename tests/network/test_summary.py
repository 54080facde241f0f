"""Listings, and affine stretches that collapse to one layer."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import relukit
from relukit.network.summary import merge, stretches, summary


def test_five_linear_layers_are_one():
    torch.manual_seed(0)
    deep = relukit.load(nn.Sequential(*[nn.Linear(4, 4) for _ in range(5)]))
    assert len(stretches(deep)) == 1 and len(stretches(deep)[0]) == 5
    one = merge(deep)
    assert len(one.nodes) == 2 and one.parameters == 20
    x = np.random.default_rng(0).standard_normal((50, 4))
    np.testing.assert_allclose(one(x), deep(x), atol=1e-14)


def test_only_stretches_without_activation_merge():
    torch.manual_seed(0)
    network = relukit.load(
        nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    )
    x = np.random.default_rng(0).standard_normal((20, 3))
    merged = merge(network)
    np.testing.assert_allclose(merged(x), network(x), atol=1e-14)
    assert [len(r) for r in stretches(network)] == [2] and stretches(merged) == []
    with pytest.raises(relukit.InvalidInput, match="nothing to merge"):
        merge(merged)
    text = json.dumps(summary(network))
    assert '"affine_stretches": [["2", "3"]]' in text
    assert "Dense 5 -> 4" in str(network)
