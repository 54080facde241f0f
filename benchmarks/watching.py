"""What `relukit.watch` costs: paired runs with and without it, in CPU seconds per step.

`python -m benchmarks watching [--smoke]`. Each pair trains the same network on the same batches; order alternates.
"""

import argparse
import time
from typing import Any

import numpy as np
import torch
from torch import nn

import relukit
from benchmarks._common import keep


def _mlp(widths: list[int]) -> nn.Sequential:
    layers: list[Any] = []
    for a, b in zip(widths[:-1], widths[1:]):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Block(nn.Module):
    def __init__(self, d: int = 64) -> None:
        super().__init__()
        self.attend, self.a, self.b = (
            nn.MultiheadAttention(d, 4, batch_first=True),
            nn.Linear(d, 4 * d),
            nn.Linear(4 * d, d),
        )
        self.one, self.two, self.out = nn.LayerNorm(d), nn.LayerNorm(d), nn.Linear(d, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.one(x)
        x = x + self.attend(h, h, h, need_weights=False)[0]
        x = x + self.b(torch.relu(self.a(self.two(x))))
        return self.out(x.mean(1))


CASES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "small mlp": (lambda: _mlp([64, 64, 64, 10]), (64, 64)),
    "large mlp": (lambda: _mlp([512, 1024, 1024, 10]), (128, 512)),
    "cnn": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 256, 10)
        ),
        (32, 3, 32, 32),
    ),
    "50 layers": (lambda: _mlp([64] * 50 + [10]), (64, 64)),
    "transformer block": (Block, (32, 16, 64)),
}  # fmt: skip


def _seconds(make: Any, shape: tuple[int, ...], steps: int, watched: bool) -> float:
    torch.manual_seed(0)
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    x, y = torch.randn(4, *shape), torch.randint(10, (4, shape[0]))
    h = relukit.watch(model, optimizer=optimizer) if watched else None
    if h is not None:
        h.__enter__()
    started = time.process_time()
    for k in range(steps):
        loss = nn.functional.cross_entropy(model(x[k % 4]), y[k % 4])
        optimizer.zero_grad()
        loss.backward()
        if h is not None:
            h.step(loss)
        optimizer.step()
    spent = time.process_time() - started
    if h is not None:
        h.__exit__()
    return spent / steps


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser("watching")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--pairs", type=int, default=12)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    table = {}
    for name, (make, shape) in CASES.items():
        probe = _seconds(make, shape, 20, False)
        steps = 10 if args.smoke else int(np.clip(3 / probe, 250, 6000))
        ratios, plain = [], []
        for k in range(2 if args.smoke else args.pairs):
            pair = {}
            for watched in (True, False) if k % 2 else (False, True):
                pair[watched] = _seconds(make, shape, steps, watched)
            ratios.append(pair[True] / pair[False] - 1)
            plain.append(pair[False])
        mean, error = float(np.mean(ratios)), float(np.std(ratios, ddof=1) / np.sqrt(len(ratios)))
        table[name] = {
            "milliseconds_per_step": 1e3 * float(np.median(plain)), "steps": steps, "pairs": len(ratios),
            "overhead_percent": 100 * mean, "upper_end_95_percent": 100 * (mean + 2.2 * error),
        }  # fmt: skip
    keep("watching", {"overhead": table}, args.smoke)
    return 0
