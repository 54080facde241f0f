"""A GPU beside the CPU: time per subproblem against batch size, instances decided in equal wall time, watching and lean training.

python -m benchmarks gpu [--smoke] [--device cuda] [--seconds S] [--part bounds|instances|longer|training ...]

Without a GPU (and with `--smoke`) the same code runs with torch on the CPU. A run of some parts keeps the others in
benchmarks/results/gpu.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._common import RESULTS, data_folder, keep
from benchmarks._gpu_training import training

BATCHES = (1, 4, 16, 64, 256, 1024, 4096)
STEPS = 5  # per subproblem, as in the search over gates
NETS = {
    "mnist_fc 256x4": ("mnist_fc", "mnist-net_256x4", "prop_6_0.03"),
    "mnist_fc 256x6": ("mnist_fc", "mnist-net_256x6", "prop_1_0.03"),
    "oval21 base": ("oval21", "cifar_base_kw", "cifar_base_kw-img4763"),
    "oval21 wide": ("oval21", "cifar_wide_kw", "cifar_wide_kw-img7564"),
    "oval21 deep": ("oval21", "cifar_deep_kw", "cifar_deep_kw-img1052"),
}
HARD = {  # instances that take the CPU long, and those that it leaves open
    "mnist_fc": ("256x4 6_0.03", "256x4 4_0.05", "256x4 7_0.05", "256x4 2_0.05", "256x6 1_0.03", "256x6 0_0.05", "256x6 5_0.05", "256x6 7_0.05"),
    "oval21": ("img4763", "img9410", "img6432", "img7564", "img2732", "img4405", "img1052", "img4168"),
}  # fmt: skip


def find(data: Path, family: str, net: str, prop: str) -> tuple[Path, Path]:
    """The files of one instance."""
    folder = data / "vnncomp" / family
    model = next((folder / "onnx").glob(f"*{net}*.onnx*"))
    return model, next(p for p in (folder / "vnnlib").iterdir() if prop in p.name and "compiled" not in p.name)


def chosen(data: Path) -> list[tuple[str, str]]:
    """The hard instances of the data folder, as `network,property` below its vnncomp."""
    found = []
    for family, words in HARD.items():
        folder = data / "vnncomp" / family
        if not folder.is_dir():
            continue
        rows = [line.split(",")[:2] for line in (folder / "instances.csv").read_text().split()]
        for word in words:
            found += [
                (f"{family}/{net}", f"{family}/{prop}")
                for net, prop in rows
                if all(w in f"{net} {prop}" for w in word.split())
            ]
    return found


LONG = ("img1052", "img4405", "256x4 2_0.05", "256x6 5_0.05")


# -- subproblems -----------------------------------------------------------------------------------------------------


def prepared(model: Path, prop: Path, device: Any) -> Any:
    """What the search over gates works on: the network on the property's box, its gates bounded by optimized slopes."""
    from relukit.bounds import compact, linear
    from relukit.network import load
    from relukit.search._graph import as_graph, make_graph
    from relukit.search._refine import optimize_gates
    from relukit.verification import _question, vnnlib

    asked = _question.ask(load(model), (vnnlib.read(prop),))
    A, b = np.vstack([a for a, _ in asked.rows]), np.concatenate([-np.asarray(b) for _, b in asked.rows])
    rows, box = asked.network.append(A, b), asked.boxes[0]
    kept = as_graph(rows)
    if kept is not None:
        small: Any = make_graph(kept, box, np.inf)
        small = compact(kept, box, small.bounds) if small.is_small else small
    else:
        small = compact(rows, box, linear(rows, box))
    return optimize_gates(small, 10, np.inf, device)


