"""Remaining cycles said and true, the process rules on their planes, votes of the mill."""

from pathlib import Path

import numpy as np

from relukit._numerics import atomic_path
from relukit.gallery.maintenance import _engines, _files, _mill, _process
from relukit.gallery.maintenance.study import load_engines


def figures(out: Path, data: Path) -> list[Path]:
    """Write `maintenance.png`: one panel a machine, all on what was kept from the networks that speak."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _, notes = load_engines(out)
    chosen = np.unique(notes["engine"])[:4]
    for k, e in enumerate(chosen):
        rows = notes["engine"] == e
        cycles = np.arange(rows.sum()) + _engines.START
        left.plot(cycles, notes["unseen"][rows], lw=1, color=f"C{k}", label=f"engine {int(e)}")
        left.plot(cycles, notes["left"][rows], "--", lw=1, color=f"C{k}")
    left.set(xlabel="cycle", ylabel="remaining cycles", title="Turbofans kept from training (dashed: truth)")
    left.legend(fontsize=8)
    table = _process.read(data / _files.AI4I)
    X, y = _process.features(table), table[_process.TARGET].to_numpy(bool)
    middle.plot(X[~y, 1], X[~y, 2], ".", ms=2, color="0.75", label="works")
    middle.plot(X[y, 1], X[y, 2], ".", ms=4, color="C3", label="failed")
    middle.axhline(9000, color="k", lw=0.7, ls=":")
    middle.axhline(3500, color="k", lw=0.7, ls=":")
    middle.set(
        xlabel=_process.FEATURES[1],
        ylabel=_process.FEATURES[2],
        title="Milling process: failures lie beyond thresholds",
    )
    middle.legend(fontsize=8)
    mill = _mill.read(data / _files.MILL)
    experiments = _mill.windows(mill, _mill.signals(mill))
    scores = _mill.left_out(experiments)
    order = sorted(scores, key=lambda k: (experiments[k]["feed"], experiments[k]["worn"]))
    boxes = right.boxplot([scores[k] for k in order], patch_artist=True, showfliers=False)
    for patch, k in zip(boxes["boxes"], order):
        patch.set_facecolor("#f4b6b0" if experiments[k]["worn"] else "#cfe2f3")
    right.set_xticks(range(1, len(order) + 1), [f"{k}\n{experiments[k]['feed']:g}" for k in order], fontsize=8)
    right.set(
        xlabel="experiment / feed rate (red: worn tool)", ylabel="mean vote", title="Mill: each experiment left out"
    )
    with atomic_path(out / "maintenance.png") as path:
        figure.savefig(path, dpi=130, format="png")
    return [out / "maintenance.png"]
