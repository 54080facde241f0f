"""What the studies of life share: where data lie, DNA as arrays, one training loop, intervals."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, UnreadableFile
from relukit._numerics import atomic_path

Array = np.ndarray
LETTERS = "ACGT"
_CODE = np.full(256, -1, np.int8)
for _k, _letter in enumerate(LETTERS):
    _CODE[ord(_letter)] = _CODE[ord(_letter.lower())] = _k


def data_folder(name: str, *needed: str) -> Path:
    """The folder `name` below `RELUKIT_DATA`, with the files a study needs; without that variable they are fetched into the cache.

    Raises:
        UnreadableFile: A file is missing and cannot be fetched; the message says which.
    """
    root = os.environ.get("RELUKIT_DATA")
    if not root:
        from relukit.gallery import _sources

        return _sources.fetch(name, needed)
    folder = Path(root) / name
    missing = [f for f in needed if not (folder / f).exists()]
    if missing:
        raise UnreadableFile(f"{folder} lacks {', '.join(missing)}; see the study's page for the sources")
    return folder


def codes(sequences: Sequence[str], length: int | None = None) -> Array:
    """DNA as numbers A 0, C 1, G 2, T 3; other letters -1. Shape (count, length)."""
    length = length or len(sequences[0])
    for k, s in enumerate(sequences):
        if len(s) != length:
            raise InvalidInput(f"sequence {k} has {len(s)} bases where {length} are needed: '{s[:40]}'")
    raw = np.frombuffer("".join(sequences).encode("ascii", "replace"), np.uint8)
    return _CODE[raw].reshape(len(sequences), length)


def one_hot(numbers: Array) -> Array:
    """(count, 4, length) float32; a base that is not A, C, G or T is all zero."""
    return (numbers[:, None, :] == np.arange(4, dtype=numbers.dtype)[None, :, None]).astype(np.float32)


def reverse_complement(numbers: Array) -> Array:
    """The other strand, read in its own direction."""
    flipped = numbers[:, ::-1]
    return np.where(flipped < 0, flipped, 3 - flipped)


def train_module(
    module: Any,
    loss: Callable[[Any], Any],
    count: int,
    *,
    epochs: int,
    learning_rate: float = 2e-3,
    weight_decay: float = 0.05,
    batch: int = 256,
    seed: int = 0,
    on_epoch: Callable[[int], None] | None = None,
) -> Any:
    """AdamW under one cycle of the learning rate; `loss(rows)` gives the mean loss of the chosen rows."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    batch = min(batch, count)
    optimizer = torch.optim.AdamW(module.parameters(), learning_rate, weight_decay=weight_decay)
    steps = count // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=epochs * steps)
    module.train()
    for epoch in range(epochs):
        order = torch.randperm(count, generator=generator)
        for rows in order[: steps * batch].view(steps, batch):
            value = loss(rows)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
            schedule.step()
        if on_epoch is not None:
            on_epoch(epoch + 1)
    return module.eval()


class seeded:
    """Fix torch's global generator (layers and dropout draw from it) and give it back as it was."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __enter__(self) -> None:
        import torch

        self.state = torch.random.get_rng_state()
        torch.manual_seed(self.seed)

    def __exit__(self, *_: object) -> None:
        import torch

        torch.random.set_rng_state(self.state)


def save_states(path: Path, states: list[dict[str, Any]], **extra: Any) -> None:
    """Parameters of an ensemble and plain values beside them, in one file that loads without pickle."""
    import torch

    with atomic_path(path) as temporary:
        torch.save({"states": states, **extra}, temporary)


def load_states(path: Path, study: str) -> dict[str, Any]:
    import torch

    if not path.exists():
        raise UnreadableFile(f"no trained study at {path}; run `relukit gallery run {study}` first")
    return torch.load(path, weights_only=True)


def bootstrap_difference(
    metric: Callable[[Array], tuple[float, float]], count: int, repeats: int = 500, seed: int = 0
) -> dict[str, float]:
    """Paired bootstrap over rows: `metric(rows)` gives (ours, baseline) on the same resampled rows."""
    generator = np.random.default_rng(seed)
    pairs = np.array([metric(generator.integers(0, count, count)) for _ in range(repeats)])
    gap = pairs[:, 0] - pairs[:, 1]
    low, high = np.quantile(gap, [0.025, 0.975])
    return {
        "difference": float(gap.mean()),
        "low": float(low),
        "high": float(high),
        "share_above": float((gap > 0).mean()),
    }


def t_interval(values: Sequence[float]) -> dict[str, Any]:
    """Mean over seeds with a 95 % Student interval."""
    from scipy.stats import t

    v = np.asarray(values, float)
    half = float(t.ppf(0.975, len(v) - 1) * v.std(ddof=1) / len(v) ** 0.5) if len(v) > 1 else None
    return {"mean": float(v.mean()), "half_width": half, "values": [float(x) for x in v]}
