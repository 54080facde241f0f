"""A CNN from two pictures to steering and pedal, taught by DAgger."""

from collections.abc import Callable
from typing import Any

import numpy as np

from relukit.gallery._life import seeded, train_module
from relukit.gallery.car_racing._circuit import SIDE, Expert, episode, make

Array = np.ndarray
SHAPE = (2, SIDE, SIDE)
ROUNDS = (
    (4, 12),
    *((3, 6),) * 4,
    *((4, 6),) * 4,
    (4, 24),
)  # episodes and epochs; after the first round the network drives


def build() -> Any:
    """Three convolutions and two dense layers, 30,000 parameters."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(2, 12, 5, 3, 1), nn.ReLU(), nn.Conv2d(12, 24, 3, 2), nn.ReLU(), nn.Conv2d(24, 32, 3, 2), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 9, 64), nn.ReLU(), nn.Linear(64, 2),
    )  # fmt: skip


def driving(module: Any) -> Callable[[Array], Array]:
    """Commands of a torch module for two pictures (2, 48, 48) of bytes."""
    import torch

    def drive(both: Array) -> Array:
        with torch.no_grad():
            return module(torch.from_numpy(both).float().div_(255)[None])[0].double().numpy()

    return drive


class _Teacher:
    """Drives as the expert while pictures are drawn."""

    def __init__(self, env: Any) -> None:
        self.env, self.expert = env, None

    def __call__(self, _: Array) -> Array:
        if self.env.t <= 0.04 or self.expert is None:
            self.expert = Expert(self.env)
        return self.expert()


def train(
    seed: int, rounds: tuple[tuple[int, int], ...] = ROUNDS, on_round: Callable[[], None] = lambda: None
) -> tuple[Any, list[float]]:
    """A module, and the mean return of each round's episodes (those of the network, from the second round on)."""
    import torch

    env, generator = make(), np.random.default_rng(seed)
    frames, wanted, returns = [], [], []
    with seeded(seed):
        module = build()
        for k, (episodes, epochs) in enumerate(rounds):
            reached = []
            for j in range(episodes):
                drive = _Teacher(env) if k == 0 else driving(module.eval())
                total, x, y = episode(env, 1_000_000 + 1000 * seed + 10 * k + j, drive, _Push(generator))
                frames.append(x)
                wanted.append(y)
                reached.append(total)
            returns.append(float(np.mean(reached)))
            X, Y = torch.from_numpy(np.concatenate(frames)), torch.from_numpy(np.concatenate(wanted)).float()
            _teach(module, X, Y, epochs, 100 * seed + k)
            on_round()
    return module.eval(), returns


class _Push:
    """Pushes the steering aside now and then, so that recovery is seen."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator, self.push = generator, 0.0

    def __call__(self, command: Array) -> Array:
        self.push = self.generator.normal(0, 0.5) if self.generator.random() < 0.06 else 0.7 * self.push
        return command + np.array([self.push, 0.0])


def _teach(module: Any, X: Any, Y: Any, epochs: int, seed: int) -> None:
    import torch

    def loss(rows: Any) -> Any:
        x, y = X[rows].float().div_(255), Y[rows].clone()
        half = len(rows) // 2
        x[:half, :, :42] = x[:half, :, :42].flip(-1)  # the indicators below keep their place
        y[:half, 0] *= -1
        return torch.nn.functional.smooth_l1_loss(module(x), y, beta=0.2)

    train_module(module, loss, len(X), epochs=epochs, learning_rate=3e-3, weight_decay=0.02, batch=64, seed=seed)
