"""Sparse inference beside torch, onnxruntime and BLAS in one run, inputs rotated; CPU medians of single calls.

python -m benchmarks speed [--smoke] [gaussian | two_threads | batches | trained | small | convolution ...]

Each part is written as soon as it is measured; parts that are not named keep their last figures.
"""

import contextlib
import io
import json
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import relukit
from benchmarks._common import RESULTS, keep
from benchmarks._small_nets import small
from relukit.activations import get
from relukit.network import from_layers


def main(argv: list[str]) -> None:
    import torch

    smoke = "--smoke" in argv
    torch.set_num_threads(1)
    budget = 0.2 if smoke else 4.0
    parts = {
        "gaussian": lambda: [row for d in ((128,) if smoke else (2048, 4096)) for row in cases(d, (0.9,) if smoke else (0.9, 0.95), budget)],
        "two_threads": lambda: [two_threads(d, 0.95, budget) for d in ((128,) if smoke else (2048,))],
        "batches": lambda: [batches(128 if smoke else 2048, share, budget / 4) for share in (0.9, 0.95)],
        "trained": lambda: trained(smoke),
        "small": lambda: small(smoke),
        "convolution": lambda: convolution(smoke),
    }  # fmt: skip
    kept = RESULTS / "speed.json"
    content = json.loads(kept.read_text()) if kept.is_file() and not smoke else {}
    content = {k: v for k, v in content.items() if k in parts or k == "stream_gigabytes_per_second"}
    for name, measure in parts.items():
        if not set(parts) & set(argv) or name in argv:
            content[name] = measure()
            content["stream_gigabytes_per_second"] = stream(1 << (20 if smoke else 28))
            with contextlib.redirect_stdout(io.StringIO()):
                keep("speed", content, smoke)
    keep("speed", content, smoke)


