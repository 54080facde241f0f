"""The graph network: what each protein hears from one and two steps away, and a small ReLU network that listens.

The steps along edges are linear and come first (SIGN, Frasca et al., 2020, as in PyTorch Geometric's transform), so the
network stays piecewise linear in every protein's measured state and trains in seconds.
"""

from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.special import ndtri

from relukit.gallery._life import Array, seeded
from relukit.gallery.protein_network._graph import Graph, own_state, structure

HIDDEN, EPOCHS, DROP, DECAY = 48, 60, 0.5, 0.3
_FOLDS = 10


def normal_scores(X: Array) -> Array:
    """Each column by its ranks, as normal quantiles; equal values share theirs, and what is missing (NaN) lies in the middle, at 0."""
    from scipy.stats import rankdata

    answer = np.zeros(X.shape)
    for column, scores in zip(X.T, answer.T):
        there = ~np.isnan(column)
        scores[there] = ndtri((rankdata(column[there]) - 0.5) / there.sum())
    return answer


def signals(graph: Graph) -> Array:
    """State of each protein, and its mean over neighbors one and two steps away; (proteins, 27)."""
    step = sp.csr_matrix(sp.diags(1 / np.maximum(graph.degree, 1)) @ graph.adjacency)
    near = step @ (own := own_state(graph))
    return np.column_stack([own, near, step @ near])


def unlabeled(graph: Graph) -> tuple[Array, Array]:
    """Columns for the network (signals) and for boosting (signals and place), no label among them; neither is scaled yet."""
    base = signals(graph)
    return base, np.column_stack([base, structure(graph)])


def beyond(columns: Array, state: Array) -> Array:
    """`columns` of the proteins, and below them genes outside the network: their own measured `state` (genes, 8), all else missing."""
    more = np.full((len(state), columns.shape[1]), np.nan)
    more[:, 1 : 1 + state.shape[1]] = state
    return np.vstack([columns, more])


class Walks:
    """What neighbors' labels say: random walks with restart from drivers and from others, and counts of neighbors."""

    def __init__(self, graph: Graph) -> None:
        self.size, self.A, self.S = len(graph.names), graph.adjacency, graph.normalized()

    def walk(self, seed: Array, back: float, steps: int = 15) -> Array:
        x = seed
        for _ in range(steps):
            x = back * seed + (1 - back) * (self.S @ x)
        return x

    def columns(self, rows: Array, drivers: Array) -> Array:
        """(proteins, 11); the entry of a labeled protein contains its own label: use `honest` for those."""
        seed = np.zeros((self.size, 2))
        seed[rows, 1 - drivers] = 1
        parts = []
        for back in (0.2, 0.5, 0.8):
            x = self.walk(seed, back)
            parts += [x[:, :1], x[:, 1:], x[:, :1] - x[:, 1:]]
        near = self.A @ seed
        parts += [(near[:, :1] - near[:, 1:]) / np.sqrt(near.sum(1, keepdims=True) + 1), self.S @ seed[:, :1]]
        return np.column_stack(parts)

    def honest(self, rows: Array, drivers: Array, seed: int = 3) -> Array:
        """As `columns`, but each labeled protein is described by the labels of the other folds only."""
        from sklearn.model_selection import StratifiedKFold

        full = self.columns(rows, drivers)
        answer = full.copy()
        for rest, held in StratifiedKFold(_FOLDS, shuffle=True, random_state=seed).split(rows, drivers):
            answer[rows[held]] = self.columns(rows[rest], drivers[rest])[rows[held]]
        return answer


def build(columns: int) -> Any:
    from torch import nn

    return nn.Sequential(
        nn.Dropout(0.2), nn.Linear(columns, HIDDEN), nn.ReLU(), nn.Dropout(DROP), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(),
        nn.Dropout(DROP), nn.Linear(HIDDEN, 1),
    )  # fmt: skip


def fit(X: Array, rows: Array, drivers: Array, seed: int, epochs: int = EPOCHS) -> Any:
    """Train on labeled proteins."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    from relukit.gallery._life import train_module

    x, goal = torch.tensor(X[rows], dtype=torch.float32), torch.tensor(drivers, dtype=torch.float32)
    with seeded(seed):
        module = build(X.shape[1])
        loss = lambda i: binary_cross_entropy_with_logits(module(x[i])[:, 0], goal[i])
        return train_module(
            module, loss, len(x), epochs=epochs, learning_rate=3e-3, weight_decay=DECAY, batch=64, seed=seed
        )


def predict(modules: list[Any], X: Array) -> Array:
    """(networks, proteins) logits."""
    import torch

    with torch.no_grad():
        return np.stack([m(torch.tensor(X, dtype=torch.float32))[:, 0].numpy() for m in modules]).astype(float)


def boosting(X: Array, rows: Array, drivers: Array) -> Array:
    """Logits of all proteins from gradient boosting on the same columns."""
    from relukit._errors import MissingExtra

    try:
        import lightgbm
    except ImportError as error:
        raise MissingExtra("boosting needs lightgbm: pip install relukit[gallery]") from error
    model = lightgbm.LGBMClassifier(
        n_estimators=250, learning_rate=0.03, num_leaves=8, colsample_bytree=0.3, subsample=0.7, subsample_freq=1,
        min_child_samples=10, verbose=-1, n_jobs=1,
    )  # fmt: skip
    return np.asarray(model.fit(X[rows], drivers).booster_.predict(X, raw_score=True))


def together(parts: Array, weights: Array, rows: Array) -> Array:
    """Weighted mean of scores, each standardized over the proteins without a label: those with one were seen in training, and are spread wider.

    Arguments:
        parts: (scores, proteins).
    """
    unseen = np.ones(parts.shape[1], bool)
    unseen[rows] = False
    scaled = (parts - parts[:, unseen].mean(1, keepdims=True)) / parts[:, unseen].std(1, keepdims=True)
    return weights @ scaled / weights.sum()
