"""Rules about runs that learn, but by far less than they could: numbers out of scale go in, or weights start far too large."""

import math

import numpy as np

from relukit.monitoring._facts import Facts, finding, init_cause, input_cause
from relukit.monitoring._finding import Finding

_WIDE = 8.0  # of a layer's outputs, root mean square: sound starts have 0.3 to 2, bytes into a first layer 40
_LARGE = 2.5  # of weights over He's, as `init_cause` has it
# Loss over the best constant's, or share of the first loss that is gone, from which on a run is left alone.
_AHEAD, _FALLEN = 0.25, 0.9


def leapt(f: Facts) -> list[Finding]:
    """Steps that moved most layers by more than their own size, weights many times as large as at the start, and a loss that is far from low.

    Layers that start from 0 move by far more than their size at once: the median layer counts.
    """
    moved = [float(np.nanmedian(u)) for _, u in f.record.updates if np.any(np.isfinite(u))]
    first, last = f.record.samples[0].weight, f.record.samples[-1].weight
    low = f.level < _AHEAD if math.isfinite(f.level) else f.drop > _FALLEN
    if low or f.settled or f.steps < 32 or not f.finite or first.shape != last.shape or max(moved, default=0.0) < 1:
        return []
    grown = float(np.nanmedian(last / np.maximum(first, 1e-30))) if np.any(np.isfinite(last)) else 0.0
    if grown < 5:
        return []
    evidence = {"update_over_weight_first": max(moved), "weights_over_first": grown, "loss_over_best_constant": f.level}
    # Usual steps are larger than weights that begin near 0: then the start did it.
    cause = init_cause(f) or "learning_rate_too_high"
    return [finding(f, "slow_learning", cause, "error", 36, **evidence)]


def same_weights(f: Facts) -> list[Finding]:
    """Most layers start with one number in every entry: their units get the same gradient and stay the same unit for ever.

    Layers that are held still, as of blurs and means, are meant so, and so are zeros in some layers (of branches that begin with
    nothing).
    """
    record, start = f.record, f.record.start
    low = f.level < _AHEAD if math.isfinite(f.level) else f.drop > _FALLEN
    if low or f.settled or f.steps < 16 or not f.finite or "weight_std" not in start:
        return []
    trained = [
        k
        for k, layer in enumerate(record.layers)
        if not layer.norm and layer.units > 1 and layer.parameter.requires_grad and layer.parameter.numel() > 3
    ]
    same = [
        k for k in trained if start["weight_std"][k] <= 1e-5 * abs(start["weight_mean"][k]) and start["weight_mean"][k]
    ]
    if not same or 2 * len(same) < len(trained):
        return []
    evidence = {"layers_with_one_number": len(same), "layers": len(trained), "loss_over_best_constant": f.level}
    symptom = "vanishing_gradient" if f.ratio < 1e-3 else "slow_learning"
    return [finding(f, symptom, "bad_initialization", "error", 43, same[0], **evidence)]


def held_back(f: Facts) -> list[Finding]:
    """Layers that put out numbers far too large at the start, and a loss that is far from low though it falls.

    What inputs or weights alone look like is no error: a model may divide by 255 itself, or normalize. Outputs of a layer that are
    large in fact are told only where no normalization follows. Where the first layer's are and its weights are of usual size, its
    inputs did it.
    """
    record = f.record
    first = next((a for a in record.activity if a.rms), None)
    if (
        not f.learning
        or first is None
        or f.steps < 32
        or not f.finite
        or not f.hidden
        or any(x.norm for x in record.layers)
    ):
        return []
    low = f.level < _AHEAD if math.isfinite(f.level) else f.drop > _FALLEN
    sizes = [first.rms[k] for k in f.hidden if k in first.rms]
    if low or f.settled or not sizes or not np.all(np.isfinite(sizes)) or max(sizes) < _WIDE:
        return []
    scale = f.weight_scale[: len(f.hidden)]
    large = bool(np.median(scale) > _LARGE)
    entry = first.rms.get(f.hidden[0], 0.0)
    evidence = {"largest_layer_output": max(sizes), "loss_over_best_constant": f.level}
    if not large and entry > _WIDE and scale[0] < _LARGE:
        cause = input_cause(f) or ("shifted_input" if f.input_shift > 4 else "unscaled_input")
        return [finding(f, "slow_learning", cause, "error", 37, f.hidden[0], **evidence, input_std=f.input_std)]
    if not large:
        return []
    evidence["weight_scale_over_he"] = float(np.median(scale))
    symptom = "exploding" if f.level_at_start > 3 else "vanishing_gradient" if f.saturated > 0.5 else "slow_learning"
    return [finding(f, symptom, "bad_initialization", "error", 37, f.hidden[0], **evidence)]
