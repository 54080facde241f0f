"""Lean residual blocks against torch's own autograd: outputs, gradients, statistics and bytes, in awkward uses too."""

import copy

import pytest
import torch
from torch import nn

import relukit
from relukit.training._residual import LeanBlock


class Basic(nn.Module):
    """torchvision's spelling of He's basic block."""

    def __init__(self, inputs, outputs, stride=1, bias=False):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=bias)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=bias)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class Bottleneck(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(c, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(),
            nn.Conv2d(3, c, 1), nn.BatchNorm2d(c),
        )  # fmt: skip

    def forward(self, x):
        return torch.relu(x + self.body(x))


class Loop(nn.Module):
    """Blocks called in a loop, one twice, their outputs used and changed on the way."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Basic(6, 6), Basic(6, 6), Bottleneck(6)])

    def forward(self, x):
        seen = 0
        for k in (0, 1, 1, 2):
            x = self.blocks[k](x)
            seen = seen + x.mean((1, 2, 3))
            if k == 0:  # torch's own ReLU does not allow the change in place; a lean block must notice it
                x = x.mul_(0.5) if isinstance(self.blocks[0], LeanBlock) else x * 0.5
        return seen + x.sum((1, 2, 3))


CASES = {
    "in a row": lambda: nn.Sequential(
        Basic(6, 6), Basic(6, 6, bias=True), Basic(6, 6), nn.Flatten(), nn.Linear(384, 3)
    ),
    "shortcuts": lambda: nn.Sequential(Basic(6, 8, 2), Basic(8, 8), Basic(8, 6, 2), nn.AdaptiveAvgPool2d(1)),
    "bottlenecks": lambda: nn.Sequential(Bottleneck(6), Bottleneck(6), nn.Flatten()),
    "loop": Loop,
}


def _step(model, x):
    x = x.clone().requires_grad_()
    y = model(x + 0)
    weights = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).reshape(y.shape)
    (y * weights).sum().backward()
    return y.detach(), [x.grad, *[p.grad for p in model.parameters()]], [b.clone() for b in model.buffers()]


@pytest.mark.parametrize("slope", [1.0, -0.7, 0.0])
@pytest.mark.parametrize("name", CASES)
def test_same_outputs_gradients_and_statistics(name, slope):
    torch.manual_seed(0)
    plain = CASES[name]().double()
    for m in plain.modules():
        if isinstance(m, nn.BatchNorm2d):
            with torch.no_grad():
                m.weight.mul_(slope).add_(0.1 * torch.rand_like(m.weight) * (slope != 0))
                m.bias.normal_(0, 0.3)
    slim = relukit.nn.lean(copy.deepcopy(plain))
    assert list(slim.state_dict()) == list(plain.state_dict())
    x = torch.randn(4, 6, 8, 8, dtype=torch.float64)
    (y, grads, buffers), (z, others, same) = _step(plain, x), _step(slim, x)
    assert torch.allclose(y, z, rtol=1e-12, atol=1e-13)
    size = max(float(g.abs().max()) for g in grads)
    assert size > 0.1
    for one, two in zip(grads, others, strict=True):
        assert float((one - two).abs().max()) <= 1e-12 * size
    for one, two in zip(buffers, same, strict=True):
        assert torch.allclose(one, two, rtol=1e-12, atol=1e-14)
    assert torch.equal(plain.eval()(x), slim.eval()(x))


def test_a_block_keeps_two_activations_for_four():
    from benchmarks.lean import kept_bytes

    model = nn.Sequential(*[Basic(6, 6) for _ in range(5)], nn.AdaptiveAvgPool2d(1))
    x = torch.randn(4, 6, 16, 16)
    unit = x.numel() * 4
    small = 2**14
    assert kept_bytes(model, x) >= 20 * unit
    assert kept_bytes(relukit.nn.lean(model), x) <= 10 * unit + small


def test_other_forwards_and_frozen_norms_are_left_alone():
    class Scaled(Basic):
        def forward(self, x):
            return torch.relu(0.5 * x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))

    torch.manual_seed(0)
    x = torch.randn(4, 6, 8, 8)
    for model in (nn.Sequential(Scaled(6, 6), Basic(6, 6)), nn.Sequential(Basic(6, 6), Basic(6, 6))):
        slim = relukit.nn.lean(copy.deepcopy(model))
        for net in (model, slim):
            net[1].bn1.eval()
        (y, grads, _), (z, others, _) = _step(model, x), _step(slim, x)
        assert torch.allclose(y, z, atol=1e-5)
        assert all(torch.allclose(a, b, atol=1e-3, rtol=1e-4) for a, b in zip(grads, others, strict=True))


def test_attributes_of_the_block_are_reachable_and_autocast_runs():
    slim = relukit.nn.lean(nn.Sequential(Basic(6, 6)))
    assert slim[0].downsample is None and slim[0].conv1.out_channels == 6
    with torch.autocast("cpu", torch.bfloat16):
        slim(torch.randn(2, 6, 8, 8)).float().sum().backward()
    assert slim[0].conv1.weight.grad.isfinite().all()
