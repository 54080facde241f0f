"""Hurricanes: ln of normalized damage from pressure, wind, date and landfall. 72 rows, so small networks, many of them."""

from pathlib import Path
from typing import Any

import numpy as np

COAST = ["FL", "TX", "LA", "NC", "SC", "MS", "AL", "GA", "VA", "NY", "NJ", "CT", "MA", "RI"]
# Population along the coast that a storm meets decides damage; these three groups share their exposure.
GROUPS = [{"FL"}, {"TX"}, {"LA", "MS", "AL"}, {"NC", "SC", "GA", "VA"}, {"NY", "NJ", "CT", "MA", "RI", "ME", "MD"}]
BAGS, UNITS = 40, 6


def is_storms(path: Path) -> bool:
    import pandas as pd

    return "NDAM2014" in pd.read_csv(path, nrows=1).columns


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (rows, inputs) and ln(NDAM2014); never deaths or another damage column."""
    import pandas as pd

    table = pd.read_csv(path)
    table = table[table.NDAM2014 > 0]
    states = [set(str(s).replace(" ", "").replace(";", ",").split(",")) for s in table.AffectedStates]
    month = pd.to_datetime(table.firstLF, errors="coerce").dt.dayofyear.fillna(250).to_numpy(float)
    wind = table["LF.WindsMPH"].to_numpy(float)
    deficit = 1013 - table["LF.PressureMB"].to_numpy(float)
    columns = [
        deficit / 40, wind / 100, (wind / 100) ** 2, table["LF.times"].to_numpy(float) - 1, (month - 250) / 40,
        np.array([len(s) - 1 for s in states], float) / 2, *[np.array([bool(s & g) for s in states], float) for g in GROUPS],
    ]  # fmt: skip
    return np.stack(columns, 1), np.log(table.NDAM2014.to_numpy(float))


def fit(x: np.ndarray, y: np.ndarray, seed: int, units: int = UNITS, alpha: float = 10.0) -> dict[str, np.ndarray]:
    """A ridge line plus the mean of `BAGS` small ReLU networks on its residuals, as one plain network of one hidden layer."""
    from sklearn.linear_model import Ridge
    from sklearn.neural_network import MLPRegressor

    line = Ridge(alpha=alpha).fit(x, y)
    rest = y - line.predict(x)
    rng = np.random.default_rng(seed)
    rows, offsets, tops, constant = [], [], [], 0.0
    for k in range(BAGS):
        pick = rng.integers(0, len(y), len(y))
        net = MLPRegressor(
            hidden_layer_sizes=(units,), solver="lbfgs", alpha=8.0, max_iter=80, random_state=seed * 1000 + k, tol=1e-3
        )
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net.fit(x[pick], rest[pick])
        rows.append(net.coefs_[0].T)
        offsets.append(net.intercepts_[0])
        tops.append(net.coefs_[1][:, 0] / BAGS)
        constant += net.intercepts_[1][0] / BAGS
    # the line itself is relu(t) - relu(-t)
    W0 = np.concatenate([*rows, line.coef_[None], -line.coef_[None]])
    b0 = np.concatenate([*offsets, [0.0, 0.0]])
    return {
        "W0": W0,
        "b0": b0,
        "W1": np.concatenate([*tops, [1.0, -1.0]])[None],
        "b1": np.array([constant + line.intercept_]),
    }


def pressure_alone(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.polyfit(x[:, 0], y, 1)


def rmse(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a - b) ** 2)))


def evaluate(network: Any, line: np.ndarray, path: Path) -> dict[str, Any]:
    x, y = read(path)
    return {
        "metrics": {"rmse_ln": rmse(network(x)[:, 0], y)},
        "baselines": {"pressure_alone": {"rmse_ln": rmse(np.polyval(line, x[:, 0]), y)}},
        "rows": len(y),
    }
