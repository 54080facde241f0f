"""Cures for what `watch` finds, each applied in place to the user's model and optimizer."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from relukit.monitoring._finding import Finding
from relukit.monitoring._initialization import deep_
from relukit.monitoring._layers import LEAKY, RELU_LIKE
from relukit.monitoring._loop_cures import (
    add_activations,
    add_to_optimizer,
    clear_gradients,
    fill_holes,
    skip_broken_steps,
)
from relukit.monitoring._optimizer import (
    DEEP,
    clip_gradients,
    familiar_learning_rate,
    forget,
    lower_learning_rate,
    raise_learning_rate,
    rates_by_group,
    settle,
)
from relukit.monitoring._output_cures import remove_output_activation, scale_output
from relukit.monitoring._regularization import lower_regularization
from relukit.monitoring._swaps import centered_activation, leaky_activation, relu_activation, widen

# Up to here torch's own start carries signals, and what it leaves small keeps small data from being learned by heart:
# on 350 rows of diabetes He's start ends at R2 0.4 where torch's ends at 0.5.
_SHALLOW = 4
_SEED = 20_240_601  # of all fresh weights: the same run is mended the same way


def cure(watch: Any, finding: Finding) -> dict[str, Any]:
    """Applies what the finding's cause asks for; a cause may need several changes at once (see `PLANS`)."""
    applied, by_user = [], []
    for name in PLANS.get((finding.symptom, finding.cause), PLANS["", finding.cause]):
        text = CURES[name](watch, finding)
        (applied if text else by_user).append(
            f"{name}: {text}" if text else f"{name}: {BY_USER.get(name, 'not possible from here')}"
        )
    if watch.optimizer is not None:
        settle(watch.optimizer)
    return {"finding": finding.to_dict(), "applied": applied, "by_user": by_user}


def _non_finite(watch: Any) -> bool:
    import torch

    return any(not bool(torch.isfinite(p).all()) for p in watch._inner.parameters())


def _gain(watch: Any, layer: Any) -> float:
    kinds = {layer.activation} if layer.activation else set(watch.record.kinds)
    if kinds & RELU_LIKE:
        return math.sqrt(2)
    if kinds & (LEAKY - {"SELU"}):
        return 1.4
    return 1.0


def reinitialize(watch: Any, finding: Finding) -> str:
    """Fresh weights that carry signals through: He's, those of `deep_` for deep plain networks, or each module's own.

    Torch's own start serves shallow networks and those built to carry signals by other means: normalization, skip
    connections, recurrence, attention.
    """
    import torch
    from torch import nn

    weights = [layer for layer in watch.layers if not layer.norm]
    depth = len(weights)
    plain = all(layer.plain for layer in watch.layers) and not watch.record.joined
    plain = plain and not any(layer.norm for layer in watch.layers)
    deep = depth >= DEEP and plain and all(layer.weight.ndim == 2 for layer in weights)
    if deep:
        rates_by_group(watch, deep_(watch._inner, seed=_SEED))
    else:
        watch.restore_start()  # what no module of torch owns, such as learned positions, and running statistics
        _reset_modules(watch._inner)
        if (plain and depth > _SHALLOW) or not hasattr(weights[0].module, "reset_parameters"):
            _he(watch, weights)
    with torch.no_grad():
        for module in watch._inner.modules():
            if isinstance(module, nn.PReLU):
                module.weight.fill_(0.25)
    forget(watch)
    watch.keep_start()
    how = (
        "deep start (relukit.init.deep_)"
        if deep
        else "He weights, zero biases"
        if plain and depth > _SHALLOW
        else "torch's own start"
    )
    return f"{depth} layers, {how}"


def _reset_modules(model: Any) -> None:
    """Every module that knows how starts anew; the global random state stays as it was."""
    import torch

    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))):
        torch.manual_seed(_SEED)
        for module in model.modules():
            reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
            if callable(reset):
                reset()


def _he(watch: Any, weights: list[Any]) -> None:
    import torch

    generator = torch.Generator().manual_seed(_SEED)
    with torch.no_grad():
        for k, layer in enumerate(weights):
            w = layer.weight
            if w.ndim < 2:
                continue
            flat = w.reshape(len(w), -1)
            gain = 1.0 if k == len(weights) - 1 else _gain(watch, layer)
            fresh = torch.randn(flat.shape, generator=generator) * (gain / math.sqrt(flat.shape[1]))
            w.copy_(fresh.reshape(w.shape).to(w))
            if layer.bias is not None:
                layer.bias.zero_()


