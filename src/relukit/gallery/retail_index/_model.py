"""A sparse first layer (a sum of rows, one per token), then ReLU layers; trained by rows, applied by tables."""

from typing import Any

import numpy as np

WIDTH = 96
MEMORY = 1.0  # years after which a payment weighs 1/e: categories are used differently from year to year
BATCH, RATE, TOKEN_RATE, LEFT_OUT = 512, 2e-3, 5e-3, 0.1
AMOUNT = 0.25  # weight by this power of the amount: totals gain by it, decisions do not lose


def weights(table: Any) -> np.ndarray:
    """Of each payment in training: recent ones and large ones count for more."""
    age = (table.date.max() - table.date).dt.days.to_numpy() / 365.25
    return np.exp(-age / MEMORY) * (1 + np.abs(table.amount.to_numpy(float))) ** AMOUNT


def build(classes: int, features: int, inputs: int) -> Any:
    from torch import nn

    return nn.ModuleDict({
        "first": nn.EmbeddingBag(features, WIDTH, mode="sum", sparse=True),
        "memory": nn.Linear(inputs, WIDTH),
        "rest": nn.Sequential(nn.ReLU(), nn.Dropout(0.3), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Dropout(0.1), nn.Linear(WIDTH, classes)),
    })  # fmt: skip


def logits(module: Any, rows: Any, told: Any) -> Any:
    """Scores of CSR rows and of what memory tells, each left out of one payment in ten while training."""
    import torch

    part = lambda a, kind: torch.from_numpy(a.astype(kind))
    tokens = module["first"](
        part(rows.indices, np.int64), part(rows.indptr[:-1], np.int64), per_sample_weights=part(rows.data, np.float32)
    )
    memory = module["memory"](told)
    if module.training:
        tokens = tokens * (torch.rand(len(tokens), 1) > LEFT_OUT)
        memory = memory * (torch.rand(len(memory), 1) > LEFT_OUT)
    return module["rest"](tokens + memory)


def fit(
    rows: Any,
    told: np.ndarray,
    y: np.ndarray,
    classes: int,
    seed: int,
    epochs: int,
    weight: np.ndarray | None = None,
    on_epoch: Any = None,
) -> dict[str, np.ndarray]:
    """Weighted cross-entropy; lazy Adam on the first layer, so that a step costs what its tokens cost.

    Arguments:
        rows: CSR (payments, tokens).
        told: (payments, inputs) of `_memory.learn`.

    Returns:
        `tokens` (the columns that training met), `W0` (their rows, half precision), `M`, `b0` (of the memory's inputs, as they come), `W1`,
        `b1`, `W2`, `b2`. A token never met counts as zero, not as the random numbers it started from.
    """
    import torch

    from relukit.gallery._life import seeded

    rng = np.random.default_rng(seed)
    mean, spread = told.mean(0), told.std(0) + 1e-3
    with seeded(seed):
        module = build(classes, rows.shape[1], told.shape[1])
        torch.nn.init.normal_(module["first"].weight, std=0.1)
        sparse = torch.optim.SparseAdam(list(module["first"].parameters()), lr=TOKEN_RATE)
        others = [*module["memory"].parameters(), *module["rest"].parameters()]
        dense = torch.optim.AdamW(others, lr=RATE, weight_decay=0.02)
        target, w, x = torch.tensor(y), torch.ones(len(y)), torch.tensor((told - mean) / spread)
        if weight is not None:
            w = torch.tensor(weight / weight.mean(), dtype=torch.float32)
        module.train()
        steps = max(1, len(y) // BATCH)
        for epoch in range(epochs):
            for k, chosen in enumerate(np.array_split(rng.permutation(len(y)), steps)):
                rate = 1 - (epoch + k / steps) / epochs
                sparse.param_groups[0]["lr"], dense.param_groups[0]["lr"] = TOKEN_RATE * rate, RATE * rate
                scores = logits(module, rows[chosen], x[chosen])
                loss = (torch.nn.functional.cross_entropy(scores, target[chosen], reduction="none") * w[chosen]).mean()
                sparse.zero_grad()
                dense.zero_grad()
                loss.backward()
                sparse.step()
                dense.step()
            if on_epoch is not None:
                on_epoch(epoch + 1)
    met = np.unique(rows.indices)
    array = lambda p: p.detach().numpy()
    M, b0 = (array(p) for p in module["memory"].parameters())
    return {
        "tokens": met.astype(np.int32),
        "W0": array(module["first"].weight)[met].astype(np.float16),
        "M": (M / spread).T, "b0": b0 - M @ (mean / spread),
        **{f"{a}{i}": array(p) for i, k in ((1, 2), (2, 5)) for a, p in zip("Wb", module["rest"][k].parameters(), strict=True)},
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


def probabilities(net: dict[str, np.ndarray], rows: Any, told: np.ndarray) -> np.ndarray:
    """Of CSR rows of tokens and of what memory tells of each."""
    W, step = first_layer(net, rows.shape[1]), 8192
    hidden = lambda k: rows[k : k + step] @ W + (told[k : k + step] @ net["M"] + net["b0"])
    return np.concatenate([finish(net, hidden(k)) for k in range(0, max(rows.shape[0], 1), step)])
