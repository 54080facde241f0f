"""What cures do to the user's optimizer: forget momenta, change rates, follow exchanged parameters."""

import inspect
import math
from typing import Any

import numpy as np

DEEP = 8  # layers from which on a plain network starts by `deep_`
_FIRST_RATE = {
    "Adam": 3e-3, "AdamW": 3e-3, "NAdam": 1.5e-3, "RAdam": 1.5e-3, "Adamax": 3e-3, "RMSprop": 1.5e-3, "Adagrad": 1.5e-2, "SparseAdam": 3e-3,
}  # fmt: skip
_USUAL_UPDATE = 3e-3  # of a plain step over its weights: healthy trainings start with 1e-3 to 1e-2
_STRAIGHT = ("L1Loss", "SmoothL1Loss", "HuberLoss")
_PLAIN = ("SGD", "ASGD", "Momentum", "Nesterov")


def scale_free(optimizer: Any) -> bool:
    """Whether the size of a step does not follow the size of the gradient."""
    return not any(kind.__name__ in _PLAIN for kind in type(optimizer).__mro__)


def forget(watch: Any, parameters: list[Any] | None = None) -> None:
    """Momenta of these parameters (of all, where none are named) are dropped: they belong to the weights before."""
    if watch.optimizer is None:
        return
    if parameters is None:
        watch.optimizer.state.clear()
    for p in parameters or ():
        watch.optimizer.state.pop(p, None)


def settle(optimizer: Any) -> None:
    """State that an optimizer's constructor makes (Adagrad's sums) is there for every parameter again.

    Most make a parameter's state at its first step and need nothing. What a constructor makes is told by a second one of the same
    class over the same parameters.
    """
    groups = getattr(optimizer, "param_groups", None)
    if not groups or not hasattr(optimizer, "defaults"):
        return
    known = inspect.signature(type(optimizer)).parameters
    options = {k: v for k, v in optimizer.defaults.items() if k in known}
    try:
        fresh = type(optimizer)([p for group in groups for p in group["params"]], **options).state
    except (TypeError, ValueError, RuntimeError):  # a class of the user's own that wants something else
        return
    for p, state in fresh.items():
        if state and not optimizer.state.get(p):
            optimizer.state[p] = state


def exchange(optimizer: Any, swapped: dict[int, Any]) -> None:
    """Parameters that were replaced by others (`swapped` by the old one's id) are replaced here too."""
    if optimizer is None:
        return
    for group in optimizer.param_groups:
        for p in group["params"]:
            if id(p) in swapped:
                optimizer.state.pop(p, None)
        group["params"] = [swapped.get(id(p), p) for p in group["params"]]
    if hasattr(optimizer, "_params"):  # LBFGS keeps its own list
        optimizer._params, optimizer._numel_cache = optimizer.param_groups[0]["params"], None


def rate_of(optimizer: Any) -> float:
    """The rate of the first group that the next step will use."""
    if hasattr(optimizer, "_relukit_held"):
        return optimizer._relukit_held[0]
    return float(optimizer.param_groups[0].get("lr", math.nan)) * getattr(optimizer, "_relukit_factor", 1.0)


def memory_of(optimizer: Any) -> float:
    """How many steps its momentum averages over: 1 / (1 - beta), at most a million; 1 without any."""
    group = optimizer.param_groups[0] if getattr(optimizer, "param_groups", ()) else {}
    beta = group["betas"][0] if "betas" in group else group.get("momentum") or 0.0
    return 1 / max(1 - float(beta), 1e-6) if isinstance(beta, int | float) else 1.0


def set_rate(watch: Any, rate: float) -> str:
    """The first group gets this rate, the others keep their ratio to it; under a schedule all its rates are scaled."""
    optimizer = watch.optimizer
    if optimizer is None:
        return ""
    before = rate_of(optimizer)
    if hasattr(getattr(optimizer, "step", None), "_wrapped_by_lr_sched"):
        if hasattr(optimizer, "_relukit_held") or not before > 0 or _ran_away(optimizer):
            _hold(optimizer, rate)
            return f"learning rate {before:g} -> {rate:g}: held there from now on, whatever the schedule says"
        _scale_each_step(optimizer, rate / before)
        return f"learning rate {before:g} -> {rate:g}: from now on each scheduled rate is multiplied by {optimizer._relukit_factor:.3g}"
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr"] / before if before > 0 else rate
        if "initial_lr" in group:
            group["initial_lr"] = group["lr"]
    return f"learning rate {before:g} -> {rate:g}"