def subproblems(dual: Any, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows and parameters with ten gates held, by phases that some point has."""
    g = np.random.default_rng(0)
    free = np.flatnonzero(dual.phase == 0)
    which = g.integers(0, dual.small.X.shape[0] if hasattr(dual.small, "X") else dual.small.outputs, count)
    P, S = (a[np.zeros(count, int)] for a in dual.start(1))
    for k in range(count):
        held = g.permutation(free)[:10]
        S[k, held], P[k, held] = g.choice([-1, 1], len(held)), 0
    return which, P, S


def median(work: Any, sync: Any, repeats: int) -> float:
    times = []
    work()
    for _ in range(repeats):
        sync()
        began = time.perf_counter()
        work()
        sync()
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def _line(small: Any, device: Any, smoke: bool) -> dict[str, Any]:
    """One network's times by batch size."""
    from relukit.search._refine import dual_of
    from relukit.search._torch_device import exact_products

    sync = torch.cuda.synchronize if device.place.type == "cuda" else lambda: None
    there, here = dual_of(small, np.inf, device), dual_of(small, np.inf)
    most = 16 if smoke else max(BATCHES)
    which, P, S = subproblems(here, most)
    rows, row = there.form.rows(there.output_rows()), torch.as_tensor(which, device=device.place)
    P_there, S_there = there.form.put(P), torch.as_tensor(S, device=device.place)
    line: dict[str, Any] = {
        "form": type(small).__name__, "gates": int((here.phase == 0).sum()), "inputs": here.n, "device_us": {}, "loops_us": {}, "certify_us": {},
    }  # fmt: skip
    for B in (b for b in BATCHES if b <= most):
        k = slice(0, B)
        propose = lambda k=k: there.ascend(rows, row[k], P_there[k], S_there[k], STEPS)
        with exact_products():
            line["device_us"][B] = round(1e6 * median(propose, sync, 1 if smoke else 3) / B, 2)
        if B <= 256:
            asked = here.output_rows()[which[k]]
            loops = lambda k=k, asked=asked: here.improve(asked, P[k], S[k], STEPS)
            line["loops_us"][B] = round(1e6 * median(loops, lambda: None, 1) / B, 2)
        asked = there.output_rows()[which[k]]
        certify = lambda k=k, asked=asked: there.certify(asked, P[k], S[k])
        with device.threads_apart():
            line["certify_us"][B] = round(1e6 * median(certify, lambda: None, 1) / B, 2)
    return line


def bounds(data: Path, device: Any, smoke: bool) -> dict[str, Any]:
    """Microseconds per subproblem: proposed on the device and by the compiled loops in one thread, and certified by all threads."""
    table: dict[str, Any] = {}
    for title, (family, net, prop) in list(NETS.items())[: 1 if smoke else None]:
        if (data / "vnncomp" / family).is_dir():
            table[title] = _line(prepared(*find(data, family, net, prop), device), device, smoke)
            print(title, table[title], file=sys.stderr, flush=True)
    return table


# -- instances -------------------------------------------------------------------------------------------------------


def instances(data: Path, place: str, seconds: float, smoke: bool) -> dict[str, Any]:
    """Verdicts in equal wall time: one at a time with the device; with the compiled loops in processes of one thread beside it."""
    listed = chosen(data)[: 1 if smoke else None]
    root = (data / "vnncomp").resolve()
    table: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as out:
        beside = Loops(root, listed, seconds, Path(out))  # on the cores that the device's threads leave
        for net, prop in listed:
            table[name(net, prop)] = _decided(root, net, prop, place, seconds)
        answers = beside.wait()
    for (net, prop), found in answers.items():
        table[name(net, prop)] |= {"loops": found["status"], "loops_seconds": found["wall_seconds"]}
    opposite = [row for row in table.values() if {row["device"], row.get("loops")} == {"sat", "unsat"}]
    assert not opposite, opposite
    count = lambda key: sum(row.get(key) in ("sat", "unsat") for row in table.values())
    return {
        "seconds": seconds, "instances": len(table), "decided with the device": count("device"),
        "decided by the loops": count("loops"), "table": table,
    }  # fmt: skip


def _decided(root: Path, net: str, prop: str, place: str, seconds: float) -> dict[str, Any]:
    from relukit.verification import verify

    began, spent = time.perf_counter(), time.process_time()
    found = verify(existing(root / net), existing(root / prop), timeout=seconds, device=place)
    row = {
        "device": found.status, "device_seconds": round(time.perf_counter() - began, 2),
        "device_cpu_seconds": round(time.process_time() - spent, 2), "nodes": getattr(found, "boxes", 0),
        "engine": found.engine, "reason": getattr(found, "reason", ""),
    }  # fmt: skip
    print(prop, row, file=sys.stderr, flush=True)
    return row


def longer(data: Path, place: str, seconds: float, smoke: bool) -> dict[str, Any]:
    """The device alone, with more time, on instances that it leaves open in the table."""
    root = (data / "vnncomp").resolve()
    listed = [
        pair
        for word in (LONG[:1] if smoke else LONG)
        for pair in chosen(data)
        if all(w in " ".join(pair) for w in word.split())
    ]
    return {"seconds": seconds, "table": {name(*pair): _decided(root, *pair, place, seconds) for pair in listed}}


def existing(path: Path) -> Path:
    return path if path.exists() else path.with_name(path.name + ".gz")


def name(net: str, prop: str) -> str:
    return f"{Path(net).name.split('.onnx')[0]} {Path(prop).name.split('.vnnlib')[0]}"


class Loops:
    """The compiled loops: processes of one thread on half of the cores."""

    def __init__(self, root: Path, listed: list[tuple[str, str]], seconds: float, out: Path) -> None:
        workers = max(min(len(os.sched_getaffinity(0)) // 2, len(listed)), 1)
        environment = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
        self.out, self.running = out, []
        for k in range(workers):
            csv = out / f"{k}.csv"
            csv.write_text("".join(f"{root / n},{root / p},{seconds}\n" for n, p in listed[k::workers]))
            command = [sys.executable, "-m", "relukit", "verify", "--instances", str(csv), "--out", str(out / str(k))]
            self.running.append(
                subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )

    def wait(self) -> dict[tuple[str, str], dict]:
        found = {}
        for k, process in enumerate(self.running):
            process.wait()
            for line in (self.out / str(k) / "results.jsonl").read_text().splitlines():
                entry = json.loads(line)
                found[entry["network"], entry["property"]] = entry
        return found


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser("gpu")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=20.0, help="per instance")
    parser.add_argument("--part", nargs="*", default=["bounds", "instances", "training"])
    args = parser.parse_args(argv)
    data = data_folder()
    if data is None:
        return 0
    place = "cpu" if args.smoke else args.device
    from relukit.search._torch_device import device_named

    device = device_named(place)
    card = torch.cuda.get_device_name(device.place) if device.place.type == "cuda" else "none: torch on the CPU"
    path = RESULTS / "gpu.json"
    content = json.loads(path.read_text()) if path.exists() and not args.smoke else {}
    content.pop("machine", None)
    content |= {"card": card, "torch": torch.__version__, "threads": torch.get_num_threads()}
    work = {
        "bounds": lambda: bounds(data, device, args.smoke),
        "instances": lambda: instances(data, place, 5.0 if args.smoke else args.seconds, args.smoke),
        "longer": lambda: longer(data, place, 3.0 if args.smoke else args.seconds, args.smoke),
        "training": lambda: training(device.place, args.smoke),
    }
    for part in args.part:
        began = time.perf_counter()
        content[part] = work[part]()
        content[part]["measured_seconds"] = round(time.perf_counter() - began, 1)
        keep("gpu", content, args.smoke)
    return 0
