"""Expected loss of floods and hurricanes, judged on later years."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relukit._numerics import write_json
from relukit.gallery._life import data_folder, t_interval
from relukit.gallery.catastrophe import _claims, _model, _storms

NAME, EPOCHS, MEMORY = "catastrophe", 40, 15.0  # MEMORY: years after which a claim weighs 1/e
LATER = 2017  # claims since then are judged by a model of the years before, and calibrate the band


def fetch() -> Path:
    """Folder with FEMA's claims, the named hurricanes and the Hazus curves."""
    return data_folder(NAME, _claims.CLAIMS, _claims.STORMS, _claims.HAZUS)


def train(
    data: Path,
    out: Path,
    *,
    seeds: int = 5,
    quick: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Train on years before 2017 to be judged on the years since; then `seeds` networks on all years, to be saved."""
    table = _claims.read(data / _claims.CLAIMS)
    x, y, year = _claims.inputs(table), _claims.target(table), table.yearOfLoss.to_numpy()
    weight = np.exp((year - year.max()) / MEMORY)
    epochs, before, steps = 2 if quick else EPOCHS, year < LATER, seeds + 4

    def tick(done: int) -> None:
        if on_progress is not None:
            on_progress(done, steps)

    fit = lambda rows, seed, quantiles=False: _model.fit(
        x[rows], y[rows], weight[rows] / weight[rows].mean(), seed, epochs, quantiles
    )
    all_rows = np.ones(len(y), bool)
    judged = [_model.ratio(_load(fit(before, seed)), x[~before])[:, 0] for seed in range(2)]
    tick(2)
    ends = _model.ratio(_load(fit(before, 0, True)), x[~before])
    tick(3)
    widen = _widening(ends, y[~before])
    chains = [fit(all_rows, seed) for seed in range(seeds)]
    tick(seeds + 3)
    band = fit(all_rows, 0, True)
    for i, chain in enumerate(chains):
        np.savez(out / f"ratio_{i}.npz", **chain)
    np.savez(out / "band.npz", **band)
    _baselines(data, out, x, y)
    storm_x, storm_y = _storms.read(data / _claims.STORMS)
    for i in range(seeds):
        np.savez(out / f"storm_{i}.npz", **_storms.fit(storm_x, storm_y, i))
    value = table.buildingPropertyValue.to_numpy(float)[~before]
    summary = {
        "claims": len(y),
        "later_years": _metrics(np.mean(judged, 0), y[~before], value),
        "monotone_by_signs": all(_model.monotone(c) for c in [*chains, band]),
        "band_widened_by": widen,
    }
    np.savez(
        out / "settings.npz",
        seeds=seeds,
        widen=widen,
        pressure=_storms.pressure_alone(storm_x, storm_y),
        typical=np.median(x, 0),
    )
    write_json(out / "training.json", summary)
    tick(steps)
    return summary


def _load(source: Any) -> Any:
    import relukit

    return relukit.load(source)


def _widening(ends: np.ndarray, y: np.ndarray) -> float:
    """How far both ends move so that `BAND` of the later years lie between them (conformal; Romano et al., 2019)."""
    miss = np.maximum(ends.min(1) - y, y - ends.max(1))
    return float(max(0.0, np.quantile(miss, min(1.0, _model.BAND + 1 / len(y)))))


def _baselines(data: Path, out: Path, x: np.ndarray, y: np.ndarray) -> None:
    from lightgbm import LGBMRegressor

    boosting = LGBMRegressor(
        n_estimators=250, learning_rate=0.04, num_leaves=31, min_child_samples=30, verbose=-1, n_jobs=1
    )
    boosting.fit(x, y)
    boosting.booster_.save_model(str(out / "boosting.txt"))
    (out / "hazus.csv").write_bytes((data / _claims.HAZUS).read_bytes())


def restore(out: Path, kind: str = "ratio") -> list[Any]:
    """The saved networks of one kind: `ratio` (floods) or `storm`."""
    count = int(np.load(out / "settings.npz")["seeds"])
    return [_load(out / f"{kind}_{i}.npz") for i in range(count)]


def _gini(predicted: np.ndarray, y: np.ndarray) -> float:
    """Area between the diagonal and the curve of cumulated loss, rows from lowest to highest prediction, twice."""
    ordered = np.cumsum(y[np.argsort(predicted, kind="stable")]) / max(y.sum(), 1e-12)
    return float(1 - 2 * ordered.mean() + 1 / len(y))


def _metrics(predicted: np.ndarray, y: np.ndarray, value: np.ndarray) -> dict[str, float]:
    return {
        "rmse": float(np.sqrt(np.mean((predicted - y) ** 2))),
        "gini": _gini(predicted, y),
        "gini_of_best_order": _gini(y, y),
        "total_ratio": float((predicted * value).sum() / (y * value).sum()),
    }


def score(out: Path, files: Sequence[Path]) -> dict[str, Any]:
    """Claims or storms, by the file's columns: our metrics, and every baseline rerun on the same rows."""
    parts: dict[str, Any] = {"study": NAME, "metrics": {}, "baselines": {}, "rows": 0}
    for file in map(Path, files):
        found = _storm_part(out, file) if _storms.is_storms(file) else _claim_part(out, file)
        for key in ("metrics", "baselines"):
            parts[key].update(found[key])
        parts["rows"] += found["rows"]
    return parts


def _storm_part(out: Path, file: Path) -> dict[str, Any]:
    networks, line = restore(out, "storm"), np.load(out / "settings.npz")["pressure"]
    together = lambda x: np.mean([n(x) for n in networks], 0)
    found = _storms.evaluate(together, line, file)
    each = [_storms.evaluate(n, line, file)["metrics"]["rmse_ln"] for n in networks]
    found["metrics"]["rmse_ln_of_seeds"] = t_interval(each)
    return found


def _claim_part(out: Path, file: Path) -> dict[str, Any]:
    import pandas as pd
    from lightgbm import Booster

    table = _claims.read(file)
    x, y, value = _claims.inputs(table), _claims.target(table), table.buildingPropertyValue.to_numpy(float)
    each = [_model.ratio(n, x)[:, 0] for n in restore(out)]
    ends, widen = _model.ratio(_load(out / "band.npz"), x), float(np.load(out / "settings.npz")["widen"])
    low, high = (ends.min(1) - widen).clip(0), (ends.max(1) + widen).clip(max=1)
    metrics: dict[str, Any] = _metrics(np.mean(each, 0), y, value)
    metrics["rmse_of_seeds"] = t_interval([_metrics(p, y, value)["rmse"] for p in each])
    metrics["coverage"] = float(((y >= low) & (y <= high)).mean())
    metrics["band_width"] = float((high - low).mean())
    boosted = np.asarray(Booster(model_file=str(out / "boosting.txt")).predict(x)).clip(0, 1)
    hazus = _claims.hazus_ratio(pd.read_csv(out / "hazus.csv"), table)
    return {
        "metrics": metrics,
        "baselines": {"hazus": _metrics(hazus, y, value), "boosting": _metrics(boosted, y, value)},
        "rows": len(y),
    }
