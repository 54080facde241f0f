"""Families of verification instances in one process: decided, wrong, CPU seconds.

python -m benchmarks verification [--smoke] [--timeout S] [FAMILY ...]
python -m benchmarks verification --only TEXT [--timeout S] FAMILY
python -m benchmarks verification --peers [--timeout S] [--sample N] [FAMILY ...]

Without names the seven families run that take seconds; mnist_fc and oval21 take minutes and hours: name them. A run of some families
replaces their rows in benchmarks/results/verification.json, which hold the goals beside, and leaves the others. With `--only` instances
whose property has this text in its name run by themselves, mostly with more time, and are told beside the row of the family. With `--peers`, ours and
Marabou (maraboupy from PyPI) answer the same evenly spaced sample of each family, every instance in a process of its own,
start-up included; benchmarks/results/verification-peers.json gets the table, docs/images/verification-cactus.svg the cactus plot.
"""

import csv
import json
import tempfile
from pathlib import Path

import numpy as np

from benchmarks._common import data_folder, keep, kept
from benchmarks._peers import marabou, relukit_verify
from relukit.verification.instances import run_instances

# Instances to decide and CPU seconds: in all, of the worst, on average.
GOALS = {
    "acasxu": {"decided": 186, "cpu_seconds": 15.0, "worst": 2.0}, "rl_benchmarks": {"decided": 200, "cpu_seconds": 2.0},
    "linearizenn": {"decided": 30, "mean": 1.0}, "safenlp": {"decided": 273, "mean": 0.05}, "tllverifybench": {"decided": 16, "cpu_seconds": 60.0},
    "collins_rul_cnn": {"decided": 22, "mean": 0.4}, "cora": {"decided": 40}, "mnist_fc": {"decided": 44, "decided_seconds": 90.0}, "oval21": {"decided": 10},
}  # fmt: skip
FAMILIES, SLOW = list(GOALS), ("mnist_fc", "oval21")


def measure(folder: Path, timeout: float, every: int) -> dict:
    """One family: verdicts against the published truth, and CPU seconds, start-up excluded."""
    results, wrong = answered(folder, (folder / "instances.csv").read_text().splitlines()[::every], timeout)
    seconds = [r["cpu_seconds"] for r in results]
    decided = [r["cpu_seconds"] for r in results if r["status"] in ("sat", "unsat")]
    return {
        "instances": len(results), "decided": len(decided), "wrong": wrong, "cpu_seconds": round(sum(seconds), 2),
        "decided_seconds": round(sum(decided), 2), "mean": round(float(np.mean(seconds)), 4), "median": round(float(np.median(seconds)), 4),
        "worst": round(max(seconds), 2), "timeout": timeout,
        "open": [named(r) for r in results if r["status"] not in ("sat", "unsat")],
    }  # fmt: skip


def named(result: dict) -> str:
    return f"{Path(result['network']).name.split('.')[0]} {Path(result['property']).stem}"


def with_goal(family: str, row: dict) -> dict:
    """The row with its goals and which of them are missed; instances that were decided alone count."""
    goal, alone = GOALS[family], row.get("alone", {})
    have = row | {"decided": row["decided"] + sum(a["new"] for a in alone.values())}
    missed = [k for k, v in goal.items() if (have[k] < v if k == "decided" else have.get(k, np.inf) > v)]
    return row | {"goal": goal, "missed": missed}


def alone(folder: Path, row: dict, text: str, timeout: float) -> dict:
    """Instances by themselves: what they answered stands beside the row of the family."""
    rows = [r for r in (folder / "instances.csv").read_text().splitlines() if text in r.split(",")[1]]
    results, wrong = answered(folder, rows, timeout)
    told = {
        named(r): {
            "status": r["status"], "cpu_seconds": round(r["cpu_seconds"], 2), "wall_seconds": round(r["wall_seconds"], 2), "timeout": timeout,
            "new": r["status"] in ("sat", "unsat") and named(r) in row.get("open", []),
        }
        for r in results
    }  # fmt: skip
    return row | {"wrong": row.get("wrong", 0) + wrong, "alone": row.get("alone", {}) | told}


