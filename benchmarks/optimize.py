"""Exact maxima over boxes: value, proven bound, CPU seconds.

python -m benchmarks optimize [--smoke] [--peers [--limit S] [--resume]]
python -m benchmarks optimize --growth [--smoke]
python -m benchmarks optimize --closest [--smoke]

With `--peers`, OMLT + HiGHS and PySCIPOpt-ML run on the same files in the same run within a limit of CPU seconds each (24 unless said).
With `--resume`, answers of an earlier run with the same limit stand. Their times count from reading the file, imports left out, as ours do.
"""

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import relukit
from benchmarks._common import RESULTS, data_folder, keep
from benchmarks._peers import omlt, scip_ml
from relukit import optimization

KNOWN = {
    "max_2d_2x32": 3.546032, "max_2d_3x50": 4.065139, "max_2d_4x50": 4.125316, "max_2d_2x100": 4.156154, "max_5d_2x32": 2.485055,
    "max_5d_2x100": 2.542504, "max_5d_3x50": 2.500517, "max_5d_4x50": 2.458124, "max_10d_2x32": 4.529329,
    "adv_digits_32x32_e0.05": -6.479835, "adv_digits_32x32_e0.1": -2.502695, "adv_digits_50x50_e0.05": -8.676698,
    "adv_digits_50x50_e0.1": -5.702491, "adv_digits_50x50_l1_e0.05": -7.423735, "adv_digits_50x50_l1_e0.1": -4.958991,
}  # fmt: skip

PEERS = {"omlt_highs": omlt, "scip_ml": scip_ml}


def main(argv: list[str]) -> None:
    smoke = "--smoke" in argv
    if "--growth" in argv:
        keep("optimize_growth", growth(smoke), smoke)
        return
    data = data_folder()
    if data is None:
        return
    if "--closest" in argv:
        keep("optimize_closest", closest(data / "bench" / "optimize", smoke), smoke)
        return
    folder, table = data / "bench" / "optimize", {}
    goal = lambda name: "y[0]" if name.startswith("max") else "y[3] - y[2]"
    for name in ("max_2d_2x32", "adv_digits_32x32_e0.05"):  # compile before the clock starts
        relukit.optimize(relukit.load(folder / f"{name}.npz"), goal(name))
    for name, value in list(KNOWN.items())[: 2 if smoke else None]:
        found = relukit.optimize(relukit.load(folder / f"{name}.npz"), goal(name), timeout=120)
        assert found.bound >= value - 1e-6 * abs(value), (name, found)
        table[name] = {
            "status": found.status,
            "value": found.value,
            "bound": found.bound,
            "boxes": found.boxes,
            "cpu_seconds": round(found.cpu_seconds, 3),
        }
    summary = {}
    if not smoke:
        for summary in _beside_peers(folder, table, argv):  # kept after each problem: a long run may be cut off
            keep("optimize", {"problems": table, **summary}, smoke)
    keep("optimize", {"problems": table, **summary}, smoke)


def _known(limit: float | None) -> tuple[dict[str, dict[str, Any]], float | None]:
    """The peers' answers on file, where they had the same limit (any, if None), and that limit.

    A peer that failed, or that wall time ended on a busy machine before its own clock did, is asked again.
    """
    path = RESULTS / "optimize.json"
    before = json.loads(path.read_text()) if path.is_file() else {}
    had = before.get("peers", {}).get("limit_cpu_seconds")
    if limit is not None and had != limit:
        return {}, limit
    rows = before.get("problems", {}).items()
    answered = lambda row: all(p in row and row[p].get("cpu_seconds") is not None for p in PEERS)
    return {name: {p: row[p] for p in PEERS} for name, row in rows if answered(row)}, had


def growth(smoke: bool) -> dict[str, Any]:
    """Boxes and CPU seconds to a proven gap of 1e-4 as inputs, width and depth grow: random He networks, median of three seeds."""
    axes = {
        "inputs": [(n, 2, 32) for n in (1, 2, 3, 4, 5, 6, 7, 8)],
        "width": [(4, 2, w) for w in (16, 32, 64, 128, 256)],
        "depth": [(4, d, 32) for d in (1, 2, 3, 4, 5, 6)],
    }
    found: dict[str, Any] = {}
    for axis, cases in axes.items():
        rows = []
        for inputs, depth, width in cases[: 2 if smoke else None]:
            runs = [relukit.optimize(*_random(inputs, depth, width, seed), timeout=60) for seed in range(3)]
            middle = sorted(runs, key=lambda r: r.cpu_seconds)[1]
            rows.append({
                "inputs": inputs, "layers": depth, "width": width, "proven": sum(r.status == "optimal" for r in runs),
                "boxes": int(np.median([r.boxes for r in runs])), "cpu_seconds": round(middle.cpu_seconds, 4),
            })  # fmt: skip
            print(axis, rows[-1], file=sys.stderr, flush=True)
            if rows[-1]["cpu_seconds"] > 4:
                break
        found[axis] = rows
    return found


