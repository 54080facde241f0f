"""Many properties in one run: a list of instances, one line of results each, resumable."""

import csv
import json
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
    """Lines `network,property,timeout` of a CSV file.

    Raises:
        UnreadableFile: Missing, or a line with fewer than three fields or no number as its timeout.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [
                row
                for row in csv.reader(file)
                if row and any(map(str.strip, row)) and not row[0].lstrip().startswith("#")
            ]
        if rows and len(rows[0]) > 2 and rows[0][2].strip().isalpha():
            rows = rows[1:]  # a line of titles
        return [(net.strip(), prop.strip(), float(limit)) for net, prop, limit in (row[:3] for row in rows)]
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFile(f"instances {path} cannot be read: {error}") from error
    except ValueError as error:
        raise UnreadableFile(f"instances {path}: every line is network,property,timeout: {error}") from error


def run_instances(
    path: Path,
    out: Path,
    timeout: float | None = None,
    on_progress: Callable[[int, int, dict[str, int]], None] | None = None,
    device: str = "",
    shard: Shard | None = None,
    executor: Executor | None = None,
) -> dict[str, int]:
    """Verify all instances of a file; append one JSON line each to `out/results.jsonl`, skipping those it already holds.

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

    Returns:
        How many instances ended with each status.
    """
    if device:
        from relukit.search._torch_device import device_named

        device_named(device)  # one clear error rather than one per instance
    listed = list(enumerate(read_instances(path)))
    listed = listed if shard is None else shard.take(listed)
    results = out / results_name(shard)
    counts: dict[str, int] = {}
    try:
        out.mkdir(parents=True, exist_ok=True)
        done = {_key(entry): entry["status"] for entry in _whole_lines(results)}
        for status in done.values():
            counts[status] = counts.get(status, 0) + 1
        left = {(net, prop): (k, limit) for k, (net, prop, limit) in listed if (net, prop) not in done}
        asked = [
            (path.parent, k, net, prop, limit if timeout is None else timeout, device)
            for (net, prop), (k, limit) in left.items()
        ]
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
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    whole = "".join(json.dumps(entry) + "\n" for entry in entries)
    if whole != text:
        write_bytes(results, whole.encode())
    return entries


@lru_cache(maxsize=4)
def _network(path: Path) -> Network:
    return load(path)


def _one(folder: Path, number: int, net: str, prop: str, limit: float, device: str) -> dict[str, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    entry: dict[str, Any] = {"number": number, "network": net, "property": prop}
    try:
        path, spec = folder / net, folder / prop
        with deadline(limit + 1.0):  # reading counts
            network = _network(path if path.exists() else folder / f"{net}.gz")
            question = spec if spec.exists() else folder / f"{prop}.gz"
            left = max(limit - (time.perf_counter() - wall), 0.0)
            entry |= verify(network, question, timeout=left, device=device).to_dict()
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
