"""Pictures of units: what each does over the rows, and how one dies."""

from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput
from relukit._numerics import atomic_path
from relukit._types import Array

_SHOWN = 40  # layers that are drawn


def _figure(width: float, height: float) -> Any:
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def write_figure(figure: Any, path: str | Path) -> None:
    """Into a .png, .svg or .pdf file.

    Raises:
        InvalidInput: Another ending.
        UnwritablePath: The file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise InvalidInput(f"pictures are written as .png, .svg or .pdf, got '{path.name}'")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=140, format=path.suffix[1:].lower())


def draw_health(health: Any, path: str | Path) -> None:
    """Each unit's share of rows for which it is on, sorted within its layer; beside it the gradient norm of each layer."""
    layers = health.layers[:_SHOWN]
    figure = _figure(9, 1.6 + 0.34 * max(len(layers), 3))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    image = None
    for k, layer in enumerate(layers):
        on = np.sort(1 - layer.off_share)[None]
        edges = np.linspace(0, 1, on.shape[1] + 1)
        image = left.pcolormesh(edges, [k - 0.42, k + 0.42], on, vmin=0, vmax=1, cmap="cividis")
        dead = layer.dead / layer.units
        if dead > 0:
            left.plot([0, dead], [k + 0.46, k + 0.46], color="#d55e00", lw=2.5, solid_capstyle="butt")
    left.set_yticks(range(len(layers)), [f"{layer.name} ({layer.units})" for layer in layers], fontsize=8)
    left.set_ylim(len(layers) - 0.4, -0.6)
    left.set(xlabel="units of the layer, least active first", xticks=[0, 0.5, 1], xticklabels=["0 %", "50 %", "100 %"])
    left.set_title(f"orange: dead on all {health.rows} rows", loc="left", fontsize=9)
    if image is not None:
        figure.colorbar(image, ax=left, label="share of rows that switch it on", pad=0.01)
    norms = [np.nan if layer.grad_norm is None else layer.grad_norm for layer in layers]
    right.barh(range(len(layers)), norms, color="#0072b2", height=0.7)
    seen = [n for n in norms if n > 0]
    if seen and max(seen) > 20 * min(seen):
        right.set_xscale("log")
    right.set_xlabel("gradient norm")
    right.spines[["top", "right"]].set_visible(False)
    write_figure(figure, path)


def draw_dying_unit(
    x: Array, y: Array, path: str | Path, start: tuple[float, float] = (0.6, 3.0), rate: float = 1.6, steps: int = 12
) -> dict[str, Any]:
    r"""One unit max(0, w x + b) fitted to a line's worth of data by gradient descent that steps too far.

    The loss over (w, b) is exactly flat where the unit is off for every row, w x + b <= 0 at the least and the largest x:
    a wedge between two lines, drawn hatched. A step that lands there is the last one. Beside it the leaky unit's loss,
    tilted in the same wedge, and the same descent that comes back out of it.

    Arguments:
        x: One feature, shape `(rows,)`; it is standardized.
        y: Targets, shape `(rows,)`; standardized and lifted to be mostly positive.
        start: First weight and bias.
        rate: Learning rate.

    Returns:
        `{"died_at": step or None, "leaky_loss": ..., "relu_loss": ...}`.

    Raises:
        InvalidInput: Fewer than two different x, or lengths that differ.

    References:
        Dying ReLU and Initialization, Lu et al., 2020.
    """
    x, y = np.asarray(x, float).ravel(), np.asarray(y, float).ravel()
    if len(x) != len(y) or len(np.unique(x)) < 2:
        raise InvalidInput(
            f"a dying unit needs x and y of one length with different x, got {len(x)} and {len(y)} values"
        )
    x = (x - x.mean()) / x.std()
    y = (y - y.mean()) / max(float(y.std()), 1e-12) + 1
    figure = _figure(10, 4.6)
    axes = figure.subplots(1, 2, sharey=True)
    answer: dict[str, Any] = {}
    reach = 4.5
    grid = np.linspace(-reach, reach, 161)
    W, B = np.meshgrid(grid, grid)
    for ax, slope, name in zip(axes, (0.0, 0.1), ("relu", "leaky")):
        loss = _loss(W.ravel(), B.ravel(), x, y, slope).reshape(W.shape)
        ax.contourf(W, B, np.log10(loss), levels=24, cmap="cividis")
        # Off for all rows: b <= -w x at both ends of the data.
        edge = np.minimum(-grid * x.min(), -grid * x.max())
        ax.fill_between(
            grid, -reach, np.clip(edge, -reach, reach), facecolor="none", edgecolor="w", hatch="///", lw=1,
            label="off for every row: exactly flat" if slope == 0 else "the same wedge, tilted",
        )  # fmt: skip
        track = _descend(np.array(start), x, y, slope, rate, steps if slope == 0 else 12 * steps)
        ax.plot(*track.T, "o-", color="#d55e00", ms=3, lw=1, label="gradient descent")
        ax.plot(*track[-1], "s", color="#d55e00", ms=8, mec="w")
        ax.set(xlabel="weight w", xlim=(-reach, reach), ylim=(-reach, reach))
        ax.set_title("max(0, w x + b)" if slope == 0 else "leaky: slope 0.1 on the left", loc="left", fontsize=10)
        ax.legend(loc="upper left", fontsize=8, framealpha=0.9)
        off = [bool(w * x.min() + b <= 0 and w * x.max() + b <= 0) for w, b in track]
        answer[f"{name}_loss"] = float(_loss(track[-1:, 0], track[-1:, 1], x, y, slope)[0])
        if slope == 0:
            answer["died_at"] = off.index(True) if any(off) else None
    axes[0].set_ylabel("bias b")
    write_figure(figure, path)
    return answer


def _loss(w: Array, b: Array, x: Array, y: Array, slope: float) -> Array:
    z = w[:, None] * x + b[:, None]
    return ((np.where(z > 0, z, slope * z) - y) ** 2).mean(axis=1)


def _descend(at: Array, x: Array, y: Array, slope: float, rate: float, steps: int) -> Array:
    """Points (w, b); the first step is too long, later ones are a tenth of it, as after a rate that was lowered."""
    track = [at]
    for k in range(steps):
        z = at[0] * x + at[1]
        pull = 2 * (np.where(z > 0, z, slope * z) - y) * np.where(z > 0, 1.0, slope)
        at = at - rate * (1 if k == 0 else 0.1) * np.array([(pull * x).mean(), pull.mean()])
        track.append(at)
    return np.array(track)
