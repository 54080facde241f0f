"""A fourth set of trainings, as a course or a bug collection would have them: bundled and generated tables, plain loops, one fault each.

Kinds of fault follow what AutoTrainer (Zhang et al., 2021), DeepLocalize (Wardat et al., 2021) and DeepFD (Cao et al., 2022) describe.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks._sick_faults import LOST, WILD, Case, append, filled, inputs, normal, rebuilt, run_of, standard, weights
from benchmarks.sick import Run, mlp


def _digits() -> tuple[Any, Any]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return x / 16, y


def moons(seed: int) -> Run:
    from sklearn.datasets import make_moons

    x, y = make_moons(1000, noise=0.2, random_state=seed)
    return run_of(mlp([2, 32, 16, 2]), standard(x), y, nn.CrossEntropyLoss(), "classes", seed, "Adam", 5e-3, 400, 32)


def circles(seed: int) -> Run:
    """A probability out of a sigmoid, as Keras' examples have it."""
    from sklearn.datasets import make_circles

    x, y = make_circles(1000, noise=0.1, factor=0.4, random_state=seed)
    model = nn.Sequential(*mlp([2, 16, 16, 1]), nn.Sigmoid())
    return run_of(model, x, y, nn.BCELoss(), "probability", seed, "Adam", 1e-2, 400, 50)


def blobs(seed: int) -> Run:
    from sklearn.datasets import make_blobs

    x, y = make_blobs(900, 8, centers=6, cluster_std=3.0, random_state=seed)
    return run_of(mlp([8, 32, 6]), standard(x), y, nn.CrossEntropyLoss(), "classes", seed, "SGD", 0.1, 400, 32)


def diabetes(seed: int) -> Run:
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    return run_of(mlp([10, 32, 16, 1]), standard(x), standard(y), nn.MSELoss(), "numbers", seed, "Adam", 1e-3, 300, 32)


def digits(seed: int) -> Run:
    x, y = _digits()
    return run_of(mlp([64, 128, 64, 10]), x, y, nn.CrossEntropyLoss(), "classes", seed, "RMSprop", 1e-3, 300, 32)


def digits_one_hot(seed: int) -> Run:
    """Squared error between a softmax and one-hot targets; its score is that of a regression."""
    x, y = _digits()
    model = nn.Sequential(*mlp([64, 64, 10]), nn.Softmax(1))
    return run_of(model, x, np.eye(10)[y], nn.MSELoss(), "numbers", seed, "Adam", 3e-3, 400, 32)


def swiss(seed: int) -> Run:
    from sklearn.datasets import make_swiss_roll

    x, t = make_swiss_roll(1000, noise=0.2, random_state=seed)
    return run_of(mlp([3, 48, 48, 1]), standard(x), standard(t), nn.MSELoss(), "numbers", seed, "Adam", 5e-3, 500, 64)


def cancer(seed: int) -> Run:
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    model = mlp([30, 16, 8, 1], nn.Tanh)
    return run_of(model, standard(x), y, nn.BCEWithLogitsLoss(), "binary", seed, "Momentum", 0.02, 300, 16)


def lenet(seed: int) -> Run:
    x, y = _digits()
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 32), nn.ReLU(),
        nn.Linear(32, 10),
    )  # fmt: skip
    return run_of(model, x.reshape(-1, 1, 8, 8), y, nn.CrossEntropyLoss(), "classes", seed, "Momentum", 0.03, 400, 32)


def with_dropout(seed: int) -> Run:
    x, y = _digits()
    model = nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 10)
    )  # fmt: skip
    return run_of(model, x, y, nn.CrossEntropyLoss(), "classes", seed, "Adam", 2e-3, 400, 64)


def planes(seed: int) -> Run:
    """Twenty features of which five tell."""
    from sklearn.datasets import make_regression

    x, y, *_ = make_regression(900, 20, n_informative=5, noise=5, random_state=seed)
    return run_of(mlp([20, 64, 1]), x, standard(y), nn.MSELoss(), "numbers", seed, "SGD", 0.05, 400, 32)


BASES: dict[str, Callable[[int], Run]] = {
    f.__name__: f
    for f in (moons, circles, blobs, diabetes, digits, digits_one_hot, swiss, cancer, lenet, with_dropout, planes)
}

Change = Callable[[Run, np.random.Generator], None]


def set_rate(rate: float) -> Change:
    def change(run: Run, g: np.random.Generator) -> None:
        for group in run.optimizer.param_groups:
            group["lr"] = rate

    return change


def momentum(run: Run, g: np.random.Generator) -> None:
    for group in run.optimizer.param_groups:
        group["momentum"], group["lr"] = 0.99, 1.0


