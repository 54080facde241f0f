"""The picture of a smallest flip."""

from typing import Any

import numpy as np

from relukit._errors import InvalidInput
from relukit.geometry._draw_explain import as_picture, bars, image_shape


def draw(found: Any, ax: Any, shape: tuple[int, ...] | None = None) -> Any:
    """Draw on the given axes (three for an image), or on new ones; returns them.

    Arguments:
        shape: Of the image, where the network takes its pixels in a row; 784 inputs are 28 x 28, 3,072 are 3 x 32 x 32.

    Raises:
        InvalidInput: No flip was found, or the inputs do not fill the shape.
    """
    if found.witness is None:
        raise InvalidInput(f"there is no flip to draw: {found!r}")
    from matplotlib.figure import Figure

    before, after, change = as_pictures(found, shape)
    size = f"{'l-inf' if np.isinf(found.norm) else f'l{found.norm:g}'} distance {found.distance:.4g}"
    size += ", proven" if found.status == "proven" else f", at least {found.lower:.4g}"
    if before is None:
        moved = _without_noise(found.witness - found.x)
        drawn = min(np.count_nonzero(moved), 20)
        ax = Figure(figsize=(6.4, 1.2 + 0.18 * max(drawn, 2)), layout="constrained").subplots() if ax is None else ax
        bars(ax, moved, f"{found.from_} to {found.to}: {size}", "change of the input")
        ax.set_ylim(max(drawn, 2) - 0.4, -0.6)  # a few bars are no thicker than many
        largest = np.argsort(-np.abs(moved), kind="stable")[: len(ax.get_yticks())]
        ax.set_yticklabels([f"input {k}: {found.x[k]:.3g} to {found.witness[k]:.3g}" for k in largest])
        if drawn < np.count_nonzero(moved):
            ax.set_xlabel(f"change of the input, {drawn} of {np.count_nonzero(moved)} that move")
        return ax
    ax = Figure(figsize=(10, 3.6), layout="constrained").subplots(1, 3) if ax is None else ax
    left, middle, right = np.ravel(ax)[:3]
    low, high = min(before.min(), after.min()), max(before.max(), after.max())
    for panel, picture, words in ((left, before, f"input: {found.from_}"), (middle, after, f"flipped: {found.to}")):
        panel.imshow(picture, cmap="gray", vmin=low, vmax=high)
        panel.set_title(words)
    most = float(np.abs(change).max()) or 1.0
    shown = right.imshow(change, cmap="PuOr_r", vmin=-most, vmax=most)
    right.figure.colorbar(shown, ax=right, shrink=0.8, label="change")
    right.set_title(size)
    for panel in (left, middle, right):
        panel.set_axis_off()
    return ax


def _without_noise(change: Any) -> Any:
    """Changes to five digits of the largest, so that equal ones stand in the order of the inputs and rounding is no move."""
    most = float(np.abs(change).max()) or 1.0
    return np.round(change / most, 5) * most


def as_pictures(found: Any, shape: tuple[int, ...] | None = None) -> tuple[Any, Any, Any]:
    """Input, flipped input and their difference (channels averaged) as rows and columns; None where it is no image."""
    both = np.stack([found.x, found.witness])
    low, high = both.min(), both.max()
    scaled = (both - low) / ((high - low) or 1.0)
    shape = image_shape(found.input_shape, found.x.size, shape and tuple(s for s in shape if s != 1))
    pictures = [as_picture(v, shape, scaled=True) for v in scaled]
    if pictures[0] is None:
        return None, None, None
    squeezed = tuple(s for s in shape if s != 1)
    change = (found.witness - found.x).reshape(squeezed)
    return (*pictures, change if change.ndim == 2 else change.mean(axis=0))
