"""Hurricanes: ln of normalized damage from pressure, wind, and what lies where they come ashore. 72 rows: a robust line, small nets."""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import UnreadableFile
from relukit.gallery._tables import read_csv, with_numbers

BAGS, UNITS, DECAY = 40, 6, 20.0  # networks on the line's residuals, units each, their weight decay
RIDGE, BEND = 1.0, 0.7  # pull of the line's slopes to 0; residual (in ln) from which a storm counts in proportion only
COLUMNS, TARGET = ("LF.WindsMPH", "LF.PressureMB", "LF.times", "AffectedStates"), "NDAM2014"

# Insured value of the coastal counties, billions of dollars at the end of 2012: what damage "normalized to 2014" stands on.
# The Coastline at Risk: 2013 Update, AIR Worldwide, 2013.
COASTAL_VALUE = {
    "NY": 2923.1, "FL": 2862.3, "TX": 1175.3, "MA": 849.6, "NJ": 713.9, "CT": 567.8, "LA": 293.5, "SC": 239.3, "VA": 182.3,
    "ME": 164.6, "NC": 163.5, "AL": 118.2, "GA": 106.7, "DE": 81.9, "NH": 64.0, "MS": 60.6, "RI": 58.3, "MD": 17.3,
}  # fmt: skip
# General coastline, miles. The Coastline of the United States, NOAA, 1975; Connecticut, behind Long Island, by its Sound.
COAST_MILES = {
    "FL": 1350, "LA": 397, "TX": 367, "NC": 301, "ME": 228, "MA": 192, "SC": 187, "NJ": 130, "NY": 127, "VA": 112, "GA": 100,
    "CT": 96, "AL": 53, "MS": 44, "RI": 40, "MD": 31, "DE": 28, "NH": 13,
}  # fmt: skip
_INLAND = 1.0  # billions a mile of a state without a coast of that list, or where none is named
# From North Carolina on storms are wider and faster, and the coast behind them is built of wood less often tested
NORTH = frozenset("NC VA MD DE NJ NY CT RI MA NH ME PA".split())


def is_storms(path: Path) -> bool:
    """By the columns: claims have neither of these."""
    return not {TARGET, COLUMNS[1]}.isdisjoint(read_csv(path).columns)


def states(text: Any) -> list[str]:
    """Two-letter states in the order given, each once, whatever stands between them."""
    return list(dict.fromkeys(re.findall(r"\b[A-Z]{2}\b", str(text).upper()))) or ["--"]


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (rows, 7) and ln(NDAM2014); never deaths or another damage column. Rows without damage are left out."""
    table = with_numbers(read_csv(path, [*COLUMNS, TARGET]), [*COLUMNS[:3], TARGET], path)
    table = table[table[TARGET] > 0]
    if table.empty:
        raise UnreadableFile(f"{path}: no storm with a positive {TARGET}")
    return inputs(table), np.log(table[TARGET].to_numpy(float))


def inputs(table: Any) -> np.ndarray:
    """Each about one standard deviation wide. Both logarithms: a deep but slow storm is a wide one."""
    wind, pressure = (table[c].to_numpy(float) for c in COLUMNS[:2])
    # Atkinson and Holliday (1977), knots = 6.7 (1010 - p)^0.644, where one of the two is missing; an average storm where both are
    drop = np.where(
        np.isnan(pressure), (np.nan_to_num(wind, nan=105.0) / 1.15078 / 6.7) ** (1 / 0.644) + 3, 1013 - pressure
    )
    drop = np.maximum(drop, 5.0)
    wind = np.where(np.isnan(wind), 1.15078 * 6.7 * np.maximum(drop - 3, 1.0) ** 0.644, wind)
    struck = [states(s) for s in table["AffectedStates"]]
    number = np.minimum(np.array([len(s) - 2 for s in struck], float) / 1.5, 1.0)
    # a storm strikes some fifty miles of the coast where it first comes ashore: what stands on a mile of it tells more than the state's total
    value = np.array(
        [np.log(COASTAL_VALUE[s[0]] / COAST_MILES[s[0]] if s[0] in COAST_MILES else _INLAND) - 0.6 for s in struck]
    )
    north = np.array([not NORTH.isdisjoint(s) for s in struck], float)
    deficit_, speed = (np.log(drop) - 3.9) / 0.45, (np.log(wind) - 4.65) / 0.23
    landfalls = (table["LF.times"].fillna(1).to_numpy(float) - 1) / 0.5
    # a weak storm that reaches several states is a wide, wet one; for a strong one their number says less
    return np.stack([deficit_, speed, number, landfalls, value, np.minimum(speed, 0) * number, north], 1)


def robust_line(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Slopes and, last, the intercept: Huber's loss with a ridge, by reweighting (Huber, 1964).

    A few storms came ashore where nobody lived (damage of 1 and 4 M$ beside hundreds): squared error bends the line towards them.
    """
    A = np.concatenate([x, np.ones((len(x), 1))], 1)
    pull = np.diag(np.append(np.full(x.shape[1], RIDGE), 0.0))
    weight, line = np.ones(len(y)), np.zeros(A.shape[1])
    for _ in range(50):
        line = np.linalg.solve(A.T @ (weight[:, None] * A) + pull, A.T @ (weight * y))
        weight = np.minimum(1.0, BEND / np.maximum(np.abs(y - A @ line), 1e-9))
    return line


