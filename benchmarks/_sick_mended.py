"""Healthy trainings of other kinds than those of `sick`, and their sick twins: looked at while rules and cures were mended."""

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
    class_numbers,
    filled,
    friedman2_raw,
    inputs,
    negative,
    normal,
    one_output_cross_entropy,
    rate,
    raw,
    rebuilt,
    run_of,
    scaled,
    standard,
    unscaled_target,
    without_last,
)
from benchmarks.sick import Run, mlp


class Last(nn.Module):
    """A recurrent cell over digits' rows or a sequence, its last state read out."""

    def __init__(self, cell: nn.Module, width: int, outputs: int) -> None:
        super().__init__()
        self.cell, self.out = cell, nn.Linear(width, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.cell(x)[0][:, -1])


class Attend(nn.Module):
    def __init__(self, inputs: int, tokens: int, outputs: int, d: int = 32) -> None:
        super().__init__()
        self.embed, self.place = nn.Linear(inputs, d), nn.Parameter(0.1 * torch.randn(tokens, d))
        self.block = nn.TransformerEncoderLayer(d, 4, 64, dropout=0.0, batch_first=True)
        self.out = nn.Linear(d, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.block(self.embed(x) + self.place).mean(1))


def _digits() -> tuple[Any, Any]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return x / 16, y


def bn_cnn(seed: int) -> Run:
    x, y = _digits()
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16),
        nn.ReLU(), nn.Flatten(), nn.Linear(256, 10),
    )  # fmt: skip
    return run_of(model, x.reshape(-1, 1, 8, 8), y, nn.CrossEntropyLoss(), "classes", seed, "Momentum", 0.02, 200)


def gru(seed: int) -> Run:
    x, y = _digits()
    model = Last(nn.GRU(8, 32, batch_first=True), 32, 10)
    return run_of(model, x.reshape(-1, 8, 8), y, nn.CrossEntropyLoss(), "classes", seed, "Adam", 8e-3, 320)


def transformer(seed: int) -> Run:
    x, y = _digits()
    return run_of(Attend(8, 8, 10), x.reshape(-1, 8, 8), y, nn.CrossEntropyLoss(), "classes", seed, "AdamW", 3e-3, 260)


def huber(seed: int) -> Run:
    from sklearn.datasets import make_friedman2

    x, y = make_friedman2(800, noise=30, random_state=seed)
    model = mlp([4, 40, 40, 1], nn.Tanh)
    return run_of(model, standard(x), standard(y), nn.SmoothL1Loss(), "numbers", seed, "RMSprop", 3e-3, 400)


def autoencoder(seed: int) -> Run:
    x, _ = _digits()
    return run_of(mlp([64, 48, 16, 48, 64]), x, x, nn.MSELoss(), "numbers", seed, "Adam", 3e-3, 400)


def multilabel(seed: int) -> Run:
    from sklearn.datasets import make_multilabel_classification

    x, y, *_ = make_multilabel_classification(900, 20, n_classes=5, random_state=seed)
    return run_of(mlp([20, 48, 5]), standard(x), y, nn.BCEWithLogitsLoss(), "binary", seed, "Adagrad", 0.05, 300)


