"""From a record of training to findings: symptom, cause, evidence in numbers, remedies in order.

Thresholds come from the experiments behind `benchmarks/sick.py` (its development half) and from published runs: healthy
networks end with 6-35 % silent units and a first-to-last gradient ratio of 0.1-4, sick ones with 40-100 % and below 1e-5.
A run that learns gets no error, whatever its units do.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from relukit.monitoring._layers import LEAKY, RELU_LIKE
from relukit.monitoring._record import Record

SYMPTOMS = ("dying_relu", "vanishing_gradient", "exploding", "dead_output", "slow_learning", "oscillating")
CAUSES = (
    "bad_initialization", "learning_rate_too_high", "learning_rate_too_low", "unscaled_input", "shifted_input",
    "saturating_activation", "negative_bias", "too_deep_for_init", "too_narrow", "wrong_output_layer", "loss_mismatch",
    "bad_input_data", "unscaled_target",
)  # fmt: skip

REMEDIES = {
    "negative_bias": ("reset_biases", "revive_dead_units", "leaky_activation"),
    "bad_initialization": ("reinitialize", "revive_dead_units", "normalization"),
    "learning_rate_too_high": ("lower_learning_rate", "clip_gradients", "revive_dead_units"),
    "learning_rate_too_low": ("raise_learning_rate",),
    "unscaled_input": ("standardize_input", "reinitialize"),
    "shifted_input": ("standardize_input", "revive_dead_units"),
    "saturating_activation": ("relu_activation", "reinitialize", "normalization"),
    "too_deep_for_init": ("reinitialize", "normalization", "skip_connections"),
    "too_narrow": ("leaky_activation", "reinitialize", "widen"),
    "wrong_output_layer": ("remove_output_activation",),
    "loss_mismatch": ("change_loss",),
    "bad_input_data": ("clean_input",),
    "unscaled_target": ("scale_target", "lower_learning_rate", "clip_gradients"),
}


@dataclass(frozen=True)
class Finding:
    """A verdict.

    Arguments:
        symptom: One of `SYMPTOMS`.
        cause: One of `CAUSES`; "" for a finished network, which does not tell.
        severity: `error`: the run does not learn as it could; `note`: worth knowing.
        layer: Name of the layer where it shows most, or "".
        units: Numbers of the units concerned (at most 1,000 of them).
        since_step: First step at which it was seen.
        evidence: The numbers it rests on.
        remedies: Names of cures, best first; `Watch.fix` applies the first one that it can.
        score: How sure; findings are ranked by severity and score.
    """

    symptom: str
    cause: str
    severity: str
    layer: str = ""
    units: tuple[int, ...] = ()
    since_step: int = 0
    evidence: dict[str, Any] = field(default_factory=dict)
    remedies: tuple[str, ...] = ()
    score: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return {
            "symptom": self.symptom, "cause": self.cause, "severity": self.severity, "layer": self.layer,
            "units": list(self.units), "since_step": self.since_step, "evidence": self.evidence,
            "remedies": list(self.remedies),
        }  # fmt: skip

    def __str__(self) -> str:
        numbers = ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in self.evidence.items())
        where = f" at {self.layer}" if self.layer else ""
        return f"{self.severity}: {self.symptom}{where}{f', since step {self.since_step}' if self.since_step else ''}; {f'cause: {self.cause} ' if self.cause else ''}({numbers}); try {', '.join(self.remedies) or 'nothing'}"


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
    std = seen.input_std if seen is not None else np.ones(1)
    mean = seen.input_mean if seen is not None else np.zeros(1)
    live = std[std > 1e-12] if np.any(std > 1e-12) else np.ones(1)
    scale = np.array(
        [
            record.start["weight_std"][k] * math.sqrt(layers[k].fan_in / 2) if "weight_std" in record.start else 1.0
            for k in weights
        ]
    )
    act = record.activity[-1] if record.activity else None
    rms = [act.rms[k] for k in hidden if k in act.rms] if act else []
    saturated = [act.saturated[k] for k in act.saturated if k in hidden] if act else []
    losses = np.asarray(record.losses[-50:])
    drop = record.drop()
    known = [a.constant_loss for a in record.activity if math.isfinite(a.constant_loss)]
    reference = max(float(np.mean(known)), 1e-9) if known else math.nan
    return Facts(
        record,
        record.step,
        drop,
        _learns(record, drop, reference),
        silent,
        early,
        float(np.median(steep[-4:])) if steep else math.nan,
        steep[0] if steep else math.nan,
        zero,
        float(np.nanmax(updates[weights])) if np.any(np.isfinite(updates[weights])) else math.nan,
        float(np.nanmedian(updates[weights])) if np.any(np.isfinite(updates[weights])) else math.nan,
        float(np.median(live)),
        float(np.median(np.abs(mean) / np.maximum(std, 1e-12)))
        if seen is not None and len(live) > len(std) / 2
        else 0.0,
        float(live.max() / np.median(live)),
        seen.input_finite if seen is not None else True,
        scale,
        hidden,
        set(record.kinds) | {layer.activation for layer in layers if layer.activation},
        rms[-1] / max(rms[0], 1e-30) if len(rms) > 1 else 1.0,
        max(saturated, default=0.0),
        bool(np.all(np.isfinite(losses))),
        record.level()[1] / reference if record.step >= 5 else math.nan,
        record.losses[0] / reference,
    )


def _gradient_ratio(sample: Any, weights: list[int]) -> float:
    """Relative gradient (norm over weight norm) of the first layer over that of the last."""
    if len(weights) < 2:
        return math.nan
    with np.errstate(invalid="ignore"):
        rel = sample.grad[weights] / np.maximum(sample.weight[weights], 1e-30)
    first, last = rel[0], rel[-1]
    return float(first / last) if np.isfinite(first) and np.isfinite(last) and last > 0 else math.nan


def _learns(record: Record, drop: float, reference: float) -> bool:
    """Whether the loss falls as it should by now: below what a constant output reaches, or steadily on its way."""
    n = record.step
    if not math.isfinite(drop):
        return False
    steady = drop > 0.04 and record.trend() < -4
    if math.isfinite(reference):
        before, now = record.level()
        if now < 0.8 * reference:
            return True
        if before > 2 * reference:  # a fall from far above proves nothing yet
            return bool(now < 0.95 * reference or (n < 80 and steady and drop > 0.5 and now < 1.5 * reference))
        return bool(now < 1.05 * reference and (steady or (now < 0.93 * reference and drop > 0.05)))
    if n < 16:
        return drop > 0.3
    return drop > 0.25 or (drop > 0.04 and record.trend() < -6) or (drop > 0.1 and record.trend() < -3)


def diagnose(record: Record) -> list[Finding]:
    """All findings of a record, worst first."""
    if record.step < 1 or not record.samples:
        return []
    facts = facts_of(record)
    found = [f for rule in RULES for f in rule(facts)]
    order = {"error": 0, "note": 1}
    return sorted(found, key=lambda f: (order[f.severity], -f.score))


def _finding(
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


def _input_cause(f: Facts) -> str | None:
    """What is wrong with the inputs, if anything: their scale, one feature's scale, or their offset."""
    if f.input_std > 8 or (f.input_spread > 100 and f.input_std * f.input_spread > 10):
        return "unscaled_input"
    if f.input_std < 0.02 and f.input_shift < 20:
        return "unscaled_input"
    if f.input_shift > 4 and f.input_std > 0.05:
        return "shifted_input"
    return None


