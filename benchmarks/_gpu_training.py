"""What watching costs in a training loop on a device, and what `relukit.nn.lean` saves there."""

import copy
import time
from typing import Any

import numpy as np
import torch
from torch import nn

import relukit
from benchmarks.lean import cnn, mlp, resnet


def _mlp(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))


def _cnn(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(2 * channels, 2 * channels, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(2 * channels * 256, 10),
    )  # fmt: skip


LOOPS = {"mlp 512-1024-1024-10, batch 256": (_mlp, 1024, (256, 512)), "cnn 64-128-128, batch 128": (_cnn, 64, (128, 3, 32, 32))}  # fmt: skip
LEAN = {
    "mlp relu dropout": (lambda s: mlp(1024 // s, nn.ReLU, True), lambda s: (8192 // s, 1024 // s)),
    "cnn": (lambda s: cnn(64 // s), lambda s: (256 // s, 3, 48, 48)),
    "resnet": (lambda s: resnet(64 // s), lambda s: (128 // s, 3, 48, 48)),
}


def _seconds(make: Any, width: int, shape: tuple, steps: int, watched: bool, place: torch.device) -> float:
    """Wall seconds per step."""
    torch.manual_seed(0)
    model = make(width).to(place)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    x, y = torch.randn(4, *shape, device=place), torch.randint(10, (4, shape[0]), device=place)
    h = relukit.watch(model, optimizer=optimizer) if watched else None
    if h is not None:
        h.__enter__()
    began = 0.0
    for k in range(steps + 20):
        if k == 20:  # warm
            _sync(place)
            began = time.perf_counter()
        loss = nn.functional.cross_entropy(model(x[k % 4]), y[k % 4])
        optimizer.zero_grad()
        loss.backward()
        if h is not None:
            h.step(loss)
        optimizer.step()
    _sync(place)
    spent = time.perf_counter() - began
    if h is not None:
        h.__exit__()
    return spent / steps


def _sync(place: torch.device) -> None:
    if place.type == "cuda":
        torch.cuda.synchronize(place)


def _overhead(place: torch.device, smoke: bool) -> dict[str, Any]:
    table = {}
    for name, (make, width, shape) in LOOPS.items():
        small = (8, *shape[1:]) if smoke else shape
        size = 16 if smoke else width
        probe = _seconds(make, size, small, 5, False, place)
        steps = 5 if smoke else int(np.clip(1.5 / probe, 200, 2000))
        ratios, plain = [], []
        for k in range(1 if smoke else 5):
            pair = {}
            for watched in (True, False) if k % 2 else (False, True):
                pair[watched] = _seconds(make, size, small, steps, watched, place)
            ratios.append(pair[True] / pair[False] - 1)
            plain.append(pair[False])
        table[name] = {
            "milliseconds_per_step": round(1e3 * float(np.median(plain)), 4), "steps": steps, "pairs": len(ratios),
            "overhead_percent": round(100 * float(np.mean(ratios)), 2), "spread_percent": round(100 * float(np.std(ratios)), 2),
        }  # fmt: skip
    return table


def _peak(model: nn.Module, x: torch.Tensor, place: torch.device) -> float:
    """Most MiB that one step holds beyond parameters and input; 0 where torch does not count (the CPU)."""
    if place.type != "cuda":
        return 0.0
    model.zero_grad(set_to_none=True)
    model(x).square().mean().backward()  # workspaces are allocated now
    model.zero_grad(set_to_none=True)
    torch.cuda.synchronize(place)
    torch.cuda.reset_peak_memory_stats(place)
    before = torch.cuda.memory_allocated(place)
    model(x).square().mean().backward()
    return (torch.cuda.max_memory_allocated(place) - before) / 2**20


def _lean(place: torch.device, smoke: bool) -> dict[str, Any]:
    table, scale = {}, 16 if smoke else 1
    for name, (make, shape) in LEAN.items():
        torch.manual_seed(0)
        plain, x = make(scale).to(place), torch.randn(*shape(scale), device=place)
        slim = relukit.nn.lean(copy.deepcopy(plain))
        before, after = _peak(plain, x, place), _peak(slim, x, place)
        times: dict[str, list[float]] = {"plain": [], "lean": []}
        for _ in range(1 if smoke else 9):
            for kind, model in (("plain", plain), ("lean", slim)):
                model.zero_grad(set_to_none=True)
                _sync(place)
                began = time.perf_counter()
                model(x).square().mean().backward()
                _sync(place)
                times[kind].append(time.perf_counter() - began)
        spent = {k: float(np.median(v)) for k, v in times.items()}
        table[name] = {
            "peak_mib_before": round(before, 1), "peak_mib_after": round(after, 1), "ratio": round(before / after, 3) if after else None,
            "milliseconds_before": round(1e3 * spent["plain"], 3), "milliseconds_after": round(1e3 * spent["lean"], 3),
            "time_ratio": round(spent["lean"] / spent["plain"], 3),
        }  # fmt: skip
    return table


def training(place: torch.device, smoke: bool) -> dict[str, Any]:
    """Overhead of `relukit.watch` by paired runs, and peak memory and time of `relukit.nn.lean`."""
    return {"watch": _overhead(place, smoke), "lean": _lean(place, smoke)}
