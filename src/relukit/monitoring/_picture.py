"""A watched training as a picture."""

from pathlib import Path
from typing import Any

import numpy as np

from relukit.monitoring._unit_picture import write_figure


def draw(watch: Any, path: str | Path) -> None:
    """Three rows: the loss; silent units by layer and step; gradient norm by layer and step (dark: fading)."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib.figure import Figure

    record = watch.record
    watch._read_losses()
    samples = record.samples
    figure = Figure(figsize=(8, 7.5), layout="constrained")
    loss, silent, gradient = figure.subplots(3, 1, sharex=True)
    steps = np.arange(1, len(record.losses) + 1)
    loss.plot(steps, record.losses, color="#0072b2", lw=1)
    losses = np.asarray(record.losses)
    if len(losses) and np.all(losses[np.isfinite(losses)] > 0) and np.ptp(np.log10(losses[np.isfinite(losses)])) > 1.5:
        loss.set_yscale("log")
    loss.set_ylabel("loss")
    for fix in watch.fixes:
        loss.axvline(fix["step"], color="#d55e00", ls="--", lw=1)
        loss.text(
            fix["step"], 0.97, " fix", color="#d55e00", va="top", transform=loss.get_xaxis_transform(), fontsize=8
        )
    worst = watch.findings[0] if watch.findings else None
    loss.set_title(
        f"{worst.symptom}: {worst.cause} (since step {worst.since_step})" if worst else "no finding",
        loc="left",
        fontsize=10,
    )
    layers = [k for k, layer in enumerate(record.layers) if not layer.norm]
    names = [record.layers[k].name for k in layers]
    if samples:
        edges = [s.step for s in samples] + [max(record.step, samples[-1].step) + 1]
        share = np.array([[s.silent[k].mean() if len(s.silent[k]) else np.nan for s in samples] for k in layers])
        norm = np.array([[s.grad[k] for s in samples] for k in layers])
        rows = np.arange(len(layers) + 1) - 0.5
        first = silent.pcolormesh(edges, rows, share, vmin=0, vmax=1, cmap="cividis")
        figure.colorbar(first, ax=silent, label="units without gradient", pad=0.01)
        with np.errstate(divide="ignore"):
            log = np.log10(norm)
        low, high = np.nanmax(log[np.isfinite(log)], initial=-30) - 8, np.nanmax(log[np.isfinite(log)], initial=-30)
        second = gradient.pcolormesh(
            edges, rows, np.where(np.isfinite(log), log, low), vmin=low, vmax=high, cmap="cividis"
        )
        figure.colorbar(second, ax=gradient, label="log10 gradient norm", pad=0.01)
        shown = np.unique(np.linspace(0, len(layers) - 1, min(len(layers), 12)).astype(int))
        for ax in (silent, gradient):
            ax.set_yticks(shown, [names[k] for k in shown], fontsize=7)
            ax.set_ylabel("layer")
            ax.invert_yaxis()
    gradient.set_xlabel("step")
    for ax in (loss,):
        ax.spines[["top", "right"]].set_visible(False)
    write_figure(figure, path)
