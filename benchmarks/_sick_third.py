"""A third set of healthy trainings and sick twins: schedules, accumulation, weight tying, skip connections, contrastive and quantile losses,
labels that do not go with their rows. Written before any rule was tried on it."""

import math
from collections.abc import Callable
from types import MethodType
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
    rate,
    rebuilt,
    rescale,
    run_of,
    standard,
    weights,
)
from benchmarks.sick import Run, mlp


def _digits() -> tuple[Any, Any]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return x / 16, y


def scheduled(run: Run, make: Callable[[Any], Any]) -> Run:
    """Steps a torch scheduler after each optimizer step, as a loop would; made at the first, when faults have set their rate."""
    optimizer, made = run.optimizer, []
    inner = optimizer.step

    def step(_: Any, *args: Any) -> Any:
        if not made:
            made.append(make(optimizer))
        found = inner(*args)
        made[0].step()
        return found

    optimizer.step = MethodType(step, optimizer)
    return run


class BothWays(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.GRU(8, 20, batch_first=True, bidirectional=True), nn.Linear(40, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.cell(x)[0].mean(1))


def bigru(seed: int) -> Run:
    x, y = _digits()
    run = run_of(BothWays(), x.reshape(-1, 8, 8), y, nn.CrossEntropyLoss(), "classes", seed, "AdamW", 1e-2, 300)
    return scheduled(run, lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 500))


