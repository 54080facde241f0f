"""The picture of a smallest flip."""

from typing import Any

import numpy as np

from relukit._errors import InvalidInput
from relukit.geometry._draw_explain import as_picture, bars


def draw(found: Any, ax: Any, shape: tuple[int, ...] | None = None) -> Any:
    """Draw on the given axes (three for an image), or on new ones; returns them.

    Arguments:
        shape: Of the image, where the network takes its pixels in a row.

    Raises:
        InvalidInput: No flip was found, or the inputs do not fill the shape.
    """
    if found.witness is None:
        raise InvalidInput(f"there is no flip to draw: {found!r}")
    from matplotlib.figure import Figure

    if shape is not None and np.prod(shape) != len(found.x):
        raise InvalidInput(
            f"an image of shape {tuple(shape)} has {np.prod(shape)} pixels, the network takes {len(found.x)} inputs"
        )
    before, after, change = as_pictures(found, shape)
    title = f"{found.from_} to {found.to}: {found.distance:.4g}, {found.status}"
    if before is None:
        ax = Figure(figsize=(6, 4.6), layout="constrained").subplots() if ax is None else ax
        bars(ax, found.witness - found.x, title, "change of the input")
        size = np.abs(found.witness - found.x)
        moved, drawn = int(np.sum(size > 1e-6 * size.max())), len(ax.get_yticks())
        if moved > drawn:
            ax.set_xlabel(f"change of the input, {drawn} of {moved} that move")
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
    right.set_title(f"distance {found.distance:.4g}, {found.status}")
    for panel in (left, middle, right):
        panel.set_axis_off()
    return ax


def as_pictures(found: Any, shape: tuple[int, ...] | None = None) -> tuple[Any, Any, Any]:
    """Input, flipped input and their difference (channels averaged) as rows and columns; None where it is no image."""
    both = np.stack([found.x, found.witness])
    low, high = both.min(), both.max()
    scaled = (both - low) / ((high - low) or 1.0)
    shape = found.input_shape if shape is None else shape
    pictures = [as_picture(v, shape, scaled=True) for v in scaled]
    if shape is None or pictures[0] is None:
        return None, None, None
    squeezed = tuple(s for s in shape if s != 1)
    change = (found.witness - found.x).reshape(squeezed)
    return (*pictures, change if change.ndim == 2 else change.mean(axis=0))
