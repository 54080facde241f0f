"""What chance does to a loss is no sickness: batches of a few rows, rare classes, losses that change their sign, residuals."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

import relukit
from relukit.monitoring._record import Record, _falling
from relukit.monitoring._target import _relation


def _errors(model, rate, batch, steps, rows):
    """Errors found at any tenth step of a training on what `rows(generator, batch)` gives."""
    optimizer, generator, found = torch.optim.Adam(model.parameters(), rate), torch.Generator().manual_seed(0), []
    with relukit.watch(model, optimizer=optimizer) as h:
        for k in range(steps):
            loss = rows(generator, batch)
            optimizer.zero_grad()
            loss.backward()
            h.step(loss)
            optimizer.step()
            if k % 10 == 9:
                found += [f for f in h.findings if f.severity == "error"]
    return found


def test_the_falling_sequence_is_the_isotonic_regression():
    from sklearn.isotonic import IsotonicRegression

    values = np.random.default_rng(0).normal(size=60) - np.linspace(0, 4, 60)
    truth = IsotonicRegression(increasing=False).fit_transform(np.arange(60), values)
    np.testing.assert_allclose(_falling(values), truth, atol=1e-12)


def test_relation_is_measured_by_all_pairings():
    g = np.random.default_rng(1)
    a, b = g.normal(size=(5, 2)), g.normal(size=(5, 2))
    centered = lambda t: t - t.mean(0)
    sums = [float((centered(a) * centered(b)[list(order)]).sum()) for order in itertools.permutations(range(5))]
    assert np.mean(sums) == pytest.approx(0, abs=1e-12)
    assert _relation(torch.tensor(a), torch.tensor(b)) == pytest.approx(sums[0] / np.std(sums), rel=1e-5)


def test_a_falling_loss_does_not_spread():
    losses = np.linspace(1.0, 0.2, 40).tolist()
    assert Record([], losses=losses).unrest(40)[1] == pytest.approx(0, abs=1e-12)
    rough = [v * (1.5 if k % 2 else 0.5) for k, v in enumerate(losses)]
    assert Record([], losses=rough).unrest(40)[1] > 0.8


def test_a_loss_around_zero_is_measured_by_its_sizes():
    g = np.random.default_rng(0)
    losses = g.normal(0, 0.1, 40).tolist()
    losses[0] = 1e-6
    assert abs(Record([], losses=losses).drop()) < 3


def test_a_residual_driven_to_zero_is_not_measured_by_a_constant():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 24), nn.Tanh(), nn.Linear(24, 1))
    weight = lambda x: 3 * model(x) - torch.exp(x)

    class Residue(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = model

        def forward(self, x):
            return weight(x)

    whole = Residue()
    squared = lambda g, n: nn.functional.mse_loss(whole(torch.rand(n, 1, generator=g)), torch.zeros(n, 1))
    assert not _errors(whole, 5e-3, 64, 60, squared)


@pytest.mark.parametrize("seed", range(3))
def test_rare_classes_in_small_batches(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))

    def loss(g, n):
        x = torch.randn(n, 6, generator=g)
        y = (x[:, :1] > 1.9).float()
        return nn.functional.binary_cross_entropy_with_logits(model(x), y)

    assert not _errors(model, 2e-3, 16, 200, loss)


@pytest.mark.parametrize("seed", range(3))
def test_rewards_change_their_sign(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 24), nn.Tanh(), nn.Linear(24, 3))

    def loss(g, n):
        x = torch.randn(n, 4, generator=g)
        logs = torch.log_softmax(model(x), 1)
        arm = torch.multinomial(logs.exp().detach(), 1, generator=g)
        got = (x[:, :3].argmax(1, keepdim=True) == arm).float()
        return -(logs.gather(1, arm) * (got - got.mean())).mean()

    assert not _errors(model, 5e-3, 32, 150, loss)


@pytest.mark.parametrize("seed", range(2))
def test_a_weak_signal_is_no_bad_data_but_none_at_all_is(seed):
    torch.manual_seed(seed)

    def errors(share):
        model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 3))

        def loss(g, n):
            x = torch.randn(n, 6, generator=g)
            own, other = x[:, :3].argmax(1), torch.randint(0, 3, (n,), generator=g)
            y = torch.where(torch.rand(n, generator=g) < share, own, other)
            return nn.functional.cross_entropy(model(x), y)

        return {f.cause for f in _errors(model, 5e-3, 64, 250, loss)}

    assert not errors(0.4)
    assert errors(0.0) == {"bad_input_data"}
    assert math.isnan(_relation(torch.zeros(2, 1), torch.zeros(2, 1)))
