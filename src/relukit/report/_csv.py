"""Rows of a network from a table with a header: which columns are its inputs, and which one is the answer."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, UnreadableFile
from relukit._types import Array, IntArray
from relukit.network import Network

_ANSWERS = ("y", "label", "labels", "class", "target", "targets")  # names of a column that is no input


def read_csv(path: Path, network: Network | None) -> tuple[Array, Array | IntArray | None]:
    """Inputs `(rows, inputs)` and, where a column holds them, labels or targets `(rows,)`.

    A table without a header is inputs only. With one, the columns are those that `relukit train` noted in the `train.json` beside the
    network's file; else all columns, less one that is named y, label, class or target where the rest fits the network.

    Raises:
        UnreadableFile: No table.
        InvalidInput: Text where numbers should be, or a column is missing that the network was trained on: they are named.
    """
    names, columns = _columns(path)
    if not names:
        return _numbers(path, {str(k + 1): column for k, column in enumerate(columns)}), None
    table = dict(zip(names, columns, strict=True))
    noted = _noted(network)
    wanted = noted.get("inputs", [])
    if any(name in table for name in wanted):
        missing = [str(name) for name in wanted if name not in table]
        if missing:  # other columns in their place would be taken for them
            raise InvalidInput(
                f"data file {path} has no column{'s' if len(missing) > 1 else ''} {', '.join(missing[:6])}{', ...' if len(missing) > 6 else ''}, which the "
                f"network was trained on (train.json beside it). It has {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}"
            )
        target = noted.get("target")
        return _numbers(path, {name: table[name] for name in wanted}), _answer(table.get(target), noted.get("classes"))
    answer = next((name for name in names if name.lower() in _ANSWERS), None)
    if answer is not None and network is not None and len(names) == network.inputs + 1:
        return _numbers(path, {n: c for n, c in table.items() if n != answer}), _answer(table[answer], None)
    return _numbers(path, table), None


def _columns(path: Path) -> tuple[list[str], list[list[str]]]:
    """Names (none where the first line holds numbers) and columns of a table separated by commas, semicolons, tabs or spaces."""
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", newline="", encoding="utf-8-sig", errors="replace") as file:
        text = file.read()
    first = text.split("\n", 1)[0]
    separator = max(",;\t", key=first.count)
    if not first.count(separator):
        lines = [line.split() for line in text.splitlines() if line.strip()]
    else:
        lines = [line for line in csv.reader(text.splitlines(), delimiter=separator) if line]
    lines = [[field.strip() for field in line] for line in lines if not line[0].startswith("#")]
    wrong = next((k for k, line in enumerate(lines) if len(line) != len(lines[0])), None)
    if wrong is not None:
        raise UnreadableFile(
            f"data file {path}, line {wrong + 1}: {len(lines[wrong])} fields where the first line has {len(lines[0])}"
        )
    header = bool(lines) and not all(_is_number(field) for field in lines[0])
    names = lines[0] if header else []
    rows = lines[1:] if header else lines
    return names, [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in names]


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _numbers(path: Path, table: dict[str, list[str]]) -> Array:
    columns, text = [], []
    for name, column in table.items():
        try:
            columns.append(np.array(column, np.float64))
        except ValueError:
            text.append((name, next(v for v in column if not _is_number(v))))
    if text:
        said = ", ".join(f"{name} ('{value}')" if value else f"{name} (an empty field)" for name, value in text[:6])
        raise InvalidInput(
            f"data file {path}: columns that are not numbers: {said}. Give the network's inputs only, one column each, in its order"
        )
    return np.stack(columns, axis=1) if columns else np.zeros((0, 0))


def _answer(column: list[str] | None, classes: Any) -> Array | IntArray | None:
    """Labels as class numbers, targets as they are; None where they are neither."""
    if column is None:
        return None
    if isinstance(classes, list) and set(column) <= set(map(str, classes)):
        return np.array([[str(c) for c in classes].index(v) for v in column], np.int64)
    return np.array(column, np.float64) if all(_is_number(v) for v in column) else None


def _noted(network: Network | None) -> dict[str, Any]:
    """What `relukit train` wrote beside the network's file."""
    if network is None or network.origin.path is None:
        return {}
    try:
        content = json.loads((Path(network.origin.path).parent / "train.json").read_text())
    except (OSError, ValueError):
        return {}
    fits = (
        isinstance(content, dict)
        and isinstance(content.get("inputs"), list)
        and len(content["inputs"]) == network.inputs
    )
    return content if fits else {}
