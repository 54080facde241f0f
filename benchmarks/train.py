"""`fit` beside scikit-learn's multi-layer perceptron: same rows, widths and passes.

python -m benchmarks train [--smoke]
"""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import relukit
from benchmarks._common import data_folder, keep
from relukit.cli.train import _perceptron as perceptron


def main(argv: list[str]) -> int:
    smoke = "--smoke" in argv
    seeds = range(1 if smoke else 5)
    tables = {}
    for name, read in cases().items():
        if smoke and name not in ("iris", "diabetes"):
            continue
        loaded = read()
        if loaded is not None:
            tables[name] = case(*loaded, seeds)
            print(name, tables[name], flush=True)
    keep("train", {"tables": tables}, smoke)
    return 0


def case(x: np.ndarray, y: np.ndarray, groups: np.ndarray | None, seeds: range) -> dict[str, Any]:
    """Scores on unseen rows (unseen groups where rows belong together), mean over seeds with their difference's interval."""
    ours, theirs, spent = [], [], [0.0, 0.0]
    for seed in seeds:
        test = _test_rows(len(x), groups, seed)
        task = "regression" if y.dtype.kind == "f" else "classification"
        started = time.process_time()
        fitted = relukit.fit(x[~test], y[~test], task, seed=seed)
        spent[0] += time.process_time() - started
        ours.append(_score(fitted.predict(x[test]), y[test], task))
        started = time.process_time()
        theirs.append(perceptron(x[~test], y[~test], x[test], y[test], task, [64, 32], 60, seed))
        spent[1] += time.process_time() - started
    difference = np.array(ours) - theirs
    half = 2.776 * difference.std(ddof=1) / math.sqrt(len(ours)) if len(ours) == 5 else math.nan
    return {
        "rows": len(x), "inputs": x.shape[1], "score": float(np.mean(ours)), "sklearn_score": float(np.mean(theirs)),
        "difference": float(difference.mean()), "half_width_95": float(half) if math.isfinite(half) else None,
        "cpu_seconds": spent[0], "sklearn_cpu_seconds": spent[1],
    }  # fmt: skip


def _test_rows(count: int, groups: np.ndarray | None, seed: int) -> np.ndarray:
    g = np.random.default_rng(100 + seed)
    if groups is None:
        return np.isin(np.arange(count), g.permutation(count)[: count // 5])
    names = np.unique(groups)
    return np.isin(groups, g.permutation(names)[: max(1, len(names) // 5)])


def _score(found: np.ndarray, y: np.ndarray, task: str) -> float:
    if task == "classification":
        return float(np.mean(found == y))
    return float(1 - np.mean((found.reshape(y.shape) - y) ** 2) / np.mean((y - y.mean()) ** 2))


def cases() -> dict[str, Callable[[], tuple[np.ndarray, np.ndarray, np.ndarray | None] | None]]:
    from sklearn import datasets

    def bundled(name: str) -> Callable[[], Any]:
        def read() -> Any:
            x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
            return x, y.astype(float) if name == "diabetes" else y, None

        return read

    found = {name: bundled(name) for name in ("iris", "wine", "breast_cancer", "digits", "diabetes")}
    return found | {"ai4i": _process, "engines": _engines, "guides": _guides}


def _frame(*parts: str, **options: Any) -> Any:
    import pandas

    folder = data_folder()
    return None if folder is None else pandas.read_csv(folder.joinpath(*parts), **options)


def _process() -> Any:
    """Failure of a process; the columns that name the failure's mode are no inputs."""
    t = _frame("predictive_maintenance", "ai4i2020_dev.csv")
    if t is None:
        return None
    columns = ["Air temperature [K]", "Process temperature [K]", "Rotational speed [rpm]", "Torque [Nm]", "Tool wear [min]"]  # fmt: skip
    return t[columns].to_numpy(float), t["Machine failure"].to_numpy(int), None


def _engines() -> Any:
    """Remaining cycles (at most 125) of engines not seen in training."""
    t = _frame("predictive_maintenance", "cmapss_train_FD001.txt.gz", sep=r"\s+", header=None)
    if t is None:
        return None
    left = t.groupby(0)[1].transform("max") - t[1]
    keep_rows = np.arange(len(t)) % 4 == 0
    x = t.iloc[:, 2:].to_numpy(float)[keep_rows]
    return x, np.minimum(left, 125).to_numpy(float)[keep_rows], t[0].to_numpy()[keep_rows]


def _guides() -> Any:
    """Effect of a CRISPR guide from its 30 bases, genes not seen in training."""
    t = _frame("crispr", "Aguirre2016_activity.csv")
    if t is None:
        return None
    text = t["sgRNA Context Sequence"].astype(str)
    t = t[text.str.fullmatch("[ACGT]{30}") & t["avg_mean_centered_neg_lfc"].notna()]
    bases = np.frombuffer("".join(t["sgRNA Context Sequence"]).encode(), np.uint8).reshape(len(t), 30)
    x = (bases[:, :, None] == np.frombuffer(b"ACGT", np.uint8)).reshape(len(t), 120).astype(float)
    return x, t["avg_mean_centered_neg_lfc"].to_numpy(float), t["Target Gene Symbol"].to_numpy()
