"""Exact compression: stable units, parameters, time, proofs and their check; nets of the optimization cases, MNIST nets trained with L1.

python -m benchmarks compress [--smoke] [cases | copies | planted | trained | large | mnist ...]

Each part is written as soon as it is measured; parts that are not named keep their last figures.
"""

import contextlib
import io
import json
import tempfile
import time
from pathlib import Path

import numpy as np

import relukit
from benchmarks._common import RESULTS, data_folder, keep
from benchmarks._planted import large, planted
from benchmarks._planted_trained import cases as trained_cases
from benchmarks._planted_trained import measured
from relukit.compression._check import check
from relukit.network import from_layers
from relukit.network.rewrite import RELU

CASES = (
    "adv_digits_50x50_e0.05",
    "adv_digits_50x50_e0.1",
    "max_2d_2x100",
    "max_5d_2x100",
    "cmp_digits_100x100_l1_0.0003",
    "cmp_digits_100x100_l1_0.001",
    "cmp_digits_100x100_l1_0.002",
)
TRAINED = [(2, 3e-5), (2, 1e-4), (2, 2e-4), (5, 3e-5), (5, 1e-4)]  # hidden layers of 100, factor of the l1 norm; Adam
AS_PUBLISHED = [
    (2, 1e-4),
    (2, 2e-4),
    (5, 1e-4),
    (5, 2e-4),
]  # the recipe of Serra et al.: plain descent with momentum, many epochs
WITHOUT = (2, 0.0)  # their log beside their code has 200-200 without L1: no stable unit, after 18.4 s
EPOCHS, LONG = 12, 121


def main(argv: list[str]) -> None:
    smoke = "--smoke" in argv
    folder = data_folder()
    if folder is None:
        return
    kept = RESULTS / "compress.json"
    parts = {
        "cases": lambda: [case(name, folder / "bench" / "optimize" / f"{name}.npz") for name in (CASES[:1] if smoke else CASES)],
        "copies": copies,
        "planted": lambda: planted(smoke),
        "trained": lambda: planted_in_trained(folder, smoke),
        "large": lambda: large(smoke),
        "mnist": lambda: [] if smoke else [mnist(folder, *s) for s in TRAINED] + [mnist(folder, *s, long=True) for s in AS_PUBLISHED] + [mnist(folder, *WITHOUT, width=200)],
    }  # fmt: skip
    content = json.loads(kept.read_text()) if kept.is_file() and not smoke else {}
    content = {k: v for k, v in content.items() if k in parts}
    for name, measure in parts.items():
        if not set(parts) & set(argv) or name in argv:
            content[name] = measure()
            with contextlib.redirect_stdout(io.StringIO()):
                keep("compress", content, smoke)
    keep("compress", content, smoke)


def planted_in_trained(folder: Path, smoke: bool) -> list[dict]:
    """Networks trained on real data with units planted in them; convolutions in float32 alone, since onnxruntime has none in float64."""
    names = list(trained_cases(folder))[: 1 if smoke else None]
    kinds = [
        (name, single) for name in names for single in ((True,) if "convolutions" in name or smoke else (True, False))
    ]
    return [measured(name, folder, single, 1 if smoke else None) for name, single in kinds]


def case(name: str, path: Path) -> dict:
    network = relukit.load(path)
    relukit.compress(network)  # compiles the search
    found = relukit.compress(network)
    return {"case": name} | short(found) | proven(network, path)


def short(found) -> dict:
    keys = ("form", "parameters_before", "parameters_after", "units", "stable_units", "merged", "undecided_by_samples", "open_units", "max_difference_float32", "error_bound", "cpu_seconds")  # fmt: skip
    content = found.to_dict()
    return {k: content[k] for k in keys}


def proven(network, path: Path) -> dict:
    """Time of making a proof, of checking it, and what it shows."""
    start = time.process_time()
    found = relukit.compress(network, proof=True)
    if found.form == "unchanged":
        return {}
    with tempfile.TemporaryDirectory() as folder:
        small, proof = Path(folder) / "small.onnx", Path(folder) / "small.proof"
        relukit.save(found.network, small)
        bound = found.save_proof(proof, path, small)
        made = time.process_time() - start
        start = time.process_time()
        check(str(proof), str(path), str(small))
        return {"proof_stable_units": found.stable_units, "proof_cpu_seconds": made, "check_cpu_seconds": time.process_time() - start, "proof_bytes": proof.stat().st_size, "file_error_bound": bound}  # fmt: skip


def copies() -> dict:
    """A net with doubled and scaled units on a domain where nothing is stable."""
    g = np.random.default_rng(0)
    W, b = g.standard_normal((40, 8)), g.standard_normal(40)
    W, b = np.r_[W, W[:20], 3 * W[20:]], np.r_[b, b[:20], 3 * b[20:]]
    network = from_layers([W, g.standard_normal((3, 80))], [b, np.zeros(3)], [RELU])
    return short(relukit.compress(network, relukit.Box(-9 * np.ones(8), 9 * np.ones(8))))


def mnist(folder: Path, depth: int, penalty: float, long: bool = False, width: int = 100) -> dict:
    """784 - 100 ... 100 - 10, or of another width, trained with the l1 norm of the weights; domain: all images, [0, 1]^784; with a proof that the checker follows."""
    network, accuracy = trained(folder, depth, penalty, long, width)
    box = relukit.Box(np.zeros(784), np.ones(784))
    found = relukit.compress(network, box, timeout=30.0, proof=True)
    removed = 1 - found.network.units / network.units
    row = {
        "net": f"784-{'-'.join([str(width)] * depth)}-10",
        "l1": penalty,
        "recipe": "momentum" if long else "adam",
        "accuracy": accuracy,
    } | short(found)
    row |= {"dead": found.dead, "always_on": found.always_on, "units_removed": removed, "parameters_removed": 1 - found.parameters_after / found.parameters_before}  # fmt: skip
    if found.form == "unchanged":
        return row
    with tempfile.TemporaryDirectory() as place:
        original, small, proof = (Path(place) / f for f in ("net.npz", "small.onnx", "small.proof"))
        relukit.save(network, original)
        relukit.save(found.network, small)
        row["file_error_bound"] = found.save_proof(proof, original, small)
        start = time.process_time()
        check(str(proof), str(original), str(small))
        return row | {"check_cpu_seconds": time.process_time() - start, "proof_bytes": proof.stat().st_size}


