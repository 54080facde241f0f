"""Zeros among hidden values and accuracy, trained as usual and with `fit(..., sparsity=s)`, on digits and MNIST.

`python -m benchmarks sparse [--smoke]`. Rows scored are not trained on.
"""

from typing import Any

import numpy as np

import relukit
from benchmarks._common import data_folder, keep

Array = np.ndarray


def rows(name: str) -> tuple[Array, Array, Array, Array] | None:
    """Rows and labels to train on, and unseen ones."""
    if name == "digits":
        from sklearn.datasets import load_digits

        digits: Any = load_digits()
        x, y = digits.data, digits.target
        return x[:1400] / 16, y[:1400], x[1400:] / 16, y[1400:]
    folder = data_folder()
    if folder is None:
        return None
    files = [np.load(folder / "images" / name) for name in ("mnist_train.npz", "mnist_test_dev5000.npz")]
    (x, y), (unseen, labels) = [(np.asarray(f["x"]), np.asarray(f["y"])) for f in files]
    return x.reshape(len(x), -1) / 255.0, y.astype(int), unseen.reshape(len(unseen), -1) / 255.0, labels.astype(int)


def case(data: tuple[Array, Array, Array, Array], seeds: int, weight: float, **options: Any) -> dict[str, Any]:
    x, y, unseen, labels = data
    right, zeros = [], []
    for seed in range(seeds):
        fitted = relukit.fit(x, y, sparsity=weight, seed=seed, **options)
        right.append(float(np.mean(fitted.predict(unseen) == labels)))
        hidden = fitted.network.values(unseen)
        zeros.append([float(np.mean(hidden[k] == 0)) for k in fitted.network.activations])
    return {"sparsity": weight, "accuracy": float(np.mean(right)), "zero_share": float(np.mean(zeros)), "zero_share_by_layer": np.mean(zeros, 0).tolist()}  # fmt: skip


def main(argv: list[str]) -> int:
    smoke = "--smoke" in argv
    found = {}
    plans: dict[str, tuple[float, int, dict[str, Any]]] = {
        "digits": (0.5, 1 if smoke else 5, {"hidden": (1024, 1024), "epochs": 5 if smoke else 120}),
        "mnist": (0.15, 2, {"hidden": (512, 512), "epochs": 8}),
    }
    for name, (weight, seeds, options) in plans.items():
        data = None if smoke and name == "mnist" else rows(name)
        if data is not None:
            found[name] = [case(data, seeds, w, **options) for w in (0.0, weight)]
            print(name, found[name], flush=True)
    keep("sparse", {"sparse": found}, smoke)
    return 0
