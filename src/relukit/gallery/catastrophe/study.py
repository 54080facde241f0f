"""Expected loss of floods and hurricanes, judged on later years."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import UnreadableFile
from relukit._numerics import write_json
from relukit.gallery._life import data_folder, t_interval
from relukit.gallery.catastrophe import _claims, _model, _storms, proof

NAME, EPOCHS, MEMORY = "catastrophe", 25, 15.0  # MEMORY: years after which a claim weighs 1/e
AIM = 0.92  # of the block that sets the band: blocks that followed lost two points of 90 %
# Years judged by models of the years before; the level of the next years is carried on from how these were missed.
BLOCKS = ((2012, 2016), (2017, 2021))


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
    """Models of the years before each of `BLOCKS` judge it and set level and band; then `seeds` networks on all years are saved."""
    table = _claims.read(data / _claims.CLAIMS)
    x, y, year = _claims.inputs(table), _claims.target(table), table.yearOfLoss.to_numpy()
    value = table.buildingPropertyValue.to_numpy(float)
    epochs, steps, done = 2 if quick else EPOCHS, (1 if quick else 2) * seeds + 2 * len(BLOCKS) + 1, 0

    def fit(rows: np.ndarray, seed: int, quantiles: bool = False) -> dict[str, np.ndarray]:
        nonlocal done
        weight = np.exp((year[rows] - year[rows].max()) / MEMORY)
        weight /= weight.mean()
        if quantiles:
            chain = _model.fit(x[rows], y[rows], weight, seed, 2 * epochs, True)
        else:
            chain = _model.taught(x[rows], y[rows], weight, seed, epochs)
        done += 1
        if on_progress is not None:
            on_progress(min(done, steps), steps)
        return chain

    blocks, summary, level, widen = [], {}, 0.0, 0.0
    for first, last in BLOCKS:
        before, now = year < first, (year >= first) & (year <= last)
        main, ends = fit(before, 0), fit(before, 0, True)
        predicted = _model.ratio(_load(main), x[now])[:, 0]
        blocks.append(np.log((y[now] * value[now]).sum() / (predicted * value[now]).sum()))
        shifted = _model.ratio(_load(_model.raised(main, level)), x[now])[:, 0]
        band = _model.ratio(_load(_model.raised(ends, level)), x[now])
        summary[f"{first}_{last}"] = {
            **_metrics(shifted, y[now], value[now]), "level_added": level, "level_missing": blocks[-1],
            "coverage": _coverage(band, widen, y[now])[0],
        }  # fmt: skip
        level = carried(blocks)
        widen = max(widen, _widening(_model.ratio(_load(_model.raised(ends, level)), x[now]), y[now]))
    if not quick and seeds > 1:
        before, now = year < BLOCKS[-1][0], (year >= BLOCKS[-1][0]) & (year <= BLOCKS[-1][1])
        added = summary[f"{BLOCKS[-1][0]}_{BLOCKS[-1][1]}"]["level_added"]
        told = [_model.ratio(_load(_model.raised(fit(before, s), added)), x[now])[:, 0] for s in range(seeds)]
        summary["last_block_by_seeds"] = by_seeds(told, y[now], value[now])
    every = np.ones(len(y), bool)
    chains = [_model.raised(fit(every, seed), level) for seed in range(seeds)]
    band_chain = _model.raised(fit(every, 0, True), level)
    for i, chain in enumerate(chains):
        np.savez(out / f"ratio_{i}.npz", **chain)
    np.savez(out / "band.npz", **band_chain)
    _claims.around(table).to_csv(out / "around.csv.gz", index=False)
    _baselines(data, out, x, y)
    storm_x, storm_y = _storms.read(data / _claims.STORMS)
    for i in range(seeds):
        np.savez(out / f"hurricane_{i}.npz", **_storms.fit(storm_x, storm_y, i))
    summary["storms_told_by_those_before"] = _storms.rolling(data / _claims.STORMS, 4 if quick else _storms.BAGS)
    np.savez(
        out / "settings.npz",
        seeds=seeds, widen=widen, pressure=_storms.pressure_alone(storm_x, storm_y), typical=np.median(x, 0), level=level,
    )  # fmt: skip
    summary.update(
        claims=len(y), level=level, band_widened_by=widen,
        monotone_by_signs=all(_model.monotone(c) for c in [*chains, band_chain]),
        monotone_by_verify=proof.monotone(chains[0], x),
    )  # fmt: skip
    write_json(out / "training.json", summary)
    return summary


def carried(missing: Sequence[float]) -> float:
    """ln of the factor for the years to come: the mean of what the blocks so far missed, drawn to 0 as if one block more had missed nothing.

    A block is a handful of large events, so its miss alone would carry their luck on.
    """
    return float(np.sum(missing) / (len(missing) + 1))


def by_seeds(told: Sequence[np.ndarray], y: np.ndarray, value: np.ndarray) -> dict[str, Any]:
    """Each metric of each seed's ratios with a 95 % interval, and of their mean, which is what `score` uses."""
    each = [_metrics(p, y, value) for p in told]
    return {
        **{k: t_interval([m[k] for m in each]) for k in ("rmse", "gini", "gini_ratio", "total_ratio")},
        "of_their_mean": _metrics(np.mean(told, 0), y, value),
    }


def _load(source: Any) -> Any:
    import relukit

    return relukit.load(source)


def _widening(ends: np.ndarray, y: np.ndarray) -> float:
    """How far both ends move so that `AIM` of the rows lie between them (conformal; Romano et al., 2019)."""
    miss = np.maximum(ends.min(1) - y, y - ends.max(1))
    return float(max(0.0, np.quantile(miss, min(1.0, AIM + 1 / len(y)))))


