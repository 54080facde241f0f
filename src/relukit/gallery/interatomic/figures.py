"""Energy told against computed, the force jumps along a path, and total energy over time, ReLU beside SiLU."""

from pathlib import Path
from typing import Any

import numpy as np

from relukit.gallery.interatomic import jumps
from relukit.gallery.interatomic._frames import read
from relukit.gallery.interatomic._model import Potential
from relukit.gallery.interatomic.study import restore


def figures(out: Path, data: Path) -> list[Path]:
    """`ethanol.png`, drawn for the molecule of the first training file."""
    from matplotlib.figure import Figure

    from relukit.gallery.interatomic.calculator import drift

    frames = read(data / "rmd17_ethanol_train_01.npz")
    *relu, silu = restore(out, "C2H6O")
    figure = Figure(figsize=(11, 3.5), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    first = frames[0]
    direction = np.zeros_like(first.positions)
    direction[2, 0] = 0.05  # the oxygen atom, along x
    path = jumps.Path(relu[0], first.numbers, first.positions, direction)
    found = jumps.find(path, 10)
    _draw_jumps(left, middle, path, found, silu)
    start = frames[1]
    for potential, name, color in ((relu[0], "ReLU", "tab:blue"), (silu, "SiLU", "tab:orange")):
        energy = drift(potential, start.numbers, start.positions, kelvin=300, steps=150, step_fs=0.5)
        right.plot(np.arange(len(energy)) * 0.5, 1e3 * (energy - energy[0]), color=color, label=name, lw=0.9)
    right.set(xlabel="time, fs", ylabel="total energy less its start, meV", title="NVE, 300 K, steps of 0.5 fs")
    right.legend(frameon=False, fontsize=8)
    target = out / "ethanol.png"
    figure.savefig(target, dpi=140)
    return [target]


def _draw_jumps(left: Any, middle: Any, path: jumps.Path, found: list[jumps.Jump], silu: Potential) -> None:
    ts = np.linspace(0, 1, 61)
    force = lambda potential: np.array([potential(path.numbers, path.at(t))[1][2, 0] for t in ts])
    left.plot(ts * 0.05, force(path.potential), color="tab:blue", label="ReLU")
    left.plot(ts * 0.05, force(silu), "--", color="tab:orange", label="SiLU", lw=0.9)
    left.set(xlabel="oxygen moved along x, A", ylabel="force on it along x, eV/A", title="Force along a path")
    left.legend(frameon=False, fontsize=8)
    size = [1e3 * np.linalg.norm(j.force, axis=1).max() for j in found]
    middle.vlines([j.t * 0.05 for j in found], 1e-4, np.maximum(size, 1e-4), color="tab:blue", lw=0.8)
    middle.set(yscale="log", xlabel="oxygen moved along x, A", ylabel="largest jump of a force, meV/A")
    middle.set_title(f"all {len(found)} jumps, exact")