def decay(strength: float) -> Change:
    def change(run: Run, g: np.random.Generator) -> None:
        for group in run.optimizer.param_groups:
            group["weight_decay"] = strength

    return change


def drop_most(run: Run, g: np.random.Generator) -> None:
    for m in run.model.modules():
        if isinstance(m, nn.Dropout):
            m.p = 0.97


def one_row(run: Run, g: np.random.Generator) -> None:
    """One row a step, by steps for a hundred."""
    run.batch = 1
    set_rate(2.0)(run, g)


def bias_of(value: float) -> Change:
    return lambda run, g: weights(run, lambda w, b: b.fill_(value), hidden_only=True)


def raw_target(run: Run, g: np.random.Generator) -> None:
    """Blood values from 25 to 346."""
    run.y, run.held = 77 * run.y + 152, (run.held[0], 77 * run.held[1] + 152)


def one_softmax(run: Run, g: np.random.Generator) -> None:
    """A softmax over a single output is 1 for every row."""
    run.model = nn.Sequential(*list(run.model)[:-1], nn.Softmax(1))


def digit_numbers(run: Run, g: np.random.Generator) -> None:
    """The digit itself asked of each of ten outputs between 0 and 1."""
    numbers = lambda y: (y.argmax(1, keepdim=True).float() * torch.ones(1, 10)).contiguous()
    run.y, run.held = numbers(run.y), (run.held[0], run.held[1])


REGULARIZED = ("too_much_regularization",)
CASES = [
    Case("moons", "fifteen sigmoid layers", rebuilt([16] * 15, nn.Sigmoid, None, ("Adam", 5e-3)), ("vanishing_gradient",), ("saturating_activation",)),
    Case("moons", "zero weights", filled(0.0), (*LOST, "dying_relu", "dead_output"), ("bad_initialization",)),
    Case("moons", "rate 10", set_rate(10.0), WILD, ("learning_rate_too_high",)),
    Case("circles", "rate 1e-7", set_rate(1e-7), ("slow_learning",), ("learning_rate_too_low",)),
    Case("circles", "one softmax", one_softmax, ("dead_output",), ("wrong_output_layer",)),
    Case("circles", "ones", filled(1.0), (*LOST, *WILD), ("bad_initialization",)),
    Case("blobs", "inputs in thousands", inputs(3000, 3001, 10000.0), (*WILD, "vanishing_gradient"), ("unscaled_input", "shifted_input")),
    Case("blobs", "decay", decay(1.0), ("slow_learning", "vanishing_gradient"), REGULARIZED),
    Case("diabetes", "target raw", raw_target, (*WILD, "dead_output"), ("unscaled_target", "learning_rate_too_low")),
    Case("diabetes", "relu out", append(nn.ReLU), ("dead_output", "slow_learning"), ("wrong_output_layer",)),
    Case("diabetes", "twenty tanh layers of 0.01", lambda run, g: (rebuilt([16] * 20, nn.Tanh, None, ("Adam", 1e-3))(run, g), normal(0.01)(run, g)), LOST, ("bad_initialization", "too_deep_for_init")),
    Case("digits", "bytes", inputs(255.0, 255.001), WILD, ("unscaled_input",)),
    Case("digits", "weights of 5", normal(5.0), ("exploding", "oscillating"), ("bad_initialization",)),
    Case("digits", "softmax twice", append(lambda: nn.Softmax(1)), ("slow_learning", "dead_output"), ("wrong_output_layer",)),
    Case("digits_one_hot", "digit numbers", digit_numbers, ("slow_learning", "dead_output"), ("wrong_output_layer", "loss_mismatch"), by_user=True),
    Case("swiss", "sigmoid out", append(nn.Sigmoid), ("dead_output", "slow_learning"), ("wrong_output_layer",)),
    Case("swiss", "bias -10", bias_of(-10.0), ("dying_relu",), ("negative_bias",)),
    Case("cancer", "inputs times 1000", inputs(1000.0, 1001.0), (*WILD, "vanishing_gradient"), ("unscaled_input",)),
    Case("cancer", "momentum 0.99", momentum, WILD, ("learning_rate_too_high",)),
    Case("lenet", "bias -10", bias_of(-10.0), ("dying_relu",), ("negative_bias",)),
    Case("lenet", "bytes", inputs(255.0, 255.001), WILD, ("unscaled_input",)),
    Case("with_dropout", "drop 0.97", drop_most, ("slow_learning",), REGULARIZED),
    Case("with_dropout", "decay", decay(1.0), ("slow_learning", "vanishing_gradient"), REGULARIZED),
    Case("planes", "one row a step", one_row, WILD, ("learning_rate_too_high",)),
]  # fmt: skip
