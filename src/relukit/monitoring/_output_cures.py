"""Cures of the output: another last activation, log-probabilities, targets in their own unit."""

import math
from typing import Any

import numpy as np

from relukit.monitoring._finding import Finding
from relukit.monitoring._optimizer import familiar_rate, forget, scale_free, set_rate


def remove_output_activation(watch: Any, finding: Finding) -> str:
    """The activation module after the last weights becomes an identity (sigmoid where the loss wants a probability)."""
    from torch import nn

    last = [layer for layer in watch.layers if not layer.norm][-1]
    after, target = False, None
    for name, module in watch._inner.named_modules():
        if module is last.module:
            after = True
        elif after and isinstance(
            module, (nn.ReLU, nn.Softmax, nn.LogSoftmax, nn.Sigmoid, nn.Tanh, nn.ReLU6, nn.Hardtanh, nn.LeakyReLU)
        ):
            target = name
    if target is None:
        return _log_probabilities(watch, finding)
    parent, _, leaf = target.rpartition(".")
    owner = watch._inner.get_submodule(parent) if parent else watch._inner
    loss = watch.record.chain[0] if watch.record.chain else ""
    fresh = (
        nn.Sigmoid()
        if loss == "BinaryCrossEntropy"
        else nn.LogSoftmax(-1)
        if loss == "NllLoss" and "LogSoftmax" not in watch.record.chain[:2]
        else nn.Identity()
    )
    old = type(getattr(owner, leaf) if not leaf.isdigit() else owner[int(leaf)]).__name__
    setattr(owner, leaf, fresh) if not leaf.isdigit() else owner.__setitem__(int(leaf), fresh)
    forget(watch)
    return f"{old} at '{target}' replaced by {type(fresh).__name__}"


def _log_probabilities(watch: Any, finding: Finding) -> str:
    """A hook that turns the outputs into log-probabilities where the loss wants those and gets raw numbers."""
    import torch

    from relukit.monitoring._cures import restore_if_broken

    chain = watch.record.chain
    if chain[:1] != ["NllLoss"] or "LogSoftmax" in chain or "Softmax" in chain or "Log" in chain:
        return ""
    watch._inner.register_forward_hook(lambda _, __, out: torch.log_softmax(out, 1))
    restore_if_broken(watch, finding)
    return "a hook takes log_softmax of the model's output, which NLLLoss wants; or use CrossEntropyLoss instead"


def scale_output(watch: Any, finding: Finding) -> str:
    """A hook after the model multiplies by the targets' deviation and adds their mean, so that its weights stay near 1.

    Where only their mean is told, as by an absolute error from far below, it is added; a later call finds the deviation.
    """
    known = [a.target for a in watch.record.activity if a.target is not None and math.isfinite(a.target.mean)]
    spread = [t for t in known if math.isfinite(t.std)]
    if not known:
        return ""
    used = spread or known
    mean = float(np.mean([t.mean for t in used]))
    std = math.sqrt(float(np.mean([t.std**2 + (t.mean - mean) ** 2 for t in spread]))) if spread else 1.0
    std = std or 1.0
    if any(c in ("Relu", "ClampMin", "Softplus") for c in watch.record.chain[1:4]):  # outputs from 0 on stay so
        mean, std = 0.0, math.hypot(mean, std)
    present = getattr(watch._inner, "_relukit_scale", None)
    if present is not None and abs(present[0] - std) < 0.3 * std and abs(present[1] - mean) < std:
        return ""
    if present is None:
        present = watch._inner._relukit_scale = [std, mean]
        watch._inner.register_forward_hook(lambda _, __, out: out * present[0] + present[1])
    present[:] = [std, mean]
    watch.record.scale = (std, mean)
    text = f"a hook multiplies the model's output by {std:.3g} and adds {mean:.3g}; keep it, or standardize the targets"
    if watch.optimizer is None or scale_free(watch.optimizer):
        return text
    return f"{text}; {set_rate(watch, familiar_rate(watch))}"