def _hinge(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.relu(1 - y * out).mean()


def hinge(seed: int) -> Run:
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    return run_of(mlp([30, 24, 12, 1]), standard(x), 2.0 * y - 1, _hinge, "binary", seed, "SGD", 0.1, 300, 32)


def nll(seed: int) -> Run:
    from sklearn.datasets import load_wine

    x, y = load_wine(return_X_y=True)
    model = nn.Sequential(*mlp([13, 32, 32, 3], nn.ELU), nn.LogSoftmax(-1))
    return run_of(model, standard(x), y, nn.NLLLoss(), "classes", seed, "AdamW", 3e-3, 160, 32)


def normed(seed: int) -> Run:
    x, y = _digits()
    model = nn.Sequential(
        nn.Linear(64, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 10)
    )  # fmt: skip
    return run_of(model, x, y, nn.CrossEntropyLoss(), "classes", seed, "Adam", 3e-3, 160, 128)


def dropped(seed: int) -> Run:
    x, y = _digits()
    model = nn.Sequential(
        nn.Linear(64, 100), nn.ReLU(), nn.Dropout(0.2), nn.Linear(100, 50), nn.ReLU(), nn.Dropout(0.2), nn.Linear(50, 10)
    )  # fmt: skip
    return run_of(model, x, y, nn.CrossEntropyLoss(), "classes", seed, "SGD", 0.15, 500)


def bce(seed: int) -> Run:
    from sklearn.datasets import make_moons

    x, y = make_moons(700, noise=0.15, random_state=seed)
    model = nn.Sequential(nn.Linear(2, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 1), nn.Sigmoid())
    return run_of(model, standard(x), y, nn.BCELoss(), "probability", seed, "Adam", 1e-2, 300, 32)


def signal(seed: int) -> Run:
    g = np.random.default_rng(seed)
    t, kind = np.linspace(0, 1, 48), g.integers(0, 3, 800)
    phase, noise = g.uniform(0, 6.28, (800, 1)), g.normal(0, 0.3, (800, 48))
    wave = np.sin(2 * np.pi * (2 + 2 * kind[:, None]) * t + phase)
    model = nn.Sequential(
        nn.Conv1d(1, 12, 5, padding=2), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(12, 16, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool1d(4), nn.Flatten(),
        nn.Linear(64, 3),
    )  # fmt: skip
    return run_of(model, (wave + noise)[:, None], kind, nn.CrossEntropyLoss(), "classes", seed, "AdamW", 3e-3, 300)


def plain_rnn(seed: int) -> Run:
    g = np.random.default_rng(seed)
    x = g.normal(size=(900, 12, 2))
    y = (x[:, :, 0].sum(1) > 0).astype(float)
    model = Last(nn.RNN(2, 24, nonlinearity="relu", batch_first=True), 24, 1)
    return run_of(model, x, y, nn.BCEWithLogitsLoss(), "binary", seed, "RMSprop", 2e-3, 300)


def wave(seed: int) -> Run:
    g = np.random.default_rng(seed)
    x = g.uniform(-2, 2, (700, 3))
    return run_of(
        mlp([3, 48, 48, 1]),
        x,
        np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2],
        nn.MSELoss(),
        "numbers",
        seed,
        "Adam",
        5e-3,
        400,
    )


BASES: dict[str, Callable[[int], Run]] = {
    f.__name__: f
    for f in (bn_cnn, gru, transformer, huber, autoencoder, multilabel, hinge, nll, normed, dropped, bce, signal, plain_rnn, wave)
}  # fmt: skip

CASES = [
    Case("bn_cnn", "rate low", rate(1e-5, 1e-4), ("slow_learning",), ("learning_rate_too_low",)),
    Case("bn_cnn", "softmax out", append(lambda: nn.Softmax(-1)), ("slow_learning", "dead_output"), ("wrong_output_layer",)),
    Case("gru", "rate high", rate(100, 400), WILD, ("learning_rate_too_high",)),
    Case("gru", "weights small", scaled(1e-5, 1e-4), LOST, ("bad_initialization",)),
    Case("gru", "inputs tiny", inputs(1e-6, 1e-5), LOST, ("unscaled_input",)),
    Case("transformer", "rate high", rate(50, 200), WILD, ("learning_rate_too_high",)),
    Case("transformer", "rate low", rate(1e-4, 1e-3), ("slow_learning",), ("learning_rate_too_low",)),
    Case("huber", "inputs raw", friedman2_raw, (*WILD, "vanishing_gradient"), ("unscaled_input",)),
    Case("huber", "target raw", unscaled_target, WILD, ("unscaled_target",)),
    Case("huber", "sigmoid out", append(nn.Sigmoid), ("dead_output", "slow_learning"), ("wrong_output_layer",)),
    Case("autoencoder", "bias", biased(4, 8), ("dying_relu",), ("negative_bias",)),
    Case("autoencoder", "normal weights", normal(1.0), ("exploding", "oscillating"), ("bad_initialization",)),
    Case("multilabel", "sigmoid out", append(nn.Sigmoid), ("slow_learning", "dead_output"), ("wrong_output_layer",)),
    Case("multilabel", "rate low", rate(1e-5, 1e-4), ("slow_learning",), ("learning_rate_too_low",)),
    Case("hinge", "inputs raw", raw("load_breast_cancer"), WILD, ("unscaled_input",)),
    Case("hinge", "bias", biased(8, 15), ("dying_relu",), ("negative_bias",)),
    Case("nll", "no log-softmax", without_last, ("slow_learning", "exploding", "dead_output"), ("wrong_output_layer", "loss_mismatch")),
    Case("nll", "inputs raw", raw("load_wine"), WILD, ("unscaled_input",)),
    Case("normed", "rate high", rate(200, 600), WILD, ("learning_rate_too_high",)),
    Case("dropped", "negative weights", negative, ("dying_relu",), ("bad_initialization",)),
    Case("dropped", "inputs shifted", inputs(1.0, 1.0001, 60.0), WILD, ("shifted_input",)),
    Case("dropped", "constant weights", filled(0.05), (*LOST, "dying_relu"), ("bad_initialization",)),
    Case("bce", "deep sigmoid", rebuilt([24] * 9, nn.Sigmoid, nn.Sigmoid), ("vanishing_gradient",), ("saturating_activation",)),
    Case("bce", "forty layers", rebuilt([24] * 40, nn.ReLU, nn.Sigmoid), ("vanishing_gradient",), ("too_deep_for_init",)),
    Case("signal", "rate high", rate(300, 1000), WILD, ("learning_rate_too_high",)),
    Case("signal", "zero weights", filled(0.0), (*LOST, "dying_relu"), ("bad_initialization",)),
    Case("plain_rnn", "recurrence large", scaled(8, 15), ("exploding", "oscillating"), ("bad_initialization",)),
    Case("plain_rnn", "rate high", rate(300, 1000), WILD, ("learning_rate_too_high",)),
    Case("wave", "broadcast", broadcast, ("slow_learning", "dead_output"), ("loss_mismatch",), by_user=True),
    Case("hinge", "one output, cross-entropy", one_output_cross_entropy, ("dead_output", "slow_learning"), ("loss_mismatch", "wrong_output_layer"), by_user=True),
    Case("normed", "class numbers", class_numbers, ("slow_learning", "dead_output"), ("loss_mismatch",), by_user=True),
    Case("bce", "narrow", rebuilt([2] * 9, nn.ReLU, nn.Sigmoid), ("dying_relu", *LOST), ("too_narrow",)),
]  # fmt: skip
