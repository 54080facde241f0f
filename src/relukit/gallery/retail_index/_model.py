"""A sparse first layer (a sum of rows, one per token), then ReLU layers; trained by rows, applied by tables."""

from typing import Any

import numpy as np

WIDTH = 96
MEMORY = 1.0  # years after which a payment weighs 1/e: categories are used differently from year to year
BATCH, RATE, TOKEN_RATE, LEFT_OUT = 256, 2e-3, 4e-3, 0.1
AMOUNT = 0.25  # weight by this power of the amount: totals gain by it, decisions do not lose


def weights(table: Any) -> np.ndarray:
    """Of each payment in training: recent ones and large ones count for more."""
    age = (table.date.max() - table.date).dt.days.to_numpy() / 365.25
    return np.exp(-age / MEMORY) * (1 + np.abs(table.amount.to_numpy(float))) ** AMOUNT


def build(classes: int, inputs: int) -> Any:
    """All but the tokens' layer."""
    from torch import nn

    return nn.ModuleDict({
        "memory": nn.Linear(inputs, WIDTH),
        "rest": nn.Sequential(nn.ReLU(), nn.Dropout(0.3), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Dropout(0.1), nn.Linear(WIDTH, classes)),
    })  # fmt: skip


class Tokens:
    """The sparse first layer and its lazy Adam: a step moves the rows of the tokens it met, so that it costs what they cost."""

    def __init__(self, features: int, rng: np.random.Generator) -> None:
        self.W = (0.1 * rng.standard_normal((features, WIDTH), dtype=np.float32)).astype(np.float32)
        self._first, self._second, self._steps = np.zeros_like(self.W), np.zeros_like(self.W), 0
        self._place = np.zeros(features, np.int32)

    def step(self, rows: Any, gradient: np.ndarray, rate: float) -> None:
        """`gradient` is that of the loss in `rows @ W`."""
        from scipy.sparse import csr_matrix

        self._steps += 1
        self._place[rows.indices] = 1
        met = np.flatnonzero(self._place)
        self._place[met] = np.arange(len(met))
        part = csr_matrix((rows.data, self._place[rows.indices], rows.indptr), (rows.shape[0], len(met))).T @ gradient
        self._place[met] = 0
        m = self._first[met] * np.float32(0.9) + np.float32(0.1) * part
        v = self._second[met] * np.float32(0.999) + np.float32(0.001) * part**2
        self._first[met], self._second[met] = m, v
        v /= np.float32(1 - 0.999**self._steps)
        np.sqrt(v, out=v)
        v += np.float32(1e-8)
        m *= np.float32(rate / (1 - 0.9**self._steps))
        m /= v
        self.W[met] -= m


def fit(
    rows: Any,
    told: np.ndarray | None,
    y: np.ndarray,
    classes: int,
    seed: int,
    epochs: int,
    weight: np.ndarray | None = None,
    on_epoch: Any = None,
) -> dict[str, np.ndarray]:
    """Weighted cross-entropy of a network of tokens and memory. In training, each of the two is left out of one payment in ten.

    Arguments:
        rows: CSR (payments, tokens).
        told: (payments, inputs) of `_memory.learn`, or None for a network without memory.

    Returns:
        `tokens` (the columns that training met, of `features`), `W0` (their rows, half precision), `b0`, `W1`, `b1`, `W2`, `b2`, and with memory `M` (of its
        inputs, as they come). A token never met counts as zero, not as the random numbers it started from.
    """
    import torch

    from relukit.gallery._life import seeded

    rng = np.random.default_rng(seed)
    x = np.zeros((len(y), 1), np.float32) if told is None else told
    mean, spread = x.mean(0), x.std(0) + 1e-3
    with seeded(seed):
        layer, module = Tokens(rows.shape[1], rng), build(classes, x.shape[1])
        optimizer = torch.optim.AdamW(module.parameters(), lr=RATE, weight_decay=0.02)
        target, w, inputs = torch.tensor(y), torch.ones(len(y)), torch.tensor((x - mean) / spread)
        if weight is not None:
            w = torch.tensor(weight / weight.mean(), dtype=torch.float32)
        module.train()
        steps = max(1, len(y) // BATCH)
        for epoch in range(epochs):
            for k, chosen in enumerate(np.array_split(rng.permutation(len(y)), steps)):
                rate, part = 1 - (epoch + k / steps) / epochs, rows[chosen]
                optimizer.param_groups[0]["lr"] = RATE * rate
                tokens = torch.from_numpy(part @ layer.W).requires_grad_()
                hidden = tokens + module["memory"](inputs[chosen])
                if told is not None:
                    kept = (torch.rand(2, len(chosen), 1) > LEFT_OUT).float()
                    hidden = tokens * kept[0] + module["memory"](inputs[chosen]) * kept[1]
                each = torch.nn.functional.cross_entropy(module["rest"](hidden), target[chosen], reduction="none")
                optimizer.zero_grad()
                (each * w[chosen]).mean().backward()
                optimizer.step()
                assert tokens.grad is not None
                layer.step(part, tokens.grad.numpy(), TOKEN_RATE * rate)
            if on_epoch is not None:
                on_epoch(epoch + 1)
    met = np.unique(rows.indices)
    array = lambda p: p.detach().numpy()
    M, b0 = (array(p) for p in module["memory"].parameters())
    return {
        "tokens": met.astype(np.int32),
        "features": np.array(rows.shape[1]),
        "W0": layer.W[met].astype(np.float16),
        **({} if told is None else {"M": (M / spread).T}),
        "b0": b0 - M @ (mean / spread),
        **{f"{a}{i}": array(p) for i, k in ((1, 2), (2, 5)) for a, p in zip("Wb", module["rest"][k].parameters(), strict=True)},
    }  # fmt: skip


def remembered(net: dict[str, np.ndarray], told: np.ndarray) -> np.ndarray:
    """The memory's part of the first layer, with its bias."""
    return told @ net["M"] + net["b0"] if "M" in net else np.broadcast_to(net["b0"], (len(told), len(net["b0"])))


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
    hidden = lambda k: rows[k : k + step] @ W + remembered(net, told[k : k + step])
    return np.concatenate([finish(net, hidden(k)) for k in range(0, max(rows.shape[0], 1), step)])
