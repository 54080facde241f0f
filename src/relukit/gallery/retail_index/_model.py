"""A sparse first layer (a sum of rows, one per token), then ReLU layers."""

from typing import Any

import numpy as np

WIDTH = 96


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


def fit(rows: Any, y: np.ndarray, classes: int, seed: int, epochs: int, on_epoch: Any = None) -> Any:
    """Cross-entropy; lazy Adam on the first layer, so that a step costs what its tokens cost."""
    import torch

    from relukit.gallery._life import seeded

    rng = np.random.default_rng(seed)
    with seeded(seed):
        module = build(classes, rows.shape[1])
        torch.nn.init.normal_(module["first"].weight, std=0.1)
        sparse = torch.optim.SparseAdam(list(module["first"].parameters()), lr=4e-3)
        dense = torch.optim.AdamW(module["rest"].parameters(), lr=2e-3, weight_decay=0.02)
        target = torch.tensor(y)
        module.train()
        for epoch in range(epochs):
            for group in (*sparse.param_groups, *dense.param_groups):
                group["lr"] = (4e-3 if group in sparse.param_groups else 2e-3) * (1 - epoch / epochs)
            for chosen in np.array_split(rng.permutation(len(y)), max(1, len(y) // 256)):
                loss = torch.nn.functional.cross_entropy(logits(module, rows[chosen]), target[chosen])
                sparse.zero_grad()
                dense.zero_grad()
                loss.backward()
                sparse.step()
                dense.step()
            if on_epoch is not None:
                on_epoch(epoch + 1)
    return module.eval()


def probabilities(module: Any, rows: Any) -> np.ndarray:
    import torch

    with torch.no_grad():
        parts = [torch.softmax(logits(module, rows[k : k + 4096]), 1).numpy() for k in range(0, rows.shape[0], 4096)]
    return np.concatenate(parts)
