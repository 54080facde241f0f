"""Rules about the output layer, the loss and the targets."""

import math

import numpy as np

from relukit.monitoring._facts import Facts, finding, init_cause, input_cause, target_cause
from relukit.monitoring._finding import Finding


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
    # What suits its loss is not at fault where it saturates: something else made its inputs large.
    if chain[:1] == ["BinaryCrossEntropy"] and bent[:1] == ["Sigmoid"]:
        bent = bent[1:]
    if chain[:2] == ["NllLoss", "Log"] and "Softmax" in bent:
        bent = bent[bent.index("Softmax") + 1 :]
    silent = record.samples[-1].silent[last]
    share = float(f.silent[last]) if np.isfinite(f.silent[last]) else 0.0
    outputs = record.activity[-1].outputs if record.activity else np.zeros((0, 1))
    loss_name = chain[0] if chain else ""
    single = record.layers[last].units == 1
    evidence = {"output_chain": " < ".join(chain[:4]), "silent_outputs": share}
    if "Softmax" in head and single:
        return [finding(f, "dead_output", "wrong_output_layer", "error", 80, last, **evidence)]
    if share >= 0.99 and f.steps >= 3:
        large_steps = "learning_rate_too_high" if f.first_update > 0.5 else None
        cause = "wrong_output_layer" if bent else (input_cause(f) or init_cause(f) or large_steps or "loss_mismatch")
        return [finding(f, "dead_output", cause, "error", 80, last, silent, **evidence)]
    if f.learning:
        return []
    if f.steps >= 12 and bent and bent[0] in ("Relu", "ClampMin", "Threshold") and share > 0.3:
        return [finding(f, "dead_output", "wrong_output_layer", "error", 75, last, silent, **evidence)]
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
                finding(f, "dead_output", "wrong_output_layer", "error", 74, last, saturated_outputs=stuck, **evidence)
            ]
    return []


def out_of_reach(f: Facts) -> list[Finding]:
    """An output whose activation cannot reach a good part of the targets: a sigmoid for numbers beyond 0 and 1."""
    head = next((c for c in f.record.chain[1:5] if c in _RANGES), "")
    t = f.target
    if not head or t is None or not math.isfinite(t.low) or f.steps < 8:
        return []
    low, high = _RANGES[head]
    margin = 0.05 * (t.std if math.isfinite(t.std) else abs(t.mean)) + 1e-9
    if t.low >= low - margin and t.high <= high + margin:
        return []
    evidence = {"output": head, "a_fifth_of_targets_below": t.low, "a_fifth_of_targets_above": t.high}
    last = [k for k, layer in enumerate(f.record.layers) if not layer.norm][-1]
    symptom = "dead_output" if f.constant or not f.learning else "slow_learning"
    return [finding(f, symptom, "wrong_output_layer", "error", 73, last, **evidence)]


_RANGES = {
    "Sigmoid": (0.0, 1.0), "Softmax": (0.0, 1.0), "Tanh": (-1.0, 1.0), "Hardtanh": (-1.0, 1.0), "Hardsigmoid": (0.0, 1.0),
    "Relu": (0.0, math.inf), "ClampMin": (0.0, math.inf), "Softplus": (0.0, math.inf), "LogSigmoid": (-math.inf, 0.0),
}  # fmt: skip


def mismatch(f: Facts) -> list[Finding]:
    """A loss that compares the output with something else than its targets."""
    t = f.target
    known = [a.target for a in f.record.activity if a.target is not None]
    # Once may be chance: a loss over a part of the batch looks like another one.
    if t is None or not t.mismatch or f.steps < 4 or not all(other.mismatch for other in known[-3:]):
        return []
    still = f.record.samples[-1].grad
    symptom = "dead_output" if np.nansum(still) == 0 else "slow_learning"
    # Labels -1 and 1 under a loss on probabilities have no least loss, but the signs come out right.
    signs = "outside" in t.mismatch and t.high <= 1.01
    return [finding(f, symptom, "loss_mismatch", "note" if signs else "error", 78, detail=t.mismatch)]


