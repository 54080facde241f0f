"""`verify` on convolutional and residual networks from torch: any layer that can be read is proven or refuted, never wrongly."""

import time

import numpy as np
import pytest
import torch
from torch import nn

import relukit
from relukit import Box
from relukit.search._graph import Graph
from relukit.verification.vnnlib import Case, Property


class Residual(nn.Module):
    """Two residual blocks as in the small ResNets of the competition: one keeps the shape, one halves it."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.a = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
        self.b = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1))
        self.short = nn.Conv2d(4, 6, 1, stride=2)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(6 * 9, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x):
        x = self.stem(x)
        x = torch.relu(self.a(x) + x)
        x = torch.relu(self.b(x) + self.short(x))
        return self.head(x)


KINDS = {
    "residual": Residual,
    "strided": lambda: nn.Sequential(nn.Conv2d(2, 4, 4, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3)),
    "dilated and grouped": lambda: nn.Sequential(nn.Conv2d(2, 4, 3, dilation=2, padding=2, groups=2), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3)),
    "average pooling": lambda: nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 4, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
    "max pooling": lambda: nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 6), nn.ReLU(), nn.Linear(6, 3)),
    "leaky": lambda: nn.Sequential(nn.Conv2d(2, 3, 3, stride=2), nn.LeakyReLU(0.1), nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3)),
}  # fmt: skip


def make(kind, seed):
    torch.manual_seed(seed)
    module = KINDS[kind]()
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.running_mean, 0, 0.2)
            nn.init.uniform_(m.running_var, 0.5, 1.5)
    return module.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_never_wrong(kind, monkeypatch):
    """Levels just above a sampled minimum have a counterexample; levels far below are proven, and every claim is sampled again."""
    monkeypatch.setattr(Graph, "is_small", property(lambda graph: False))
    counts = {"sat": 0, "unsat": 0, "unknown": 0}
    for seed in range(2):
        module = make(kind, seed)
        network = relukit.load(module, input_shape=(2, 6, 6))
        g = np.random.default_rng(seed)
        center = g.random(72)
        box = Box(center - 0.08, center + 0.08)
        points = np.concatenate([box.sample(2000, seed), np.where(g.random((2000, 72)) < 0.5, box.lower, box.upper)])
        with torch.no_grad():
            out = module.double()(torch.from_numpy(points.reshape(-1, 2, 6, 6))).numpy()
        margin = out[:, 0] - out[:, 1]
        low, spread = margin.min(), margin.max() - margin.min()
        for level, want in ((low + 1e-3 * spread, "sat"), (low - 0.3 * spread, None), (low - 4 * spread, "unsat")):
            asked = Property([Case(box, np.zeros((0, 72)), np.zeros(0), np.array([[1.0, -1, 0]]), np.zeros((1, 72)), np.array([level]))], 72, 3)
            found = relukit.verify(network, asked, timeout=20)
            assert want is None or found.status == want, (kind, seed, level, found)
            assert found.status != "unsat" or level < low
            counts[found.status] += 1
            if found.status == "sat":
                assert box.contains(found.witness) and found.outputs[0] - found.outputs[1] <= level + 1e-6
    assert counts["sat"] >= 2 and counts["unsat"] >= 2


def test_time_limit_of_a_wide_network():
    """20,000 units, bounds of which take longer than the limit: the answer comes within two seconds of it."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 4, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 196, 10)).eval()  # fmt: skip
    network = relukit.load(module, input_shape=(3, 28, 28))
    n = network.inputs
    center = np.random.default_rng(0).random(n)
    box = Box(center - 0.1, center + 0.1)
    level = float(network(center) @ (np.eye(10)[0] - np.eye(10)[1])) - 3.0
    asked = Property([Case(box, np.zeros((0, n)), np.zeros(0), (np.eye(10)[0] - np.eye(10)[1])[None], np.zeros((1, n)), np.array([level]))], n, 10)  # fmt: skip
    relukit.verify(network, asked, timeout=0.1)
    began = time.process_time()  # other processes may hold this one up
    found = relukit.verify(network, asked, timeout=1.0)
    assert found.status == "unknown" and time.process_time() - began < 3.0
