"""CNC mill: worn or unworn tool from 5 seconds of drive signals (10 Hz).

Thirteen experiments decide, not 666 windows: the setups (feed rate, clamp pressure) come in pairs of a worn and an
unworn tool, so whoever learns the setup is wrong on the experiment left out (boosting: AUROC far below 0.5). So each
feature becomes its own share in the training windows (a piecewise-linear distribution function: ReLU ramps between
quantiles); the feature in which worn experiments lie most clearly apart from unworn ones *of the same feed rate* votes. One hidden
layer of ReLUs; the vote is a sentence in the feature's own unit. More votes were tried and are worse (see the page).

A tool does not recover while it cuts, so a window is judged by the mean of the votes of its experiment up to it (the last 100 s).
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import UnreadableFile
from relukit.gallery.maintenance import _files

Array = np.ndarray
WINDOW, STEP, KNOTS, VOTES = 50, 25, 12, 1  # rows, rows, knots of a ramp, features that vote
RATE, MEMORY, PATIENCE = 10, 40, 8  # rows a second; windows that are remembered; windows before a tool is judged
SETUP = ["Machining_Process", "tool_condition", "experiment", "feedrate", "clamp_pressure"]
KINDS = ("mean", "standard deviation", "mean step", "largest size")


def read(path: Path, columns: list[str] | None = None) -> Any:
    """Rows of experiments; those that lack one of the numbers are left out.

    Arguments:
        columns: The signals that are needed; without them, whatever is there besides the set-up (the training file).
    """
    table = _files.frame(path, ["experiment", *(columns or [])], ["tool_condition"])
    strange = set(table["tool_condition"].unique()) - {"worn", "unworn"}
    if strange:
        raise UnreadableFile(
            f"{path}: column tool_condition holds {min(map(str, strange))!r}; expected are worn, unworn"
        )
    return table


def window_features(w: Array) -> Array:
    """(4 x signals,) of rows (50, signals)."""
    return np.concatenate([w.mean(0), w.std(0), np.abs(np.diff(w, axis=0)).mean(0), np.abs(w).max(0)])


def signals(table: Any) -> list[str]:
    return [c for c in table.columns if c not in SETUP]


def names(columns: list[str]) -> list[str]:
    return [f"{kind} of {c}" for kind in KINDS for c in columns]


def windows(table: Any, columns: list[str]) -> dict[int, dict[str, Any]]:
    """Per experiment: `features` (windows, n), `worn`, `feed`, `mark` (of its rows, to know it again)."""
    out = {}
    for number, part in table.groupby("experiment"):
        X = part[columns].to_numpy(float)
        if len(X) < WINDOW:
            continue
        starts = range(0, len(X) - WINDOW + 1, STEP)
        out[int(number)] = {
            "features": np.stack([window_features(X[i : i + WINDOW]) for i in starts]),
            "worn": bool(part["tool_condition"].iloc[0] == "worn") if "tool_condition" in part else None,
            "feed": float(part["feedrate"].iloc[0]) if "feedrate" in part else None,
            "mark": hashlib.sha256(np.round(X, 6).tobytes()).hexdigest()[:16],
        }
    return out


def ramps(features: Array) -> list[tuple[Array, Array]]:
    """Knots and heights of each feature's distribution function, 0 to 1."""
    heights, out = np.linspace(0, 1, KNOTS), []
    for column in features.T:
        q = np.quantile(column, heights)
        keep = np.r_[True, np.diff(q) > 1e-9 * (np.abs(q).max() + 1e-12)]
        out.append((q[keep], heights[keep]))
    return out


def shares(features: Array, curves: list[tuple[Array, Array]]) -> Array:
    return np.column_stack([np.interp(x, q, h) if len(q) > 1 else np.zeros(len(x)) for x, (q, h) in zip(features.T, curves)])  # fmt: skip


def votes(means: Array, worn: Array, feed: Array) -> Array:
    """-1, 0 or 1 for each feature, from pairs of experiments with one feed rate; the clearest `VOTES` count."""
    total = np.zeros(means.shape[1])
    for i in np.flatnonzero(worn):
        for j in np.flatnonzero(~worn & (feed == feed[i])):
            total += np.clip(means[i] - means[j], -0.3, 0.3)
    sign = np.sign(total)
    sign[np.argsort(-np.abs(total), kind="stable")[VOTES:]] = 0
    return sign


def network(curves: list[tuple[Array, Array]], vote: Array) -> Any:
    """The mean vote, between -1 and 1, as one hidden layer of ReLUs on raw window features."""
    from relukit.activations import get
    from relukit.network import from_layers

    rows, offsets, weights, constant = [], [], [], 0.0
    count = max(1.0, float(np.abs(vote).sum()))
    for j in np.flatnonzero(vote):
        q, h = curves[j]
        if len(q) < 2:
            continue
        slopes = np.concatenate([[0.0], np.diff(h) / np.diff(q), [0.0]])
        for knot, bend in zip(q, np.diff(slopes)):
            unit = np.zeros(len(curves))
            unit[j] = 1.0
            rows.append(unit)
            offsets.append(-knot)
            weights.append(2 * vote[j] * bend / count)
        constant += (2 * h[0] - 1) * vote[j] / count
    return from_layers([np.stack(rows), np.array([weights])], [np.array(offsets), np.array([constant])], [get("relu")])


def fit(experiments: dict[int, dict[str, Any]]) -> tuple[Any, Array]:
    parts = list(experiments.values())
    curves = ramps(np.concatenate([p["features"] for p in parts]))
    means = np.stack([shares(p["features"], curves).mean(0) for p in parts])
    vote = votes(means, np.array([p["worn"] for p in parts]), np.array([p["feed"] for p in parts]))
    return network(curves, vote), vote


