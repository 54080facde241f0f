"""C-MAPSS FD001: cycles that a turbofan engine still has, from 14 sensors and their past."""

from collections.abc import Callable
from typing import Any

import numpy as np

from relukit._errors import InvalidInput
from relukit.gallery._life import seeded, t_interval, train_module

Array = np.ndarray
CAP, FOLDS, LEVEL, START, WARN = 125.0, 5, 0.9, 30, 30.0
SENSORS = [2, 3, 4, 7, 8, 9, 11, 12, 13, 14, 15, 17, 20, 21]  # the other seven never change under one condition
NAMES = {
    2: "LPC outlet temperature [R]", 3: "HPC outlet temperature [R]", 4: "LPT outlet temperature [R]",
    7: "HPC outlet pressure [psia]", 8: "fan speed [rpm]", 9: "core speed [rpm]", 11: "HPC static pressure [psia]",
    12: "fuel flow / static pressure [pps/psi]", 13: "corrected fan speed [rpm]", 14: "corrected core speed [rpm]",
    15: "bypass ratio", 17: "bleed enthalpy", 20: "HPT coolant bleed [lbm/s]", 21: "LPT coolant bleed [lbm/s]",
}  # fmt: skip
SEA_LEVEL, APART = (
    np.array([0.0, 0.0, 100.0]),
    np.array([1.0, 0.05, 1.0]),
)  # settings 1 to 3 of FD001; what is still near
BANDS = np.array([0, 20, 40, 60, 80, 100, 115, CAP + 1])  # of predictions: intervals differ from early to late life


def known_conditions(table: Array, where: Any) -> None:
    """Refuses rows flown under other conditions than FD001's one (sea level): every sensor reads otherwise there.

    Raises:
        InvalidInput: Some row's operational settings are not those of sea level.
    """
    away = np.any(np.abs(table[:, 2:5] - SEA_LEVEL) > APART, axis=1)
    if away.any():
        k = int(np.argmax(away))
        told = ", ".join(f"{v:g}" for v in table[k, 2:5])
        raise InvalidInput(
            f"{where}: engine {table[k, 0]:.0f} flies under the operational settings {told} in cycle {table[k, 1]:.0f}; the study learned "
            f"FD001, where all are {', '.join(f'{v:g}' for v in SEA_LEVEL)} (sea level): FD002 and FD004 need another model"
        )


class Engine:
    """What is remembered of one engine's past; `push` takes the next row of sensors and gives the features."""

    def __init__(self) -> None:
        self.count, self.fast, self.middle, self.slow, self.first = 0, None, None, None, 0.0

    def push(self, x: Array) -> Array:
        self.count += 1
        if self.fast is None:
            self.fast = self.middle = self.slow = x
        step = lambda old, rate: old + max(rate, 1 / self.count) * (x - old)  # a plain mean until the rate takes over
        self.fast, self.middle, self.slow = step(self.fast, 0.3), step(self.middle, 0.1), step(self.slow, 0.03)
        if self.count <= 15:
            self.first = self.first + (x - self.first) / self.count
        parts = [self.fast, self.middle, self.slow, self.middle - self.slow, self.middle - self.first]
        return np.concatenate([*parts, [self.count / 100]])


def histories(table: Array, center: Array, spread: Array) -> dict[int, Array]:
    """Features (cycles, 71) of each engine, each row from its past only."""
    if np.any(np.diff(table[:, 0]) < 0):
        table = table[np.lexsort((table[:, 1], table[:, 0]))]
    standard = (table[:, [4 + s for s in SENSORS]] - center) / spread
    out = {}
    for engine in np.unique(table[:, 0]).astype(int):
        state = Engine()
        out[engine] = np.stack([state.push(x) for x in standard[table[:, 0] == engine]])
    return out


def scale(table: Array) -> tuple[Array, Array]:
    columns = table[:, [4 + s for s in SENSORS]]
    return columns.mean(0), columns.std(0)


def remaining(features: dict[int, Array]) -> tuple[Array, Array, Array]:
    """Rows from cycle 30 on, capped remaining cycles and engine of each, for engines run to failure."""
    rows = [f[START - 1 :] for f in features.values()]
    left = [np.minimum(CAP, len(f) - 1 - np.arange(START - 1, len(f))) for f in features.values()]
    engine = [np.full(max(0, len(f) - START + 1), e) for e, f in features.items()]
    return np.concatenate(rows), np.concatenate(left), np.concatenate(engine)


def fit(rows: Array, left: Array, seed: int, epochs: int) -> Any:
    """A ReLU network 71-64-32-1 of remaining cycles, as `Network`."""
    import torch
    from torch import nn

    import relukit

    with seeded(seed):
        module = nn.Sequential(nn.Linear(rows.shape[1], 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))
        X, y = torch.tensor(rows, dtype=torch.float32), torch.tensor(left / CAP, dtype=torch.float32)
        loss = lambda r: nn.functional.huber_loss(module(X[r])[:, 0], y[r], delta=0.1)
        train_module(module, loss, len(X), epochs=epochs, learning_rate=4e-3, seed=seed)
    with torch.no_grad():
        module[4].weight *= CAP
        module[4].bias *= CAP
    return relukit.load(module, input_shape=(1, rows.shape[1]))


