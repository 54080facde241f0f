"""AI4I 2020: conjunctions of thresholds learned from rows, held as a ReLU network whose exact pieces are the rules.

Sequential covering finds a few boxes {x_j > t_j, x_k < t_k} that hold failures and nearly nothing else. A box is two
ReLU layers, relu(1 - sum_j K_j relu(t_j - x_j)): 1 inside, 0 as soon as one side is violated by 1 / K_j. The steps
K_j come from the gap between neighboring training rows. Gradient descent on the same features stays at F1 0.77-0.82:
failures are 3 % of the rows, and what counts is where exactly a threshold lies.
"""

from pathlib import Path
from typing import Any

import numpy as np

from relukit.gallery.maintenance import _files

Array = np.ndarray
TYPES = ("L", "M", "H")
COLUMNS = ["Type", "Air temperature [K]", "Process temperature [K]", "Rotational speed [rpm]", "Torque [Nm]", "Tool wear [min]"]  # fmt: skip
TARGET = "Machine failure"
FEATURES = (
    "temperature difference [K]", "rotational speed [rpm]", "power [W]", "tool wear [min]",
    "strain of type L [Nm min]", "strain of type M [Nm min]", "strain of type H [Nm min]",
)  # fmt: skip
PRICE = 2.0  # failures that a side of a box has to be worth
Rule = dict[int, float]  # j < 7: x_j > t; j >= 7: -x_(j - 7) > t


def read(path: Path) -> Any:
    """AI4I rows; those that lack one of the numbers are left out."""
    return _files.frame(path, [*COLUMNS[1:], TARGET], COLUMNS[:1])


def features(table: Any) -> Array:
    """(rows, 7): what the failure of such a machine may hang on, in its own units."""
    kind = table["Type"].to_numpy()
    air, process, speed, torque, wear = (table[c].to_numpy(float) for c in COLUMNS[1:])
    power = torque * speed * 2 * np.pi / 60
    return np.column_stack([process - air, speed, power, wear, *(torque * wear * (kind == t) for t in TYPES)])


def raw(table: Any) -> Array:
    kind = table["Type"].to_numpy()
    return np.column_stack([*(table[c].to_numpy(float) for c in COLUMNS[1:]), kind == "L", kind == "M"])


def _cut(x: Array, gain: Array) -> tuple[float, float]:
    """The threshold t that makes the gain of {x > t} largest, midway between two rows, and that gain."""
    order = np.argsort(-x, kind="stable")
    s, total = x[order], np.cumsum(gain[order])
    total[:-1][s[:-1] <= s[1:]] = -np.inf
    k = int(np.argmax(total))
    return (float((s[k] + s[k + 1]) / 2) if k + 1 < len(s) else -np.inf), float(total[k])


def _inside(Z: Array, rule: Rule, skip: int | None = None) -> Array:
    keep = np.ones(len(Z), bool)
    for j, t in rule.items():
        if j != skip:
            keep &= Z[:, j] > t
    return keep


def _best_rule(Z: Array, gain: Array, failing: Array) -> tuple[float, Rule | None]:
    """The best box with one or two sides; a side must be worth `PRICE`."""
    best: tuple[float, Rule | None] = (0.0, None)
    for j in range(Z.shape[1]):
        t, g = _cut(Z[:, j], gain)
        if g - PRICE + 1 > best[0]:
            best = (g - PRICE + 1, {j: t})
    for j in range(Z.shape[1]):
        for start in np.unique(np.quantile(Z[failing, j], np.linspace(0, 0.9, 10))) if failing.any() else ():
            keep = Z[:, j] >= start
            for k in range(Z.shape[1]):
                if k == j:
                    continue
                t, g = _cut(Z[keep, k], gain[keep])
                if g - 2 * PRICE + 1 <= best[0] - 3:
                    continue
                rule = {j: float(start), k: t}
                for _ in range(3):  # each side anew while the other stands
                    for side in rule:
                        rows = _inside(Z, rule, side)
                        rule[side], g = _cut(Z[rows, side], gain[rows])
                if g - 2 * PRICE + 1 > best[0] + 1e-9:
                    best = (g - 2 * PRICE + 1, dict(rule))
    return best


def learn(X: Array, y: Array, most: int = 8) -> list[Rule]:
    """Rules, the most useful first; a false alarm costs two failures found."""
    Z, left, rules = np.column_stack([X, -X]), y.astype(float), []
    for _ in range(most):
        _, rule = _best_rule(Z, left - 2.0 * (1 - y), left > 0)
        if rule is None:
            break
        rules.append({j: t for j, t in rule.items() if np.isfinite(t)})
        left[_inside(Z, rule)] = 0
    return rules


