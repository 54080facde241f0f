"""More healthy trainings and sick twins, of kinds that neither `sick` nor `_sick_mended` has: written before rules and cures
were mended, run once afterwards."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks._sick_faults import (
    LOST,
    WILD,
    Case,
    append,
    biased,
    broadcast,
    filled,
    inputs,
    negative,
    normal,
    rate,
    rebuilt,
    rescale,
    run_of,
    scaled,
    standard,
    unscaled_target,
)
from benchmarks._sick_mended import Last
from benchmarks.sick import Run, mlp


def _digits() -> tuple[Any, Any]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return x / 16, y


def lstm_next(seed: int) -> Run:
    """The next value of a noisy sum of two sines."""
    g = np.random.default_rng(seed)
    t = g.uniform(0, 100, (700, 1)) + np.arange(17)
    s = np.sin(0.5 * t) + 0.5 * np.sin(1.3 * t + 1) + g.normal(0, 0.05, t.shape)
    model = Last(nn.LSTM(1, 24, batch_first=True), 24, 1)
    return run_of(model, s[:, :16, None], s[:, 16], nn.MSELoss(), "numbers", seed, "Adam", 1e-2, 300)


def four_convolutions(seed: int) -> Run:
    x, y = _digits()
    a = lambda i, o, s=1: [nn.Conv2d(i, o, 3, s, 1), nn.LeakyReLU(0.1)]
    model = nn.Sequential(*a(1, 8), *a(8, 8), *a(8, 16, 2), *a(16, 16), nn.Flatten(), nn.Linear(256, 10))
    return run_of(
        model, x.reshape(-1, 1, 8, 8) - 0.3, y, nn.CrossEntropyLoss(), "classes", seed, "AdamW", 2e-3, 240, 48
    )


class Residual(nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(d, d), nn.Linear(d, d)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.b(torch.relu(self.a(x)))


def residual(seed: int) -> Run:
    x, y = _digits()
    model = nn.Sequential(nn.Linear(64, 48), *[Residual(48) for _ in range(4)], nn.ReLU(), nn.Linear(48, 10))
    return run_of(model, standard(x), y, nn.CrossEntropyLoss(), "classes", seed, "Momentum", 0.02, 220)


def friedman3(seed: int) -> Run:
    from sklearn.datasets import make_friedman3

    x, y = make_friedman3(900, random_state=seed)
    model = mlp([4, 64, 32, 1], nn.SELU)
    return run_of(model, standard(x), standard(y), nn.L1Loss(), "numbers", seed, "NAdam", 3e-3, 500)


def margin(seed: int) -> Run:
    from sklearn.datasets import load_iris

    x, y = load_iris(return_X_y=True)
    return run_of(
        mlp([4, 16, 16, 3], nn.Tanh), standard(x), y, nn.MultiMarginLoss(), "classes", seed, "Momentum", 0.05, 240, 24
    )


def hastie(seed: int) -> Run:
    from sklearn.datasets import make_hastie_10_2

    x, y = make_hastie_10_2(2000, random_state=seed)
    model = mlp([10, 80, 40, 1], nn.PReLU)
    return run_of(model, x, (y > 0) * 1.0, nn.BCEWithLogitsLoss(), "binary", seed, "RMSprop", 2e-3, 500)


def swiss(seed: int) -> Run:
    from sklearn.datasets import make_swiss_roll

    x, t = make_swiss_roll(900, noise=0.1, random_state=seed)
    return run_of(
        mlp([3, 48, 48, 1], nn.GELU), standard(x), standard(t), nn.MSELoss(), "numbers", seed, "Adamax", 1e-2, 500
    )


def quantiles(seed: int) -> Run:
    from sklearn.datasets import make_gaussian_quantiles

    x, y = make_gaussian_quantiles(n_samples=900, n_features=4, n_classes=3, random_state=seed)
    return run_of(mlp([4, 40, 40, 40, 3]), x, y, nn.CrossEntropyLoss(), "classes", seed, "Adam", 3e-3, 700, 16)


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 16)
        self.a, self.b = nn.Linear(16, 32), nn.Linear(32, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.relu(self.a(self.embed(x).mean(1))))


def tokens(seed: int) -> Run:
    g = np.random.default_rng(seed)
    x = g.integers(0, 40, (900, 10))
    y = ((x < 12).sum(1) > (x >= 28).sum(1)).astype(int)
    return run_of(Tokens(), x, y, nn.CrossEntropyLoss(), "classes", seed, "Adam", 1e-2, 300)


def counts(seed: int) -> Run:
    """Poisson counts, judged by the log of their rate."""
    g = np.random.default_rng(seed)
    x = g.normal(size=(900, 5))
    y = g.poisson(np.exp(0.8 * x[:, 0] - 0.5 * np.abs(x[:, 1]) + 1))
    model = nn.Sequential(nn.Linear(5, 32), nn.Softplus(), nn.Linear(32, 1), nn.Softplus())
    return run_of(model, x, y * 1.0, nn.PoissonNLLLoss(log_input=False), "numbers", seed, "Adam", 1e-2, 400)


def dilated(seed: int) -> Run:
    """The frequency of a noisy wave."""
    g = np.random.default_rng(seed)
    f = g.uniform(1, 4, 800)
    x = np.sin(2 * np.pi * f[:, None] * np.linspace(0, 1, 32) + g.uniform(0, 6.28, (800, 1))) + g.normal(
        0, 0.1, (800, 32)
    )
    model = nn.Sequential(
        nn.Conv1d(1, 16, 3, padding=1), nn.ReLU6(), nn.Conv1d(16, 16, 3, padding=2, dilation=2), nn.ReLU6(), nn.MaxPool1d(4), nn.Flatten(),
        nn.Linear(128, 1),
    )  # fmt: skip
    return run_of(model, x[:, None], standard(f), nn.HuberLoss(), "numbers", seed, "Adam", 3e-3, 400)


def two_hundred(seed: int) -> Run:
    from sklearn.datasets import make_classification

    x, y = make_classification(1200, 30, n_informative=12, n_classes=3, random_state=seed)
    return run_of(mlp([30, 200, 3]), standard(x), y, nn.CrossEntropyLoss(), "classes", seed, "SGD", 0.1, 300, 100)


BASES: dict[str, Callable[[int], Run]] = {
    f.__name__: f
    for f in (lstm_next, four_convolutions, residual, friedman3, margin, hastie, swiss, quantiles, tokens, counts, dilated, two_hundred)
}  # fmt: skip


def pixels(run: Run, g: np.random.Generator) -> None:
    """Pixels from 0 to 255, as an image file gives them."""
    rescale(run, 255.0, 77.0)


def swiss_raw(run: Run, g: np.random.Generator) -> None:
    rescale(run, torch.tensor([700.0, 620.0, 680.0]), torch.tensor([200.0, 1000.0, 20.0]))


def clamped(run: Run, g: np.random.Generator) -> None:
    """An output between 0 and 1 for targets of mean 0 and deviation 1, most of them far outside."""
    append(nn.Sigmoid)(run, g)
    run.y, run.held = run.y * 3 - 5, (run.held[0], run.held[1] * 3 - 5)


def constant_class(run: Run, g: np.random.Generator) -> None:
    """Cross-entropy on the output after ReLU and Softmax."""
    append(lambda: nn.Sequential(nn.ReLU(), nn.Softmax(-1)))(run, g)


CASES = [
    Case("lstm_next", "rate low", rate(1e-5, 1e-4), ("slow_learning",), ("learning_rate_too_low",)),
    Case("lstm_next", "broadcast", broadcast, ("slow_learning", "dead_output"), ("loss_mismatch",), by_user=True),
    Case("lstm_next", "weights large", scaled(15, 40), (*WILD, "vanishing_gradient"), ("bad_initialization",)),
    Case("four_convolutions", "pixels", pixels, WILD, ("unscaled_input", "shifted_input")),
    Case("four_convolutions", "weights small", scaled(1e-4, 1e-3), LOST, ("bad_initialization",)),
    Case("four_convolutions", "rate high", rate(300, 1000), WILD, ("learning_rate_too_high",)),
    Case("residual", "rate high", rate(100, 400), WILD, ("learning_rate_too_high",)),
    Case("residual", "softmax out", append(lambda: nn.Softmax(-1)), ("slow_learning", "dead_output"), ("wrong_output_layer",)),
    Case("friedman3", "clamped", clamped, ("dead_output", "slow_learning"), ("wrong_output_layer",)),
    Case("friedman3", "rate low", rate(1e-5, 1e-4), ("slow_learning",), ("learning_rate_too_low",)),
    Case("margin", "deep tanh", rebuilt([16] * 12, nn.Sigmoid, None, ("SGD", 0.1)), ("vanishing_gradient",), ("saturating_activation",)),
    Case("margin", "inputs tiny", inputs(1e-5, 1e-4), LOST, ("unscaled_input",)),
    Case("hastie", "rate high", rate(300, 1000), WILD, ("learning_rate_too_high",)),
    Case("hastie", "inputs shifted", inputs(1.0, 1.0001, -80.0), WILD, ("shifted_input",)),
    Case("swiss", "inputs raw", swiss_raw, WILD, ("unscaled_input",)),
    Case("swiss", "normal weights", normal(2.0), ("exploding", "oscillating"), ("bad_initialization",)),
    Case("quantiles", "bias", biased(5, 10), ("dying_relu",), ("negative_bias",)),
    Case("quantiles", "thirty layers", rebuilt([20] * 30, nn.ReLU, None, ("Adam", 1e-3)), ("vanishing_gradient",), ("too_deep_for_init",)),
    Case("quantiles", "negative weights", negative, ("dying_relu",), ("bad_initialization",)),
    Case("tokens", "rate high", rate(200, 1000), WILD, ("learning_rate_too_high",)),
    Case("tokens", "bias", biased(3, 6), ("dying_relu",), ("negative_bias",)),
    Case("counts", "target raw", unscaled_target, WILD, ("unscaled_target",)),
    Case("counts", "rate low", rate(1e-5, 1e-4), ("slow_learning",), ("learning_rate_too_low",)),
    Case("dilated", "inputs large", inputs(300, 2000), (*WILD, "vanishing_gradient"), ("unscaled_input",)),
    Case("dilated", "zero weights", filled(0.0), (*LOST, "dying_relu"), ("bad_initialization",)),
    Case("two_hundred", "relu softmax out", constant_class, ("dead_output", "slow_learning"), ("wrong_output_layer",)),
    Case("two_hundred", "narrow", rebuilt([2] * 12, nn.ReLU, None, ("Adam", 3e-3)), ("dying_relu", *LOST), ("too_narrow",)),
    Case("two_hundred", "inputs shifted", inputs(1.0, 1.0001, 100.0), WILD, ("shifted_input",)),
]  # fmt: skip
