"""A fifth set: what goes wrong around a sound network (gradients never cleared, an optimizer over other weights, parts cut off,
schedules, batches, losses scaled or turned round, rows with nan), on bases not used before, and oddities that do no harm.

Kinds of fault follow the lists of DeepDiagnosis (Wardat et al., 2022), DeepFD (Cao et al., 2022), AutoTrainer (Zhang et al., 2021)
and Humbatova et al.'s taxonomy of faults (2020). Written before any rule was tried on it.
"""

import copy
import math
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
    inputs,
    normal,
    rate,
    raw,
    rebuilt,
    run_of,
    scaled,
    standard,
)
from benchmarks._sick_third import all_weights, scheduled, shuffled, targets
from benchmarks.sick import Run, mlp

Change = Callable[[Run, np.random.Generator], None]


def _digits() -> tuple[Any, Any]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return x / 16, y


def parity(seed: int) -> Run:
    """Whether three of ten bits are odd in number."""
    g = np.random.default_rng(seed)
    bits = g.integers(0, 2, (1500, 10))
    model = mlp([10, 64, 32, 1])
    return run_of(
        model, bits * 2.0 - 1, bits[:, :3].sum(1) % 2, nn.BCEWithLogitsLoss(), "binary", seed, "Adam", 3e-3, 400, 32
    )


def checkerboard(seed: int) -> Run:
    g = np.random.default_rng(seed)
    x = g.uniform(-1.5, 1.5, (1500, 2))
    y = (np.floor(x + 9).sum(1) % 2).astype(int)
    return run_of(mlp([2, 64, 64, 2]), x, y, nn.CrossEntropyLoss(), "classes", seed, "Adam", 1e-2, 400)


def sine(seed: int) -> Run:
    """One input, one output: the first regression of every course."""
    g = np.random.default_rng(seed)
    x = g.uniform(-2, 2, (800, 1))
    y = np.sin(3 * x[:, 0]) + g.normal(0, 0.05, 800)
    return run_of(mlp([1, 50, 50, 1], nn.Tanh), x, y, nn.MSELoss(), "numbers", seed, "Momentum", 0.05, 500, 32)


def picture(seed: int) -> Run:
    """Places of a photograph to its colors."""
    from sklearn.datasets import load_sample_image

    image = load_sample_image("flower.jpg")[::16, ::16] / 255.0
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, n) for n in image.shape[:2]), indexing="ij")
    x = np.stack([rows.ravel(), columns.ravel()], 1) * 1.7
    return run_of(mlp([2, 96, 96, 3]), x, image.reshape(-1, 3), nn.MSELoss(), "numbers", seed, "Adam", 8e-3, 500, 128)


class Variational(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 16)), mlp([8, 48, 64])
        self.noise = torch.Generator().manual_seed(0)
        self.divergence = torch.zeros(())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, log_variance = self.encode(x).chunk(2, 1)
        self.divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
        return self.decode(mean + torch.randn(mean.shape, generator=self.noise) * (log_variance / 2).exp())


def variational(seed: int) -> Run:
    x, _ = _digits()
    model = Variational()
    loss = lambda out, y: 20 * (out - y).square().sum(1).mean() + model.divergence
    return run_of(model, x, x, loss, "numbers", seed, "Adam", 3e-3, 500)


