"""AI4I 2020: conjunctions of thresholds learned from rows, held as a ReLU network whose exact pieces are the rules.

Sequential covering finds a few boxes {x_j > t_j, x_k < t_k} that hold failures and nearly nothing else. A box is two
ReLU layers, relu(1 - sum_j K_j relu(t_j - x_j)): 1 inside, 0 as soon as one side is violated by 1 / K_j. The steps
K_j come from the gap between neighboring training rows. Gradient descent on the same features stays at F1 0.77-0.82:
failures are 3 % of the rows, and what counts is where exactly a threshold lies.

What a machine stands grows with the grade of its product (L, M, H). Single grades have too few failures (1 of H), so the limits of
strain are a + b g with g = 0, 1, 2, two numbers for all grades: one side of a box is then sum_g strain_g / (a + b g) > t.
"""

from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import UnreadableFile
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
RISK, LOADS = 0.1, 400  # share of usual loads that would fail, from which a warning stands; loads that are tried
Rule = dict[int, float]  # j < m: y_j > t; j >= m: -y_(j - m) > t, with the m directions y = D x


def read(path: Path) -> Any:
    """AI4I rows; those that lack one of the numbers are left out."""
    table = _files.frame(path, [*COLUMNS[1:], TARGET], COLUMNS[:1])
    for column, allowed in ((COLUMNS[0], set(TYPES)), (TARGET, {0.0, 1.0})):
        strange = set(table[column].unique()) - allowed
        if strange:
            raise UnreadableFile(f"{path}: column {column} holds {min(map(str, strange))!r}; expected are {', '.join(map(str, sorted(allowed)))}")  # fmt: skip
    return table


def features(table: Any) -> Array:
    """(rows, 7): what the failure of such a machine may hang on, in its own units."""
    kind = table["Type"].to_numpy()
    air, process, speed, torque, wear = (table[c].to_numpy(float) for c in COLUMNS[1:])
    power = torque * speed * 2 * np.pi / 60
    return np.column_stack([process - air, speed, power, wear, *(torque * wear * (kind == t) for t in TYPES)])


def raw(table: Any) -> Array:
    kind = table["Type"].to_numpy()
    return np.column_stack([*(table[c].to_numpy(float) for c in COLUMNS[1:]), kind == "L", kind == "M"])