def _init_cause(f: Facts) -> str | None:
    """Weights far too large or too small at the start; torch's own default is 0.41 of He's deviation."""
    scale = f.weight_scale[np.isfinite(f.weight_scale)]
    if len(scale) and (np.median(scale) > 2.5 or scale.max() > 5):
        return "bad_initialization"
    if len(scale) and (np.median(scale) < 0.15 or scale[:-1].min(initial=1.0) < 0.05):
        return "bad_initialization"
    return None


def exploding(f: Facts) -> list[Finding]:
    """Non-finite numbers, or a loss far above where it began."""
    last = f.record.losses[-1]
    worst = max((abs(v) for v in f.record.losses if math.isfinite(v)), default=0.0)
    gradients = [float(np.nanmax(s.grad)) for s in f.record.samples if np.any(np.isfinite(s.grad))]
    steep, first = max(gradients, default=0.0), gradients[0] if gradients else 0.0
    begin = f.record.losses[0] if math.isfinite(f.record.losses[0]) else math.inf
    blown = not f.finite
    grown = f.steps >= 8 and (f.drop < -3 or worst > 30 * max(begin, 1e-9))
    huge = f.steps >= 4 and (steep > 1e4 or f.level_at_start > 12 or f.level > 12)
    if not (blown or ((grown or huge) and not f.learning)):
        return []
    at_start = f.level_at_start > 8 or (not math.isfinite(f.level_at_start) and first > 1e3)
    evidence = {
        "loss": float(last) if math.isfinite(last) else str(last),
        "largest_gradient": steep,
        "largest_loss": worst,
    }
    place = next((a.first_non_finite for a in f.record.activity if a.first_non_finite), "")
    if place:
        evidence["first_non_finite"] = place
    if not f.input_finite:
        return [_finding(f, "exploding", "bad_input_data", "error", 100, **evidence)]
    scale = f.weight_scale[np.isfinite(f.weight_scale)]
    large = len(scale) and (np.median(scale) > 1.6 or scale.max() > 4)
    cause = _input_cause(f)
    if cause is None:
        cause = "bad_initialization" if large or (at_start and f.growth > 30) else "learning_rate_too_high"
        if at_start and cause == "learning_rate_too_high":
            cause = "unscaled_target"
    return [_finding(f, "exploding", cause, "error", 90, **evidence)]


