"""Rules about the loop around a network: gradients never cleared, weights that no optimizer holds, layers cut off from the loss, a
loss turned round, a schedule that ends training early."""

import math
from typing import Any

import numpy as np

from relukit.monitoring._facts import Facts, finding
from relukit.monitoring._finding import Finding

_NEVER_NEGATIVE = {
    "NllLoss", "MseLoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "BinaryCrossEntropy", "BinaryCrossEntropyWithLogits", "MultiMarginLoss",
}  # fmt: skip
_HEAVY = 300  # steps: usual momenta average over 10 to 100
_FADED = 1e-3  # of the highest rate: cosine, step and exponential schedules are there at their very end only


def not_cleared(f: Facts) -> list[Finding]:
    """Each step's gradient still holds those of the steps before, which were taken already: `zero_grad` is missing."""
    kept = f.record.kept
    if len(kept) < 2 or not all(kept) or f.steps < 8:
        return []
    return [_by_the_loop(f, "gradients_not_cleared", 95, looks_with_old_gradients=len(kept))]


def not_in_optimizer(f: Facts) -> list[Finding]:
    """Layers that get a gradient and never move, since the optimizer holds other weights."""
    record = f.record
    if not record.outside or f.steps < 8 or len(record.updates) < 2:
        return []
    moved = np.nan_to_num(np.array([u for _, u in record.updates])).max(axis=0)
    asked = np.nan_to_num(np.array([s.grad for s in record.samples])).max(axis=0)
    still = [k for k in record.outside if k < len(moved) and moved[k] == 0 and asked[k] > 0]
    if not still:
        return []
    names = ", ".join(record.layers[k].name for k in still[:8])
    return [_by_the_loop(f, "weights_not_in_optimizer", 94, still[0], layers=names)]


def blocked(f: Facts) -> list[Finding]:
    """Layers that ran and should learn, and that no gradient reaches: `detach`, `no_grad`, `.data` or a choice by index after them."""
    record = f.record
    grads = np.array([s.grad for s in record.samples])
    reached = np.any(np.isfinite(grads), axis=0)
    cut = [k for k in record.ran if k < len(reached) and not reached[k] and record.layers[k].parameter.requires_grad]
    if not cut or not reached.any() or f.steps < 8:
        return []
    names = ", ".join(record.layers[k].name for k in cut[:8])
    evidence = {"layers_without_gradient": names, "detail": "no path from the loss back to them"}
    ahead = f.level < 0.5 or (math.isnan(f.level) and f.drop > 0.5)
    return [finding(f, "vanishing_gradient", "blocked_gradient", "note" if ahead else "error", 93, cut[-1], **evidence)]


def turned_round(f: Facts) -> list[Finding]:
    """A loss below 0 that is none: its sign was turned, and training climbs."""
    record = f.record
    first, last = record.losses[0], record.losses[-1]
    known = bool(record.chain) and record.chain[0] in _NEVER_NEGATIVE
    falling = record.factor != 1 and f.steps >= 8 and last < min(10 * first, -5)
    if not first < 0 or not (known or falling):
        return []
    evidence = {"loss": last, "detail": "the loss is multiplied by a negative number: training makes it worse"}
    return [finding(f, "exploding", "loss_mismatch", "error", 96, **evidence)]


def straight(f: Facts) -> list[Finding]:
    """Linear layers with nothing between them, in a network without a single activation: it does what one layer does."""
    record = f.record
    if not record.straight or f.steps < 8 or set(f.kinds) - {"LogSoftmax", "Softmax", "Sigmoid"} or record.joined:
        return []
    names = ", ".join(record.layers[k].name for k in record.straight[:8])
    evidence = {"layers": names, "detail": "no activation between linear layers: together they are a single one"}
    # One such layer may be left over in a model that needs none; several are a network that was meant to bend.
    well = f.settled or (f.learning and f.level < 0.25)
    severity = "note" if well and len(record.straight) < 2 else "error"
    return [finding(f, "slow_learning", "missing_activation", severity, 76, record.straight[0], **evidence)]


def heavy(f: Facts) -> list[Finding]:
    """A momentum that averages over hundreds of steps, more than were taken yet: each step adds to those before, up to as many times its size."""
    if f.record.memory < _HEAVY or f.record.memory < f.steps or f.steps < 32:
        return []
    return [_by_the_loop(f, "learning_rate_too_high", 47, steps_that_momentum_averages_over=f.record.memory)]


def faded(f: Facts) -> list[Finding]:
    """A schedule took the rate away while there was much to learn: it lay below a thousandth for half of all steps."""
    rates = [(s.step - f.record.before, s.rate) for s in f.record.samples if s.rate >= 0]
    highest = max((rate for _, rate in rates), default=0.0)
    gone = next((k for k in range(len(rates)) if all(rate <= _FADED * highest for _, rate in rates[k:])), None)
    if f.steps < 32 or not highest > 0 or gone is None or f.steps < 2 * rates[gone][0]:
        return []
    if f.level < 0.3 or (math.isnan(f.level) and f.drop > 0.7) or f.settled:
        return []
    evidence = {"highest_rate": highest, "rate": rates[-1][1], "gone_since_step": rates[gone][0]}
    return [finding(f, "slow_learning", "learning_rate_too_low", "error", 46, **evidence)]


def _by_the_loop(f: Facts, cause: str, score: float, k: int | None = None, **evidence: Any) -> Finding:
    """What shows itself in different ways: the symptom is what the loss does."""
    losses = np.asarray(f.record.losses)
    blown = not f.finite or f.drop < -3
    rough = f.steps >= 16 and float(np.median(np.abs(np.diff(losses)))) > 0.12 * abs(float(np.median(losses)))
    symptom = "exploding" if blown else "oscillating" if rough else "slow_learning"
    # What is told here is a mistake for certain; it does no harm only where the run is far ahead all the same.
    ahead = f.settled or (f.learning and (f.level < 0.25 if math.isfinite(f.level) else f.drop > 0.9))
    return finding(f, symptom, cause, "note" if ahead else "error", score, k, **evidence)


LOOP_RULES = (turned_round, not_cleared, not_in_optimizer, blocked, straight, heavy, faded)
