"""Certificates of the unsatisfiable ACAS Xu instances: CPU seconds of proof, derivation and check.

`python -m benchmarks certificates [--smoke] [--step N]`; writes benchmarks/results/certificates.json on a full run.
"""

import argparse
import csv
import tempfile
import time
from pathlib import Path

from benchmarks._common import data_folder, keep


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--step", type=int, default=1, help="Every so many instances")
    parser.add_argument("--limit", type=float, default=30.0, help="Wall seconds for each derivation")
    options = parser.parse_args(argv)
    data = data_folder()
    if data is None:
        return
    import relukit
    from relukit.verification import checker, vnnlib
    from relukit.verification.certificate import Claim, certify

    folder = data / "vnncomp" / "acasxu"
    with open(folder / "truth.csv") as file:
        rows = [r for r in csv.DictReader(file) if r["expected"] == "unsat"]
    rows = rows[:: 40 if options.smoke else options.step]
    total = {"proof": 0.0, "derive": 0.0, "check": 0.0}
    leaves, without, worst = 0, [], 0.0
    with tempfile.TemporaryDirectory() as place:
        certificate = Path(place) / "c.npz"
        for row in rows:
            network, prop = folder / row["net"], folder / row["prop"]
            a = time.process_time()
            verdict = relukit.verify(network, prop, timeout=60)
            b = time.process_time()
            claims = [Claim(c.box, c.C, -c.d) for c in vnnlib.read(prop).cases]
            found = certify(relukit.load(network), claims, options.limit) if verdict.status == "unsat" else None
            c = time.process_time()
            if found is None:
                without.append(f"{row['net'].split('run2a_')[1][:3]} {Path(row['prop']).stem} {verdict.status}")
                continue
            found.save(certificate)
            d = time.process_time()
            leaves += checker.check(certificate, network, prop)
            e = time.process_time()
            for key, spent in (("proof", b - a), ("derive", c - b), ("check", e - d)):
                total[key] += spent
            worst = max(worst, e - d)
    keep(
        "certificates",
        {
            "instances": len(rows), "accepted": len(rows) - len(without), "without": without, "leaves": leaves,
            "cpu_seconds": {k: round(v, 3) for k, v in total.items()}, "worst_check": round(worst, 3),
            "check_over_proof": round(total["check"] / max(total["proof"], 1e-9), 2), "wall_limit_of_derivation": options.limit,
        },
        options.smoke,
    )  # fmt: skip
