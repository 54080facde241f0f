"""Payments to categories, to an index, and to a nowcast of official retail sales; judged on later months."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import UnreadableFile
from relukit._numerics import write_json
from relukit.gallery._life import data_folder, t_interval
from relukit.gallery.retail_index import _memory, _model, _sales, _series, _text
from relukit.gallery.retail_index.volume import saved, saved_memory

NAME, EPOCHS, MONTHS, _LENGTH, _DRAWS, _LARGE = "retail-index", 3, 6, 0.45, 1001, 200
JUDGES = 2
_AGREE = 0.2  # weight of either group's answer, chosen on three half-years
_EVEN = 0.2  # the power of a category's share that decides, chosen on 2016
_FLOOR = 1e-3  # added to a probability before its logarithm
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
    """Judge two networks on the last six months, trained on those before; then `seeds` networks on everything, and the nowcast."""
    table = _text.read(data / CARDS)
    names = _text.categories(table)
    rows, y = _text.tokens(table), _text.labels(table, names)
    epochs, done = (1 if quick else EPOCHS), 0
    total = (seeds + JUDGES) * epochs + seeds

    def tick(_: int = 0) -> None:
        nonlocal done
        done += 1
        if on_progress is not None:
            on_progress(done, total)

    month = table.date.dt.to_period("M")
    late = (month > month.max() - MONTHS).to_numpy()
    judged = judge(table, rows, y, ~late, late, JUDGES, epochs, on_epoch=tick)
    summary: dict[str, Any] = {
        "last_six_months": judged["networks"],
        "last_six_months_each_payment_alone": judged["each_payment_alone"],
        "last_six_months_logistic": judged["logistic_ngrams"],
    }
    memory, told = _memory.learn(table, y, len(names))
    memory.save(out / "memory.npz")
    for seed in range(seeds):
        net = network(seed, rows, told, y, len(names), epochs, _model.weights(table), tick)
        np.savez_compressed(out / f"sort_{seed}.npz", names=np.array(names), **net)
    W, b = _logistic(rows, y, len(names))
    np.savez_compressed(out / "logistic.npz", W=W.astype(np.float16), b=b)
    write_json(out / "sorting.json", {"seeds": seeds, "merchants": sorted(set(table.merchant.fillna("").astype(str)))})
    summary["nowcast"] = _sales.train([data / SPENDING], [data / OFFICIAL], out, seeds, quick, tick)
    write_json(out / "training.json", summary)
    return summary


def network(seed: int, rows: Any, told: np.ndarray, y: np.ndarray, *more: Any) -> dict[str, np.ndarray]:
    """Every other network is without memory: the two kinds err differently, and their mean gains more than that of either kind."""
    classes, *rest = more
    return _model.fit(rows, told if seed % 2 == 0 else None, y, classes, seed, *rest)


def judge(
    table: Any,
    rows: Any,
    y: np.ndarray,
    past: np.ndarray,
    now: np.ndarray,
    networks: int,
    epochs: int,
    known: set[str] | None = None,
    on_epoch: Any = None,
) -> dict[str, Any]:
    """Metrics on the payments `now` of networks and logistic n-grams that saw only the payments `past` (two masks).

    Arguments:
        networks: How many; an even number, since they are also judged in pairs, one with memory and one without.
        known: Merchants that count as seen; those of the past if not given.

    Returns:
        `networks` (their mean), `each_payment_alone` (the same without `agreed`), `pairs` (each), `logistic_ngrams`, `rows`, `unseen_merchants` (share of rows).
    """
    classes = _text.TOP + 1
    memory, told = _memory.learn(table[past], y[past], classes)
    later, weight = _memory.inputs_of(memory, table[now]), _model.weights(table[past])
    merchants = table.merchant.fillna("").astype(str)
    known = set(merchants[past]) if known is None else known
    each = []
    for seed in range(networks):
        net = network(seed, rows[past], told, y[past], classes, epochs, weight, on_epoch)
        each.append(_model.probabilities(net, rows[now], later))
    line = _shares(rows[now], *_logistic(rows[past], y[past], classes))
    of = lambda p: _metrics(p, y[now], table[now], known)
    together = lambda p: _together(p, y[now], table[now], known)
    return {
        "networks": together(np.mean(each, 0)),
        "each_payment_alone": of(np.mean(each, 0)),
        "pairs": [together((a + b) / 2) for a, b in zip(each[::2], each[1::2], strict=True)],
        "logistic_ngrams": of(line),
        "rows": int(now.sum()),
        "unseen_merchants": float((~merchants[now].isin(known)).mean()),
    }


def _logistic(rows: Any, y: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Logistic regression on the same tokens, by stochastic gradient, each class against the rest.

    The step size that its penalty implies wants rows near length 1.
    """
    from sklearn.linear_model import SGDClassifier

    model: Any = SGDClassifier(loss="log_loss", alpha=2e-6, max_iter=8, tol=None, random_state=0)
    model.fit(rows * _LENGTH, y)
    W, b = np.zeros((classes, rows.shape[1])), np.full(classes, -20.0)
    W[model.classes_], b[model.classes_] = model.coef_ * _LENGTH, model.intercept_
    return W, b


def _shares(rows: Any, W: np.ndarray, b: np.ndarray) -> np.ndarray:
    """One-against-rest probabilities, scaled to sum to one."""
    p = 1 / (1 + np.exp(-np.clip(rows @ W.T + b, -30, 30)))
    return p / p.sum(1, keepdims=True)


