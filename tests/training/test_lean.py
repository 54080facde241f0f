"""Lean blocks: the same outputs, gradients, running statistics and random state as torch's own, bit by bit."""

import copy

import pytest
import torch
from torch import nn

import relukit
from relukit import InvalidInput

CASES = {
    "relu dropout": (lambda: nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Dropout(0.3), nn.Linear(30, 5)), (16, 20)),
    "activations": (
        lambda: nn.Sequential(
            nn.Linear(20, 30), nn.GELU(), nn.Linear(30, 30), nn.PReLU(30), nn.Linear(30, 30), nn.SiLU(), nn.Linear(30, 30),
            nn.ELU(), nn.Linear(30, 5, bias=False), relukit.nn.ReLUSquared(), nn.Linear(5, 5),
        ),
        (16, 20),
    ),
    "leaky": (
        lambda: nn.Sequential(
            nn.Linear(20, 30), nn.LeakyReLU(0.1), nn.Linear(30, 30), nn.LeakyReLU(1e-40), nn.Linear(30, 30), nn.LeakyReLU(-0.2),
            nn.Linear(30, 30), nn.LeakyReLU(0.0), nn.Linear(30, 48), nn.Unflatten(1, (3, 4, 4)), nn.LeakyReLU(0.3), nn.Conv2d(3, 2, 3),
        ),
        (16, 20),
    ),
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, stride=2), nn.BatchNorm2d(8),
            nn.LeakyReLU(0.1), nn.Conv2d(8, 4, 3, bias=False, groups=2),
        ),
        (4, 3, 12, 12),
    ),
}  # fmt: skip


def _step(model, x):
    torch.manual_seed(3)
    x = x.clone().requires_grad_()
    y = model(x)
    y.square().sum().backward()
    return [
        y.detach(),
        x.grad,
        *[p.grad for p in model.parameters()],
        *[b.clone() for b in model.buffers()],
        torch.rand(1),
    ]


@pytest.mark.parametrize("name", CASES)
def test_the_same_bit_by_bit(name):
    make, shape = CASES[name]
    torch.manual_seed(0)
    plain = make()
    slim = relukit.nn.lean(copy.deepcopy(plain))
    x = torch.randn(*shape)
    assert list(slim.state_dict()) == list(plain.state_dict())
    for one, two in zip(_step(plain, x), _step(slim, x), strict=True):
        assert torch.equal(one, two)
    assert torch.equal(plain.eval()(x), slim.eval()(x))


def test_the_original_is_kept_and_shares_its_parameters():
    plain = CASES["relu dropout"][0]()
    slim = relukit.nn.lean(plain)
    assert type(plain) is nn.Sequential and slim[0].weight is plain[0].weight
    with pytest.raises(InvalidInput, match="torch module"):
        relukit.nn.lean(3)


def test_fewer_bytes_are_kept():
    from benchmarks.lean import kept_bytes

    plain = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 64))
    x = torch.randn(32, 64)
    # The input of GELU, the product of ReLU and dropout, and the output that square() keeps.
    assert kept_bytes(relukit.nn.lean(plain), x) == 3 * x.numel() * 4 < kept_bytes(plain, x) / 1.9


@pytest.mark.parametrize("name", ["relu dropout", "activations", "leaky", "convolutions"])
def test_gradients_of_gradients_are_refused_not_wrong(name):
    make, shape = CASES[name]
    model, x = relukit.nn.lean(make()), torch.randn(*shape, requires_grad=True)
    (g,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g.square().sum().backward()
