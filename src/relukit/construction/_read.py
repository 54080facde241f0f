"""Tables of numbers from text files."""

import csv
from pathlib import Path

import numpy as np

from relukit._errors import InvalidInput, UnreadableFile
from relukit._types import Array

LIMIT = 200 << 20  # bytes: about 5 million rows, more than a network of hats would serve


def read_columns(path: str | Path) -> Array:
    """Rows of numbers of a .csv, .tsv, .txt or .npy file, shape `(rows, columns)`; one line of names may lead.

    Separators are comma, semicolon, tab or spaces; lines that start with # are left out.

    Raises:
        UnreadableFile: The file is missing, too large or no text.
        InvalidInput: A row has another number of columns than the first, or a field that is no number (also NaN).
    """
    path = Path(path)
    try:
        if path.stat().st_size > LIMIT:
            raise UnreadableFile(f"{path} has {path.stat().st_size >> 20} MiB; tables are read up to {LIMIT >> 20} MiB")  # fmt: skip
        if path.suffix == ".npy":
            return np.atleast_2d(np.load(path, allow_pickle=False)).astype(np.float64)
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, ValueError, EOFError) as error:
        if isinstance(error, UnreadableFile):
            raise
        raise UnreadableFile(f"{path} is no readable table: {error}") from error
    lines = [(k, line) for k, line in enumerate(text.splitlines(), start=1) if line.strip() and not line.lstrip().startswith("#")]  # fmt: skip
    if not lines:
        raise InvalidInput(f"{path} holds no rows: expected columns x, y")
    separator = next((c for c in (";", "\t", ",") if c in lines[0][1]), None)
    fields = [(k, _fields(line, separator)) for k, line in lines]
    if any(_number(v) is None and v.lower() not in ("", "na", "null", "none") for v in fields[0][1]):
        fields = fields[1:]  # a line of names
    if not fields:
        raise InvalidInput(f"{path} holds names but no rows")
    width, rows = len(fields[0][1]), []
    for k, values in fields:
        if len(values) != width:
            raise InvalidInput(f"{path}, line {k}: {len(values)} columns where the first row has {width}")
        numbers = [_number(v) for v in values]
        for column, (v, number) in enumerate(zip(values, numbers), start=1):
            if number is None or not np.isfinite(number):
                raise InvalidInput(f"{path}, line {k}, column {column}: '{v}' where a finite number is needed. Remove or fill this row.")  # fmt: skip
        rows.append(numbers)
    return np.array(rows, np.float64)


def _fields(line: str, separator: str | None) -> list[str]:
    if separator is None:
        return line.split()
    return [v.strip() for v in next(csv.reader([line], delimiter=separator))]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
