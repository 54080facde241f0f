"""Exact pieces: counts against the known ones, CPU seconds against the goals, scaling, and relucent beside it.

python -m benchmarks regions [--smoke] [--peers] [--threads]

`cpu_seconds` is the best of some whole Python calls after the first one in the process, on one thread; for cells with adjacency.
`exact_over_float` is the time of the compiled walk beside the same walk with error bounds of zero, which never asks the exact stage: what doubt
and exact arithmetic cost, without the few operations that carry error radii along.
`maps_seconds` is what the affine maps take when they are first asked for. `two_threads` compares wall and CPU seconds with one thread, in turns: best of each.
With `--threads` only two threads are measured, of the large files, in two to five inputs, and of longer runs; it needs an idle machine. With `--peers` only relucent (PyPI, extra `peers`, or a
folder named by RELUKIT_PEER) and relukit are run, on the same files. It enumerates by local search over the whole space, so that its count may
differ from that of a box; it stops after some cells, and its cells per second are compared.
"""

import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np

import relukit
from benchmarks._common import data_folder, keep
from relukit.activations import get
from relukit.network import from_layers

GOALS = {
    "d2_32x2_rand": 0.0004, "d2_32x2_spiral": 0.0005, "d2_64x3_rand": 0.006, "d2_64x3_spiral": 0.006, "d2_128x3_rand": 0.03,
    "d2_128x3_sectors": 0.04, "slice784_256x2_rand": 0.016, "full784_256x2_rand": 0.016, "d1_64x4_rand": 0.0002, "d1_256x4_rand": 0.001,
    "d3_32x2_rand": 0.012, "d4_16x2_rand": 0.01, "d5_20x2_rand": 0.4,
}  # fmt: skip
OTHERS = ("d2_20x1_rand", "d3_12x1_rand", "deg_grid", "deg_dup", "deg_zero_bias")
PEER = """
import json, sys, time
import numpy as np, torch, relucent
z = np.load(sys.argv[1]); limit = float(sys.argv[2]); layers = []; k = 0
while f"W{k}" in z:
    W = torch.tensor(z[f"W{k}"]); layer = torch.nn.Linear(W.shape[1], W.shape[0]).double()
    layer.weight.data, layer.bias.data = W, torch.tensor(z[f"b{k}"])
    layers += [layer, torch.nn.ReLU()]; k += 1
started = time.process_time()
cells = relucent.Complex(torch.nn.Sequential(*layers[:-1]))
cells.bfs(max_polys=int(sys.argv[3]))
print(json.dumps({"cells": len(cells), "seconds": time.process_time() - started}))
"""


def best(network: relukit.Network, repeats: int, domain: relukit.Box | None = None) -> tuple[object, float]:
    found = relukit.regions(network, domain)
    times = []
    for _ in range(repeats):
        started = time.process_time()
        found = relukit.regions(network, domain)
        times.append(time.process_time() - started)
        if sum(times) > 8:
            break
    return found, min(times)


def exact_over_float(network: relukit.Network, repeats: int) -> float | None:
    """CPU seconds of the walk over those of the same walk with all error bounds zero."""
    import dataclasses

    from relukit.geometry._enumerate import planar
    from relukit.geometry._enumerate_cells import solids
    from relukit.geometry._form import form_of

    if network.inputs != 2 and not 3 <= network.inputs <= 12:
        return None
    form, box = form_of(network), network.box
    zero = np.zeros(len(form.net.size))
    floats = dataclasses.replace(form, net=form.net._replace(slope_error=zero, shift_error=zero))
    walk = planar if form.dimension == 2 else solids
    times: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(repeats + 1):  # in turn: a busy machine changes its pace
        for exact, f in ((True, form), (False, floats)):
            started = time.process_time()
            walk(f, np.asarray(box.lower), np.asarray(box.upper), None, None)
            times[exact].append(time.process_time() - started)
        if sum(times[True]) > 4:
            break
    return round(min(times[True][1:] or times[True]) / min(times[False][1:] or times[False]), 3)