class Nearer(nn.Module):
    """By how much the first of three digits lies nearer to the second than to the third."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp([64, 64, 16])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b, c = (self.body(x[:, k]) for k in range(3))
        return (F.pairwise_distance(a, c) - F.pairwise_distance(a, b))[:, None]


def triplet(seed: int) -> Run:
    x, y = _digits()
    g = np.random.default_rng(seed)
    first = g.integers(0, len(x), 2500)
    near = np.array([g.choice(np.flatnonzero(y == y[i])) for i in first])
    far = np.array([g.choice(np.flatnonzero(y != y[i])) for i in first])
    loss = lambda out, _: F.relu(1.0 - out).mean()
    return run_of(
        Nearer(), np.stack([x[first], x[near], x[far]], 1), np.ones(2500), loss, "binary", seed, "Adam", 2e-3, 300, 32
    )


def distilled(seed: int) -> Run:
    """A small network learns the shares that a larger model gives."""
    from sklearn.linear_model import LogisticRegression

    x, y = _digits()
    shares = LogisticRegression(C=1.0, max_iter=200).fit(x, y).predict_proba(x)
    loss = lambda out, goal: F.kl_div(torch.log_softmax(out, 1), goal, reduction="batchmean")
    run = run_of(mlp([64, 48, 48, 10]), x, shares, loss, "numbers", seed, "AdamW", 3e-3, 300)
    run.task, run.held = "classes", (run.held[0], run.held[1].argmax(1))
    return run


def tuned(seed: int) -> Run:
    """A body trained on even and odd, held still; a new head learns the digits."""
    x, y = _digits()
    body = mlp([64, 128, 64, 2])
    optimizer = torch.optim.Adam(body.parameters(), 3e-3)
    rows, goal = torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(y % 2)
    for _ in range(40):
        loss = F.cross_entropy(body(rows), goal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model = nn.Sequential(*list(body)[:-1], nn.Linear(64, 10))
    for p in list(model.parameters())[:-2]:
        p.requires_grad_(False)
    run = run_of(model, x, y, nn.CrossEntropyLoss(), "classes", seed, "Adam", 2e-2, 300)
    run.optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 2e-2)
    return run


class Cell(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(c, c, 3, padding=1, bias=False), nn.Conv2d(c, c, 3, padding=1, bias=False)
        self.na, self.nb = nn.BatchNorm2d(c), nn.BatchNorm2d(c)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.nb(self.b(torch.relu(self.na(self.a(x))))))


def resnet(seed: int) -> Run:
    x, y = _digits()
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU(), Cell(12), nn.MaxPool2d(2), Cell(12), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Linear(48, 10),
    )  # fmt: skip
    run = run_of(model, x.reshape(-1, 1, 8, 8), y, nn.CrossEntropyLoss(), "classes", seed, "SGD", 0.05, 160)
    run.optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    return scheduled(run, lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 260))


class Sentence(nn.Module):
    """Tokens through an LSTM, its mean state read out."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.cell = nn.Embedding(20, 12), nn.LSTM(12, 24, batch_first=True)
        self.a, self.b = nn.Linear(24, 24), nn.Linear(24, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.relu(self.a(self.cell(self.embed(x))[0].mean(1))))


def sentence(seed: int) -> Run:
    """Which of three marked tokens comes first."""
    g = np.random.default_rng(seed)
    x = g.integers(3, 20, (1200, 12))
    order = np.array([g.permutation(3) for _ in range(1200)])
    places = np.sort(np.array([g.permutation(12)[:3] for _ in range(1200)]), 1)
    for k in range(3):
        x[np.arange(1200), places[:, k]] = order[:, k]
    return run_of(Sentence(), x, order[:, 0], nn.CrossEntropyLoss(), "classes", seed, "Adam", 1e-2, 400)


class Adding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.GRU(2, 24, batch_first=True), nn.Linear(24, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.cell(x)[0][:, -1])


def adding(seed: int) -> Run:
    """The sum of the two numbers that are marked (Hochreiter and Schmidhuber, 1997)."""
    g = np.random.default_rng(seed)
    numbers, marks = g.uniform(0, 1, (1200, 8)), np.zeros((1200, 8))
    for row in marks:
        row[g.permutation(8)[:2]] = 1
    y = (numbers * marks).sum(1) * 2.4 - 2.4
    return run_of(Adding(), np.stack([numbers, marks], 2), y, nn.MSELoss(), "numbers", seed, "Adam", 1e-2, 500)


class Taste(nn.Module):
    """Users and things by an embedding each, their ratings by a small network."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.thing = nn.Embedding(60, 6), nn.Embedding(40, 6)
        self.body = mlp([12, 48, 1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(torch.cat([self.user(x[:, 0]), self.thing(x[:, 1])], 1))


def taste(seed: int) -> Run:
    g = np.random.default_rng(seed)
    a, b = g.normal(size=(60, 2)), g.normal(size=(40, 2))
    x = np.stack([g.integers(0, 60, 3000), g.integers(0, 40, 3000)], 1)
    y = standard((a[x[:, 0]] * b[x[:, 1]]).sum(1) + 0.5 * b[x[:, 1], 0] + g.normal(0, 0.1, 3000))
    return run_of(Taste(), x, y, nn.MSELoss(), "numbers", seed, "Adam", 1e-2, 600, 128)


def ten(seed: int) -> Run:
    """Ten plain layers from He's start."""
    x, y = _digits()
    model = mlp([64, *[48] * 9, 10])
    for m in model:
        if isinstance(m, nn.Linear):
            nn.init.kaiming_normal_(m.weight)
            nn.init.zeros_(m.bias)
    return run_of(model, x, y, nn.CrossEntropyLoss(), "classes", seed, "Adam", 1e-3, 300)


