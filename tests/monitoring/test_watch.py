"""Watching a training: what it finds, that it changes nothing, and that its cures work."""

import numpy as np
import pytest
import torch
from torch import nn

import relukit
from relukit._errors import InvalidInput


def _data(seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(512, 8, generator=g)
    return x, (x[:, 0] * x[:, 1] > 0).long()


def _mlp(make=nn.ReLU, widths=(8, 32, 32, 2)):
    torch.manual_seed(1)
    layers = []
    for a, b in zip(widths[:-1], widths[1:]):
        layers += [nn.Linear(a, b), make()]
    return nn.Sequential(*layers[:-1])


def _train(model, steps=120, rate=5e-3, cure=False, x=None, y=None, watched=True):
    x, y = _data() if x is None else (x, y)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    g = torch.Generator().manual_seed(3)
    h = relukit.watch(model, optimizer=optimizer)
    if watched:
        h.__enter__()
    losses = []
    for k in range(steps):
        rows = torch.randint(len(x), (64,), generator=g)
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        if watched:
            h.step(loss)
        optimizer.step()
        losses.append(float(loss.detach()))
        if cure and k == 30 and h.findings:
            h.fix()
    if watched:
        h.__exit__()
    return h, losses


def test_a_healthy_run_has_no_finding_and_is_not_changed():
    one, two = _mlp(), _mlp()
    h, watched = _train(one)
    _, plain = _train(two, watched=False)
    assert watched == plain
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters()))
    assert [f for f in h.findings if f.severity == "error"] == []
    assert not one._forward_hooks and not any(m._forward_hooks for m in one.modules())


def test_dying_units_are_named_with_cause_and_cured():
    model = _mlp()
    with torch.no_grad():
        for m in model:
            if isinstance(m, nn.Linear) and m.out_features == 32:
                m.bias.fill_(-6.0)
    h, _ = _train(model, steps=40)
    worst = h.findings[0]
    assert (worst.symptom, worst.cause, worst.severity) == ("dying_relu", "negative_bias", "error")
    assert worst.layer in ("0", "2") and len(worst.units) > 16 and worst.evidence["silent_share_worst_layer"] > 0.7
    assert "reset_biases" in worst.remedies and "dying_relu" in str(worst)
    model = _mlp()
    with torch.no_grad():
        model[0].bias.fill_(-6.0)
        model[2].bias.fill_(-6.0)
    h, losses = _train(model, steps=200, cure=True)
    assert h.fixes and h.fixes[0]["applied"] and np.mean(losses[-20:]) < 0.5
    assert h.findings == [] or h.findings[0].severity == "note"


@pytest.mark.parametrize(
    ("change", "symptom", "cause"),
    [
        (lambda m, x: (_mlp(nn.Sigmoid, (8, *[16] * 8, 2)), x), "vanishing_gradient", "saturating_activation"),
        (lambda m, x: (_mlp(nn.ReLU, (8, *[16] * 30, 2)), x), "vanishing_gradient", "too_deep_for_init"),
        (lambda m, x: (m, 500 * x), "exploding", "unscaled_input"),
        (lambda m, x: (nn.Sequential(*m, nn.Softmax(-1)), x), "slow_learning", "wrong_output_layer"),
    ],
)
def test_symptom_and_cause(change, symptom, cause):
    x, y = _data()
    model, x = change(_mlp(), x)
    h, _ = _train(model, steps=40, x=x, y=y)
    assert h.findings and (h.findings[0].symptom, h.findings[0].cause) == (symptom, cause), h.findings


def test_a_loss_that_is_not_a_number_is_an_explosion_with_its_place():
    model = _mlp()
    with torch.no_grad():
        model[2].weight[3, 4] = float("nan")
    h, _ = _train(model, steps=10)
    assert h.findings[0].symptom == "exploding" and h.findings[0].evidence["first_non_finite"] == "2"


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 2)
        self.twice = nn.Linear(16, 16)

    def forward(self, x):
        x = nn.functional.relu(self.a(x))
        x = nn.functional.relu(self.twice(nn.functional.relu(self.twice(x))), inplace=True)
        return self.b(x)


