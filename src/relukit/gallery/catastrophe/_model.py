r"""A ReLU network whose loss cannot fall with depth or value, nor pass the value.

:math:`L = v \exp(-\max(0, \ln v - h))` with `h` a network is :math:`\min(v, e^h)`. Inputs that must only raise `h` enter
behind the free layers and meet nonnegative weights alone; each hidden unit carries a sign s, so that half of them bend
upward and half downward: :math:`s\,\mathrm{relu}(s\,(W z + b))` is increasing for either sign.

One claim tells little (the ratio scatters by 0.2), and a network that cannot fall fits such noise slowly. So it is taught what a few
boosted forests, monotone as well, expect: on the claims, and on rows mixed from them, which no noise comes with.

References:
    Constrained monotonic neural networks, Runje and Shankaranarayana, 2023.
    Distilling the knowledge in a neural network, Hinton, Vinyals and Dean, 2015.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from relukit.gallery.catastrophe._claims import MONOTONE

FREE, WIDTH = 32, 32
BAND, DROPPED = 0.9, 0.2
FORESTS, SWAPPED = 4, 0.15  # teachers; share of a mixed row's entries that come from other rows


def _module(inputs: int, outputs: int, dropped: float = DROPPED) -> Any:
    import torch
    from torch import nn

    class Monotone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.free1 = nn.Linear(inputs, FREE)
            self.free2 = nn.Linear(FREE, FREE)
            self.rise1 = nn.Linear(FREE + MONOTONE, WIDTH)
            self.rise2 = nn.Linear(WIDTH, WIDTH)
            self.last = nn.Linear(WIDTH, outputs)
            self.register_buffer("sign", torch.tensor([1.0, -1.0]).repeat(WIDTH // 2))
            with torch.no_grad():
                self.rise1.weight[:, FREE:].abs_().add_(0.1)
                self.last.bias.fill_(2.0)

        def layers(self) -> list[tuple[Any, Any]]:
            """Weights and biases of the plain chain this is: affine, ReLU, ..., affine."""
            s = self.sign
            eye = torch.eye(MONOTONE)
            first = self.free1.weight.clone()
            first = torch.cat([torch.cat([torch.zeros(FREE, MONOTONE), first[:, MONOTONE:]], 1),
                               torch.cat([eye, torch.zeros(MONOTONE, inputs - MONOTONE)], 1)])  # fmt: skip
            second = torch.block_diag(self.free2.weight, eye)
            third = torch.cat([self.rise1.weight[:, :FREE], self.rise1.weight[:, FREE:].abs()], 1) * s[:, None]
            pad = lambda b: torch.cat([b, torch.zeros(MONOTONE)])
            return [
                (first, pad(self.free1.bias)),
                (second, pad(self.free2.bias)),
                (third, self.rise1.bias * s),
                (self.rise2.weight.abs() * s[:, None] * s[None], self.rise2.bias * s),
                (self.last.weight.abs() * s[None], self.last.bias),
            ]

        def forward(self, x: Any) -> Any:
            chain = self.layers()
            for W, b in chain[:-1]:
                x = torch.relu(x @ W.T + b)
                if self.training and len(b) == FREE + MONOTONE:
                    x = torch.cat([nn.functional.dropout(x[:, :FREE], dropped), x[:, FREE:]], 1)
            return x @ chain[-1][0].T + chain[-1][1]

    return Monotone()


def fit(
    x: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    seed: int,
    epochs: int,
    quantiles: bool = False,
    dropped: float = DROPPED,
) -> dict[str, np.ndarray]:
    """Train one network; returns its plain chain (`W0`, `b0`, ...). Squared error, or pinball for the band's ends."""
    import torch

    from relukit.gallery._life import seeded, train_module

    X, Y, S = (torch.tensor(a, dtype=torch.float32) for a in (x, y, weight))
    levels = torch.tensor([(1 - BAND) / 2, (1 + BAND) / 2])
    with seeded(seed):
        module = _module(x.shape[1], 2 if quantiles else 1, dropped)

        def loss(rows: Any) -> Any:
            h = module(X[rows])
            gap = X[rows, 1:2] - h  # ln v - h, on the scale of that input
            r = torch.exp(-torch.relu(gap))
            over = torch.relu(-gap).square().mean() * 1e-3  # keeps units at the cap from losing their gradient
            e = Y[rows, None] - r
            each = torch.maximum(levels * e, (levels - 1) * e).sum(1) if quantiles else e.square()[:, 0]
            return (S[rows] * each).mean() + over

        train_module(module, loss, len(x), epochs=epochs, learning_rate=1e-2, weight_decay=0.3, batch=256, seed=seed)
    chain = [(W.detach().double().numpy(), b.detach().double().numpy()) for W, b in module.layers()]
    return {f"{k}{i}": a for i, (W, b) in enumerate(chain) for k, a in (("W", W), ("b", b))}


def taught(x: np.ndarray, y: np.ndarray, weight: np.ndarray, seed: int, epochs: int) -> dict[str, np.ndarray]:
    """A network that learns from boosted forests what to expect; as many passes over rows as `fit` with twice the epochs."""
    from lightgbm import LGBMRegressor

    forests = [
        LGBMRegressor(
            n_estimators=180, learning_rate=0.06, num_leaves=15, min_child_samples=30, subsample=0.7, subsample_freq=1,
            colsample_bytree=0.6, monotone_constraints=[1, -1] + [0] * (x.shape[1] - MONOTONE),
            random_state=FORESTS * seed + k, verbose=-1, n_jobs=1,
        ).fit(x, y, sample_weight=weight)
        for k in range(FORESTS)
    ]  # fmt: skip
    rng = np.random.default_rng(seed)
    mixed = x.copy()
    for column in mixed.T:
        swap = rng.random(len(x)) < SWAPPED
        column[swap] = column[rng.integers(0, len(x), swap.sum())]
    rows = np.concatenate([x, mixed])
    told = np.mean([np.asarray(f.predict(rows)) for f in forests], 0).clip(0, 1)
    return fit(rows, told, np.concatenate([weight, weight]), seed, epochs, dropped=0.0)


def raised(chain: dict[str, np.ndarray], level: float) -> dict[str, np.ndarray]:
    """The network with every loss below the cap times e^level: a constant on the last bias, so that what is proven stays proven."""
    last = f"b{len(chain) // 2 - 1}"
    return {**chain, last: chain[last] + level}


def ratio(network: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    """Loss over value of each row, (rows, outputs) in (0, 1]."""
    return np.exp(-np.maximum(0.0, x[:, 1:2] - network(x)))


def monotone(chain: dict[str, np.ndarray]) -> bool:
    """Proof by signs: every path from a monotone input to the output has a product of weights that is not negative."""
    up = np.zeros((chain["W0"].shape[1], MONOTONE), bool)
    up[:MONOTONE] = np.eye(MONOTONE, dtype=bool)
    down = np.zeros_like(up)
    for i in range(len(chain) // 2):
        W = chain[f"W{i}"]
        plus, minus = (W > 0).astype(int), (W < 0).astype(int)
        up, down = (plus @ up + minus @ down) > 0, (plus @ down + minus @ up) > 0
    return not down.any()
