"""Ordinary healthy trainings of kinds that no other set has, part one: tables, pictures and tasks with a high floor.

Written before any rule was tried on them. A loss that can fall by a few percent only (weak signals, rare classes, survival) is
as healthy as one that falls to 0.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks._sick_faults import run_of, standard
from benchmarks._sick_third import scheduled
from benchmarks.sick import Run, mlp


def digits_of() -> tuple[Any, Any]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return x / 16, y


def straight_line(seed: int) -> Run:
    """Linear regression: one layer, steps of plain descent."""
    g = np.random.default_rng(seed)
    x = g.normal(size=(500, 5))
    y = x @ g.normal(size=5) + 0.5 + g.normal(0, 0.3, 500)
    return run_of(nn.Sequential(nn.Linear(5, 1)), x, y, nn.MSELoss(), "numbers", seed, "SGD", 0.02, 300, 16)


def logistic(seed: int) -> Run:
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    return run_of(nn.Linear(30, 1), standard(x), y, nn.BCEWithLogitsLoss(), "binary", seed, "ASGD", 0.05, 200, 32)


def exclusive_or(seed: int) -> Run:
    """Four rows, the first network of many courses."""
    x = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]] * 5)
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1), nn.Sigmoid())
    return run_of(model, x, (x.sum(1) == 1) * 1.0, nn.MSELoss(), "probability", seed, "Adam", 0.05, 300, 16)


def weak_signal(seed: int) -> Run:
    """A regression whose best answer leaves nine tenths of the variance."""
    g = np.random.default_rng(seed)
    x = g.normal(size=(4000, 8))
    y = 0.35 * x[:, 0] - 0.2 * np.abs(x[:, 1]) + g.normal(0, 1.2, 4000)
    return run_of(mlp([8, 32, 1]), x, standard(y), nn.MSELoss(), "numbers", seed, "Adam", 1e-3, 500, 128)


def three_percent(seed: int) -> Run:
    """Rare positives without any weight: the loss starts near that of a constant soon."""
    from sklearn.datasets import make_classification

    x, y = make_classification(4000, 12, n_informative=6, weights=[0.97], class_sep=1.2, random_state=seed)
    return run_of(mlp([12, 32, 16, 1]), standard(x), y, nn.BCEWithLogitsLoss(), "binary", seed, "Adam", 2e-3, 500, 64)


def noisy_labels(seed: int) -> Run:
    """Three labels in ten are wrong."""
    x, y = digits_of()
    g = np.random.default_rng(seed)
    run = run_of(mlp([64, 64, 10]), x, y, nn.CrossEntropyLoss(), "classes", seed, "Adam", 1e-3, 400, 64)
    wrong = torch.as_tensor(g.random(len(run.y)) < 0.3)
    run.y[wrong] = torch.as_tensor(g.integers(0, 10, int(wrong.sum())))
    return run


def normed_first(seed: int) -> Run:
    """Raw columns from 0.1 to 1,700 through a batch norm in front."""
    from sklearn.datasets import load_wine

    x, y = load_wine(return_X_y=True)
    model = nn.Sequential(nn.BatchNorm1d(13), nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3))
    return run_of(model, x, y, nn.CrossEntropyLoss(), "classes", seed, "Adam", 5e-3, 200, 32)


def survival(seed: int) -> Run:
    """Cox's partial likelihood: the loss falls from log(64) by a few percent; score is concordance."""
    g = np.random.default_rng(seed)
    x = g.normal(size=(2500, 6))
    risk = x[:, 0] - 0.7 * x[:, 1] + 0.5 * np.abs(x[:, 2])
    time = g.exponential(np.exp(-risk))
    gone = time < np.quantile(time, 0.7)

    def loss(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        order = torch.argsort(y[:, 0], descending=True)
        out, event = out[order, 0], y[order, 1]
        return -((out - torch.logcumsumexp(out, 0)) * event).sum() / event.sum().clamp_min(1)

    run = run_of(mlp([6, 32, 1]), x, np.stack([time, gone], 1), loss, "numbers", seed, "Adam", 2e-3, 400, 64)

    def score(run: Run) -> float:
        out, t = run.model(run.held[0])[:, 0], run.held[1][:, 0]
        return float(((out[:, None] > out) == (t[:, None] < t)).float().mean())

    run.score = score
    return run


def ranking(seed: int) -> Run:
    """Pairs: which of two rows has the larger target (RankNet)."""
    g = np.random.default_rng(seed)
    a, b = g.normal(size=(2, 2000, 8))
    value = lambda x: x[:, 0] * x[:, 1] + x[:, 2]
    body = mlp([8, 32, 32, 1])

    class Difference(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.body(x[:, 0]) - self.body(x[:, 1])

    y = (value(a) > value(b)) * 1.0
    x = np.stack([a, b], 1)
    return run_of(Difference(), x, y, nn.BCEWithLogitsLoss(), "binary", seed, "Adam", 3e-3, 400, 64)


def mixture_density(seed: int) -> Run:
    """Three normal distributions for each x of a curve that is no function; the score is by how much the loss fell."""
    g = np.random.default_rng(seed)
    y = g.uniform(-1, 1, 1500)
    x = y + 0.3 * np.sin(2 * np.pi * y) + g.normal(0, 0.05, 1500)

    def loss(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        share, mean, log_dev = out.chunk(3, 1)
        log = torch.log_softmax(share, 1) - 0.5 * ((y - mean) / log_dev.exp()) ** 2 - log_dev
        return -torch.logsumexp(log, 1).mean()

    run = run_of(mlp([1, 48, 9], nn.Tanh), x[:, None] * 1.7, y, loss, "numbers", seed, "Adam", 5e-3, 500, 128)
    run.score = lambda run: 1 - float(loss(run.model(run.held[0]), run.held[1]))
    return run


def two_tasks(seed: int) -> Run:
    """A tuple comes out: the digit, and how much ink."""
    x, y = digits_of()

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.digit, self.ink = (
                nn.Sequential(nn.Linear(64, 64), nn.ReLU()),
                nn.Linear(64, 10),
                nn.Linear(64, 1),
            )

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            h = self.body(x)
            return self.digit(h), self.ink(h)

    ink = standard(x.sum(1))

    def loss(out: Any, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(out[0], y[:, 0].long()) + 0.5 * F.mse_loss(out[1][:, 0], y[:, 1])

    run = run_of(Two(), x, np.stack([y, ink], 1), loss, "numbers", seed, "Adam", 2e-3, 300)
    run.score = lambda run: float((run.model(run.held[0])[0].argmax(1) == run.held[1][:, 0]).float().mean())
    return run


def mixed_up(seed: int) -> Run:
    """Mixup: soft targets for weighted means of two rows."""
    x, y = digits_of()
    g = torch.Generator().manual_seed(seed)
    inner = mlp([64, 96, 10])

    class Mixing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.share, self.order = inner, 1.0, torch.zeros(0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if not self.training:
                return self.inner(x)
            self.share, self.order = float(torch.rand((), generator=g)), torch.randperm(len(x), generator=g)
            return self.inner(self.share * x + (1 - self.share) * x[self.order])

    model = Mixing()

    def loss(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        y = F.one_hot(y, 10).float()
        return F.cross_entropy(out, model.share * y + (1 - model.share) * y[model.order])

    return run_of(model, x, y, loss, "classes", seed, "AdamW", 2e-3, 400)


def first_example(seed: int) -> Run:
    """PyTorch's own first example of images: two convolutions, two dropouts, Adadelta at rate 1 and a falling schedule."""
    x, y = digits_of()
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25), nn.Flatten(),
        nn.Linear(128, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 10), nn.LogSoftmax(1),
    )  # fmt: skip
    run = run_of(model, x.reshape(-1, 1, 8, 8), y, nn.NLLLoss(), "classes", seed, "Adadelta", 1.0, 300, 64)
    return scheduled(run, lambda o: torch.optim.lr_scheduler.StepLR(o, 40, 0.7))


def separable(seed: int) -> Run:
    """Depthwise separable convolutions, batch norm, ReLU6, one cycle of the rate."""
    x, y = digits_of()
    deep = lambda i, o: [
        nn.Conv2d(i, i, 3, padding=1, groups=i, bias=False), nn.BatchNorm2d(i), nn.ReLU6(), nn.Conv2d(i, o, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU6(),
    ]  # fmt: skip
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(), *deep(8, 16), nn.MaxPool2d(2), *deep(16, 32),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip
    run = run_of(model, x.reshape(-1, 1, 8, 8), y, nn.CrossEntropyLoss(), "classes", seed, "Momentum", 0.01, 250)
    return scheduled(run, lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=700))


def plain_vgg(seed: int) -> Run:
    """Six convolutions without any normalization."""
    x, y = digits_of()
    c = lambda i, o: [nn.Conv2d(i, o, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(
        *c(1, 8), *c(8, 8), nn.MaxPool2d(2), *c(8, 16), *c(16, 16), nn.MaxPool2d(2), *c(16, 24), *c(24, 24), nn.Flatten(), nn.Linear(96, 48),
        nn.ReLU(), nn.Linear(48, 10),
    )  # fmt: skip
    return run_of(model, x.reshape(-1, 1, 8, 8), y, nn.CrossEntropyLoss(), "classes", seed, "Adam", 2e-3, 300)


def segmented(seed: int) -> Run:
    """A class for every pixel: one pixel in eight belongs to the disk."""
    g = np.random.default_rng(seed)
    rows, columns = np.mgrid[:16, :16]
    cx, cy, r = g.uniform(3, 13, (3, 600, 1, 1)) * np.array([1, 1, 0.3])[:, None, None, None]
    inside = (rows - cx) ** 2 + (columns - cy) ** 2 < r**2
    x = inside * 1.0 + g.normal(0, 0.7, inside.shape)
    c = lambda i, o: nn.Conv2d(i, o, 3, padding=1)
    model = nn.Sequential(c(1, 8), nn.ReLU(), c(8, 8), nn.ReLU(), c(8, 1))
    y = inside[:, None] * 1.0
    run = run_of(model, x[:, None], y, nn.BCEWithLogitsLoss(), "numbers", seed, "Adam", 3e-3, 200, 16)
    run.task = "binary"
    return run


def conv_autoencoder(seed: int) -> Run:
    x, _ = digits_of()
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(), nn.ConvTranspose2d(16, 8, 2, 2), nn.ReLU(),
        nn.ConvTranspose2d(8, 1, 2, 2), nn.Sigmoid(),
    )  # fmt: skip
    x = x.reshape(-1, 1, 8, 8)
    return run_of(model, x, x, nn.BCELoss(), "numbers", seed, "Adam", 3e-3, 400)


PLAIN: dict[str, Callable[[int], Run]] = {
    f.__name__: f
    for f in (
        straight_line, logistic, exclusive_or, weak_signal, three_percent, noisy_labels, normed_first, survival, ranking, mixture_density, two_tasks,
        mixed_up, first_example, separable, plain_vgg, segmented, conv_autoencoder,
    )
}  # fmt: skip
