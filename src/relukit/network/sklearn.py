"""scikit-learn's `MLPClassifier` and `MLPRegressor`."""

from typing import Any

import numpy as np

from relukit._errors import InvalidInput
from relukit.activations import catalogue
from relukit.network._network import Network
from relukit.network._nodes import Origin
from relukit.network.arrays import from_layers

_NAMES = {"relu": "relu", "tanh": "tanh", "logistic": "sigmoid", "identity": "identity"}
_HEADS = {"softmax": "softmax", "logistic": "sigmoid", "identity": ""}


def from_sklearn(model: Any) -> Network:
    """A network from a fitted multi-layer perceptron.

    Raises:
        InvalidInput: It is not fitted, or no multi-layer perceptron.
    """
    if not hasattr(model, "coefs_"):
        fitted = hasattr(model, "hidden_layer_sizes")
        raise InvalidInput(
            f"{type(model).__name__} {'is not fitted: call fit first' if fitted else 'is no multi-layer perceptron (MLPClassifier, MLPRegressor)'}"
        )
    weights = [np.asarray(W).T for W in model.coefs_]
    between = [catalogue.get(_NAMES[model.activation])] * (len(weights) - 1)
    head = _HEADS[model.out_activation_]
    run = (
        model.predict_proba
        if head == "softmax"
        else None
        if head
        else (lambda x: np.asarray(model.predict(x)).reshape(len(x), -1))
    )
    notes = (f"the last {head} is set aside: it is monotone",) if head else ()
    network = from_layers(
        weights, list(model.intercepts_), between, weights[0].dtype, Origin("sklearn", None, run, model)
    )
    return network.with_(head=head, notes=notes)
