"""A seventh set: graphs, tags, forecasts, bags, events and Keras models, with the faults of the published lists that the six before lack:
divisions by zero, logarithms of zero, labels that are all the same, layers without anything between them, a penalty that swamps the
loss, weights clamped, optimizers over biases alone. Written, with the ordinary runs of `_sick_healthy_seventh`, before any rule was
tried on it.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks._sick_faults import (
    LOST,
    WILD,
    Case,
    append,
    biased,
    filled,
    inputs,
    negative,
    normal,
    rate,
    rebuilt,
    run_of,
    scaled,
    standard,
)
from benchmarks._sick_faults_seventh import (
    by_value,
    clamped_weights,
    constant_column_standardized,
    keras_scaled,
    log_of_counts,
    never_zero,
    no_gradients,
    only_biases,
    over_soon,
    own_logarithm,
    penalized,
    same_labels,
    sgd,
    shares_for_logs,
    signs_from_zeros,
    straight,
    tanh_pixels,
    twice_squashed,
)
from benchmarks._sick_fifth import by_step, clip, momentum, times_loss
from benchmarks._sick_fourth import set_rate
from benchmarks._sick_sixth import digits_of
from benchmarks._sick_third import all_weights, shuffled, targets
from benchmarks.sick import Run, mlp

# -- bases with faults ----------------------------------------------------------------------------------------------------


class Messages(nn.Module):
    """Two rounds of messages between the nodes of a small graph, then its mean node."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.embed, self.first, self.second, self.read = (
            nn.Linear(4, 24),
            nn.Linear(24, 24),
            nn.Linear(24, 24),
            nn.Linear(24, outputs),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features, near = x[:, :, :4], x[:, :, 4:]
        h = F.relu(self.embed(features))
        h = F.relu(self.first(near @ h))
        h = F.relu(self.second(near @ h))
        return self.read(h.mean(1))


def molecules(seed: int) -> Run:
    """Ten atoms of four kinds and their bonds to an energy."""
    g = np.random.default_rng(seed)
    kind = g.integers(0, 4, (1200, 10))
    bond = np.triu(g.random((1200, 10, 10)) < 0.25, 1)
    bond = (bond | bond.transpose(0, 2, 1)).astype(float)
    pair = np.array([[0.2, 1, -0.5, 0.3], [1, -0.8, 0.6, 0], [-0.5, 0.6, 0.1, 1.2], [0.3, 0, 1.2, -1]])
    energy = (bond * pair[kind[:, :, None], kind[:, None, :]]).sum((1, 2)) / 2
    near = (bond + np.eye(10)) / (bond.sum(2, keepdims=True) + 1)
    x = np.concatenate([np.eye(4)[kind] * 2, near], 2)
    return run_of(Messages(1), x, standard(energy), nn.MSELoss(), "numbers", seed, "Adam", 5e-3, 400, 32)


class Tagger(nn.Module):
    """A tag for every token, by an LSTM that reads both ways."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.cell, self.out = (
            nn.Embedding(12, 12),
            nn.LSTM(12, 20, batch_first=True, bidirectional=True),
            nn.Linear(40, 3),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.cell(self.embed(x))[0]).transpose(1, 2)


def tags(seed: int) -> Run:
    """A token's tag hangs on itself and its neighbours."""
    x = np.random.default_rng(seed).integers(0, 12, (1000, 9))
    beside = np.roll(x, 1, 1) + np.roll(x, -1, 1)
    y = np.where(x < 4, 0, np.where(beside > 11, 1, 2))
    return run_of(Tagger(), x, y, nn.CrossEntropyLoss(), "classes", seed, "Adam", 1e-2, 300, 32)


