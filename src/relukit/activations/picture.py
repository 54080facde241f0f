"""Value and derivative of activations as a picture."""

from pathlib import Path

import numpy as np

from relukit._errors import InvalidInput
from relukit._numerics import atomic_path
from relukit.activations.catalogue import Activation

_VALUE, _SLOPE = "#0072b2", "#d55e00"  # Okabe-Ito: told apart by color-blind readers


def draw(rows: list[Activation], path: str | Path, reach: float = 4.0) -> None:
    """One panel for each activation: its value as a line, its derivative dashed, its kinks marked.

    Raises:
        InvalidInput: No row that is a function of one variable, or an ending that matplotlib does not know.
        UnwritablePath: The file cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib.figure import Figure

    rows = [r for r in rows if r.entrywise]
    if not rows:
        raise InvalidInput("nothing to draw: crelu and maxout are no functions of one variable")
    path = Path(path)
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise InvalidInput(f"--plot writes .png, .svg or .pdf, got '{path.name}'")
    columns = min(4, len(rows))
    lines = -(-len(rows) // columns)
    figure = Figure(figsize=(3.1 * columns, 2.6 * lines + 0.5), layout="constrained")
    axes = np.atleast_1d(figure.subplots(lines, columns, squeeze=False)).ravel()
    for ax, row in zip(axes, rows):
        _panel(ax, row, reach)
    for ax in axes[len(rows) :]:
        ax.set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format=path.suffix[1:].lower())


def _panel(ax, row: Activation, reach: float) -> None:
    f = row()
    kinks = np.ravel(getattr(f, "knots", getattr(f, "kinks", ())))
    ends = [-reach, *sorted(k for k in kinks if -reach < k < reach), reach]
    x = np.linspace(-reach, reach, 801)
    ax.axhline(0, color="0.8", lw=0.8)
    ax.axvline(0, color="0.8", lw=0.8)
    ax.plot(x, f(x), color=_VALUE, lw=1.8, label="value")
    for k, (a, b) in enumerate(zip(ends[:-1], ends[1:])):  # the derivative jumps at a kink: no line across
        t = np.linspace(np.nextafter(a, b), np.nextafter(b, a), 200)
        ax.plot(t, f.derivative(t), color=_SLOPE, lw=1.4, ls="--", label="derivative" if k == 0 else None)
    for k in ends[1:-1]:
        ax.plot([k], f(np.array([k])), "o", color=_VALUE, ms=3.5)
    ax.set_title(row.name, fontsize=10)
    ax.set_ylim(-1.6, 3.2)
    ax.set_xlim(-reach, reach)
    ax.tick_params(labelsize=7)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
