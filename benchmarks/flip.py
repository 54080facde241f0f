"""Smallest flips in three norms: proven share, gap and CPU seconds of each row.

python -m benchmarks flip [--smoke] [--only TEXT]   (only rows with this text in their name are run anew; the others stay)
"""

import glob
import json

import numpy as np

import relukit
from benchmarks._common import RESULTS, data_folder, keep


def main(argv: list[str]) -> None:
    smoke = "--smoke" in argv
    data = data_folder()
    if data is None:
        return
    only = argv[argv.index("--only") + 1] if "--only" in argv else ""
    table = json.loads((RESULTS / "flip.json").read_text())["networks"] if only else {}
    for name, network, rows, box, norm, limit in cases(data, smoke):
        if only not in name:
            continue
        found = [relukit.flip(network, x, norm, box, timeout=limit) for x in rows]
        seconds, gaps = [f.cpu_seconds for f in found], [f.upper - f.lower for f in found]
        table[name] = {
            "rows": len(found), "proven": sum(f.status == "proven" for f in found),
            "distances": [round(f.upper, 7) for f in found], "widest gap": float(f"{max(gaps):.2g}"),
            "cpu seconds": [round(s, 2) for s in seconds], "median": round(float(np.median(seconds)), 3),
            "worst": round(max(seconds), 2), "replayed": sum(f.replayed for f in found), "timeout": limit,
        }  # fmt: skip
        print(name, table[name]["proven"], "of", len(found), "median", table[name]["median"], flush=True)
    keep("flip", {"networks": table}, smoke)


def cases(data, smoke):
    """Name, network, rows, allowed box, norm and seconds for each."""
    from sklearn.datasets import load_digits

    unit = lambda n: relukit.Box(np.zeros(n), np.ones(n))
    digits = load_digits().data[: 2 if smoke else 10] / 16
    folder = data / "bench" / "optimize"
    relukit.flip(
        relukit.load(folder / "adv_digits_50x50_e0.05.npz"), digits[0], within=unit(64)
    )  # compiled code is loaded once
    for norm in (np.inf, 2, 1):
        for name in ("adv_digits_50x50_e0.05", "adv_digits_50x50_l1_e0.05"):
            yield f"{name.split('_e')[0]} l{norm:g}", relukit.load(folder / f"{name}.npz"), digits, unit(64), norm, 60.0
    if smoke:
        return
    mnist = data / "vnncomp" / "mnist_fc"
    images = [image(mnist / "vnnlib" / f"prop_{k}_0.03.vnnlib") for k in range(8)]
    two, four = (relukit.load(mnist / "onnx" / f"mnist-net_256x{k}.onnx") for k in (2, 4))
    yield "mnist_fc 256x2 linf", two, images, unit(784), np.inf, 120.0
    yield "mnist_fc 256x2 l2, images 1 and 2", two, images[1:3], unit(784), 2, 120.0
    yield "mnist_fc 256x4 linf, image 1", four, images[1:2], unit(784), np.inf, 300.0
    nets = sorted(glob.glob(str(data / "vnncomp" / "acasxu" / "onnx" / "*")))[::4][:10]
    low, high = np.array([-0.3, -0.5, -0.5, -0.5, -0.5]), np.array([0.68, 0.5, 0.5, 0.5, 0.5])
    relukit.flip(relukit.load(nets[0]), 0.5 * (low + high), within=relukit.Box(low, high))
    for k, path in enumerate(nets):
        points = low + (high - low) * np.random.default_rng(k).random((2, 5))
        yield (
            f"ACAS Xu {path.split('_')[-4]}_{path.split('_')[-3]} linf",
            relukit.load(path),
            points,
            relukit.Box(low, high),
            np.inf,
            120.0,
        )


def image(path):
    """The center of a VNN-LIB box around an image with pixels in [0, 1]."""
    from relukit.verification.vnnlib import read_box

    box, radius = read_box(path), 0.03
    return np.clip(np.where(box.lower <= 0, box.upper - radius, box.lower + radius), 0, 1)
