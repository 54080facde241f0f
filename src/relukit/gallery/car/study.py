"""Fit per car, judge on stretches of the track that were kept, invert exactly."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, UnreadableFile
from relukit._numerics import write_json
from relukit.gallery._life import data_folder, t_interval
from relukit.gallery.car import _model, _simulation, _single_track

NAME, EPOCHS = "car", 10
RUNS, EXAM, TURNING = 24, 8, 0.02  # simulated runs to learn from and to be judged on; rad/s from which a radius counts
_FORMULA = ("lag_frequency", "lag_damping", "wheelbase", "understeer", "offset", "cubic")
PAST = 10.0  # seconds of the training log before a scored log that goes on from it: they fill the lags
LOGS = ("LVMS_23_01_04_B_dev.csv.gz", "Putnam_park2023_run4_2_dev.csv.gz")


def fetch() -> Path:
    """Folder with the two logs of the Dallara AV-21 (Las Vegas oval, Putnam Park road course)."""
    return data_folder("vehicle_dynamics", *LOGS)


def train(
    data: Path,
    out: Path,
    *,
    seeds: int = 5,
    quick: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """A formula and `seeds` residuals per car; each segment of the track kept out in turn gives the summary."""
    import relukit

    epochs, summary = 3 if quick else EPOCHS, {}
    for c, name in enumerate(LOGS):
        table = _model.read(data / name)
        formula, residuals, box = _fitted(table, seeds, epochs)
        for k, net in enumerate(residuals):
            relukit.save(net, out / f"car{c}_{k}.npz")
        times = table["time(s)"]
        write_json(out / f"car{c}.json", {
            "formula": formula.tolist(), "seeds": seeds, "box": [b.tolist() for b in box],
            "log": name, "times": [float(times.min()), float(times.max())],
            "residual_bound": max(_bound(net, box) for net in residuals),
        })  # fmt: skip
        summary[name] = {
            "formula": dict(zip(_FORMULA, formula.tolist())),
            "residual_bound": json.loads((out / f"car{c}.json").read_text())["residual_bound"],
            "segments_held_in_turn": _in_turn(table, 1 if quick else 2, epochs, quick),
        }
        if on_progress is not None:
            on_progress(c + 1, len(LOGS) + 1)
    summary["simulation"] = _train_simulated(out, seeds, epochs, 3 if quick else RUNS)
    if on_progress is not None:
        on_progress(len(LOGS) + 1, len(LOGS) + 1)
    write_json(out / "training.json", summary)
    return summary


def _train_simulated(out: Path, seeds: int, epochs: int, runs: int) -> dict[str, Any]:
    """The single-track formula and `seeds` residuals on runs of the multi-body model."""
    import relukit

    table = _simulation.simulate(0, runs)
    formula = _single_track.fit(table)
    rate = _single_track.yaw_rate(table, formula)
    X = _single_track.inputs(table, rate)
    reach = _model.REACH * X.std(0)
    box = (np.maximum(X.mean(0) - reach, X.min(0)), np.minimum(X.mean(0) + reach, X.max(0)))
    residuals = [
        _model.fit_residual(X, table[_model.TARGET].to_numpy(float) - rate, s, 4 * epochs) for s in range(seeds)
    ]
    for k, net in enumerate(residuals):
        relukit.save(net, out / f"simulated{k}.npz")
    notes = {
        "formula": formula.tolist(), "seeds": seeds, "box": [b.tolist() for b in box], "runs": runs,
        "understeer": _model.fit_formula(table, lags=False).tolist(),
        "residual_bound": max(_bound(net, box) for net in residuals),
    }  # fmt: skip
    write_json(out / "simulated.json", notes)
    return {"formula": dict(zip(_single_track.NAMES, formula.tolist())), "residual_bound": notes["residual_bound"]}


def score_simulated(out: Path, seed: int, runs: int = EXAM) -> dict[str, Any]:
    """Median error of the turning radius on runs drawn from that seed, 5 to 40 m/s and friction 0.4 to 1.0."""
    import relukit

    path = out / "simulated.json"
    if not path.exists():
        raise UnreadableFile(f"no simulated car trained at {out}; run `relukit gallery run car` again")
    notes = json.loads(path.read_text())
    table = _simulation.simulate(seed + 1_000, runs)
    truth = table[_model.TARGET].to_numpy(float)
    rate = _single_track.yaw_rate(table, np.array(notes["formula"]))
    inside = np.clip(_single_track.inputs(table, rate), *(np.array(b) for b in notes["box"]))
    each = [rate + relukit.load(out / f"simulated{k}.npz")(inside)[:, 0] for k in range(notes["seeds"])]
    plain = _model.understeer(np.array(notes["understeer"]), *(table[c].to_numpy(float) for c in _model.INPUTS[1:3]))
    return {
        "study": NAME,
        "metrics": _radius(np.mean(each, 0), truth) | {
            "median_relative_radius_error_single_network": t_interval([_radius(e, truth)["median_relative_radius_error"] for e in each]),
        },
        "baselines": {"single_track_formula": _radius(rate, truth), "understeer": _radius(plain, truth)},
        "rows": len(table), "runs": runs,
    }  # fmt: skip


def _radius(said: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Median |dR| / R over rows that turn, with R = v / yaw rate, and yaw-rate RMSE."""
    turning = np.abs(truth) > TURNING
    error = np.abs(truth[turning] / np.where(said[turning] == 0, 1e-9, said[turning]) - 1)
    return {
        "median_relative_radius_error": float(np.median(error)) if turning.any() else None,
        "yaw_rate_rmse": _rmse(said, truth),
    }