def stream(size: int) -> float:
    """Bytes that one thread reads from memory in a second when all it does is add them up."""
    words = np.ones(size // 8, np.int64)
    best = 1e9
    for _ in range(7):
        start = time.process_time()
        words.sum()
        best = min(best, time.process_time() - start)
    return size / best / 1e9


def gaussian(d: int, share: float):
    """FFN d -> 4d -> d with Gaussian weights; a bias sets the share of zeros. Network and inputs."""
    g = np.random.default_rng(0)
    shift = np.full(4 * d, -statistics.NormalDist().inv_cdf(share))
    weights = [g.standard_normal((4 * d, d)) / np.sqrt(d), g.standard_normal((d, 4 * d)) / np.sqrt(4 * d)]
    network = replace(from_layers(weights, [shift, np.zeros(d)], [get("relu")]), dtype=np.dtype(np.float32))
    return network, g.standard_normal((32, d)).astype(np.float32)


def cases(d: int, shares: tuple[float, ...], budget: float) -> list[dict]:
    """One thread, one input at a time; all contenders in one run, each through 32 inputs in turn. Dense times do not depend on the share."""
    dense, x = gaussian(d, shares[0])
    theirs, others = _torch(dense), _onnxruntime(dense, 1)
    return [case(gaussian(d, share)[0], x, share, theirs, others, budget) for share in shares]


def case(network, x, share: float, theirs, others, budget: float) -> dict:
    d = network.inputs
    fast = relukit.speed(network, x, (1,), budget=1.0)
    active = [np.flatnonzero(fast.layers[0].run(row[None], "dense")[0]) for row in x]
    one = fast.measured[0]
    sparse = one.engine if not one.all_dense else ("screen", "skip")
    runs = {
        "torch": lambda k: theirs(x[k][None]), "onnxruntime": lambda k: others(x[k][None]), "blas": lambda k: fast.dense(x[k][None]),
        "relukit": lambda k: fast.run(x[k][None], sparse), "known": lambda k: fast.with_pattern(x[k][None], [active[k]]),
    }  # fmt: skip
    times = _alternate(runs, list(range(len(x))), budget, time.process_time)
    worst = max(float(np.abs(fast.run(row[None], sparse) - fast.dense(row[None])).max()) for row in x[:4])
    read = 4.0 * 8 * d * d * (1 - one.bytes_saved)
    return {
        "d": d, "zeros": share, "milliseconds": {k: round(1e3 * t, 3) for k, t in times.items()}, "engine": "+".join(sparse),
        "over_torch": round(times["torch"] / times["relukit"], 2), "over_onnxruntime": round(times["onnxruntime"] / times["relukit"], 2),
        "over_torch_known": round(times["torch"] / times["known"], 2), "gigabytes_per_second": round(read / times["relukit"] / 1e9, 1),
        "torch_gigabytes_per_second": round(32.0 * d * d / times["torch"] / 1e9, 1), "limit_by_bytes": round(1 / (1 - one.bytes_saved), 2),
        "largest_difference": worst, "products_saved": one.products_saved, "bytes_saved": one.bytes_saved, "energy_saved": one.energy_saved,
    }  # fmt: skip


def two_threads(d: int, share: float, budget: float) -> dict:
    """The same with two threads each; wall time, and its least value beside the median, since other work disturbs it."""
    import torch

    network, x = gaussian(d, share)
    fast = relukit.speed(network, x, (1,), threads=2, budget=1.0)
    plan = fast.measured[0].engine if not fast.measured[0].all_dense else ("screen", "skip")
    torch.set_num_threads(2)
    theirs, others = _torch(network), _onnxruntime(network, 2)
    runs = {
        "torch": lambda k: theirs(x[k][None]),
        "onnxruntime": lambda k: others(x[k][None]),
        "relukit": lambda k: fast.run(x[k][None], plan),
    }
    times = _alternate(runs, list(range(len(x))), budget, time.perf_counter)
    least = _alternate(runs, list(range(len(x))), budget, time.perf_counter, min)
    torch.set_num_threads(1)
    return {
        "d": d, "zeros": share, "engine": "+".join(plan), "milliseconds": {k: round(1e3 * t, 3) for k, t in times.items()},
        "load_average": round(os.getloadavg()[0], 1), "least_milliseconds": {k: round(1e3 * t, 3) for k, t in least.items()}, "over_torch": round(times["torch"] / times["relukit"], 2),
        "over_torch_least": round(least["torch"] / least["relukit"], 2),
    }  # fmt: skip


def batches(d: int, share: float, budget: float) -> dict:
    """Where dense takes over as the batch grows."""
    network, x = gaussian(d, share)
    fast = relukit.speed(network, np.tile(x, (2, 1)), (1, 4, 16, 64), budget=budget)
    return {"d": d, "zeros": share, "batches": [m.to_dict() for m in fast.measured]}


def trained(smoke: bool) -> list[dict]:
    """Nets trained on scikit-learn's digits, with the zeros they really have; L1 on hidden values makes more of them."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    sources = {"digits": ((x / 16).astype(np.float32), y, 1400)}
    folder = os.environ.get("RELUKIT_DATA", "")
    if not smoke and (Path(folder) / "images" / "mnist_train.npz").is_file():
        with np.load(Path(folder) / "images" / "mnist_train.npz") as file:
            images, labels = file["x"], file["y"]
        flat = images.reshape(len(images), -1).astype(np.float32)
        sources["mnist"] = (flat / max(1.0, float(flat.max())), labels.astype(np.int64), len(flat) - 2000)
    if not smoke and (Path(folder) / "predictive_maintenance" / "ai4i2020_dev.csv").is_file():
        sources["maintenance"] = maintenance(Path(folder))
    plans = (
        [("digits", 64, 0.0)]
        if smoke
        else [
            ("digits", 512, 0.0),
            ("digits", 1024, 1e-3),
            ("mnist", 1024, 0.0),
            ("mnist", 1024, 1e-3),
            ("maintenance", 1024, 1e-3),
        ]
    )
    found = []
    for name, width, penalty in plans:
        if name in sources:
            found.append(_trained(name, *sources[name], width, penalty, smoke))
    return found


def maintenance(folder: Path):
    """The gallery's milling machines: standardized rows of AI4I 2020 and whether one failed."""
    import pandas as pd

    from relukit.gallery.maintenance._process import TARGET, features

    table = pd.read_csv(folder / "predictive_maintenance" / "ai4i2020_dev.csv").sample(frac=1, random_state=0)
    x = features(table)
    return ((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32), table[TARGET].to_numpy(np.int64), len(x) * 4 // 5


def _trained(name, x, y, held, width, penalty, smoke) -> dict:
    import torch

    y = torch.from_numpy(y)
    torch.manual_seed(0)
    inputs = x.shape[1]
    net = torch.nn.Sequential(
        torch.nn.Linear(inputs, width), torch.nn.ReLU(), torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Linear(width, 10)
    )  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(5 if smoke else 10 if name == "digits" else 2):
        for part in torch.randperm(min(held, 12_000)).split(100):
            rows = torch.from_numpy(x[part])
            first = net[:2](rows)
            second = net[2:4](first)
            loss = torch.nn.functional.cross_entropy(net[4](second), y[part])
            loss = loss + penalty * (first.sum(1).mean() + second.sum(1).mean())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    net.eval()
    with torch.no_grad():
        accuracy = float((net(torch.from_numpy(x[held:])).argmax(1) == y[held:]).float().mean())
        majority = float((y[held:] == y[:held].mode().values).float().mean())
    fast = relukit.speed(net, x[held:], (1,) if smoke else (1, 4, 16, 64), budget=0.1 if smoke else 0.5)
    return {
        "net": f"{name} {inputs}-{width}-{width}-10",
        "l1": penalty,
        "accuracy": accuracy,
        "accuracy_of_one_answer": majority,
        **fast.to_dict(),
    }


def convolution(smoke: bool) -> dict:
    """What skipping could gain in a convolution: torch's time for all channels beside that of the share that is on.

    A skipped output position saves nothing by itself: kernels work on tiles of positions and channels. What can be skipped are tiles of
    the input that are 0 in all channels, and channels that are 0 everywhere; their shares are counted on a trained net.
    """
    import torch
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, y = torch.from_numpy((x / 16).astype(np.float32)).reshape(-1, 1, 8, 8), torch.from_numpy(y)
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 32, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(32, 32, 3, padding=1), torch.nn.ReLU(),
        torch.nn.Flatten(), torch.nn.Linear(2048, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(1 if smoke else 12):
        for part in torch.randperm(1400).split(100):
            loss = torch.nn.functional.cross_entropy(net(x[part]), y[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        first = net[:2](x[1400:])
        tiles = torch.nn.functional.max_pool2d(first.amax(dim=1, keepdim=True), 2)
        full, half = torch.nn.Conv2d(32, 32, 3, padding=1), torch.nn.Conv2d(16, 32, 3, padding=1)
        rows = [row[None] for row in first[:32]]
        times = _alternate(
            {"all": full, "half": lambda r: half(r[:, :16])}, rows, 0.1 if smoke else 1.0, time.process_time
        )
    return {
        "zeros": float((first == 0).float().mean()), "channels_zero_everywhere": float((first.amax(dim=(2, 3)) == 0).float().mean()),
        "tiles_2x2_zero_in_all_channels": float((tiles == 0).float().mean()),
        "microseconds_all_channels": 1e6 * times["all"], "microseconds_half_the_channels": 1e6 * times["half"],
    }  # fmt: skip


def _torch(network):
    import torch

    chain = network.dense_chain(1 << 31)
    parts = [
        (torch.from_numpy(W.astype(np.float32)), torch.from_numpy(b.astype(np.float32))) for W, b in zip(*chain[:2])
    ]

    def run(row):
        with torch.no_grad():
            h = torch.from_numpy(row)
            for k, (W, b) in enumerate(parts):
                h = torch.nn.functional.linear(h, W, b)
                h = torch.relu(h) if k < len(parts) - 1 else h
            return h.numpy()

    return run


def _onnxruntime(network, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        relukit.save(network, path)
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda row: session.run(None, {name: row})[0]


def _alternate(runs, inputs, budget, clock, summary=statistics.median):
    """Seconds of a call, summed up; every contender goes through all inputs, then the next, round by round."""
    times = {name: [] for name in runs}
    for run in runs.values():
        run(inputs[0])
    stop = time.perf_counter() + budget
    while time.perf_counter() < stop or not all(times.values()):
        for name, run in runs.items():
            for value in inputs:
                start = clock()
                run(value)
                times[name].append(clock() - start)
    return {name: summary(t) for name, t in times.items()}
