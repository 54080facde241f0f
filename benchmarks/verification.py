"""Families of verification instances in one process: decided, wrong, CPU seconds.

python -m benchmarks verification [--smoke] [--timeout S] [--peers] [FAMILY ...]

With `--peers`, Marabou (maraboupy from PyPI) runs on every tenth instance beside ours.
"""

import csv
import json
import tempfile
from pathlib import Path

import numpy as np

from benchmarks._common import data_folder, keep
from benchmarks._peers import marabou
from relukit.verification.instances import run_instances

FAMILIES = ["acasxu", "rl_benchmarks", "linearizenn", "safenlp", "tllverifybench", "collins_rul_cnn", "mnist_fc"]


def measure(folder: Path, timeout: float, every: int) -> dict:
    """One family: verdicts against the published truth, and CPU seconds, start-up excluded."""
    rows = (folder / "instances.csv").read_text().splitlines()[::every]
    with open(folder / "truth.csv") as file:
        truth = {(r["net"], r["prop"]): r["expected"] for r in csv.DictReader(file)}
    with tempfile.TemporaryDirectory() as out:
        listed = Path(out) / "instances.csv"
        listed.write_text(
            "".join(f"{folder / net},{folder / prop},{timeout}\n" for net, prop, _ in (r.split(",") for r in rows))
        )
        run_instances(listed, Path(out))
        results = [json.loads(line) for line in (Path(out) / "results.jsonl").read_text().splitlines()]
    decided = [r for r in results if r["status"] in ("sat", "unsat")]
    opposite = {"sat": "unsat", "unsat": "sat"}
    relative = lambda r: (str(Path(r["network"]).relative_to(folder)), str(Path(r["property"]).relative_to(folder)))
    wrong = sum(truth.get(relative(r)) == opposite[r["status"]] for r in decided)
    seconds = [r["cpu_seconds"] for r in results]
    return {
        "instances": len(results), "decided": len(decided), "wrong": wrong, "cpu_seconds": round(sum(seconds), 2),
        "median": round(float(np.median(seconds)), 4), "worst": round(max(seconds), 2), "timeout": timeout,
    }  # fmt: skip


def beside(folder: Path, timeout: float) -> dict:
    """Marabou on every tenth instance of a family, each in a process of its own."""
    rows = [r.split(",") for r in (folder / "instances.csv").read_text().splitlines()[::10]]
    found = [marabou(folder / net, folder / prop, timeout) for net, prop, *_ in rows if (folder / net).exists()]
    decided = sum(r["answer"][0] in ("sat", "unsat") for r in found)
    return {"instances": len(found), "decided": decided, "cpu_seconds": round(sum(r["cpu_seconds"] for r in found), 2)}


def main(argv: list[str]) -> None:
    smoke = "--smoke" in argv
    data = data_folder()
    if data is None:
        return
    timeout = float(argv[argv.index("--timeout") + 1]) if "--timeout" in argv else 5.0 if smoke else 20.0
    chosen = [a for a in argv if a in FAMILIES] or (["acasxu", "rl_benchmarks"] if smoke else FAMILIES)
    table = {family: measure(data / "vnncomp" / family, timeout, 20 if smoke else 1) for family in chosen}
    if "--peers" in argv:
        for family in chosen:
            table[family]["marabou on every tenth"] = beside(data / "vnncomp" / family, timeout)
    assert not any(row["wrong"] for row in table.values()), table
    keep("verification", {"families": table}, smoke)
