"""A small CNN from a frame to a curvature, taught by the expert on frames that the CNN itself comes to see (DAgger)."""

from collections.abc import Callable
from typing import Any

import numpy as np

from relukit.gallery._life import seeded, train_module
from relukit.gallery.line_follower._draw import draw
from relukit.gallery.line_follower._robots import SHARPEST, Robots
from relukit.gallery.line_follower._world import HEIGHT, WIDTH, World

Array = np.ndarray
SHAPE = (2, HEIGHT, WIDTH)
TRACKS, FLEET, STEPS = 48, 96, 120  # of training; robots and frames of a round
EPOCHS = (3, 2, 2, 2, 2, 6)  # one entry a round: rounds after the first are driven by the network


def build() -> Any:
    """Three convolutions and two dense layers, 19,000 parameters; the output is a curvature over `SHARPEST`."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(2, 8, 5, 2, 2), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 24, 3, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(24 * (HEIGHT // 8) * (WIDTH // 8), 48), nn.ReLU(), nn.Linear(48, 1),
    )  # fmt: skip


def steering(module: Any) -> Callable[[Array, Any], Array]:
    """Commands [1/m] of a torch module or network for pictures (n, 2, 24, 32) of bytes."""
    import torch

    def steer(frames: Array, _: Any = None) -> Array:
        with torch.no_grad():
            x = torch.from_numpy(frames).float().div_(255)
            return module(x)[:, 0].double().numpy() * SHARPEST

    return steer


def train(
    seed: int, epochs: tuple[int, ...] = EPOCHS, on_round: Callable[[], None] = lambda: None
) -> tuple[Any, list[float]]:
    """A module and its error [1/m, RMS] on each round's frames before it was trained on them."""
    import torch

    world = World(draw(TRACKS, 10_000 + seed, crowded=True))
    robots = Robots(world, np.arange(FLEET) % TRACKS, seed)
    frames, wanted, errors = [], [], []
    with seeded(seed):
        module = build()
        for k, count in enumerate(epochs):
            x, y = collect(robots, None if k == 0 else steering(module.eval()))
            if k:
                errors.append(float(np.sqrt(np.mean((steering(module)(x) - y) ** 2))))
            frames.append(x)
            wanted.append(y)
            X = torch.from_numpy(np.concatenate(frames))
            Y = torch.from_numpy(np.concatenate(wanted) / SHARPEST).float()
            _teach(module, X, Y, count, seed * 100 + k, last=k + 1 == len(epochs))
            on_round()
    return module.eval(), errors


def _teach(module: Any, X: Any, Y: Any, epochs: int, seed: int, last: bool) -> None:
    import torch

    def loss(rows: Any) -> Any:
        x, y = X[rows].float().div_(255), Y[rows]
        half = len(rows) // 2
        x[:half], y[:half] = x[:half].flip(-1), -y[:half]  # a mirrored picture wants the opposite
        n = (len(rows), 1, 1, 1)
        x = (x * (0.75 + 0.5 * torch.rand(n)) + 0.1 * torch.rand(n) - 0.05 + 0.02 * torch.randn_like(x)).clamp_(0, 1)
        return torch.nn.functional.smooth_l1_loss(module(x)[:, 0], y, beta=0.2)

    train_module(module, loss, len(X), epochs=epochs, learning_rate=3e-3 if last else 2e-3, weight_decay=0.01, batch=128, seed=seed)  # fmt: skip


def collect(robots: Robots, steer: Callable[[Array, Any], Array] | None) -> tuple[Array, Array]:
    """Frames and what the expert wants there, while the expert (disturbed) or `steer` drives; the lost start anew."""
    robots.scatter(np.arange(len(robots.on)))
    frames, wanted = [], []
    push = np.zeros(len(robots.on))
    for step in range(STEPS):
        seen, label = robots.frames(), robots.expert()
        if step % 2 == 0:
            frames.append(seen)
            wanted.append(label)
        push = np.where(robots.random.random(len(push)) < 0.04, robots.random.normal(0, 4, len(push)), 0.85 * push)
        robots.advance((label if steer is None else steer(seen)) + push)
        away = np.flatnonzero(robots.lost() | (robots.random.random(len(push)) < 0.004))
        robots.scatter(away)
    return np.concatenate(frames), np.concatenate(wanted)
