"""One module in several places of a network counts every time."""

import numpy as np
import pytest
import torch
from torch import nn

import relukit
from relukit.training.lean import lean

X = np.random.default_rng(0).normal(size=(50, 3))


def _twice(kind: str) -> nn.Module:
    torch.manual_seed(0)
    act, square = nn.ReLU(), nn.Linear(6, 6)
    first, last = nn.Linear(3, 6), nn.Linear(6, 2)
    if kind == "activation":
        return nn.Sequential(first, act, square, act, last)
    if kind == "layer":
        return nn.Sequential(first, act, square, nn.ReLU(), square, nn.ReLU(), last)
    block = nn.Sequential(square, act)
    return nn.Sequential(first, block, block, last)


@pytest.mark.parametrize("kind", ["activation", "layer", "block"])
def test_a_module_that_comes_twice_is_read_and_run_twice(kind):
    module = _twice(kind).double().eval()
    want = module(torch.from_numpy(X)).detach().numpy()
    assert np.abs(relukit.load(module)(X) - want).max() < 1e-14
    quick = lean(module)
    assert np.abs(quick(torch.from_numpy(X)).detach().numpy() - want).max() < 1e-14
