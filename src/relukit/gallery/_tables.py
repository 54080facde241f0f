"""Tables that others bring: columns checked, numbers that are numbers, and what is wrong named with its place."""

import gzip
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import UnreadableFile


def opened(path: str | Path) -> Any:
    """A text stream, through gzip where the file is packed (by its first bytes, not by its name)."""
    with Path(path).open("rb") as f:
        packed = f.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rt", encoding="utf-8-sig") if packed else Path(path).open(encoding="utf-8-sig")


def read_csv(path: str | Path, needed: Sequence[str] = (), **options: Any) -> Any:
    """A CSV table, packed or not, with at least one row.

    Arguments:
        needed: Columns it must have.
        options: Further arguments of `pandas.read_csv`.

    Raises:
        UnreadableFile: It is no such table.
    """
    import pandas as pd

    try:
        with opened(path) as f:
            table = pd.read_csv(f, **options)
    except (OSError, ValueError, EOFError) as error:
        raise UnreadableFile(f"{path}: not a CSV table ({error})") from error
    missing = [c for c in needed if c not in table.columns]
    if missing:
        there = ", ".join(map(str, table.columns))[:160]
        raise UnreadableFile(f"{path} lacks the columns {', '.join(missing)}; it has {there}")
    if table.empty:
        raise UnreadableFile(f"{path} has a header and no rows below it")
    return table


def with_numbers(table: Any, columns: Sequence[str], path: str | Path) -> Any:
    """The table with those columns as floats, NaN where nothing stands.

    Raises:
        UnreadableFile: Something stands there that is no number; the message says in which row.
    """
    import pandas as pd

    found = {}
    for name in columns:
        values = pd.to_numeric(table[name], errors="coerce")
        strange = (values.isna() & table[name].notna()).to_numpy()
        if strange.any():
            k = int(np.flatnonzero(strange)[0])
            raise UnreadableFile(
                f"{path}: row {k + 1} has '{table[name].iloc[k]}' in column {name}, a number is expected"
            )
        found[name] = values.astype(float)
    return table.assign(**found)


def complete(table: Any, columns: Sequence[str], path: str | Path) -> tuple[Any, int]:
    """The rows in which all of those columns of numbers are finite, and how many others there were.

    Raises:
        UnreadableFile: None is left.
    """
    fine = np.isfinite(table[list(columns)].to_numpy(float)).all(1)
    if not fine.any():
        raise UnreadableFile(f"{path}: each of its {len(table)} rows lacks a number in one of {', '.join(columns)}")
    return table[fine].reset_index(drop=True), int((~fine).sum())


def told(value: Any) -> Any:
    """An answer in which what is not defined (NaN, infinite) is None, as JSON has it."""
    if isinstance(value, dict):
        return {k: told(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [told(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
