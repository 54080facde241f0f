"""One recipe for all factors: filters along both strands, every site weighed, a small ReLU network.

A filter's response at a place and strand is the energy of a site there. Sites compete for one factor, so what counts is
log(1 + sum exp) over all places of both strands, from ReLUs (`gallery/_boltzmann.py`): many weak sites add up, and a
strong one counts in proportion, where a maximum over places sees one site only. From chance such a network hardly learns
(each filter sees all places alike), so filters start from words that are enriched in the training peaks; no matrix is used.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from relukit.gallery._boltzmann import exponential, logarithm
from relukit.gallery._life import Array, one_hot, seeded, train_module
from relukit.gallery.tf_binding import _words
from relukit.gallery.tf_binding._data import LENGTH, shuffled

WIDTH, FILTERS, BEFORE = 24, 24, 8  # a word of eight letters starts in the middle of its filter
BATCH = 4096  # combinations that are evaluated at once
HELD_LETTER, BIAS = 1.5, -10.5  # a whole word then weighs exp(1.5), about five times what the rest of a sequence weighs


def build(words: Array | None = None, explicit: bool = False) -> Any:
    """A fresh module: (count, 4, 101) to logits. Each strand is scanned with the same filters.

    Arguments:
        words: (24 or fewer, 8) letters that filters start from.
        explicit: Evaluate each ReLU of the exponential and the logarithm.
    """
    import torch
    from torch import nn

    class Site(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.filters = nn.Conv1d(4, FILTERS, WIDTH, padding=WIDTH // 2)
            self.hidden = nn.Linear(FILTERS, 32)
            self.out = nn.Linear(FILTERS + 32, 1)
            self.drop = nn.Dropout(0.2)
            nn.init.normal_(self.filters.weight, 0, 0.1)
            nn.init.constant_(self.filters.bias, BIAS)
            with torch.no_grad():
                for k, word in enumerate(() if words is None else words):
                    self.filters.weight[k, word.tolist(), range(BEFORE, BEFORE + len(word))] += HELD_LETTER

        def forward(self, x: Any) -> Any:
            sites = torch.cat([self.filters(x), self.filters(x.flip(1, 2))], 2)  # A C G T reversed is its complement
            z = self.drop(logarithm(exponential(sites, explicit).sum(2), explicit))
            return self.out(torch.cat([z, self.drop(self.hidden(z).relu())], 1))[:, 0]

    return Site()


def fit(peaks: Array, seed: int, epochs: int) -> Any:
    """Train on peaks against their dinucleotide shuffles, drawn anew in every epoch."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    goal = torch.tensor(np.repeat([1.0, 0.0], len(peaks)), dtype=torch.float32)
    x = torch.empty(len(goal), 4, LENGTH)

    def renew(epoch: int) -> None:
        x[: len(peaks)] = torch.from_numpy(one_hot(peaks))
        x[len(peaks) :] = torch.from_numpy(one_hot(shuffled(peaks, 1000 * seed + epoch)))

    renew(0)
    words = _words.enriched_words(peaks, FILTERS, seed)
    with seeded(seed):
        module = build(words)
        loss = lambda rows: binary_cross_entropy_with_logits(module(x[rows]), goal[rows])
        return train_module(
            module, loss, len(x), epochs=epochs, learning_rate=1e-2, weight_decay=0.01, batch=128, seed=seed,
            on_epoch=renew,
        )  # fmt: skip


def predict(modules: list[Any], sequences: Array) -> Array:
    """(networks, count) logits."""
    import torch

    x = torch.from_numpy(one_hot(sequences))
    with torch.no_grad():
        return np.stack([torch.cat([m(part) for part in x.split(1024)]).numpy() for m in modules]).astype(float)


def smallest_substitution(modules: list[Any], sequence: Array, limit: int = 2) -> dict[str, Any]:
    """The fewest base changes that flip the mean logit's sign, by trying all of one, then all of two.

    A number that is ruled out has had every combination evaluated, so the smallest is proven: `changes` is 1 or 2 with the
    change of largest effect among those evaluated, or `None` with `more_than` set to the number that is ruled out. Pairs
    are tried in the order of their single effects' sum, and the search ends with the first batch that holds a flip.
    Results within 1e-4 of zero count as undecided and are given in `near`: float32 sums differ by less.
    """
    sign = 1.0 if predict(modules, sequence[None]).mean() > 0 else -1.0
    near, single = 0, dict[tuple[int, int], float]()
    options: list[tuple[tuple[int, int], ...]] = [
        ((i, b),) for i in range(LENGTH) for b in range(4) if b != sequence[i]
    ]
    for count in range(1, limit + 1):
        for start in range(0, len(options), BATCH):
            part = options[start : start + BATCH]
            values = sign * predict(modules, _changed(sequence, part)).mean(0)
            near += int((np.abs(values) < 1e-4).sum())
            if count == 1:
                single |= {o[0]: float(v) for o, v in zip(part, values)}
            k = int(values.argmin())
            if values[k] < -1e-4:
                named = [{"place": i, "from": "ACGT"[sequence[i]], "to": "ACGT"[b]} for i, b in part[k]]
                return {"changes": count, "substitutions": named, "logit": sign * float(values[k]), "near": near}
        if count < limit:
            longer = [(*o, s) for o in options for s in single if s[0] > o[-1][0]]
            options = sorted(longer, key=lambda o: sum(single[s] for s in o))
    return {"changes": None, "more_than": limit, "near": near}


def _changed(sequence: Array, options: Sequence[tuple[tuple[int, int], ...]]) -> Array:
    """The sequence under each set of substitutions (place, base)."""
    trial = np.repeat(sequence[None], len(options), 0)
    for k, option in enumerate(options):
        for place, base in option:
            trial[k, place] = base
    return trial