def dead_output(f: Facts) -> list[Finding]:
    """The output passes no gradient: nothing before it can learn."""
    record = f.record
    weights = [k for k, layer in enumerate(record.layers) if not layer.norm]
    last = weights[-1]
    chain = record.chain
    head = chain[2:] if chain[:1] == ["NllLoss"] else chain[1:]
    bent = [
        c for c in head if c in ("Relu", "Softmax", "Sigmoid", "Tanh", "ClampMin", "Threshold", "Clamp", "Hardtanh")
    ]
    silent = record.samples[-1].silent[last]
    share = float(f.silent[last]) if np.isfinite(f.silent[last]) else 0.0
    outputs = record.activity[-1].outputs if record.activity else np.zeros((0, 1))
    loss_name = chain[0] if chain else ""
    single = record.layers[last].units == 1
    evidence = {"output_chain": " < ".join(chain[:4]), "silent_outputs": share}
    if "Softmax" in head and single:
        return [_finding(f, "dead_output", "wrong_output_layer", "error", 80, last, **evidence)]
    if share >= 0.99 and f.steps >= 3:
        cause = "wrong_output_layer" if bent else (_input_cause(f) or _init_cause(f) or "loss_mismatch")
        return [_finding(f, "dead_output", cause, "error", 80, last, silent, **evidence)]
    if f.learning:
        return []
    if f.steps >= 12 and bent and bent[0] in ("Relu", "ClampMin", "Threshold") and share > 0.3:
        return [_finding(f, "dead_output", "wrong_output_layer", "error", 75, last, silent, **evidence)]
    flat = (
        len(outputs) > 1
        and np.all(np.isfinite(outputs))
        and bent
        and bent[0] in ("Sigmoid", "Tanh", "Clamp", "Hardtanh")
    )
    if f.steps >= 12 and flat and loss_name in ("MseLoss", "SmoothL1Loss", "L1Loss", "HuberLoss"):
        stuck = (
            float(np.mean(np.abs(outputs) > 0.95))
            if bent[0] != "Sigmoid"
            else float(np.mean((outputs > 0.95) | (outputs < 0.05)))
        )
        if stuck > 0.9:
            return [
                _finding(f, "dead_output", "wrong_output_layer", "error", 74, last, saturated_outputs=stuck, **evidence)
            ]
    return []


def wrong_output(f: Facts) -> list[Finding]:
    """An output layer that does not fit the loss: softmax before cross-entropy, sigmoid before a loss on logits."""
    chain = f.record.chain
    bad = ""
    if (
        chain[:2] == ["NllLoss", "LogSoftmax"]
        and len(chain) > 2
        and chain[2] in ("Softmax", "LogSoftmax", "Sigmoid", "Relu")
    ):
        bad = f"{chain[2]} before cross-entropy"
    if chain[:1] == ["BinaryCrossEntropyWithLogits"] and any(c in ("Sigmoid", "Relu", "Softmax") for c in chain[1:3]):
        bad = f"{next(c for c in chain[1:3] if c in ('Sigmoid', 'Relu', 'Softmax'))} before a loss that takes logits"
    if chain[:1] == ["NllLoss"] and "LogSoftmax" not in chain and "Log" not in chain:
        bad = "NLLLoss without log-probabilities"
    if not bad or f.steps < 8:
        return []
    return [_finding(f, "slow_learning", "wrong_output_layer", "error", 60, detail=bad)]


