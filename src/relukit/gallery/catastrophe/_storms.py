"""Hurricanes: ln of normalized damage from pressure, wind, and landfalls. 72 rows, so small networks, many of them."""

from pathlib import Path
from typing import Any

import numpy as np

BAGS, UNITS = 40, 6


def is_storms(path: Path) -> bool:
    import pandas as pd

    return "NDAM2014" in pd.read_csv(path, nrows=1).columns


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (rows, inputs) and ln(NDAM2014); never deaths or another damage column."""
    import pandas as pd

    table = pd.read_csv(path)
    table = table[table.NDAM2014 > 0]
    states = [{w for w in str(s).replace(" ", "").replace(";", ",").split(",") if w} for s in table.AffectedStates]
    wind = table["LF.WindsMPH"].to_numpy(float)
    deficit = np.maximum(1013 - table["LF.PressureMB"].to_numpy(float), 5.0)
    # each about one standard deviation wide. Both logarithms: a deep but slow storm is a wide one. The number of states is
    # its width and path. Named coasts and the date were left out: on held storms they cost more than they told
    columns = [
        (np.log(deficit) - 3.9) / 0.45, (np.log(wind) - 4.65) / 0.23,
        np.array([len(s) - 2 for s in states], float) / 1.5, (table["LF.times"].to_numpy(float) - 1) / 0.5,
    ]  # fmt: skip
    return np.stack(columns, 1), np.log(table.NDAM2014.to_numpy(float))


def fit(x: np.ndarray, y: np.ndarray, seed: int, units: int = UNITS, alpha: float = 15.0) -> dict[str, np.ndarray]:
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
    """Line in the pressure deficit, the baseline."""
    return np.polyfit(deficit(x), y, 1)


def deficit(x: np.ndarray) -> np.ndarray:
    """The pressure deficit, hPa, back from the first input."""
    return np.exp(0.45 * x[:, 0] + 3.9)


def rmse(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a - b) ** 2)))


def evaluate(network: Any, line: np.ndarray, path: Path) -> dict[str, Any]:
    x, y = read(path)
    return {
        "metrics": {"rmse_ln": rmse(network(x)[:, 0], y)},
        "baselines": {"pressure_alone": {"rmse_ln": rmse(np.polyval(line, deficit(x)), y)}},
        "rows": len(y),
    }
