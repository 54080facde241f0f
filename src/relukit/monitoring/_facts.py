"""Numbers derived once from a record of training and read by all rules, and whether the run learns."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from relukit.monitoring._finding import REMEDIES, Finding
from relukit.monitoring._record import Record
from relukit.monitoring._target import reference as reference_of

_WIDE = 3.0
_FEW = 4  # entries: fewer tell neither a deviation (such a layer counts as started as usual) nor how large steps are
_DEFAULT = 0.41  # torch's own start, over He's deviation
_SMALL = 2.0  # root mean square of a first layer's outputs, at most


@dataclass(frozen=True)
class Facts:
    """Numbers derived once from a record and read by all rules."""

    record: Record
    steps: int
    drop: float
    learning: bool
    silent: np.ndarray  # share of units silent in all recent samples, per layer; nan where unknown
    silent_at_start: np.ndarray
    ratio: float  # first to last gradient norm, each relative to its weight norm, median over recent samples
    first_ratio: float
    zero_gradient: bool
    update: float  # largest recent relative update over layers
    update_median: float
    input_std: float
    input_shift: float
    input_spread: float  # largest feature deviation over the median one
    input_finite: bool
    weight_scale: np.ndarray  # deviation over He's for that fan-in, per weight layer
    hidden: list[int]
    kinds: set[str]
    growth: float  # rms of the last hidden layer's output over that of the first
    saturated: float
    finite: bool
    level: float  # recent loss over that of the best constant output; nan where that is unknown
    level_at_start: float
    level_error: float  # how far the constant's loss may be off, relatively
    target: Any  # the last batch's targets as far as they can be told, or None
    constant: bool  # the last output seen is the same for all rows
    first_update: float  # largest relative update seen at any time
    overshoots: bool  # outputs vary far more than what they are compared with
    beside: bool  # all targets lay on one side of the outputs, far off
    stalled: bool  # little better than a constant, standing still, with inputs out of scale or no steps
    settled: bool  # far below a constant's loss but for a spike
    reference: float  # loss of the best constant output, or nan


def facts_of(record: Record) -> Facts:
    """Derives the numbers."""
    from relukit.monitoring.watch import recently_silent

    layers, samples = record.layers, record.samples
    weights = [k for k, layer in enumerate(layers) if not layer.norm]
    hidden = weights[:-1]
    silent = np.full(len(layers), np.nan)
    early = np.full(len(layers), np.nan)
    for k in range(len(layers)):
        flags = recently_silent(record, k)
        silent[k] = flags.mean() if len(flags) else np.nan
        start = [s.silent[k] for s in samples[:2] if len(s.silent[k])]
        early[k] = np.logical_and.reduce(start).mean() if start and len({len(s) for s in start}) == 1 else np.nan
    steep = [_gradient_ratio(s, weights) for s in samples]
    steep = [r for r in steep if math.isfinite(r)]
    recent = samples[-3:]
    zero = bool(recent) and all(np.nansum(s.grad) == 0 for s in recent)
    moved = [u for _, u in record.updates[-4:]]
    updates = np.median(moved, axis=0) if moved else np.full(len(layers), np.nan)
    seen = record.activity[0] if record.activity else None
    mean, std = record.inputs()
    live = std[std > 1e-12] if np.any(std > 1e-12) else np.ones(1)
    few = [layer.parameter.numel() < _FEW for layer in layers]
    scale = np.array(
        [
            1.0
            if "weight_std" not in record.start
            else _DEFAULT
            if few[k]
            else record.start["weight_std"][k] * math.sqrt(layers[k].fan_in / 2)
            for k in weights
        ]
    )
    act = next((a for a in reversed(record.activity) if a.rms), None)
    rms = [act.rms[k] for k in hidden if k in act.rms] if act else []
    saturated = [act.saturated[k] for k in act.saturated if k in hidden] if act else []
    losses = np.asarray(record.losses[-50:])
    drop = record.drop()
    constant = bool(record.activity) and _constant(record.activity[-1].outputs)
    overshoots = _overshoots(record)
    told = next((a for a in reversed(record.activity) if a.target is not None), None)
    target = told.target if told is not None else None
    beside = target is not None and target.one_sided and abs(target.mean) > 8
    if beside and told is not None:  # an old look says nothing once the loss has gone
        beside = bool(np.mean(record.losses[-5:]) > 0.5 * record.loss_at(told.step))
    level, error = reference_of([a.target for a in record.activity if a.target is not None])
    moving = [k for k in weights if not few[k]]
    update = float(np.nanmax(updates[moving])) if np.any(np.isfinite(updates[moving])) else math.nan
    input_std = float(np.median(live))
    shift = (
        float(np.median(np.abs(mean) / np.maximum(std, 1e-12)))
        if seen is not None and len(live) > len(std) / 2
        else 0.0
    )
    odd = _input_cause(input_std, shift, float(live.max() / np.median(live)), record.entry()) is not None
    relative = record.level()[1] / level if record.step >= 5 else math.nan
    # Little better than a constant, and no longer getting better: inputs out of scale can do that, or steps of size 0.
    stalled = record.step >= 40 and relative > 0.8 and record.stands() and (odd or update < 1e-8)
    return Facts(
        record,
        record.step,
        drop,
        _learns(record, drop, level, error)
        and not stalled
        and not (
            record.step >= 16
            and (constant or beside or _falls_short(told, record.scale) or (overshoots and not math.isfinite(level)))
        ),
        silent,
        early,
        float(np.median(steep[-4:])) if steep else math.nan,
        steep[0] if steep else math.nan,
        zero,
        update,
        float(np.nanmedian(updates[weights])) if np.any(np.isfinite(updates[weights])) else math.nan,
        input_std,
        shift,
        float(live.max() / np.median(live)),
        all(a.input_finite for a in record.activity) or bool(record.holes),
        scale,
        hidden,
        set(record.kinds) | {layer.activation for layer in layers if layer.activation},
        rms[-1] / max(rms[0], 1e-30) if len(rms) > 1 else 1.0,
        max(saturated, default=0.0),
        bool(np.all(np.isfinite(losses))),
        relative,
        record.losses[0] / level,
        error,
        target,
        constant,
        max((float(np.nanmax(u[weights])) for _, u in record.updates if np.any(np.isfinite(u[weights]))), default=0.0),
        overshoots,
        beside,
        stalled,
        _settled(record, level),
        level,
    )


def _settled(record: Record, reference: float) -> bool:
    """Whether the loss lay far below a constant's most of the time lately: a spike then is no sickness."""
    recent = np.asarray(record.losses[-24:])
    return len(recent) == 24 and bool(np.median(recent) < 0.1 * reference) and not np.any(np.isnan(recent))