def _ran_away(optimizer: Any) -> bool:
    """Whether a schedule has taken the rate far from where it began: scaling what it says would not help for long."""
    group = optimizer.param_groups[0]
    begun = float(group.get("initial_lr", 0.0))
    return begun > 0 and not 1 / 30 <= float(group["lr"]) / begun <= 60  # a one-cycle schedule rises 25-fold


def _hold(optimizer: Any, rate: float) -> None:
    """From now on every step is taken with this rate (other groups keep their ratio to the first), and the schedule's is put back."""
    first = optimizer.param_groups[0]["lr"]
    rates = [rate * (group["lr"] / first if first > 0 else 1.0) for group in optimizer.param_groups]
    new = not hasattr(optimizer, "_relukit_held")
    optimizer._relukit_held = rates
    if not new:
        return
    kept: list[Any] = []

    def on(optimizer: Any, *_: Any) -> None:
        kept[:] = [group["lr"] for group in optimizer.param_groups]
        for group, held in zip(optimizer.param_groups, optimizer._relukit_held):
            group["lr"] = held

    def off(optimizer: Any, *_: Any) -> None:
        for group, scheduled in zip(optimizer.param_groups, kept):
            group["lr"] = scheduled

    optimizer.register_step_pre_hook(on)
    optimizer.register_step_post_hook(off)


def _scale_each_step(optimizer: Any, factor: float) -> None:
    """A scheduler writes its own rates after every step, so the factor is put on just before a step and taken off after it."""
    first = not hasattr(optimizer, "_relukit_factor")
    optimizer._relukit_factor = getattr(optimizer, "_relukit_factor", 1.0) * factor
    if not first:
        return
    kept: list[Any] = []

    def on(optimizer: Any, *_: Any) -> None:
        kept[:] = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * optimizer._relukit_factor

    def off(optimizer: Any, *_: Any) -> None:
        for group, rate in zip(optimizer.param_groups, kept):
            group["lr"] = rate

    optimizer.register_step_pre_hook(on)
    optimizer.register_step_post_hook(off)


def familiar_rate(watch: Any, depth: int | None = None) -> float:
    """A rate that usually works for the optimizer: smaller with depth and width, unless layers that pass on have a rate of their own."""
    optimizer = watch.optimizer
    names = [kind.__name__ for kind in type(optimizer).__mro__]
    if depth is None:
        depth = DEEP if len(optimizer.param_groups) > 1 else sum(not layer.norm for layer in watch.layers)
    shallow = min(1.0, 8 / depth)
    for name in names:
        if name in _FIRST_RATE:
            return _FIRST_RATE[name] * shallow * min(max(64 / _width(watch), 0.5), 2.5)
    own = getattr(inspect.signature(type(optimizer)).parameters.get("lr"), "default", None)
    if scale_free(optimizer) and isinstance(own, float | int) and own > 0:
        return float(own) * shallow  # what its author recommends
    momentum = optimizer.param_groups[0].get("momentum", 0) or 0
    # A squared error is steeper than a cross-entropy: its second derivative by the output is 2, not at most 1/4.
    steep = 0.4 if watch.record.chain[:1] == ["MseLoss"] else 1.0
    seen = watch.record.activity
    noisy = (
        math.sqrt(min(len(seen[0].outputs) / 16, 1.0)) if seen and len(seen[0].outputs) else 1.0
    )  # of batches of a few rows
    # Plain descent is not free of scale as Adam is: behind a hook that scales the output, the loss is in the target's unit (squared
    # for squared error).
    unit = watch.record.scale[0] ** (1 if watch.record.chain[:1] and watch.record.chain[0] in _STRAIGHT else 2)
    return steep * noisy * (0.03 if momentum > 0.5 else 0.1) * shallow / unit


