"""A watched training as a picture."""

from pathlib import Path
from typing import Any

import numpy as np

from relukit._types import Array
from relukit.monitoring._unit_picture import write_figure
from relukit.monitoring._units import deaths_and_revivals, silence

_ROWS = 600  # rows of the unit panel: of wider networks every so many units are shown
_SILENT, _LIVE, _FIX = "#0b2a4a", "#f0d060", "#d55e00"


def draw(watch: Any, path: str | Path) -> None:
    """Four rows over the steps: the loss; every unit, dark where no gradient reached it; deaths and revivals; gradient norm by layer."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib.figure import Figure

    record = watch.record
    watch._read_losses()
    figure = Figure(figsize=(8, 10), layout="constrained")
    loss, units, moves, gradient = figure.subplots(4, 1, sharex=True, height_ratios=(2, 3.4, 1.3, 2.3))
    _draw_loss(watch, loss)
    layers = [k for k, layer in enumerate(record.layers) if not layer.norm]
    if record.samples:
        hidden = layers[:-1] or layers
        _draw_units(record, hidden, units)
        _draw_moves(record, hidden, moves)
        _draw_gradient(record, layers, gradient, figure)
    gradient.set_xlabel("step")
    gradient.set_xlim(1, max(record.step, 2))
    for ax in (loss, moves):
        ax.spines[["top", "right"]].set_visible(False)
    write_figure(figure, path)


def _draw_loss(watch: Any, ax: Any) -> None:
    losses = np.asarray(watch.record.losses, float)
    ax.plot(np.arange(1, len(losses) + 1), losses, color="#0072b2", lw=1)
    finite = losses[np.isfinite(losses)]
    if len(finite) and finite.min() > 0 and np.ptp(np.log10(finite)) > 1.5:
        ax.set_yscale("log")
    ax.set_ylabel("loss")
    for fix in watch.fixes:
        ax.axvline(fix["step"], color=_FIX, ls="--", lw=1)
        ax.text(fix["step"], 0.97, " fix", color=_FIX, va="top", transform=ax.get_xaxis_transform(), fontsize=8)
    worst = watch.findings[0] if watch.findings else None
    title = f"{worst.symptom}: {worst.cause} (since step {worst.since_step})" if worst else "no finding"
    ax.set_title(title, loc="left", fontsize=10)


def _edges(steps: Array, last: int) -> Array:
    """Each look counts until the next one."""
    return np.append(steps, max(last, steps[-1]) + 1)


def _draw_units(record: Any, hidden: list[int], ax: Any) -> None:
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    parts = {k: silence(record, k) for k in hidden}
    parts = {k: part for k, part in parts.items() if part[1].size}
    every = max(1, -(-sum(flags.shape[1] for _, flags in parts.values()) // _ROWS))
    top, ticks = 0, []
    for k, (steps, flags) in parts.items():
        shown = flags[:, ::every]
        # Units that were silent longest come first: a layer's dead share is the height of its dark band.
        shown = shown[:, np.argsort(-shown.mean(axis=0), kind="stable")].T
        rows = np.arange(top, top + len(shown) + 1)
        ax.pcolormesh(
            _edges(steps, record.step), rows, shown, cmap=ListedColormap([_LIVE, _SILENT]), vmin=0, vmax=1, rasterized=True
        )  # fmt: skip
        ticks.append((top + len(shown) / 2, record.layers[k].name))
        top += len(shown)
        ax.axhline(top, color="w", lw=1)
    ticks = ticks[:: max(1, len(ticks) // 12)]
    ax.set_yticks([t for t, _ in ticks], [name for _, name in ticks], fontsize=7)
    ax.set_ylim(max(top, 1), 0)
    ax.set_ylabel("units by layer" + (f" (1 in {every})" if every > 1 else ""))
    ax.legend(
        handles=[Patch(color=_LIVE, label="gets a gradient"), Patch(color=_SILENT, label="silent in the batch")],
        loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=2, fontsize=8, frameon=False,
    )  # fmt: skip


def _draw_moves(record: Any, hidden: list[int], ax: Any) -> None:
    died: dict[int, int] = {}
    back: dict[int, int] = {}
    for k in hidden:
        steps, flags = silence(record, k)
        for found, counts in zip(deaths_and_revivals(flags), (died, back)):
            for step, count in zip(steps, found.sum(axis=1) if len(steps) else ()):
                counts[int(step)] = counts.get(int(step), 0) + int(count)
    steps = sorted(died)
    wide = max(1.0, record.step / 120)
    ax.bar(steps, [-died[s] for s in steps], wide, color=_SILENT, label="units that died")
    ax.bar(steps, [back[s] for s in steps], wide, color=_FIX, label="units that came back")
    ax.axhline(0, color="0.4", lw=0.6)
    most = max([1, *died.values(), *back.values()])
    ax.set_ylim(-1.15 * most, 1.15 * most)
    ax.set_ylabel("units")
    ax.legend(loc="upper right", fontsize=8, frameon=False, ncols=2)


def _draw_gradient(record: Any, layers: list[int], ax: Any, figure: Any) -> None:
    count = len(record.layers)
    samples = [s for s in record.samples if len(s.grad) == count]
    norm = np.array([[s.grad[k] for s in samples] for k in layers])
    with np.errstate(divide="ignore", invalid="ignore"):
        log = np.log10(norm)
    high = np.nanmax(log[np.isfinite(log)], initial=-30)
    mesh = ax.pcolormesh(
        _edges(np.array([s.step for s in samples]), record.step), np.arange(len(layers) + 1) - 0.5,
        np.where(np.isfinite(log), log, high - 8), vmin=high - 8, vmax=high, cmap="cividis", rasterized=True,
    )  # fmt: skip
    figure.colorbar(mesh, ax=ax, label="log10 gradient norm", pad=0.01)
    shown = np.unique(np.linspace(0, len(layers) - 1, min(len(layers), 12)).astype(int))
    ax.set_yticks(shown, [record.layers[layers[k]].name for k in shown], fontsize=7)
    ax.set_ylabel("layer")
    ax.invert_yaxis()