def train(table: Array, seeds: int, epochs: int, advance: Callable[[], None]) -> tuple[list[Any], dict[str, Any]]:
    """Networks on all engines, and what networks said of engines kept from them."""
    features = histories(table, *scale(table))
    rows, left, engine = remaining(features)
    order = np.random.default_rng(0).permutation(np.unique(engine))
    unseen = np.zeros(len(rows))
    for fold in range(FOLDS):
        held = np.isin(engine, order[fold::FOLDS])
        parts = [fit(rows[~held], left[~held], s, epochs)(rows[held])[:, 0] for s in (fold, fold + FOLDS)]
        unseen[held] = np.clip(np.mean(parts, 0), 0, CAP)
        advance()
    networks = []
    for seed in range(seeds):
        networks.append(fit(rows, left, seed, epochs))
        advance()
    return networks, {"left": left, "unseen": unseen, "engine": engine, "quantiles": quantiles(left, unseen)}


def quantiles(left: Array, unseen: Array) -> Array:
    """Residual quantiles (bands, 2) of engines that were kept out, by band of the prediction."""
    at, tails = np.digitize(unseen, BANDS) - 1, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    everywhere = np.quantile(left - unseen, tails)
    return np.array([
        np.quantile((left - unseen)[at == k], tails) if (at == k).sum() > 100 else everywhere
        for k in range(len(BANDS) - 1)
    ])  # fmt: skip


def lead_times(left: Array, unseen: Array, engine: Array) -> Array:
    """Cycles between the first of three rows in a row below `WARN` and the failure, one per engine; 0 if never."""
    out = []
    for e in np.unique(engine):
        low = unseen[engine == e] < WARN
        run = low[2:] & low[1:-1] & low[:-2]
        out.append(left[engine == e][2:][run][0] if run.any() else 0.0)
    return np.array(out)


def last_rows(features: dict[int, Array]) -> Array:
    return np.stack([f[-1] for f in features.values()])


def metrics(predicted: Array, left: Array) -> dict[str, float]:
    """RMSE against remaining cycles capped at 125 (and as they are), and NASA's lopsided sum."""
    capped = np.minimum(left, CAP)
    gap = predicted - capped
    nasa = np.where(gap < 0, np.exp(-gap / 13) - 1, np.exp(gap / 10) - 1).sum()
    rmse = lambda a, b: float(np.sqrt(np.mean((a - b) ** 2)))
    return {"rmse": rmse(predicted, capped), "nasa_score": float(nasa), "rmse_uncapped": rmse(predicted, left)}


def _leads(networks: list[Any], given: dict[int, Array], left: Array) -> dict[str, Any]:
    """Cycles between the warning and the failure of engines that were cut off after it; the others were not yet warned of."""
    out = []
    for f, end in zip(given.values(), left):
        said = np.mean([np.clip(n(f)[:, 0], 0, CAP) for n in networks], 0) < WARN
        said[: START - 1] = False
        told = np.flatnonzero(said[2:] & said[1:-1] & said[:-2])
        if len(told):
            out.append(float(end + len(f) - 3 - told[0]))
    return {
        "engines_warned": len(out), "engines_below_limit": int((left < WARN).sum()),
        "lead_cycles_median": float(np.median(out)) if out else None, "lead_cycles_least": min(out) if out else None,
    }  # fmt: skip


def score(networks: list[Any], bands: Array, training: Array, table: Array, left: Array) -> tuple[dict, dict]:
    """Metrics and baselines on engines that were cut off, with their true remaining cycles."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    measures = scale(training)
    seen, given = histories(training, *measures), histories(table, *measures)
    if len(given) != len(left):
        raise InvalidInput(f"the table holds {len(given)} engines and the RUL list {len(left)}; they must agree")
    last = last_rows(given)
    each = np.stack([np.clip(n(last)[:, 0], 0, CAP) for n in networks])
    ours = each.mean(0)
    ends = bands[np.clip(np.digitize(ours, BANDS) - 1, 0, len(bands) - 1)]
    capped = np.minimum(left, CAP)
    inside = (capped >= ours + ends[:, 0] - 1e-9) & (capped <= np.minimum(CAP, ours + ends[:, 1]) + 1e-9)
    answer = metrics(ours, left) | {
        "interval_coverage_90": float(inside.mean()), "interval_mean_width": float((ends[:, 1] - ends[:, 0]).mean()),
        "rmse_single_networks": t_interval([metrics(e, left)["rmse"] for e in each]), "lead": _leads(networks, given, left),
    }  # fmt: skip
    rows, targets, _ = remaining(seen)
    boost = lambda c: np.clip(
        HistGradientBoostingRegressor(random_state=0).fit(rows[:, c], targets).predict(last[:, c]), 0, CAP
    )
    raw = HistGradientBoostingRegressor(random_state=0)
    pick = lambda t: t[:, [4 + s for s in SENSORS]]
    target = np.concatenate([np.minimum(CAP, np.arange(len(f))[::-1]) for f in seen.values()])
    ends_of = np.array([np.flatnonzero(table[:, 0] == e)[-1] for e in given])
    plain = np.clip(raw.fit(pick(training), target).predict(pick(table[ends_of])), 0, CAP)
    baselines = {
        "boosting_last_row": metrics(plain, left),
        "boosting_same_features": metrics(boost(np.arange(rows.shape[1])), left),
        "mean": metrics(np.full(len(left), targets.mean()), left),
    }
    return answer, baselines
