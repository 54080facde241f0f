"""Sick trainings and their healthy twins: is the sickness noticed, named, and cured?

Each case takes a healthy base (data, network, optimizer) and one fault. Five bases are for development, five
were not looked at while the rules were written, and five while the cures were mended. `python -m benchmarks sick [--smoke] [--half dev|held|fresh|all]`.
"""

import argparse
import math
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

import relukit
from benchmarks._common import cpu_seconds, keep, spread
from relukit.monitoring._cures import PLANS


@dataclass
class Run:
    """One training: everything that a user's loop holds."""

    model: nn.Module
    optimizer: Any
    loss: Any
    x: torch.Tensor
    y: torch.Tensor
    held: tuple[torch.Tensor, torch.Tensor]
    task: str
    steps: int = 320
    batch: int = 64
    score: Any = None  # how well it learned, of a run that accuracy and squared error do not fit


def mlp(widths: list[int], make: Any = nn.ReLU) -> nn.Sequential:
    layers: list[Any] = []
    for a, b in zip(widths[:-1], widths[1:]):
        layers += [nn.Linear(a, b), make()]
    return nn.Sequential(*layers[:-1])


class Functional(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(inputs, 96), nn.Linear(96, 48), nn.Linear(48, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(torch.relu(self.b(torch.relu(self.a(x)))))


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(384, 48), nn.ReLU(), nn.Linear(48, 10),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


def _standard(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(0)) / np.maximum(x.std(0), 1e-6)


def data(name: str, seed: int) -> tuple[np.ndarray, np.ndarray, str]:
    from sklearn import datasets

    g = np.random.default_rng(seed)
    if name == "digits":
        x, y = datasets.load_digits(return_X_y=True)
        return x / 16, y, "classes"
    if name == "moons":
        x, y = datasets.make_moons(600, noise=0.15, random_state=seed)
        return _standard(x), y, "classes"
    if name == "spiral":
        t = g.uniform(0.5, 3.2, 900) * 2
        k = g.integers(0, 3, 900)
        angle = t + 2 * np.pi * k / 3
        return np.stack([t * np.cos(angle), t * np.sin(angle)], 1) / 3 + g.normal(0, 0.03, (900, 2)), k, "classes"
    if name == "wave":
        x = g.uniform(-2, 2, (600, 3))
        return x, np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + g.normal(0, 0.05, 600), "numbers"
    if name == "circles":
        x, y = datasets.make_circles(800, noise=0.08, factor=0.5, random_state=seed)
        return _standard(x), y, "classes"
    if name == "clusters":
        x, y = datasets.make_classification(900, 20, n_informative=8, n_classes=4, random_state=seed)
        return _standard(x), y, "classes"
    if name == "friedman":
        x, y = datasets.make_friedman1(900, noise=0.5, random_state=seed)
        return _standard(x), (y - y.mean()) / y.std(), "numbers"
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    if name == "diabetes":
        return _standard(x), (y - y.mean()) / y.std(), "numbers"
    return _standard(x), y, "binary" if name == "breast_cancer" else "classes"


# name -> data, widths or module, optimizer, rate
BASES: dict[str, tuple[str, Any, str, float]] = {
    "digits-adam": ("digits", [64, 64], "Adam", 2e-3),
    "moons-sgd": ("moons", [24, 24], "SGD", 0.2),
    "cancer-adam": ("breast_cancer", [32, 16], "Adam", 2e-3),
    "wave-adam": ("wave", [64, 64], "Adam", 4e-3),
    "digits-deep-momentum": ("digits", [64] * 4, "Momentum", 0.05),
    "spiral-adam": ("spiral", [64, 64, 64], "Adam", 4e-3),
    "wine-sgd": ("wine", [32], "SGD", 0.15),
    "digits-functional": ("digits", "functional", "AdamW", 2e-3),
    "digits-convolution": ("digits", "convolution", "Adam", 3e-3),
    "diabetes-momentum": ("diabetes", [48, 24], "Momentum", 0.01),
    "friedman-adam": ("friedman", [48, 48], "Adam", 3e-3),
    "circles-sgd": ("circles", [20, 20], "SGD", 0.3),
    "clusters-momentum": ("clusters", [64], "Momentum", 0.02),
    "iris-rmsprop": ("iris", [16, 16], "RMSprop", 2e-3),
    "digits-wide-nadam": ("digits", [128, 64], "NAdam", 1e-3),
}
DEV = ("digits-adam", "moons-sgd", "cancer-adam", "wave-adam", "digits-deep-momentum")
HELD = ("spiral-adam", "wine-sgd", "digits-functional", "digits-convolution", "diabetes-momentum")
# Written after the cures were mended with an eye on `HELD`: nothing was changed after these had been run.
FRESH = ("friedman-adam", "circles-sgd", "clusters-momentum", "iris-rmsprop", "digits-wide-nadam")
HALVES = {"dev": DEV, "held": HELD, "fresh": FRESH}


def base(name: str, seed: int) -> Run:
    """A healthy run."""
    kind, shape, optimizer, rate = BASES[name]
    x, y, task = data(kind, seed)
    torch.manual_seed(seed)
    order = np.random.default_rng(seed + 7).permutation(len(x))
    x, y = x[order], y[order]
    outputs = int(y.max()) + 1 if task == "classes" else 1
    if shape == "functional":
        model: nn.Module = Functional(x.shape[1], outputs)
    elif shape == "convolution":
        model = Convolutional()
    else:
        model = mlp([x.shape[1], *shape, outputs])
    cut = len(x) * 4 // 5
    goal = torch.as_tensor(y, dtype=torch.long if task == "classes" else torch.float32)
    goal = goal if task == "classes" else goal[:, None]
    rows = torch.as_tensor(x, dtype=torch.float32)
    loss = {"classes": nn.CrossEntropyLoss(), "binary": nn.BCEWithLogitsLoss(), "numbers": nn.MSELoss()}[task]
    run = Run(model, None, loss, rows[:cut], goal[:cut], (rows[cut:], goal[cut:]), task)
    set_optimizer(run, optimizer, rate)
    return run


def set_optimizer(run: Run, name: str, rate: float) -> None:
    p = run.model.parameters()
    run.optimizer = {
        "Adam": lambda: torch.optim.Adam(p, rate), "AdamW": lambda: torch.optim.AdamW(p, rate),
        "SGD": lambda: torch.optim.SGD(p, rate), "Momentum": lambda: torch.optim.SGD(p, rate, momentum=0.9), "RMSprop": lambda: torch.optim.RMSprop(p, rate),
        "NAdam": lambda: torch.optim.NAdam(p, rate),
    }[name]()  # fmt: skip


def _linear(run: Run) -> list[Any]:
    return [m for m in run.model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]


def _rescale(run: Run, factor: float, offset: float = 0.0) -> None:
    run.x, run.held = run.x * factor + offset, (run.held[0] * factor + offset, run.held[1])


def _rate(run: Run, factor: float) -> None:
    for group in run.optimizer.param_groups:
        group["lr"] *= factor


@torch.no_grad()
def _each(run: Run, change: Any, hidden_only: bool = False) -> None:
    for m in _linear(run)[: -1 if hidden_only else None]:
        change(m)


def _rebuild(run: Run, name: str, widths: list[int], make: Any = nn.ReLU) -> None:
    _, _, optimizer, rate = BASES[name]
    outputs = run.y.shape[1] if run.y.ndim > 1 else int(run.y.max()) + 1
    run.model = mlp([run.x.shape[1], *widths, outputs], make)
    set_optimizer(run, optimizer, rate)


def _append(run: Run, module: nn.Module) -> None:
    run.model = (
        nn.Sequential(*run.model, module) if isinstance(run.model, nn.Sequential) else nn.Sequential(run.model, module)
    )


def negative_bias(run: Run, name: str, g: Any) -> None:
    shift = -float(g.uniform(4, 8))
    _each(run, lambda m: m.bias.fill_(shift), hidden_only=True)


def rate_far_too_high(run: Run, name: str, g: Any) -> None:
    _rate(run, float(g.uniform(300, 1000)) if "SGD" not in type(run.optimizer).__name__ else float(g.uniform(100, 400)))


def rate_far_too_low(run: Run, name: str, g: Any) -> None:
    _rate(run, 10 ** float(g.uniform(-5, -4)))


def large_inputs(run: Run, name: str, g: Any) -> None:
    _rescale(run, float(g.uniform(150, 1000)))


def tiny_inputs(run: Run, name: str, g: Any) -> None:
    _rescale(run, 10 ** float(g.uniform(-5, -4)))


def shifted_inputs(run: Run, name: str, g: Any) -> None:
    _rescale(run, 1.0, float(g.choice([-1, 1]) * g.uniform(30, 100)))


def large_weights(run: Run, name: str, g: Any) -> None:
    factor = float(g.uniform(12, 30))
    _each(run, lambda m: m.weight.mul_(factor))


def small_weights(run: Run, name: str, g: Any) -> None:
    factor = 10 ** float(g.uniform(-4, -3))
    _each(run, lambda m: (m.weight.mul_(factor), m.bias.zero_()))


def zero_weights(run: Run, name: str, g: Any) -> None:
    _each(run, lambda m: (m.weight.zero_(), m.bias.zero_()))


def negative_weights(run: Run, name: str, g: Any) -> None:
    _each(run, lambda m: (m.weight.copy_(-m.weight.abs() * 2), m.bias.zero_()), hidden_only=True)


def deep_sigmoid(run: Run, name: str, g: Any) -> None:
    _rebuild(run, name, [32] * int(g.integers(7, 12)), nn.Sigmoid)


def deep_tanh_large(run: Run, name: str, g: Any) -> None:
    _rebuild(run, name, [32] * int(g.integers(6, 10)), nn.Tanh)
    _each(run, lambda m: m.weight.mul_(15.0))


def very_deep(run: Run, name: str, g: Any) -> None:
    _rebuild(run, name, [32] * int(g.integers(25, 45)))


def narrow(run: Run, name: str, g: Any) -> None:
    _rebuild(run, name, [2] * int(g.integers(8, 14)))


def output_relu(run: Run, name: str, g: Any) -> None:
    if run.task == "numbers":
        shift = float(run.y.mean() + 2 * run.y.std())
        run.y, run.held = run.y - shift, (run.held[0], run.held[1] - shift)
    _append(run, nn.ReLU())
    with torch.no_grad():
        _linear(run)[-1].bias.fill_(-float(g.uniform(2, 4)))


def output_softmax(run: Run, name: str, g: Any) -> None:
    _append(run, nn.Softmax(-1))


# fault -> (symptoms that count as right, cause, tasks that it applies to)
FAULTS: dict[str, tuple[Any, set[str], str, set[str] | None]] = {
    "negative_bias": (negative_bias, {"dying_relu"}, "negative_bias", None),
    "rate_far_too_high": (
        rate_far_too_high,
        {"dying_relu", "exploding", "oscillating"},
        "learning_rate_too_high",
        None,
    ),
    "rate_far_too_low": (rate_far_too_low, {"slow_learning"}, "learning_rate_too_low", None),
    "large_inputs": (large_inputs, {"exploding", "dying_relu", "oscillating", "slow_learning"}, "unscaled_input", None),
    "tiny_inputs": (tiny_inputs, {"slow_learning", "vanishing_gradient"}, "unscaled_input", None),
    "shifted_inputs": (
        shifted_inputs,
        {"dying_relu", "oscillating", "slow_learning", "exploding"},
        "shifted_input",
        None,
    ),
    "large_weights": (large_weights, {"exploding", "oscillating"}, "bad_initialization", None),
    "small_weights": (small_weights, {"vanishing_gradient", "slow_learning"}, "bad_initialization", None),
    "zero_weights": (zero_weights, {"vanishing_gradient", "dying_relu"}, "bad_initialization", None),
    "negative_weights": (negative_weights, {"dying_relu"}, "bad_initialization", {"classes"}),
    "deep_sigmoid": (deep_sigmoid, {"vanishing_gradient"}, "saturating_activation", None),
    "deep_tanh_large": (
        deep_tanh_large,
        {"vanishing_gradient", "oscillating", "exploding", "slow_learning"},
        "bad_initialization",
        None,
    ),
    "very_deep": (very_deep, {"vanishing_gradient"}, "too_deep_for_init", None),
    "narrow": (narrow, {"dying_relu", "vanishing_gradient", "slow_learning"}, "too_narrow", None),
    "output_relu": (output_relu, {"dead_output"}, "wrong_output_layer", {"numbers", "classes"}),
    "output_softmax": (output_softmax, {"dead_output", "slow_learning"}, "wrong_output_layer", {"classes", "binary"}),
}


def evaluate(run: Run) -> float:
    """Accuracy, or 1 - error over that of the mean (never below 0)."""
    run.model.eval()
    with torch.no_grad():
        if run.score is not None:
            score = float(run.score(run))
            run.model.train()
            return score
        out = run.model(run.held[0])
    run.model.train()
    if not bool(torch.isfinite(out).all()):
        return 0.0
    if run.task == "classes":
        return float((out.argmax(1) == run.held[1]).float().mean())
    if run.task in ("binary", "probability"):
        out = out - 0.5 if run.task == "probability" else out
        return float(((out > 0) == (run.held[1] > 0.5)).float().mean())
    left = float(((out - run.held[1]) ** 2).mean()) / float(run.held[1].var())
    return max(0.0, 1 - left)


def train(
    run: Run,
    seed: int,
    cure: bool = False,
    watch: bool = True,
    chance: np.random.Generator | None = None,
    most: int = 3,
) -> dict[str, Any]:
    """The user's loop, with findings read every few steps; with `cure`, `fix()` at the first errors (`most` of them).

    `chance` lets a random cause be cured instead of the one found, at the same steps: what search without a diagnosis gets.
    """
    g = torch.Generator().manual_seed(seed)
    report: dict[str, Any] = {"noticed": None, "first": None, "fixes": [], "best": 0.0}
    steps = int(1.5 * run.steps) if cure else run.steps
    with relukit.watch(run.model, optimizer=run.optimizer) as h:
        for k in range(steps):
            chosen = torch.randint(len(run.x), (run.batch,), generator=g)
            loss = run.loss(run.model(run.x[chosen]), run.y[chosen])
            run.optimizer.zero_grad()
            loss.backward()
            h.step(loss)
            run.optimizer.step()
            if (k + 1) % 10 == 0 and watch:
                errors = [f for f in h.findings if f.severity == "error"]
                if errors and report["noticed"] is None:
                    report |= {"noticed": k + 1, "first": errors[0]}
                if k + 1 == run.steps // 4:
                    report["quarter"] = errors[0] if errors else None
                fixed = report["fixes"][-1]["step"] if report["fixes"] else -40
                if cure and errors and len(report["fixes"]) < most and k + 1 >= fixed + 40:
                    if chance is not None:
                        cause = str(chance.choice(sorted({c for _, c in PLANS})))
                        h._found = (h.record.step, [replace(errors[0], symptom="", cause=cause)])
                    report["fixes"].append(h.fix())
            if cure and report["fixes"] and (k + 1) % 40 == 0:
                report["best"] = max(report["best"], evaluate(run))
    report["score"] = evaluate(run)
    report["best"] = max(report["best"], report["score"])
    return report


def cases(half: str, seeds: int) -> list[tuple[str, str, int]]:
    names = HALVES[half]
    found = []
    for fault, (_, _, _, tasks) in FAULTS.items():
        for name in names:
            task = {"breast_cancer": "binary", "wave": "numbers", "diabetes": "numbers", "friedman": "numbers"}.get(
                BASES[name][0], "classes"
            )
            if tasks is None or task in tasks:
                found += [(name, fault, seed) for seed in range(seeds)]
    return found


def make(name: str, fault: str, seed: int) -> Run:
    run = base(name, seed)
    if fault:
        FAULTS[fault][0](run, name, np.random.default_rng(1000 + seed))
    return run


def twin(name: str, seed: int) -> dict[str, Any]:
    """The healthy run of a base."""
    return train(base(name, seed), seed)


def judged(name: str, fault: str, seed: int, twin: float, by_chance: bool) -> dict[str, Any]:
    """One sick run: noticed, named, cured?"""
    _, symptoms, cause, _ = FAULTS[fault]
    plain = train(make(name, fault, seed), seed)
    level = 0.95 * twin
    cured = train(make(name, fault, seed), seed, cure=True)
    chance = np.random.default_rng(seed + 5)
    guess = train(make(name, fault, seed), seed, cure=True, chance=chance) if by_chance else {"best": math.nan}
    found = plain.get("quarter") or plain["first"]
    return {
        "base": name, "fault": fault, "seed": seed, "sick": plain["score"] < level, "score": plain["score"], "twin": twin,
        "noticed": plain["noticed"] is not None and plain["noticed"] <= 80,
        "symptom": found.symptom if found else "", "cause": found.cause if found else "",
        "symptom_right": bool(found and found.symptom in symptoms), "cause_right": bool(found and found.cause == cause),
        "cured_score": cured["score"], "cured": cured["best"] >= level, "cured_at_end": cured["score"] >= level,
        "cured_by_chance": guess["best"] >= level, "fixes": [x.split(":")[0] for f in cured["fixes"] for x in f["applied"]],
    }  # fmt: skip


def measure(
    half: str, seeds: int, healthy: int, verbose: bool = False, by_chance: bool = False, jobs: int = 1
) -> dict[str, Any]:
    pairs = [(name, seed) for name in HALVES[half] for seed in range(max(seeds, healthy))]
    reports = dict(zip(pairs, spread(twin, pairs, jobs)))
    alarms = [(*pair, str(r["first"])) for pair, r in reports.items() if r["noticed"] is not None]
    total = len(pairs)
    asked = [(name, f, seed, reports[name, seed]["score"], by_chance) for name, f, seed in cases(half, seeds)]
    rows = spread(judged, asked, jobs)
    for r in rows if verbose else ():
        if r["sick"] and not all(r[k] for k in ("noticed", "symptom_right", "cause_right", "cured")):
            print({k: round(v, 3) if isinstance(v, float) else v for k, v in r.items()}, flush=True)
    really = [r for r in rows if r["sick"]]
    share = lambda key: float(np.mean([r[key] for r in really])) if really else math.nan
    by_fault = defaultdict(list)
    for r in really:
        by_fault[r["fault"]].append(r)
    return {
        "half": half, "runs": len(rows), "sick_runs": len(really), "noticed": share("noticed"), "symptom": share("symptom_right"),
        "cause": share("cause_right"), "cured": share("cured"), "cured_at_end": share("cured_at_end"), "cured_by_chance": share("cured_by_chance") if by_chance else None, "healthy_runs": total, "false_alarms": len(alarms) / max(total, 1),
        "alarms": alarms,
        "by_fault": {f: {k: float(np.mean([r[k] for r in rs])) for k in ("noticed", "symptom_right", "cause_right", "cured")} | {"runs": len(rs)} for f, rs in by_fault.items()},
    }  # fmt: skip


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser("sick")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--half", default="all")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--healthy", type=int, default=12)
    parser.add_argument("--chance", action="store_true", help="cure random causes, too")
    parser.add_argument("--jobs", type=int, default=1, help="processes of one thread each")
    parser.add_argument("-v", dest="verbose", action="store_true")
    args = parser.parse_args(argv)
    if args.smoke:
        FAULTS_KEPT = {k: FAULTS[k] for k in ("negative_bias", "output_softmax")}
        FAULTS.clear()
        FAULTS.update(FAULTS_KEPT)
        args.seeds, args.healthy, args.half = 1, 1, "dev"
    result: dict[str, Any] = {
        h: measure(h, args.seeds, args.healthy, args.verbose, args.chance, args.jobs)
        for h in (tuple(HALVES) if args.half == "all" else (args.half,))
    }
    result["cpu_seconds"] = cpu_seconds()
    keep("sick", result, args.smoke)
    return 0
