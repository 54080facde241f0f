"""Many properties in one run: a list of instances, one line of results each, resumable."""

import csv
import json
import os
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from relukit._errors import RelukitError, UnreadableFile, UnwritablePath
from relukit.network import Network, load
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
) -> dict[str, int]:
    """Verify all instances of a file; append one JSON line each to `out/results.jsonl`, skipping those it already holds.

    Arguments:
        path: CSV; networks and properties are relative to its folder (`.gz` beside them is found too).
        timeout: Overrides the file's seconds.
        on_progress: Called with `(done, total, counts by status)`.
        device: As for `verify`.

    Returns:
        How many instances ended with each status.
    """
    if device:
        from relukit.search._torch_device import device_named

        device_named(device)  # one clear error rather than one per instance
    instances, results = read_instances(path), out / "results.jsonl"
    done = _already(results)
    counts: dict[str, int] = {}
    for status in done.values():
        counts[status] = counts.get(status, 0) + 1
    try:
        out.mkdir(parents=True, exist_ok=True)
        with open(results, "a", encoding="utf-8") as file:
            for k, (net, prop, limit) in enumerate(instances):
                if (net, prop) not in done:
                    line = _one(path.parent, net, prop, limit if timeout is None else timeout, device)
                    # One write of one line: an interrupted run leaves whole lines only.
                    file.write(json.dumps(line) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                    counts[line["status"]] = counts.get(line["status"], 0) + 1
                if on_progress is not None:
                    on_progress(k + 1, len(instances), counts)
    except OSError as error:
        raise UnwritablePath(f"cannot write {results}: {error.strerror}. Choose another place with --out.") from error
    return counts


def _already(results: Path) -> dict[tuple[str, str], str]:
    """Instances that an earlier run finished; a torn last line is dropped."""
    if not results.exists():
        return {}
    whole, found = [], {}
    for line in results.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        whole.append(line)
        found[entry["network"], entry["property"]] = entry["status"]
    results.write_text("".join(line + "\n" for line in whole), encoding="utf-8")
    return found


@lru_cache(maxsize=4)
def _network(path: Path) -> Network:
    return load(path)


def _one(folder: Path, net: str, prop: str, limit: float, device: str) -> dict[str, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    entry: dict[str, Any] = {"network": net, "property": prop}
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
