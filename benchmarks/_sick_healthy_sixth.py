"""Ordinary trainings of the sixth set: weak signals, heavy tails, warm restarts, many classes, a few rows by heart, Keras' first convnet."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks._sick_faults import run_of, standard
from benchmarks._sick_fourth import decay
from benchmarks._sick_sixth import digits_of, glorot, log_of_shares, s_curve, softplus, waves
from benchmarks._sick_third import scheduled
from benchmarks.sick import Run, mlp


def linear_svm(seed: int) -> Run:
    from sklearn.datasets import make_classification

    x, y = make_classification(1500, 10, n_informative=6, class_sep=1.0, random_state=seed)
    loss = lambda out, goal: F.relu(1 - out * goal).mean()
    run = run_of(nn.Linear(10, 1), standard(x), 2.0 * y - 1, loss, "binary", seed, "SGD", 0.05, 300, 16)
    return decayed(run, 1e-2)


def decayed(run: Run, strength: float) -> Run:
    decay(strength)(run, np.random.default_rng(0))
    return run


def clicks(seed: int) -> Run:
    """One in ten clicks, and hardly anything tells who."""
    g = np.random.default_rng(seed)
    x = g.normal(size=(6000, 10))
    y = (g.random(6000) < 1 / (1 + np.exp(2.4 - 0.6 * x[:, 0] + 0.4 * x[:, 1] * x[:, 2]))) * 1.0
    return run_of(mlp([10, 32, 1]), x, y, nn.BCEWithLogitsLoss(), "binary", seed, "Adam", 1e-3, 500, 128)


def returns(seed: int) -> Run:
    """Returns of a stock: a twentieth of the variance can be told, tails are heavy."""
    g = np.random.default_rng(seed)
    x = g.normal(size=(6000, 6))
    y = 0.2 * x[:, 0] + 0.1 * np.sign(x[:, 1]) + g.standard_t(4, 6000) / math.sqrt(2)
    return run_of(mlp([6, 24, 24, 1]), x, standard(y), nn.MSELoss(), "numbers", seed, "Adam", 2e-3, 500, 128)


def mild_disease(seed: int) -> Run:
    """Six in ten fall ill; the best answer is right for two rows in three."""
    g = np.random.default_rng(seed)
    x = g.normal(size=(3000, 12))
    y = (g.random(3000) < 1 / (1 + np.exp(-0.4 - 0.6 * x[:, 0] + 0.5 * x[:, 3]))) * 1.0
    return run_of(mlp([12, 16, 16, 1]), x, y, nn.BCEWithLogitsLoss(), "binary", seed, "SGD", 0.1, 500, 32)


def heavy_tails(seed: int) -> Run:
    g = np.random.default_rng(seed)
    x = g.normal(size=(2000, 4))
    y = np.sin(2 * x[:, 0]) + x[:, 1] + g.standard_t(2, 2000) * 0.3
    return run_of(mlp([4, 48, 48, 1]), x, y, nn.MSELoss(), "numbers", seed, "Adam", 3e-3, 500, 64)


def warm_restarts(seed: int) -> Run:
    run = softplus(seed)
    run.optimizer = torch.optim.SGD(run.model.parameters(), 0.1, momentum=0.9)
    return scheduled(run, lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 60))


def hundred_classes(seed: int) -> Run:
    g = np.random.default_rng(seed)
    middle, y = g.normal(size=(100, 16)), g.integers(0, 100, 3000)
    return run_of(
        mlp([16, 96, 100]),
        middle[y] + g.normal(0, 0.5, (3000, 16)),
        y,
        nn.CrossEntropyLoss(),
        "classes",
        seed,
        "Adam",
        2e-3,
        400,
        32,
    )


def by_heart(seed: int) -> Run:
    """Sixteen rows with random labels, learned by heart: the usual test of a new loop. The score is how many it knows."""
    g = np.random.default_rng(seed)
    run = run_of(
        mlp([8, 64, 64, 4]),
        g.normal(size=(20, 8)),
        g.integers(0, 4, 20),
        nn.CrossEntropyLoss(),
        "classes",
        seed,
        "Adam",
        3e-3,
        250,
        16,
    )
    run.held = (run.x, run.y)
    return run


class Shared(nn.Module):
    """One layer used five times."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.step, self.b = nn.Linear(3, 32), nn.Linear(32, 32), nn.Linear(32, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(self.a(x))
        for _ in range(5):
            h = h + 0.4 * torch.tanh(self.step(h))
        return self.b(h)


def shared(seed: int) -> Run:
    run = s_curve(seed)
    run.model = Shared()
    run.optimizer = torch.optim.Adam(run.model.parameters(), 3e-3)
    return run


def sparse_code(seed: int) -> Run:
    """Digits through few active units: a penalty on the code, ReLU, no bias at the end."""
    x, _ = digits_of()
    model = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 64, bias=False))
    loss = lambda out, y: (out - y).square().mean() + 1e-4 * F.relu(model[0](y)).sum(1).mean()
    return run_of(model, x, x, loss, "numbers", seed, "Adam", 3e-3, 300, 64)


def hidden_pixels(seed: int) -> Run:
    """The lower half of a digit from its upper half."""
    x, _ = digits_of()
    return run_of(
        glorot(mlp([32, 96, 96, 32])), x[:, :32], x[:, 32:], nn.MSELoss(), "numbers", seed, "AdamW", 2e-3, 400, 64
    )


def keras_convnet(seed: int) -> Run:
    """Keras' first convnet: two convolutions, dropout of a half, glorot, Adam."""
    x, y = digits_of()
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.5),
        nn.Linear(128, 10), nn.Softmax(1),
    )  # fmt: skip
    return run_of(glorot(model), x.reshape(-1, 1, 8, 8), y, log_of_shares, "classes", seed, "Adam", 1e-3, 500, 64)


def small_steps(seed: int) -> Run:
    """A careful rate: slow, but surely down."""
    run = waves(seed)
    run.optimizer = torch.optim.Adam(run.model.parameters(), 1e-3)
    return run


ORDINARY = (
    linear_svm, clicks, returns, mild_disease, heavy_tails, warm_restarts, hundred_classes, by_heart, shared, sparse_code, hidden_pixels, keras_convnet,
    small_steps,
)  # fmt: skip
BASES: dict[str, Callable[[int], Run]] = {f.__name__: f for f in ORDINARY}
