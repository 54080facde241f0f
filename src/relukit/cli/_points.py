"""Points on the command line: numbers, or rows of a file."""

from pathlib import Path
from typing import Any

from relukit._errors import InvalidInput, ShapeMismatch


def numbers(text: str, what: str) -> list[float]:
    """Comma-separated numbers.

    Raises:
        InvalidInput: Something is no number.
    """
    try:
        return [float(v) for v in text.split(",")]
    except ValueError as error:
        raise InvalidInput(f"{what} takes numbers separated by commas, got '{text}'") from error


def points(network: Any, text: str, what: str) -> Any:
    """Rows `(count, inputs)` from `0.1,0.2`, `rows.npz` (all rows), or `rows.npz:3` (row 3).

    Raises:
        InvalidInput: Neither numbers nor a readable file, or no such row.
        ShapeMismatch: Another number of entries than the network takes.
    """
    import numpy as np

    name, _, row = text.rpartition(":")
    if Path(text).is_file():
        return _rows(network, Path(text))
    if name and Path(name).is_file():
        x = _rows(network, Path(name))
        if not row.isdigit() or int(row) >= len(x):
            raise InvalidInput(f"{what}: {name} has rows 0 to {len(x) - 1}, got '{row}'")
        return x[int(row)][None]
    try:
        values = numbers(text, what)
    except InvalidInput as error:
        raise InvalidInput(
            f"{what} takes numbers separated by commas, a file of rows, or FILE:ROW; '{text}' is none of these"
        ) from error
    if len(values) != network.inputs:
        raise ShapeMismatch(f"{what} has {len(values)} numbers, the network takes {network.inputs}")
    if not np.all(np.isfinite(values)):
        raise InvalidInput(f"{what} must be finite, got '{text}'")
    return np.array([values])


def _rows(network: Any, path: Path) -> Any:
    from relukit.report import read_rows

    return read_rows(network, path).x


def point(network: Any, text: str, what: str) -> Any:
    """One row, `(inputs,)`; of a file of several, the first must be named as FILE:ROW."""
    rows = points(network, text, what)
    if len(rows) != 1:
        raise InvalidInput(f"{what}: {text} has {len(rows)} rows; name one as {text}:0")
    return rows[0]


def shape_of(image: str) -> tuple[int, ...] | None:
    """`28x28` as a shape, None where nothing is given.

    Raises:
        InvalidInput: Something else.
    """
    if not image:
        return None
    parts = image.lower().split("x")
    if not all(p.isdigit() for p in parts):
        raise InvalidInput(f"--image takes rows x columns, for instance 28x28, got '{image}'")
    return tuple(map(int, parts))
