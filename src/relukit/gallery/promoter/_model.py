r"""The network: sites of sigma-70 weighed as a thermodynamic model would, by ReLUs, then a small ReLU network.

A site is a reading of the -35 side and of the -10 side at one of six distances. Its energy is affine in the bases:

    t[k, g, j] = a_k(bases before) + b_k(bases after) + gap[k, g] + place[k, j] + bias[k]

for K kinds of site. A polymerase that binds with Boltzmann weights occupies the DNA by log(1 + sum exp t); exp and
log(1 + u) are sums of ReLUs here (`gallery/_boltzmann.py`), so the module is piecewise linear throughout. What matters is
that every weak site pulls a little and a strong one pulls in proportion: a maximum over sites, otherwise the same, is 0.04
to 0.08 worse in AUPRC on held genome. Only the library's own direction is read: a promoter on the other strand does not
drive the reporter.

References:
    "Selection of DNA binding sites by regulatory proteins", Berg and von Hippel, 1987.
    "Using deep sequencing to characterize the biophysical mechanism of a transcriptional regulatory sequence", Kinney et
    al., 2010.
"""

from typing import Any

import numpy as np

from relukit.gallery._boltzmann import exponential, logarithm
from relukit.gallery._life import Array, codes, one_hot, seeded, train_module
from relukit.gallery.promoter._start import BOX35, WIDTH, known_boxes

LENGTH, ACTIVE, PAIRS, HIDDEN = 150, 0.2456, 8, 32
FLOOR = 0.05  # added to the activity before its logarithm: readings scatter by about this much around 0
GAPS = (15, 16, 17, 18, 19, 20)
BEFORE, AFTER = 14, 10  # blank places at the ends, so that boxes next to them are read too


def build(start: tuple[Array, Array] | None = None, scatter: float = 0.15, explicit: bool = False) -> Any:
    """A fresh module: (count, 4, 150) to (count, 2): the logit of "active", and the standardized log activity.

    Arguments:
        start: Readers (4, 20) of the -35 and the -10 side to start from; the known boxes if not given.
        scatter: Size of the random weights added to them, by which the kinds of site differ at first.
        explicit: Evaluate each ReLU of the exponential and the logarithm.
    """
    import torch
    from torch import nn

    class Promoter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before = nn.Conv1d(4, PAIRS, WIDTH, bias=False)
            self.after = nn.Conv1d(4, PAIRS, WIDTH, bias=False)
            self.gap = nn.Parameter(torch.tensor([-1.5, -0.6, 0.0, -0.4, -1.5, -2.5]).repeat(PAIRS, 1))
            self.place = nn.Parameter(torch.zeros(PAIRS, 15))
            self.bias = nn.Parameter(torch.full((PAIRS,), -4.0))
            self.hidden = nn.Linear(PAIRS, HIDDEN)
            self.out = nn.Linear(HIDDEN + PAIRS, 2)
            with torch.no_grad():
                for reader, weights in zip((self.before, self.after), start or known_boxes(), strict=True):
                    reader.weight.mul_(scatter).add_(torch.tensor(weights, dtype=torch.float32))

        def readings(self, x: Any) -> tuple[Any, Any]:
            """Of each kind of site and place j = 0..154: the -35 side starting there, and the -10 side with its bias."""
            x = nn.functional.pad(x, (BEFORE, AFTER))
            both = nn.functional.conv1d(x, torch.cat([self.before.weight, self.after.weight]))
            place = nn.functional.interpolate(self.place[None], size=both.shape[2], mode="linear")[0]
            return both[:, :PAIRS], both[:, PAIRS:] + place + self.bias[:, None]

        def energies(self, x: Any) -> Any:
            """(count, K, 6, 155): of the site whose -10 reader starts at j; minus infinity where its -35 reader does not fit."""
            a, b = self.readings(x)
            parts = [
                nn.functional.pad(
                    a[:, :, : -(BOX35 + g)] + b[:, :, BOX35 + g :] + self.gap[:, [n]],
                    (BOX35 + g, 0),
                    value=-float("inf"),
                )
                for n, g in enumerate(GAPS)
            ]
            return torch.stack(parts, 2)

        def occupancy(self, x: Any) -> Any:
            a, b = self.readings(x)
            total = 0
            for n, g in enumerate(GAPS):
                t = a[:, :, : -(BOX35 + g)] + b[:, :, BOX35 + g :] + self.gap[:, [n]]
                total = total + exponential(t, explicit).sum(2)
            return logarithm(total, explicit)

        def forward(self, x: Any) -> Any:
            z = self.occupancy(x)
            return self.out(torch.cat([z, self.hidden(z).relu()], 1))

    return Promoter()


def encode(sequences: list[str]) -> Any:
    import torch

    return torch.from_numpy(one_hot(codes(sequences, LENGTH)))


def level(expression: Array) -> Array:
    return np.log(np.maximum(expression, 0) + FLOOR)


def fit(
    sequences: list[str],
    expression: Array,
    seed: int,
    epochs: int,
    start: tuple[Array, Array] | None = None,
    scatter: float = 0.15,
) -> Any:
    """Train on activity and level together."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    x = encode(sequences)
    active = torch.tensor(expression > ACTIVE, dtype=torch.float32)
    goal = level(expression)
    goal = torch.tensor((goal - goal.mean()) / max(float(goal.std()), 1e-9), dtype=torch.float32)
    with seeded(seed):
        module = build(start, scatter)

        def loss(rows: Any) -> Any:
            out = module(x[rows])
            return (
                binary_cross_entropy_with_logits(out[:, 0], active[rows]) + 0.5 * ((out[:, 1] - goal[rows]) ** 2).mean()
            )

        return train_module(
            module, loss, len(x), epochs=epochs, learning_rate=2e-2, weight_decay=1e-3, batch=128, seed=seed
        )


def predict(modules: list[Any], sequences: list[str]) -> Array:
    """(networks, count, 2)."""
    import torch

    x = encode(sequences)
    with torch.no_grad():
        return np.stack([torch.cat([m(part) for part in x.split(512)]).numpy() for m in modules]).astype(float)


def attributions(modules: list[Any], sequences: list[str]) -> Array:
    """(count, 4, 150): the affine map of the piece each sequence falls in, averaged over networks.

    The module is piecewise linear, so the gradient at a sequence is the exact linear part of its piece; at each place the
    mean over the four letters is taken off, since one letter is always there.
    """
    import torch

    total = 0.0
    for module in modules:
        x = encode(sequences).requires_grad_()
        (slope,) = torch.autograd.grad(module(x)[:, 0].sum(), x)
        total = total + slope.numpy()
    slope = total / len(modules)
    return slope - slope.mean(1, keepdims=True)
