"""A sixth set: small tasks as an outside judge would write them: generated tables, shapes, sequences and sets, with Keras' defaults or a
course's, one published fault each (AutoTrainer, DeepLocalize, DeepFD, DeepDiagnosis: their kinds, not their code). Written, with the
ordinary runs of `_sick_healthy_sixth`, before any rule was tried on it.
"""

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
    rescale,
    run_of,
    scaled,
    standard,
)
from benchmarks._sick_fourth import decay, set_rate
from benchmarks._sick_third import shuffled, targets
from benchmarks.sick import Run, mlp


def glorot(model: nn.Module) -> nn.Module:
    """Keras' start: Glorot's uniform weights, biases 0."""
    for m in model.modules():
        if isinstance(m, (nn.Linear, nn.Conv2d)):
            nn.init.xavier_uniform_(m.weight)
            nn.init.zeros_(m.bias)
    return model


def digits_of() -> tuple[Any, Any]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return x / 16, y


# -- bases with faults ----------------------------------------------------------------------------------------------------


def log_of_shares(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Categorical cross-entropy of probabilities, as Keras has it."""
    return F.nll_loss(torch.log(out.clamp(1e-7, 1)), y)


def quantiles_of_gauss(seed: int) -> Run:
    from sklearn.datasets import make_gaussian_quantiles

    x, y = make_gaussian_quantiles(n_samples=1500, n_features=2, n_classes=3, random_state=seed)
    model = glorot(nn.Sequential(*mlp([2, 50, 50, 3]), nn.Softmax(1)))
    return run_of(model, x, y, log_of_shares, "classes", seed, "Adam", 1e-3, 600, 32)


def prices(seed: int) -> Run:
    """Area, rooms, age, place and two switches to a price; mean absolute error."""
    g = np.random.default_rng(seed)
    area, rooms, age = g.lognormal(4.5, 0.4, 1500), g.integers(1, 7, 1500), g.uniform(0, 90, 1500)
    far, garden, lift = g.exponential(5, 1500), g.random(1500) < 0.4, g.random(1500) < 0.3
    x = np.stack([area, rooms, age, far, garden, lift], 1).astype(float)
    y = (
        np.log(area) * 1.2
        + 0.1 * rooms
        - 0.004 * age * (1 - 0.5 * lift)
        - 0.08 * far
        + 0.1 * garden
        + g.normal(0, 0.08, 1500)
    )
    model = glorot(mlp([6, 64, 32, 1]))
    return run_of(model, standard(x), standard(y), nn.L1Loss(), "numbers", seed, "RMSprop", 1e-3, 500, 32)


def shapes(seed: int) -> Run:
    """Bars, crosses, boxes and disks of 12 by 12 pixels, through a convolutional network with tanh and mean pooling."""
    g = np.random.default_rng(seed)
    x, y = np.zeros((1200, 1, 12, 12)), g.integers(0, 4, 1200)
    rows, columns = np.mgrid[:12, :12]
    for image, kind in zip(x[:, 0], y):
        a, b, r = int(g.integers(4, 8)), int(g.integers(4, 8)), int(g.integers(2, 4))
        near = np.maximum(abs(rows - a), abs(columns - b)) <= r
        image[
            near
            & [rows == a, (rows == a) | (columns == b), np.maximum(abs(rows - a), abs(columns - b)) == r, near][kind]
        ] = 1
    x += g.normal(0, 0.15, x.shape)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 12, 3), nn.Tanh(), nn.Flatten(), nn.Linear(108, 30), nn.Tanh(),
        nn.Linear(30, 4),
    )  # fmt: skip
    return run_of(model, x, y, nn.CrossEntropyLoss(), "classes", seed, "Momentum", 0.03, 300, 32)


class Reads(nn.Module):
    """A recurrent net of some layers, read out by a small network at the end."""

    def __init__(self, kind: Any, features: int, outputs: int, layers: int = 1) -> None:
        super().__init__()
        self.cell = kind(features, 24, num_layers=layers, batch_first=True)
        self.head = nn.Linear(24, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.cell(x)[0][:, -1])


def majority(seed: int) -> Run:
    """Whether more of eleven noisy steps went up than down; two layers of LSTM."""
    g = np.random.default_rng(seed)
    x = g.choice([-1.0, 1.0], (1200, 11, 1))
    y = (x.sum((1, 2)) > 0) * 1.0
    model = Reads(nn.LSTM, 1, 1, 2)
    return run_of(
        model, x + g.normal(0, 0.2, x.shape), y, nn.BCEWithLogitsLoss(), "binary", seed, "Adam", 5e-3, 300, 32
    )


def waves(seed: int) -> Run:
    """Sine, square or saw, of some frequency and phase."""
    g = np.random.default_rng(seed)
    phase = g.uniform(0, 2 * np.pi, (1200, 1)) + g.uniform(0.5, 1.1, (1200, 1)) * np.arange(16)
    y = g.integers(0, 3, 1200)
    saw = (phase / np.pi) % 2 - 1
    x = np.choose(y[:, None], [np.sin(phase) * 1.2, np.sign(np.sin(phase)), saw]) + g.normal(0, 0.08, phase.shape)
    return run_of(
        Reads(nn.GRU, 1, 3), x[:, :, None], y, nn.CrossEntropyLoss(), "classes", seed, "RMSprop", 5e-3, 400, 32
    )


def s_curve(seed: int) -> Run:
    """Eight ELU layers from a sheet rolled into an S to the place along it."""
    from sklearn.datasets import make_s_curve

    x, t = make_s_curve(1200, noise=0.05, random_state=seed)
    model = mlp([3, *[40] * 8, 1], nn.ELU)
    return run_of(model, standard(x), standard(t), nn.SmoothL1Loss(), "numbers", seed, "Momentum", 0.03, 400, 32)


def spirals(seed: int) -> Run:
    """Two spirals by labels of -1 and 1; six tanh layers from Xavier's start."""
    g = np.random.default_rng(seed)
    t, sign = np.sqrt(g.uniform(0.02, 1, 1500)) * 2 * np.pi, g.choice([-1.0, 1.0], 1500)
    x = sign[:, None] * np.stack([t * np.cos(t), t * np.sin(t)], 1) / 3 + g.normal(0, 0.05, (1500, 2))
    model = glorot(mlp([2, *[32] * 5, 1], nn.Tanh))
    return run_of(model, x, sign, nn.SoftMarginLoss(), "binary", seed, "Adam", 5e-3, 500, 64)


def softplus(seed: int) -> Run:
    x, y = digits_of()
    return run_of(
        mlp([64, 64, 32, 10], nn.Softplus), x, y, nn.CrossEntropyLoss(), "classes", seed, "Adagrad", 0.03, 400, 32
    )


def credit(seed: int) -> Run:
    """Two out of five customers default: numbers and categories, dropout, a sigmoid's probability."""
    g = np.random.default_rng(seed)
    numbers, job, town = g.normal(size=(2000, 5)), g.integers(0, 5, 2000), g.integers(0, 4, 2000)
    score = 1.5 * numbers[:, 0] - numbers[:, 1] * (job > 2) + 0.8 * np.abs(numbers[:, 2]) + 0.5 * (town == 1) - 1.1
    y = (score + g.logistic(0, 0.4, 2000) > 0) * 1.0
    x = np.concatenate([numbers, np.eye(5)[job], np.eye(4)[town]], 1)
    model = glorot(
        nn.Sequential(
            nn.Linear(14, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 1), nn.Sigmoid()
        )
    )
    return run_of(model, x, y, nn.BCELoss(), "probability", seed, "Adam", 2e-3, 500, 32)


def words(seed: int) -> Run:
    """Bags of twelve words out of two hundred, drawn from one of four subjects."""
    g = np.random.default_rng(seed)
    shares, y = g.dirichlet(np.full(200, 0.15), 4), g.integers(0, 4, 1500)
    x = np.array([g.choice(200, 12, p=0.5 * shares[k] + 0.5 / 200) for k in y])
    model = nn.Sequential(nn.EmbeddingBag(200, 16), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    return run_of(model, x, y, nn.CrossEntropyLoss(), "classes", seed, "Adam", 3e-3, 400, 32)


def place(seed: int) -> Run:
    """Where a spot lies in a noisy picture: two numbers out of strided convolutions."""
    g = np.random.default_rng(seed)
    rows, columns = np.mgrid[:12, :12]
    y = g.uniform(2, 9, (1500, 2))
    spot = np.exp(-((rows - y[:, 0, None, None]) ** 2 + (columns - y[:, 1, None, None]) ** 2) / 3)
    x = standard((spot + g.normal(0, 0.1, spot.shape)).reshape(-1, 1)).reshape(-1, 1, 12, 12)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2)
    )  # fmt: skip
    return run_of(model, x, standard(y), nn.MSELoss(), "numbers", seed, "AdamW", 3e-3, 300, 32)


