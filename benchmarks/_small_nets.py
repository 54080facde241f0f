"""Small networks: what a caller gains or loses by `relukit.speed`, call by call, beside the torch module and onnxruntime."""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

import relukit

SIZES = [(4, 8, 2), (16, 64, 64, 4), (64, 256, 10), (20, 100, 100, 100, 5), (32, 512, 512, 8)]
BATCHES = (1, 4, 16, 64)
COPIES = 5  # sessions of each side: where its weights come to lie in memory moves one session against another of the same file by up to a tenth


def small(smoke: bool) -> list[dict]:
    """One row for each network and batch size; ratios above 1 are gains, `least` of them shows that dense plans cost nothing."""
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
            files = []
            for _ in range(1 if smoke else COPIES):
                session, again = _session(path), _session(path)
                files.append((session, again, relukit.speed(path, x, batches, budget=0.1 if smoke else 0.5)))
        for batch in batches:
            found.append(_row(sizes, batch, module, of_module, files, x[:batch], 3 if smoke else 150))
    return found


def _session(path: Path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _row(sizes, batch, module, of_module, files, rows, rounds) -> dict:
    import torch

    name, at = files[0][0].get_inputs()[0].name, BATCHES.index(batch)
    tensor, fast = torch.from_numpy(rows), of_module.module()
    with torch.no_grad():
        theirs, ours, over_torch = _pairs(lambda: module(tensor), lambda: fast(tensor), rounds)
    call = lambda session: lambda: session.run(None, {name: rows})[0]
    itself = [_pairs(call(one), call(two), rounds // COPIES + 1)[2] for one, two, _ in files]
    pairs = [
        _pairs(call(one), lambda of_file=of_file: of_file(rows), rounds // COPIES + 1) for one, _, of_file in files
    ]
    runtime, file, over_runtime = (statistics.median(p[k] for p in pairs) for k in range(3))
    return {
        "sizes": "-".join(map(str, sizes)), "batch": batch, "torch_microseconds": theirs, "module_microseconds": ours, "over_torch": over_torch,
        "engine": of_module.measured[at].engine[0], "onnxruntime_microseconds": runtime, "file_microseconds": file,
        "over_onnxruntime": over_runtime, "onnxruntime_over_itself": [min(itself), max(itself)],
        "file_engine": files[0][2].measured[at].engine[0],
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