def trained(folder: Path, depth: int, penalty: float, long: bool, width: int) -> tuple[relukit.Network, float]:
    """The net and its accuracy on images it has not seen; kept under build/, outside of git."""
    name = f"mnist_{depth}x{width}_{penalty:g}{'_long' if long else ''}.npz"
    kept = Path(__file__).parents[1] / "build" / "benchmarks" / name
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        arrays = _train_long(folder, depth, penalty, width) if long else _train(folder, depth, penalty, width)
        np.savez(kept, **arrays)
    with np.load(kept) as file:
        arrays = {k: file[k] for k in file.files}
    accuracy = float(arrays.pop("accuracy"))
    count = len(arrays) // 2
    weights, biases = ([arrays[f"{w}{k}"].astype(float) for k in range(count)] for w in "Wb")
    return from_layers(weights, biases, [RELU] * (count - 1)), accuracy


def _train_long(folder: Path, depth: int, penalty: float, width: int) -> dict:
    """The published recipe, in NumPy (a minute and a half of one core): rate 0.01, a tenth of it every 50 epochs, momentum 0.9, batches of 128."""
    with np.load(folder / "images" / "mnist_train.npz") as file:
        x, y = (file["x"].reshape(-1, 784) / np.float32(255)).astype(np.float32), file["y"].astype(np.int64)
    with np.load(folder / "images" / "mnist_test_dev5000.npz") as file:
        tx, ty = (file["x"].reshape(-1, 784) / np.float32(255)).astype(np.float32), file["y"].astype(np.int64)
    g, sizes = np.random.default_rng(0), [784, *[width] * depth, 10]
    draw = lambda shape, n: (g.uniform(-1, 1, shape) / np.sqrt(n)).astype(np.float32)
    W, b = [draw((o, i), i) for i, o in zip(sizes, sizes[1:])], [draw(o, i) for i, o in zip(sizes, sizes[1:])]
    speeds = [np.zeros_like(p) for p in (*W, *b)]
    for epoch in range(LONG):
        rate = np.float32(0.01 * 0.1 ** (epoch // 50))
        for part in np.split(order := g.permutation(len(x)), range(128, len(order), 128)):
            h = [x[part]]
            for k in range(depth):
                h.append(np.maximum(h[-1] @ W[k].T + b[k], 0))
            z = h[-1] @ W[-1].T + b[-1]
            d = np.exp(z - z.max(axis=1, keepdims=True))
            d /= d.sum(axis=1, keepdims=True)
            d[np.arange(len(part)), y[part]] -= 1
            d /= np.float32(len(part))
            slopes: list = [None] * (2 * depth + 2)
            for k in range(depth, -1, -1):
                slopes[k], slopes[depth + 1 + k] = d.T @ h[k] + np.float32(penalty) * np.sign(W[k]), d.sum(axis=0)
                d = (d @ W[k]) * (h[k] > 0) if k else d
            for p, v, slope in zip((*W, *b), speeds, slopes):
                v *= np.float32(0.9)
                v += slope
                p -= rate * v
    for k in range(depth):
        tx = np.maximum(tx @ W[k].T + b[k], 0)
    accuracy = float(((tx @ W[-1].T + b[-1]).argmax(axis=1) == ty).mean())
    return {"accuracy": np.array(accuracy)} | {f"W{k}": w for k, w in enumerate(W)} | {f"b{k}": v for k, v in enumerate(b)}  # fmt: skip


def _train(folder: Path, depth: int, penalty: float, width: int) -> dict:
    """Cross-entropy plus the l1 norm of all weights, with Adam."""
    import torch

    with np.load(folder / "images" / "mnist_train.npz") as file:
        x, y = file["x"].reshape(-1, 784), file["y"].astype(np.int64)
    with np.load(folder / "images" / "mnist_test_dev5000.npz") as file:
        tx, ty = file["x"].reshape(-1, 784), file["y"].astype(np.int64)
    x, y, tx = torch.from_numpy(x).float() / 255, torch.from_numpy(y), torch.from_numpy(tx).float() / 255
    torch.manual_seed(0)
    sizes = [784, *[width] * depth, 10]
    layers: list[torch.nn.Module] = []
    for a, b in zip(sizes, sizes[1:]):
        layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    weights = [p for p in net.parameters() if p.ndim == 2]
    for epoch in range(EPOCHS):
        rate = 1e-3 * (1 - epoch / EPOCHS)
        for group in optimizer.param_groups:
            group["lr"] = rate
        for part in torch.randperm(len(x)).split(128):
            loss = torch.nn.functional.cross_entropy(net(x[part]), y[part]) + penalty * sum(
                w.abs().sum() for w in weights
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    net.eval()
    with torch.no_grad():
        accuracy = float((net(tx).argmax(1).numpy() == ty).mean())
    found = {"accuracy": np.array(accuracy)}
    for k, m in enumerate(m for m in net if isinstance(m, torch.nn.Linear)):
        found |= {f"W{k}": m.weight.detach().numpy(), f"b{k}": m.bias.detach().numpy()}
    return found