def revive_dead_units(watch: Any, finding: Finding) -> str:
    """Dead units get fresh incoming weights and bias 0, and outgoing weights 0, so that the function stays as it is."""
    import torch

    from relukit.monitoring.watch import recently_silent

    generator = torch.Generator().manual_seed(20_240_602)
    weights = [k for k, layer in enumerate(watch.layers) if not layer.norm]
    count, gain = 0, 1 / 3 if len(weights) <= _SHALLOW else 2.0
    with torch.no_grad():
        for place, k in enumerate(weights[:-1]):
            layer, after = watch.layers[k], watch.layers[weights[place + 1]]
            dead = recently_silent(watch.record, k)
            if not dead.any() or layer.weight.ndim < 2 or len(dead) != len(layer.weight):
                continue
            whole = bool(dead.mean() > 0.95)
            rows = torch.as_tensor(np.flatnonzero(dead), device=layer.weight.device)
            flat = layer.weight.reshape(len(layer.weight), -1)
            fresh = torch.randn(len(rows), flat.shape[1], generator=generator) * math.sqrt(gain / flat.shape[1])
            layer.weight[rows] = fresh.reshape(len(rows), *layer.weight.shape[1:]).to(layer.weight)
            if layer.bias is not None:
                layer.bias[rows] = 0
            if not whole and after.weight.ndim == layer.weight.ndim and after.weight.shape[1] == len(dead):
                after.weight[:, rows] = 0
            forget(watch, [p for p in (layer.parameter, layer.bias, after.parameter) if p is not None])
            count += len(rows)
    return f"{count} units" if count else ""


def reset_biases(watch: Any, finding: Finding) -> str:
    import torch

    with torch.no_grad():
        for layer in watch.layers:
            if layer.bias is not None and not layer.norm:
                layer.bias.zero_()
                forget(watch, [layer.bias])
    return "all biases of linear and convolution layers set to 0"


def restore_if_broken(watch: Any, finding: Finding) -> str:
    """Weights that large steps ruined go back to where training started; where it had got ahead they are kept."""
    from relukit.monitoring._facts import facts_of

    samples, facts = watch.record.samples, facts_of(watch._view())
    grown = len(samples) > 1 and np.any(samples[-1].weight / np.maximum(samples[0].weight, 1e-12) > 3)
    ahead = facts.drop > 0.2 and not facts.level > 0.9
    if ahead and not grown and not _non_finite(watch):
        return "weights are finite and kept"
    if not watch.restore_start():
        return reinitialize(watch, finding)
    forget(watch)
    return "weights put back to where training started"


def restart(watch: Any, finding: Finding) -> str:
    """Training starts anew from its own first weights, where these were not at fault, else from fresh ones."""
    from relukit.monitoring._facts import facts_of, init_cause

    if init_cause(facts_of(watch._view())) is not None or not watch.restore_start():
        return reinitialize(watch, finding)
    forget(watch)
    return "weights put back to where training started"


def standardize_input(watch: Any, finding: Finding) -> str:
    """A hook before the model subtracts each feature's mean and divides by its deviation, as seen so far."""
    import torch

    seen = watch.record.activity
    if not seen or getattr(watch._inner, "_relukit_standardizes", False):
        return ""
    usable = [a for a in seen if a.input_finite and a.input_mean.shape == seen[0].input_mean.shape]
    if not usable:
        return ""
    mean = np.mean([a.input_mean for a in usable], axis=0)
    std = np.sqrt(np.mean([a.input_std**2 + (a.input_mean - mean) ** 2 for a in usable], axis=0))
    # A feature that only varies by float32's rounding of a large offset does not vary.
    std = np.where(std > 1e-12 + 5e-7 * np.abs(mean), std, 1.0)
    center, spread = torch.as_tensor(mean), torch.as_tensor(std)

    def hook(_: Any, inputs: Any) -> Any:
        first, *rest = inputs
        if not first.is_floating_point() or first[0].numel() < len(center):
            return None
        if first[0].numel() == len(center):
            shape = first.shape[1:]
            c, s = center.reshape(shape).to(first), spread.reshape(shape).to(first)
        else:  # more features than were kept: one scale for all
            c, s = center.mean().to(first), spread.square().mean().sqrt().to(first)
        return ((first - c) / s, *rest)

    watch._inner.register_forward_pre_hook(hook)
    watch._inner._relukit_standardizes = True
    return (
        f"inputs are standardized by a hook before the model ({len(mean)} features); keep it, or standardize the data"
    )


