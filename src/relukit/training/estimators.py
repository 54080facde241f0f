"""scikit-learn estimators around `fit`."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data


class _Base(BaseEstimator):
    """What classifier and regressor share: parameters, fitting, the network."""

    def __init__(
        self, hidden=(64, 32), activation="relu", epochs=60, learning_rate=None, weight_decay=1e-2, random_state=0
    ):
        self.hidden = hidden
        self.activation = activation
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.random_state = random_state

    def _run(self, X: Any, y: Any, task: str) -> None:
        from relukit.training._fit import fit

        seed = self.random_state
        if isinstance(seed, np.random.RandomState):
            seed = int(seed.randint(2**31 - 1))
        result = fit(
            X, y, task, self.hidden, self.activation, self.epochs, self.learning_rate, self.weight_decay,
            seed=0 if seed is None else int(seed),
        )  # fmt: skip
        self.network_, self.n_iter_ = result.network, len(result.history)


class ReLUClassifier(ClassifierMixin, _Base):
    """A ReLU network as a scikit-learn classifier; `network_` is the `relukit.Network` that was trained.

    Arguments:
        hidden: Widths of the hidden layers.
        activation: A name of the catalogue.
        epochs: At most so many passes.
        learning_rate: Of AdamW's one-cycle schedule; None for that of `fit`.
        weight_decay: Of the weights, not of biases.
        random_state: Seed.

    `fit(X, y)` takes rows of shape `(rows, inputs)` and labels `(rows,)`.

    Example:
        >>> cross_val_score(relukit.ReLUClassifier(), X, y)
    """

    def fit(self, X, y):
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y holds one class only ({self.classes_[0]}): a classifier needs at least two")
        self._run(X, numbers, "classification")
        return self

    def predict_proba(self, X):
        """Probabilities, shape `(rows, classes)`."""
        check_is_fitted(self)
        out = self.network_(validate_data(self, X, dtype=np.float64, reset=False))
        shifted = np.exp(out - out.max(axis=1, keepdims=True))
        return shifted / shifted.sum(axis=1, keepdims=True)

    def predict(self, X):
        """Labels, shape `(rows,)`."""
        check_is_fitted(self)
        return self.classes_[np.argmax(self.network_(validate_data(self, X, dtype=np.float64, reset=False)), axis=1)]


class ReLURegressor(RegressorMixin, _Base):
    """A ReLU network as a scikit-learn regressor; `network_` is the `relukit.Network` that was trained.

    Arguments:
        hidden: Widths of the hidden layers.
        activation: A name of the catalogue.
        epochs: At most so many passes.
        learning_rate: Of AdamW's one-cycle schedule; None for that of `fit`.
        weight_decay: Of the weights, not of biases.
        random_state: Seed.

    `fit(X, y)` takes rows of shape `(rows, inputs)` and targets `(rows,)` or `(rows, targets)`.
    """

    def fit(self, X, y):
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True, multi_output=True)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        self._shape = y.shape[1:]
        self._run(X, np.asarray(y, np.float64), "regression")
        return self

    def predict(self, X):
        """Values, shape `(rows,)` or `(rows, outputs)`."""
        check_is_fitted(self)
        out = self.network_(validate_data(self, X, dtype=np.float64, reset=False))
        return out.reshape(len(out), *self._shape)
