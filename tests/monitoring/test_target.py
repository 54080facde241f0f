"""Targets told from outputs and gradients: against the targets themselves, which the loss function had."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import relukit
from relukit.monitoring._layers import output_chain
from relukit.monitoring._target import recovered


def _told(out, y, loss_of, head=None):
    """What is told of the targets y after one backward pass through `head` (a part of the model) and the loss."""
    free = out.clone().requires_grad_()
    made = free * 1 if head is None else head(free)
    seen = {}
    made.register_hook(lambda g: seen.update(pair=(made.detach(), g)))
    loss = loss_of(made, y)
    chain = output_chain(loss)
    loss.backward()
    return recovered(chain, seen["pair"], float(loss.detach()))


def _constant(y, loss_of):
    """Loss of the best constant output, by trying many."""
    y = y.reshape(len(y), -1)
    grid = torch.linspace(float(y.min()), float(y.max()), 4001)
    return min(float(loss_of(c.expand_as(y), y)) for c in grid)


NUMBERS = {
    "mse": F.mse_loss,
    "sum": lambda a, b: F.mse_loss(a, b, reduction="sum"),
    "written out": lambda a, b: ((a - b) ** 2).mean(),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_squared_errors(name):
    g = torch.Generator().manual_seed(0)
    y = 5 + 3 * torch.randn(64, 1, generator=g)
    told = _told(torch.randn(64, 1, generator=g), y, NUMBERS[name])
    assert told.mean == pytest.approx(float(y.mean()), rel=1e-3)
    assert told.std == pytest.approx(float(y.std(unbiased=False)), rel=1e-3)
    assert told.level == pytest.approx(_constant(y, NUMBERS[name]), rel=1e-2)
    assert not told.mismatch


@pytest.mark.parametrize("loss_of", [F.smooth_l1_loss, lambda a, b: F.huber_loss(a, b, delta=2.0), F.l1_loss])
def test_losses_that_are_straight_far_out(loss_of):
    g = torch.Generator().manual_seed(1)
    y = torch.randn(512, 1, generator=g)
    told = _told(0.1 * torch.randn(512, 1, generator=g), y, loss_of)
    assert told.level == pytest.approx(_constant(y, loss_of), rel=0.15)  # beyond the bend only signs are told
    assert told.mean == pytest.approx(0.0, abs=0.15)


def test_classes_by_their_shares():
    g = torch.Generator().manual_seed(2)
    y = (torch.rand(256, generator=g) < 0.1).long()
    out = torch.randn(256, 2, generator=g)
    share = float(y.float().mean())
    entropy = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    assert _told(out, y, F.cross_entropy).level == pytest.approx(entropy, rel=0.02)
    smooth = _told(out, y, lambda a, b: F.cross_entropy(a, b, label_smoothing=0.2))
    s = 0.8 * share + 0.1
    assert smooth.level == pytest.approx(-(s * np.log(s) + (1 - s) * np.log(1 - s)), rel=0.02)
    logits, target = out[:, :1], y[:, None].float()
    assert _told(logits, target, F.binary_cross_entropy_with_logits).level == pytest.approx(entropy, rel=1e-3)
    assert _told(logits, target, F.binary_cross_entropy, head=torch.sigmoid).level == pytest.approx(entropy, rel=1e-3)


def test_what_does_not_fit_is_said():
    g = torch.Generator().manual_seed(3)
    y = torch.randn(32, generator=g)
    with pytest.warns(UserWarning, match="broadcast"):
        told = _told(torch.randn(32, 1, generator=g), y, F.mse_loss)
    assert "every target" in told.mismatch
    assert told.level == pytest.approx(float(y.var(unbiased=False)), rel=1e-3)
    number = torch.arange(32) % 5
    row = lambda out, t: F.mse_loss(out, t[:, None].float().expand_as(out))
    assert "all outputs of its row" in _told(torch.randn(32, 5, generator=g), number, row).mismatch
    assert "single output" in _told(torch.randn(32, 1, generator=g), 0 * number, F.cross_entropy).mismatch
    signs = torch.sign(y)[:, None]
    assert "outside" in _told(torch.randn(32, 1, generator=g), signs, F.binary_cross_entropy_with_logits).mismatch


def test_a_loss_of_ones_own_is_not_guessed():
    g = torch.Generator().manual_seed(4)
    y, out = torch.randn(32, 1, generator=g), torch.randn(32, 1, generator=g)
    assert _told(out, y, lambda a, b: F.mse_loss(a, b) + a.abs().mean()) is None
    assert _told(out, y, lambda a, b: torch.log(torch.cosh(a - b)).mean()) is None


class Backwards(nn.Module):
    """Lists its output layer first, and holds a recurrent cell."""

    def __init__(self):
        super().__init__()
        self.out, self.cell, self.front = nn.Linear(6, 2), nn.GRU(5, 6, batch_first=True), nn.Linear(3, 5)

    def forward(self, x):
        return self.out(self.cell(torch.relu(self.front(x)))[0][:, -1])


def _steps(model, optimizer, h, x, y, count):
    for _ in range(count):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        h.step(loss)
        optimizer.step()


def test_layers_stand_in_the_order_they_run_in():
    torch.manual_seed(0)
    model, x, y = Backwards(), torch.randn(20, 4, 3), torch.arange(20) % 2
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    with relukit.watch(model, optimizer=optimizer) as h:
        _steps(model, optimizer, h, x, y, 3)
    assert [layer.name for layer in h.layers] == ["front", "cell.weight_ih_l0", "cell.weight_hh_l0", "out"]
    assert h.record.start["weight_std"][0] == pytest.approx(1 / 3, rel=0.25)  # U(-1/sqrt 3, 1/sqrt 3)
    assert h.record.samples[-1].grad.shape == (4,) and np.all(h.record.samples[-1].grad > 0)


def test_a_ruined_run_goes_back_to_its_start():
    torch.manual_seed(0)
    model, x, y = Backwards(), torch.randn(20, 4, 3), torch.arange(20) % 2
    began = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer = torch.optim.Adam(model.parameters(), 5.0)
    with relukit.watch(model, optimizer=optimizer) as h:
        _steps(model, optimizer, h, x, y, 70)
        assert h.findings[0].cause == "learning_rate_too_high"
        applied = h.fix()["applied"]
        assert any("where training started" in text for text in applied)
        assert all(torch.equal(began[k], v) for k, v in model.state_dict().items())
        assert optimizer.param_groups[0]["lr"] < 0.01


def test_targets_in_the_hundreds_are_scaled_by_a_hook():
    torch.manual_seed(0)
    x = torch.randn(400, 4)
    y = 500 + 300 * (x[:, :1] * x[:, 1:2]).tanh()
    model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    with relukit.watch(model, optimizer=optimizer) as h:
        for k in range(240):
            loss = F.mse_loss(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            h.step(loss)
            optimizer.step()
            if k == 40:
                before = float(loss.detach())
                assert h.findings[0].cause == "unscaled_target"
                assert any("multiplies the model's output" in text for text in h.fix()["applied"])
    assert before > 200_000 and float(loss.detach()) < 0.3 * float(y.var())
    assert not [f for f in h.findings if f.severity == "error"]


def _pinball(share):
    return lambda a, b: torch.maximum(share * (b - a), (share - 1) * (b - a)).mean()


@pytest.mark.parametrize("share", [0.5, 0.6, 0.4])
def test_quantile_losses_of_ones_own(share):
    g = torch.Generator().manual_seed(2)
    y = torch.randn(512, 1, generator=g)
    told = _told(0.1 * torch.randn(512, 1, generator=g), y, _pinball(share))
    assert told.level == pytest.approx(_constant(y, _pinball(share)), rel=0.15)
    above = _told(torch.zeros(512, 1), 500 + y, _pinball(share))
    assert above.one_sided and above.mean == pytest.approx(500 + float(y.mean()), abs=0.5)
    below = _told(torch.zeros(512, 1), -500 + y, _pinball(share))
    assert below.one_sided and below.mean == pytest.approx(-500 + float(y.mean()), abs=0.5)


@pytest.mark.parametrize("loss_of", [F.binary_cross_entropy_with_logits, F.mse_loss])
def test_a_loss_over_a_part_of_the_batch(loss_of):
    g = torch.Generator().manual_seed(4)
    y = (torch.rand(64, 1, generator=g) < 0.3).float()
    out = 2 * torch.randn(64, 1, generator=g)
    for rows in (63, 40, 9):
        told = _told(out, y, lambda a, b, rows=rows: loss_of(a[:rows], b[:rows]))
        assert told.rows == rows and not told.mismatch
        assert told.mean == pytest.approx(float(y[:rows].mean()), abs=1e-3)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_a_class_for_each_token(flat, padded):
    g = torch.Generator().manual_seed(5)
    out, y = torch.randn(20, 3, 7, generator=g), torch.randint(0, 3, (20, 7), generator=g)
    if padded:
        y[:, 5:] = -100
    if flat:  # the classes last, tokens flattened within the loss
        told = _told(out.movedim(1, -1), y, lambda o, t: F.cross_entropy(o.reshape(-1, 3), t.reshape(-1)))
    else:
        told = _told(out, y, F.cross_entropy)
    shares = np.bincount(y[y >= 0].numpy(), minlength=3) / int((y >= 0).sum())
    assert told.rows == (100 if padded else 140)
    assert np.allclose(told.shares, shares, atol=1e-5)


@pytest.mark.parametrize("name", ["soft margin", "hinge"])
def test_labels_0_under_a_loss_for_minus_1(name):
    g = torch.Generator().manual_seed(6)
    out, one = torch.randn(40, 1, generator=g), torch.randint(0, 2, (40, 1), generator=g).float()
    loss_of = F.soft_margin_loss if name == "soft margin" else lambda o, t: torch.relu(1 - t * o).mean()
    assert "labels 0" in _told(out, one, loss_of).mismatch
    told = _told(out, 2 * one - 1, loss_of)
    assert told.mismatch == ""
    if name == "soft margin":
        assert told.level == pytest.approx(_constant(2 * one - 1, loss_of), rel=1e-3)
