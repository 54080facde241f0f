"""Laccase and ABTS: Michaelis-Menten stays, a small ReLU network learns what slows the enzyme down."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import UnreadableFile
from relukit._numerics import write_json
from relukit.gallery._life import data_folder, load_states, save_states, t_interval
from relukit.gallery.enzyme import _laws
from relukit.gallery.enzyme._data import ABTS, OXIDASE, PUROMYCIN, hill, read, replicate_spread, simulated
from relukit.gallery.enzyme._puromycin import fit_rates
from relukit.training.hybrid import Curve, Hybrid, decreasing_factor

NAME = "enzyme"


def fetch() -> Path:
    """Folder with the laccase, glucose oxidase and puromycin tables."""
    return data_folder("hybrid_ode", ABTS, OXIDASE, PUROMYCIN)


def train(
    data: Path,
    out: Path,
    *,
    seeds: int = 5,
    quick: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Fit the laccase model, from `seeds` starts, beside the known laws; then leave one concentration out at a time.

    Unless `quick`: the simulated repression that is known, a black box on the same data, glucose oxidase, puromycin.
    """
    curves = read(data / ABTS)
    steps = (seeds if not quick else 1) + (0 if quick else 8)
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if on_progress is not None:
            on_progress(done, steps)

    fits: list[Hybrid] = []
    for seed in range(1 if quick else seeds):
        fits.append(_laws.fit_laccase(curves, None if seed == 0 else seed))
        tick()
    laws = {"michaelis_menten": _laws.fit_known(curves), "with_inactivation": _laws.fit_inactivated(curves)}
    _save(out, fits, laws)
    best = fits[0]
    summary: dict[str, Any] = {
        "laccase": best.to_dict(),
        "rmse_of_starts": t_interval([f.rmse for f in fits]),
        "rmse_of_laws": {k: f.rmse for k, f in laws.items()},
        "replicates_differ_by": replicate_spread(curves),
        "parameters_of_the_network": sum(p.numel() for p in best.unknown.parameters()),
    }
    if not quick:
        summary["one_concentration_left_out"] = _left_out(curves, tick)
        summary["simulated_repression"] = _simulated(tick)
        summary["glucose_oxidase"] = _laws.fit_oxidase(read(data / OXIDASE)).to_dict()
        tick()
        summary["puromycin"] = fit_rates(data / PUROMYCIN)
    write_json(out / "training.json", summary)
    return {k: v for k, v in summary.items() if not k.startswith("glucose")}


def _left_out(curves: list[Curve], tick: Callable[[], None]) -> dict[str, Any]:
    """Error on each inner concentration when the others train; the lowest and the highest only train."""
    groups = list(dict.fromkeys(c.group for c in curves))
    kinds = {
        "hybrid": _laws.fit_laccase,
        "michaelis_menten": _laws.fit_known,
        "with_inactivation": _laws.fit_inactivated,
    }
    errors: dict[str, list[float]] = {k: [] for k in kinds}
    for held in groups[1:-1]:
        for kind, fit in kinds.items():
            model = fit([c for c in curves if c.group != held])
            errors[kind].append(model.error([c for c in curves if c.group == held]))
        tick()
    return {
        k: {"rmse": float(np.sqrt(np.mean(np.square(v)))), "each": dict(zip(groups[1:-1], v))}
        for k, v in errors.items()
    }


def _simulated(
    tick: Callable[[], None], count: int = 10, seeds: Sequence[int] = (10, 11, 12, 13, 14)
) -> dict[str, Any]:
    """How well the hidden factor comes back, and what a black box makes of as many and of ten times as many curves."""
    import torch

    grid, unseen = np.linspace(0, 110, 221), simulated(7, 99, noise=0.0)
    factor, ours, same, tenfold, constants = [], [], [], [], []
    for k, seed in enumerate(seeds):
        model = _laws.fit_repressed(simulated(count, seed))
        learned = model.unknown(torch.tensor(grid)).detach().numpy()
        factor.append(float(np.sqrt(np.mean((learned - hill(grid)) ** 2))))
        ours.append(model.error(unseen))
        constants.append(model.parameters)
        same.append(_laws.fit_black_box(simulated(count, seed), seed).error(unseen))
        if k < 2:
            tenfold.append(_laws.fit_black_box(simulated(10 * count, seed), seed).error(unseen))
    tick()
    return {
        "curves": count, "rmse_of_factor": factor, "constants": constants, "rmse_hybrid": ours,
        "rmse_black_box": same, "rmse_black_box_ten_times_the_curves": tenfold,
    }  # fmt: skip


def _save(out: Path, fits: list[Hybrid], laws: dict[str, Hybrid]) -> None:
    save_states(
        out / "model.pt",
        [f.unknown.state_dict() for f in fits],
        parameters=[f.parameters for f in fits],
        intervals={k: list(v) for k, v in fits[0].intervals.items()},
        laws={k: f.parameters for k, f in laws.items()},
    )


def restore(out: Path) -> tuple[list[Hybrid], dict[str, Hybrid]]:
    """The laccase models (one per start) and the laws beside them."""
    loaded = load_states(out / "model.pt", NAME)
    blank = lambda parameters, unknown, rhs: Hybrid(parameters, {}, unknown, float("nan"), {}, 0, rhs, _laws.STEP)
    fits = []
    for state, parameters in zip(loaded["states"], loaded["parameters"]):
        factor = decreasing_factor(len(state["widths"]))
        factor.load_state_dict(state)
        fits.append(blank(parameters, factor, _laws.by_conversion))
    rows = {"michaelis_menten": _laws.known, "with_inactivation": _laws.inactivated}
    return fits, {k: blank(loaded["laws"][k], None, rhs) for k, rhs in rows.items()}


def score(out: Path, files: Sequence[Path]) -> dict[str, Any]:
    """Root mean square error in umol/l on measurements of the laccase layout; time 0 is not scored."""
    curves = [c for f in files for c in read(f)]
    if not curves:
        raise UnreadableFile("no curve to score: give a table of measurements")
    fits, laws = restore(out)
    kinds = {"model": fits[0], **laws}
    groups = list(dict.fromkeys(c.group for c in curves))
    each = {k: {g: m.error([c for c in curves if c.group == g]) for g in groups} for k, m in kinds.items()}
    spread = replicate_spread(curves)
    return {
        "study": NAME,
        "metrics": {
            "rmse": fits[0].error(curves),
            "rmse_of_starts": t_interval([f.error(curves) for f in fits]),
            "rmse_by_measurement": each["model"],
            "replicates_differ_by": spread if np.isfinite(spread) else None,
        },
        "baselines": {k: {"rmse": m.error(curves), "rmse_by_measurement": each[k]} for k, m in laws.items()},
        "rows": sum(len(c.times) - 1 for c in curves),
    }
