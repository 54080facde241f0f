"""Activations side by side on the user's data: what the articles' table of pros and cons comes to, measured."""

import itertools
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput
from relukit._shown import Shown
from relukit._types import Array

NAMES = ("relu", "leaky_relu", "prelu", "elu", "gelu", "tanh", "sigmoid")
RATES = (1e-3, 3e-3, 1e-2)
WIDTHS = (2, 4, 8, 16, 32)
_ROWS = 64  # of a batch


@dataclass(frozen=True, eq=False)
class Comparison(Shown):
    """One row for each activation and depth; numbers are means over seeds with 95 % Student intervals.

    Columns: `score` on held rows at the best learning rate, `gap` (training score less held score), `steps_to_level` (optimizer steps until
    90 % of the best activation's held score, looked at after each epoch, None where a seed never gets there; `epochs_to_level` likewise),
    `smallest_width` of two to 32 that reaches 95 % of it in the median seed (None where more than half of the seeds need more; of the
    shallowest depth only), `smallest_width_by_seed` and `smallest_width_interval` (95 % for the median width, by the order of the seeds;
    None at its end means more than 32), `mean_activation` and `zero_share` of the
    hidden outputs, `dead_share`, `gradient_reach` (first over last layer's gradient norm at the start),
    `milliseconds_per_step`, and `bytes_kept` for the backward pass of one batch.
    """

    rows: tuple[dict[str, Any], ...]
    task: str
    count: int
    sparsity_against_gap: float
    level: float  # the best mean held score, which levels and widths refer to

    def to_dict(self) -> dict[str, Any]:
        return {
            "task": self.task, "rows": list(self.rows), "data_rows": self.count,
            "correlation_zero_share_and_gap": None if np.isnan(self.sparsity_against_gap) else self.sparsity_against_gap,
            "level_for_steps": 0.9 * self.level, "level_for_width": 0.95 * self.level,
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"Comparison({len(self.rows)} rows over {self.count} data rows)"


def compare(
    X: Array,
    y: Any,
    names: Sequence[str] = NAMES,
    depths: Sequence[int] = (2, 8),
    seeds: int = 3,
    rates: Sequence[float] = RATES,
    epochs: int = 15,
    width: int = 32,
    on_progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Trains plain networks with every activation, depth, learning rate and seed on the same splits.

    The learning rate is chosen by the score on a third split, so that the one reported has not been looked at. Initialization uses
    each activation's own gain; everything else is equal.

    Arguments:
        X: Rows, shape `(rows, inputs)`.
        y: Labels or numbers.
        names: Of the catalogue.
        depths: Numbers of hidden layers.
        seeds: Splits and initializations, at least 2 for intervals.
        rates: Learning rates to choose from.
        epochs: Passes of each training.
        width: Of the hidden layers.

    Raises:
        InvalidInput: No name, or fewer than 50 rows.
    """
    from relukit.activations import row
    from relukit.training._rows import checked
    from relukit.training._state import threads

    X, y, task, classes = checked(X, y, None)
    if len(X) < 50:
        raise InvalidInput(f"comparing needs at least 50 rows, got {len(X)}")
    names = [row(name).name for name in names]
    if not names:
        raise InvalidInput("name at least one activation")
    outputs = len(classes) if classes is not None else y.shape[1]
    data = _Data(X, y, task, outputs)
    total = len(names) * seeds * (len(depths) * len(rates) + len(WIDTHS))
    done, table = 0, []
    with threads(1):
        for name, depth in itertools.product(names, depths):
            runs = []
            for seed in range(seeds):
                tried = []
                for rate in rates:
                    tried.append(_train(data, name, depth, width, rate, seed, epochs))
                    done += 1
                    if on_progress is not None:
                        on_progress(done, total)
                runs.append(max(tried, key=lambda r: r["chosen_by"]))
            table.append({"activation": name, "hidden_layers": depth} | _summary(runs))
        level = max(r["score"]["mean"] for r in table)
        shallow = min(depths)
        smallest: dict[str, list[int | None]] = {name: [None] * seeds for name in names}
        for name, seed in itertools.product(names, range(seeds)):
            # At the rate that this seed chose at full width.
            rate = next(r for r in table if r["activation"] == name and r["hidden_layers"] == shallow)[
                "learning_rates"
            ][seed]
            for w in WIDTHS:
                done += 1
                if on_progress is not None:
                    on_progress(done, total)
                if smallest[name][seed] is None:
                    reached = _train(data, name, shallow, w, rate, seed, epochs)["score"] >= 0.95 * level
                    smallest[name][seed] = w if reached else None
    for r in table:
        curves = r.pop("curves")
        reached = [next((k + 1 for k, s in enumerate(c) if s >= 0.9 * level), None) for c in curves]
        r["epochs_to_level"] = None if any(k is None for k in reached) else float(np.mean(reached))
        r["steps_to_level"] = None if r["epochs_to_level"] is None else r["epochs_to_level"] * r["steps_per_epoch"]
        r |= _widths(smallest[r["activation"]] if r["hidden_layers"] == shallow else [])
    share = [(r["zero_share"]["mean"], r["gap"]["mean"]) for r in table]
    spread = np.std(np.array(share), axis=0)
    correlation = float(np.corrcoef(np.array(share).T)[0, 1]) if np.all(spread > 0) else float("nan")
    return Comparison(tuple(table), task, len(X), correlation, level)


class _Data:
    """Standardized rows in three splits that depend on the seed: training, choosing, judging (60 / 20 / 20 %)."""

    def __init__(self, X: Array, y: Array, task: str, outputs: int) -> None:
        self.X, self.y, self.task, self.outputs = X, y, task, outputs

    def splits(self, seed: int) -> tuple[Any, ...]:
        import torch

        order = np.random.default_rng(seed).permutation(len(self.X))
        a, b = int(0.6 * len(order)), int(0.8 * len(order))
        center, spread = self.X[order[:a]].mean(axis=0), self.X[order[:a]].std(axis=0)
        x = torch.as_tensor((self.X - center) / np.where(spread > 1e-9, spread, 1.0), dtype=torch.float32)
        if self.task == "classification":
            y = torch.as_tensor(self.y)
        else:
            mean, scale = self.y[order[:a]].mean(axis=0), self.y[order[:a]].std(axis=0)
            y = torch.as_tensor((self.y - mean) / np.where(scale > 0, scale, 1.0), dtype=torch.float32)
        return tuple((x[rows], y[rows]) for rows in np.split(order, [a, b]))


def _train(data: _Data, name: str, depth: int, width: int, rate: float, seed: int, epochs: int) -> dict[str, Any]:
    import torch
    from torch import nn

    from relukit.training._fit import _module, _score
    from relukit.training.nn import decay_groups

    train, choose, judge = data.splits(seed)
    chooser = torch.Generator().manual_seed(seed)
    module = _module([data.X.shape[1], *[width] * depth, data.outputs], name, chooser)
    loss_of = nn.functional.cross_entropy if data.task == "classification" else nn.functional.mse_loss
    optimizer = torch.optim.AdamW(decay_groups(module, 1e-2), rate)
    x, y = train
    linear = [m for m in module if isinstance(m, nn.Linear)]
    loss_of(module(x[:256]), y[:256]).backward()
    first, last = (float((m.weight.grad.norm() / m.weight.norm()).detach()) for m in (linear[0], linear[-1]))
    curve, spent, steps = [], 0.0, 0
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=chooser).split(_ROWS):
            began = time.process_time()
            optimizer.zero_grad(set_to_none=True)
            loss_of(module(x[rows]), y[rows]).backward()
            optimizer.step()
            spent, steps = spent + time.process_time() - began, steps + 1
        with torch.no_grad():
            curve.append(_score(module(judge[0]), judge[1], loss_of, data.task)[0])
    with torch.no_grad():
        hidden, value = [], x
        for m in module[:-1]:
            value = m(value)
            if not isinstance(m, nn.Linear):
                hidden.append(value)
        score = lambda part: _score(module(part[0]), part[1], loss_of, data.task)[0]
        fitted, chosen, judged = score(train), score(choose), score(judge)
    constant = torch.cat([(h.amax(0) - h.amin(0)) == 0 for h in hidden])
    return {
        "score": judged, "gap": fitted - judged, "chosen_by": chosen, "curve": curve, "rate": rate,
        "mean_activation": float(torch.cat([h.mean(0) for h in hidden]).mean()),
        "zero_share": float(torch.cat([(h == 0).float().mean(0) for h in hidden]).mean()),
        "dead_share": float(constant.float().mean()), "gradient_reach": first / max(last, 1e-30),
        "milliseconds_per_step": 1e3 * spent / steps, "bytes_kept": _kept(module, x[:_ROWS]),
        "steps_per_epoch": steps // epochs,
    }  # fmt: skip


def _kept(module: Any, x: Any) -> int:
    """Bytes of all different storages that autograd saves for the backward pass, parameters and input left out."""
    import torch

    own = {p.untyped_storage().data_ptr() for p in [*module.parameters(), x]}
    seen: dict[int, int] = {}
    hold: list[Any] = []

    def pack(t: Any) -> Any:
        if t.untyped_storage().data_ptr() not in own:
            seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            hold.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = module(x)
    del out
    return sum(seen.values())


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means with 95 % Student intervals."""
    from scipy.stats import t

    found: dict[str, Any] = {
        "seeds": len(runs),
        "learning_rates": [r["rate"] for r in runs],
        "curves": [r["curve"] for r in runs],
    }
    for key in (
        "score",
        "gap",
        "mean_activation",
        "zero_share",
        "dead_share",
        "gradient_reach",
        "milliseconds_per_step",
    ):
        v = np.array([r[key] for r in runs])
        half = float(t.ppf(0.975, len(v) - 1) * v.std(ddof=1) / np.sqrt(len(v))) if len(v) > 1 else float("nan")
        found[key] = {"mean": float(v.mean()), "half_width": half}
    return found | {key: runs[0][key] for key in ("bytes_kept", "steps_per_epoch")}


def _widths(found: list[int | None]) -> dict[str, Any]:
    """The median of widths and its interval by order statistics: between which seeds it lies with 95 % (all of them, where few)."""
    from scipy.stats import binom

    if not found:
        return {"smallest_width": None, "smallest_width_by_seed": [], "smallest_width_interval": None}
    ranked = sorted(w if w is not None else math.inf for w in found)
    count = len(ranked)
    cut = int(binom.ppf(0.025, count, 0.5))  # P(fewer than cut of the seeds lie below the median) <= 2.5 %
    low, high = ranked[max(cut - 1, 0)], ranked[min(count - cut, count - 1)] if cut else ranked[-1]
    plain = lambda w: None if math.isinf(w) else int(w)
    return {
        "smallest_width": plain(ranked[count // 2]), "smallest_width_by_seed": found, "smallest_width_interval": [plain(low), plain(high)],
    }  # fmt: skip


def default_data() -> dict[str, tuple[Any, Any]]:
    """scikit-learn's digits, and the consumption policy at a borrowing limit where `RELUKIT_DATA` holds it."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    found: dict[str, tuple[Any, Any]] = {"digits": (X, y)}
    policy = Path(os.environ.get("RELUKIT_DATA") or ".") / "consumption_savings" / "egm_reference_0.csv"
    if policy.is_file():
        table = np.loadtxt(policy, delimiter=",", skiprows=1)  # cash on hand, then consumption by income state
        found["borrowing-limit"] = (table[:, :1], table[:, 1:])
    return found


def draw(found: Comparison | dict[str, Comparison], path: Any) -> None:
    """Score, gap, zeros and gradient reach of every activation, one mark for each depth, in one picture; a line for each data set."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib.figure import Figure

    from relukit._numerics import atomic_path

    sets = found if isinstance(found, dict) else {"": found}
    count = max(len({r["activation"] for r in one.rows}) for one in sets.values())
    figure = Figure(figsize=(11, len(sets) * (0.42 * count + 1.2) + 0.3), layout="constrained")
    grid = figure.subplots(len(sets), len(_PANELS), squeeze=False, sharey="row")
    for axes, (name, one) in zip(grid, sets.items()):
        _line(axes, one, name)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=8)
    path = Path(path)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format=path.suffix[1:].lower() or "png")


_PANELS = (("score", "held score"), ("gap", "training less held"), ("zero_share", "share of zeros"), ("gradient_reach", "gradient reach"), ("milliseconds_per_step", "ms per step"))  # fmt: skip


def _line(axes: Any, found: Comparison, name: str) -> None:
    names = list(dict.fromkeys(r["activation"] for r in found.rows))
    depths = sorted({r["hidden_layers"] for r in found.rows})
    for ax, (key, title) in zip(axes, _PANELS):
        for d, (depth, color, mark) in enumerate(zip(depths, ("#0072b2", "#d55e00", "#009e73", "#cc79a7"), "osD^")):
            rows = {r["activation"]: r[key] for r in found.rows if r["hidden_layers"] == depth}
            at = np.arange(len(names)) + 0.22 * (d - (len(depths) - 1) / 2)
            mean, half = (np.array([rows[n][k] for n in names]) for k in ("mean", "half_width"))
            error = None if key == "gradient_reach" else np.nan_to_num(half)
            ax.errorbar(mean, at, xerr=error, fmt=mark, color=color, ms=4, lw=1, label=f"{depth} hidden layers")
        if key == "gradient_reach":
            ax.set_xscale("log")
        ax.set_title(title, fontsize=9)
        ax.tick_params(labelsize=8)
        ax.grid(axis="x", color="0.9")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(np.arange(len(names)), names)
    axes[0].set_ylabel(name, fontsize=9)
    axes[0].invert_yaxis()
