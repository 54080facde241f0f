"""A lap from above, colored by speed, and what the network saw on the way."""

import json
from pathlib import Path

import numpy as np

from relukit._numerics import atomic_path
from relukit.gallery.car_racing._circuit import HELD, episode, make

TRACK, SHOWN = 900_100, 5


def figures(out: Path, data: Path) -> list[Path]:
    """One picture of the chosen network's lap on a track it has not seen."""
    from matplotlib.figure import Figure

    from relukit.gallery.car_racing.study import load

    env, driven = make(), []
    command = load(out, json.loads((out / "training.json").read_text())["chosen"])

    def drive(both: np.ndarray) -> np.ndarray:
        hull = env.car.hull
        driven.append((*hull.position, np.hypot(*hull.linearVelocity)))
        return command(both)

    total, frames, _ = episode(env, TRACK, drive)
    path, middle = np.array(driven), np.array([t[2:4] for t in env.track])
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    grid = figure.add_gridspec(SHOWN, 2, width_ratios=(5, 1))
    axes = figure.add_subplot(grid[:, 0])
    axes.plot(*np.concatenate([middle, middle[:1]]).T, color="0.85", linewidth=9, zorder=0)
    points = axes.scatter(path[:, 0], path[:, 1], c=path[:, 2], s=14, cmap="viridis")
    figure.colorbar(points, ax=axes, label="speed [m/s]", shrink=0.8)
    axes.set(aspect="equal", xlabel="x [m]", ylabel="y [m]", title=f"return {total:.0f}, {len(path) * HELD} steps")
    for j, k in enumerate(np.linspace(0, len(frames) - 1, SHOWN).astype(int)):
        axes.annotate(str(j + 1), path[k, :2], xytext=(6, 6), textcoords="offset points", weight="bold")
        small = figure.add_subplot(grid[j, 1])
        small.imshow(frames[k, 0], cmap="gray", vmin=0, vmax=255)
        small.set(xticks=[], yticks=[])
        small.set_ylabel(str(j + 1), rotation=0, labelpad=8, va="center", weight="bold")
    with atomic_path(out / "car-racing.png") as target:
        figure.savefig(target, dpi=130, format="png")
    return [out / "car-racing.png"]
