"""Ordinary trainings of the seventh set: critics, ensembles, energies, heavy noise, late starts, deep but sound stacks, penalties as usual."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks._sick_faults import run_of, standard
from benchmarks._sick_faults_seventh import penalized
from benchmarks._sick_seventh import (
    counting,
    denoised,
    forecast,
    heartbeats,
    inversion,
    keras_table,
    stripes,
    swing,
    visits,
)
from benchmarks._sick_sixth import digits_of
from benchmarks._sick_third import scheduled
from benchmarks.sick import Run, mlp

NONE = np.random.default_rng(0)


def lasso(seed: int) -> Run:
    """A straight line of forty columns, three of which tell, with a penalty on absolute weights."""
    g = np.random.default_rng(seed)
    x = g.normal(size=(1200, 40))
    y = standard(2 * x[:, 0] - x[:, 1] + 0.5 * x[:, 2] + g.normal(0, 1.0, 1200))
    model = nn.Linear(40, 1)
    loss = lambda out, goal: (out - goal).square().mean() + 0.01 * model.weight.abs().sum()
    return run_of(model, x, y, loss, "numbers", seed, "SGD", 0.02, 400, 32)


def usual_penalty(seed: int) -> Run:
    run = inversion(seed)
    penalized(1e-5)(run, NONE)
    return run


def factors(seed: int) -> Run:
    """A matrix of ratings as a product of two thin ones, nothing else."""
    g = np.random.default_rng(seed)
    a, b = g.normal(size=(50, 3)), g.normal(size=(40, 3))
    x = np.stack([g.integers(0, 50, 4000), g.integers(0, 40, 4000)], 1)
    y = standard((a[x[:, 0]] * b[x[:, 1]]).sum(1) + g.normal(0, 0.3, 4000))
    return run_of(Factors(), x, y, nn.MSELoss(), "numbers", seed, "Adam", 0.02, 500, 128)


class Factors(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.scale = nn.Embedding(50, 4), nn.Embedding(40, 4), nn.Linear(1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale((self.a(x[:, 0]) * self.b(x[:, 1])).sum(1, keepdim=True))


class Gated(nn.Module):
    """Gated linear units between residual layers, each normalized by its root mean square."""

    def __init__(self) -> None:
        super().__init__()
        self.begin, self.out = nn.Linear(64, 32), nn.Linear(32, 10)
        self.gates = nn.ModuleList(nn.Linear(32, 64) for _ in range(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.begin(x)
        for gate in self.gates:
            h = h + F.glu(gate(F.rms_norm(h, (32,))))
        return self.out(h)


def gated(seed: int) -> Run:
    x, y = digits_of()
    return run_of(Gated(), x, y, nn.CrossEntropyLoss(label_smoothing=0.1), "classes", seed, "AdamW", 2e-3, 300, 64)


def selu_tower(seed: int) -> Run:
    """Sixteen SELU layers from LeCun's start."""
    x, y = digits_of()
    model = mlp([64, *[48] * 15, 10], nn.SELU)
    for m in model:
        if isinstance(m, nn.Linear):
            nn.init.normal_(m.weight, 0, m.in_features**-0.5)
            nn.init.zeros_(m.bias)
    return run_of(model, standard(x), y, nn.CrossEntropyLoss(), "classes", seed, "SGD", 0.02, 300, 64)


def forty_tanh_steps(seed: int) -> Run:
    """An orthogonal recurrence over forty steps: which way a walk went on the whole."""
    g = np.random.default_rng(seed)
    x = g.normal(g.uniform(-0.5, 0.5, (1200, 1)), 1, (1200, 40))
    model = Walk()
    return run_of(
        model, x[:, :, None], (x.mean(1) > 0) * 1.0, nn.BCEWithLogitsLoss(), "binary", seed, "Adam", 3e-3, 250, 32
    )


class Walk(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.RNN(1, 20, batch_first=True), nn.Linear(20, 1)
        nn.init.orthogonal_(self.cell.weight_hh_l0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.cell(x)[0][:, -1])


def critic(seed: int) -> Run:
    """A Wasserstein critic: its loss is a difference of means, below 0 and falling; weights cut at 0.1. The score is how well it ranks."""
    g = np.random.default_rng(seed)
    true, false = g.normal(size=(1200, 2)) * 0.3 + 1, g.normal(size=(1200, 2))
    loss = lambda out, _: out[:, 1].mean() - out[:, 0].mean()
    run = run_of(Pair(), np.stack([true, false], 1), np.ones(1200), loss, "binary", seed, "RMSprop", 2e-3, 300, 64)
    parameters = list(run.model.parameters())

    @torch.no_grad()
    def clamp(*_: object) -> None:
        for p in parameters:
            p.clamp_(-0.1, 0.1)

    run.optimizer.register_step_post_hook(clamp)
    run.score = lambda r: (lambda out: (out[:, 0] > out[:, 1]).float().mean())(r.model(r.held[0]))
    return run


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = mlp([2, 64, 64, 1], nn.LeakyReLU)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)[..., 0]


def hard_noise(seed: int) -> Run:
    """Forty-five labels in a hundred are random: accuracy can hardly pass three quarters."""
    x, y = digits_of()
    g = np.random.default_rng(seed)
    y = np.where(g.random(len(y)) < 0.45, g.integers(0, 10, len(y)), y)
    return run_of(mlp([64, 48, 10]), x, y, nn.CrossEntropyLoss(), "classes", seed, "Adam", 1e-3, 400, 64)