def _coverage(ends: np.ndarray, widen: float, y: np.ndarray) -> tuple[float, float]:
    """Share of ratios inside the widened band, and its mean width."""
    low, high = (ends.min(1) - widen).clip(0), (ends.max(1) + widen).clip(max=1)
    return float(((y >= low) & (y <= high)).mean()), float((high - low).mean())


def _baselines(data: Path, out: Path, x: np.ndarray, y: np.ndarray) -> None:
    from lightgbm import LGBMRegressor

    boosting = LGBMRegressor(
        n_estimators=250, learning_rate=0.04, num_leaves=31, min_child_samples=30, verbose=-1, n_jobs=1
    )
    boosting.fit(x, y)
    boosting.booster_.save_model(str(out / "boosting.txt"))
    (out / "hazus.csv").write_bytes((data / _claims.HAZUS).read_bytes())


def restore(out: Path, kind: str = "ratio") -> list[Any]:
    """The saved networks of one kind: `ratio` (floods) or `hurricane`."""
    paths = [out / f"{kind}_{i}.npz" for i in range(int(np.load(out / "settings.npz")["seeds"]))]
    for path in paths:
        if not path.exists():
            raise UnreadableFile(f"the study saved at {out} lacks {path.name}; run `relukit gallery run {NAME}` again")
    return [_load(path) for path in paths]


def _gini(predicted: np.ndarray, y: np.ndarray) -> float:
    """Area between the diagonal and the curve of cumulated loss, rows from lowest to highest prediction, twice."""
    ordered = np.cumsum(y[np.argsort(predicted, kind="stable")]) / max(y.sum(), 1e-12)
    return float(1 - 2 * ordered.mean() + 1 / len(y))


def _metrics(predicted: np.ndarray, y: np.ndarray, value: np.ndarray) -> dict[str, float]:
    """RMSE of the ratio, Gini indices, and the portfolio's expected over its actual total.

    `gini` is that of the ordered Lorenz curve (Frees, Meyers and Cummings, 2011): losses (ratio x value) cumulated from the lowest to the
    highest expected loss, every policy at the same premium, not normalized. `gini_ratio` is the same for the ratios alone.
    The `_normalized` keys divide by the index of the best order there is, so that 1 is perfect.
    """
    loss, expected = y * value, predicted * value
    found = {"gini": _gini(expected, loss), "gini_ratio": _gini(predicted, y)}
    best = {"gini": _gini(loss, loss), "gini_ratio": _gini(y, y)}
    return {
        "rmse": float(np.sqrt(np.mean((predicted - y) ** 2))),
        **found,
        **{f"{k}_normalized": found[k] / best[k] if best[k] > 1e-9 else 0.0 for k in found},
        "total_ratio": float(expected.sum() / max(loss.sum(), 1e-9)),
    }


def score(out: Path, files: Sequence[Path]) -> dict[str, Any]:
    """Claims or storms, by the file's columns: our metrics, and every baseline rerun on the same rows."""
    if not files:
        raise UnreadableFile("give claims or storms to score: --data FILE (OpenFEMA's claims, or storms with NDAM2014)")
    parts: dict[str, Any] = {"study": NAME, "metrics": {}, "baselines": {}, "rows": 0}
    storms = [f for f in map(Path, files) if _storms.is_storms(f)]
    claims = [f for f in map(Path, files) if f not in storms]
    for part, some in ((_claim_part, claims), (_storm_part, storms)):
        if not some:
            continue
        found = part(out, some)
        for key in ("metrics", "baselines"):
            parts[key].update(found[key])
        parts["rows"] += found["rows"]
    return parts


def _storm_part(out: Path, files: Sequence[Path]) -> dict[str, Any]:
    x, y = (np.concatenate(p) for p in zip(*map(_storms.read, files), strict=True))
    networks, line = restore(out, "hurricane"), np.load(out / "settings.npz")["pressure"]
    together = lambda x: np.mean([n(x) for n in networks], 0)
    found = _storms.evaluate(together, line, x, y)
    each = [_storms.evaluate(n, line, x, y)["metrics"]["rmse_ln"] for n in networks]
    found["metrics"]["rmse_ln_of_seeds"] = t_interval(each)
    return found


def _claim_part(out: Path, files: Sequence[Path]) -> dict[str, Any]:
    import pandas as pd
    from lightgbm import Booster

    table = pd.concat([_claims.read(f) for f in files], ignore_index=True)
    others = pd.read_csv(out / "around.csv.gz", dtype=dict.fromkeys(_claims.AROUND[:4], str), keep_default_na=False)
    x, y, value = _claims.inputs(table, others), _claims.target(table), table.buildingPropertyValue.to_numpy(float)
    each = [_model.ratio(n, x)[:, 0] for n in restore(out)]
    ends, widen = _model.ratio(_load(out / "band.npz"), x), float(np.load(out / "settings.npz")["widen"])
    metrics: dict[str, Any] = _metrics(np.mean(each, 0), y, value)
    metrics["rmse_of_seeds"] = t_interval([_metrics(p, y, value)["rmse"] for p in each])
    metrics["coverage"], metrics["band_width"] = _coverage(ends, widen, y)
    boosted = np.asarray(Booster(model_file=str(out / "boosting.txt")).predict(x)).clip(0, 1)
    hazus = _claims.hazus_ratio(pd.read_csv(out / "hazus.csv"), table)
    return {
        "metrics": metrics,
        "baselines": {"hazus": _metrics(hazus, y, value), "boosting": _metrics(boosted, y, value)},
        "rows": len(y),
    }
