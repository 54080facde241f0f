"""The -10 and -35 matrices, and boosting on k-mers."""

from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import MissingExtra
from relukit._numerics import write_bytes
from relukit.gallery._life import Array, codes
from relukit.gallery.promoter._model import ACTIVE, LENGTH

_WORDS = 5


def kmers(sequences: list[str]) -> Array:
    """Counts of all words of 1 to 5 bases in each third of the sequence's last 90 bases, and in the whole."""
    numbers = np.maximum(codes(sequences, LENGTH), 0).astype(np.int64)
    columns = []
    for k in range(1, _WORDS + 1):
        words = sum(numbers[:, j : LENGTH - k + 1 + j] * 4 ** (k - 1 - j) for j in range(k))
        ranges = [(0, LENGTH)] + ([(60, 90), (90, 120), (120, 150)] if k <= 4 else [])
        for low, high in ranges:
            part = words[:, low : min(high, words.shape[1])]
            flat = part + 4**k * np.arange(len(part))[:, None]
            columns.append(np.bincount(flat.ravel(), minlength=4**k * len(part)).reshape(len(part), 4**k))
    return np.concatenate(columns, 1).astype(np.uint8)


def fit(sequences: list[str], expression: Array) -> Any:
    try:
        import lightgbm
    except ImportError as error:
        raise MissingExtra("boosting needs lightgbm: pip install relukit[gallery]") from error
    model = lightgbm.LGBMClassifier(
        n_estimators=300, learning_rate=0.05, num_leaves=15, colsample_bytree=0.1, subsample=0.7, subsample_freq=1,
        min_child_samples=20, verbose=-1, n_jobs=1,
    )  # fmt: skip
    return model.fit(kmers(sequences), expression > ACTIVE).booster_


def save(folder: Path, model: Any) -> None:
    write_bytes(folder / "kmers.txt", model.model_to_string().encode())


def predict(model: Any, sequences: list[str]) -> Array:
    """Logits; `model` is a booster or the folder it was saved in."""
    import lightgbm

    booster = lightgbm.Booster(model_file=str(model / "kmers.txt")) if isinstance(model, Path) else model
    return np.asarray(booster.predict(kmers(sequences), raw_score=True))


def matrices(sequences: list[str], columns: Array) -> dict[str, Array]:
    """Best log-odds of TTGACA and TATAAT with 15 to 19 bases between; from hexamers that the table names (`columns`)."""
    numbers = codes(sequences, LENGTH)
    return {"matrices": _paired(numbers, columns[0], columns[1])}


def hexamer_matrix(hexamers: list[str]) -> Array:
    """Log-odds (4, 6) against equal bases, one pseudo-count."""
    counts = (codes(hexamers)[:, None, :] == np.arange(4)[:, None]).sum(0) + 1.0
    return np.log2(counts / counts.sum(0) / 0.25)


def _paired(numbers: Array, minus35: Array, minus10: Array) -> Array:
    scan = lambda m: sum(m[np.maximum(numbers[:, j : LENGTH - 5 + j], 0), j] for j in range(6))
    first, second = scan(minus35), scan(minus10)
    best = np.full(len(numbers), -np.inf)
    for gap in (15, 16, 17, 18, 19):
        reach = 6 + gap
        penalty = 0.5 * abs(gap - 17)
        best = np.maximum(best, (first[:, :-reach] + second[:, reach:] - penalty).max(1))
    return best
