"""Parts of a job that several runs shared, put together as one run would have written them."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relukit._errors import InvalidInput, SolverDisagreement, UnreadableFile
from relukit.verification._flip_batch import table_of
from relukit.verification.instances import write_lines

_DECIDED = ("sat", "unsat")


@dataclass(frozen=True)
class Merged:
    """What was put together.

    Arguments:
        content: The table of flips, or None where instances were merged.
        entries: How many instances or rows there are.
        missing: Shards that none of the parts is, like `3-of-8`.
    """

    content: dict[str, Any] | None
    entries: int
    missing: tuple[str, ...]


def merge(parts: Sequence[str | Path], out: str | Path) -> Merged:
    """Put together what runs with `--shard` wrote; the same for any sharding, and for parts given in any order or twice.

    Arguments:
        parts: Folders of `verify --instances --shard` (or their `results-*.jsonl`), or files of `flip --all --shard -o PART.json`.
        out: For instances the folder of `results.jsonl`; a table of flips is returned, not written.

    Raises:
        UnreadableFile: A part is missing, or holds neither.
        InvalidInput: No parts, or parts of both kinds.
        SolverDisagreement: One part says sat of an instance and another unsat.
    """
    files = [file for part in parts for file in _files(Path(part), Path(out))]
    if not files:
        raise InvalidInput("there is nothing to merge: give folders or files that runs with --shard wrote")
    kinds = {file.suffix for file in files}
    if len(kinds) > 1:
        raise InvalidInput("results of instances (.jsonl) and tables of flips (.json) cannot be merged into one")
    missing = _missing(files)
    if kinds == {".json"}:
        content = _flips(files)
        return Merged(content, content["rows"], missing)
    entries = _instances(files)
    write_lines(Path(out) / "results.jsonl", entries)
    return Merged(None, len(entries), missing)


def _files(part: Path, out: Path) -> list[Path]:
    if part.is_dir():
        found = sorted(part.glob("results-*-of-*.jsonl"))
        if part.resolve() != out.resolve() or not found:
            found += [file for file in (part / "results.jsonl",) if file.exists()]
        if not found:
            raise UnreadableFile(f"{part} holds no results*.jsonl of `relukit verify --instances`")
        return found
    if not part.is_file() or part.suffix not in (".json", ".jsonl"):
        raise UnreadableFile(f"{part}: expected a folder of results, a .jsonl of instances or a .json of flips")
    return [part]


def _missing(files: list[Path]) -> tuple[str, ...]:
    """Shards that the names of the files leave out."""
    named = [re.search(r"(\d+)-of-(\d+)$", file.stem) for file in files]
    there = {(int(m[1]), int(m[2])) for m in named if m}
    totals = {of for _, of in there}
    return tuple(f"{k}-of-{of}" for of in sorted(totals) for k in range(1, of + 1) if (k, of) not in there)


def _instances(files: list[Path]) -> list[dict[str, Any]]:
    kept: dict[tuple[str, str], tuple[dict[str, Any], Path]] = {}
    for file in files:
        for line in _read(file).splitlines():
            try:
                entry = json.loads(line)
                key, status = (entry["network"], entry["property"]), entry["status"]
            except (json.JSONDecodeError, KeyError, TypeError):
                continue  # the torn last line of a run that was interrupted
            before, whose = kept.get(key, (None, file))
            if before is not None and before["status"] != status and {before["status"], status} == set(_DECIDED):
                raise SolverDisagreement(f"{key[0]}, {key[1]}: {before['status']} in {whose}, {status} in {file}")
            if before is None or before["status"] not in _DECIDED:
                kept[key] = (entry, file)
    return [entry for entry, _ in kept.values()]


def _flips(files: list[Path]) -> dict[str, Any]:
    rows: dict[int, tuple[dict[str, Any], bool]] = {}
    for file in files:
        try:
            content = json.loads(_read(file))
            rows |= dict(zip(content["numbers"], zip(content["flips"], content["right"], strict=True), strict=True))
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise UnreadableFile(f"{file} is no part of `relukit flip --all --shard -o PART.json`: {error}") from error
    numbers = sorted(rows)
    return table_of([rows[k][0] for k in numbers], [rows[k][1] for k in numbers]) | {"numbers": numbers}


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFile(f"{file} cannot be read: {error}") from error
