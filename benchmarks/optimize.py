"""Exact maxima over boxes: value, proven bound, CPU seconds.

python -m benchmarks optimize [--smoke] [--peers] [--limit S]

With `--peers`, OMLT + HiGHS and PySCIPOpt-ML run on the same files in the same run within a limit of CPU seconds each (24 unless said).
Their times count from reading the file, imports left out, as ours do.
"""

import math
import sys
from pathlib import Path
from typing import Any

import relukit
from benchmarks._common import data_folder, keep
from benchmarks._peers import omlt, scip_ml

KNOWN = {
    "max_2d_2x32": 3.546032, "max_2d_3x50": 4.065139, "max_2d_4x50": 4.125316, "max_2d_2x100": 4.156154, "max_5d_2x32": 2.485055,
    "max_5d_2x100": 2.542504, "max_5d_3x50": 2.500517, "max_5d_4x50": 2.458124, "max_10d_2x32": 4.529329,
    "adv_digits_32x32_e0.05": -6.479835, "adv_digits_32x32_e0.1": -2.502695, "adv_digits_50x50_e0.05": -8.676698,
    "adv_digits_50x50_e0.1": -5.702491, "adv_digits_50x50_l1_e0.05": -7.423735, "adv_digits_50x50_l1_e0.1": -4.958991,
}  # fmt: skip


def main(argv: list[str]) -> None:
    smoke = "--smoke" in argv
    data = data_folder()
    if data is None:
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
    summary = _beside_peers(folder, table, argv) if "--peers" in argv else {}
    keep("optimize", {"problems": table, **summary}, smoke)


def _beside_peers(folder: Path, table: dict[str, dict[str, Any]], argv: list[str]) -> dict[str, Any]:
    """Adds the peers' answers to the rows; the geometric mean of (better peer / ours) over the problems that a peer solves."""
    limit = float(argv[argv.index("--limit") + 1]) if "--limit" in argv else 24.0
    ratios = {}
    for name, row in table.items():
        plus, minus = (0, -1) if name.startswith("max") else (3, 2)
        file = folder / f"{name}.npz"
        row["omlt_highs"], row["scip_ml"] = omlt(file, plus, minus, limit), scip_ml(file, plus, minus, limit)
        solved = [r["cpu_seconds"] for r in (row["omlt_highs"], row["scip_ml"]) if r["status"] == "optimal"]
        if solved:
            ratios[name] = min(solved) / max(row["cpu_seconds"], 1e-3)
        print(name, row, file=sys.stderr, flush=True)
    mean = math.exp(sum(map(math.log, ratios.values())) / len(ratios)) if ratios else float("nan")
    return {
        "peers": {
            "limit_cpu_seconds": limit, "solved_by_a_peer": len(ratios), "solved_by_none_of_them": len(table) - len(ratios),
            "ratios": {k: round(v, 1) for k, v in ratios.items()}, "geometric_mean_ratio": round(mean, 1),
        }
    }  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
