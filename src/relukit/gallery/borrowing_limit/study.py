"""Solve calibrations, read the kinks from the hinges, and set tanh of equal size beside it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, UnreadableFile
from relukit._numerics import write_json
from relukit.gallery._life import data_folder, t_interval
from relukit.gallery.borrowing_limit import _tanh
from relukit.gallery.borrowing_limit._solve import Calibration, Policy, euler_errors, solve

NAME, UNITS = "borrowing-limit", 64
FOLDER, FIRST = "consumption_savings", "egm_reference_0.json"
NEAR = 0.1  # of the kink: where the two kinds of network are compared


def fetch() -> Path:
    """Folder with calibrations (.json) and their reference policies (.csv)."""
    return data_folder(FOLDER, FIRST, FIRST.replace(".json", ".csv"))


def train(
    data: Path,
    out: Path,
    *,
    seeds: int = 10,
    quick: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Solve every calibration of the folder; save the networks of each income state."""
    files = sorted(data.glob("*.json"))[: 1 if quick else None]
    summary: dict[str, Any] = {}
    for k, file in enumerate(files):
        summary[file.stem] = _one(file, seeds if not quick else 1, out)
        if on_progress is not None:
            on_progress(k + 1, len(files))
    write_json(out / "training.json", summary)
    return {k: v["metrics"] for k, v in summary.items()}


def score(out: Path, files: Sequence[Path], seeds: int = 10) -> dict[str, Any]:
    """Solve each calibration file anew (its reference is the .csv beside it) and judge the result.

    With several calibrations, every metric is the worst of them.
    """
    if not isinstance(seeds, int) or seeds < 1:
        raise InvalidInput(f"--seeds expects a whole number of starts, at least 1, got {seeds!r}")
    chosen = [f for f in map(Path, files) if f.suffix == ".json"]
    if not chosen:
        raise UnreadableFile("expected a calibration (.json) with its reference (.csv) beside it")
    given = {f.stem: f for f in map(Path, files) if f.suffix == ".csv"}
    if len(chosen) == len(given) == 1:  # one of each belong together, whatever they are called
        given = {chosen[0].stem: next(iter(given.values()))}
    parts = [_one(f, seeds, out, given.get(f.stem)) for f in chosen]
    worst = lambda key: {k: max((p[key][k] for p in parts), key=_size) for k in parts[0][key]}
    return {
        "study": NAME,
        "metrics": worst("metrics"),
        "baselines": worst("baselines"),
        "rows": sum(p["rows"] for p in parts),
    }


def _size(value: Any) -> float:
    return value["mean"] if isinstance(value, dict) else float(value)


