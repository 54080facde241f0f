"""Kinetics as curves: one per replicate, each starting from its own first reading."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from relukit.gallery._tables import read_csv, with_numbers
from relukit.training.hybrid import Curve

ABTS, OXIDASE, PUROMYCIN = "abts_laccase_dev.csv", "gox_deactivation.csv", "puromycin.csv"


def read(path: str | Path) -> list[Curve]:
    """Curves of a table with `measurement`, `time`, `rep0`, `rep1`, .. and `init_p0` (enzyme), each from its own first reading on."""
    frame = read_csv(path, ["measurement", "time", "rep0", "init_p0"])
    replicates = [c for c in frame.columns if re.fullmatch(r"rep\d+", str(c))]
    frame = with_numbers(frame, ["time", "init_p0", *replicates], path)
    curves = []
    for name, run in frame.groupby("measurement", sort=False):
        run = run.sort_values("time")
        for column in replicates:
            kept = run[["time", column, "init_p0"]].dropna().drop_duplicates("time")
            if len(kept) < 2:
                continue
            values = kept[column].to_numpy(float)
            given = {"enzyme": float(kept["init_p0"].iloc[0]), "start": float(max(values[0], 1e-9))}
            times = kept["time"].to_numpy(float)
            curves.append(Curve(times - times[0], values[:, None], given, str(name)))
    return curves


def pooled(curves: Sequence[Curve]) -> list[Curve]:
    """The curves, each from the mean first reading of its measurement on: replicates were weighed in alike, and one reading errs more.

    For training only. A curve to be predicted starts from its own first reading.
    """
    first: dict[str, list[float]] = {}
    for c in curves:
        first.setdefault(c.group, []).append(float(c.values[0, 0]))
    answer = []
    for c in curves:
        start = float(np.mean(first[c.group]))
        values = np.concatenate([[[start]], c.values[1:]])
        answer.append(Curve(c.times, values, {**c.given, "start": max(start, 1e-9)}, c.group))
    return answer


def simulated(count: int, seed: int, noise: float = 0.05) -> list[Curve]:
    """Substrate of an enzyme that its own product represses (a Hill factor), read with relative noise.

    The first reading is exact, as a weighed-in concentration is; k_cat 1, K_M 20, half repression at 30, Hill 3.
    """
    from scipy.integrate import solve_ivp

    generator = np.random.default_rng(seed)
    times = np.linspace(0, 200, 21)
    curves = []
    for start in np.linspace(15, 120, count) if count > 1 else [60.0]:
        rate = lambda _, s, start=start: -s / (20 + s) * hill(start - s)
        exact = solve_ivp(rate, (0, times[-1]), [start], t_eval=times, rtol=1e-9, atol=1e-9).y[0]
        read_ = exact * (1 + noise * generator.standard_normal(len(times)))
        read_[0] = exact[0]
        curves.append(Curve(times, read_[:, None], {"enzyme": 1.0, "start": float(start)}, f"s{start:.3g}"))
    return curves


def hill(product: np.ndarray) -> np.ndarray:
    """The hidden repression of `simulated`."""
    return 1 / (1 + (np.maximum(product, 0) / 30) ** 3)


def replicate_spread(curves: Sequence[Curve]) -> float:
    """Root mean square distance of replicates to the mean of their measurement, unbiased, without the first reading."""
    groups: dict[str, list[Curve]] = {}
    for c in curves:
        groups.setdefault(c.group, []).append(c)
    parts = []
    for mine in groups.values():
        common = set.intersection(*(set(c.times[1:].tolist()) for c in mine))
        if len(mine) > 1 and common:
            parts.append(np.var([c.values[np.isin(c.times, list(common)), 0] for c in mine], axis=0, ddof=1))
    return float(np.sqrt(np.mean(np.concatenate(parts)))) if parts else float("nan")