def one_class(f: Facts) -> list[Finding]:
    """All rows have the same label: the loss falls to 0 at once, and no batch has another label to show.

    Told only where the output layer's own biases are the classes' (or the answer's) logits: losses over pairs and over candidates have
    one label by construction.
    """
    record = f.record
    shares = [a.target.shares for a in record.activity if a.target is not None and a.target.shares]
    logits = record.chain in (
        ["NllLoss", "LogSoftmax"],
        ["BinaryCrossEntropyWithLogits"],
        ["BinaryCrossEntropy", "Sigmoid"],
    )
    last = [k for k, layer in enumerate(record.layers) if not layer.norm][-1]
    fits = logits and all(len(s) == record.layers[last].units for s in shares)
    if f.steps < 32 or len(shares) < 3 or not fits:
        return []
    all_of = np.array(shares)
    if np.ptp(all_of, axis=0).max() > 1e-3 or np.abs(all_of - np.round(all_of)).max() > 1e-3:
        return []
    # One row with another label would cost far more than that in its batch.
    if max(record.losses[f.steps // 2 :]) > 0.05 * max(record.losses[0], 1e-9):
        return []
    evidence = {"labels": "the same for all rows seen", "looks": len(shares)}
    return [finding(f, "dead_output", "bad_input_data", "error", 84, last, **evidence)]


def far_target(f: Facts) -> list[Finding]:
    """Targets in the hundreds for a network that starts near 0, and no headway."""
    cause = target_cause(f)
    if f.learning or cause is None or f.steps < 16 or not f.finite or input_cause(f) is not None:
        return []
    evidence = {"target_mean": f.target.mean, "target_std": f.target.std}
    return [finding(f, "slow_learning", cause, "error", 58, **evidence)]


def wrong_output(f: Facts) -> list[Finding]:
    """An output layer that does not fit the loss: softmax before cross-entropy, sigmoid before a loss on logits."""
    chain = f.record.chain
    bad = ""
    if (
        chain[:2] == ["NllLoss", "LogSoftmax"]
        and len(chain) > 2
        and chain[2] in ("Softmax", "Sigmoid", "Relu")  # log_softmax of log-probabilities is themselves: no harm
    ):
        bad = f"{chain[2]} before cross-entropy"
    if chain[:1] == ["BinaryCrossEntropyWithLogits"] and any(c in ("Sigmoid", "Relu", "Softmax") for c in chain[1:3]):
        bad = f"{next(c for c in chain[1:3] if c in ('Sigmoid', 'Relu', 'Softmax'))} before a loss that takes logits"
    if chain[:1] == ["NllLoss"] and "LogSoftmax" not in chain and "Log" not in chain:
        bad = "NLLLoss without log-probabilities"
    twice = next((pair for pair in zip(chain, chain[1:]) if pair in _TWICE), None)
    if not bad and twice is not None:
        bad = f"{twice[1]} before a loss that takes {twice[0]} of its input"
    if not bad or f.steps < 8:
        return []
    return [finding(f, "slow_learning", "wrong_output_layer", "error", 60, detail=bad)]


def divergence(f: Facts) -> list[Finding]:
    """Kullback and Leibler's divergence (target times the difference of logarithms) of probabilities that are no logarithms.

    Of logarithms it is never below 0 where the targets are distributions.
    """
    chain = f.record.chain
    if (
        chain[:1] not in (["Sum"], ["Mean"])
        or chain[1:3] != ["Sub", "Mul"]
        or chain[3:4] not in (["Softmax"], ["Sigmoid"])
    ):
        return []
    if f.steps < 8 or max(f.record.losses[:8]) >= 0:
        return []
    return [
        finding(
            f,
            "slow_learning",
            "loss_mismatch",
            "error",
            77,
            detail=f"kl_div takes logarithms, and gets what a {chain[3]} puts out",
        )
    ]


# What a loss of one's own squashes (first) though the model did so already (second): the steps shrink to a quarter or less.
_TWICE = {
    ("Sigmoid", "Sigmoid"), ("Sigmoid", "Softmax"), ("Sigmoid", "Relu"), ("LogSigmoid", "Sigmoid"), ("LogSigmoid", "Softmax"),
    ("LogSigmoidForward", "Sigmoid"), ("LogSigmoidForward", "Softmax"), ("Softmax", "Softmax"), ("Softmax", "Sigmoid"), ("Softmax", "LogSoftmax"),
    ("LogSoftmax", "Softmax"), ("LogSoftmax", "Sigmoid"),
}  # fmt: skip


OUTPUT_RULES = (dead_output, out_of_reach, mismatch, one_class, divergence, far_target, wrong_output)
