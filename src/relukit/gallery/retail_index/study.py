"""Categories of card transactions, judged on later months."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import UnreadableFile
from relukit._numerics import write_json
from relukit.gallery._life import data_folder, load_states, save_states, t_interval
from relukit.gallery.retail_index import _model, _text

NAME, CARDS, EPOCHS, MONTHS = "retail-index", "birmingham_cards_dev.csv.gz", 4, 6


def fetch() -> Path:
    """Folder with the card transactions."""
    return data_folder("transactions", CARDS)


def train(
    data: Path,
    out: Path,
    *,
    seeds: int = 5,
    quick: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Judge one network on the last six months, trained on those before; then `seeds` networks on everything."""
    table = _text.read(data / CARDS)
    names = _text.categories(table)
    rows, y = _text.tokens(table), _text.labels(table, names)
    epochs, total, done = (1 if quick else EPOCHS), (seeds + 1) * (1 if quick else EPOCHS), 0

    def tick(_: int) -> None:
        nonlocal done
        done += 1
        if on_progress is not None:
            on_progress(done, total)

    import pandas as pd

    late = (table.date >= table.date.max() - pd.DateOffset(months=MONTHS)).to_numpy()
    judge = _model.fit(rows[~late], y[~late], len(names), 0, epochs, tick)
    known = set(table.merchant[~late])
    summary = {
        "last_six_months": _metrics(_model.probabilities(judge, rows[late]), y[late], table[late], known),
        "last_six_months_logistic": _metrics(
            _logistic(rows[~late], y[~late])[0](rows[late]), y[late], table[late], known
        ),
    }
    modules = [_model.fit(rows, y, len(names), seed, epochs, tick) for seed in range(seeds)]
    save_states(
        out / "model.pt",
        [m.state_dict() for m in modules],
        names=names,
        merchants=sorted(map(str, set(table.merchant))),
    )
    _, W, b = _logistic(rows, y)
    np.savez_compressed(out / "logistic.npz", W=W.astype(np.float32), b=b)
    write_json(out / "training.json", summary)
    return summary


def _logistic(rows: Any, y: np.ndarray) -> tuple[Callable[[Any], np.ndarray], np.ndarray, np.ndarray]:
    """Logistic regression on the same tokens, by stochastic gradient; every class is present in `y`."""
    from sklearn.linear_model import SGDClassifier

    model = SGDClassifier(loss="log_loss", alpha=2e-6, max_iter=8, tol=None, random_state=0).fit(rows, y)
    W, b = np.zeros((y.max() + 1, rows.shape[1])), np.full(y.max() + 1, -20.0)
    W[model.classes_], b[model.classes_] = model.coef_, model.intercept_
    return (lambda z: _shares(z, W, b)), W, b


def _shares(rows: Any, W: np.ndarray, b: np.ndarray) -> np.ndarray:
    """One-against-rest probabilities, scaled to sum to one."""
    p = 1 / (1 + np.exp(-np.clip(rows @ W.T + b, -30, 30)))
    return p / p.sum(1, keepdims=True)


def _metrics(p: np.ndarray, y: np.ndarray, table: Any, known: set[str]) -> dict[str, Any]:
    """Accuracy (all, unseen merchants), mean F1 over classes, and error of monthly totals by category over their sum."""
    from sklearn.metrics import f1_score

    decided, new = p.argmax(1), ~table.merchant.astype(str).isin({str(k) for k in known}).to_numpy()
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
    """Metrics on transactions of the same layout; merchants count as unseen when the training had none of that text."""
    import pandas as pd

    for file in files:
        if "merchant" not in pd.read_csv(file, nrows=1).columns:
            raise UnreadableFile(f"{file} has no column 'merchant'; this version scores card transactions only")
    table = pd.concat([_text.read(Path(f)) for f in files], ignore_index=True)
    loaded = load_states(out / "model.pt", NAME)
    names, known = loaded["names"], set(loaded["merchants"])
    rows, y = _text.tokens(table), _text.labels(table, names)
    each = []
    for state in loaded["states"]:
        module = _model.build(len(names), rows.shape[1])
        module.load_state_dict(state)
        each.append(_model.probabilities(module.eval(), rows))
    line = np.load(out / "logistic.npz")
    metrics: dict[str, Any] = _metrics(np.mean(each, 0), y, table, known)
    metrics["accuracy_of_seeds"] = t_interval([_metrics(p, y, table, known)["accuracy"] for p in each])
    baseline = _metrics(_shares(rows, line["W"], line["b"]), y, table, known)
    return {"study": NAME, "metrics": metrics, "baselines": {"logistic_ngrams": baseline}, "rows": len(y)}


def figures(out: Path, data: Path) -> list[Path]:
    """`spending.png`: monthly spending of the five largest categories, as recorded and as the networks sort it."""
    from matplotlib.figure import Figure

    table = _text.read(data / CARDS)
    loaded = load_states(out / "model.pt", NAME)
    names = loaded["names"]
    rows, y = _text.tokens(table), _text.labels(table, names)
    module = _model.build(len(names), rows.shape[1])
    module.load_state_dict(loaded["states"][0])
    p = _model.probabilities(module.eval(), rows)
    month, amount = table.date.dt.to_period("M"), table.amount.to_numpy(float)
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    largest = np.argsort(-np.bincount(y, amount, len(names))[:-1])[:5]
    for k, category in enumerate(largest):
        sums = lambda v: table.assign(v=v).groupby(month).v.sum() / 1e3
        truth, ours = sums(amount * (y == category)), sums(amount * p[:, category])
        x = truth.index.to_timestamp()
        axes.plot(x, ours.to_numpy(), color=f"C{k}", label=names[category])
        axes.plot(x, truth.to_numpy(), ".", color=f"C{k}", ms=4)
    axes.set(
        ylabel="thousand pounds a month", title="Lines: sorted by the network; dots: as recorded (training months)"
    )
    axes.legend(frameon=False, fontsize=8)
    path = out / "spending.png"
    figure.savefig(path, dpi=140)
    return [path]