def arm(seed: int) -> Run:
    """Angles of a robot's two joints to the place of its hand."""
    a = np.random.default_rng(seed).uniform(-1.5, 1.5, (1500, 2))
    both = a.sum(1)
    y = np.stack([np.cos(a[:, 0]) + 0.7 * np.cos(both), np.sin(a[:, 0]) + 0.7 * np.sin(both)], 1)
    return run_of(mlp([2, 48, 48, 2], nn.SiLU), a, y, nn.MSELoss(), "numbers", seed, "NAdam", 4e-3, 400, 64)


class Set(nn.Module):
    """Sums over what a network makes of each element."""

    def __init__(self) -> None:
        super().__init__()
        self.each, self.all = mlp([2, 32, 32]), mlp([32, 32, 1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.all(torch.relu(self.each(x)).mean(1))


def deep_set(seed: int) -> Run:
    """How far ten points of a set spread."""
    g = np.random.default_rng(seed)
    x = g.normal(size=(1500, 10, 2)) * g.uniform(0.3, 1.7, (1500, 1, 1))
    y = standard(np.log(x.std((1, 2))))
    return run_of(Set(), x, y, nn.HuberLoss(), "numbers", seed, "Adam", 3e-3, 400, 32)


WITH_FAULTS = (
    quantiles_of_gauss, prices, shapes, majority, waves, s_curve, spirals, softplus, credit, words, place, arm, deep_set,
)  # fmt: skip
BASES: dict[str, Callable[[int], Run]] = {f.__name__: f for f in WITH_FAULTS}


# -- faults ---------------------------------------------------------------------------------------------------------------


def cross_entropy_on_shares(run: Run, g: np.random.Generator) -> None:
    run.loss = nn.CrossEntropyLoss()


def raw_prices(run: Run, g: np.random.Generator) -> None:
    """Square meters, years and kilometers as they are."""
    rescale(run, torch.tensor([40.0, 1.7, 26.0, 5.0, 0.5, 0.5]), torch.tensor([97.0, 3.5, 45.0, 5.0, 0.4, 0.3]))


def one_share(run: Run, g: np.random.Generator) -> None:
    """A softmax where the sigmoid should be: 1 for every row."""
    run.model = nn.Sequential(*list(run.model)[:-1], nn.Softmax(1))


def dropped(run: Run, g: np.random.Generator) -> None:
    for m in run.model.modules():
        if isinstance(m, nn.Dropout):
            m.p = 0.98


def deep(widths: list[int], make: Any, optimizer: tuple[str, float] = ("Adam", 1e-3)) -> Callable[[Run, Any], None]:
    return rebuilt(widths, make, None, optimizer)


INIT, LOW, HIGH, SCALE = (
    ("bad_initialization",),
    ("learning_rate_too_low",),
    ("learning_rate_too_high",),
    ("unscaled_input",),
)
OUT, DEAD = ("wrong_output_layer",), ("dead_output", "slow_learning")
CASES = [
    Case("quantiles_of_gauss", "biases of -5", biased(4, 6), ("dying_relu",), ("negative_bias",)),
    Case("quantiles_of_gauss", "cross-entropy on shares", cross_entropy_on_shares, DEAD, (*OUT, "loss_mismatch")),
    Case("quantiles_of_gauss", "rate 1", set_rate(1.0), WILD, HIGH),
    Case("quantiles_of_gauss", "zero weights", filled(0.0), (*LOST, "dying_relu", "dead_output"), INIT),
    Case("prices", "raw prices", targets(5e4, 2e5), (*WILD, "dead_output"), ("unscaled_target", *LOW)),
    Case("prices", "raw columns", raw_prices, WILD, (*SCALE, "shifted_input")),
    Case("prices", "relu out", append(nn.ReLU), DEAD, OUT),
    Case("prices", "rate low", rate(1e-5, 1e-4), ("slow_learning",), LOW),
    Case("prices", "nine sigmoids", deep([32] * 9, nn.Sigmoid), ("vanishing_gradient",), ("saturating_activation",)),
    Case("shapes", "bytes", inputs(255.0, 255.1), (*WILD, "vanishing_gradient"), SCALE),
    Case("shapes", "weights large", scaled(15, 40), (*WILD, "vanishing_gradient"), INIT),
    Case("shapes", "rate high", rate(100, 400), (*WILD, "vanishing_gradient"), HIGH),
    Case("shapes", "weights of 0.0001", normal(1e-4), LOST, INIT),
    Case("majority", "rate high", rate(100, 400), WILD, HIGH),
    Case("majority", "rate low", rate(1e-5, 1e-4), ("slow_learning",), LOW),
    Case("majority", "sigmoid out", append(nn.Sigmoid), DEAD, OUT),
    Case("majority", "inputs tiny", inputs(1e-5, 1e-4), LOST, SCALE),
    Case("waves", "softmax out", append(lambda: nn.Softmax(1)), DEAD, OUT),
    Case("waves", "weights large", scaled(20, 50), (*WILD, "vanishing_gradient"), INIT),
    Case("waves", "inputs times 1000", inputs(1000.0, 1001.0), (*WILD, "vanishing_gradient"), SCALE),
    Case("s_curve", "weights of 1", normal(1.0), ("exploding", "oscillating"), INIT),
    Case("s_curve", "twelve sigmoids", deep([20] * 12, nn.Sigmoid), ("vanishing_gradient",), ("saturating_activation",)),
    Case("s_curve", "targets in thousands", targets(1000.0, 3000.0), (*WILD, "dead_output"), ("unscaled_target",)),
    Case("s_curve", "rate high", rate(50, 200), WILD, HIGH),
    Case("spirals", "rate 1e-7", set_rate(1e-7), ("slow_learning",), LOW),
    Case("spirals", "two units wide", deep([2] * 10, nn.ReLU, ("Adam", 5e-3)), ("dying_relu", *LOST), ("too_narrow",)),
    Case("spirals", "weights large", scaled(20, 40), (*WILD, "vanishing_gradient"), INIT),
    Case("softplus", "rate 30", set_rate(30.0), WILD, HIGH),
    Case("softplus", "far from 0", inputs(1.0, 1.001, 60.0), WILD, ("shifted_input",)),
    Case("softplus", "decay", decay(3.0), ("slow_learning", "vanishing_gradient"), ("too_much_regularization",)),
    Case("credit", "one share", one_share, ("dead_output",), OUT),
    Case("credit", "labels shuffled", shuffled, ("slow_learning",), ("bad_input_data", "loss_mismatch"), by_user=True),
    Case("credit", "drop 0.98", dropped, ("slow_learning",), ("too_much_regularization",)),
    Case("words", "rate high", rate(300, 1000), WILD, HIGH),
    Case("words", "biases of -10", biased(9, 11), ("dying_relu",), ("negative_bias",)),
    Case("place", "negative weights", negative, ("dying_relu",), INIT),
    Case("place", "rate high", rate(100, 400), WILD, HIGH),
    Case("place", "sigmoid out", append(nn.Sigmoid), DEAD, OUT),
    Case("arm", "forty layers", deep([32] * 40, nn.ReLU), ("vanishing_gradient",), ("too_deep_for_init",)),
    Case("arm", "degrees", inputs(57.3, 57.31), WILD, SCALE),
    Case("deep_set", "centimeters", inputs(300.0, 300.1), WILD, SCALE),
    Case("deep_set", "rate low", rate(1e-5, 1e-4), ("slow_learning",), LOW),
]  # fmt: skip