def dying_relu(f: Facts) -> list[Finding]:
    """Units that no row switches on, so many that the network cannot learn."""
    gates = bool(f.kinds & RELU_LIKE)
    shares = f.silent[f.hidden] if f.hidden else np.zeros(0)
    if not gates or not np.any(np.isfinite(shares)) or f.steps < 3:
        return []
    worst = f.hidden[int(np.nanargmax(shares))]
    share, mean = float(np.nanmax(shares)), float(np.nanmean(shares))
    if not (share >= 0.75 or mean >= 0.5):
        return []
    from relukit.monitoring.watch import recently_silent

    scale = f.weight_scale[:-1]
    if len(scale) and 0 < np.median(scale) < 0.1:
        return []  # the gradient is 0 because it underflows: that is vanishing
    units = recently_silent(f.record, worst)
    born = float(np.max(np.nan_to_num(f.silent_at_start[f.hidden])))
    evidence = {"silent_share_worst_layer": share, "silent_share_all": mean, "silent_at_start": born}
    severity = "note" if f.learning else "error"
    if severity == "error" and share < 0.999 and (f.steps < 16 or f.drop > 0.15):
        severity = "note"
    cause = _dying_cause(f, born, worst)
    if f.input_std < 0.02 and cause == "unscaled_input":
        return [_finding(f, "slow_learning", cause, severity, 66, input_std=f.input_std)]
    if cause == "too_deep_for_init":  # what dies there dies of signals that fade
        evidence |= {"gradient_first_over_last": f.ratio, "depth": len(f.hidden) + 1}
        return [_finding(f, "vanishing_gradient", cause, severity, 70 + 5 * share, worst, units, **evidence)]
    return [_finding(f, "dying_relu", cause, severity, 70 + 5 * share, worst, units, **evidence)]


def _dying_cause(f: Facts, born: float, worst: int) -> str:
    start = f.record.start
    bias = start["bias_mean"][f.hidden] if "bias_mean" in start else np.zeros(1)
    # A bias counts as negative where it lies below what a standardized input can lift.
    lift = (
        start["weight_std"][f.hidden] * np.sqrt([f.record.layers[k].fan_in for k in f.hidden]) * max(f.input_std, 1e-3)
    )
    pushed = float(np.mean((bias < -1.2 * np.maximum(lift, 0.2)) & (bias < -0.3))) > (0.5 if len(f.hidden) > 3 else 0.2)
    narrow = min(f.record.layers[k].units for k in f.hidden) <= 4 and len(f.hidden) >= 4
    weighted = np.abs(start["weight_mean"][f.hidden]) > 0.5 * np.maximum(start["weight_std"][f.hidden], 1e-12)
    if f.input_std < 0.02 and _input_cause(f):
        return "unscaled_input"
    if born > 0.6:
        if pushed:
            return "negative_bias"
        if narrow:
            return "too_narrow"
        if bool(np.any(weighted)) or _init_cause(f) is not None:
            return "bad_initialization"
        cause = _input_cause(f)
        if cause:
            return cause
        return "too_deep_for_init" if len(f.hidden) >= 10 else "bad_initialization"
    if pushed:
        return "negative_bias"
    cause = _input_cause(f)
    if cause:
        return cause
    if bool(np.any(weighted)):
        return "bad_initialization"
    return "learning_rate_too_high"


