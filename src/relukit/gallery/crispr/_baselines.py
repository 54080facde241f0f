"""Ridge regression and boosting on the same features, kept beside the networks."""

from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import MissingExtra
from relukit._numerics import write_bytes
from relukit.gallery._life import Array
from relukit.gallery.crispr._features import table
from relukit.gallery.crispr._model import SECOND_WEIGHT, targets
from relukit.gallery.crispr._screens import Screen

RIDGE = 100.0
BOOSTING = {
    "n_estimators": 500, "learning_rate": 0.03, "num_leaves": 15, "min_child_samples": 20, "subsample": 0.8,
    "subsample_freq": 1, "colsample_bytree": 0.3, "verbose": -1, "n_jobs": 1,
}  # fmt: skip


def fit(screens: list[Screen]) -> dict[str, Any]:
    """`ridge` and `lightgbm` learn from the first screen alone, `lightgbm_both` from all rows the networks see."""
    X, y, w = (list(part) for part in zip(*map(_rows, screens)))
    first = _boosting(X[0], y[0], w[0])
    both = _boosting(np.concatenate(X), np.concatenate(y), np.concatenate(w))
    return {"ridge": _ridge(X[0], y[0]), "lightgbm": first, "lightgbm_both": both}


def alone(screen: Screen, sequences: list[str]) -> dict[str, Array]:
    """Scores of `sequences` by ridge and boosting that learn from one screen."""
    X, y, weight = _rows(screen)
    new, w = table(sequences), _ridge(X, y)
    return {"ridge": new @ w[:-1] + w[-1], "lightgbm": np.asarray(_boosting(X, y, weight).predict(new))}


def _rows(screen: Screen) -> tuple[Array, Array, Array]:
    """Features, targets and weights of a screen."""
    return table(screen.sequences), targets(screen), screen.weights * (SECOND_WEIGHT if screen.kind else 1)


def _boosting(X: Array, y: Array, weight: Array) -> Any:
    try:
        import lightgbm
    except ImportError as error:
        raise MissingExtra("boosting needs lightgbm: pip install relukit[gallery]") from error
    return lightgbm.LGBMRegressor(**BOOSTING).fit(X, y, sample_weight=weight).booster_


def _ridge(X: Array, y: Array) -> Array:
    """Weights and, last, the intercept."""
    center = X.mean(0)
    A = (X - center).astype(float)
    w = np.linalg.solve(A.T @ A + RIDGE * np.eye(A.shape[1]), A.T @ (y - y.mean()))
    return np.append(w, y.mean() - center @ w)


def save(folder: Path, models: dict[str, Any]) -> None:
    for name, model in models.items():
        text = "\n".join(map(repr, model.tolist())) if name == "ridge" else model.model_to_string()
        write_bytes(folder / f"{name}.txt", text.encode())


def predict(folder: Path, sequences: list[str]) -> dict[str, Array]:
    """Scores of each baseline saved in `folder`."""
    import lightgbm

    X = table(sequences)
    w = np.array([float(line) for line in (folder / "ridge.txt").read_text().split()])
    scores = {"ridge": X @ w[:-1] + w[-1]}
    for name in ("lightgbm", "lightgbm_both"):
        scores[name] = np.asarray(lightgbm.Booster(model_file=str(folder / f"{name}.txt")).predict(X))
    return scores