def _fitted(
    table: Any, seeds: int, epochs: int, keep: np.ndarray | None = None
) -> tuple[np.ndarray, list[Any], tuple[np.ndarray, np.ndarray]]:
    """Formula, residuals and the box of their inputs, learned from the rows `keep`; the others serve as past alone."""
    keep = np.ones(len(table), bool) if keep is None else keep
    formula = _model.fit_formula(table, keep=keep)
    gap = (table[_model.TARGET].to_numpy(float) - _model.yaw_rate(table, formula))[keep]
    X = _model.inputs(table, formula)[keep]
    residuals = [_model.fit_residual(X, gap, s, epochs) for s in range(seeds)]
    low, high = X.mean(0) - _model.REACH * X.std(0), X.mean(0) + _model.REACH * X.std(0)
    return formula, residuals, (np.maximum(low, X.min(0)), np.minimum(high, X.max(0)))


def _bound(net: Any, box: tuple[np.ndarray, np.ndarray]) -> float:
    """Proven: no input of the box moves the yaw rate by more than this many rad/s."""
    import relukit

    inside = relukit.Box(*box)
    ends = [relukit.optimize(net, maximize="y[0]", box=inside, timeout=10), relukit.optimize(net, minimize="y[0]", box=inside, timeout=10)]  # fmt: skip
    return float(max(abs(e.bound) for e in ends))


def _predict(table: Any, formula: np.ndarray, residuals: Sequence[Any], box: tuple) -> np.ndarray:
    """(networks, rows); inputs of the residual are held inside the box for which it was trained and bounded."""
    base, inside = _model.yaw_rate(table, formula), np.clip(_model.inputs(table, formula), *box)
    return np.stack([base + net(inside)[:, 0] for net in residuals])


def with_past(table: Any, training: Any) -> tuple[Any, np.ndarray]:
    """The log in the order of time, behind the rows of the training log that come just before it, and where each of its rows lies.

    Only inputs of those rows are read. A log of another run has none.
    """
    import pandas as pd

    times, there = table["time(s)"].to_numpy(float), training["time(s)"].to_numpy(float)
    order = np.argsort(times, kind="stable")
    starts = times[order][[r[0] for r in _model.stretches(times[order])]]
    before = np.any([(there < t) & (there > t - PAST) for t in starts], 0) & ~np.isin(there, times)
    joined = pd.concat([training.loc[before, _model.INPUTS], table[_model.INPUTS]], ignore_index=True)
    rank = np.argsort(joined["time(s)"].to_numpy(float), kind="stable")
    place = np.empty(len(rank), np.int64)
    place[rank] = np.arange(len(rank))
    return joined.iloc[rank].reset_index(drop=True), place[before.sum() :]


def _rmse(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a - b) ** 2)))


def _in_turn(table: Any, seeds: int, epochs: int, quick: bool) -> dict[str, float]:
    """RMSE over segments, each predicted by a model of the others, beside the understeer formula without lags."""
    square: dict[str, list[np.ndarray]] = {"residual": [], "lagged_formula": [], "understeer": []}
    segments, truth = np.unique(table["segment"]), table[_model.TARGET].to_numpy(float)
    speed, steering = (table[c].to_numpy(float) for c in _model.INPUTS[1:3])
    for s in segments[:2] if quick else segments:
        held = (table["segment"] == s).to_numpy()
        formula, residuals, box = _fitted(table, seeds, epochs, ~held)
        plain = _model.fit_formula(table, lags=False, keep=~held)
        said = {
            "residual": _predict(table, formula, residuals, box).mean(0),
            "lagged_formula": _model.yaw_rate(table, formula),
            "understeer": _model.understeer(plain, speed, steering),
        }
        for k, v in said.items():
            square[k].append((v - truth)[held] ** 2)
    return {k: float(np.sqrt(np.concatenate(v).mean())) for k, v in square.items()}


def load(out: Path, car: int) -> tuple[dict[str, Any], list[Any]]:
    import relukit

    notes = json.loads((out / f"car{car}.json").read_text())
    notes["formula"], notes["box"] = np.array(notes["formula"]), tuple(np.array(b) for b in notes["box"])
    return notes, [relukit.load(out / f"car{car}_{k}.npz") for k in range(notes["seeds"])]


