"""Many properties in one run: a list of instances, one line of results each, resumable."""

import csv
import json
import math
import os
import time
from collections.abc import Callable
from concurrent.futures import Executor
from functools import lru_cache
from pathlib import Path
from typing import Any

from relukit._errors import RelukitError, UnreadableFile, UnwritablePath
from relukit._numerics import write_bytes
from relukit._spread import Shard, answers
from relukit.network import Network, load
from relukit.search import compile_loops, is_compiled
from relukit.verification._limits import TimeIsUp, deadline
from relukit.verification.verify import verify


def read_instances(path: Path) -> list[tuple[str, str, float]]:
    """Lines `network,property,timeout` of a CSV file; a line of titles at its head and comments behind # are passed over.

    Raises:
        UnreadableFile: Missing, or a line with fewer than three fields or no number of seconds as its timeout.
    """
    found = []
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file)
            for row in lines:
                fields = [field.strip() for field in row]
                if not any(fields) or fields[0].startswith("#"):
                    continue
                if not found and len(fields) > 2 and fields[2].isalpha() and "." not in fields[0] + fields[1]:
                    continue  # titles
                found.append((*fields[:2], _seconds(fields)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UnreadableFile(f"instances {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except ValueError as error:
        raise UnreadableFile(
            f"instances {path}: line {lines.line_num}: expected network,property,timeout, got '{','.join(row).strip()[:120]}': {error}"
        ) from error
    return found


def _seconds(fields: list[str]) -> float:
    if len(fields) < 3:
        raise ValueError("there are fewer than three fields")
    try:
        limit = float(fields[2])
    except ValueError:
        limit = -1.0
    if not limit >= 0:
        raise ValueError(f"'{fields[2]}' is no number of seconds")
    return limit


def run_instances(
    path: Path,
    out: Path,
    timeout: float | None = None,
    on_progress: Callable[[int, int, dict[str, int]], None] | None = None,
    device: str = "",
    shard: Shard | None = None,
    executor: Executor | None = None,
    execution: str = "",
) -> dict[str, int]:
    """Verify all instances of a file; append one JSON line each to `out/results.jsonl`, skipping those it already holds.

    Held ones are asked again where they ended with an error, or timed out and are given more time now.

    Runs that share a list, each with a `shard`, need nothing of each other: each writes a `results-3-of-8.jsonl`, and `merge` makes
    of them what one run would have written.

    Arguments:
        path: CSV; networks and properties are relative to its folder (`.gz` beside them is found too).
        timeout: Overrides the file's seconds.
        on_progress: Called with `(done, total, counts by status)`.
        device: As for `verify`.
        shard: Do this part of the instances only.
        executor: Where instances are verified, each in one worker: a pool of processes, or a Dask cluster's (`client.get_executor()`)
            whose workers see the same files and have one thread each.
        execution: As for `verify`.

    Returns:
        How many instances ended with each status.
    """
    if device:
        from relukit.search._torch_device import device_named

        device_named(device)  # one clear error rather than one per instance
    listed = list(enumerate(read_instances(path)))
    listed = listed if shard is None else shard.take(listed)
    limits = {(net, prop): limit if timeout is None else timeout for _, (net, prop, limit) in listed}
    results = out / results_name(shard)
    counts: dict[str, int] = {}
    try:
        out.mkdir(parents=True, exist_ok=True)
        done = {_key(entry): entry["status"] for entry in _kept(results, limits)}
        for status in done.values():
            counts[status] = counts.get(status, 0) + 1
        left = {(net, prop): k for k, (net, prop, _) in listed if (net, prop) not in done}
        asked = [(path.parent, k, *pair, limits[pair], device, execution) for pair, k in left.items()]
        if asked and not is_compiled():  # no instance's limit pays for what happens once
            compile_loops()
        with open(results, "a", encoding="utf-8") as file:
            for told, (_, line) in enumerate(answers(_one, asked, executor), len(done) + 1):
                # One write of one line: an interrupted run leaves whole lines only.
                file.write(json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())
                counts[line["status"]] = counts.get(line["status"], 0) + 1
                if on_progress is not None:
                    on_progress(told, len(done) + len(asked), counts)
        if executor is not None:  # they came in the order in which they were done
            write_lines(results, _whole_lines(results))
    except OSError as error:
        raise UnwritablePath(f"cannot write {results}: {error.strerror}. Choose another place with --out.") from error
    return counts


def results_name(shard: Shard | None) -> str:
    return "results.jsonl" if shard is None else f"results-{shard.name}.jsonl"


def write_lines(path: Path, entries: list[dict[str, Any]]) -> None:
    """Entries in the order of their instances, atomically."""
    entries = sorted(entries, key=lambda entry: entry.get("number", 0))
    write_bytes(path, "".join(json.dumps(entry) + "\n" for entry in entries).encode())


def _key(entry: dict[str, Any]) -> tuple[str, str]:
    return entry["network"], entry["property"]


def _whole_lines(results: Path) -> list[dict[str, Any]]:
    """What an earlier run finished; a torn last line is taken out of the file."""
    if not results.exists():
        return []
    text, entries = results.read_text(encoding="utf-8"), []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(entry, dict) and {"network", "property", "status"} <= entry.keys():
            entries.append(entry)
    whole = "".join(json.dumps(entry) + "\n" for entry in entries)
    if whole != text:
        write_bytes(results, whole.encode())
    return entries


def _kept(results: Path, limits: dict[tuple[str, str], float]) -> list[dict[str, Any]]:
    """What an earlier run finished, without what is to be asked again, which is taken out of the file."""
    whole = _whole_lines(results)
    longer = lambda e: e.get("timeout") is not None and limits.get(_key(e), 0.0) > e["timeout"]
    again = lambda e: e["status"] == "error" or (e["status"] == "timed-out" and longer(e))
    kept = [entry for entry in whole if not again(entry)]
    if len(kept) < len(whole):
        write_lines(results, kept)
    return kept


@lru_cache(maxsize=4)
def _network(path: Path) -> Network:
    return load(path)


def _there(path: Path) -> Path:
    """The file, or its compressed form where only that exists."""
    packed = path.with_name(f"{path.name}.gz")
    return packed if packed.exists() and not path.exists() else path


def _one(folder: Path, number: int, net: str, prop: str, limit: float, device: str, execution: str) -> dict[str, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    seconds = limit if math.isfinite(limit) else None
    entry: dict[str, Any] = {"number": number, "network": net, "property": prop, "timeout": seconds}
    try:
        with deadline(limit + 1.0):  # reading counts
            network = _network(_there(folder / net))
            left = max(limit - (time.perf_counter() - wall), 0.0)
            question = _there(folder / prop)
            entry |= verify(network, question, timeout=left, device=device, execution=execution).to_dict()
    except TimeIsUp:
        entry |= {"status": "timed-out", "reason": "time is up while reading or bounding the network", "engine": ""}
    except MemoryError:
        entry |= {"status": "unknown", "reason": "memory is used up", "engine": ""}
    except RelukitError as error:
        entry |= {"status": "error", "reason": str(error), "engine": ""}
    except Exception as error:  # a defect that one instance meets must not keep the others from being answered
        entry |= {"status": "error", "reason": f"{type(error).__name__}: {error}; please report it", "engine": ""}
    return entry | {
        "cpu_seconds": round(time.process_time() - cpu, 4),
        "wall_seconds": round(time.perf_counter() - wall, 4),
    }