def reference(file: Path, table: Path | None = None) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Calibration, cash on hand, consumption (states, points)."""
    path = table or file.with_suffix(".csv")
    if not path.exists():
        raise UnreadableFile(f"the reference policy {path.name} is not beside {file.name}")
    keys = ("beta", "R", "g", "amin", "income", "transition", "kink_cash_on_hand", "euler_log10_mean")
    try:
        values = json.loads(file.read_text())
        missing = [k for k in keys if k not in values]
    except (ValueError, TypeError) as error:
        raise UnreadableFile(f"{file.name} is no calibration in JSON: {error}") from error
    if missing:
        raise UnreadableFile(f"{file.name} lacks {', '.join(missing)}: a calibration has {', '.join(keys)}")
    states = _checked(values, file)
    try:
        rows = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
    except ValueError as error:
        raise UnreadableFile(f"{path.name}: {error}") from error
    if rows.shape[1] != states + 1 or len(rows) < 2 or not np.isfinite(rows).all():
        raise UnreadableFile(
            f"{path.name}: expected cash on hand and consumption in {states} income states, finite, got {rows.shape[0]} rows of {rows.shape[1]}"
        )
    return values, rows[:, 0], rows[:, 1:].T


def _checked(values: dict[str, Any], file: Path) -> int:
    """The number of income states of a calibration that has a solution.

    Raises:
        UnreadableFile: Something in it is no number, the shapes disagree, rows of the transition are no distributions, or beta R >= 1.
    """
    try:
        model = Calibration.of(values)
        kink = np.array(values["kink_cash_on_hand"], float)
    except (ValueError, TypeError) as error:
        raise UnreadableFile(f"{file.name} is no calibration: {error}") from error
    n, P = model.income.size, model.transition
    if model.income.ndim != 1 or n == 0 or P.shape != (n, n) or kink.shape != (n,):
        raise UnreadableFile(
            f"{file.name}: {n} incomes want a transition of shape ({n}, {n}) and {n} kinks, got {P.shape} and {kink.shape}"
        )
    numbers = np.concatenate([[model.beta, model.R, model.g, model.amin], model.income, kink, P.ravel()])
    if not np.isfinite(numbers).all():
        raise UnreadableFile(f"{file.name} has a number that is not finite")
    if (P < 0).any() or np.abs(P.sum(1) - 1).max() > 1e-4:
        raise UnreadableFile(
            f"{file.name}: each row of the transition has to be nonnegative and sum to 1, got {P.sum(1)}"
        )
    if not (model.beta > 0 and model.R > 0 and model.beta * model.R < 1 and model.g > 0):
        raise UnreadableFile(
            f"{file.name}: expected beta, R and g above 0 and beta R below 1 (else saving has no end), "
            f"got beta {model.beta}, R {model.R}, g {model.g}"
        )
    return n


def kinks(policy: Policy) -> np.ndarray:
    """Cash on hand at which each income state starts to save, read from the hinges of its loaded network."""
    import relukit

    found = []
    for state in range(len(policy.hinges)):
        chain = relukit.load(policy.chain(state)).dense_chain()
        hinges = -chain.biases[0] / chain.weights[0][:, 0]
        found.append(float(hinges[np.abs(chain.weights[1][0]) > 0].min()))
    return np.array(found)


def _one(file: Path, seeds: int, out: Path | None = None, table: Path | None = None) -> dict[str, Any]:
    values, grid, consumption = reference(file, table)
    model = Calibration.of(values)
    policies = [solve(model, UNITS, seed, grid.max()) for seed in range(seeds)]
    kink = np.array(values["kink_cash_on_hand"], float)
    spend = lambda p: lambda j, m: m - model.amin - p.save(j, m)
    euler = [euler_errors(model, spend(p), grid) for p in policies]
    shift = [float(np.abs(kinks(p) - kink).__truediv__(kink - model.amin).max()) for p in policies]
    near = [np.abs(grid / k - 1) <= NEAR for k in kink]
    gap = lambda c: float(max(np.abs(c(j)[n] / consumption[j][n] - 1).max() for j, n in enumerate(near) if n.any()))
    ours = [gap(lambda j, p=p: spend(p)(j, grid)) for p in policies]
    smooth = []
    for seed in range(seeds):
        saved = [_tanh.fit(model, policies[0], j, grid, UNITS, seed) for j in range(len(kink))]
        smooth.append(gap(lambda j, s=saved: s[j]))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for j in range(len(kink)):
            np.savez(out / f"{file.stem}_state{j}.npz", **policies[0].chain(j))
    return {
        "metrics": {
            "log10_euler_mean": float(np.mean([e.mean() for e in euler])),
            "log10_euler_max": float(max(e.max() for e in euler)),
            "kink_error": max(shift),
            "error_near_kink": t_interval(ours),
            "limit_violated_by": float(max(0.0, *(-p.save(j, grid).min() for p in policies for j in range(len(kink))))),
        },
        "baselines": {"tanh_error_near_kink": t_interval(smooth), "egm_log10_euler_mean": values["euler_log10_mean"]},
        "rows": int(consumption.size),
    }


def figures(out: Path, data: Path) -> list[Path]:
    """`policy.png`: consumption of each income state with its kink, and the error of either kind near a kink."""
    from matplotlib.figure import Figure

    values, grid, consumption = reference(data / FIRST)
    model = Calibration.of(values)
    policy = solve(model, UNITS, 0, grid.max())
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    m = np.linspace(0.05, 5, 800)
    for j, k in enumerate(kinks(policy)):
        c = m - model.amin - policy.save(j, m)
        (line,) = left.plot(m, c, label=f"income {model.income[j]:.2f}")
        left.plot(k, k - model.amin, "o", color=line.get_color())
    left.plot(m[m < 1.6], m[m < 1.6] - model.amin, ":", color="gray", label="spend everything")
    left.set(xlabel="cash on hand", ylabel="consumption", title="Policies; dots: kinks, read from hinges")
    left.legend(frameon=False, fontsize=8)
    state, k = 2, values["kink_cash_on_hand"][2]
    # at the reference's own points: lines between them would be an error of their own
    near = (grid > 0.5 * k) & (grid < 2 * k)
    window, truth = grid[near], consumption[state][near]
    ours = window - model.amin - policy.save(state, window)
    tanh = _tanh.fit(model, policy, state, window, UNITS, 0)
    for c, color, name in ((tanh, "tab:orange", "tanh, 64 units"), (ours, "tab:blue", "ReLU, 64 units")):
        right.semilogy(window / k, np.maximum(np.abs(c / truth - 1), 1e-8), ".-", color=color, lw=0.8, ms=4, label=name)
    right.axvline(1, color="gray", lw=0.7)
    right.annotate("ReLU: exactly zero", (0.52, 1.4e-8), color="tab:blue", fontsize=8)
    right.set(xlabel="cash on hand / kink", ylabel="relative error", title="Middle income: error near the kink")
    right.legend(frameon=False, fontsize=8)
    path = out / "policy.png"
    figure.savefig(path, dpi=140)
    return [path]
