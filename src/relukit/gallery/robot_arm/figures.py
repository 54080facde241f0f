"""Step responses of both laws for small and large steps, and their describing functions."""

from pathlib import Path

import numpy as np

from relukit._numerics import atomic_path
from relukit.gallery.robot_arm._loop import LAWS, SLOPES, Joint, describing, linearization, simulate, swing_frequency


def figures(out: Path, data: Path) -> list[Path]:
    """Write `robot_arm.png`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.8), layout="constrained")
    panels = figure.subplots(1, 3)
    for axes, step in zip(panels, (0.01, 3.0)):
        for name, gain, style in (("relu", 20.0, "-"), ("sigmoid", 20.0, "-"), ("sigmoid", 80.0, "--")):
            times, angles = simulate(Joint(gain=gain), LAWS[name], step, time=3.0)
            label = {"relu": "ReLU pair", "sigmoid": "sigmoid"}[name] + (", gain x 4" if gain == 80 else "")
            axes.plot(times, angles[:, 0] / step, style, color="C0" if name == "relu" else "C1", lw=1.2, label=label)
        axes.axhline(1, color="k", lw=0.5)
        axes.set(xlabel="time [s]", ylabel="angle / step", title=f"Step of {step:g} rad (MuJoCo, one joint)")
        axes.legend(fontsize=8)
    sizes = np.geomspace(0.01, 10, 40)
    for k, name in enumerate(LAWS):
        w = [linearization(Joint(), describing(LAWS[name], a)).frequency for a in sizes]
        panels[2].semilogx(sizes, w, color=f"C{k}", label={"relu": "ReLU pair", "sigmoid": "sigmoid"}[name])
        panels[2].axhline(linearization(Joint(), SLOPES[name]).frequency, color=f"C{k}", lw=0.6, ls=":")
        swings = [0.1, 1.0, 3.0, 8.0]
        seen = [swing_frequency(Joint(), LAWS[name], a)[0] for a in swings]
        panels[2].semilogx(
            swings, seen, "o", mfc="none", color=f"C{k}", label="undamped swings in MuJoCo" if k else None
        )
    panels[2].set(xlabel="amplitude [rad]", ylabel="natural frequency [rad/s]", title="Describing function")
    panels[2].set_ylim(bottom=0)
    panels[2].legend(fontsize=8)
    with atomic_path(out / "robot_arm.png") as path:
        figure.savefig(path, dpi=130, format="png")
    return [out / "robot_arm.png"]
