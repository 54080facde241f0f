"""Curves of loss over depth beside the claims and Hazus; what was expected beside what was paid."""

from pathlib import Path

import numpy as np

from relukit.gallery.catastrophe import _claims, _model
from relukit.gallery.catastrophe.study import restore


def figures(out: Path, data: Path) -> list[Path]:
    """`depth.png`: mean ratio by depth on claims since 2000, the networks and the Hazus curves on the same claims."""
    import pandas as pd
    from matplotlib.figure import Figure

    table = _claims.read(data / _claims.CLAIMS)
    table = table[(table.yearOfLoss >= 2000) & table.waterDepth.notna()].reset_index(drop=True)
    x, y = _claims.inputs(table), _claims.target(table)
    depth = _claims.feet(table.waterDepth.to_numpy(float), table.yearOfLoss.to_numpy(float))
    ours = np.mean([_model.ratio(n, x)[:, 0] for n in restore(out)], 0)
    hazus = _claims.hazus_ratio(pd.read_csv(out / "hazus.csv"), table)
    edges = np.array([-1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 4.5, 6, 8, 10])
    which = np.digitize(depth, edges)
    means = lambda v: np.array([v[which == k].mean() for k in range(1, len(edges))])
    center = (edges[1:] + edges[:-1]) / 2
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(center, means(y), "ko", label="claims since 2000 (mean)")
    left.plot(center, means(ours), color="tab:blue", label="ReLU network")
    left.plot(center, means(hazus), "--", color="tab:orange", label="Hazus curves")
    left.set(
        xlabel="water above the first floor, feet", ylabel="damage / value", ylim=(0, None), title="Claims by depth"
    )
    left.legend(frameon=False, fontsize=8)
    typical = np.median(x, 0)
    grid = np.linspace(0, 15, 300)
    for value, color in ((75e3, "tab:green"), (200e3, "tab:blue"), (600e3, "tab:purple")):
        probe = np.repeat(typical[None], len(grid), 0)
        probe[:, 0], probe[:, 1] = grid, _claims.logarithm(value, 2021)
        loss = value * np.mean([_model.ratio(n, probe)[:, 0] for n in restore(out)], 0)
        right.plot(grid - _claims.DEPTH_BELOW, loss / 1e3, color=color, label=f"value {value / 1e3:.0f} k$")
    right.set(
        xlabel="water above the first floor, feet",
        ylabel="expected loss, k$",
        ylim=(0, None),
        title="Median claim since 2000, money of 2021",
    )
    right.legend(frameon=False, fontsize=8)
    path = out / "depth.png"
    figure.savefig(path, dpi=140)
    return [path]