def car_of(out: Path, times: np.ndarray) -> int:
    """Which car's numbers fit a log: those of the run nearest in time (set-up and tires change between days)."""
    middle = float(np.median(times))
    spans = [json.loads((out / f"car{c}.json").read_text())["times"] for c in range(len(LOGS))]
    return int(np.argmin([max(a - middle, middle - b, 0.0) for a, b in spans]))


def score(out: Path, files: Sequence[Path], seed: int | None = None, runs: int = EXAM) -> dict[str, Any]:
    """Yaw-rate RMSE on logs of the same columns; baselines are fitted on the training log and run on the same rows.

    Arguments:
        seed: Judges the simulated car on `runs` new runs of that seed instead.
    """
    if seed is not None:
        if files or not isinstance(seed, int) or seed < 0 or not isinstance(runs, int) or runs < 1:
            raise InvalidInput("--seed N simulates --runs new runs; it takes whole numbers and no --data")
        return score_simulated(out, seed, runs)
    if not files:
        raise InvalidInput(
            "give logs with the columns of the training logs: --data LOG.csv, or --seed N for new simulated runs"
        )
    ours, each, base, truth, seen = [], [], {"understeer": [], "lagged_formula": [], "plain_mlp": []}, [], 0
    left_out = 0
    for file in files:
        table = _model.read(file)
        left_out += table.attrs["left_out"]
        car = car_of(out, table["time(s)"].to_numpy(float))
        notes, residuals = load(out, car)
        training = _model.read(fetch() / LOGS[car])
        whole, place = with_past(table, training)
        said = _predict(whole, notes["formula"], residuals, notes["box"])[:, place]
        each.append(said)
        ours.append(said.mean(0))
        truth.append(table[_model.TARGET].to_numpy(float))
        base["lagged_formula"].append(_model.yaw_rate(whole, notes["formula"])[place])
        plain = _model.fit_formula(training, lags=False)
        base["understeer"].append(_model.understeer(plain, *(table[c].to_numpy(float) for c in _model.INPUTS[1:3])))
        base["plain_mlp"].append(_mlp(training, table))
        seen += int(table["time(s)"].isin(training["time(s)"]).sum())
    y, mine = np.concatenate(truth), np.concatenate(ours)
    single = [_rmse(np.concatenate([e[k] for e in each]), y) for k in range(min(len(e) for e in each))]
    turning = np.abs(y) > 0.05
    radius = np.abs(y[turning] / np.where(mine[turning] == 0, 1e-9, mine[turning]) - 1)
    return {
        "study": NAME,
        "metrics": {
            "yaw_rate_rmse": _rmse(mine, y), "yaw_rate_rmse_single_network": t_interval(single),
            "median_relative_radius_error": float(np.median(radius)) if turning.any() else None,
        },
        "baselines": {k: {"yaw_rate_rmse": _rmse(np.concatenate(v), y)} for k, v in base.items()},
        "rows": len(y), "rows_left_out": left_out, "rows_seen_in_training": seen,
    }  # fmt: skip


def _mlp(training: Any, table: Any) -> np.ndarray:
    """A plain network of the same moment's inputs, without formula and past."""
    import relukit

    of = lambda t: t[_model.INPUTS[1:]].to_numpy(float)
    model = relukit.fit(of(training), training[_model.TARGET].to_numpy(float), hidden=(32, 32), epochs=20, seed=0)
    return model.network(of(table))[:, 0]


def steering_for(out: Path, radius: float, speed: float, car: int = 0) -> float:
    """The steady steering angle [rad] for a turning radius [m, positive to the left], exactly.

    In the straightened steering the formula is linear and the mean of the residuals piecewise linear, and both rise: between the
    breakpoints along that axis one linear equation is left. The angle follows from it in closed form.

    Raises:
        InvalidInput: No angle of the training range gives that radius at that speed.
    """
    import relukit

    notes, residuals = load(out, car)
    low, high = notes["box"]
    start = np.clip(np.array([speed, 0.0, 0.0, 0.0, 0.0]), low, high)
    a, b = start.copy(), start.copy()
    a[4], b[4] = low[4], high[4]
    knots = np.unique(np.concatenate([relukit.breakpoints(n, a, b).points()[:, 4] for n in residuals]))
    points = np.tile(start, (len(knots), 1))
    points[:, 4] = knots
    values = _model.steady(notes["formula"], speed, knots) + np.mean([n(points)[:, 0] for n in residuals], 0)
    wanted = speed / radius
    if not values[0] <= wanted <= values[-1]:
        raise InvalidInput(
            f"a radius of {radius:g} m at {speed:g} m/s needs {wanted:.4g} rad/s; angles of the log reach {values[0]:.4g} to {values[-1]:.4g}"
        )
    return _model.bent(notes["formula"], float(np.interp(wanted, values, knots)))
