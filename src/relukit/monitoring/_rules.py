"""From a record of training to findings: symptom, cause, evidence in numbers, remedies in order.

Thresholds come from the experiments behind `benchmarks/sick.py` (its development half) and from published runs: healthy
networks end with 6-35 % silent units and a first-to-last gradient ratio of 0.1-4, sick ones with 40-100 % and below 1e-5.
A run that learns gets no error, whatever its units do.
"""

import math
from collections.abc import Callable

import numpy as np

from relukit.monitoring._facts import Facts, facts_of, finding, init_cause, input_cause, target_cause
from relukit.monitoring._finding import Finding
from relukit.monitoring._layers import LEAKY, RELU_LIKE, SATURATING
from relukit.monitoring._loop_rules import LOOP_RULES
from relukit.monitoring._output_rules import OUTPUT_RULES
from relukit.monitoring._record import Record
from relukit.monitoring._regularization import regularized
from relukit.monitoring._scale_rules import held_back, leapt, same_weights


def diagnose(record: Record) -> list[Finding]:
    """All findings of a record, worst first."""
    if record.step < 1 or not record.samples:
        return []
    facts = facts_of(record)
    found = [f for rule in RULES for f in rule(facts)]
    order = {"error": 0, "note": 1}
    return sorted(found, key=lambda f: (order[f.severity], -f.score))


