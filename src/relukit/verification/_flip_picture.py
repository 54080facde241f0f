"""The picture of a smallest flip."""

from typing import Any

import numpy as np

from relukit._errors import InvalidInput
from relukit.geometry._draw_explain import as_picture, bars


def draw(found: Any, ax: Any) -> Any:
    """Draw on the given axes (three for an image), or on new ones; returns them.

    Raises:
        InvalidInput: No flip was found.
    """
    if found.witness is None:
        raise InvalidInput(f"there is no flip to draw: {found!r}")
    from matplotlib.figure import Figure

    before, after, change = as_pictures(found)
    title = f"{found.from_} to {found.to}: {found.distance:.4g}, {found.status}"
    if before is None:
        ax = Figure(figsize=(6, 4.6), layout="constrained").subplots() if ax is None else ax
        bars(ax, found.witness - found.x, title, "change of the input")
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


def as_pictures(found: Any) -> tuple[Any, Any, Any]:
    """Input, flipped input and their difference (channels averaged) as rows and columns; None where it is no image."""
    both = np.stack([found.x, found.witness])
    low, high = both.min(), both.max()
    scaled = (both - low) / ((high - low) or 1.0)
    pictures = [as_picture(v, found.input_shape, scaled=True) for v in scaled]
    if pictures[0] is None:
        return None, None, None
    squeezed = tuple(s for s in found.input_shape if s != 1)
    change = (found.witness - found.x).reshape(squeezed)
    return (*pictures, change if change.ndim == 2 else change.mean(axis=0))
