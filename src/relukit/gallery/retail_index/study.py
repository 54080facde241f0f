"""Payments to categories, to an index, and to a nowcast of official retail sales; judged on later months."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import UnreadableFile
from relukit._numerics import write_json
from relukit.gallery._life import data_folder, t_interval
from relukit.gallery.retail_index import _model, _sales, _series, _text
from relukit.gallery.retail_index.volume import saved

NAME, EPOCHS, MONTHS, _LENGTH = "retail-index", 3, 6, 0.45
CARDS, SPENDING, OFFICIAL = (
    "birmingham_cards_dev.csv.gz",
    "affinity_card_spend_national_to_2021.csv",
    "fred_rsafs_to_2021.csv",
)


def fetch() -> Path:
    """Folder with the card transactions, the card spending and the official series."""
    return data_folder("transactions", CARDS, SPENDING, OFFICIAL)


def train(
    data: Path,
    out: Path,
    *,
    seeds: int = 5,
    quick: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Judge one network on the last six months, trained on those before; then `seeds` networks on everything, and the nowcast."""
    import pandas as pd

    table = _text.read(data / CARDS)
    names = _text.categories(table)
    rows, y = _text.tokens(table), _text.labels(table, names)
    epochs, done = (1 if quick else EPOCHS), 0
    total = (seeds + 1) * epochs + seeds

    def tick(_: int = 0) -> None:
        nonlocal done
        done += 1
        if on_progress is not None:
            on_progress(done, total)

    weight = _model.weights(table)
    late = (table.date >= table.date.max() - pd.DateOffset(months=MONTHS)).to_numpy()
    judge = _model.fit(rows[~late], y[~late], len(names), 0, epochs, weight[~late], tick)
    known = set(table.merchant[~late].astype(str))
    summary: dict[str, Any] = {
        "last_six_months": _metrics(_model.probabilities(judge, rows[late]), y[late], table[late], known),
        "last_six_months_logistic": _metrics(
            _shares(rows[late], *_logistic(rows[~late], y[~late])), y[late], table[late], known
        ),
    }
    for seed in range(seeds):
        net = _model.fit(rows, y, len(names), seed, epochs, weight, tick)
        np.savez_compressed(out / f"sort_{seed}.npz", names=np.array(names), **net)
    W, b = _logistic(rows, y)
    np.savez_compressed(out / "logistic.npz", W=W.astype(np.float16), b=b)
    write_json(out / "sorting.json", {"seeds": seeds, "merchants": sorted(set(table.merchant.fillna("").astype(str)))})
    summary["nowcast"] = _sales.train([data / SPENDING], [data / OFFICIAL], out, seeds, quick, tick)
    write_json(out / "training.json", summary)
    return summary


def _logistic(rows: Any, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logistic regression on the same tokens, by stochastic gradient, each class against the rest.

    The step size that its penalty implies wants rows near length 1.
    """
    from sklearn.linear_model import SGDClassifier

    model: Any = SGDClassifier(loss="log_loss", alpha=2e-6, max_iter=8, tol=None, random_state=0)
    model.fit(rows * _LENGTH, y)
    W, b = np.zeros((y.max() + 1, rows.shape[1])), np.full(y.max() + 1, -20.0)
    W[model.classes_], b[model.classes_] = model.coef_ * _LENGTH, model.intercept_
    return W, b


def _shares(rows: Any, W: np.ndarray, b: np.ndarray) -> np.ndarray:
    """One-against-rest probabilities, scaled to sum to one."""
    p = 1 / (1 + np.exp(-np.clip(rows @ W.T + b, -30, 30)))
    return p / p.sum(1, keepdims=True)


def _metrics(p: np.ndarray, y: np.ndarray, table: Any, known: set[str]) -> dict[str, Any]:
    """Accuracy (all, unseen merchants), mean F1 over classes, and error of monthly totals by category over their sum."""
    from sklearn.metrics import f1_score

    decided = p.argmax(1)
    new = ~table.merchant.fillna("").astype(str).isin(known).to_numpy()
    month = table.date.dt.to_period("M").astype("category").cat.codes.to_numpy()
    amount = table.amount.to_numpy(float)
    cells = np.zeros((month.max() + 1, p.shape[1]))
    truth = cells.copy()
    np.add.at(cells, month, p * amount[:, None])
    np.add.at(truth, (month, y), amount)
    return {
        "accuracy": float((decided == y).mean()),
        "accuracy_unseen_merchants": float((decided == y)[new].mean()) if new.any() else None,
        "macro_f1": float(f1_score(y, decided, average="macro", zero_division=0)),
        "wape": float(100 * np.abs(cells - truth).sum() / np.abs(truth).sum()),
    }


def score(out: Path, files: Sequence[Path]) -> dict[str, Any]:
    """Card transactions, or card spending together with the official series, told apart by their columns.

    Raises:
        UnreadableFile: A file has none of the known layouts, or one of the two series comes without the other.
    """
    by_kind: dict[str, list[Path]] = {}
    for file in map(Path, files):
        by_kind.setdefault(_series.kind(file), []).append(file)
    if not by_kind:
        raise UnreadableFile("expected --data with card transactions, or with card spending and the official series")
    answer: dict[str, Any] = {"study": NAME, "metrics": {}, "baselines": {}, "rows": 0}
    parts = []
    if "transactions" in by_kind:
        parts.append(_score_sorting(out, by_kind["transactions"]))
    official = by_kind.get("official") or by_kind.get("trades", [])
    if "cards" in by_kind or official:
        parts.append(_sales.score(out, by_kind.get("cards", []), official))
    for part in parts:
        for key in ("metrics", "baselines"):
            answer[key].update(part[key])
        answer["rows"] += part["rows"]
    return answer


def _score_sorting(out: Path, files: Sequence[Path]) -> dict[str, Any]:
    """Merchants count as unseen when the training had none of that text."""
    import json

    import pandas as pd

    table = pd.concat([_text.read(f) for f in files], ignore_index=True)
    if "category" not in table or not len(table):
        raise UnreadableFile(f"{files[0]} has no rows with a 'category' to compare with")
    about = json.loads((out / "sorting.json").read_text(encoding="utf-8"))
    known = set(about["merchants"])
    rows, each, names = _text.tokens(table), [], []
    for k in range(about["seeds"]):
        net, names = saved(out, k)
        each.append(_model.probabilities(net, rows))
    y = _text.labels(table, names)
    line = np.load(out / "logistic.npz")
    metrics: dict[str, Any] = _metrics(np.mean(each, 0), y, table, known)
    metrics["accuracy_of_seeds"] = t_interval([float((p.argmax(1) == y).mean()) for p in each])
    baseline = _metrics(_shares(rows, line["W"].astype(float), line["b"]), y, table, known)
    return {"metrics": metrics, "baselines": {"logistic_ngrams": baseline}, "rows": len(y)}
