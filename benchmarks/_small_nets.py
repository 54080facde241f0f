"""Small networks: what a caller gains or loses by `relukit.speed`, call by call, beside the torch module and onnxruntime."""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

import relukit

SIZES = [(4, 8, 2), (16, 64, 64, 4), (64, 256, 10), (20, 100, 100, 100, 5), (32, 512, 512, 8)]
BATCHES = (1, 4, 16, 64)


def small(smoke: bool) -> list[dict]:
    """One row for each network and batch size; ratios above 1 are gains, `least` of them shows that dense plans cost nothing."""
    import onnxruntime
    import torch

    found = []
    for sizes in SIZES[:1] if smoke else SIZES:
        torch.manual_seed(0)
        layers: list[torch.nn.Module] = []
        for a, b in zip(sizes, sizes[1:]):
            layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
        module = torch.nn.Sequential(*layers[:-1]).eval()
        network = relukit.load(module, input_shape=sizes[:1])
        x = np.random.default_rng(0).standard_normal((256, sizes[0])).astype(np.float32)
        batches = BATCHES[:1] if smoke else BATCHES
        of_module = relukit.speed(network, x, batches, budget=0.1 if smoke else 1.0)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "net.onnx"
            relukit.save(network, path)
            of_file = relukit.speed(path, x, batches, budget=0.1 if smoke else 1.0)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for batch in batches:
            found.append(_row(sizes, batch, module, of_module, session, of_file, x[:batch], 3 if smoke else 150))
    return found


def _row(sizes, batch, module, of_module, session, of_file, rows, rounds) -> dict:
    import torch

    name = session.get_inputs()[0].name
    tensor, fast = torch.from_numpy(rows), of_module.module()
    with torch.no_grad():
        theirs, ours, over_torch = _pairs(lambda: module(tensor), lambda: fast(tensor), rounds)
    runtime, file, over_runtime = _pairs(lambda: session.run(None, {name: rows})[0], lambda: of_file(rows), rounds)
    return {
        "sizes": "-".join(map(str, sizes)), "batch": batch, "torch_microseconds": theirs, "module_microseconds": ours, "over_torch": over_torch,
        "engine": of_module.measured[BATCHES.index(batch)].engine[0], "onnxruntime_microseconds": runtime, "file_microseconds": file,
        "over_onnxruntime": over_runtime, "file_engine": of_file.measured[BATCHES.index(batch)].engine[0],
    }  # fmt: skip


def _pairs(one, two, rounds: int, calls: int = 50) -> tuple[float, float, float]:
    """Microseconds of each (quartiles: other work on the machine only adds), and the median of the ratio within a pair of runs."""
    times = []
    for _ in range(rounds):
        starts = [time.process_time()]
        for run in (one, two):
            for _ in range(calls):
                run()
            starts.append(time.process_time())
        times.append(tuple(1e6 * (b - a) / calls for a, b in zip(starts, starts[1:])))
    quartile = lambda k: round(sorted(t[k] for t in times)[len(times) // 4], 2)
    return quartile(0), quartile(1), round(statistics.median(a / b for a, b in times), 3)
