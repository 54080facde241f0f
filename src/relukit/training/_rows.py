"""What a user hands over, as rows and targets that can be trained on."""

from typing import Any

import numpy as np

from relukit._errors import InvalidInput, ShapeMismatch
from relukit._types import Array

_HELD = 0.1  # share of the rows that early stopping watches


def image_shape(X: Any, architecture: str) -> tuple[int, int, int] | None:
    """Channels, height and width of the images that a CNN takes; None for an MLP."""
    if architecture == "mlp":
        return None
    if architecture != "cnn":
        raise InvalidInput(f"architecture must be 'mlp' or 'cnn', got '{architecture}'")
    shape = np.shape(X)
    if len(shape) not in (3, 4):
        raise InvalidInput(
            f"a cnn takes images of shape (rows, height, width) or (rows, channels, height, width), got {shape}"
        )
    channels, height, width = (1, *shape[1:]) if len(shape) == 3 else shape[1:]
    if min(height, width) < 4:
        raise InvalidInput(f"images of {height} by {width} are too small for the cnn (at least 4 by 4)")
    return channels, height, width


def checked(X: Any, y: Any, task: str | None) -> tuple[Array, Any, str, Any]:
    """Rows and targets as arrays, the task, and the classes."""
    try:
        rows = np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            "X holds values that are not numbers; encode text columns first (one-hot) or drop them"
        ) from error
    rows = rows.reshape(len(rows), -1)
    targets = np.asarray(y)
    if len(targets) != len(rows):
        raise ShapeMismatch(f"X has {len(rows)} rows and y has {len(targets)}")
    if len(rows) < 10:
        raise InvalidInput(f"n_samples={len(rows)} is too few to train on and hold some back; give at least 10 rows")
    bad = np.argwhere(~np.isfinite(rows))
    if len(bad):
        raise InvalidInput(
            f"X[{bad[0][0]}, {bad[0][1]}] is missing or infinite ({len(bad)} such entries); fill or drop them first"
        )
    if task not in (None, "classification", "regression"):
        raise InvalidInput(f"task must be 'classification' or 'regression', got '{task}'")
    task = task or ("regression" if targets.dtype.kind == "f" or targets.ndim > 1 else "classification")
    if task == "regression":
        targets = targets.astype(np.float64).reshape(len(rows), -1)
        if not np.all(np.isfinite(targets)):
            raise InvalidInput("y holds missing or infinite values")
        return rows, targets, task, None
    classes, numbers = np.unique(targets.ravel(), return_inverse=True)
    if len(classes) < 2:
        raise InvalidInput(f"y holds one class only ({classes[0]}): there is nothing to tell apart")
    if 2 * len(classes) > len(rows):
        raise InvalidInput(
            f"y holds {len(classes)} classes in {len(rows)} rows, fewer than two rows for each: nothing to learn from; "
            "is it a number (task='regression') or a name of the row (another target)?"
        )
    return rows, numbers.astype(np.int64), task, classes


def held_rows(targets: Any, task: str, generator: np.random.Generator) -> np.ndarray:
    """A tenth of the rows, drawn within each class for classification; every class keeps a row to train on."""
    held = np.zeros(len(targets), bool)
    groups = (
        [np.arange(len(targets))]
        if task == "regression"
        else [np.flatnonzero(targets == c) for c in np.unique(targets)]
    )
    for group in groups:
        count = min(max(round(_HELD * len(group)), 1), len(group) - 1)
        held[generator.permutation(group)[:count]] = True
    return held


def standard(values: Array) -> tuple[Array, Array]:
    """Mean and deviation by column; a constant column keeps its scale."""
    spread = values.std(axis=0)
    return values.mean(axis=0), np.where(spread > 1e-12 * (1 + np.abs(values).max(axis=0)), spread, 1.0)


def one_unit(X: Any, rows: Array) -> bool:
    """Whether all columns are one quantity (pixels): then they share one scale, and rare ones are not blown up.

    Images say so by their shape; flat rows by at least 16 columns that all start at the same value.
    """
    low = rows.min(axis=0)
    return X.ndim > 2 or (rows.shape[1] >= 16 and bool(np.all(low == low[0])))
