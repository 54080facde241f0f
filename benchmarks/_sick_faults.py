"""Faults of the benchmark `sick_kinds`: each changes a healthy run in place."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.sick import Run, mlp

Change = Callable[[Run, np.random.Generator], None]


@dataclass(frozen=True)
class Case:
    """A fault on a base: symptoms and causes that count as right. `by_user`: what is wrong lies outside model and optimizer."""

    base: str
    fault: str
    change: Change
    symptoms: tuple[str, ...]
    causes: tuple[str, ...]
    by_user: bool = False


def standard(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(0)) / np.maximum(x.std(0), 1e-6)


def run_of(
    model: nn.Module, x: Any, y: Any, loss: Any, task: str, seed: int, optimizer: str, rate: float, steps: int, batch: int = 64
) -> Run:  # fmt: skip
    """A run on four fifths of the rows, the rest held back."""
    order = np.random.default_rng(seed + 7).permutation(len(x))
    x, y = np.asarray(x)[order], np.asarray(y)[order]
    cut = len(x) * 4 // 5
    rows = torch.as_tensor(x, dtype=torch.float32 if x.dtype.kind == "f" else torch.long)
    goal = torch.as_tensor(y, dtype=torch.long if task == "classes" else torch.float32)
    goal = goal[:, None] if task != "classes" and goal.ndim == 1 else goal
    run = Run(model, None, loss, rows[:cut], goal[:cut], (rows[cut:], goal[cut:]), task, steps, min(batch, cut))
    set_optimizer(run, optimizer, rate)
    return run


def set_optimizer(run: Run, name: str, rate: float) -> None:
    p = list(run.model.parameters())
    if name == "Momentum":
        run.optimizer = torch.optim.SGD(p, rate, momentum=0.9)
    else:
        run.optimizer = getattr(torch.optim, name)(p, rate)


def rate(low: float, high: float) -> Change:
    def change(run: Run, g: np.random.Generator) -> None:
        factor = 10 ** float(g.uniform(math.log10(low), math.log10(high)))
        for group in run.optimizer.param_groups:
            group["lr"] *= factor

    return change


def inputs(low: float, high: float, offset: float = 0.0) -> Change:
    def change(run: Run, g: np.random.Generator) -> None:
        factor = 10 ** float(g.uniform(math.log10(low), math.log10(high)))
        rescale(run, factor, offset)

    return change


def rescale(run: Run, factor: Any, offset: Any = 0.0) -> None:
    run.x, run.held = run.x * factor + offset, (run.held[0] * factor + offset, run.held[1])


@torch.no_grad()
def weights(run: Run, change: Any, hidden_only: bool = False) -> None:
    """Applies `change(weight, bias)` to every layer (recurrent ones by each of their matrices)."""
    found = []
    for m in run.model.modules():
        if isinstance(m, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            found.append((m.weight, m.bias))
        elif isinstance(m, nn.RNNBase):
            found += [(m.weight_ih_l0, m.bias_ih_l0), (m.weight_hh_l0, m.bias_hh_l0)]
    for w, b in found[: -1 if hidden_only else None]:
        change(w, b)


def scaled(low: float, high: float) -> Change:
    def change(run: Run, g: np.random.Generator) -> None:
        factor = 10 ** float(g.uniform(math.log10(low), math.log10(high)))
        weights(run, lambda w, b: (w.mul_(factor), b.mul_(factor)))

    return change


def filled(value: float) -> Change:
    return lambda run, g: weights(run, lambda w, b: (w.fill_(value), b.zero_()))


def normal(deviation: float) -> Change:
    def change(run: Run, g: np.random.Generator) -> None:
        generator = torch.Generator().manual_seed(int(g.integers(1 << 30)))
        weights(run, lambda w, b: (w.copy_(deviation * torch.randn(w.shape, generator=generator)), b.zero_()))

    return change


def negative(run: Run, g: np.random.Generator) -> None:
    weights(run, lambda w, b: (w.copy_(-w.abs()), b.zero_()), hidden_only=True)


def biased(low: float, high: float) -> Change:
    def change(run: Run, g: np.random.Generator) -> None:
        shift = -float(g.uniform(low, high))
        weights(run, lambda w, b: b.fill_(shift), hidden_only=True)

    return change


def append(module: Callable[[], nn.Module]) -> Change:
    def change(run: Run, g: np.random.Generator) -> None:
        inner = list(run.model) if isinstance(run.model, nn.Sequential) else [run.model]
        run.model = nn.Sequential(*inner, module())

    return change


def without_last(run: Run, g: np.random.Generator) -> None:
    assert isinstance(run.model, nn.Sequential)
    run.model = nn.Sequential(*list(run.model)[:-1])


def rebuilt(
    widths: list[int], make: Any = nn.ReLU, end: Any = None, optimizer: tuple[str, float] = ("Adam", 3e-3)
) -> Change:
    """Another stack of layers between the same ends."""

    def change(run: Run, g: np.random.Generator) -> None:
        outputs = run.y.shape[1] if run.y.ndim > 1 else int(run.y.max()) + 1
        first = [nn.Flatten()] if run.x.ndim > 2 else []
        body = mlp([run.x[0].numel(), *widths, outputs], make)
        run.model = nn.Sequential(*first, *body, *([end()] if end else []))
        set_optimizer(run, *optimizer)

    return change


def raw(loader: str) -> Change:
    """The set as it is bundled, not standardized."""

    def change(run: Run, g: np.random.Generator) -> None:
        from sklearn import datasets

        x = getattr(datasets, loader)(return_X_y=True)[0]
        spread, center = torch.as_tensor(x.std(0)).float(), torch.as_tensor(x.mean(0)).float()
        rescale(run, spread, center)

    return change


def friedman2_raw(run: Run, g: np.random.Generator) -> None:
    rescale(run, torch.tensor([29.0, 470.0, 0.29, 2.9]), torch.tensor([50.0, 940.0, 0.5, 6.0]))


def unscaled_target(run: Run, g: np.random.Generator) -> None:
    run.y, run.held = 380 * run.y + 480, (run.held[0], 380 * run.held[1] + 480)
    run.loss = nn.MSELoss()


def broadcast(run: Run, g: np.random.Generator) -> None:
    """Outputs of shape (n, 1) against targets of shape (n,): every output is compared with every target."""
    inner = run.loss

    def loss(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        a, b = torch.broadcast_tensors(out, y[:, 0])
        return inner(a, b)

    run.loss = loss


def one_output_cross_entropy(run: Run, g: np.random.Generator) -> None:
    inner = nn.CrossEntropyLoss()
    run.loss = lambda out, y: inner(out, torch.zeros(len(out), dtype=torch.long))


def class_numbers(run: Run, g: np.random.Generator) -> None:
    """Squared error between all ten outputs and the number of the class."""
    inner = nn.MSELoss()
    run.loss = lambda out, y: inner(out, y[:, None].float().expand_as(out))


LOST = ("slow_learning", "vanishing_gradient")
WILD = ("oscillating", "exploding", "dying_relu", "slow_learning")