class Block(nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        self.norm, self.a, self.b = nn.LayerNorm(d), nn.Linear(d, 2 * d), nn.Linear(2 * d, d)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.b(F.gelu(self.a(self.norm(x))))


def residual_mlp(seed: int) -> Run:
    from sklearn.datasets import make_friedman1

    x, y = make_friedman1(900, noise=0.5, random_state=seed)
    model = nn.Sequential(nn.Linear(10, 32), *[Block(32) for _ in range(5)], nn.LayerNorm(32), nn.Linear(32, 1))
    run = run_of(model, standard(x), standard(y), nn.MSELoss(), "numbers", seed, "AdamW", 4e-3, 300)
    return scheduled(
        run, lambda o: torch.optim.lr_scheduler.OneCycleLR(o, [g["lr"] for g in o.param_groups], total_steps=1000)
    )


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.up, self.out = nn.ConvTranspose2d(16, 8, 2, stride=2), nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = torch.relu(self.down(x))
        deep = torch.relu(self.deep(F.max_pool2d(first, 2)))
        return self.out(torch.cat([first, torch.relu(self.up(deep))], 1)).flatten(1)


def unet(seed: int) -> Run:
    """Digits under noise, cleaned."""
    x, _ = _digits()
    noisy = x + np.random.default_rng(seed).normal(0, 0.25, x.shape)
    return run_of(UNet(), noisy.reshape(-1, 1, 8, 8), x, nn.MSELoss(), "numbers", seed, "Adam", 5e-3, 280)


class Siamese(nn.Module):
    """How much nearer than half a margin two digits lie."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp([64, 48, 16])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.body(x[:, 0]), self.body(x[:, 1])
        return 0.5 - ((a - b).square().sum(1, keepdim=True) + 1e-6).sqrt()


def _contrastive(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    distance = 0.5 - out
    return (y * distance.square() + (1 - y) * F.relu(1 - distance).square()).mean()


def siamese(seed: int) -> Run:
    x, y = _digits()
    g = np.random.default_rng(seed)
    first = g.integers(0, len(x), 3000)
    same = g.random(3000) < 0.5
    second = np.array([g.choice(np.flatnonzero((y == y[i]) == s)) for i, s in zip(first, same)])
    pairs = np.stack([x[first], x[second]], 1)
    return run_of(Siamese(), pairs, same * 1.0, _contrastive, "binary", seed, "Adam", 3e-3, 400)


def _pinball(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.maximum(0.6 * (y - out), 0.4 * (out - y)).mean()


def pinball(seed: int) -> Run:
    from sklearn.datasets import make_friedman1

    x, y = make_friedman1(900, noise=0.5, random_state=seed + 50)
    return run_of(mlp([10, 64, 64, 1]), standard(x), standard(y), _pinball, "numbers", seed, "Adam", 4e-3, 400)


def _focal(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    p = torch.sigmoid(out)
    right = torch.where(y > 0.5, p, 1 - p)
    return -((1 - right) ** 2 * torch.log(right.clamp_min(1e-6))).mean()


def focal(seed: int) -> Run:
    """One row in four is positive."""
    from sklearn.datasets import make_classification

    x, y = make_classification(1200, 12, n_informative=8, weights=[0.75], class_sep=1.5, random_state=seed)
    return run_of(mlp([12, 40, 40, 1]), standard(x), y * 1.0, _focal, "binary", seed, "RMSprop", 2e-3, 320)


class Tied(nn.Module):
    """An autoencoder that decodes by its encoder's transpose."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.bias = nn.Linear(64, 24), nn.Parameter(torch.zeros(64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(F.linear(torch.relu(self.encode(x)), self.encode.weight.T, self.bias))


def tied(seed: int) -> Run:
    x, _ = _digits()
    return run_of(Tied(), x, x, nn.BCELoss(), "numbers", seed, "Adam", 1e-2, 320)


class EveryFourth(torch.optim.SGD):
    """Gradients of four batches are added up for one step, as where memory is short."""

    count = 0

    def zero_grad(self, set_to_none: bool = True) -> None:
        if self.count % 4 == 0:
            super().zero_grad(set_to_none)

    def step(self, closure: Any = None) -> Any:
        self.count += 1
        return super().step(closure) if self.count % 4 == 0 else None


def accumulated(seed: int) -> Run:
    x, y = _digits()
    run = run_of(mlp([64, 64, 32, 10]), x, y, nn.CrossEntropyLoss(), "classes", seed, "SGD", 0.1, 480, 32)
    run.optimizer = EveryFourth(run.model.parameters(), 0.05, momentum=0.9)
    return run


def smoothed(seed: int) -> Run:
    from sklearn.datasets import make_classification

    x, y = make_classification(1500, 16, n_informative=10, n_classes=5, random_state=seed)
    model = nn.Sequential(
        nn.Linear(16, 96), nn.BatchNorm1d(96), nn.ReLU(), nn.Dropout(0.1), nn.Linear(96, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 5)
    )  # fmt: skip
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    run = run_of(model, standard(x), y, loss, "classes", seed, "Momentum", 0.05, 320)
    return scheduled(run, lambda o: torch.optim.lr_scheduler.StepLR(o, 150, 0.3))


class Mixer(nn.Module):
    """Rows of the image mixed with each other, then pixels within a row."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.columns = nn.Linear(8, 32), nn.Linear(8, 32)
        self.back, self.out = nn.Linear(32, 8), nn.Linear(8 * 32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed = x + self.back(F.silu(self.rows(x.transpose(1, 2)))).transpose(1, 2)
        return self.out(F.silu(self.columns(mixed)).flatten(1))


def warm(seed: int) -> Run:
    x, y = _digits()
    run = run_of(Mixer(), x.reshape(-1, 8, 8), y, nn.CrossEntropyLoss(), "classes", seed, "Adam", 5e-3, 260)
    return scheduled(run, lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda k: min(1.0, (k + 1) / 40)))


def uneven(seed: int) -> Run:
    """Batches of 4 to 64 rows."""
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    g, inner = np.random.default_rng(seed), nn.BCEWithLogitsLoss()

    def loss(out: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        rows = int(g.integers(4, len(out) + 1))
        return inner(out[:rows], goal[:rows])

    return run_of(mlp([30, 40, 20, 1]), standard(x), y * 1.0, loss, "binary", seed, "Adamax", 4e-3, 240)


def tiny(seed: int) -> Run:
    from sklearn.datasets import make_moons

    x, y = make_moons(800, noise=0.12, random_state=seed)
    return run_of(
        mlp([2, 8, 8, 2], nn.Tanh), standard(x), y, nn.CrossEntropyLoss(), "classes", seed, "RMSprop", 1e-2, 500, 32
    )


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.RNN(1, 32, batch_first=True), nn.Linear(32, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.cell(x)[0][:, -1])


def tanh_rnn(seed: int) -> Run:
    """The next value of a noisy triangle wave."""
    g = np.random.default_rng(seed)
    t = g.uniform(0, 50, (800, 1)) + 0.35 * np.arange(13)
    s = 2 * np.abs(2 * (t / 4 - np.floor(t / 4 + 0.5))) - 1 + g.normal(0, 0.05, t.shape)
    return run_of(Recurrent(), s[:, :12, None], s[:, 12], nn.MSELoss(), "numbers", seed, "Adagrad", 2e-2, 350)


def grouped(seed: int) -> Run:
    x, y = _digits()
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.SiLU(), nn.Conv2d(16, 16, 3, padding=1, groups=4), nn.GroupNorm(4, 16), nn.SiLU(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(256, 10),
    )  # fmt: skip
    return run_of(model, x.reshape(-1, 1, 8, 8), y, nn.CrossEntropyLoss(), "classes", seed, "Adam", 3e-3, 160)


def whole_batch(seed: int) -> Run:
    """All rows at every step, steps by the signs of gradients."""
    from sklearn.datasets import load_wine

    x, y = load_wine(return_X_y=True)
    return run_of(
        mlp([13, 24, 24, 3]), standard(x), y, nn.CrossEntropyLoss(), "classes", seed, "Rprop", 1e-3, 120, 10**6
    )


class Spread(nn.Module):
    """Learns the deviation of its errors beside the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.log_variance = mlp([8, 48, 48, 1], nn.ELU), nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


def gaussian(seed: int) -> Run:
    from sklearn.datasets import make_regression

    x, y, *_ = make_regression(800, 8, n_informative=6, noise=10, random_state=seed)
    y = np.tanh(standard(y)) + 0.3 * x[:, 0] * x[:, 1]
    model, inner = Spread(), nn.GaussianNLLLoss()
    loss = lambda out, goal: inner(out, goal, model.log_variance.exp().expand_as(out))
    return run_of(model, x, standard(y), loss, "numbers", seed, "NAdam", 3e-3, 400)


BASES: dict[str, Callable[[int], Run]] = {
    f.__name__: f
    for f in (
        bigru, residual_mlp, unet, siamese, pinball, focal, tied, accumulated, smoothed, warm, uneven, tiny, tanh_rnn, grouped, whole_batch, gaussian,
    )
}  # fmt: skip


def all_weights(low: float, high: float) -> Callable[[Run, np.random.Generator], None]:
    """Every matrix of the model, recurrent ones of both directions and transposed convolutions too, and its biases."""

    @torch.no_grad()
    def change(run: Run, g: np.random.Generator) -> None:
        factor = 10 ** float(g.uniform(math.log10(low), math.log10(high)))
        for p in run.model.parameters():
            p.mul_(factor)

    return change


def one_feature(run: Run, g: np.random.Generator) -> None:
    """One column in other units: a yearly income beside shares."""
    scale, offset = torch.ones(run.x.shape[1]), torch.zeros(run.x.shape[1])
    scale[2], offset[2] = 2e4, 5e4
    rescale(run, scale, offset)


def targets(scale: float, offset: float) -> Callable[[Run, np.random.Generator], None]:
    def change(run: Run, g: np.random.Generator) -> None:
        run.y, run.held = scale * run.y + offset, (run.held[0], scale * run.held[1] + offset)

    return change


def sixteens(run: Run, g: np.random.Generator) -> None:
    """Pixels from 0 to 16 asked of an output between 0 and 1."""
    targets(16.0, 0.0)(run, g)
    append(nn.Sigmoid)(run, g)


def shuffled(run: Run, g: np.random.Generator) -> None:
    """Targets in another order than their rows, as after a join that went wrong."""
    run.y = run.y[torch.as_tensor(g.permutation(len(run.y)))]


def wide_recurrence(run: Run, g: np.random.Generator) -> None:
    weights(run, lambda w, b: (w.mul_(12.0), b.mul_(12.0)))


CASES = [
    Case("bigru", "rate high", rate(100, 400), WILD, ("learning_rate_too_high",)),
    Case("bigru", "weights small", all_weights(1e-4, 1e-3), LOST, ("bad_initialization",)),
    Case("residual_mlp", "one feature", one_feature, (*WILD, "vanishing_gradient"), ("unscaled_input", "shifted_input")),
    Case("residual_mlp", "rate low", rate(1e-5, 1e-4), ("slow_learning",), ("learning_rate_too_low",)),
    Case("residual_mlp", "shuffled", shuffled, ("slow_learning",), ("bad_input_data", "loss_mismatch"), by_user=True),
    Case("unet", "bias", biased(3, 6), ("dying_relu",), ("negative_bias",)),
    Case("unet", "weights large", all_weights(8, 15), ("exploding", "oscillating"), ("bad_initialization",)),
    Case("unet", "sixteens", sixteens, ("dead_output", "slow_learning"), ("wrong_output_layer",)),
    Case("siamese", "rate high", rate(200, 600), WILD, ("learning_rate_too_high",)),
    Case("siamese", "inputs tiny", inputs(1e-5, 1e-4), LOST, ("unscaled_input",)),
    Case("pinball", "inputs shifted", inputs(1.0, 1.0001, 90.0), WILD, ("shifted_input",)),
    Case("pinball", "rate low", rate(1e-5, 1e-4), ("slow_learning",), ("learning_rate_too_low",)),
    Case("pinball", "target raw", targets(300.0, 900.0), WILD, ("unscaled_target",)),
    Case("focal", "sigmoid twice", append(nn.Sigmoid), ("slow_learning", "dead_output"), ("wrong_output_layer",)),
    Case("focal", "negative weights", negative, ("dying_relu",), ("bad_initialization",)),
    Case("tied", "inputs as bytes", inputs(255.0, 255.01), (*WILD, "vanishing_gradient"), ("unscaled_input",)),
    Case("tied", "weights small", all_weights(1e-5, 1e-4), LOST, ("bad_initialization",)),
    Case("accumulated", "rate high", rate(200, 600), WILD, ("learning_rate_too_high",)),
    Case("accumulated", "narrow", rebuilt([2] * 10, nn.ReLU, None, ("Momentum", 0.03)), ("dying_relu", *LOST), ("too_narrow",)),
    Case("smoothed", "rate low", rate(1e-5, 1e-4), ("slow_learning",), ("learning_rate_too_low",)),
    Case("smoothed", "softmax out", append(lambda: nn.Softmax(-1)), ("slow_learning", "dead_output"), ("wrong_output_layer",)),
    Case("smoothed", "shuffled", shuffled, ("slow_learning",), ("bad_input_data", "loss_mismatch"), by_user=True),
    Case("warm", "rate high", rate(100, 400), WILD, ("learning_rate_too_high",)),
    Case("warm", "zero weights", filled(0.0), (*LOST, "dead_output"), ("bad_initialization",)),
    Case("uneven", "bias", biased(8, 15), ("dying_relu",), ("negative_bias",)),
    Case("uneven", "constant weights", filled(0.02), (*LOST, "dying_relu"), ("bad_initialization",)),
    Case("tiny", "ten sigmoid layers", rebuilt([16] * 10, nn.Sigmoid, None, ("Adam", 3e-3)), ("vanishing_gradient",), ("saturating_activation",)),
    Case("tiny", "forty layers", rebuilt([24] * 40, nn.ReLU, None, ("AdamW", 2e-3)), ("vanishing_gradient",), ("too_deep_for_init",)),
    Case("tanh_rnn", "recurrence large", wide_recurrence, (*WILD, "vanishing_gradient"), ("bad_initialization",)),
    Case("tanh_rnn", "rate low", rate(1e-5, 1e-4), ("slow_learning",), ("learning_rate_too_low",)),
    Case("grouped", "rate high", rate(300, 1000), WILD, ("learning_rate_too_high",)),
    Case("whole_batch", "rate low", rate(1e-6, 1e-5), ("slow_learning",), ("learning_rate_too_low",)),
    Case("gaussian", "rate high", rate(200, 1000), WILD, ("learning_rate_too_high",)),
    Case("gaussian", "inputs large", inputs(300, 2000), (*WILD, "vanishing_gradient"), ("unscaled_input",)),
]  # fmt: skip
