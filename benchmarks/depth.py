"""Training accuracy of very deep plain networks (width 32, no skips, no normalization) on two spirals and on digits.

`python -m benchmarks depth [--smoke] [--layers N --activation relu|leaky_relu|sigmoid --start deep|default|he]`.
"""

import argparse
import math
import time
from typing import Any

import numpy as np
import torch
from torch import nn

import relukit
from benchmarks._common import keep, kept

WIDTH = 32
CASES = [  # data, layers, activation, start, most steps
    ("spirals", 1_000, "relu", "deep", 600), ("spirals", 10_000, "relu", "deep", 300), ("spirals", 10_000, "leaky_relu", "deep", 300),
    ("digits", 1_000, "relu", "deep", 400),
    ("spirals", 1_000, "relu", "default", 60), ("spirals", 1_000, "relu", "he", 60), ("spirals", 1_000, "sigmoid", "default", 60),
    ("spirals", 30, "sigmoid", "default", 600), ("spirals", 30, "relu", "deep", 600),
]  # fmt: skip


def rows(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    if name == "digits":
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
        return torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
    g = np.random.default_rng(0)
    t, k = np.sqrt(g.uniform(0.05, 1, 400)) * 0.9, np.arange(400) % 2
    angle = 3 * np.pi * t + np.pi * k
    x = 2 * np.stack([t * np.cos(angle), t * np.sin(angle)], 1) + g.normal(0, 0.02, (400, 2))
    return torch.tensor(x, dtype=torch.float32), torch.tensor(k)


def network(inputs: int, outputs: int, layers: int, activation: str) -> nn.Sequential:
    make = {"relu": nn.ReLU, "leaky_relu": lambda: nn.LeakyReLU(0.01), "sigmoid": nn.Sigmoid}[activation]
    parts: list[Any] = [nn.Linear(inputs, WIDTH), make()]
    for _ in range(layers - 2):
        parts += [nn.Linear(WIDTH, WIDTH), make()]
    return nn.Sequential(*parts, nn.Linear(WIDTH, outputs))


def train(
    data: str, layers: int, activation: str, start: str, steps: int, limit: float = 600.0, seed: int = 0
) -> dict[str, Any]:
    """Full batches, Adam, half a cosine; ends early at 100 % training accuracy or at the time limit."""
    torch.manual_seed(seed)
    x, y = rows(data)
    began, cpu = time.perf_counter(), time.process_time()
    model = network(x.shape[1], int(y.max()) + 1, layers, activation)
    if start == "deep":
        groups: Any = relukit.init.deep_(model, seed=seed)
    else:
        groups = [{"params": list(model.parameters()), "lr": 1e-3}]
        if start == "he":
            for m in model:
                if isinstance(m, nn.Linear):
                    nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
    optimizer = torch.optim.Adam(groups, foreach=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min(1, (s + 1) / 20) * 0.5 * (1 + math.cos(math.pi * s / steps))
    )
    norms: list[float] = []
    accuracy, loss, done = 0.0, math.nan, 0
    for done in range(1, steps + 1):
        chosen = torch.randperm(len(x))[:512] if len(x) > 512 else slice(None)
        out = model(x[chosen])
        value = nn.functional.cross_entropy(out, y[chosen])
        optimizer.zero_grad()
        value.backward()
        if done == 1:
            linear = [m for m in model if isinstance(m, nn.Linear)]
            norms = [float(linear[k].weight.grad.norm()) for k in np.unique(np.linspace(0, layers - 1, 21).astype(int))]
        optimizer.step()
        schedule.step()
        if done % 10 == 0 or done == steps:
            with torch.no_grad():
                out = model(x)
                accuracy, loss = float((out.argmax(1) == y).float().mean()), float(nn.functional.cross_entropy(out, y))
            if (accuracy == 1.0 and loss < 0.05) or time.perf_counter() - began > limit:
                break
    return {
        "data": data, "layers": layers, "activation": activation, "start": start, "train_accuracy": accuracy, "loss": loss, "steps": done,
        "seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu, "gradient_norms_first_to_last": norms,
    }  # fmt: skip


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser("depth")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--activation", default="relu")
    parser.add_argument("--start", default="deep")
    parser.add_argument("--data", default="spirals")
    parser.add_argument("--steps", type=int, default=600)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # layers of width 32 are too small to share
    if args.smoke:
        chosen: list[Any] = [("spirals", 60, "relu", "deep", 30)]
    elif args.layers:
        chosen = [(args.data, args.layers, args.activation, args.start, args.steps)]
    else:
        chosen = CASES
    found = {}
    for case in chosen:
        name, run = "{} {} {} {}".format(*case), train(*case)
        found[name] = run
        print({k: v for k, v in run.items() if k != "gradient_norms_first_to_last"}, flush=True)
    keep("depth", {"runs": found if args.smoke else kept("depth", "runs") | found}, args.smoke)
    return 0