def first_seen(record: Record, wanted: set[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """The step at which each of these pairs of symptom and cause is told first, from what the record held by then.

    Findings may be read once, after training; what they say of when it began must not hang on that. Steps are tried at distances
    that grow by a quarter.
    """
    left, since, n = set(wanted), {}, 4
    while left and n < record.step:
        told = {(f.symptom, f.cause) for f in diagnose(record.until(n))}
        since |= dict.fromkeys(left & told, record.before + n)
        left -= told
        n += max(1, n // 4)
    return since | dict.fromkeys(left, record.before + record.step)


def exploding(f: Facts) -> list[Finding]:
    """Non-finite numbers, or a loss far above where it began."""
    last, smooth = f.record.losses[-1], f.record.smooth()
    worst = max((abs(float(v)) for v in smooth if math.isfinite(v)), default=0.0)
    gradients = [float(np.nanmax(s.grad)) for s in f.record.samples if np.any(np.isfinite(s.grad))]
    steep, first = max(gradients, default=0.0), gradients[0] if gradients else 0.0
    begin = f.record.size(float(smooth[0])) if math.isfinite(smooth[0]) else math.inf
    blown = not f.finite
    over = len(smooth) >= 8 and bool(np.max(smooth[-2:]) < 0.9 * begin)  # a spike that is gone
    # Losses that follow goals of their own, as of Q values, grow from near 0 with small steps through small gradients.
    driven = f.first_update > 0.1 or steep > 10
    grown = f.steps >= 8 and driven and not over and (f.drop < -3 or worst > 30 * max(begin, 1e-9))
    far = f.reference / _yard(f)  # rare classes have a constant's loss far below that of a fresh network
    huge = f.steps >= 4 and (steep > 1e4 or far * max(np.nan_to_num([f.level_at_start, f.level])) > 12)
    if not (blown or ((grown or huge) and not f.learning)):
        return []
    at_start = far * f.level_at_start > 8 or (not math.isfinite(f.level_at_start) and first > 1e3)
    evidence = {
        "loss": float(last) if math.isfinite(last) else str(last),
        "largest_gradient": steep,
        "largest_loss": max((abs(v) for v in f.record.losses if math.isfinite(v)), default=0.0),
    }
    place = next((a.first_non_finite for a in f.record.activity if a.first_non_finite), "")
    if place:
        evidence["first_non_finite"] = place
    if not f.input_finite or _out_of_nothing(f):
        return [finding(f, "exploding", "bad_input_data", "error", 100, **evidence)]
    scale = f.weight_scale[np.isfinite(f.weight_scale)]
    large = len(scale) and (np.median(scale) > 1.6 or scale.max() > 4)
    cause = input_cause(f)
    if cause is None:
        cause = (
            "bad_initialization"
            if large or (at_start and f.growth > 30)
            else target_cause(f) or "learning_rate_too_high"
        )
        if at_start and cause == "learning_rate_too_high":
            # Classes and probabilities have no size: what is far too large there are the outputs of the first weights.
            cause = "bad_initialization" if getattr(f.target, "shares", None) else "unscaled_target"
    return [finding(f, "exploding", cause, "error", 90, **evidence)]


def _yard(f: Facts) -> float:
    """Loss that large ones are measured by: a constant's, of classes at least that of equal shares."""
    shares = getattr(f.target, "shares", None)
    if not shares:
        return f.reference
    return max(f.reference, 0.6 if f.target.binary else math.log(max(len(shares), 2)))


def _out_of_nothing(f: Facts) -> bool:
    """Whether sound losses of small steps turned into none at once: a row or a target is missing or infinite.

    What large steps do shows beforehand, in the loss, in gradients or in how far the weights moved.
    """
    losses = np.asarray(f.record.losses)
    broken = np.flatnonzero(~np.isfinite(losses))
    if not len(broken):
        return False
    at = int(broken[0]) + f.record.before + 1
    # Infinite is what overflows, unless outputs of usual size, whose squares are far from float32's end, are compared with something infinite.
    if np.isinf(losses[broken[0]]):
        look = next((a for a in f.record.activity if a.step == at and len(a.outputs)), None)
        usual = look is not None and bool(np.all(np.abs(look.outputs) < 1e4))
        return usual and f.record.chain[:1] in (["MseLoss"], ["L1Loss"], ["SmoothL1Loss"], ["HuberLoss"])
    sound, samples = losses[: broken[0]], [s for s in f.record.samples if s.step < at]
    updates = [u for step, u in f.record.updates if step < at - 1 and np.any(np.isfinite(u))]
    first = next((a for a in f.record.activity if a.step == at), None)
    if not len(sound):  # from the first step on: where the outputs are numbers, the targets are none
        return first is not None and len(first.outputs) > 0 and bool(np.all(np.isfinite(first.outputs)))
    grads = [float(np.nanmax(s.grad)) for s in samples if np.any(np.isfinite(s.grad))]
    steep = len(grads) > 1 and max(grads) > 30 * grads[0]
    large = any(float(np.nanmax(u)) > 0.5 for u in updates)
    return float(np.max(sound)) < 3 * abs(float(sound[0])) + 1e-9 and not steep and not large


def dying_relu(f: Facts) -> list[Finding]:
    """Units that no row switches on, so many that the network cannot learn."""
    # A compiled model shows no kinds; that units get exactly no gradient speaks for gates there.
    gates = bool(f.kinds & RELU_LIKE) or not f.kinds & (LEAKY | SATURATING)
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
        return [finding(f, "slow_learning", cause, severity, 66, input_std=f.input_std)]
    if cause == "too_deep_for_init":  # what dies there dies of signals that fade
        evidence |= {"gradient_first_over_last": f.ratio, "depth": len(f.hidden) + 1}
        return [finding(f, "vanishing_gradient", cause, severity, 70 + 5 * share, worst, units, **evidence)]
    return [finding(f, "dying_relu", cause, severity, 70 + 5 * share, worst, units, **evidence)]


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
    if f.input_std < 0.02 and input_cause(f):
        return "unscaled_input"
    if born > 0.6:
        if pushed:
            return "negative_bias"
        if narrow:
            return "too_narrow"
        if bool(np.any(weighted)) or init_cause(f) is not None:
            return "bad_initialization"
        cause = input_cause(f)
        if cause:
            return cause
        return "too_deep_for_init" if len(f.hidden) >= 10 else "bad_initialization"
    if pushed:
        return "negative_bias"
    cause = input_cause(f)
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
        return [finding(f, "vanishing_gradient", "bad_initialization", "error", 66, f.hidden[0], **faint)]
    if len(f.hidden) < 2:
        return []
    limit = 2e-3 if f.steps >= 12 else 1e-5
    absolute = float(np.median(np.nan_to_num(f.record.samples[-1].grad[f.hidden]))) if f.hidden else 1.0
    fitted = f.record.loss_at(f.record.samples[-1].step) < 0.1 * f.reference  # nothing left to learn there
    fading = min(f.ratio, f.first_ratio * 3) <= limit or (f.ratio <= limit and f.steps > 30)
    if not (fading or ((f.zero_gradient or absolute < 1e-9) and not fitted)):
        return []
    saturating = bool(f.kinds & {"Sigmoid", "Tanh", "Hardsigmoid", "Hardtanh"}) and not f.kinds & (
        RELU_LIKE - {"Hardtanh", "Hardsigmoid"}
    )
    saturating = saturating and not f.kinds & LEAKY
    narrow = min(f.record.layers[k].units for k in f.hidden) <= 4
    cause = init_cause(f)
    if f.input_std < 0.02 and input_cause(f):
        return [finding(f, "slow_learning", "unscaled_input", "error", 66, input_std=f.input_std)]
    if cause is None and input_cause(f) is None and f.first_update > 0.5 and f.first_ratio > 10 * limit:
        return _destroyed(f)
    if saturating:
        wide = f.saturated > 0.5
        inputs = input_cause(f)
        if inputs and wide:
            cause = inputs
        elif cause is None or (not wide and f.weight_scale.max() < 2.5 and f.weight_scale[:-1].min() > 0.15):
            cause = "saturating_activation"
    elif cause is None:
        plain = len(f.hidden) < 8 and not narrow and input_cause(f) is None
        if plain and f.ratio > limit / 10 and not f.zero_gradient and absolute > 1e-9:
            return []  # usual weights, usual inputs, a few layers: such a net begins slowly, and does begin
        cause = (
            "too_narrow"
            if narrow and len(f.hidden) >= 4
            else "too_deep_for_init"
            if len(f.hidden) >= 8
            else input_cause(f) or "bad_initialization"
        )
    evidence = {
        "gradient_first_over_last": f.ratio,
        "weight_scale_over_he": float(np.median(f.weight_scale)),
        "depth": len(f.hidden) + 1,
    }
    return [finding(f, "vanishing_gradient", cause, "error", 65, f.hidden[0], **evidence)]


def _destroyed(f: Facts) -> list[Finding]:
    """Gradients that faded after steps as large as the weights themselves: the rate did it, not the network."""
    losses = f.record.losses
    jumped = max(losses[1:], default=0.0) > 1.5 * losses[0]
    evidence = {
        "largest_update_over_weight": f.first_update,
        "largest_loss": max(losses),
        "gradient_first_over_last": f.ratio,
    }
    symptom = "oscillating" if jumped else "slow_learning"
    return [finding(f, symptom, "learning_rate_too_high", "error", 65, **evidence)]


def oscillating(f: Facts) -> list[Finding]:
    """The loss jumps about without falling, and each step moves the weights by percents."""
    losses = f.record.smooth()[-max(24, f.steps // 2) :]
    ahead = f.learning and (f.drop > 0.25 or f.level < 0.93 + f.level_error / 2 or f.settled)
    if ahead or f.steps < 24 or not np.all(np.isfinite(losses)):
        return []
    jump, spread = f.record.unrest(len(losses))
    fast = math.isfinite(f.update) and f.update > 0.05
    # Batches of other rows have other losses, though nothing moves: by `chance` in deviation.
    chance, recent = f.record.scatter(), max(5, int(0.15 * f.steps))
    first, last = f.record.level()
    above = last > abs(first) * (1.15 + 2 * chance * math.sqrt(1 / 3 + 1 / recent))
    above = above or f.level > 1.05 + f.level_error + 2 * chance / math.sqrt(recent)
    # Losses that follow goals of their own grow from near 0 with small steps; rare classes begin far above a constant's and come down.
    driven = f.first_update > 0.1 or math.isfinite(f.level)
    above = above and driven and not (f.drop > 0.5 and f.record.trend() < -4)
    rough = jump > max(0.12, 1.7 * chance) or spread > max(0.5, 4.5 * chance)
    if not (fast and (rough or above)) and not (above and spread > max(1, 4.5 * chance) and f.update > 0.02):
        return []
    scale = f.weight_scale[np.isfinite(f.weight_scale)]
    large = len(scale) and np.median(scale) > 2.5
    cause = input_cause(f) or ("bad_initialization" if large else None)
    evidence = {"median_jump": jump, "spread": spread, "update_over_weight": f.update}
    return [finding(f, "oscillating", cause or "learning_rate_too_high", "error", 50 + min(spread, 5), **evidence)]


def slow(f: Facts) -> list[Finding]:
    """The loss stands still, or falls so slowly that a thousand steps would not do."""
    if f.learning or f.steps < 32 or not f.finite:
        return []
    if f.drop > 0.04 and not f.level > 0.95 and not f.stalled and not (f.overshoots and math.isnan(f.level)):
        return []
    update = f.update
    evidence = {"update_over_weight": update, "input_std": f.input_std}
    rates = [s.rate for s in f.record.samples if s.rate > 0]
    if 3e-4 <= update < 1e-3 and len(rates) > 1 and rates[-1] > 1.2 * min(rates) and rates[-1] >= max(rates[1:]):
        return []  # a warm-up is on its way, and comes to steps of a usual size soon
    if math.isfinite(update) and update < 3e-4:
        small = f.input_std < 0.03
        cause = "unscaled_input" if small and update > 1e-5 else init_cause(f) or "learning_rate_too_low"
        return [finding(f, "slow_learning", cause, "error", 45, **evidence)]
    if f.input_std < 0.03:
        return [finding(f, "slow_learning", "unscaled_input", "error", 44, **evidence)]
    cause = input_cause(f) or init_cause(f)
    if cause:
        return [finding(f, "slow_learning", cause, "error", 42, **evidence)]
    if f.overshoots and f.first_update > 0.5:
        evidence["largest_update_over_weight"] = f.first_update
        return [finding(f, "slow_learning", "learning_rate_too_high", "error", 41, **evidence)]
    if f.record.memory >= 100 and f.record.memory > f.steps:  # each step goes where gradients pointed long before
        evidence["steps_that_momentum_averages_over"] = f.record.memory
        return [finding(f, "slow_learning", "learning_rate_too_high", "error", 40, **evidence)]
    narrow = bool(f.hidden) and min(f.record.layers[k].units for k in f.hidden) <= 3
    if f.steps >= 40 and narrow:
        return [finding(f, "slow_learning", "too_narrow", "error", 36, **evidence)]
    unrelated = _unrelated(f)
    if f.steps >= 64 and _enough(f) and math.isfinite(update) and update > (0.06 if f.first_update < 0.5 else 0.02):
        return [finding(f, "slow_learning", "learning_rate_too_high", "error", 40, **evidence)]
    if f.steps >= 48 and math.isfinite(update) and update < 1e-3:
        return [finding(f, "slow_learning", "learning_rate_too_low", "error", 38, **evidence)]
    if unrelated:
        drift = f.record.drift()
        evidence |= {
            "loss_over_best_constant": f.level,
            "way_over_random_walk": drift,
            "detail": "targets show no relation to their rows",
        }
        # Where steps agree on where to go there is something to learn: a weak signal, or a slow start.
        severity = "note" if drift > _AGREED else "error"
        return [finding(f, "slow_learning", "bad_input_data", severity, 30, **evidence)]
    return []


# Way over that of a random walk (`Record.drift`): 0.4 to 0.8 on shuffled targets, 1.0 to 1.9 on weak signals and slow starts.
_AGREED = 0.9


def _enough(f: Facts) -> bool:
    """Whether the rows seen and the way that the weights came should have shown something.

    64 steps of 64 rows are enough once the weights moved by their own size, fewer the farther they moved; tokens, whose embeddings
    start apart from each other, take three times as many.
    """
    looks = f.record.activity
    rows_told = f.target.rows if f.target is not None else 0  # tokens each have a target
    rows = max(len(looks[0].outputs), rows_told) if looks else 64
    wanted = 64 * 64 * (3 if looks and looks[0].tokens else 1)
    if f.target is not None and f.target.binary and f.target.shares:  # of a rare class, its own rows count
        told = [a.target.shares for a in looks if a.target is not None and a.target.shares]
        ones = np.mean([shares for shares in told if len(shares) == len(told[-1])], axis=0)
        wanted /= float(np.mean(4 * ones * (1 - ones))) + 1e-3
    return f.steps * rows >= wanted / min(max(f.record.path(), 1.0), 2.5)


def _unrelated(f: Facts) -> bool:
    """Sound steps through a sound network, and no better than a constant: the targets do not go with their rows.

    How long that takes goes by how far the weights came, not by steps alone: a slow start, a small rate or a weak signal is no such
    thing. Outputs that go with their targets beyond chance clear them.
    """
    record = f.record
    told = f.steps >= 48 and record.path() > 0.8 and _enough(f) and 0.97 < f.level < 1.5
    if not told or record.relation() > 2.6:
        return False
    if getattr(f.target, "shares", None) is None:  # numbers: batches of a few rows do not tell their spread well enough
        told = math.hypot(f.level_error, record.scatter() / math.sqrt(max(5, 0.15 * f.steps))) < 0.08
    return told and _calm(f) and record.trend() > -5 and 1e-3 < f.update < 0.06 and f.ratio > 1e-2


def _calm(f: Facts) -> bool:
    """No step moved a layer by half its size, and units live: what large rates leave behind looks otherwise."""
    silent = f.silent[f.hidden] if f.hidden else np.zeros(0)
    alive = not np.any(np.isfinite(silent)) or float(np.nanmax(silent)) < 0.5
    return f.first_update < 0.5 and alive


RULES: tuple[Callable[[Facts], list[Finding]], ...] = (
    exploding,
    *LOOP_RULES,
    *OUTPUT_RULES,
    regularized,
    dying_relu,
    vanishing,
    oscillating,
    slow,
    held_back,
    leapt,
    same_weights,
)
