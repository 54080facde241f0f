"""Which of the formats a file has: C-MAPSS tables, C-MAPSS RUL lists, AI4I rows, CNC experiments or MetroPT-3."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import UnreadableFile

CMAPSS = "cmapss_train_FD001.txt.gz"
AI4I = "ai4i2020_dev.csv"
MILL = "cnc_mill_dev.csv.gz"


def opened(path: Path) -> Any:
    """A text stream, through gzip where the file is packed (by its first bytes, not by its name)."""
    with Path(path).open("rb") as f:
        packed = f.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rt", encoding="utf-8-sig") if packed else Path(path).open(encoding="utf-8-sig")


def kind_of(first_line: str) -> str:
    """`engines`, `remaining` (a RUL list), `process` (AI4I), `mill` or `compressor` (MetroPT-3).

    Raises:
        UnreadableFile: The line fits none of them.
    """
    if "Rotational speed" in first_line:
        return "process"
    if "S1_ActualAcceleration" in first_line:
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
    except UnreadableFile as error:
        raise UnreadableFile(f"{path}: {error}") from None


def numbers(path: Path) -> np.ndarray:
    """A C-MAPSS table or list."""
    with opened(path) as f:
        table = np.loadtxt(f, ndmin=2)
    if not np.all(np.isfinite(table)):
        raise UnreadableFile(f"{path} holds values that are not finite numbers")
    return table


def frame(path: Path, needed: list[str]) -> Any:
    """A CSV as a pandas frame, with its columns checked."""
    import pandas as pd

    with opened(path) as f:
        table = pd.read_csv(f)
    missing = [c for c in needed if c not in table.columns]
    if missing:
        raise UnreadableFile(f"{path} lacks the columns {', '.join(missing)}")
    return table