def _together(p: np.ndarray, y: np.ndarray, table: Any, known: set[str]) -> dict[str, Any]:
    """Metrics after the payments of the table have heard each other."""
    p = agreed(p, table)
    return _metrics(p, y, table, known, even(p))


def _metrics(
    p: np.ndarray, y: np.ndarray, table: Any, known: set[str], decided: np.ndarray | None = None
) -> dict[str, Any]:
    """Accuracy (all, unseen merchants), mean F1 over classes, and error of monthly totals by category over their sum.

    Arguments:
        decided: The category of each payment; the likeliest if not given.
    """
    from sklearn.metrics import f1_score

    decided = p.argmax(1) if decided is None else decided
    new = ~table.merchant.fillna("").astype(str).str.lower().isin({k.lower() for k in known}).to_numpy()
    month = table.date.dt.to_period("M").astype("category").cat.codes.to_numpy()
    amount = table.amount.to_numpy(float)
    truth = np.zeros((month.max() + 1, p.shape[1]))
    np.add.at(truth, (month, y), amount)
    whole = np.abs(truth).sum()
    error = lambda totals: float(100 * np.abs(totals - truth).sum() / whole) if whole > 0 else None
    mean, median = totals(p, amount, month)
    return {
        "accuracy": float((decided == y).mean()),
        "accuracy_unseen_merchants": float((decided == y)[new].mean()) if new.any() else None,
        "macro_f1": float(f1_score(y, decided, average="macro", zero_division=0)),
        "wape": error(median),
        "wape_of_means": error(mean),
    }


def even(p: np.ndarray) -> np.ndarray:
    """The category of each payment: the likeliest by its probability over a power of its share among all of `p`.

    After Menon et al., Long-tail learning via logit adjustment, 2021, with a small power: rare categories count as much as frequent ones in
    macro F1. Totals keep the probabilities as they are.
    """
    return (np.log(p + 1e-6) - _EVEN * np.log(p.mean(0) + 1e-4)).argmax(1)


def agreed(p: np.ndarray, table: Any) -> np.ndarray:
    """Probabilities after the payments of one merchant in `table` have heard each other: (payments, classes).

    A payment's own logarithms weigh 0.6, the mean of its merchant's and the mean of its merchant's payments of like size (doublings) 0.2 each. No
    label is needed. Departments move and begin anew, and what a merchant sells does not: one odd directorate no longer decides alone.
    """
    merchant = np.unique(table.merchant.fillna("").astype(str).str.lower().to_numpy(str), return_inverse=True)[1]
    size = np.round(np.log2(1 + np.abs(table.amount.to_numpy(float)))).astype(np.int64)
    own = np.log(p + _FLOOR)
    answer = (1 - 2 * _AGREE) * own
    for group in (merchant, np.unique(merchant * (size.max() + 1) + size, return_inverse=True)[1]):
        count = np.bincount(group)
        total = np.stack([np.bincount(group, column) for column in own.T], 1)
        answer += _AGREE * (total / count[:, None])[group]
    answer = np.exp(answer - answer.max(1, keepdims=True))
    return answer / answer.sum(1, keepdims=True)


def totals(p: np.ndarray, amount: np.ndarray, month: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Mean and median of each month's spending by category, (months, categories), categories drawn from `p`.

    The median is what makes the expected absolute error least. Beside the mean it gives a month's one huge payment wholly to its likely
    category; sums of many payments have both the same. So the largest payments of a month are drawn one by one, and the sum of the others
    as a normal number. The order of the rows does not matter.
    """
    rng, months, classes = np.random.default_rng(seed), int(month.max()) + 1, p.shape[1]
    mean, median = np.zeros((months, classes)), np.zeros((months, classes))
    for k in range(months):
        at = np.flatnonzero(month == k)
        at = at[np.lexsort((p[at, 0], p[at].max(1), amount[at], -np.abs(amount[at])))]
        share, paid = p[at].astype(float), amount[at][:, None]
        mean[k] = (share * paid).sum(0)
        big, rest, rest_paid = share[:_LARGE], share[_LARGE:], paid[_LARGE:]
        spread = np.sqrt((rest * (1 - rest) * rest_paid**2).sum(0).clip(0))
        drawn = (rest * rest_paid).sum(0) + spread * rng.standard_normal((_DRAWS, classes))
        draw = np.arange(_DRAWS)
        for chances, money in zip(big.cumsum(1)[:, :-1], paid[:_LARGE, 0], strict=True):
            drawn[draw, np.searchsorted(chances, rng.random(_DRAWS), side="right")] += money
        median[k] = np.median(drawn, 0)
    return mean, median


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
    told = _memory.inputs_of(saved_memory(out), table)
    for k in range(about["seeds"]):
        net, names = saved(out, k)
        each.append(_model.probabilities(net, rows, told))
    y = _text.labels(table, names)
    line = np.load(out / "logistic.npz")
    p = np.mean(each, 0)
    metrics: dict[str, Any] = _together(p, y, table, known)
    metrics["each_payment_alone"] = _metrics(p, y, table, known)
    metrics["accuracy_of_seeds"] = t_interval([float((p.argmax(1) == y).mean()) for p in each])
    baseline = _metrics(_shares(rows, line["W"].astype(float), line["b"]), y, table, known)
    return {"metrics": metrics, "baselines": {"logistic_ngrams": baseline}, "rows": len(y)}