def two_threads(network: relukit.Network, repeats: int) -> dict[str, float]:
    """Best wall and CPU seconds with two threads and with one, called in turn; ratios are medians over turns, since the machine's pace drifts."""
    times: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    for _ in range(repeats + 2):
        for threads in times:
            wall, cpu = time.perf_counter(), time.process_time()
            relukit.regions(network, threads=threads)
            times[threads].append((time.perf_counter() - wall, time.process_time() - cpu))
    best_of = {k: [min(t[i] for t in v[1:]) for i in (0, 1)] for k, v in times.items()}
    wall, cpu = (statistics.median(a[i] / b[i] for a, b in zip(times[1][1:], times[2][1:])) for i in (0, 1))
    return {
        "wall_seconds": round(best_of[2][0], 5), "one_thread_wall_seconds": round(best_of[1][0], 5),
        "speed_up": round(wall, 2), "cpu_over_one_thread": round(1 / cpu, 2),
    }  # fmt: skip


def long_runs(smoke: bool) -> list[dict]:
    """Two threads on networks with so many pieces that what they do in turns no longer counts."""
    rows = []
    long = [[2, 256, 256, 1], [2, 128, 128, 128, 128, 1], [2, 256, 256, 256, 1], [3, 64, 64, 1], [4, 24, 24, 1]]
    for sizes in [[2, 64, 64, 1], [3, 16, 16, 1]] if smoke else long:
        network = random_network(0, sizes).with_(box=relukit.Box(-np.ones(sizes[0]), np.ones(sizes[0])))
        pieces = len(relukit.regions(network))
        rows.append({"sizes": sizes, "pieces": pieces} | two_threads(network, 1 if smoke else (30 if sizes[0] == 2 else 8)))  # fmt: skip
        print("two threads", rows[-1], file=sys.stderr, flush=True)
    return rows


def maps_seconds(network: relukit.Network, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        found = relukit.regions(network)
        started = time.process_time()
        _ = found.maps
        times.append(time.process_time() - started)
    return round(min(times), 5)


def random_network(seed: int, sizes: list[int]) -> relukit.Network:
    g = np.random.default_rng(seed)
    weights = [g.standard_normal((b, a)) * np.sqrt(2 / a) for a, b in zip(sizes[:-1], sizes[1:])]
    return from_layers(weights, [0.3 * g.standard_normal(b) for b in sizes[1:]], [get("relu")] * (len(sizes) - 2))


def table(folder, names: list[str], repeats: int) -> dict:
    known, rows = json.loads((folder / "expected.json").read_text()), {}
    for name in names:
        expected = known.get(name) or known["slice784_256x2_rand"]
        found, seconds = best(relukit.load(folder / f"{name}.npz"), repeats)
        assert len(found) == expected["regions"], (name, len(found))
        assert len(found.vertices) == expected.get("vertices", len(found.vertices)), name
        assert found.edges == expected.get("edges", found.edges), name
        assert found.area_error < 1e-9 and getattr(found, "unmatched", 0) == 0, name
        rows[name] = {
            "regions": len(found), "vertices": len(found.vertices), "edges": found.edges, "area_error": found.area_error,
            "exact_tests": found.exact_tests, "cpu_seconds": round(seconds, 5), "goal": GOALS.get(name),
            "exact_over_float": exact_over_float(relukit.load(folder / f"{name}.npz"), repeats),
        }  # fmt: skip
        network = relukit.load(folder / f"{name}.npz")
        rows[name]["maps_seconds"] = maps_seconds(network, 3)
        if len(found) > 5000:
            rows[name]["two_threads"] = two_threads(network, 2 * repeats if len(found) < 60_000 else 6)
        if hasattr(found, "blocks") and found.dimension > 2:
            next(found.blocks(1))  # compiled before the clock runs
            started = time.process_time()
            for _ in found.blocks():
                pass
            more = time.process_time() - started
            rows[name]["cells_per_second_with_half_spaces_and_centers"] = round(len(found) / (seconds + more))
        print(name, rows[name], file=sys.stderr, flush=True)
    return rows


def scaling(smoke: bool) -> dict:
    cases = {
        "width (2 inputs, 2 layers)": [(w, [2, w, w, 1]) for w in (16, 32, 64, 128, 256)],
        "depth (2 inputs, width 32)": [(d, [2, *[32] * d, 1]) for d in (1, 2, 4, 6)],
        "inputs (2 layers of 12)": [(n, [n, 12, 12, 1]) for n in (1, 2, 3, 4, 5, 6)],
    }
    curves = {}
    for title, points in cases.items():
        curves[title] = []
        for value, sizes in points[: 2 if smoke else None]:
            box = relukit.Box(-np.ones(sizes[0]), np.ones(sizes[0]))
            found, seconds = best(random_network(0, sizes), 1 if smoke else 3, box)
            curves[title].append({"value": value, "pieces": len(found), "cpu_seconds": round(seconds, 5)})
            print(title, curves[title][-1], file=sys.stderr, flush=True)
    return curves


def peer(folder, names: list[str], limit: int) -> dict:
    rows = {}
    environment = os.environ | {"PYTHONPATH": os.environ.get("RELUKIT_PEER", "")}
    for name in names:
        command = [sys.executable, "-c", PEER, str(folder / f"{name}.npz"), "0", str(limit)]
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=240)
        except subprocess.TimeoutExpired:
            rows[name] = {"error": "no answer in 240 s"}
            continue
        if done.returncode:
            rows[name] = {"error": done.stderr.strip().splitlines()[-1][:200] if done.stderr.strip() else "failed"}
        else:
            answer = json.loads(done.stdout.strip().splitlines()[-1])
            rows[name] = answer | {"cells_per_second": round(answer["cells"] / answer["seconds"], 1)}
        print("relucent", name, rows[name], file=sys.stderr, flush=True)
    return rows


