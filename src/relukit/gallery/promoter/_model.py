"""The network: one layer of filters read along both strands, two more of ReLUs, then activity and its level."""

from typing import Any

import numpy as np

from relukit.gallery._life import Array, codes, one_hot, seeded, train_module

LENGTH, WIDTH, FILTERS, ACTIVE, SHIFT = 150, 11, 40, 0.2456, 4
FLOOR = 0.05  # added to the activity before its logarithm: readings scatter by about this much around 0


def build() -> Any:
    """A fresh module: (count, 4, 150) to (count, 2): the logit of "active", and the standardized log activity."""
    import torch
    from torch import nn

    class Promoter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.filters = nn.Conv1d(4, FILTERS, WIDTH, padding=WIDTH // 2)
            self.second = nn.Conv1d(2 * FILTERS, 56, 7, padding=3)
            self.third = nn.Conv1d(56, 56, 5, padding=2)
            self.hidden = nn.Linear(560, 64)
            self.out = nn.Linear(64, 2)
            self.drop, self.light = nn.Dropout(0.4), nn.Dropout(0.15)

        def forward(self, x: Any) -> Any:
            other = self.filters(x.flip(1, 2)).relu().flip(2)  # A C G T reversed is its complement
            z = torch.cat([self.filters(x).relu(), other], 1)
            z = self.light(nn.functional.max_pool1d(z, 3))
            z = self.light(nn.functional.max_pool1d(self.second(z).relu(), 2))
            z = nn.functional.adaptive_avg_pool1d(self.third(z).relu(), 10).flatten(1)
            return self.out(self.drop(self.hidden(self.drop(z)).relu()))

    return Promoter()


def encode(sequences: list[str]) -> Any:
    import torch

    return torch.from_numpy(one_hot(codes(sequences, LENGTH)))


def level(expression: Array) -> Array:
    return np.log(np.maximum(expression, 0) + FLOOR)


def fit(sequences: list[str], expression: Array, seed: int, epochs: int) -> Any:
    """Train on activity and level together; each batch is moved by up to 4 bases."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    x = encode(sequences)
    active = torch.tensor(expression > ACTIVE, dtype=torch.float32)
    goal = level(expression)
    goal = torch.tensor((goal - goal.mean()) / goal.std(), dtype=torch.float32)
    generator = np.random.default_rng(seed)
    with seeded(seed):
        module = build()

        def loss(rows: Any) -> Any:
            shift = int(generator.integers(-SHIFT, SHIFT + 1))
            moved = torch.roll(x[rows], shift, 2)
            if shift:
                moved[:, :, slice(None, shift) if shift > 0 else slice(shift, None)] = 0
            out = module(moved)
            return (
                binary_cross_entropy_with_logits(out[:, 0], active[rows]) + 0.5 * ((out[:, 1] - goal[rows]) ** 2).mean()
            )

        return train_module(module, loss, len(x), epochs=epochs, learning_rate=3e-3, batch=128, seed=seed)


def predict(modules: list[Any], sequences: list[str]) -> Array:
    """(networks, count, 2)."""
    import torch

    x = encode(sequences)
    with torch.no_grad():
        return np.stack([torch.cat([m(part) for part in x.split(512)]).numpy() for m in modules]).astype(float)


def attributions(modules: list[Any], sequences: list[str]) -> Array:
    """(count, 4, 150): the affine map of the piece each sequence falls in, averaged over networks.

    ReLU and max pooling are piecewise linear, so the gradient at a sequence is the exact linear part of its piece; at each
    place the mean over the four letters is taken off, since one letter is always there.
    """
    import torch

    total = 0.0
    for module in modules:
        x = encode(sequences).requires_grad_()
        (slope,) = torch.autograd.grad(module(x)[:, 0].sum(), x)
        total = total + slope.numpy()
    slope = total / len(modules)
    return slope - slope.mean(1, keepdims=True)
