"""Bytes kept for the backward pass and CPU time of a step, before and after `relukit.nn.lean` and `tune_allocator`.

`python -m benchmarks lean [--smoke]`. Bytes are those of all different storages that autograd saves, parameters left out.
"""

import argparse
import copy
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch
from torch import nn

import relukit
from benchmarks._common import keep


class Block(nn.Module):
    """He's basic block."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c), nn.ReLU(), nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.body(x))


def mlp(d: int, make: Any, dropout: bool) -> nn.Sequential:
    parts: list[Any] = [nn.Linear(d, d)]
    for _ in range(6):
        parts += [make(), *([nn.Dropout(0.2)] if dropout else []), nn.Linear(d, d)]
    return nn.Sequential(*parts)


def cnn(c: int) -> nn.Sequential:
    parts: list[Any] = [nn.Conv2d(3, c, 3, padding=1)]
    for _ in range(5):
        parts += [nn.BatchNorm2d(c), nn.ReLU(), nn.Conv2d(c, c, 3, padding=1)]
    return nn.Sequential(*parts)


def resnet(c: int) -> nn.Sequential:
    stem = [nn.Conv2d(3, c, 3, padding=1), nn.BatchNorm2d(c), nn.ReLU()]
    return nn.Sequential(*stem, *[Block(c) for _ in range(9)], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, 10))


CASES: dict[str, tuple[Any, Any]] = {
    "mlp relu dropout": (lambda s: mlp(512 // s, nn.ReLU, True), lambda s: (2048 // s, 512 // s)),
    "mlp gelu": (lambda s: mlp(512 // s, nn.GELU, False), lambda s: (2048 // s, 512 // s)),
    "mlp leaky": (lambda s: mlp(512 // s, lambda: nn.LeakyReLU(0.1), False), lambda s: (2048 // s, 512 // s)),
    "cnn": (lambda s: cnn(32 // s), lambda s: (64 // s, 3, 48, 48)),
    "resnet": (lambda s: resnet(32 // s), lambda s: (32 // s, 3, 48, 48)),
}


def kept_bytes(model: nn.Module, x: torch.Tensor) -> int:
    own = {p.untyped_storage().data_ptr() for p in [*model.parameters(), *model.buffers(), x]}
    seen: dict[int, int] = {}
    hold = []

    def pack(t: torch.Tensor) -> torch.Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
            hold.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        model(x).square().mean()
    return sum(seen.values())


def seconds(models: dict[str, nn.Module], x: torch.Tensor, repeats: int) -> dict[str, float]:
    """Median CPU seconds of a step, the models taking turns."""
    spent: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(repeats):
        for name, model in models.items():
            model.zero_grad(set_to_none=True)
            began = time.process_time()
            model(x).square().mean().backward()
            spent[name].append(time.process_time() - began)
    return {name: float(np.median(s)) for name, s in spent.items()}


def measure(scale: int, repeats: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    table = {}
    for name, (make, shape) in CASES.items():
        torch.manual_seed(0)
        plain, x = make(scale), torch.randn(*shape(scale))
        slim = relukit.nn.lean(copy.deepcopy(plain))
        before, after = kept_bytes(plain, x), kept_bytes(slim, x)
        times = seconds({"plain": plain, "lean": slim}, x, repeats)
        table[name] = {
            "kept_mib_before": before / 2**20, "kept_mib_after": after / 2**20, "ratio": before / after,
            "cpu_seconds_before": times["plain"], "cpu_seconds_after": times["lean"], "time_ratio": times["lean"] / times["plain"],
        }  # fmt: skip
        print(name, {k: round(v, 4) for k, v in table[name].items()}, flush=True)
    return table


_STEP = """
import sys, time, torch, relukit
from benchmarks.lean import cnn
torch.set_num_threads(1)
if sys.argv[1] == "tuned": assert relukit.tune_allocator()
torch.manual_seed(0)
model, x = cnn(int(sys.argv[2])), torch.randn(int(sys.argv[3]), 3, 64, 64)
times = []
for _ in range(int(sys.argv[4])):
    model.zero_grad(set_to_none=True)
    began = time.process_time(); model(x).square().mean().backward(); times.append(time.process_time() - began)
print(sorted(times[1:])[len(times) // 2 - 1])
"""


def allocator(smoke: bool) -> dict[str, float]:
    """CPU seconds of a large CNN's step in processes of their own, with and without `tune_allocator`."""
    size = ("4", "8", "3") if smoke else ("16", "128", "9")
    found = {}
    for kind in ("plain", "tuned", "plain", "tuned"):
        run = subprocess.run([sys.executable, "-c", _STEP, kind, *size], capture_output=True, text=True, check=True)
        found[kind] = min(found.get(kind, np.inf), float(run.stdout))
    return found | {"ratio": found["plain"] / found["tuned"]}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser("lean")
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args(argv)
    keep(
        "lean",
        {"blocks": measure(8 if args.smoke else 1, 2 if args.smoke else 9), "allocator": allocator(args.smoke)},
        args.smoke,
    )
    return 0
