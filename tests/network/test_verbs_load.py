"""Verbs take what `load` takes: files, modules, arrays."""

import numpy as np
import pytest
import torch

import relukit
from relukit import Box, InvalidInput, UnreadableFile
from relukit.verification import flips


def test_files_modules_and_arrays_give_what_the_network_gives(tmp_path):
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(2, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2)).double().eval()
    arrays = {f"{kind}{k}": a.detach().numpy() for k, i in ((0, 0), (1, 2)) for kind, a in (("W", module[i].weight), ("b", module[i].bias))}  # fmt: skip
    path = tmp_path / "net.npz"
    np.savez(path, **arrays)
    network, box, x = relukit.load(path), Box([-1.0, -1.0], [1.0, 1.0]), np.array([0.1, -0.2])
    want = len(relukit.regions(network, box)), relukit.flip(network, x).upper, relukit.explain(network, x).decision
    smaller = relukit.compress(network, box).network.parameters
    for source in (path, str(path), module, arrays):
        assert len(relukit.regions(source, box)) == want[0]
        assert relukit.flip(source, x).upper == pytest.approx(want[1], rel=1e-9)
        assert flips(source, x[None]).flips[0].upper == pytest.approx(want[1], rel=1e-9)
        assert relukit.explain(source, x).decision == want[2]
        assert relukit.compress(source, box).network.parameters == smaller


@pytest.mark.parametrize("verb", [relukit.regions, relukit.compress])
def test_what_cannot_be_read_is_named(verb, tmp_path):
    with pytest.raises(UnreadableFile, match="nope"):
        verb(tmp_path / "nope.onnx", Box([-1.0], [1.0]))
    with pytest.raises(InvalidInput, match="int"):
        verb(3, Box([-1.0], [1.0]))