def closest(folder: Path, smoke: bool) -> dict[str, Any]:
    """The closest image of a digit (64 inputs) with another decision, and with the runner-up's output raised to the winner's.

    Ten digits, the first of each class, on two networks of 100 gates; per question and norm how many are proven to 1e-4, and CPU seconds.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    rows = [int(np.flatnonzero(digits.target == k)[0]) for k in range(2 if smoke else 10)]
    box, found = relukit.Box(np.zeros(64), np.ones(64)), {}
    for name in ("adv_digits_50x50_e0.1", "adv_digits_50x50_l1_e0.1")[: 1 if smoke else 2]:
        net = relukit.load(folder / f"{name}.npz")
        for norm in ("l1", "l2", "linf"):
            for question in ("decision", "level"):
                runs = []
                for row in rows:
                    x = digits.data[row] / 16.0
                    y = net(x)
                    second = int(np.argsort(y)[-2])
                    rules = [f"y[{second}] - y[{j}] >= 0" for j in range(10) if j != second]
                    rules = rules if question == "decision" else [f"y[{second}] >= {float(y.max())!r}"]
                    runs.append(optimization.closest(net, x, rules, box, norm, timeout=30))
                spent = [r.cpu_seconds for r in runs]
                found[f"{name[4:]} {question} {norm}"] = {
                    "asked": len(runs), "proven": sum(r.status in ("optimal", "infeasible") for r in runs),
                    "infeasible": sum(r.status == "infeasible" for r in runs),
                    "worst_gap_of_open": round(max((r.gap / r.value for r in runs if r.status == "bounded"), default=0.0), 4),
                    "median_cpu_seconds": round(float(np.median(spent)), 3), "worst_cpu_seconds": round(max(spent), 3),
                    "worst_first_seconds": round(max((r.first_seconds for r in runs if len(r.witness)), default=0.0), 3),
                }  # fmt: skip
                print(name, question, norm, found[f"{name[4:]} {question} {norm}"], file=sys.stderr, flush=True)
    return found


def _random(inputs: int, depth: int, width: int, seed: int) -> tuple[Any, ...]:
    g = np.random.default_rng(seed)
    sizes = [inputs, *[width] * depth, 1]
    arrays = {f"W{k}": g.normal(size=(b, a)) * np.sqrt(2 / a) for k, (a, b) in enumerate(zip(sizes[:-1], sizes[1:]))}
    arrays |= {f"b{k}": 0.3 * g.normal(size=b) for k, b in enumerate(sizes[1:])}
    return relukit.load(arrays), "y[0]", None, relukit.Box(-np.ones(inputs), np.ones(inputs))


def _beside_peers(folder: Path, table: dict[str, dict[str, Any]], argv: list[str]) -> Iterator[dict[str, Any]]:
    """Adds the peers' answers to the rows; the geometric mean of (better peer / ours) over the problems that a peer solves.

    Without `--peers` nobody is asked, and the answers on file stand beside our new times.
    """
    ask_them = "--peers" in argv
    limit = float(argv[argv.index("--limit") + 1]) if "--limit" in argv else 24.0 if ask_them else None
    ratios: dict[str, float] = {}
    known, limit = _known(limit) if "--resume" in argv or not ask_them else ({}, limit)
    small_first = sorted(
        table, key=lambda name: (not name.startswith("adv"), "2x32" not in name, list(table).index(name))
    )
    done = 0
    for name in small_first:
        row, file = table[name], folder / f"{name}.npz"
        if name not in known and not ask_them:
            continue
        plus, minus = (0, -1) if name.startswith("max") else (3, 2)
        row |= known.get(name) or {peer: ask(file, plus, minus, limit) for peer, ask in PEERS.items()}
        solved = [r["cpu_seconds"] for r in (row[peer] for peer in PEERS) if r["status"] == "optimal"]
        if solved:
            ratios[name] = min(solved) / max(row["cpu_seconds"], 1e-3)
        done += 1
        print(name, row, file=sys.stderr, flush=True)
        mean = math.exp(sum(map(math.log, ratios.values())) / len(ratios)) if ratios else float("nan")
        yield {
            "peers": {
                "limit_cpu_seconds": limit, "asked": done, "solved_by_a_peer": len(ratios), "solved_by_none_of_them": done - len(ratios),
                "ratios": {k: round(v, 1) for k, v in ratios.items()}, "geometric_mean_ratio": round(mean, 1),
            }
        }  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