def _overshoots(record: Record) -> bool:
    """Whether the last two looks found outputs that vary with their own gradient: what varies in them is not their targets."""
    looks = record.activity[-2:]
    # Outputs near 1 in size are no overshoot: a flow or a residual is asked for the size of its outputs alone.
    wide = all(len(a.outputs) and float(np.mean(np.square(a.outputs, dtype=float))) > _WIDE**2 for a in looks)
    return len(looks) == 2 and wide and all(a.overshoot > 0.8 for a in looks)


def _falls_short(look: Any, scale: tuple[float, float]) -> bool:
    """Whether targets are far larger than a fresh network's outputs, and outputs reach a twentieth of their spread at most: what the
    loss does then is the draw of a few large targets."""
    if look is None or not len(look.outputs) or not math.isfinite(look.target.std) or look.target.std < 8 * scale[0]:
        return False
    return float(np.std(look.outputs)) < 0.05 * look.target.std


def _constant(outputs: np.ndarray) -> bool:
    """Whether the rows of an output differ by no more than rounding."""
    if len(outputs) < 8 or not np.all(np.isfinite(outputs)):
        return False
    return float(np.ptp(outputs, axis=0).max()) <= 1e-4 * max(1e-3, float(np.abs(outputs).max()))


def _gradient_ratio(sample: Any, weights: list[int]) -> float:
    """Relative gradient (norm over weight norm) of the first layer over that of the last."""
    if len(weights) < 2:
        return math.nan
    with np.errstate(invalid="ignore"):
        rel = sample.grad[weights] / np.maximum(sample.weight[weights], 1e-30)
    first, last = rel[0], rel[-1]
    return float(first / last) if np.isfinite(first) and np.isfinite(last) and last > 0 else math.nan


