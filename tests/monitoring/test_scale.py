"""Runs whose numbers are out of scale though the loss falls, and how straight weights go."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import relukit
from relukit.monitoring._record import Record
from relukit.monitoring._target import recovered


class Divides(nn.Module):
    """Takes bytes and divides by 255 itself, or does not."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by, self.body = by, nn.Sequential(nn.Linear(30, 40), nn.Tanh(), nn.Linear(40, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x / self.by)


@pytest.mark.parametrize(
    ("by", "grown", "cause"), [(255.0, 1, ""), (1.0, 1, "unscaled_input"), (255.0, 60, "bad_initialization")]
)
def test_large_numbers_are_told_by_what_layers_put_out(by, grown, cause):
    """The same bytes go in; the loss falls in all three runs."""
    torch.manual_seed(0)
    x = torch.randint(0, 256, (600, 30)).float()
    y = (x[:, :3].sum(1, keepdim=True) - 380) / 130
    model = Divides(by)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(grown)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    errors, losses = [], []
    with relukit.watch(model, optimizer=optimizer) as h:
        for k in range(120):
            rows = torch.randint(600, (64,))
            loss = F.mse_loss(model(x[rows]), y[rows])
            losses.append(float(loss.detach()))
            optimizer.zero_grad()
            loss.backward()
            h.step(loss)
            optimizer.step()
            errors += [f.cause for f in h.findings if f.severity == "error"] if k > 60 else []
    assert sum(losses[-9:]) < 0.9 * sum(losses[:9])
    assert set(errors) == ({cause} if cause else set())


@pytest.mark.parametrize("memory", [1.0, 10.0])
def test_a_random_walk_has_drift_one_and_a_straight_way_more(memory):
    """A walk of momentum's means, against its own length; steps all alike come as far as their number."""
    g, steps = np.random.default_rng(0), 400
    pull, beta = g.normal(size=(steps, 20_000)), 1 - 1 / memory
    for k in range(1, steps):
        pull[k] = beta * pull[k - 1] + (1 - beta) * pull[k]
    for walk, expected in ((pull, 1.0), (np.ones((steps, 20_000)), math.sqrt(steps / (2 * memory - 1)))):
        lengths = np.linalg.norm(walk, axis=1)
        record = Record([None], losses=[1.0] * steps, memory=memory)
        record.updates = [(k + 1, lengths[k : k + 1]) for k in range(0, steps, 4)]
        record.away = (steps, np.array([np.linalg.norm(walk.sum(0))]))
        assert record.drift() == pytest.approx(expected, rel=0.15)
    assert math.isnan(Record([None]).drift())


def _seen(out, y, loss_of):
    out = out.clone().requires_grad_(True)
    loss = loss_of(out, y)
    loss.backward()
    return recovered(["SmoothL1Loss"], (out, out.grad), float(loss.detach()))


def test_smooth_absolute_errors_tell_the_mean_of_far_targets_and_nothing_of_wild_outputs():
    torch.manual_seed(0)
    out, y = 0.1 * torch.randn(64, 1), 3000 + 900 * torch.randn(64, 1)
    for sign in (1, -1):
        found = _seen(out, sign * y, nn.SmoothL1Loss())
        assert found is not None and found.one_sided and math.isnan(found.std) and math.isnan(found.level)
        assert found.mean == pytest.approx(float(sign * y.mean()), rel=1e-3)
    near = _seen(out, torch.randn(64, 1).clamp(-0.8, 0.8), nn.SmoothL1Loss())
    assert near is not None and not near.one_sided and near.std < 1
    assert _seen(200 * torch.randn(64, 1), torch.randn(64, 1), nn.SmoothL1Loss()) is None


def test_since_step_does_not_hang_on_when_findings_are_read():
    """Read at every step, or once at the end: within the quarter by which steps are tried."""
    since = {}
    for often in (True, False):
        torch.manual_seed(0)
        x = torch.randn(400, 5)
        model = nn.Sequential(nn.Linear(5, 32), nn.ReLU(), nn.Linear(32, 1))
        optimizer = torch.optim.SGD(model.parameters(), 1e-6)
        first = 0
        with relukit.watch(model, optimizer=optimizer) as h:
            for k in range(1, 81):
                loss = F.mse_loss(model(x), x[:, :1])
                optimizer.zero_grad()
                loss.backward()
                h.step(loss)
                optimizer.step()
                first = first or k * bool(often and h.findings)
        found = h.findings[0]
        assert found.cause == "learning_rate_too_low"
        since[often] = found.since_step
        assert not often or found.since_step == first > 8
    assert since[True] <= since[False] <= 1.25 * since[True] + 1


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_the_few_rows_that_tokens_touch_are_no_layer_whose_gradient_vanishes(kind):
    model = nn.Sequential(kind(5000, 16), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2))
    with relukit.watch(model) as h:
        assert [layer.name for layer in h.layers] == ["1", "3"]
