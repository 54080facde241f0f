"""Tables from CSV files: numeric inputs and one target column."""

import csv
import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np

from relukit._errors import InvalidInput, UnreadableFile
from relukit._types import Array


class Table(NamedTuple):
    """Rows, targets, and the names of the input columns."""

    x: Array
    y: np.ndarray
    columns: list[str]


def read_table(path: str | Path, target: str, drop: list[str] | None = None) -> Table:
    """Reads a CSV file (also `.gz`) with a header.

    Arguments:
        path: The file; separators `,` `;` and tab are told apart by the header.
        target: Name of the column to predict: numbers, or any text for classes.
        drop: Columns to leave out.

    Raises:
        UnreadableFile: Missing, empty, or not a table.
        InvalidInput: No such column, missing values, or columns that are not numbers (named, with what to do).
    """
    path = Path(path)
    if not path.is_file():
        raise UnreadableFile(f"table {path} does not exist")
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            separator = max(",;\t", key=first.count)
            lines = [line for line in csv.reader(file, delimiter=separator) if line]
    except (OSError, UnicodeDecodeError, csv.Error, EOFError) as error:
        raise UnreadableFile(f"table {path} cannot be read: {error}") from error
    if len(lines) < 2:
        raise UnreadableFile(f"table {path} has no row below its header")
    names = [name.strip() for name in lines[0]]
    if target not in names:
        raise InvalidInput(
            f"table {path} has no column '{target}'; say which to predict with --target. It has {', '.join(names[:30])}"
        )
    unknown = [name for name in drop or [] if name not in names]
    if unknown:
        raise InvalidInput(f"--drop: table {path} has no column {', '.join(unknown)}")
    wrong = next((k for k, line in enumerate(lines) if len(line) != len(names)), None)
    if wrong is not None:
        raise UnreadableFile(
            f"table {path}, line {wrong + 1}: {len(lines[wrong])} fields where the header has {len(names)}"
        )
    columns = {name: [line[k].strip() for line in lines[1:]] for k, name in enumerate(names)}
    kept = [name for name in names if name != target and name not in (drop or [])]
    numbers: dict[str, Array] = {}
    text, missing = [], []
    for name in kept:
        values = columns[name]
        if any(v in _MISSING for v in values):
            missing.append(f"{name} ({sum(v in _MISSING for v in values)})")
            continue
        try:
            numbers[name] = np.array(values, np.float64)
        except ValueError:
            text.append(name)
    if text or missing:
        said = [f"columns that are not numbers: {', '.join(text)}"] * bool(text)
        said += [f"columns with missing values: {', '.join(missing)}"] * bool(missing)
        raise InvalidInput(
            f"table {path}: {'; '.join(said)}. Encode or fill them first, or leave them out with --drop NAME"
        )
    if not kept:
        raise InvalidInput(f"table {path} has no input column besides '{target}'")
    if any(v in _MISSING for v in columns[target]):
        raise InvalidInput(
            f"table {path}: the target '{target}' has {sum(v in _MISSING for v in columns[target])} missing values"
        )
    return Table(np.stack([numbers[name] for name in kept], axis=1), _target(columns[target]), kept)


_MISSING = {"", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?"}


def _target(values: list[str]) -> np.ndarray:
    """Whole numbers with few values and text are classes; other numbers are numbers."""
    try:
        numbers = np.array(values, np.float64)
    except ValueError:
        return np.array(values)
    whole = bool(np.all(numbers == np.round(numbers)))
    return numbers.astype(np.int64) if whole and len(np.unique(numbers)) <= 20 else numbers
