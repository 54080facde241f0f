"""Cures with every optimizer that torch has: the next step works, starts from fresh state, and follows schedules."""

import inspect

import pytest
import torch
from torch import nn

import relukit
from relukit.monitoring._cures import CURES
from relukit.monitoring._finding import Finding
from relukit.monitoring._optimizer import settle

KINDS = [
    name for name, kind in vars(torch.optim).items()
    if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer) and name not in ("Optimizer", "SparseAdam")
]  # fmt: skip

# The four that differ in when and where they make their state run always, the others with the slow tests.
KINDS = [
    pytest.param(name, marks=() if name in ("SGD", "Adagrad", "LBFGS", "Muon") else pytest.mark.slow) for name in KINDS
]


def _model(widths, biases=True):
    parts = []
    for a, b in zip(widths[:-1], widths[1:]):
        parts += [nn.Linear(a, b, bias=biases), nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def _steps(watch, model, optimizer, x, y, count):
    for _ in range(count):

        def closure():
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            return loss

        loss = closure()
        watch.step(loss)
        optimizer.step(closure) if isinstance(optimizer, torch.optim.LBFGS) else optimizer.step()
    return nn.functional.mse_loss(model(x), y).item()


@pytest.mark.parametrize("kind", KINDS)
def test_every_cure_leaves_an_optimizer_that_can_step(kind):
    """Adagrad makes its sums when it is made, LBFGS keeps its own list, Muon takes matrices only."""
    torch.manual_seed(0)
    x = torch.randn(40, 5)
    y = x[:, :1] * 2 - x[:, 1:2]
    for name in CURES:
        # Narrow, for `widen`; deep, for groups of their own.
        for widths in ([5, 3, 3, 1], *([[5, *[6] * 9, 1]] if name == "reinitialize" else [])):
            model = _model(widths, kind != "Muon")
            optimizer = getattr(torch.optim, kind)(model.parameters())
            with relukit.watch(model, optimizer=optimizer) as watch:
                _steps(watch, model, optimizer, x, y, 4)
                finding = Finding("slow_learning", "too_narrow", "error")
                watch._probe = None
                CURES[name](watch, finding)
                settle(optimizer)
                held = {id(p) for group in optimizer.param_groups for p in group["params"]}
                assert held == {id(p) for p in model.parameters()}, name
                assert {id(p) for p in optimizer.state} <= held, name
                _steps(watch, model, optimizer, x, y, 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "plan", [("", "bad_initialization"), ("", "too_narrow"), ("", "unscaled_target"), ("", "shifted_input")]
)
def test_every_plan_by_fix(kind, plan):
    torch.manual_seed(1)
    x = torch.randn(30, 4)
    y = x[:, :1] - x[:, 1:2] ** 2
    model = _model([4, 6, 1], kind != "Muon")
    optimizer = getattr(torch.optim, kind)(model.parameters())
    with relukit.watch(model, optimizer=optimizer) as watch:
        _steps(watch, model, optimizer, x, y, 9)
        _ = watch.findings
        watch._found = (watch.record.step, [Finding(plan[0] or "slow_learning", plan[1], "error")])
        watch.fix()
        if plan[1] == "bad_initialization":
            moving = [v for state in optimizer.state.values() for v in state.values() if torch.is_tensor(v)]
            assert all(v.abs().sum() == 0 for v in moving), optimizer.state
        _steps(watch, model, optimizer, x, y, 3)


@pytest.mark.parametrize(
    "schedule",
    [
        lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda k: 0.99**k),
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 1e-7, total_steps=400),
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 400),
    ],
    ids=["lambda", "onecycle", "cosine"],
)
def test_a_rate_that_was_changed_stays_changed_under_a_schedule(schedule):
    torch.manual_seed(0)
    x = torch.randn(100, 4)
    y = x[:, :1] - x[:, 1:2]
    model = _model([4, 16, 1])
    optimizer = torch.optim.Adam(model.parameters(), 1e-7)
    with relukit.watch(model, optimizer=optimizer) as watch:
        steps = lambda count: [(_steps(watch, model, optimizer, x, y, 1), scheduler.step()) for _ in range(count)]
        scheduler = schedule(optimizer)
        steps(60)
        assert watch.findings[0].cause == "learning_rate_too_low"
        written = optimizer.param_groups[0]["lr"]
        report = watch.fix()
        assert "scheduled" in report["applied"][0]
        assert optimizer.param_groups[0]["lr"] == written  # what the scheduler reads and writes stays its own
        before = model[0].weight.detach().clone()
        last = steps(80)[-1][0]
        assert (model[0].weight.detach() - before).abs().max() > 1e-3
        assert last < 0.5
        assert optimizer.param_groups[0]["lr"] < 1e-6


def test_a_class_of_ones_own_is_left_alone():
    class Mine(torch.optim.SGD):
        def __init__(self, params, must):
            super().__init__(params, must)

    optimizer = Mine(nn.Linear(2, 2).parameters(), 0.1)
    settle(optimizer)
    assert not optimizer.state
