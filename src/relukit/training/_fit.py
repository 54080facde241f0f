"""Fit a multi-layer perceptron to arrays, standardization folded into the network that comes out."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, ShapeMismatch
from relukit._types import Array, IntArray
from relukit.activations import get
from relukit.network import Network, from_layers

_BATCH = 64
_HELD = 0.1  # share of the rows that early stopping watches


@dataclass(frozen=True, eq=False)
class Fit:
    """A trained network and how it came about.

    Arguments:
        network: Takes the raw inputs: standardization is folded into its first layer (and the target's into its last).
        task: `classification` or `regression`.
        classes: The labels that outputs 0, 1, ... stand for, or None.
        score: Accuracy or R^2 on the held rows that chose the epoch.
        history: Per epoch `loss` on the training rows and `score` on the held ones.
        module: The torch module before folding.
    """

    network: Network
    task: str
    classes: Array | IntArray | None
    score: float
    history: tuple[dict[str, float], ...] = field(repr=False)
    cpu_seconds: float
    module: Any = field(repr=False, default=None)

    def predict(self, X: Array) -> Any:
        """Labels or values for rows."""
        out = self.network(X)
        if self.task == "regression":
            return out[:, 0] if out.shape[1] == 1 else out
        return self.classes[np.argmax(out, axis=1)]

    def to_dict(self) -> dict[str, Any]:
        return {"task": self.task, "score": self.score, "epochs": len(self.history), "cpu_seconds": self.cpu_seconds}


def fit(
    X: Any,
    y: Any,
    task: str | None = None,
    hidden: Sequence[int] = (64, 32),
    activation: str = "relu",
    epochs: int = 60,
    learning_rate: float = 3e-3,
    weight_decay: float = 1e-2,
    label_smoothing: float = 0.1,
    noise: float | None = None,
    patience: int = 30,
    seed: int = 0,
    on_progress: Callable[[int, int, dict[str, float]], None] | None = None,
) -> Fit:
    """Train a ReLU network on rows and targets.

    AdamW with a one-cycle learning rate; a tenth of the rows is held back, and the epoch that scores best on it is
    kept. Hidden layers start from He's initialization.

    Arguments:
        X: Rows, shape `(rows, inputs)`.
        y: Labels (integers, strings, booleans) or numbers, shape `(rows,)`; several numbers per row for regression.
        task: `classification` or `regression`; by default floating-point targets mean regression.
        hidden: Widths of the hidden layers.
        activation: A name of the catalogue.
        epochs: At most so many passes; training stops `patience` epochs after the best one.
        label_smoothing: Share of each label spread over all classes; it keeps margins from growing without end.
        noise: Deviation of Gaussian noise added to the standardized inputs while training; 0.3 for classification, none for regression.
        seed: Of the split, the initialization and the batches.
        on_progress: Called with `(epoch, epochs, {"loss", "score"})`.

    Raises:
        InvalidInput: Missing values, text, one class only, or fewer than ten rows.
        ShapeMismatch: `X` and `y` differ in length.

    References:
        Delving Deep into Rectifiers, He et al., 2015. Rethinking the Inception Architecture (label smoothing), Szegedy
        et al., 2016. Training with Noise is Equivalent to Tikhonov Regularization, Bishop, 1995. Decoupled Weight Decay Regularization, Loshchilov and Hutter, 2019.
    """
    import torch
    from torch import nn

    started = time.process_time()
    rows, targets, task, classes = _checked(X, y, task)
    generator = np.random.default_rng(seed)
    held = _held_rows(targets, task, generator)
    center, spread = _standard(rows[~held])
    if _one_unit(np.asarray(X), rows):
        spread = np.full(len(spread), np.sqrt(np.mean(rows[~held].var(axis=0))) or 1.0)
    low, scale = (np.zeros(1), np.ones(1)) if task == "classification" else _standard(targets[~held])
    outputs = len(classes) if classes is not None else targets.shape[1]
    chooser = torch.Generator().manual_seed(seed)
    module = _module([rows.shape[1], *hidden, outputs], activation, chooser)
    tensor = lambda a: torch.as_tensor(a, dtype=torch.long if a.dtype.kind in "iu" else torch.float32)
    inputs = tensor((rows - center) / spread)
    goals = tensor(targets if task == "classification" else (targets - low) / scale)
    train, watch = torch.as_tensor(np.flatnonzero(~held)), torch.as_tensor(np.flatnonzero(held))
    loss_of = (
        partial(nn.functional.cross_entropy, label_smoothing=label_smoothing)
        if task == "classification"
        else nn.functional.mse_loss
    )
    noise = (0.3 if task == "classification" else 0.0) if noise is None else noise
    optimizer = torch.optim.AdamW(module.parameters(), learning_rate, weight_decay=weight_decay)
    batch_size = min(_BATCH, max(8, len(train) // 20))  # at least 20 steps per pass, also for small tables
    steps = -(-len(train) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=epochs * steps, pct_start=0.2)
    best, kept, history, since = -np.inf, None, [], 0
    for epoch in range(epochs):
        order, total = train[torch.randperm(len(train), generator=chooser)], 0.0
        for k in range(0, len(order), batch_size):
            chosen = order[k : k + batch_size]
            optimizer.zero_grad(set_to_none=True)
            batch = inputs[chosen]
            if noise > 0:
                batch = batch + noise * torch.randn(batch.shape, generator=chooser)
            loss = loss_of(module(batch), goals[chosen])
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(chosen)
        with torch.no_grad():
            score, held_loss = _score(module(inputs[watch]), goals[watch], loss_of, task)
        history.append({"loss": total / len(train), "score": score})
        if on_progress is not None:
            on_progress(epoch + 1, epochs, history[-1])
        if score - 1e-3 * held_loss > best:  # among equal scores the smaller loss
            best, since = score - 1e-3 * held_loss, 0
            kept = {name: value.clone() for name, value in module.state_dict().items()}
        else:
            since += 1
            if since >= patience:
                break
    if kept is not None:
        module.load_state_dict(kept)
    with torch.no_grad():
        score = _score(module(inputs[watch]), goals[watch], loss_of, task)[0]
    network = _folded(module, center, spread, low, scale, activation)
    return Fit(network, task, classes, score, tuple(history), time.process_time() - started, module)


def _checked(X: Any, y: Any, task: str | None) -> tuple[Array, Any, str, Any]:
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
        raise InvalidInput(f"{len(rows)} rows are too few to train on and hold some back; give at least 10")
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
    return rows, numbers.astype(np.int64), task, classes


def _held_rows(targets: Any, task: str, generator: np.random.Generator) -> np.ndarray:
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


def _standard(values: Array) -> tuple[Array, Array]:
    """Mean and deviation by column; a constant column keeps its scale."""
    spread = values.std(axis=0)
    return values.mean(axis=0), np.where(spread > 1e-12 * (1 + np.abs(values).max(axis=0)), spread, 1.0)


def _one_unit(X: Any, rows: Array) -> bool:
    """Whether all columns are one quantity (pixels): then they share one scale, and rare ones are not blown up.

    Images say so by their shape; flat rows by at least 16 columns that all start at the same value.
    """
    low = rows.min(axis=0)
    return X.ndim > 2 or (rows.shape[1] >= 16 and bool(np.all(low == low[0])))


def _module(sizes: list[int], activation: str, generator: Any) -> Any:
    import torch
    from torch import nn

    gain = get(activation).gain()
    layers: list[Any] = []
    for k, (fan_in, fan_out) in enumerate(zip(sizes[:-1], sizes[1:])):
        layer = nn.Linear(fan_in, fan_out)
        last = k == len(sizes) - 2
        with torch.no_grad():
            layer.weight.copy_(
                torch.randn(fan_out, fan_in, generator=generator) * ((1.0 if last else gain) / fan_in**0.5)
            )
            layer.bias.zero_()
        layers += [layer] if last else [layer, _torch_activation(activation)]
    return nn.Sequential(*layers)


def _torch_activation(name: str) -> Any:
    from torch import nn

    from relukit.activations import CATALOGUE

    return getattr(nn, CATALOGUE[name].torch)()


def _score(out: Any, goals: Any, loss_of: Any, task: str) -> tuple[float, float]:
    """Accuracy or R^2, and the loss."""
    loss = float(loss_of(out, goals))
    if task == "classification":
        return float((out.argmax(1) == goals).float().mean()), loss
    return 1 - loss / max(float(((goals - goals.mean(0)) ** 2).mean()), 1e-12), loss


def _folded(module: Any, center: Array, spread: Array, low: Array, scale: Array, activation: str) -> Network:
    """Standardization inside the first layer, and the target's in the last."""
    linear = [m for m in module if hasattr(m, "weight") and m.weight.ndim == 2]
    weights = [m.weight.detach().double().numpy().copy() for m in linear]
    biases = [m.bias.detach().double().numpy().copy() for m in linear]
    weights[0] = weights[0] / spread
    biases[0] = biases[0] - weights[0] @ center
    if not (np.all(low == 0) and np.all(scale == 1)):
        weights[-1], biases[-1] = weights[-1] * scale[:, None], biases[-1] * scale + low
    single = lambda a: a.astype(np.float32).astype(np.float64)  # what a float32 file will hold
    return from_layers(
        [single(W) for W in weights], [single(b) for b in biases], [get(activation)] * (len(linear) - 1), np.float32
    )
