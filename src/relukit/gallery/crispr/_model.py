"""The network: convolutions with ReLUs over bases and base pairs, summaries beside them, one output per kind of screen.

Both kinds of screen train the trunk; each has its own last row, since they measure activity on different scales.
"""

from typing import Any

import numpy as np

from relukit.gallery._life import Array, codes, save_states, seeded, train_module
from relukit.gallery.crispr._features import LENGTH, positions, summaries
from relukit.gallery.crispr._screens import Screen

CHANNELS, HIDDEN, DROP, SECOND_WEIGHT = 24, 64, 0.4, 0.5


def build(center: Array, spread: Array) -> Any:
    """A fresh module; it takes (count, 20, 30) positions and (count, 35) summaries."""
    import torch
    from torch import nn

    class Guide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.three = nn.Conv1d(20, CHANNELS, 3, padding=1)
            self.five = nn.Conv1d(20, CHANNELS, 5, padding=2)
            self.deep = nn.Conv1d(2 * CHANNELS, 2 * CHANNELS, 3, padding=1)
            self.hidden = nn.Linear(2 * CHANNELS * LENGTH // 2 + len(center), HIDDEN)
            self.out = nn.Linear(HIDDEN, 2)
            self.drop, self.light = nn.Dropout(DROP), nn.Dropout(0.1)
            self.register_buffer("center", torch.as_tensor(center))
            self.register_buffer("spread", torch.as_tensor(spread))

        def forward(self, position: Any, summary: Any) -> Any:
            z = torch.cat([self.three(position).relu(), self.five(position).relu()], 1)
            z = z + self.deep(self.light(z)).relu()
            z = nn.functional.avg_pool1d(z, 2).flatten(1)
            z = self.drop(torch.cat([z, (summary - self.center) / self.spread], 1))
            return self.out(self.drop(self.hidden(z).relu()))

    return Guide()


def inputs(sequences: list[str]) -> tuple[Any, Any]:
    import torch

    numbers = codes(sequences, LENGTH)
    return torch.from_numpy(positions(numbers)), torch.from_numpy(summaries(numbers))


def targets(screen: Screen) -> Array:
    """Ranks stay; fold changes become ranks in (0, 1), so that one squared error suits both."""
    from scipy.stats import rankdata

    return screen.activity if screen.kind == 0 else rankdata(screen.activity) / len(screen.activity)


def fit(screens: list[Screen], keep: list[Array], seed: int, epochs: int) -> Any:
    """Train one network on the rows `keep[k]` of each screen."""
    import torch

    sequences = [screen.sequences[i] for screen, rows in zip(screens, keep) for i in rows]
    position, summary = inputs(sequences)
    goal = torch.tensor(np.concatenate([targets(s)[rows] for s, rows in zip(screens, keep)]), dtype=torch.float32)
    weight = torch.tensor(
        np.concatenate([s.weights[rows] * (SECOND_WEIGHT if s.kind else 1) for s, rows in zip(screens, keep)]),
        dtype=torch.float32,
    )
    kind = torch.tensor(np.concatenate([np.full(len(rows), s.kind) for s, rows in zip(screens, keep)]))
    numbers = summary.numpy()
    with seeded(seed):
        module = build(numbers.mean(0), numbers.std(0) + 1e-6)

        def loss(rows: Any) -> Any:
            out = module(position[rows], summary[rows]).gather(1, kind[rows, None])[:, 0]
            return (weight[rows] * (out - goal[rows]) ** 2).mean()

        return train_module(module, loss, len(goal), epochs=epochs, seed=seed)


def predict(modules: list[Any], sequences: list[str]) -> Array:
    """(networks, count, 2): activity of each guide on both scales."""
    import torch

    position, summary = inputs(sequences)
    with torch.no_grad():
        return np.stack([m(position, summary).numpy() for m in modules]).astype(float)


def save(path: Any, modules: list[Any], **extra: Any) -> None:
    save_states(path, [m.state_dict() for m in modules], **extra)


def restore(states: list[dict[str, Any]]) -> list[Any]:
    modules = []
    for state in states:
        module = build(state["center"].numpy(), state["spread"].numpy())
        module.load_state_dict(state)
        modules.append(module.eval())
    return modules
