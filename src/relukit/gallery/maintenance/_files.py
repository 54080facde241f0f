"""Which of the formats a file has: C-MAPSS tables, C-MAPSS RUL lists, AI4I rows, CNC experiments or MetroPT-3."""

from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import UnreadableFile
from relukit.gallery._tables import complete, opened, read_csv, with_numbers

CMAPSS = "cmapss_train_FD001.txt.gz"
AI4I = "ai4i2020_dev.csv"
MILL = "cnc_mill_dev.csv.gz"


def kind_of(first_line: str) -> str:
    """`engines`, `remaining` (a RUL list), `process` (AI4I), `mill` or `compressor` (MetroPT-3).

    Raises:
        UnreadableFile: The line fits none of them.
    """
    if "Rotational speed" in first_line:
        return "process"
    if "tool_condition" in first_line or "S1_ActualAcceleration" in first_line:
        return "mill"
    if "Oil_temperature" in first_line and "Motor_current" in first_line:
        return "compressor"
    words = first_line.split()
    try:
        [float(w) for w in words]
    except ValueError:
        words = []
    if len(words) in (1, 26):
        return "engines" if len(words) == 26 else "remaining"
    raise UnreadableFile(
        "expected a C-MAPSS table (26 numbers a line), a RUL list (one number a line), AI4I 2020, CNC mill or "
        f"MetroPT-3 rows with their header; the file starts with '{first_line[:60].strip()}'"
    )


def read_kind(path: Path) -> str:
    try:
        with opened(path) as f:
            return kind_of(f.readline())
    except (OSError, ValueError, EOFError) as error:
        raise UnreadableFile(f"{path}: {error}") from None


def numbers(path: Path) -> np.ndarray:
    """A C-MAPSS table or list."""
    try:
        with opened(path) as f:
            table = np.loadtxt(f, ndmin=2)
    except ValueError as error:
        raise UnreadableFile(f"{path}: not a table of numbers ({str(error).split(';')[0]})") from None
    if not np.all(np.isfinite(table)):
        raise UnreadableFile(f"{path} holds values that are not finite numbers")
    return table


def frame(path: Path, numeric: list[str], text: list[str] | None = None) -> Any:
    """A CSV as a pandas frame with those columns; rows that lack one of the numbers are left out, and counted in its `attrs`."""
    table = with_numbers(read_csv(path, [*(text or []), *numeric]), numeric, path)
    table, left_out = complete(table, numeric, path)
    table.attrs["left_out"] = left_out
    return table
