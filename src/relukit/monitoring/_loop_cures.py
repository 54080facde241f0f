"""What can be done about the loop around a network: gradients cleared, weights added to the optimizer, holes filled, broken steps left out."""

from typing import Any

import numpy as np

from relukit.monitoring._optimizer import before_step, forget


def clear_gradients(watch: Any, finding: Any) -> str:
    """After every optimizer step the gradients are dropped, as `zero_grad` would."""
    optimizer = watch.optimizer
    if optimizer is None or not hasattr(optimizer, "register_step_post_hook"):
        return ""

    def hook(optimizer: Any, *_: Any) -> None:
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.grad = None

    hook(optimizer)
    optimizer.register_step_post_hook(hook)
    forget(watch)
    return "gradients are cleared after every step; call optimizer.zero_grad() in the loop"


def add_to_optimizer(watch: Any, finding: Any) -> str:
    """Weights that the optimizer does not hold come into a group of their own, with the options of its first one."""
    optimizer = watch.optimizer
    if optimizer is None or not hasattr(optimizer, "add_param_group") or hasattr(optimizer, "_params"):
        return ""
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    missing = [p for p in watch._inner.parameters() if p.requires_grad and id(p) not in held]
    if not missing:
        return ""
    options = {k: v for k, v in optimizer.param_groups[0].items() if k not in ("params", "param_names")}
    optimizer.add_param_group({"params": missing} | options)
    return f"{len(missing)} parameters of the model added to the optimizer; make it from model.parameters()"


def add_activations(watch: Any, finding: Any) -> str:
    """A hook after each linear layer that nothing follows takes its ReLU."""
    import torch

    layers = [watch.layers[k] for k in watch.record.straight]
    for layer in layers:
        layer.module.register_forward_hook(lambda _, __, out: torch.relu(out))
    watch.record.straight = []
    forget(watch)
    return f"hooks take the ReLU after {len(layers)} layers; write it into the model" if layers else ""


def fill_holes(watch: Any, finding: Any) -> str:
    """A hook before the model puts each feature's mean, as seen so far, where a number is missing or infinite."""
    import torch

    model = watch._inner
    if getattr(model, "_relukit_fills", False) or not watch.record.activity:
        return ""
    rows = [
        a.input_mean for a in watch.record.activity if a.input_mean.shape == watch.record.activity[0].input_mean.shape
    ]
    known = np.ma.masked_invalid(np.array(rows))
    mean = torch.as_tensor(np.asarray(known.mean(axis=0).filled(0.0), float))

    def hook(_: Any, inputs: Any) -> Any:
        first, *rest = inputs
        if not hasattr(first, "is_floating_point") or not first.is_floating_point():
            return None
        bad = ~torch.isfinite(first)
        if not bool(bad.any()):
            return None
        fits = first[0].numel() == len(mean)
        fill = mean.reshape(first.shape[1:]).to(first) if fits else torch.zeros_like(first[0])
        return (torch.where(bad, fill.expand_as(first), first), *rest)

    model.register_forward_pre_hook(hook)
    model._relukit_fills = True
    return "a hook before the model puts the feature's mean where an input is missing or infinite"


def skip_broken_steps(watch: Any, finding: Any) -> str:
    """Steps whose gradient is not finite are not taken."""
    import torch

    def hook(optimizer: Any, *_: Any) -> None:
        parts = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if parts and not bool(torch.stack([torch.isfinite(p.grad).all() for p in parts]).all()):
            for p in parts:
                p.grad = None

    return before_step(watch.optimizer, "_relukit_skips", hook, "steps without finite gradients are left out")
