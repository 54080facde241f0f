"""Decay or dropout that leave nothing to learn are named and weakened; usual ones are no finding."""

import pytest
from sklearn.datasets import load_diabetes, load_digits

import relukit

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402


def _digits():
    x, y = load_digits(return_X_y=True)
    return torch.as_tensor(x / 16).float(), torch.as_tensor(y)


def _run(optimizer, drop=0.0, steps=120, fix=False, rows=64):
    torch.manual_seed(0)
    x, y = _digits()
    model = nn.Sequential(
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Dropout(drop),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Dropout(drop),
        nn.Linear(64, 10),
    )
    opt = optimizer(model.parameters())
    g = torch.Generator().manual_seed(1)
    with relukit.watch(model, optimizer=opt) as h:
        for k in range(steps):
            chosen = torch.randint(len(x), (rows,), generator=g)
            loss = nn.functional.cross_entropy(model(x[chosen]), y[chosen])
            opt.zero_grad()
            loss.backward()
            h.step(loss)
            opt.step()
            if fix and not h.fixes and (k + 1) % 20 == 0 and any(f.severity == "error" for f in h.findings):
                h.fix()
    model.eval()
    return h, opt, model, float((model(x).argmax(1) == y).float().mean())


STRONG = {
    "SGD": lambda p: torch.optim.SGD(p, 0.1, weight_decay=1.0),
    "Adam": lambda p: torch.optim.Adam(p, 2e-3, weight_decay=2.0),
    "AdamW": lambda p: torch.optim.AdamW(p, 5e-3, weight_decay=100.0),
}


@pytest.mark.parametrize("name", STRONG)
def test_a_decay_that_outweighs_the_loss_is_named_and_lowered(name):
    h, *_ = _run(STRONG[name], steps=60)
    first = h.findings[0]
    assert (first.severity, first.cause) == ("error", "too_much_regularization"), str(first)
    h, opt, _, score = _run(STRONG[name], steps=260, fix=True)
    assert opt.param_groups[0]["weight_decay"] == 1e-4 and score > 0.85


def test_a_dropout_that_leaves_no_unit_is_named_and_lowered():
    adam = lambda p: torch.optim.Adam(p, 2e-3)
    h, *_ = _run(adam, drop=0.97, steps=90)
    assert h.findings[0].cause == "too_much_regularization"
    h, _, model, score = _run(adam, drop=0.97, steps=260, fix=True)
    assert model[2].p == 0.2 and score > 0.85


@pytest.mark.parametrize(
    ("optimizer", "drop"),
    [
        (lambda p: torch.optim.SGD(p, 0.2, weight_decay=5e-4), 0.5),
        (lambda p: torch.optim.AdamW(p, 2e-3, weight_decay=0.1), 0.3),
        (lambda p: torch.optim.Adam(p, 2e-3, weight_decay=1e-3), 0.0),
    ],
)
def test_usual_strengths_are_no_finding(optimizer, drop):
    h, *_ = _run(optimizer, drop, steps=200)
    assert not [f for f in h.findings if f.severity == "error"]


@pytest.mark.parametrize("seed", range(3))
def test_batches_of_one_row_are_noisy_and_healthy(seed):
    x, y = load_diabetes(return_X_y=True)
    x, y = torch.as_tensor(x / x.std(0)).float(), torch.as_tensor((y - y.mean()) / y.std()).float()
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 1))
    opt = torch.optim.SGD(model.parameters(), 0.003)
    with relukit.watch(model, optimizer=opt) as h:
        for k in range(400):
            i = int(torch.randint(len(x), ()))
            loss = (model(x[i : i + 1])[:, 0] - y[i : i + 1]).square().mean()
            opt.zero_grad()
            loss.backward()
            h.step(loss)
            opt.step()
            if k % 20 == 19:
                assert not [f for f in h.findings if f.severity == "error"], (k, str(h.findings[0]))