def main(argv: list[str]) -> None:
    smoke = "--smoke" in argv
    data = data_folder()
    if data is None:
        return
    folder = data / "bench" / "regions"
    names = ["d2_32x2_rand", "d3_12x1_rand", "deg_grid"] if smoke else [*GOALS, *OTHERS]
    if "--threads" in argv:
        names = [n for n in GOALS if n.startswith(("d2_64", "d2_128", "slice", "d3_32", "d4_", "d5_"))]
        large = {n: relukit.load(folder / f"{n}.npz") for n in (names[:1] if smoke else names)}
        files = [
            {"file": n, "pieces": len(relukit.regions(v))} | two_threads(v, 2 if smoke else 8 if "d5" in n else 40)
            for n, v in large.items()
        ]
        keep("regions_threads", {"files": files, "long runs": long_runs(smoke)}, smoke)
        return
    if "--peers" in argv:
        compared = (
            names if smoke else ["d2_32x2_rand", "d3_32x2_rand", "d4_16x2_rand", "d5_20x2_rand", "deg_grid", "deg_dup"]
        )
        rows = peer(folder, compared, 20 if smoke else 500)
        for name, row in rows.items():
            found, seconds = best(relukit.load(folder / f"{name}.npz"), 1 if smoke else 10)
            row["ours"] = {
                "cells": len(found),
                "seconds": round(seconds, 5),
                "cells_per_second": round(len(found) / seconds),
            }
        keep("regions_peers", {"relucent": rows}, smoke)
        return
    content = {
        "nets": table(folder, names, 2 if smoke else 15),
        "two threads, long runs": long_runs(smoke),
        "scaling": scaling(smoke),
    }
    content["scaling"]["pieces (the files)"] = sorted(
        ({"value": name, "pieces": row["regions"], "cpu_seconds": row["cpu_seconds"]} for name, row in content["nets"].items()),
        key=lambda row: row["pieces"],
    )  # fmt: skip
    keep("regions", content, smoke)
