"""The learned factor with its hinges, and the curves it gives."""

from pathlib import Path

import numpy as np

from relukit._numerics import atomic_path
from relukit.gallery.enzyme._data import ABTS, read
from relukit.gallery.enzyme.study import restore
from relukit.training.hybrid import Curve


def figures(out: Path, data: Path) -> list[Path]:
    """Write `factor.png`: the regulation that was learned, its exact hinges, and the fitted curves."""
    from matplotlib.figure import Figure

    fits, laws = restore(out)
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for k, fit in enumerate(fits):
        x, y = fit.unknown.hinges().T
        left.plot(np.append(x, 1), np.append(y, y[-1]), color="C0" if k == 0 else "0.8", zorder=2 if k == 0 else 1)
        if k == 0:
            left.plot(x, y, "o", color="C0", label="hinges")
    left.set(xlabel="converted share of ABTS", ylabel="factor on the Michaelis-Menten rate", ylim=(0, 1.05))
    left.set_title("What slows the enzyme (gray: other starts)", fontsize=10)
    left.legend(frameon=False)
    curves = read(data / ABTS)
    for k, group in enumerate(dict.fromkeys(c.group for c in curves)):
        mine = [c for c in curves if c.group == group]
        mean = Curve(mine[0].times, np.mean([c.values for c in mine], 0), dict(mine[0].given), group)
        mean = Curve(mean.times, mean.values, {**mean.given, "start": float(mean.values[0, 0])}, group)
        for c in mine:
            right.plot(c.times, c.values[:, 0], ".", ms=2.5, color=f"C{k}")
        right.plot(mean.times, fits[0].predict([mean])[0][:, 0], color=f"C{k}")
        right.plot(mean.times, laws["michaelis_menten"].predict([mean])[0][:, 0], ":", lw=1, color=f"C{k}")
    right.set(xlabel="time, s", ylabel="ABTS, umol/l", ylim=(0, None))
    right.set_title("Readings, hybrid (line), Michaelis-Menten (dotted)", fontsize=10)
    with atomic_path(out / "factor.png") as path:
        figure.savefig(path, dpi=150, format="png")
    return [out / "factor.png"]
