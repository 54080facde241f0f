"""Runs that look as if they learned, or as if they did not, and what is said of them."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import relukit


def _run(model, x, y, loss_of, optimizer, steps=120):
    g = torch.Generator().manual_seed(0)
    with relukit.watch(model, optimizer=optimizer) as h:
        for _ in range(steps):
            rows = torch.randint(len(x), (64,), generator=g)
            loss = loss_of(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            h.step(loss)
            optimizer.step()
    return h, [f for f in h.findings if f.severity == "error"]


def _mlp(*widths, make=nn.ReLU):
    layers = [part for a, b in zip(widths[:-1], widths[1:]) for part in (nn.Linear(a, b), make())]
    return nn.Sequential(*layers[:-1])


@pytest.fixture
def data():
    torch.manual_seed(0)
    x = torch.randn(800, 6)
    return x, x[:, :1] * x[:, 1:2] + x[:, 2:3].abs()


def _gaussian(out, y, spread):
    return F.gaussian_nll_loss(out, y, spread.exp().expand_as(out))


def test_outputs_far_wider_than_their_targets_are_seen_under_a_loss_nobody_knows(data):
    """The learned deviation lets the loss fall though the outputs have nothing to do with the targets."""
    x, y = data
    for scale, sick in ((1.0, False), (900.0, True)):
        torch.manual_seed(1)
        model, spread = _mlp(6, 48, 48, 1), nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.Adam([*model.parameters(), spread], 3e-3)
        _, errors = _run(model, scale * x, y, lambda out, goal, s=spread: _gaussian(out, goal, s), optimizer)
        assert bool(errors) == sick
        assert not sick or errors[0].cause == "unscaled_input"


def test_a_loss_on_differences_leaves_the_last_bias_alone(data):
    """Its gradient is 0 at every step, and nothing is wrong."""
    x, y = data
    torch.manual_seed(1)
    model = _mlp(6, 32, 1)
    order = lambda out, goal: F.softplus(-(out[:32] - out[32:64]) * torch.sign(goal[:32] - goal[32:64])).mean()
    _, errors = _run(model, x, y, order, torch.optim.Adam(model.parameters(), 5e-3))
    assert float(model[-1].bias.grad.abs().max()) < 1e-6 and errors == []


def test_targets_in_another_order_than_their_rows(data):
    x, y = data
    torch.manual_seed(1)
    model = _mlp(6, 32, 1)
    h, errors = _run(model, x, y[torch.randperm(len(y))], F.mse_loss, torch.optim.Adam(model.parameters(), 2e-3), 180)
    assert [f.cause for f in errors][:1] == ["bad_input_data"]
    assert "do not belong" in h.fix()["by_user"][0]


def test_a_sigmoid_before_a_loss_of_ones_own_that_takes_one(data):
    x, y = data
    goal = (y > y.median()).float()
    focal = lambda out, t: (
        -((t - torch.sigmoid(out)) ** 2 * torch.log(torch.where(t > 0.5, torch.sigmoid(out), 1 - torch.sigmoid(out)))).mean()
    )  # fmt: skip
    for end, sick in ((nn.Identity, False), (nn.Sigmoid, True)):
        torch.manual_seed(1)
        model = nn.Sequential(*_mlp(6, 32, 1), end())
        _, errors = _run(model, x, goal, focal, torch.optim.Adam(model.parameters(), 5e-3), 40)
        assert bool(errors) == sick
        assert not sick or errors[0].cause == "wrong_output_layer"


def test_a_spike_after_a_perfect_fit_is_no_sickness(data):
    x, y = data
    torch.manual_seed(1)
    model = _mlp(6, 32, 1)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    with relukit.watch(model, optimizer=optimizer) as h:
        for k in range(90):
            loss = F.mse_loss(model(x[:64]), y[:64])
            optimizer.zero_grad()
            loss.backward()
            h.step(5.0 if k == 88 else float(loss.detach()) * np.exp(-0.2 * k))
            optimizer.step()
    assert [f for f in h.findings if f.severity == "error"] == []


def test_deep_sigmoids_become_tanh_and_shallow_ones_relu(data):
    from relukit.monitoring._cures import CURES
    from relukit.monitoring._finding import Finding

    x, y = data
    finding = Finding("vanishing_gradient", "saturating_activation", "error")
    for depth, kind in ((10, nn.Tanh), (3, nn.ReLU)):
        torch.manual_seed(1)
        model = _mlp(6, *[16] * depth, 1, make=nn.Sigmoid)
        h, _ = _run(model, x, y, F.mse_loss, torch.optim.Adam(model.parameters(), 3e-3), 3)
        assert CURES["centered_activation"](h, finding)
        assert all(type(m) is kind for m in model[1::2])


def test_features_that_only_round_are_left_as_they_are(data):
    """A constant of 100 in float32 plus its rounding: dividing by that would make noise of it."""
    from relukit.monitoring._cures import CURES
    from relukit.monitoring._finding import Finding

    x, y = data
    x = torch.cat([x + 100, 100 + 1e-6 * torch.randn(len(x), 2)], 1)
    torch.manual_seed(1)
    model = _mlp(8, 16, 1)
    h, _ = _run(model, x, y, F.mse_loss, torch.optim.Adam(model.parameters(), 3e-3), 9)
    assert CURES["standardize_input"](h, Finding("slow_learning", "shifted_input", "error"))
    seen = []
    model[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(x)
    assert float(seen[0][:, :6].std()) == pytest.approx(1, abs=0.15) and float(seen[0][:, 6:].abs().max()) < 1e-3