def answered(folder: Path, rows: list[str], timeout: float) -> tuple[list[dict], int]:
    """Results of some instances, and how many contradict the published truth."""
    truth = truth_of(folder)
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
    return results, wrong


def truth_of(folder: Path) -> dict[tuple[str, str], str]:
    with open(folder / "truth.csv") as file:
        return {(r["net"], r["prop"]): r["expected"] for r in csv.DictReader(file)}


def beside(folder: Path, timeout: float, sample: int) -> dict:
    """Ours and Marabou on the same evenly spaced instances of a family, each in a process of its own."""
    rows = [r.split(",") for r in (folder / "instances.csv").read_text().splitlines()]
    rows = [rows[k] for k in np.unique(np.linspace(0, len(rows) - 1, min(sample, len(rows))).astype(int))]
    truth, table = truth_of(folder), {}
    for name, run in (("relukit", relukit_verify), ("marabou", marabou)):
        answers = []
        for net, prop, *_ in rows:
            found = run(existing(folder / net), folder / prop, timeout)
            word, expected = found["answer"][0], truth.get((net, prop))
            contradicts = {word, expected} == {"sat", "unsat"}
            answers.append({"net": net, "property": prop, "answer": " ".join(map(str, found["answer"]))[:120], "contradicts": contradicts, "cpu_seconds": found["cpu_seconds"]})  # fmt: skip
        decided = [r for r in answers if r["answer"] in ("sat", "unsat")]
        table[name] = {
            "decided": len(decided), "contradict the published truth": sum(r["contradicts"] for r in answers),
            "cpu_seconds": round(sum(r["cpu_seconds"] for r in answers), 2), "answers": answers,
        }  # fmt: skip
    return {"instances": len(rows), "timeout": timeout, **table}


def existing(path: Path) -> Path:
    return path if path.exists() else path.with_name(path.name + ".gz")


def cactus(families: dict, target: Path) -> None:
    """How many instances each tool decides within how many CPU seconds, answers against the published truth left out."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for name, color in (("relukit", "#0b6e99"), ("marabou", "#c0504d")):
        good = [a["cpu_seconds"] for f in families.values() for a in f[name]["answers"] if a["answer"] in ("sat", "unsat") and not a["contradicts"]]  # fmt: skip
        axes.step(range(1, len(good) + 1), np.maximum(sorted(good), 1e-2), where="post", label=name, color=color)
    total = sum(f["instances"] for f in families.values())
    axes.set(yscale="log", xlabel=f"instances decided, of {total}", ylabel="CPU seconds, start-up included")
    axes.grid(alpha=0.3)
    axes.legend()
    target.parent.mkdir(exist_ok=True)
    figure.savefig(target)
    plt.close(figure)


def main(argv: list[str]) -> None:
    smoke = "--smoke" in argv
    data = data_folder()
    if data is None:
        return
    option = lambda name, default: float(argv[argv.index(name) + 1]) if name in argv else default
    chosen = [a for a in argv if a in FAMILIES] or (
        ["acasxu", "rl_benchmarks"] if smoke else [f for f in FAMILIES if f not in SLOW]
    )
    if "--peers" in argv:
        sample = 1 if smoke else int(option("--sample", 8))
        table = kept("verification-peers", "families")
        for family in chosen:
            table[family] = beside(data / "vnncomp" / family, option("--timeout", 10.0), sample)
            keep("verification-peers", {"families": table}, smoke)
        if not smoke:
            cactus(table, Path(__file__).parent.parent / "docs" / "images" / "verification-cactus.svg")
        return
    timeout = option("--timeout", 5.0 if smoke else 20.0)
    table, folder = {}, data / "vnncomp"
    for family in chosen:
        if "--only" in argv:
            row = alone(folder / family, kept("verification", "families").get(family, {}), argv[argv.index("--only") + 1], timeout)
        else:
            row = measure(folder / family, timeout, 20 if smoke else 1)
        table[family] = with_goal(family, row)
        assert not row["wrong"], table
        print(family, {k: v for k, v in table[family].items() if k != "alone"}, flush=True)
        keep("verification", {"families": table if smoke else kept("verification", "families") | table}, smoke)
