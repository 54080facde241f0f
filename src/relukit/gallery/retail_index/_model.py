"""A sparse first layer (a sum of rows, one per token), then ReLU layers; trained by rows, applied by tables."""

from typing import Any

import numpy as np

WIDTH = 96
MEMORY = 1.0  # years after which a payment weighs 1/e: categories are used differently from year to year
AMOUNT = 0.25  # weight by this power of the amount: totals gain by it, decisions do not lose


def weights(table: Any) -> np.ndarray:
    """Of each payment in training: recent ones and large ones count for more."""
    age = (table.date.max() - table.date).dt.days.to_numpy() / 365.25
    return np.exp(-age / MEMORY) * (1 + np.abs(table.amount.to_numpy(float))) ** AMOUNT


def build(classes: int, features: int) -> Any:
    from torch import nn

    return nn.ModuleDict({
        "first": nn.EmbeddingBag(features, WIDTH, mode="sum", sparse=True),
        "rest": nn.Sequential(nn.ReLU(), nn.Dropout(0.3), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, classes)),
    })  # fmt: skip


def logits(module: Any, rows: Any) -> Any:
    """Scores of CSR rows."""
    import torch

    part = lambda a, kind: torch.from_numpy(a.astype(kind))
    hidden = module["first"](
        part(rows.indices, np.int64), part(rows.indptr[:-1], np.int64), per_sample_weights=part(rows.data, np.float32)
    )
    return module["rest"](hidden)


def fit(
    rows: Any,
    y: np.ndarray,
    classes: int,
    seed: int,
    epochs: int,
    weight: np.ndarray | None = None,
    on_epoch: Any = None,
) -> dict[str, np.ndarray]:
    """Weighted cross-entropy; lazy Adam on the first layer, so that a step costs what its tokens cost.

    Returns:
        `tokens` (the columns that training met), `W0` (their rows, half precision), `W1`, `b1`, `W2`, `b2`. A token never met counts
        as zero, not as the random numbers it started from.
    """
    import torch

    from relukit.gallery._life import seeded

    rng = np.random.default_rng(seed)
    with seeded(seed):
        module = build(classes, rows.shape[1])
        torch.nn.init.normal_(module["first"].weight, std=0.1)
        sparse = torch.optim.SparseAdam(list(module["first"].parameters()), lr=4e-3)
        dense = torch.optim.AdamW(module["rest"].parameters(), lr=2e-3, weight_decay=0.02)
        target, w = torch.tensor(y), torch.ones(len(y))
        if weight is not None:
            w = torch.tensor(weight / weight.mean(), dtype=torch.float32)
        module.train()
        steps = max(1, len(y) // 256)
        for epoch in range(epochs):
            for k, chosen in enumerate(np.array_split(rng.permutation(len(y)), steps)):
                rate = 1 - (epoch + k / steps) / epochs
                sparse.param_groups[0]["lr"], dense.param_groups[0]["lr"] = 4e-3 * rate, 2e-3 * rate
                each = torch.nn.functional.cross_entropy(logits(module, rows[chosen]), target[chosen], reduction="none")
                loss = (each * w[chosen]).mean()
                sparse.zero_grad()
                dense.zero_grad()
                loss.backward()
                sparse.step()
                dense.step()
            if on_epoch is not None:
                on_epoch(epoch + 1)
    met = np.unique(rows.indices)
    array = lambda p: p.detach().numpy()
    return {
        "tokens": met.astype(np.int32),
        "W0": array(module["first"].weight)[met].astype(np.float16),
        **{f"{a}{i}": array(p) for i, k in ((1, 2), (2, 4)) for a, p in zip("Wb", module["rest"][k].parameters(), strict=True)},
    }  # fmt: skip


def first_layer(net: dict[str, np.ndarray], features: int) -> np.ndarray:
    """(features, WIDTH) float32."""
    W = np.zeros((features, net["W0"].shape[1]), np.float32)
    W[net["tokens"]] = net["W0"]
    return W


def finish(net: dict[str, np.ndarray], hidden: np.ndarray) -> np.ndarray:
    """Probabilities from the first layer's sums, (rows, classes); `hidden` is overwritten."""
    np.maximum(hidden, 0, out=hidden)
    middle = hidden @ net["W1"].T
    middle += net["b1"]
    np.maximum(middle, 0, out=middle)
    scores = middle @ net["W2"].T
    scores += net["b2"]
    scores -= scores.max(1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(1, keepdims=True)
    return scores


def probabilities(net: dict[str, np.ndarray], rows: Any) -> np.ndarray:
    """Of CSR rows of tokens."""
    W = first_layer(net, rows.shape[1])
    return np.concatenate([finish(net, rows[k : k + 8192] @ W) for k in range(0, max(rows.shape[0], 1), 8192)])
