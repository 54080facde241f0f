"""Smallest l-infinity flips: proven share and CPU seconds.

python -m benchmarks flip [--smoke]
"""

import numpy as np

import relukit
from benchmarks._common import data_folder, keep


def main(argv: list[str]) -> None:
    smoke = "--smoke" in argv
    data = data_folder()
    if data is None:
        return
    from sklearn.datasets import load_digits

    cases = []
    images = load_digits().data / 16
    for name in ("adv_digits_50x50_e0.05", "adv_digits_50x50_l1_e0.05"):
        cases.append(
            (
                name.split("_e")[0],
                relukit.load(data / "bench" / "optimize" / f"{name}.npz"),
                images[: 2 if smoke else 20],
                20.0,
            )
        )
    if not smoke:
        with np.load(data / "images" / "mnist_test_dev5000.npz") as file:
            mnist = file["x"][:8].reshape(8, -1) / 255
        cases.append(
            (
                "mnist_fc 256x2",
                relukit.load(data / "vnncomp" / "mnist_fc" / "onnx" / "mnist-net_256x2.onnx"),
                mnist,
                30.0,
            )
        )
    table = {}
    for name, network, rows, limit in cases:
        box = relukit.Box(np.zeros(network.inputs), np.ones(network.inputs))
        found = [relukit.flip(network, x, within=box, timeout=limit, starts=rows) for x in rows]
        seconds = [f.cpu_seconds for f in found]
        table[name] = {
            "rows": len(found), "proven": sum(f.status == "proven" for f in found), "median": round(float(np.median(seconds)), 3),
            "worst": round(max(seconds), 2), "replayed": sum(f.replayed for f in found), "timeout": limit,
        }  # fmt: skip
    keep("flip", {"networks": table}, smoke)