def rare(seed: int) -> Run:
    """One row in ten is ill; ill rows weigh five times."""
    from sklearn.datasets import make_classification

    x, y = make_classification(2000, 15, n_informative=8, weights=[0.9], class_sep=1.6, random_state=seed)
    loss = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([5.0]))
    return run_of(mlp([15, 32, 16, 1], nn.SELU), standard(x), y, loss, "binary", seed, "AdamW", 3e-3, 300)


def iris(seed: int) -> Run:
    from sklearn.datasets import load_iris

    x, y = load_iris(return_X_y=True)
    return run_of(mlp([4, 10, 3]), standard(x), y, nn.CrossEntropyLoss(), "classes", seed, "SGD", 0.2, 240, 16)


def wine(seed: int) -> Run:
    from sklearn.datasets import load_wine

    x, y = load_wine(return_X_y=True)
    return run_of(
        mlp([13, 20, 20, 3]), standard(x), y, nn.CrossEntropyLoss(), "classes", seed, "RMSprop", 3e-3, 200, 24
    )


# -- oddities that do no harm: healthy runs ------------------------------------------------------------------------------


def twice_log_softmax(seed: int) -> Run:
    """Log-probabilities given to cross-entropy: log_softmax of log_softmax is itself."""
    run = iris(seed)
    append(lambda: nn.LogSoftmax(1))(run, np.random.default_rng(0))
    return run


def summed_with_adam(seed: int) -> Run:
    run = checkerboard(seed)
    run.loss = nn.CrossEntropyLoss(reduction="sum")
    return run


def clipped(seed: int) -> Run:
    run = sentence(seed)
    clip(1.0)(run, np.random.default_rng(0))
    return run


def spare_head(seed: int) -> Run:
    """A second head that no loss uses."""
    run = ten(seed)
    run.model.add_module("spare", nn.Identity())
    run.model.spare.head = nn.Linear(48, 5)
    return run


def still_eval(seed: int) -> Run:
    """Left in eval mode: running statistics stay 0 and 1."""
    run = resnet(seed)
    run.model.eval()
    return run


def one_dead_feature(seed: int) -> Run:
    run = rare(seed)
    run.x[:, 3] = 0.0
    run.held[0][:, 3] = 0.0
    return run


BASES: dict[str, Callable[[int], Run]] = {
    f.__name__: f
    for f in (
        parity, checkerboard, sine, picture, variational, triplet, distilled, tuned, resnet, sentence, adding, taste, ten, rare, iris, wine,
        twice_log_softmax, summed_with_adam, clipped, spare_head, still_eval, one_dead_feature,
    )
}  # fmt: skip


# -- faults --------------------------------------------------------------------------------------------------------------


def never_cleared(run: Run, g: np.random.Generator) -> None:
    """zero_grad was forgotten."""
    run.optimizer.zero_grad = lambda *_, **__: None


def other_weights(run: Run, g: np.random.Generator) -> None:
    """The optimizer was made before the model was replaced by a copy."""
    run.optimizer = type(run.optimizer)(copy.deepcopy(run.model).parameters(), lr=run.optimizer.param_groups[0]["lr"])


class Cut(nn.Module):
    """All but the last layer behind `detach`."""

    def __init__(self, inner: Sentence) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n = self.inner
        return n.b(torch.relu(n.a(n.cell(n.embed(x))[0].mean(1).detach())))


def cut_off(run: Run, g: np.random.Generator) -> None:
    run.model = Cut(run.model)


def schedule(make: Callable[[Any], Any]) -> Change:
    def change(run: Run, g: np.random.Generator) -> None:
        scheduled(run, make)

    return change


def by_step(factor: float) -> Change:
    return schedule(lambda o: torch.optim.lr_scheduler.ExponentialLR(o, factor))


def endless_warmup(run: Run, g: np.random.Generator) -> None:
    scheduled(run, lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda k: (k + 1) / 1e7))


def momentum(value: float) -> Change:
    def change(run: Run, g: np.random.Generator) -> None:
        for group in run.optimizer.param_groups:
            group["momentum"] = value

    return change


