"""Puromycin: initial rates against concentration, with and without the drug."""

from pathlib import Path
from typing import Any

import numpy as np


def fit_rates(path: Path) -> dict[str, Any]:
    """Michaelis-Menten's V_max and K_M for each state, 95 % intervals, and what a free factor would add.

    The factor is a decreasing ReLU network of the concentration; if its leave-one-out error is no better, the law
    alone holds, which is the known answer for these data (Bates and Watts, 1988: treated 212.7 and 0.0641).
    """
    import pandas as pd

    frame = pd.read_csv(path)
    answer = {}
    for state, rows in frame.groupby("state"):
        c, v = rows["conc_ppm"].to_numpy(float), rows["rate"].to_numpy(float)
        law, width, _ = _least_squares(c, v, 0)
        answer[str(state)] = {
            "Vmax": law[0], "KM": law[1], "half_widths": width,
            "left_out_rmse": _left_out(c, v, 0), "left_out_rmse_with_factor": _left_out(c, v, 3),
        }  # fmt: skip
    return answer


def _rates(z: np.ndarray, c: np.ndarray, knots: int) -> np.ndarray:
    rate = np.exp(z[0]) * c / (np.exp(z[1]) + c)
    if knots:
        drops = np.exp(z[2:])
        values = np.append(1.0, 1 - np.cumsum(drops) / (1 + drops.sum()))
        rate = rate * np.interp(c, np.linspace(0, 1.1, knots + 1), values)
    return rate


def _least_squares(c: np.ndarray, v: np.ndarray, knots: int) -> tuple[list[float], list[float], np.ndarray]:
    from scipy.optimize import least_squares
    from scipy.stats import t

    start = np.concatenate([[np.log(v.max()), np.log(np.median(c))], np.full(knots, -3.0)])
    found = least_squares(lambda z: np.append(_rates(z, c, knots) - v, 3.0 * (z[2:] + 3)), start)
    variance = ((_rates(found.x, c, knots) - v) ** 2).sum() / max(len(v) - 2, 1)
    deviation = np.sqrt(np.diag(np.linalg.pinv(found.jac.T @ found.jac)) * variance)[:2]
    law = np.exp(found.x[:2])
    return law.tolist(), (t.ppf(0.975, len(v) - 2) * deviation * law).tolist(), found.x


def _left_out(c: np.ndarray, v: np.ndarray, knots: int) -> float:
    """Each concentration is predicted from the others."""
    gaps = []
    for held in np.unique(c):
        rest = c != held
        z = _least_squares(c[rest], v[rest], knots)[2]
        gaps.extend(_rates(z, c[~rest], knots) - v[~rest])
    return float(np.sqrt(np.mean(np.square(gaps))))