def _learns(record: Record, drop: float, reference: float, error: float) -> bool:
    """Whether the loss falls as it should by now: below what a constant output reaches, or steadily on its way."""
    n = record.step
    if not math.isfinite(drop):
        return False
    if _settled(record, reference):
        return True
    steady = drop > 0.04 and record.trend() < -4
    if math.isfinite(reference):
        before, now = record.level()
        if now < 0.8 * reference:
            return True
        if before > 2 * reference:  # a fall from far above proves nothing yet
            return bool(now < 0.95 * reference or (n < 80 and steady and drop > 0.5 and now < 1.5 * reference))
        return bool(now < 1.05 * reference and (steady or (now < (0.93 + error / 2) * reference and drop > 0.05)))
    if n < 16:
        return drop > 0.3
    return drop > 0.25 or (drop > 0.04 and record.trend() < -6) or (drop > 0.1 and record.trend() < -3)


def finding(
    f: Facts,
    symptom: str,
    cause: str,
    severity: str,
    score: float,
    k: int | None = None,
    units: Any = None,
    **evidence: Any,
) -> Finding:
    name = f.record.layers[k].name if k is not None else ""
    chosen = tuple(int(u) for u in np.flatnonzero(units)[:1000]) if units is not None else ()
    evidence |= {"loss_drop": f.drop, "steps": f.steps}
    return Finding(symptom, cause, severity, name, chosen, f.steps, evidence, REMEDIES[cause], score)


def input_cause(f: Facts) -> str | None:
    """What is wrong with the inputs, if anything: their scale, one feature's scale, or their offset."""
    return _input_cause(f.input_std, f.input_shift, f.input_spread, f.record.entry())


def _input_cause(std: float, shift: float, spread: float, entry: float) -> str | None:
    # What a first layer makes small numbers of was divided before it, by the model itself: torch's start puts out 0.6 of what comes in.
    if (std > 8 and not entry < _SMALL) or (spread > 100 and std * spread > 10):
        return "unscaled_input"
    if std < 0.02 and shift < 20:
        return "unscaled_input"
    if shift > 4 and std > 0.05:
        return "shifted_input"
    return None


def init_cause(f: Facts) -> str | None:
    """Weights far too large or too small at the start; torch's own default is 0.41 of He's deviation."""
    scale = f.weight_scale[np.isfinite(f.weight_scale)]
    if len(scale) and (np.median(scale) > 2.5 or scale.max() > 5):
        return "bad_initialization"
    if len(scale) and (np.median(scale) < 0.15 or scale[:-1].min(initial=1.0) < 0.05):
        return "bad_initialization"
    return None


def target_cause(f: Facts) -> str | None:
    """Whether the targets' size, which the loss shows, is far from what a fresh network puts out.

    Of several batches the median counts: one large claim makes a batch of small ones wide.
    """
    t = f.target
    if t is None or not math.isfinite(t.mean):
        return None
    told = [a.target for a in f.record.activity if a.target is not None and math.isfinite(a.target.mean)]
    spreads = [other.std for other in told if math.isfinite(other.std)]
    mean = float(np.median([other.mean for other in told]))
    unit, middle = f.record.scale
    spread = float(np.median(spreads)) / unit if spreads else 0.0
    return "unscaled_target" if spread > 8 or abs(mean - middle) / unit > 8 * max(1.0, spread) else None