def fit(x: np.ndarray, y: np.ndarray, seed: int, bags: int = BAGS) -> dict[str, np.ndarray]:
    """The robust line plus the mean of `bags` small ReLU networks on its residuals, as one plain network of one hidden layer."""
    from sklearn.neural_network import MLPRegressor

    line = robust_line(x, y)
    rest = (y - x @ line[:-1] - line[-1]).clip(-2, 2)
    rng = np.random.default_rng(seed)
    rows, offsets, tops, constant = [], [], [], 0.0
    for k in range(bags):
        pick = rng.integers(0, len(y), len(y))
        net = MLPRegressor(
            hidden_layer_sizes=(UNITS,),
            solver="lbfgs",
            alpha=DECAY,
            max_iter=80,
            random_state=seed * 1000 + k,
            tol=1e-3,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net.fit(x[pick], rest[pick])
        rows.append(net.coefs_[0].T)
        offsets.append(net.intercepts_[0])
        tops.append(net.coefs_[1][:, 0] / bags)
        constant += net.intercepts_[1][0] / bags
    # the line itself is relu(t) - relu(-t)
    return {
        "W0": np.concatenate([*rows, line[None, :-1], -line[None, :-1]]),
        "b0": np.concatenate([*offsets, [0.0, 0.0]]),
        "W1": np.concatenate([*tops, [1.0, -1.0]])[None],
        "b1": np.array([constant + line[-1]]),
    }


def rolling(path: Path, bags: int = BAGS, starts: tuple[int, ...] = (1965, 1975, 1985)) -> dict[str, Any]:
    """RMSE of ln when the storms of each span are told by a fit to those before it; the pressure line beside it."""
    import pandas as pd

    import relukit

    x, y = read(path)
    table = pd.read_csv(path)
    year = table[table.NDAM2014 > 0].Year.to_numpy()
    found, ours, theirs = {}, [], []
    for first, end in zip(starts, (*starts[1:], int(year.max()) + 1), strict=True):
        before, now = year < first, (year >= first) & (year < end)
        if before.sum() < 10 or not now.any():
            continue
        ours.append(relukit.load(fit(x[before], y[before], 0, bags))(x[now])[:, 0] - y[now])
        theirs.append(np.polyval(pressure_alone(x[before], y[before]), deficit(x[now])) - y[now])
        found[f"{first}_{end - 1}"] = {
            "rmse_ln": rmse(ours[-1], 0),
            "pressure_alone": rmse(theirs[-1], 0),
            "rows": int(now.sum()),
        }
    if ours:
        found["all"] = {"rmse_ln": rmse(np.concatenate(ours), 0), "pressure_alone": rmse(np.concatenate(theirs), 0)}
    return found


def pressure_alone(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Line in the pressure deficit, the baseline."""
    return np.polyfit(deficit(x), y, 1)


def deficit(x: np.ndarray) -> np.ndarray:
    """The pressure deficit, hPa, back from the first input."""
    return np.exp(0.45 * x[:, 0] + 3.9)


def rmse(a: np.ndarray, b: np.ndarray | float) -> float:
    return float(np.sqrt(np.mean((a - b) ** 2)))


def evaluate(network: Any, line: np.ndarray, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    return {
        "metrics": {"rmse_ln": rmse(network(x)[:, 0], y)},
        "baselines": {"pressure_alone": {"rmse_ln": rmse(np.polyval(line, deficit(x)), y)}},
        "rows": len(y),
    }
