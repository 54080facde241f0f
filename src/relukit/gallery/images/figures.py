"""Digits, the smallest nudges, the facets they cross; how training moves the distances."""

from pathlib import Path

import numpy as np

from relukit.gallery.images import _model
from relukit.gallery.images.study import RADII, TEST, restore


def figures(out: Path, data: Path) -> list[Path]:
    """`flips.png` and `histogram.png`."""
    test = np.load(data / TEST)
    x = _model.flat(test["x"][:200])
    return [_flips(out, x[1:5].astype(float)), _histogram(out, x[:100])]


def _flips(out: Path, rows: np.ndarray) -> Path:
    """Image, nudge, result, and the normal of the facet of the decision boundary on which the result lies."""
    from matplotlib.figure import Figure

    import relukit

    network, box = relukit.load(restore(out, "mlp")[0]), relukit.Box(np.zeros(784), np.ones(784))
    figure = Figure(figsize=(8, 8.4), layout="constrained")
    for row, axes in zip(rows, figure.subplots(len(rows), 4)):
        found = relukit.flip(network, row, within=box, timeout=40)
        for ax in axes:
            ax.set(xticks=[], yticks=[])
        axes[0].imshow(row.reshape(28, 28), cmap="gray", vmin=0, vmax=1)
        axes[0].set_title(f"reads {found.from_}", fontsize=9)
        if found.witness is None:
            continue
        picture = lambda ax, v, size: ax.imshow(v.reshape(28, 28), cmap="RdBu", vmin=-size, vmax=size)
        picture(axes[1], found.witness - row, found.upper)
        axes[1].set_title(f"nudge, {found.status}: {found.upper:.4f}", fontsize=9)
        axes[2].imshow(found.witness.reshape(28, 28), cmap="gray", vmin=0, vmax=1)
        axes[2].set_title(f"reads {found.to}", fontsize=9)
        normal, turned = facet(network, row, found.witness, int(found.from_), int(found.to))
        picture(axes[3], normal, np.abs(normal).max())
        axes[3].set_title(f"facet {found.from_} | {found.to}; {turned} gates on the way", fontsize=8)
    path = out / "flips.png"
    figure.savefig(path, dpi=110)
    return path


def facet(network, x: np.ndarray, witness: np.ndarray, old: int, new: int) -> tuple[np.ndarray, int]:
    """Normal of the boundary between two decisions in the witness' linear piece, and how many ReLUs turned on the way."""
    chain = network.dense_chain()
    direction = np.zeros(chain.weights[-1].shape[0])
    direction[new], direction[old] = 1.0, -1.0
    masks = []
    for point in (x, witness):
        h, on = point, []
        for W, b in zip(chain.weights[:-1], chain.biases[:-1]):
            z = W @ h + b
            on.append(z > 0)
            h = np.maximum(z, 0)
        masks.append(on)
    normal = direction @ chain.weights[-1]
    for W, on in zip(chain.weights[-2::-1], masks[1][::-1]):
        normal = (normal * on) @ W
    return normal, int(sum((a != b).sum() for a, b in zip(*masks)))


def _histogram(out: Path, x: np.ndarray) -> Path:
    """Distances at which an attack (foolbox's fast minimum norm, else projected gradients) turns a decision, by training."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.2), layout="constrained")
    ax = figure.subplots()
    # each of the radii that projected gradients try lies within a bin of its own
    edges = np.sqrt(RADII[:-1] * RADII[1:])
    for kind, name, color in (("plain", "plain training", "tab:orange"), ("mlp", "stable training", "tab:blue")):
        module = restore(out, kind)[0]
        distance = _model.foolbox_attacks(module, x).get("fast_minimum_norm")
        if distance is None:
            distance = np.array([_model.attack(module, row, RADII) for row in x])
        middle = np.median(distance)
        label = f"{name}, median {middle:.3f}"
        ax.hist(distance.clip(edges[0], edges[-1]), edges, alpha=0.55, color=color, label=label)
        ax.axvline(middle, color=color, lw=1.5, ls="--")
    ax.set(xscale="log", xlabel="l-infinity distance at which an attack succeeds", ylabel=f"digits of {len(x)}")
    ax.set_xticks([0.01, 0.02, 0.05, 0.1, 0.2], ["0.01", "0.02", "0.05", "0.1", "0.2"])
    ax.minorticks_off()
    ax.legend(frameon=False, fontsize=8)
    path = out / "histogram.png"
    figure.savefig(path, dpi=140)
    return path
