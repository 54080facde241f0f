"""Sick trainings of other kinds than those of `sick`: recurrent, attention, convolution, autoencoder; other losses and optimizers.

`python -m benchmarks sick_kinds [--smoke] [--part NAME|all] [--seeds N] [--first SEED]`; each part's figures are kept as soon as it is through.
`mended` was looked at while rules and cures were mended; `unseen`, `third`, `fourth`, `fifth`, `sixth` and `seventh` were each written and run once before the
rules were mended for what they showed. `healthy` has no faults: 34 ordinary trainings of kinds that no other part has, written before any
rule was tried on them.
"""

import argparse
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks import (
    _sick_fifth,
    _sick_fourth,
    _sick_healthy_other,
    _sick_healthy_seventh,
    _sick_healthy_sixth,
    _sick_mended,
    _sick_seventh,
    _sick_sixth,
    _sick_third,
    _sick_unseen,
)
from benchmarks._common import cpu_seconds, keep, kept, spread
from benchmarks._sick_faults import Case
from benchmarks.sick import Run, train

PARTS = {
    "mended": (_sick_mended.BASES, _sick_mended.CASES),
    "unseen": (_sick_unseen.BASES, _sick_unseen.CASES),
    "third": (_sick_third.BASES, _sick_third.CASES),
    "fourth": (_sick_fourth.BASES, _sick_fourth.CASES),
    "fifth": (_sick_fifth.BASES, _sick_fifth.CASES),
    "sixth": ({**_sick_sixth.BASES, **_sick_healthy_sixth.BASES}, _sick_sixth.CASES),
    "seventh": ({**_sick_seventh.BASES, **_sick_healthy_seventh.BASES}, _sick_seventh.CASES),
    "healthy": (_sick_healthy_other.BASES, _sick_healthy_other.CASES),
}

FIRST_RUNS = ("sixth_first_run", "seventh_first_run")  # on the rules as they were before anyone had seen the part; kept by hand


def make(bases: dict[str, Callable[[int], Run]], case: Case, seed: int) -> Run:
    run = healthy(bases, case.base, seed)
    case.change(run, np.random.default_rng(4000 + seed))
    return run


def healthy(bases: dict[str, Callable[[int], Run]], name: str, seed: int) -> Run:
    torch.manual_seed(seed)
    return bases[name](seed)


def ordinary(bases: dict[str, Callable[[int], Run]], name: str, seed: int) -> Run:
    """A healthy run somewhat other than the twin: slower, faster, smaller batches, longer."""
    run = healthy(bases, name, seed)
    for group in run.optimizer.param_groups:
        group["lr"] *= (1.0, 0.4, 1.0, 1.5, 1.0)[seed % 5]
    run.batch = min(run.batch, 16) if seed % 5 == 2 else run.batch
    run.steps = 2 * run.steps if seed % 5 == 4 else run.steps
    return run


def twin(part: str, name: str, seed: int) -> float:
    return train(healthy(PARTS[part][0], name, seed), seed)["score"]


def watched(part: str, name: str, seed: int) -> dict[str, Any]:
    """An ordinary run: noticed at all, with what, and how well it learned."""
    report = train(ordinary(PARTS[part][0], name, seed), seed)
    return {"noticed": report["noticed"], "first": str(report["first"]), "score": report["score"]}


def measure(part: str, seeds: range, only: str = "", verbose: bool = True, jobs: int = 1) -> dict[str, Any]:
    bases, cases = PARTS[part]
    pairs = [(part, name, seed) for name in bases for seed in seeds]
    twins = dict(zip(pairs, spread(twin, pairs, jobs))) if cases else dict.fromkeys(pairs, math.nan)
    alarms = []
    for pair, report in zip(pairs, spread(watched, pairs, jobs)):
        if report["noticed"] is not None:
            alarms.append((*pair, report["first"], report["score"], twins[pair]))
            print("FALSE ALARM", *alarms[-1], flush=True)
    kept = [k for k, case in enumerate(cases) if only in f"{case.base} {case.fault}"]
    asked = [(part, k, seed, twins[part, cases[k].base, seed]) for k in kept for seed in seeds]
    rows = spread(judged, asked, jobs)
    total = len(pairs)
    for r in rows:
        right = r["symptom_right"] and r["cause_right"] and r["noticed"] and (r["cured_at_end"] or r["by_user"])
        if verbose and not right:
            print({k: round(v, 3) if isinstance(v, float) else v for k, v in r.items()}, flush=True)
    sick = [r for r in rows if r["sick"]]
    curable = [r for r in sick if not r["by_user"]]
    share = lambda key, of: float(np.mean([r[key] for r in of])) if of else None
    return {
        "runs": len(rows), "sick_runs": len(sick), "noticed": share("noticed", sick), "symptom": share("symptom_right", sick),
        "cause": share("cause_right", sick), "curable": len(curable), "cured": share("cured", curable), "cured_at_end": share("cured_at_end", curable),
        "cured_by_one_fix": share("cured_by_one_fix", curable), "healthy_runs": total, "false_alarms": len(alarms) / max(total, 1),
        "first_seed": seeds.start, "seeds": len(seeds),
    }  # fmt: skip


def judged(part: str, number: int, seed: int, twin: float) -> dict[str, Any]:
    bases, case = PARTS[part][0], PARTS[part][1][number]
    run = make(bases, case, seed)
    quarter = run.steps // 4
    plain = train(run, seed)
    level = 0.95 * twin
    cured = train(make(bases, case, seed), seed, cure=True, most=3)
    # With one fix or none a second run would be the same one, number by number.
    once = cured if len(cured["fixes"]) < 2 else train(make(bases, case, seed), seed, cure=True, most=1)
    found = plain.get("quarter") or plain["first"]
    return {
        "base": case.base, "fault": case.fault, "seed": seed, "score": plain["score"], "twin": twin, "sick": plain["score"] < level,
        "noticed_at": plain["noticed"], "noticed": plain["noticed"] is not None and plain["noticed"] <= quarter, "by_user": case.by_user,
        "symptom": found.symptom if found else "", "cause": found.cause if found else "",
        "symptom_right": bool(found and found.symptom in case.symptoms), "cause_right": bool(found and found.cause in case.causes),
        "cured_score": cured["score"], "cured": cured["best"] >= level, "cured_at_end": cured["score"] >= level,
        "once_score": once["score"], "cured_by_one_fix": once["score"] >= level,
        "fixes": [x.split(":")[0] for f in cured["fixes"] for x in f["applied"]],
    }  # fmt: skip


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser("sick_kinds")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--part", default="all")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--case", default="", help="only cases whose name holds this")
    parser.add_argument("--jobs", type=int, default=1, help="processes of one thread each")
    args = parser.parse_args(argv)
    if args.smoke:
        args.seeds, args.part, args.case = 1, "mended", "multilabel sigmoid"
    chosen = list(PARTS) if args.part == "all" else [args.part]
    seeds = range(args.first, args.first + args.seeds)
    passing = args.smoke or bool(args.case)
    for part in chosen:
        before = cpu_seconds()
        found = measure(part, seeds, args.case, jobs=args.jobs) | {"cpu_seconds": cpu_seconds() - before}
        others = {} if passing else {name: kept("sick_kinds", name) for name in (*PARTS, *FIRST_RUNS)}
        keep("sick_kinds", {name: row for name, row in (others | {part: found}).items() if row}, passing)
    return 0
