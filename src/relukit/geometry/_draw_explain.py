"""The picture of an explanation: walls as bars; the map of the decision as a picture for images, as bars for tables."""

from typing import Any

import numpy as np

from relukit._errors import InvalidInput
from relukit.geometry._draw import PALETTE

_BARS = 20
_USUAL = {784: (28, 28), 3072: (3, 32, 32)}  # flat inputs that are images: MNIST and its kin, CIFAR


def draw(found: Any, ax: Any, image: tuple[int, ...] | None = None) -> Any:
    """Draw on three given axes, or on new ones; returns them; `image` as for `Explanation.plot`."""
    if ax is None:
        from matplotlib.figure import Figure

        ax = Figure(figsize=(13, 4.6), layout="constrained").subplots(1, 3, width_ratios=[1.2, 1, 1])
    walls, middle, right = np.ravel(ax)[:3]
    _bars_of_walls(found, walls)
    weights, title = _weights(found)
    picture = as_picture(found.x, image_shape(found.input_shape, found.x.size, image))
    if picture is not None:
        middle.imshow(picture, cmap="gray")
        middle.set_title(f"input: decision {found.decision}")
        slopes = np.squeeze(weights.reshape(image_shape(found.input_shape, found.x.size, image)))
        slopes = slopes if slopes.ndim == 2 else slopes.sum(axis=0)
        high = np.max(np.abs(slopes)) or 1.0
        shown = right.imshow(slopes, cmap="PuOr_r", vmin=-high, vmax=high)
        right.figure.colorbar(shown, ax=right, shrink=0.8, label="weight")
        right.set_title(title)
        for a in (middle, right):
            a.set_xlabel("column")
            a.set_ylabel("row")
    else:
        bars(middle, weights, title, "weight of the input")
        share = weights * found.x
        bars(right, share, "weight times input", f"contribution to {title}")
    return ax


def _weights(found: Any) -> tuple[Any, str]:
    """What pulls towards the decision: against the nearest other one in the cell, or the runner-up."""
    if len(found.A) == 1:
        return found.A[0], "output 0"
    if found.boundary is not None:
        other = found.boundary.other
    else:
        other = int(np.argsort(found.outputs)[-2])
    other = other if other != found.decision else int(np.argmin(found.outputs))
    return found.A[found.decision] - found.A[other], f"output {found.decision} minus output {other}"


def image_shape(shape: tuple[int, ...], size: int, image: tuple[int, ...] | None = None) -> tuple[int, ...]:
    """The shape to draw an input in: the one asked for, the network's own, or that of the usual flat images."""
    if image is None:
        return _USUAL.get(size, shape) if len([s for s in shape if s != 1]) == 1 else shape
    if int(np.prod(image)) != size or not (len(image) == 2 or (len(image) == 3 and image[0] == 3)):
        raise InvalidInput(f"an image is rows x columns, or 3 x rows x columns, of {size} numbers in all; got {image}")
    return image


def as_picture(x: Any, shape: Any, scaled: bool = False) -> Any:
    """The input as rows and columns, colors brought to 0 to 1 unless they are; None for a table's row."""
    squeezed = tuple(s for s in shape if s != 1)
    if len(squeezed) == 2 and min(squeezed) > 3:
        return x.reshape(squeezed)
    if len(squeezed) == 3 and squeezed[0] == 3:
        low, high = (0.0, 1.0) if scaled else (float(x.min()), float(x.max()))
        return ((x.reshape(squeezed) - low) / (high - low or 1.0)).transpose(1, 2, 0)
    return None


def _bars_of_walls(found: Any, ax: Any) -> None:
    shown = found.walls[:_BARS]
    names = [f"{w.node}[{w.unit}]" + (f" +{len(w.same)}" if w.same else "") for w in shown]
    ax.barh(range(len(shown)), [w.distance for w in shown], color=PALETTE[0], label="to the wall")
    ax.plot([w.to_plane for w in shown], range(len(shown)), "|", color="#222222", ms=10, label="to its hyperplane")
    if found.boundary is not None:
        ax.axvline(found.boundary.distance, color=PALETTE[5], lw=2, ls="--", label=f"decision {found.boundary.other}")
    ax.set_yticks(range(len(shown)), names, fontsize=8)
    ax.invert_yaxis()
    ax.set_xlabel("distance from the input")
    ax.set_title(f"nearest {len(shown)} walls of its cell")
    if shown:
        ax.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3)


def bars(ax: Any, values: Any, title: str, label: str) -> None:
    """The largest of one value for each input, by size."""
    order = np.argsort(-np.abs(values), kind="stable")[:_BARS]
    sizes = np.abs(values[order])
    order = order[: max(np.count_nonzero(sizes > 1e-6 * sizes[:1]), 1)]
    ax.barh(range(len(order)), values[order], color=[PALETTE[5] if v < 0 else PALETTE[0] for v in values[order]])
    ax.set_yticks(range(len(order)), [f"input {k}" for k in order], fontsize=8)
    ax.invert_yaxis()
    ax.axvline(0, color="#222222", lw=0.8)
    ax.set_xlabel(label)
    ax.set_title(title)