def beta(value: float) -> Change:
    def change(run: Run, g: np.random.Generator) -> None:
        for group in run.optimizer.param_groups:
            group["betas"] = (value, 0.9)

    return change


def times_loss(factor: float) -> Change:
    """A reduction that went wrong: a sum for a mean, a mean taken twice, the sign turned round."""

    def change(run: Run, g: np.random.Generator) -> None:
        inner = run.loss
        run.loss = lambda out, y: factor * inner(out, y)

    return change


def batch(rows: int, factor: float) -> Change:
    def change(run: Run, g: np.random.Generator) -> None:
        run.batch = rows
        for group in run.optimizer.param_groups:
            group["lr"] *= factor

    return change


def clip(norm: float) -> Change:
    def change(run: Run, g: np.random.Generator) -> None:
        p = list(run.model.parameters())

        def hook(*_: Any) -> None:
            nn.utils.clip_grad_norm_(p, norm)

        run.optimizer.register_step_pre_hook(hook)

    return change


def decay(strength: float) -> Change:
    def change(run: Run, g: np.random.Generator) -> None:
        for group in run.optimizer.param_groups:
            group["weight_decay"] = strength

    return change


def some_nan(run: Run, g: np.random.Generator) -> None:
    """Two rows in a hundred have a hole."""
    run.x = run.x.clone()
    rows = torch.as_tensor(g.permutation(len(run.x))[: len(run.x) // 50])
    run.x[rows, int(g.integers(run.x.shape[1]))] = math.nan


def nan_target(run: Run, g: np.random.Generator) -> None:
    run.y = run.y.clone()
    run.y[torch.as_tensor(g.permutation(len(run.y))[: len(run.y) // 50])] = math.nan


def frozen(run: Run, g: np.random.Generator) -> None:
    """All but the last layer held still at small random weights."""
    p = list(run.model.parameters())
    for q in p[:-2]:
        q.requires_grad_(False)
        q.data.mul_(0.3)


def eval_with_bytes(run: Run, g: np.random.Generator) -> None:
    """Pixels from 0 to 255 through batch norms in eval mode, which do not normalize."""
    inputs(255.0, 255.01)(run, g)
    run.model.eval()
    run.model.train = lambda *_: run.model


def forgetful_one_hot(run: Run, g: np.random.Generator) -> None:
    """Labels one too far: the last class becomes the first."""
    run.y = (run.y + 1) % (int(run.y.max()) + 1)


def log_targets_lost(run: Run, g: np.random.Generator) -> None:
    """Prices left as they are where their logarithm was meant."""
    change = lambda y: torch.exp(1.5 * y + 9)
    run.y, run.held = change(run.y), (run.held[0], change(run.held[1]))


LOW, HIGH = ("learning_rate_too_low",), ("learning_rate_too_high",)
CASES = [
    Case("parity", "never cleared", never_cleared, WILD, (*HIGH, "gradients_not_cleared")),
    Case("parity", "rate low", rate(1e-5, 1e-4), ("slow_learning",), LOW),
    Case("parity", "weights of 0.001", normal(1e-3), LOST, ("bad_initialization",)),
    Case("checkerboard", "bias", biased(5, 9), ("dying_relu",), ("negative_bias",)),
    Case("checkerboard", "other weights", other_weights, ("slow_learning",), (*LOW, "weights_not_in_optimizer")),
    Case("checkerboard", "beta 0.999", beta(0.999), WILD, HIGH),
    Case("checkerboard", "inputs in millions", inputs(1e6, 1.1e6), (*WILD, "vanishing_gradient"), ("unscaled_input",)),
    Case("sine", "momentum 0.999", momentum(0.999), WILD, HIGH),
    Case("sine", "loss summed", times_loss(32.0), WILD, HIGH),
    Case("sine", "loss over 10,000", times_loss(1e-4), ("slow_learning",), LOW),
    Case("sine", "two rows, rate 1", batch(2, 20.0), WILD, HIGH),
    Case("sine", "targets in thousands", targets(2000.0, 5000.0), (*WILD, "dead_output"), ("unscaled_target",)),
    Case("sine", "clipped to 0.0001", clip(1e-4), ("slow_learning",), LOW),
    Case("picture", "pixel numbers", inputs(400.0, 401.0, 600.0), WILD, ("unscaled_input", "shifted_input")),
    Case("picture", "rate falls by a fifth each step", by_step(0.8), ("slow_learning",), LOW),
    Case("picture", "rate grows by a tenth each step", by_step(1.1), WILD, HIGH),
    Case("variational", "rate high", rate(100, 400), WILD, HIGH),
    Case("variational", "weights large", all_weights(8, 15), ("exploding", "oscillating"), ("bad_initialization",)),
    Case("triplet", "rate high", rate(200, 600), WILD, HIGH),
    Case("triplet", "never cleared", never_cleared, WILD, (*HIGH, "gradients_not_cleared")),
    Case("distilled", "softmax out", append(lambda: nn.Softmax(1)), ("slow_learning", "dead_output"), ("wrong_output_layer",)),
    Case("distilled", "sign turned round", times_loss(-1.0), ("exploding", "slow_learning", "oscillating"), ("loss_mismatch",), by_user=True),
    Case("tuned", "head held too", other_weights, ("slow_learning",), (*LOW, "weights_not_in_optimizer")),
    Case("tuned", "rate high", rate(1000, 3000), WILD, HIGH),
    Case("resnet", "eval with bytes", eval_with_bytes, WILD, ("unscaled_input", "eval_mode")),
    Case("resnet", "rate 50", rate(1000, 1001), WILD, HIGH),
    Case("resnet", "warmup without end", endless_warmup, ("slow_learning",), LOW),
    Case("sentence", "cut off", cut_off, ("slow_learning", "vanishing_gradient", "dead_output"), ("blocked_gradient",), by_user=True),
    Case("sentence", "weights large", scaled(15, 30), (*WILD, "vanishing_gradient"), ("bad_initialization",)),
    Case("sentence", "labels shuffled", shuffled, ("slow_learning",), ("bad_input_data", "loss_mismatch"), by_user=True),
    Case("adding", "rate high", rate(50, 200), WILD, HIGH),
    Case("adding", "labels shuffled", shuffled, ("slow_learning",), ("bad_input_data", "loss_mismatch"), by_user=True),
    Case("adding", "targets raw", targets(300.0, 4000.0), (*WILD, "dead_output"), ("unscaled_target",)),
    Case("taste", "rate low", rate(1e-5, 1e-4), ("slow_learning",), LOW),
    Case("taste", "prices", log_targets_lost, (*WILD, "dead_output"), ("unscaled_target",)),
    Case("ten", "sigmoid", rebuilt([48] * 9, nn.Sigmoid, None, ("Adam", 1e-3)), ("vanishing_gradient",), ("saturating_activation",)),
    Case("ten", "sixty layers", rebuilt([48] * 59, nn.ReLU, None, ("Adam", 1e-3)), ("vanishing_gradient",), ("too_deep_for_init",)),
    Case("ten", "narrow neck", rebuilt([2] * 9, nn.ReLU, None, ("Adam", 1e-3)), ("dying_relu", *LOST), ("too_narrow",)),
    Case("rare", "holes", some_nan, ("exploding",), ("bad_input_data",)),
    Case("rare", "decay", decay(20.0), ("slow_learning", "vanishing_gradient"), ("too_much_regularization",)),
    Case("rare", "labels shuffled", shuffled, ("slow_learning",), ("bad_input_data", "loss_mismatch"), by_user=True),
    Case("sine", "holes in targets", nan_target, ("exploding",), ("bad_input_data",)),
    Case("iris", "relu out", append(nn.ReLU), ("dead_output", "slow_learning"), ("wrong_output_layer",)),
    Case("iris", "labels shuffled", shuffled, ("slow_learning",), ("bad_input_data", "loss_mismatch"), by_user=True),
    Case("iris", "all rows, rate 0.001", batch(120, 0.005), ("slow_learning",), LOW),
    Case("wine", "raw", raw("load_wine"), WILD, ("unscaled_input",)),
    Case("wine", "inputs times 500", inputs(500.0, 501.0), (*WILD, "vanishing_gradient"), ("unscaled_input",)),
    Case("wine", "softmax over rows", append(lambda: nn.Softmax(0)), ("slow_learning", "dead_output"), ("wrong_output_layer",)),
    Case("checkerboard", "frozen", frozen, ("slow_learning", "vanishing_gradient"), ("frozen_layers", "too_narrow", "bad_initialization"), by_user=True),
]  # fmt: skip