def directions(X: Array, y: Array) -> Array:
    """D (5, 7): what a side of a box may be of. The first four features as they are, and the strain over the limit of its grade.

    The step b between the limits is the middle of those with which one limit divides failures from other rows best.
    """
    strain, grade = X[:, 4:].sum(1), np.argmax(X[:, 4:] > 0, 1)
    high = strain > np.quantile(strain, 0.8)
    steps = np.arange(0, 4001, 20.0)
    found = [_cut((strain - b * grade)[high], (y - 2.0 * (1 - y))[high]) for b in steps]
    best = np.flatnonzero([g == max(g for _, g in found) for _, g in found])
    k = int(best[len(best) // 2])
    D = np.zeros((5, 7))
    D[:4, :4] = np.eye(4)
    if found[k][0] > 0:
        D[4, 4:] = 1 / (found[k][0] + steps[k] * np.arange(3))
    return D


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


def learn(Y: Array, y: Array, most: int = 8) -> list[Rule]:
    """Rules on the columns of Y, the most useful first; a false alarm costs two failures found."""
    Z, left, rules = np.column_stack([Y, -Y]), y.astype(float), []
    for _ in range(most):
        _, rule = _best_rule(Z, left - 2.0 * (1 - y), left > 0)
        if rule is None:
            break
        rules.append({j: t for j, t in rule.items() if np.isfinite(t)})
        left[_inside(Z, rule)] = 0
    return rules


def network(rules: list[Rule], X: Array, D: Array) -> Any:
    """The rules on D x as a ReLU network of the features x; its output is above 0 where a rule fires."""
    from relukit.activations import get
    from relukit.network import from_layers

    sides = [(r, j, t) for r, rule in enumerate(rules) for j, t in rule.items()]
    Y, m = X @ D.T, len(D)
    first, offset = np.zeros((len(sides), X.shape[1])), np.zeros(len(sides))
    second = np.zeros((len(rules), len(sides)))
    for i, (r, j, t) in enumerate(sides):
        sign = 1.0 if j < m else -1.0
        first[i], offset[i] = -sign * D[j % m], t
        outside = t - sign * Y[:, j % m]
        second[r, i] = -1.0 / outside[outside > 0].min()
    relu = get("relu")
    return from_layers(
        [first, second, np.ones((1, len(rules)))], [offset, np.ones(len(rules)), np.array([-0.5])], [relu, relu]
    )


def thresholds(net: Any, rules: list[Rule], X: Array, D: Array) -> list[dict[str, Any]]:
    """Read the thresholds off the network: where its exact pieces along a feature's axis cross 0.

    Each line runs along one feature through a failing row that this rule alone explains.
    """
    import relukit

    out, m = [], len(D)
    Z = np.column_stack([X @ D.T, -X @ D.T])
    for r, rule in enumerate(rules):
        alone = _inside(Z, rule)
        for other in rules[:r] + rules[r + 1 :]:
            alone &= ~_inside(Z, other)
        for j in rule:
            axes, above = np.flatnonzero(D[j % m]), j < m
            for feature in axes:
                rows = alone & (X[:, feature] > 0) if len(axes) > 1 else alone
                if not rows.any():
                    continue
                spread = X.std(0) + 1e-12
                start = X[rows][np.argmin((np.abs(X[rows] - np.median(X[rows], 0)) / spread).sum(1))]
                end = start.copy()
                end[feature] = X[:, feature].min() if above else X[:, feature].max()
                line = relukit.breakpoints(net, start, end)
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


def fired(rules: list[Rule], x: Array, D: Array) -> list[int]:
    """Numbers (from 1) of the rules that fire on one row of features."""
    z = np.concatenate([D @ x, -D @ x])
    return [r for r, rule in enumerate(rules, 1) if all(z[j] > t for j, t in rule.items())]


def rank_score(net: Any, rules: list[Rule], X: Array, D: Array, spread: Array) -> Array:
    """Order of risk: rows where a rule fires by the network's output, the others by their distance to the next rule."""
    Y, m, far = X @ D.T, len(D), np.full(len(X), np.inf)
    for rule in rules:
        gaps = [np.maximum(0, t - (Y[:, j] if j < m else -Y[:, j - m])) / spread[j % m] for j, t in rule.items()]
        far = np.minimum(far, np.sum(gaps, 0))
    return np.where(net(X)[:, 0] > 0, net(X)[:, 0], -far - 0.5)


def documented(table: Any) -> Array:
    """The four deterministic rules of the data set's paper (Matzka, 2020)."""
    X, kind = features(table), table["Type"].to_numpy()
    limit = np.select([kind == "L", kind == "M"], [11000.0, 12000.0], 13000.0)
    strain = X[:, 4:].sum(1)
    return ((X[:, 0] < 8.6) & (X[:, 1] < 1380)) | (X[:, 2] < 3500) | (X[:, 2] > 9000) | (strain > limit)


def danger(net: Any, table: Any, loads: Any) -> Array:
    """Share of usual loads (type, speed and torque of training rows) that would fail at each row's temperatures and tool wear."""
    state = table[[COLUMNS[1], COLUMNS[2], COLUMNS[5]]].drop_duplicates().reset_index(drop=True)
    every = state.loc[np.repeat(np.arange(len(state)), len(loads))].reset_index(drop=True)
    for column in (COLUMNS[0], *COLUMNS[3:5]):
        every[column] = np.tile(loads[column].to_numpy(), len(state))
    share = (net(features(every))[:, 0] > 0).reshape(len(state), len(loads)).mean(1)
    return table.merge(state.assign(share=share), how="left")["share"].to_numpy()


def lead_times(net: Any, training: Any, table: Any) -> dict[str, Any]:
    """Products that pass between a warning and a failure that follows, in rows as they were made (by `UDI` where it is there).

    A row's load comes by chance; temperatures and wear move slowly. A warning stands while `RISK` or more of `LOADS` usual
    loads would fail at the present temperatures and wear, so it can come before the row that fails.
    """
    order = np.argsort(table["UDI"].to_numpy(), kind="stable") if "UDI" in table else np.arange(len(table))
    at = table["UDI"].to_numpy(float)[order] if "UDI" in table else np.arange(len(table), dtype=float)
    part = table.iloc[order].reset_index(drop=True)
    loads = training.iloc[np.random.default_rng(0).permutation(len(training))[:LOADS]]
    warned = danger(net, part, loads) >= RISK
    begun = np.maximum.accumulate(np.where(warned & ~np.r_[False, warned[:-1]], np.arange(len(part)), 0))
    failed = part[TARGET].to_numpy(int) == 1
    lead = np.where(warned, at - at[begun], 0.0)[failed]
    return {
        "failures": int(failed.sum()), "failures_warned_ahead": int((lead > 0).sum()),
        "lead_products_median": float(np.median(lead[lead > 0])) if (lead > 0).any() else None,
        "share_of_rows_under_warning": float(warned.mean()),
    }  # fmt: skip


def score(net: Any, rules: list[Rule], D: Array, spread: Array, training: Any, table: Any) -> tuple[dict, dict]:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import average_precision_score, f1_score

    X, y = features(table), table[TARGET].to_numpy(int)
    both = lambda said, risk: {"f1": float(f1_score(y, said, zero_division=0)), "auprc": float(average_precision_score(y, risk)) if y.any() else None}  # fmt: skip
    boost = {}
    for name, of in (("boosting_raw_columns", raw), ("boosting_same_features", features)):
        model = HistGradientBoostingClassifier(random_state=0).fit(of(training), training[TARGET].to_numpy(int))
        risk = model.predict_proba(of(table))[:, 1]
        boost[name] = both(risk > 0.5, risk)
    rule = documented(table)
    said = net(X)[:, 0] > 0
    ours = both(said, rank_score(net, rules, X, D, spread))
    ours["precision"] = float(y[said].mean()) if said.any() else None
    ours["recall"] = float(said[y == 1].mean()) if y.any() else None
    ours["lead"] = lead_times(net, training, table)
    return ours, {"documented_rules": both(rule, rule.astype(float)), **boost}