def vanishing(f: Facts) -> list[Finding]:
    """The first layers get next to no gradient."""
    if f.learning or not math.isfinite(f.ratio) or f.steps < 3 or not f.hidden:
        return []
    typical = float(np.median(f.weight_scale[:-1]))
    if typical < 0.08 and f.steps >= 8 and f.drop < 0.1:
        faint = {"weight_scale_over_he": typical, "gradient_first_over_last": f.ratio}
        return [_finding(f, "vanishing_gradient", "bad_initialization", "error", 66, f.hidden[0], **faint)]
    if len(f.hidden) < 2:
        return []
    limit = 2e-3 if f.steps >= 12 else 1e-5
    absolute = float(np.median(np.nan_to_num(f.record.samples[-1].grad[f.hidden]))) if f.hidden else 1.0
    fading = min(f.ratio, f.first_ratio * 3) <= limit or (f.ratio <= limit and f.steps > 30)
    if not (fading or f.zero_gradient or absolute < 1e-9):
        return []
    saturating = bool(f.kinds & {"Sigmoid", "Tanh", "Hardsigmoid", "Hardtanh"}) and not f.kinds & (
        RELU_LIKE - {"Hardtanh", "Hardsigmoid"}
    )
    saturating = saturating and not f.kinds & LEAKY
    narrow = min(f.record.layers[k].units for k in f.hidden) <= 4
    cause = _init_cause(f)
    if f.input_std < 0.02 and _input_cause(f):
        return [_finding(f, "slow_learning", "unscaled_input", "error", 66, input_std=f.input_std)]
    if saturating:
        wide = f.saturated > 0.5
        inputs = _input_cause(f)
        if inputs and wide:
            cause = inputs
        elif cause is None or (not wide and f.weight_scale.max() < 2.5 and f.weight_scale[:-1].min() > 0.15):
            cause = "saturating_activation"
    elif cause is None:
        cause = (
            "too_narrow"
            if narrow and len(f.hidden) >= 4
            else "too_deep_for_init"
            if len(f.hidden) >= 8
            else _input_cause(f) or "bad_initialization"
        )
    evidence = {
        "gradient_first_over_last": f.ratio,
        "weight_scale_over_he": float(np.median(f.weight_scale)),
        "depth": len(f.hidden) + 1,
    }
    return [_finding(f, "vanishing_gradient", cause, "error", 65, f.hidden[0], **evidence)]


def oscillating(f: Facts) -> list[Finding]:
    """The loss jumps about without falling, and each step moves the weights by percents."""
    losses = np.asarray(f.record.losses[-max(24, f.steps // 2) :])
    if (f.learning and f.drop > 0.25) or f.steps < 24 or not np.all(np.isfinite(losses)):
        return []
    level = abs(float(np.median(losses)))
    jump = float(np.median(np.abs(np.diff(losses)))) / max(level, 1e-12)
    spread = float(np.subtract(*np.percentile(losses, [90, 10]))) / max(level, 1e-12)
    fast = math.isfinite(f.update) and f.update > 0.05
    above = f.record.level()[1] > 1.15 * abs(f.record.level()[0]) or f.level > 1.05
    if not (fast and (jump > 0.12 or spread > 0.5 or above)) and not (above and spread > 1 and f.update > 0.02):
        return []
    scale = f.weight_scale[np.isfinite(f.weight_scale)]
    large = len(scale) and np.median(scale) > 2.5
    cause = _input_cause(f) or ("bad_initialization" if large else None)
    evidence = {"median_jump": jump, "spread": spread, "update_over_weight": f.update}
    return [_finding(f, "oscillating", cause or "learning_rate_too_high", "error", 50 + min(spread, 5), **evidence)]


def slow(f: Facts) -> list[Finding]:
    """The loss stands still, or falls so slowly that a thousand steps would not do."""
    if f.learning or f.steps < 32 or not f.finite or (f.drop > 0.04 and not f.level > 0.95):
        return []
    update = f.update
    evidence = {"update_over_weight": update, "input_std": f.input_std}
    if math.isfinite(update) and update < 3e-4:
        small = f.input_std < 0.03
        cause = "unscaled_input" if small and update > 1e-5 else _init_cause(f) or "learning_rate_too_low"
        return [_finding(f, "slow_learning", cause, "error", 45, **evidence)]
    if f.input_std < 0.03:
        return [_finding(f, "slow_learning", "unscaled_input", "error", 44, **evidence)]
    cause = _input_cause(f) or _init_cause(f)
    if cause:
        return [_finding(f, "slow_learning", cause, "error", 42, **evidence)]
    narrow = bool(f.hidden) and min(f.record.layers[k].units for k in f.hidden) <= 3
    if f.steps >= 40 and narrow:
        return [_finding(f, "slow_learning", "too_narrow", "error", 36, **evidence)]
    if f.steps >= 64 and math.isfinite(update) and update > 0.02:
        return [_finding(f, "slow_learning", "learning_rate_too_high", "error", 40, **evidence)]
    if f.steps >= 64 and math.isfinite(update) and update < 1e-3:
        return [_finding(f, "slow_learning", "learning_rate_too_low", "error", 38, **evidence)]
    return []


RULES: tuple[Callable[[Facts], list[Finding]], ...] = (
    exploding,
    dead_output,
    wrong_output,
    dying_relu,
    vanishing,
    oscillating,
    slow,
)