def network(rules: list[Rule], X: Array) -> Any:
    """The rules as a ReLU network of the seven features; its output is above 0 where a rule fires."""
    from relukit.activations import get
    from relukit.network import from_layers

    sides = [(r, j, t) for r, rule in enumerate(rules) for j, t in rule.items()]
    n = X.shape[1]
    first, offset = np.zeros((len(sides), n)), np.zeros(len(sides))
    second = np.zeros((len(rules), len(sides)))
    for i, (r, j, t) in enumerate(sides):
        sign = 1.0 if j < n else -1.0
        first[i, j % n], offset[i] = -sign, t
        outside = t - sign * X[:, j % n]
        second[r, i] = -1.0 / outside[outside > 0].min()
    relu = get("relu")
    return from_layers(
        [first, second, np.ones((1, len(rules)))], [offset, np.ones(len(rules)), np.array([-0.5])], [relu, relu]
    )


def thresholds(net: Any, rules: list[Rule], X: Array) -> list[dict[str, Any]]:
    """Read the thresholds off the network: where its exact pieces along a feature's axis cross 0.

    Each line runs along one feature through a failing row that this rule alone explains.
    """
    import relukit

    out, Z = [], np.column_stack([X, -X])
    for r, rule in enumerate(rules):
        rows = _inside(Z, rule)
        for other in rules[:r] + rules[r + 1 :]:
            rows &= ~_inside(Z, other)
        if not rows.any():
            continue
        spread = X.std(0) + 1e-12
        middle = X[rows][np.argmin((np.abs(X[rows] - np.median(X[rows], 0)) / spread).sum(1))]
        for j in rule:
            feature, above = j % X.shape[1], j < X.shape[1]
            end = middle.copy()
            end[feature] = X[:, feature].min() if above else X[:, feature].max()
            line = relukit.breakpoints(net, middle, end)
            out.append({
                "rule": r + 1, "feature": FEATURES[feature], "side": ">" if above else "<",
                "threshold": _first_crossing(net, line, feature), "rows": int(rows.sum()),
            })  # fmt: skip
    return out


def _first_crossing(net: Any, line: Any, feature: int) -> float | None:
    """Where the output first reaches 0: between two breakpoints, bisected there since a ramp may be 1e-14 wide."""
    below = np.flatnonzero(line.values[:, 0] <= 0)
    if len(below) == 0 or below[0] == 0:
        return None
    inside, outside = line.points()[below[0] - 1], line.points()[below[0]]
    for _ in range(80):
        middle = (inside + outside) / 2
        if net(middle[None])[0, 0] > 0:
            inside = middle
        else:
            outside = middle
    return float((inside + outside)[feature] / 2)


def rank_score(net: Any, rules: list[Rule], X: Array, spread: Array) -> Array:
    """Order of risk: rows where a rule fires by the network's output, the others by their distance to the next rule."""
    far = np.full(len(X), np.inf)
    for rule in rules:
        n = X.shape[1]
        gaps = [np.maximum(0, t - (X[:, j] if j < n else -X[:, j - n])) / spread[j % n] for j, t in rule.items()]
        far = np.minimum(far, np.sum(gaps, 0))
    return np.where(net(X)[:, 0] > 0, net(X)[:, 0], -far - 0.5)


def documented(table: Any) -> Array:
    """The four deterministic rules of the data set's paper (Matzka, 2020)."""
    X, kind = features(table), table["Type"].to_numpy()
    limit = np.select([kind == "L", kind == "M"], [11000.0, 12000.0], 13000.0)
    strain = X[:, 4:].sum(1)
    return ((X[:, 0] < 8.6) & (X[:, 1] < 1380)) | (X[:, 2] < 3500) | (X[:, 2] > 9000) | (strain > limit)


def score(net: Any, rules: list[Rule], spread: Array, training: Any, table: Any) -> tuple[dict, dict]:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import average_precision_score, f1_score

    X, y = features(table), table[TARGET].to_numpy(int)
    both = lambda said, risk: {"f1": float(f1_score(y, said)), "auprc": float(average_precision_score(y, risk))}
    boost = {}
    for name, of in (("boosting_raw_columns", raw), ("boosting_same_features", features)):
        model = HistGradientBoostingClassifier(random_state=0).fit(of(training), training[TARGET].to_numpy(int))
        risk = model.predict_proba(of(table))[:, 1]
        boost[name] = both(risk > 0.5, risk)
    rule = documented(table)
    fired = net(X)[:, 0] > 0
    ours = both(fired, rank_score(net, rules, X, spread))
    ours |= {"precision": float(y[fired].mean()) if fired.any() else 0.0, "recall": float(fired[y == 1].mean())}
    return ours, {"documented_rules": both(rule, rule.astype(float)), **boost}