def grokking_start(seed: int) -> Run:
    """Sums modulo seven of two digits, one-hot: the loss rests a while at log 7 before it falls. All pairs are learned by heart."""
    a, b = np.divmod(np.arange(49), 7)
    x = np.concatenate([np.eye(7)[a], np.eye(7)[b]], 1)
    run = run_of(
        mlp([14, 64, 7]),
        np.tile(x, (20, 1)),
        np.tile((a + b) % 7, 20),
        nn.CrossEntropyLoss(),
        "classes",
        seed,
        "Adam",
        3e-3,
        500,
        49,
    )
    return run


def few_rows(seed: int) -> Run:
    """Thirty rows of a curve, all of them at every step."""
    g = np.random.default_rng(seed)
    x = g.uniform(-2, 2, (38, 1))
    return run_of(
        mlp([1, 32, 32, 1], nn.Tanh), x, np.sin(2 * x[:, 0]), nn.MSELoss(), "numbers", seed, "Adam", 1e-2, 300, 30
    )


def long_warmup(seed: int) -> Run:
    """Half of all steps are a warm-up."""
    return scheduled(counting(seed), lambda o: torch.optim.lr_scheduler.LinearLR(o, 0.02, total_iters=150))


def one_cycle(seed: int) -> Run:
    run = stripes(seed)
    return scheduled(run, lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.05, total_steps=run.steps * 2 + 2))


def averaged_members(seed: int) -> Run:
    """Five small networks side by side, trained on the mean of their outputs."""
    run = swing(seed)
    run.model = Members()
    run.optimizer = torch.optim.Adam(run.model.parameters(), 5e-3)
    return run


class Members(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.members = nn.ModuleList(mlp([4, 24, 24, 4]) for _ in range(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([m(x) for m in self.members]).mean(0)


def money(seed: int) -> Run:
    """Claims: most are 0, some large; squared error after a softplus, targets by their mean."""
    g = np.random.default_rng(seed)
    x = g.normal(size=(4000, 6))
    y = g.poisson(np.exp(-1.5 + 0.7 * x[:, 0])) * g.gamma(2, np.exp(0.4 * x[:, 1]) / 2)
    model = nn.Sequential(*mlp([6, 32, 16, 1]), nn.Softplus())
    return run_of(model, x, y / y.mean(), nn.MSELoss(), "numbers", seed, "Adam", 2e-3, 500, 128)


def bounded(seed: int) -> Run:
    """A tanh at the end for actions that lie in (-1, 1)."""
    g = np.random.default_rng(seed)
    x = g.normal(size=(1500, 5))
    y = np.tanh(np.stack([x[:, 0] * x[:, 1], np.sin(x[:, 2]) + x[:, 3]], 1))
    return run_of(
        nn.Sequential(*mlp([5, 64, 64, 2]), nn.Tanh()), x, y, nn.MSELoss(), "numbers", seed, "Adam", 3e-3, 500, 64
    )


def bytes_divided_inside(seed: int) -> Run:
    """Pixels from 0 to 255 that the model itself divides."""
    run = denoised(seed)
    inner = run.model
    run.model = Divided(inner)
    run.x, run.held = run.x * 255, (run.held[0] * 255, run.held[1])
    return run


class Divided(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x / 255)


def transferred(seed: int) -> Run:
    """Features held still, a head trained on them."""
    run = heartbeats(seed)
    for p in list(run.model.parameters())[:-2]:
        p.requires_grad_(False)
    run.optimizer = torch.optim.Adam(run.model[-1].parameters(), 1e-2)
    return run


def half_hidden(seed: int) -> Run:
    """Dropout of a half on inputs and of a half between, as some tables like it."""
    x, y = digits_of()
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10))
    return run_of(model, x, y, nn.CrossEntropyLoss(), "classes", seed, "RMSprop", 1e-3, 400, 64)


def polyak(seed: int) -> Run:
    """Plain descent with averaged steps on counts."""
    run = visits(seed)
    run.optimizer = torch.optim.ASGD(run.model.parameters(), 0.02)
    return run


def keras_longer(seed: int) -> Run:
    run = keras_table(seed)
    run.optimizer = torch.optim.SGD(run.model.parameters(), 0.1, momentum=0.9, nesterov=True)
    return run


def loud_forecast(seed: int) -> Run:
    """Most of what comes next is noise."""
    run = forecast(seed)
    noise = torch.randn(run.y.shape, generator=torch.Generator().manual_seed(seed))
    run.y = run.y + 1.5 * noise
    return run


def cosine_to_zero(seed: int) -> Run:
    run = heartbeats(seed)
    return scheduled(run, lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, math.ceil(run.steps * 1.01)))


ORDINARY = (
    lasso, usual_penalty, factors, gated, selu_tower, forty_tanh_steps, critic, hard_noise, grokking_start, few_rows, long_warmup, one_cycle,
    averaged_members, money, bounded, bytes_divided_inside, transferred, half_hidden, polyak, keras_longer, loud_forecast, cosine_to_zero,
)  # fmt: skip
BASES: dict[str, Callable[[int], Run]] = {f.__name__: f for f in ORDINARY}
