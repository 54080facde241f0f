"""Yaw rate said and measured, and the exact inverse: steering for a radius."""

from pathlib import Path

from relukit._numerics import atomic_path
from relukit.gallery.car import _model
from relukit.gallery.car.study import LOGS, _fitted, _predict


def figures(out: Path, data: Path) -> list[Path]:
    """Write `car.png`: one kept segment a car."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), LOGS):
        table = _model.read(data / name)
        there = (table["segment"] == 6).to_numpy()
        formula, residuals, box = _fitted(table, 1, 20, ~there)
        said, held = _predict(table, formula, residuals, box)[0, there], table[there]
        time = held["time(s)"].to_numpy(float)
        plain = _model.understeer(
            _model.fit_formula(table, lags=False, keep=~there),
            held["vx(m/s)"].to_numpy(float),
            held["delta(rad)"].to_numpy(float),
        )
        axes.plot(time - time[0], held[_model.TARGET], color="k", lw=1.4, label="measured")
        axes.plot(time - time[0], plain, color="C1", lw=0.8, label="understeer formula")
        axes.plot(time - time[0], said, color="C0", lw=1, label="lag + ReLU residual")
        axes.set(
            xlabel="time [s]",
            ylabel="yaw rate [rad/s]",
            title=f"{name.split('_')[0]}, segment 6 kept from training",
            xlim=(0, 46),
        )
        axes.legend(fontsize=8)
    with atomic_path(out / "car.png") as path:
        figure.savefig(path, dpi=130, format="png")
    return [out / "car.png"]