def _width(watch: Any) -> float:
    """Median width of the hidden layers: what a step of Adam does to an output grows with it (Yang et al., 2022)."""
    hidden = [layer for layer in watch.layers if not layer.norm][:-1]
    return float(np.median([layer.fan or layer.units for layer in hidden])) if hidden else 64.0


def rates_by_group(watch: Any, groups: list[dict[str, Any]]) -> None:
    """Layers that start by passing on what comes in learn in a group of their own, by a rate that falls with depth."""
    optimizer = watch.optimizer
    if optimizer is None or len(groups) < 2 or len(optimizer.param_groups) != 1:
        return
    if not hasattr(optimizer, "add_param_group") or hasattr(optimizer, "_params"):  # LBFGS has one group only
        return
    group, passing = optimizer.param_groups[0], {id(p) for p in groups[1]["params"]}
    moved = [p for p in group["params"] if id(p) in passing]
    if not moved or len(moved) == len(group["params"]):
        return
    group["lr"] = familiar_rate(watch, depth=DEEP)
    group["params"] = [p for p in group["params"] if id(p) not in passing]
    options = {k: v for k, v in group.items() if k != "params"}
    optimizer.add_param_group(options | {"params": moved, "lr": group["lr"] * groups[1]["lr"] / groups[0]["lr"]})


def lower_learning_rate(watch: Any, finding: Any) -> str:
    if watch.optimizer is None:
        return ""
    before = rate_of(watch.optimizer)
    calmed = _usual_momentum(watch.optimizer)
    rate = min(before / 10, max(familiar_rate(watch), before / 1e4))
    if (
        calmed
    ):  # a momentum of 0.999 makes steps a hundred times as long: that was it, if the rate is not far off as well
        rate = min(before, 2 * familiar_rate(watch))
    forget(watch)
    return calmed + set_rate(watch, rate)


def _usual_momentum(optimizer: Any) -> str:
    """Momentum above 0.98 becomes 0.9, of Adam and its kin likewise; says what was done, or nothing."""
    done = ""
    for group in optimizer.param_groups:
        if (group.get("momentum") or 0) > 0.98:
            done = f"momentum {group['momentum']:g} -> 0.9; "
            group["momentum"] = 0.9
        if "betas" in group and group["betas"][0] > 0.98:
            done = f"beta1 {group['betas'][0]:g} -> 0.9; "
            group["betas"] = (0.9, max(group["betas"][1], 0.99))
    return done


def raise_learning_rate(watch: Any, finding: Any) -> str:
    if watch.optimizer is None:
        return ""
    before, rate = rate_of(watch.optimizer), familiar_rate(watch)
    if rate <= before * 1.5:
        rate = before * 10
    moved = [float(np.nanmedian(u)) for _, u in watch.record.updates[-4:] if np.any(np.isfinite(u))]
    if not scale_free(watch.optimizer) and moved and np.median(moved) > 0:
        # Plain steps follow the loss's scale: where it is tiny, or gradients are cut, so must the rate be larger.
        rate = max(rate, before * min(_USUAL_UPDATE / float(np.median(moved)), 1e6))
    forget(watch)
    return set_rate(watch, rate)


def familiar_learning_rate(watch: Any, finding: Any) -> str:
    """After fresh weights: a rate that suits them, where the present one is far off."""
    if watch.optimizer is None:
        return ""
    before, rate = rate_of(watch.optimizer), familiar_rate(watch)
    return set_rate(watch, rate) if not rate / 4 <= before <= rate * 4 else f"learning rate {before:g} kept"


def clip_gradients(watch: Any, finding: Any) -> str:
    """Before every optimizer step the gradient's norm is cut to 1."""
    import torch

    def hook(optimizer: Any, *_: Any) -> None:
        torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)

    return before_step(watch.optimizer, "_relukit_clips", hook, "gradient norm is cut to 1 before every step")


def before_step(optimizer: Any, mark: str, hook: Any, words: str) -> str:
    """Registers a hook before every optimizer step, once: the optimizer bears the mark from then on. "" where it takes no hooks."""
    if optimizer is None or not hasattr(optimizer, "register_step_pre_hook"):
        return ""
    if getattr(optimizer, mark, False):
        return f"{words} already"
    optimizer.register_step_pre_hook(hook)
    setattr(optimizer, mark, True)
    return words