class Causal(nn.Module):
    """Dilated convolutions over the past, each added to its input."""

    def __init__(self) -> None:
        super().__init__()
        self.begin, self.out = nn.Conv1d(1, 16, 1), nn.Linear(16, 4)
        self.layers = nn.ModuleList(nn.Conv1d(16, 16, 2, dilation=d) for d in (1, 2, 4, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.begin(x)
        for layer in self.layers:
            h = h + F.gelu(layer(F.pad(h, (layer.dilation[0], 0))))
        return self.out(h[:, :, -1])


def forecast(seed: int) -> Run:
    """The next four hours of a load with a daily and a weekly wave."""
    g = np.random.default_rng(seed)
    t = np.arange(1300)
    load = np.sin(2 * np.pi * t / 24) + 0.5 * np.sin(2 * np.pi * t / 168) + 0.3 * np.sin(2 * np.pi * t / 12)
    load = standard((load + g.normal(0, 0.15, 1300))[:, None])[:, 0]
    x = np.stack([load[k : k + 24] for k in range(1270)])[:, None]
    y = np.stack([load[k + 24 : k + 28] for k in range(1270)])
    return run_of(Causal(), x, y, nn.L1Loss(), "numbers", seed, "Adam", 3e-3, 300, 32)


class Bag(nn.Module):
    """Attention over the members of a bag."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.look, self.out = mlp([6, 32, 24]), nn.Linear(24, 1), nn.Linear(24, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(self.body(x))
        return self.out((torch.softmax(self.look(h), 1) * h).sum(1))


def bags(seed: int) -> Run:
    """Whether one of twelve members of a bag is of a rare kind."""
    g = np.random.default_rng(seed)
    x, y = g.normal(size=(1200, 12, 6)), g.integers(0, 2, 1200)
    marked = g.integers(0, 12, 1200)
    x[np.arange(1200), marked] += y[:, None] * np.array([2.5, -2.0, 0, 0, 2.0, 0])
    return run_of(Bag(), x, y, nn.BCEWithLogitsLoss(), "binary", seed, "Adam", 5e-3, 300, 32)


def visits(seed: int) -> Run:
    """Counts of visits by their log rate."""
    g = np.random.default_rng(seed)
    x = g.normal(size=(1500, 6))
    y = g.poisson(np.exp(0.7 + 0.8 * np.tanh(x[:, 0] * 2) + 0.5 * np.abs(x[:, 1]) - 0.4 * x[:, 2]))
    run = run_of(mlp([6, 40, 20, 1], nn.ELU), x, y, nn.PoissonNLLLoss(), "numbers", seed, "RMSprop", 3e-3, 400, 32)
    run.score = lambda r: max(0.0, 1 - float((r.model(r.held[0]).exp() - r.held[1]).square().mean() / r.held[1].var()))
    return run


class Reader(nn.Module):
    """A transformer of two layers, read at a token of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(9, 24), nn.Parameter(torch.randn(9, 24) * 0.3)
        layer = nn.TransformerEncoderLayer(24, 4, 48, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks, self.out = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(24, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.blocks(self.embed(x) + self.place)[:, 0])


def counting(seed: int) -> Run:
    """How often the third letter occurs among eight."""
    g = np.random.default_rng(seed)
    x = g.integers(0, 8, (1500, 8))
    x[g.random(x.shape) < 0.15] = 3
    y = np.minimum((x == 3).sum(1), 4)
    x = np.concatenate([np.full((1500, 1), 8), x], 1)
    return run_of(Reader(), x, y, nn.CrossEntropyLoss(), "classes", seed, "AdamW", 3e-3, 300, 64)


def keras_table(seed: int) -> Run:
    """A Keras model of a table: glorot, ReLU, batch normalization, a sigmoid's probability."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    g = np.random.default_rng(seed)
    x = g.normal(size=(1500, 12))
    y = (x[:, 0] * x[:, 1] + np.sin(2 * x[:, 2]) + 0.5 * x[:, 3] > 0) * 1.0
    keras.utils.set_random_seed(seed)
    dense = keras.layers.Dense
    model: Any = keras.Sequential(
        [keras.Input((12,)), dense(64, activation="relu"), dense(32, activation="relu"), dense(1, activation="sigmoid")]
    )
    return run_of(model, x, y, nn.BCELoss(), "probability", seed, "Adam", 3e-3, 400, 32)


def swing(seed: int) -> Run:
    """A double pendulum's angles and speeds to its next state."""
    g = np.random.default_rng(seed)
    s = g.uniform(-1.5, 1.5, (1500, 4))
    d = s[:, 0] - s[:, 1]
    a = -np.sin(s[:, 0]) - 0.5 * np.sin(d) * s[:, 3] ** 2
    b = -np.sin(s[:, 1]) + 0.5 * np.sin(d) * s[:, 2] ** 2 + np.cos(d)
    y = standard(np.stack([s[:, 2], s[:, 3], a, b], 1))
    return run_of(mlp([4, 64, 64, 64, 4], nn.Tanh), s, y, nn.MSELoss(), "numbers", seed, "AdamW", 3e-3, 400, 64)


def stripes(seed: int) -> Run:
    """Which of four ways stripes run; leaky convolutions without any pooling."""
    g = np.random.default_rng(seed)
    rows, columns = np.mgrid[:10, :10]
    y = g.integers(0, 4, 1200)
    angle = np.pi * y / 4 + g.normal(0, 0.08, 1200)
    wave = np.cos(angle)[:, None, None] * rows + np.sin(angle)[:, None, None] * columns
    x = np.sin(wave * 1.8 + g.uniform(0, 6.28, (1200, 1, 1))) + g.normal(0, 0.5, (1200, 10, 10))
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2), nn.LeakyReLU(0.1), nn.Conv2d(8, 16, 3), nn.LeakyReLU(0.1), nn.Flatten(), nn.Linear(64, 32), nn.LeakyReLU(0.1),
        nn.Linear(32, 4),
    )  # fmt: skip
    return run_of(model, x[:, None], y, nn.CrossEntropyLoss(), "classes", seed, "Momentum", 0.02, 350, 32)


def heartbeats(seed: int) -> Run:
    """Beats with a wide or a missing wave; convolutions with batch norm."""
    g = np.random.default_rng(seed)
    t, y = np.linspace(-1, 1, 40), g.integers(0, 3, 900)
    place = g.uniform(-0.2, 0.2, (900, 1))
    bump = lambda middle, width: np.exp(-(((t - middle) / width) ** 2))
    x = bump(place, np.where(y == 1, 0.2, 0.07)[:, None]) * 2 + (y != 2)[:, None] * 0.6 * bump(place + 0.5, 0.12)
    model = nn.Sequential(
        nn.Conv1d(1, 10, 5, padding=2), nn.BatchNorm1d(10), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(10, 16, 5, padding=2), nn.BatchNorm1d(16), nn.ReLU(),
        nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(64, 3),
    )  # fmt: skip
    x = x + g.normal(0, 0.25, x.shape)
    return run_of(model, x[:, None], y, nn.CrossEntropyLoss(), "classes", seed, "SGD", 0.1, 250, 32)


def inversion(seed: int) -> Run:
    """Five noisy sensors to three hidden rates through wide layers."""
    g = np.random.default_rng(seed)
    k = g.uniform(0.3, 2, (1500, 3))
    t = np.linspace(0.3, 3, 5)
    x = np.exp(-k[:, :1] * t) + 0.5 * np.exp(-k[:, 1:2] * t) * t + 0.2 * k[:, 2:] * np.sin(2 * t)
    x = standard(x + g.normal(0, 0.003, x.shape))
    return run_of(mlp([5, 200, 200, 3]), x, standard(k), nn.MSELoss(), "numbers", seed, "Adam", 1e-3, 400, 64)


def one_hot_words(seed: int) -> Run:
    """Which of three languages a word of eight letters is from; letters one-hot, a GRU."""
    g = np.random.default_rng(seed)
    chains, y = g.dirichlet(np.full(10, 0.35), (3, 10)), g.integers(0, 3, 1200)
    x = np.zeros((1200, 8), int)
    x[:, 0] = g.integers(0, 10, 1200)
    for k in range(1, 8):
        x[:, k] = [g.choice(10, p=chains[c, a]) for c, a in zip(y, x[:, k - 1])]
    model = Words()
    return run_of(model, np.eye(10)[x], y, nn.CrossEntropyLoss(), "classes", seed, "NAdam", 5e-3, 300, 32)


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = (
            nn.GRU(10, 24, batch_first=True),
            nn.Sequential(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 3)),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.cell(x)[1][0])