def nothing(watch: Any, finding: Finding) -> str:
    return ""


BY_USER = {
    "change_loss": "the loss is computed outside the model: use one that fits its output (cross-entropy on logits for classes, squared error for numbers)",
    "remove_output_activation": "the output activation is written in forward(): remove it there",
    "let_gradients_pass": "detach(), no_grad, .data or a choice by index after these layers keeps the gradient from them: take it out, or set requires_grad_(False) where it is meant",
    "clear_gradients": "call optimizer.zero_grad() before each backward pass",
    "add_to_optimizer": "make the optimizer from the parameters of the model that is trained",
    "clean_input": "look at the data: inputs that are not finite, or targets that do not belong to their rows (shuffled, shifted, joined wrongly)",
    "scale_output": "divide the targets by their standard deviation, and multiply predictions by it",
    "standardize_input": "standardize the inputs to mean 0 and deviation 1",
    "relu_activation": "the activations are written in forward(): use relu there",
    "centered_activation": "the activations are written in forward(): use relu there, or tanh with an orthogonal start in deep chains",
    "leaky_activation": "the activations are written in forward(): use leaky_relu there",
    "lower_learning_rate": "pass optimizer= to watch, or lower the learning rate tenfold",
    "lower_regularization": "lower weight decay, dropout written in forward(), penalties on weights within the loss; cut weights less after a step",
    "add_activations": "put an activation (ReLU) between the linear layers",
    "widen": "make the hidden layers wider than their inputs",
    "raise_learning_rate": "pass optimizer= to watch, or raise the learning rate tenfold",
}

CURES: dict[str, Callable[[Any, Finding], str]] = {
    "reinitialize": reinitialize, "revive_dead_units": revive_dead_units, "reset_biases": reset_biases,
    "lower_learning_rate": lower_learning_rate, "raise_learning_rate": raise_learning_rate,
    "familiar_learning_rate": familiar_learning_rate, "clip_gradients": clip_gradients,
    "standardize_input": standardize_input, "remove_output_activation": remove_output_activation,
    "relu_activation": relu_activation, "centered_activation": centered_activation, "leaky_activation": leaky_activation, "restore_if_broken": restore_if_broken, "restart": restart,
    "lower_regularization": lower_regularization, "widen": widen, "scale_output": scale_output, "change_loss": nothing, "clean_input": nothing,
    "clear_gradients": clear_gradients, "add_to_optimizer": add_to_optimizer, "let_gradients_pass": nothing, "add_activations": add_activations, "fill_holes": fill_holes,
    "skip_broken_steps": skip_broken_steps,
}  # fmt: skip

# (symptom, cause) -> what is done, in this order; "" stands for any symptom.
PLANS: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "negative_bias"): ("reset_biases", "revive_dead_units"),
    ("", "bad_initialization"): ("reinitialize", "familiar_learning_rate"),
    ("", "learning_rate_too_high"): ("lower_learning_rate", "restore_if_broken"),
    ("dying_relu", "learning_rate_too_high"): ("lower_learning_rate", "restart"),
    ("", "learning_rate_too_low"): ("raise_learning_rate",),
    ("", "unscaled_input"): ("standardize_input", "restart", "familiar_learning_rate"),
    ("", "shifted_input"): ("standardize_input", "restart", "familiar_learning_rate"),
    ("", "saturating_activation"): ("centered_activation", "reinitialize", "familiar_learning_rate"),
    ("", "too_deep_for_init"): ("reinitialize", "familiar_learning_rate"),
    ("", "too_narrow"): ("widen", "leaky_activation", "reinitialize", "familiar_learning_rate"),
    ("", "wrong_output_layer"): ("remove_output_activation",),
    ("", "loss_mismatch"): ("change_loss",),
    ("", "bad_input_data"): ("clean_input",),
    ("exploding", "bad_input_data"): ("fill_holes", "skip_broken_steps", "restart", "clean_input"),
    ("", "gradients_not_cleared"): ("clear_gradients", "restart"),
    ("", "weights_not_in_optimizer"): ("add_to_optimizer",),
    ("", "blocked_gradient"): ("let_gradients_pass",),
    ("", "missing_activation"): ("add_activations",),
    ("", "too_much_regularization"): ("lower_regularization", "restart"),
    ("", "unscaled_target"): ("restore_if_broken", "familiar_learning_rate", "scale_output"),
}
