"""One recipe for all factors: filters along both strands, the strongest response of each, a small ReLU network."""

from typing import Any

import numpy as np

from relukit.gallery._life import Array, one_hot, seeded, train_module
from relukit.gallery.tf_binding._data import LENGTH

WIDTH, FILTERS = 19, 24


def build() -> Any:
    """A fresh module: (count, 4, 101) to logits. Each strand is scanned with the same filters, the better one counts."""
    import torch
    from torch import nn

    class Site(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.filters = nn.Conv1d(4, FILTERS, WIDTH, padding=WIDTH // 2)
            self.hidden = nn.Linear(2 * FILTERS, 32)
            self.out = nn.Linear(32, 1)
            self.drop = nn.Dropout(0.2)

        def response(self, x: Any) -> Any:
            return torch.maximum(self.filters(x), self.filters(x.flip(1, 2)).flip(2)).relu()

        def forward(self, x: Any) -> Any:
            z = self.response(x)
            z = self.drop(torch.cat([z.amax(2), z.mean(2)], 1))
            return self.out(self.drop(self.hidden(z).relu()))[:, 0]

    return Site()


def fit(sequences: Array, bound: Array, seed: int, epochs: int) -> Any:
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    x, goal = torch.from_numpy(one_hot(sequences)), torch.tensor(bound, dtype=torch.float32)
    with seeded(seed):
        module = build()
        loss = lambda rows: binary_cross_entropy_with_logits(module(x[rows]), goal[rows])
        return train_module(
            module, loss, len(x), epochs=epochs, learning_rate=1e-2, weight_decay=0.01, batch=128, seed=seed
        )


def predict(modules: list[Any], sequences: Array) -> Array:
    """(networks, count) logits."""
    import torch

    x = torch.from_numpy(one_hot(sequences))
    with torch.no_grad():
        return np.stack([torch.cat([m(part) for part in x.split(1024)]).numpy() for m in modules]).astype(float)


def smallest_substitution(modules: list[Any], sequence: Array, limit: int = 2) -> dict[str, Any]:
    """The fewest base changes that flip the mean logit's sign, by trying all of one, then all of two.

    Every combination is evaluated, so the number is proven: `changes` is 1 or 2 with the change of largest effect, or
    `None` with `more_than` set to the number that is ruled out. Results within 1e-4 of zero count as undecided and are
    given in `near`: float32 sums differ by less.
    """
    sign = 1.0 if predict(modules, sequence[None]).mean() > 0 else -1.0
    near = 0
    places = np.arange(LENGTH)
    singles = [((i, b),) for i in places for b in range(4) if b != sequence[i]]
    for count in range(1, limit + 1):
        options = (
            singles
            if count == 1
            else [(a[0], b[0]) for k, a in enumerate(singles) for b in singles[k + 1 :] if a[0][0] != b[0][0]]
        )
        best, change = np.inf, None
        for start in range(0, len(options), 8192):
            part = options[start : start + 8192]
            trial = np.repeat(sequence[None], len(part), 0)
            for c in range(count):
                trial[np.arange(len(part)), [o[c][0] for o in part]] = [o[c][1] for o in part]
            values = sign * predict(modules, trial).mean(0)
            near += int((np.abs(values) < 1e-4).sum())
            k = int(values.argmin())
            if values[k] < best:
                best, change = float(values[k]), part[k]
        if best < -1e-4 and change is not None:
            named = [{"place": int(i), "from": "ACGT"[sequence[i]], "to": "ACGT"[b]} for i, b in change]
            return {"changes": count, "substitutions": named, "logit": sign * best, "near": near}
    return {"changes": None, "more_than": limit, "near": near}