def test_functional_in_place_and_shared_modules():
    h, losses = _train(Functional())
    assert h.record.kinds["ReLU"] == 3 and losses[-1] < losses[0]
    assert [f for f in h.findings if f.severity == "error"] == []


@pytest.mark.slow
def test_a_compiled_model():
    model = torch.compile(_mlp(), backend="eager")
    h, losses = _train(model, steps=60)
    assert h.record.samples and losses[-1] < losses[0]
    inner = Functional()  # compiled whole: its graph names no activation
    with torch.no_grad():
        for layer in [m for m in inner.modules() if isinstance(m, nn.Linear)][:-1]:
            layer.bias.fill_(-8)
    h, _ = _train(torch.compile(inner, backend="aot_eager"), steps=60)
    assert h.findings[0].symptom == "dying_relu" and h.findings[0].cause == "negative_bias"


def test_attention_and_normalization():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
            self.norm, self.out = nn.LayerNorm(8), nn.Linear(8, 2)

        def forward(self, x):
            x = x[:, None] * torch.ones(1, 3, 1)
            return self.out(torch.relu(self.norm(x + self.attend(x, x, x)[0])).mean(1))

    h, _ = _train(Block(), steps=60)
    assert [f for f in h.findings if f.severity == "error"] == []


def test_bad_input_and_exceptions():
    model = _mlp()
    with pytest.raises(InvalidInput, match="torch module"):
        relukit.watch(3)
    with pytest.raises(InvalidInput, match="no linear"):
        relukit.watch(nn.Sequential(nn.ReLU()))
    with relukit.watch(model) as h:
        with pytest.raises(InvalidInput, match="already being watched"):
            relukit.watch(model)
        with pytest.raises(InvalidInput, match="single number"):
            h.step(torch.zeros(3))
        with pytest.raises(InvalidInput, match="NoneType"):
            h.step(None)
    with pytest.raises(InvalidInput, match="inside"):
        h.step(torch.zeros(()))
    with pytest.raises(ZeroDivisionError), relukit.watch(model) as h:
        loss = nn.functional.cross_entropy(model(_data()[0]), _data()[1])
        loss.backward()
        h.step(loss)
        raise ZeroDivisionError
    assert len(h.record.losses) == 1 and not any(m._forward_hooks for m in model.modules())
    relukit.watch(model)  # can be watched anew


def test_cures_keep_the_function_where_they_can():
    """Reviving dead units must not change what the network computes."""
    from relukit.monitoring._cures import revive_dead_units

    model = _mlp()
    with torch.no_grad():
        model[2].bias[:10] = -50.0
    h, _ = _train(model, steps=20)
    x, _ = _data()
    before = model(x).detach()
    assert revive_dead_units(h, None) == "10 units"
    assert torch.allclose(model(x), before, atol=1e-5)
    assert (model[2](torch.relu(model[0](x)))[:, :10] > 0).any(0).all()


def test_watching_leaves_the_random_state():
    model = _mlp()
    x, y = _data()
    state = torch.random.get_rng_state()
    with relukit.watch(model) as h:
        for _ in range(3):
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            h.step(loss)
    assert torch.equal(state, torch.random.get_rng_state())


def test_picture_of_a_watched_run(tmp_path):
    h, _ = _train(_mlp(), steps=40)
    h.plot(tmp_path / "run.png")
    assert (tmp_path / "run.png").stat().st_size > 10_000


def test_reviving_dead_units_of_a_stored_network():
    g = np.random.default_rng(0)
    W = [g.normal(size=(12, 4)), g.normal(size=(3, 12))]
    b = [g.normal(size=12), g.normal(size=3)]
    b[0][:5] = -100.0
    network = relukit.load({"W0": W[0], "b0": b[0], "W1": W[1], "b1": b[1]})
    rows = g.normal(size=(200, 4))
    assert relukit.health(network, rows).layers[0].dead == 5
    revived, count = relukit.revive(network, rows, seed=0)
    assert count == 5 and relukit.health(revived, rows).layers[0].dead == 0
    assert np.allclose(revived(rows), network(rows), atol=1e-12)
    with pytest.raises(InvalidInput, match="no dead unit"):
        relukit.revive(revived, rows)