def denoised(seed: int) -> Run:
    """Digits with a third of the pixels taken away; a narrow code, a sigmoid's picture."""
    x, _ = digits_of()
    g = np.random.default_rng(seed)
    model = nn.Sequential(*mlp([64, 64, 24, 64, 64]), nn.Sigmoid())
    return run_of(model, x * (g.random(x.shape) > 0.3), x, nn.BCELoss(), "numbers", seed, "Adam", 3e-3, 400, 64)


WITH_FAULTS = (
    molecules, tags, forecast, bags, visits, counting, keras_table, swing, stripes, heartbeats, inversion, one_hot_words, denoised,
)  # fmt: skip
BASES: dict[str, Callable[[int], Run]] = {f.__name__: f for f in WITH_FAULTS}


LOW, HIGH, INIT, SCALE = (
    ("learning_rate_too_low",),
    ("learning_rate_too_high",),
    ("bad_initialization",),
    ("unscaled_input",),
)
OUT, DEAD, DATA = ("wrong_output_layer",), ("dead_output", "slow_learning"), ("bad_input_data",)
MISS = ("loss_mismatch",)
CASES = [
    Case("molecules", "rate high", rate(100, 400), WILD, HIGH),
    Case("molecules", "biases of -8", biased(7, 9), ("dying_relu",), ("negative_bias",)),
    Case("molecules", "energies raw", targets(150.0, -2000.0), (*WILD, "dead_output"), ("unscaled_target", *LOW)),
    Case("tags", "weights clamped", clamped_weights, (*LOST, "dead_output"), ("too_much_regularization", *INIT)),
    Case("tags", "rate high", rate(100, 300), WILD, HIGH),
    Case("tags", "labels shuffled", shuffled, ("slow_learning",), (*DATA, *MISS), by_user=True),
    Case("tags", "rate low", rate(1e-5, 1e-4), ("slow_learning",), LOW),
    Case("forecast", "rate is over soon", over_soon, ("slow_learning",), LOW),
    Case("forecast", "watts", inputs(3000.0, 3001.0, 9000.0), (*WILD, "vanishing_gradient"), (*SCALE, "shifted_input")),
    Case("forecast", "biases alone", only_biases, ("slow_learning",), ("weights_not_in_optimizer",)),
    Case("forecast", "relu out", append(nn.ReLU), DEAD, OUT),
    Case("bags", "no gradients", no_gradients, ("slow_learning", "vanishing_gradient", "dead_output"), ("blocked_gradient",), by_user=True),
    Case("bags", "weights large", scaled(15, 40), (*WILD, "vanishing_gradient"), INIT),
    Case("bags", "signs from zeros", signs_from_zeros, (*DEAD, "exploding", "oscillating"), MISS, by_user=True),
    Case("visits", "logarithm of zero", log_of_counts, ("exploding",), DATA, by_user=True),
    Case("visits", "rate high", rate(100, 300), WILD, HIGH),
    Case("visits", "constant column", constant_column_standardized, ("exploding",), DATA),
    Case("counting", "rate high", rate(100, 300), WILD, HIGH),
    Case("counting", "entries cut to 1e-6, descent", lambda run, g: (sgd(0.1)(run, g), by_value(run, g)), ("slow_learning",), LOW),
    Case("counting", "softmax out", append(lambda: nn.Softmax(1)), DEAD, OUT),
    Case("counting", "labels shuffled", shuffled, ("slow_learning",), (*DATA, *MISS), by_user=True),
    Case("keras_table", "Keras weights large", keras_scaled(25.0), (*WILD, "vanishing_gradient", "dead_output"), INIT),
    Case("keras_table", "Keras rate high", set_rate(3.0), (*WILD, "dead_output"), HIGH),
    Case("keras_table", "Keras inputs tiny", inputs(1e-5, 1e-4), LOST, SCALE),
    Case("keras_table", "Keras squashed twice", twice_squashed, DEAD, (*OUT, *MISS), by_user=True),
    Case("swing", "straight", straight, ("slow_learning",), ("missing_activation",), by_user=True),
    Case("swing", "penalty", penalized(1.0), (*LOST, "dead_output"), ("too_much_regularization",)),
    Case("swing", "inputs times 800", inputs(800.0, 801.0), (*WILD, "vanishing_gradient"), SCALE),
    Case("swing", "fourteen sigmoids", rebuilt([32] * 14, nn.Sigmoid, None, ("AdamW", 3e-3)), ("vanishing_gradient",), ("saturating_activation",)),
    Case("stripes", "all the same weight", filled(0.1), (*LOST, *WILD, "dead_output"), INIT),
    Case("stripes", "momentum 0.999", momentum(0.999), WILD, HIGH),
    Case("stripes", "shares for logarithms", shares_for_logs, (*DEAD, "exploding"), MISS, by_user=True),
    Case("stripes", "weights tiny", all_weights(1e-4, 1e-3), LOST, INIT),
    Case("heartbeats", "rate high", rate(300, 900), WILD, HIGH),
    Case("heartbeats", "never cleared", never_zero, WILD, (*HIGH, "gradients_not_cleared")),
    Case("heartbeats", "same labels", same_labels, (*DEAD,), (*DATA, *MISS), by_user=True),
    Case("inversion", "negative weights", negative, ("dying_relu",), INIT),
    Case("inversion", "sigmoid out", append(nn.Sigmoid), DEAD, OUT),
    Case("inversion", "loss times 1e-6, descent", lambda run, g: (sgd(0.05)(run, g), times_loss(1e-6)(run, g)), ("slow_learning",), LOW),
    Case("inversion", "weights of 1", normal(1.0), (*WILD, "vanishing_gradient"), INIT),
    Case("inversion", "rate falls by a third each step", by_step(0.66), ("slow_learning",), LOW),
    Case("one_hot_words", "own logarithm", own_logarithm, ("exploding", *DEAD), (*OUT, *MISS, *DATA), by_user=True),
    Case("one_hot_words", "rate high", rate(200, 600), WILD, HIGH),
    Case("one_hot_words", "clipped to 1e-6, descent", lambda run, g: (sgd(0.5)(run, g), clip(1e-6)(run, g)), ("slow_learning",), LOW),
    Case("denoised", "tanh for pixels to 16", tanh_pixels, DEAD, OUT),
    Case("denoised", "biases of -6", biased(5, 7), ("dying_relu",), ("negative_bias",)),
    Case("denoised", "fifty layers", rebuilt([40] * 50, nn.ReLU, nn.Sigmoid, ("Adam", 1e-3)), ("vanishing_gradient",), ("too_deep_for_init",)),
]  # fmt: skip
