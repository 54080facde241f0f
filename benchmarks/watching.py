"""What `relukit.watch` costs: paired runs with and without it, in CPU seconds per step.

`python -m benchmarks watching [--smoke]`. Each pair trains the same network twice on the same batches in one process, in turns of
about 30 ms that change order: whatever slows the machine slows both.
"""

import argparse
import time
from typing import Any

import numpy as np
import torch
from torch import nn

import relukit
from benchmarks._common import keep, kept

watch = relukit.watch  # read before a clock runs: the first reading imports it


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


class _Run:
    """One training that can be gone on with, some steps at a time."""

    def __init__(self, make: Any, shape: tuple[int, ...], watched: bool) -> None:
        torch.manual_seed(0)
        self.model = make()
        self.optimizer = torch.optim.Adam(self.model.parameters(), 1e-3)
        self.x, self.y = torch.randn(4, *shape), torch.randint(10, (4, shape[0]))
        started = time.process_time()
        self.watch = watch(self.model, optimizer=self.optimizer).__enter__() if watched else None
        self.done, self.entered = 0, time.process_time() - started

    def __call__(self, steps: int) -> float:
        """CPU seconds of the next `steps` steps."""
        started, watched = time.process_time(), self.watch
        for k in range(self.done, self.done + steps):
            loss = nn.functional.cross_entropy(self.model(self.x[k % 4]), self.y[k % 4])
            self.optimizer.zero_grad()
            loss.backward()
            if watched is not None:
                watched.step(loss)
            self.optimizer.step()
        self.done += steps
        return time.process_time() - started

    def pause(self, wall: float, processor: float) -> None:
        """Takes the time of the other run off the watch's clocks: it must not count as time to watch in."""
        if self.watch is not None:
            self.watch._began = (self.watch._began[0] + wall, self.watch._began[1] + processor)


def _pair(make: Any, shape: tuple[int, ...], steps: int, block: int, first: int) -> tuple[float, float]:
    """CPU seconds a step without and with the watch, in turns of `block` steps within one process."""
    runs = [_Run(make, shape, False), _Run(make, shape, True)]
    spent = [0.0, runs[1].entered]
    for turn in range(-(-steps // block)):
        for which in ((0, 1), (1, 0))[(turn + first) % 2]:
            started = time.perf_counter()
            seconds = runs[which](block)
            spent[which] += seconds
            runs[1 - which].pause(time.perf_counter() - started, seconds)
    if runs[1].watch is not None:
        started = time.process_time()
        runs[1].watch.__exit__()
        spent[1] += time.process_time() - started
    return spent[0] / runs[0].done, spent[1] / runs[1].done


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser("watching")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--case", choices=list(CASES), action="append", help="only these")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    table = {}
    for name in args.case or CASES:
        make, shape = CASES[name]
        probe = _Run(make, shape, False)(20) / 20
        steps = 10 if args.smoke else int(np.clip(6 / probe, 250, 6000))
        block = 5 if args.smoke else max(5, int(0.03 / probe))
        pairs = [_pair(make, shape, steps, block, k) for k in range(2 if args.smoke else args.pairs)]
        ratios = [watched / plain - 1 for plain, watched in pairs]
        mean, error = float(np.mean(ratios)), float(np.std(ratios, ddof=1) / np.sqrt(len(ratios)))
        table[name] = {
            "milliseconds_per_step": 1e3 * float(np.median([p[0] for p in pairs])), "steps": steps, "block": block,
            "pairs": len(ratios), "overhead_percent": 100 * mean, "upper_end_95_percent": 100 * (mean + 2.2 * error),
        }  # fmt: skip
        print(name, table[name])
    keep("watching", {"overhead": table if args.smoke else kept("watching", "overhead") | table}, args.smoke)
    return 0
