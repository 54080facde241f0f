"""Payments scored a second, a day's file into the index, and the same job on a Dask cluster planned from a slice.

`python -m benchmarks payments --out FOLDER [--smoke]`, FOLDER being that of `relukit gallery run retail-index`. With `--sorting` instead of
`--out`: how well payments are sorted into categories after three dates, by networks and a logistic baseline that saw only the time before. Rows are real ones
resampled (two in a hundred with a merchant never seen), in Parquet. CPU seconds are those of the process, so that other jobs on the machine
do not count; the cluster's workers are measured inside.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._common import data_folder, keep


def timed_score(out: str, path: str) -> tuple[Any, float]:
    """Daily sums of a file and the CPU seconds of the worker that made them."""
    from relukit.gallery.retail_index import volume

    start = time.process_time()
    sums = volume.score_file(out, path)
    return sums, time.process_time() - start


CUTS = ("2017-01", "2016-07", "2016-01")  # each judged on its six months and learned from those before


def sorting(data: Path, networks: int, smoke: bool) -> None:
    """Rolling origins; and a bound on what can be hoped for: a third of the last six months, with the rest of them in training."""
    import numpy as np
    import pandas as pd

    from relukit.gallery._life import t_interval
    from relukit.gallery.retail_index import _text, study

    table = _text.read(data / "transactions" / study.CARDS)
    if smoke:
        table = table[::20].reset_index(drop=True)
    rows, y = _text.tokens(table), _text.labels(table, _text.categories(table))
    month, merchants = table.date.dt.to_period("M"), table.merchant.fillna("").astype(str)
    result: dict[str, Any] = {"networks": networks, "cuts": {}}
    for cut in CUTS[:1] if smoke else CUTS:
        first = pd.Period(cut, "M")
        past, now = (month < first).to_numpy(), ((month >= first) & (month < first + study.MONTHS)).to_numpy()
        start = time.process_time()
        found = study.judge(table, rows, y, past, now, networks, study.EPOCHS)
        found["pairs"] = {k: t_interval([p[k] for p in found["pairs"]]) for k in found["networks"]}
        result["cuts"][cut] = {**found, "cpu_seconds": time.process_time() - start}
        keep("payments_sorting", result, smoke)
    first = pd.Period(CUTS[0], "M")
    inside = (month >= first).to_numpy()
    third = inside & (np.random.default_rng(0).random(len(table)) < 1 / 3)
    known = set(merchants[~inside])
    result["no_drift"] = study.judge(table, rows, y, ~third, third, 2, study.EPOCHS, known)
    result["no_drift"].pop("pairs")
    keep("payments_sorting", result, smoke)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks payments", description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--sorting", action="store_true")
    parser.add_argument("--networks", type=int, default=6, help="an even number")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args(argv)
    data = data_folder()
    if data is None:
        return
    if options.sorting:
        sorting(data, options.networks, options.smoke)
        return
    if options.out is None:
        print("payments needs a trained study: relukit gallery run retail-index --out FOLDER, then --out FOLDER here")
        return
    from dask.distributed import Client, LocalCluster

    from relukit.gallery.retail_index import _text, volume
    from relukit.gallery.retail_index.store import Store
    from relukit.gallery.retail_index.study import CARDS

    rows, files, day = (20_000, 2, 2_000) if options.smoke else (1_000_000, 4, 20_000)
    source = _text.read(data / "transactions" / CARDS)
    result: dict[str, Any] = {"rows_a_file": rows}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{k}.parquet" for k in range(files)]
        for k, path in enumerate(paths):
            volume.simulate(path, source, rows, k)
        alone, seconds = timed_score(str(options.out), str(paths[0]))
        result["rows_a_cpu_second"] = rows / seconds
        new_day = Path(folder) / "day.parquet"
        volume.simulate(new_day, source, day, 99, days=1)
        store = Store(Path(folder) / "store.duckdb", options.out)
        store.add([paths[0]])
        start = time.process_time()
        report = store.add([new_day])
        result["day"] = {"rows": day, "new": report[0]["new"], "cpu_seconds": time.process_time() - start}
        result["day_again"] = store.add([new_day])[0]["new"]
        store.close()
        with (
            LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
            Client(cluster) as client,
        ):
            start = time.perf_counter()
            found = client.gather(client.map(timed_score, [str(options.out)] * files, [str(p) for p in paths]))
            wall = time.perf_counter() - start
        merged = volume.merge([sums for sums, _ in found])
        cpu = sum(s for _, s in found)
        result["dask"] = {
            "workers": 2, "files": files, "rows": rows * files, "wall_seconds": wall, "cpu_seconds_of_workers": cpu,
            "payments_counted": float(merged.payments.sum()),
            "first_file_as_alone": bool(abs(found[0][0].spent.sum() - alone.spent.sum()) < 1e-6 * abs(alone.spent.sum())),
            "plan_100_million_rows": {"files": 100_000_000 // rows, "cpu_seconds": cpu * 100_000_000 / (rows * files)},
        }  # fmt: skip
    keep("payments", result, options.smoke)