def left_out(experiments: dict[int, dict[str, Any]], relabelled: dict[int, bool] | None = None) -> dict[int, Array]:
    """Scores of every experiment by the network that never saw it."""
    out = {}
    for number in experiments:
        rest = {k: dict(p) for k, p in experiments.items() if k != number}
        if relabelled:
            for k in rest:
                rest[k]["worn"] = relabelled[k]
        out[number] = fit(rest)[0](experiments[number]["features"])[:, 0]
    return out


def auroc(scores: dict[int, Array], worn: dict[int, bool]) -> float:
    from sklearn.metrics import roc_auc_score

    truth = np.concatenate([np.full(len(s), worn[k]) for k, s in scores.items()])
    if truth.all() or not truth.any():
        return float("nan")
    return float(roc_auc_score(truth, np.concatenate(list(scores.values()))))


def remembered(scores: dict[int, Array]) -> dict[int, Array]:
    """Mean vote of each window and those before it in its experiment, `MEMORY` at most."""
    out = {}
    for k, s in scores.items():
        total = np.concatenate([[0.0], np.cumsum(s)])
        start = np.maximum(0, np.arange(1, len(s) + 1) - MEMORY)
        out[k] = (total[1:] - total[start]) / (np.arange(1, len(s) + 1) - start)
    return out


def lead_times(scores: dict[int, Array], worn: dict[int, bool]) -> dict[str, Any]:
    """Seconds of cutting until the tool is called worn (`PATIENCE` windows seen, their mean vote above 0), and seconds left then.

    The rows hold no moment at which a tool failed; what a warning spares is the rest of the experiment with a worn tool.

    Arguments:
        scores: Votes as remembered.
    """
    until, left, false = [], [], 0
    for k, s in scores.items():
        told = np.flatnonzero(s[PATIENCE - 1 :] > 0) + PATIENCE - 1
        false += bool(len(told)) and not worn[k]
        if worn[k] and len(told):
            until.append((WINDOW + STEP * told[0]) / RATE)
            left.append(STEP * (len(s) - 1 - told[0]) / RATE)
    middle = lambda v: float(np.median(v)) if v else None
    return {
        "worn_experiments": sum(worn[k] for k in scores), "worn_experiments_warned": len(until),
        "seconds_until_warned_median": middle(until), "lead_seconds_median": middle(left),
        "unworn_experiments": sum(not worn[k] for k in scores), "unworn_experiments_warned": int(false),
    }  # fmt: skip


def interval(scores: dict[int, Array], worn: dict[int, bool], repeats: int = 500) -> tuple[float, float]:
    """95 % bootstrap over whole experiments, worn and unworn apart."""
    generator, values = np.random.default_rng(0), []
    groups = [[k for k in scores if worn[k] == w] for w in (False, True)]
    for _ in range(repeats):
        chosen = [k for g in groups for k in generator.choice(g, len(g))]
        values.append(auroc({i: scores[k] for i, k in enumerate(chosen)}, {i: worn[k] for i, k in enumerate(chosen)}))
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def relabelling_share(experiments: dict[int, dict[str, Any]], reached: float, most: int = 60) -> dict[str, float]:
    """How often labels shuffled within a feed rate reach that AUROC, left out in turn: the chance of luck."""
    generator, values = np.random.default_rng(0), []
    feeds = {p["feed"] for p in experiments.values()}
    for _ in range(most):
        fake = {}
        for feed in feeds:
            members = [k for k, p in experiments.items() if p["feed"] == feed]
            for k, w in zip(members, generator.permutation([experiments[m]["worn"] for m in members])):
                fake[k] = bool(w)
        values.append(auroc(remembered(left_out(experiments, fake)), fake))
    return {"mean": float(np.mean(values)), "share_reaching": float(np.mean(np.array(values) >= reached))}


def score(out: Any, experiments: dict[int, dict[str, Any]], training: dict[int, dict[str, Any]]) -> tuple[dict, dict]:
    """Seen experiments are judged by networks without them, new ones by the saved network; boosting the same way."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    known = {p["mark"]: k for k, p in training.items()}
    scores, boosted, cache = {}, {}, {}
    for number, part in experiments.items():
        skip = known.get(part["mark"])
        if skip not in cache:
            rest = {k: p for k, p in training.items() if k != skip}
            rows = np.concatenate([p["features"] for p in rest.values()])
            truth = np.concatenate([np.full(len(p["features"]), p["worn"]) for p in rest.values()])
            boost = HistGradientBoostingClassifier(random_state=0, max_iter=60).fit(rows, truth)
            cache[skip] = (fit(rest)[0] if skip is not None else out, boost)
        net, boost = cache[skip]
        scores[number] = net(part["features"])[:, 0]
        boosted[number] = boost.predict_proba(part["features"])[:, 1]
    worn = {k: p["worn"] for k, p in experiments.items()}
    past, boosted_past = remembered(scores), remembered(boosted)
    low, high = interval(past, worn) if len(set(worn.values())) == 2 else (float("nan"), float("nan"))
    means = {k: np.array([s.mean()]) for k, s in scores.items()}
    return (
        {"auroc": auroc(past, worn), "auroc_low": low, "auroc_high": high, "auroc_windows_alone": auroc(scores, worn),
         "auroc_by_experiment": auroc(means, worn), "lead": lead_times(past, worn)},
        {"boosting_same_features": {"auroc": auroc(boosted_past, worn), "auroc_windows_alone": auroc(boosted, worn)}},
    )  # fmt: skip
