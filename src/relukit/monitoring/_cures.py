"""Cures for what `watch` finds, each applied in place to the user's model and optimizer."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from relukit.monitoring._finding import Finding
from relukit.monitoring._initialization import deep_
from relukit.monitoring._layers import LEAKY, RELU_LIKE

_DEEP = 8  # layers from which on a plain network starts by `deep_`
# Up to here torch's own start carries signals, and what it leaves small keeps small data from being learned by heart:
# on 350 rows of diabetes He's start ends at R2 0.4 where torch's ends at 0.5.
_SHALLOW = 4
_SEED = 20_240_601  # of all fresh weights: the same run is mended the same way
_FIRST_RATE = {
    "Adam": 2e-3,
    "AdamW": 2e-3,
    "NAdam": 1e-3,
    "RAdam": 1e-3,
    "Adamax": 2e-3,
    "RMSprop": 1e-3,
    "Adagrad": 1e-2,
}


def cure(watch: Any, finding: Finding) -> dict[str, Any]:
    """Applies what the finding's cause asks for; a cause may need several changes at once (see `PLANS`)."""
    applied, by_user = [], []
    for name in PLANS.get((finding.symptom, finding.cause), PLANS["", finding.cause]):
        text = CURES[name](watch, finding)
        (applied if text else by_user).append(
            f"{name}: {text}" if text else f"{name}: {BY_USER.get(name, 'not possible from here')}"
        )
    return {"finding": finding.to_dict(), "applied": applied, "by_user": by_user}


def reset_state(watch: Any) -> None:
    """Forgets momenta: they belong to the weights before."""
    if watch.optimizer is not None:
        watch.optimizer.state.clear()


def _non_finite(watch: Any) -> bool:
    import torch

    return any(not bool(torch.isfinite(p).all()) for p in watch._inner.parameters())


def _gain(watch: Any, layer: Any) -> float:
    kinds = {layer.activation} if layer.activation else set(watch.record.kinds)
    if kinds & RELU_LIKE:
        return math.sqrt(2)
    if kinds & (LEAKY - {"SELU"}):
        return 1.4
    return 5 / 3 if "Tanh" in kinds else 1.0


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
    deep = depth >= _DEEP and plain and all(layer.weight.ndim == 2 for layer in weights)
    if deep:
        _rates_by_group(watch, deep_(watch._inner, seed=_SEED))
    else:
        watch.restore_start()  # what no module of torch owns, such as learned positions, and running statistics
        _reset_modules(watch._inner)
        if (plain and depth > _SHALLOW) or not hasattr(weights[0].module, "reset_parameters"):
            _he(watch, weights)
    with torch.no_grad():
        for module in watch._inner.modules():
            if isinstance(module, nn.PReLU):
                module.weight.fill_(0.25)
    reset_state(watch)
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


def _rates_by_group(watch: Any, groups: list[dict[str, Any]]) -> None:
    """Layers that start by passing on what comes in learn in a group of their own, by a rate that falls with depth."""
    optimizer = watch.optimizer
    if optimizer is None or len(groups) < 2 or len(optimizer.param_groups) != 1:
        return
    group, passing = optimizer.param_groups[0], {id(p) for p in groups[1]["params"]}
    moved = [p for p in group["params"] if id(p) in passing]
    if not moved or len(moved) == len(group["params"]):
        return
    group["lr"] = _familiar_rate(watch, depth=_DEEP)
    group["params"] = [p for p in group["params"] if id(p) not in passing]
    options = {k: v for k, v in group.items() if k != "params"}
    optimizer.add_param_group(options | {"params": moved, "lr": group["lr"] * groups[1]["lr"] / groups[0]["lr"]})


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
            for parameter in (layer.weight, layer.bias, after.weight):
                if watch.optimizer is not None and parameter is not None:
                    watch.optimizer.state.pop(parameter, None)
            count += len(rows)
    return f"{count} units" if count else ""


def reset_biases(watch: Any, finding: Finding) -> str:
    import torch

    with torch.no_grad():
        for layer in watch.layers:
            if layer.bias is not None and not layer.norm:
                layer.bias.zero_()
                if watch.optimizer is not None:
                    watch.optimizer.state.pop(layer.bias, None)
    return "all biases of linear and convolution layers set to 0"


def _set_rate(watch: Any, rate: float) -> str:
    if watch.optimizer is None:
        return ""
    before = watch.optimizer.param_groups[0]["lr"]
    for group in watch.optimizer.param_groups:
        group["lr"] = rate * group["lr"] / before if before > 0 else rate
        if "initial_lr" in group:
            group["initial_lr"] = group["lr"]
    return f"learning rate {before:g} -> {rate:g}"


def _familiar_rate(watch: Any, depth: int | None = None) -> float:
    """A rate that usually works for the optimizer: smaller with depth and width, unless layers that pass on have a rate of their own."""
    name = type(watch.optimizer).__name__
    if depth is None:
        depth = _DEEP if len(watch.optimizer.param_groups) > 1 else sum(not layer.norm for layer in watch.layers)
    if name in _FIRST_RATE:
        return _FIRST_RATE[name] * min(1.0, 8 / depth) * min(max(64 / _width(watch), 0.5), 2.5)
    momentum = watch.optimizer.param_groups[0].get("momentum", 0) or 0
    # A squared error is steeper than a cross-entropy: its second derivative by the output is 2, not at most 1/4.
    steep = 0.4 if watch.record.chain[:1] == ["MseLoss"] else 1.0
    return steep * (0.03 if momentum > 0.5 else 0.1) * min(1.0, 8 / depth)


def _width(watch: Any) -> float:
    """Median width of the hidden layers: what a step of Adam does to an output grows with it (Yang et al., 2022)."""
    hidden = [layer for layer in watch.layers if not layer.norm][:-1]
    return float(np.median([layer.fan or layer.units for layer in hidden])) if hidden else 64.0


def lower_learning_rate(watch: Any, finding: Finding) -> str:
    if watch.optimizer is None:
        return ""
    before = watch.optimizer.param_groups[0]["lr"]
    rate = min(before / 10, max(_familiar_rate(watch), before / 1e4))
    reset_state(watch)
    return _set_rate(watch, rate)


def raise_learning_rate(watch: Any, finding: Finding) -> str:
    if watch.optimizer is None:
        return ""
    before = watch.optimizer.param_groups[0]["lr"]
    rate = _familiar_rate(watch)
    if rate <= before * 1.5:
        rate = before * 10
    reset_state(watch)
    return _set_rate(watch, rate)


def familiar_learning_rate(watch: Any, finding: Finding) -> str:
    """After fresh weights: a rate that suits them, where the present one is far off."""
    if watch.optimizer is None:
        return ""
    before, rate = watch.optimizer.param_groups[0]["lr"], _familiar_rate(watch)
    return _set_rate(watch, rate) if not rate / 4 <= before <= rate * 4 else f"learning rate {before:g} kept"


def clip_gradients(watch: Any, finding: Finding) -> str:
    """Before every optimizer step the gradient's norm is cut to 1."""
    import torch

    if watch.optimizer is None or not hasattr(watch.optimizer, "register_step_pre_hook"):
        return ""
    if getattr(watch.optimizer, "_relukit_clips", False):
        return "gradient norm is cut to 1 already"
    parameters = [p for group in watch.optimizer.param_groups for p in group["params"]]

    def hook(*_: Any) -> None:
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)

    watch.optimizer.register_step_pre_hook(hook)
    watch.optimizer._relukit_clips = True
    return "gradient norm cut to 1 before every step"


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
    reset_state(watch)
    return "weights put back to where training started"


def restart(watch: Any, finding: Finding) -> str:
    """Training starts anew from its own first weights, where these were not at fault, else from fresh ones."""
    from relukit.monitoring._facts import facts_of, init_cause

    if init_cause(facts_of(watch._view())) is not None or not watch.restore_start():
        return reinitialize(watch, finding)
    reset_state(watch)
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
    std = np.where(std > 1e-12 * (1 + np.abs(mean)), std, 1.0)
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
        return _log_probabilities(watch)
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
    reset_state(watch)
    return f"{old} at '{target}' replaced by {type(fresh).__name__}"


def _log_probabilities(watch: Any) -> str:
    """A hook that turns the outputs into log-probabilities where the loss wants those and gets raw numbers."""
    import torch

    chain = watch.record.chain
    if chain[:1] != ["NllLoss"] or "LogSoftmax" in chain or "Softmax" in chain or "Log" in chain:
        return ""
    watch._inner.register_forward_hook(lambda _, __, out: torch.log_softmax(out, 1))
    restore_if_broken(watch, None)  # type: ignore[arg-type]
    return "a hook takes log_softmax of the model's output, which NLLLoss wants; or use CrossEntropyLoss instead"


def scale_output(watch: Any, finding: Finding) -> str:
    """A hook after the model multiplies by the targets' deviation and adds their mean, so that its weights stay near 1."""
    known = [a.target for a in watch.record.activity if a.target is not None and math.isfinite(a.target.std)]
    if not known or getattr(watch._inner, "_relukit_scales", False):
        return ""
    mean = float(np.mean([t.mean for t in known]))
    std = math.sqrt(float(np.mean([t.std**2 + (t.mean - mean) ** 2 for t in known]))) or 1.0
    if any(c in ("Relu", "ClampMin", "Softplus") for c in watch.record.chain[1:4]):  # outputs from 0 on stay so
        mean, std = 0.0, math.hypot(mean, std)
    watch._inner.register_forward_hook(lambda _, __, out: out * std + mean)
    watch._inner._relukit_scales = True
    text = f"a hook multiplies the model's output by {std:.3g} and adds {mean:.3g}; keep it, or standardize the targets"
    if watch.optimizer is None or type(watch.optimizer).__name__ in _FIRST_RATE:
        return text
    # Plain descent is not free of scale as Adam is: the loss is in the target's unit (squared for squared error).
    steep = std if watch.record.chain[0] in ("L1Loss", "SmoothL1Loss", "HuberLoss") else std**2
    return f"{text}; {_set_rate(watch, _familiar_rate(watch) / steep)}"


def relu_activation(watch: Any, finding: Finding) -> str:
    """Hidden sigmoid and tanh modules become ReLU."""
    return _replace_hidden(watch, {"Sigmoid", "Tanh", "Hardsigmoid", "Hardtanh"}, "ReLU")


def leaky_activation(watch: Any, finding: Finding) -> str:
    """Hidden ReLU modules become LeakyReLU(0.1): what is on stays as it was, what is off passes a tenth."""
    return _replace_hidden(watch, {"ReLU", "ReLU6"}, "LeakyReLU")


def _replace_hidden(watch: Any, kinds: set[str], fresh: str) -> str:
    from torch import nn

    make = {"ReLU": nn.ReLU, "LeakyReLU": lambda: nn.LeakyReLU(0.1)}[fresh]
    last = [layer for layer in watch.layers if not layer.norm][-1].module
    order = list(watch._inner.named_modules())
    end = next(i for i, (_, m) in enumerate(order) if m is last)
    count = 0
    for name, module in order[:end]:
        if type(module).__name__ in kinds and name:
            parent, _, leaf = name.rpartition(".")
            owner = watch._inner.get_submodule(parent) if parent else watch._inner
            setattr(owner, leaf, make())
            count += 1
    if count:
        for layer in watch.layers:
            layer.activation = fresh if layer.activation in kinds else layer.activation
        watch.record.kinds = {fresh: count}
    return f"{count} modules now {fresh}" if count else ""


_WIDTH = 32


def widen(watch: Any, finding: Finding) -> str:
    """Hidden layers of a plain chain of linear layers become 32 units wide (fresh weights; the optimizer follows)."""
    import torch
    from torch import nn

    linear = [layer for layer in watch.layers if not layer.norm]
    if not isinstance(watch._inner, nn.Sequential) or any(type(layer.module) is not nn.Linear for layer in linear):
        return ""
    if len(linear) != len(watch.layers) or min(layer.units for layer in linear[:-1]) >= 8:
        return ""
    swapped: dict[int, Any] = {}
    for k, layer in enumerate(linear):
        module = layer.module
        inputs = module.in_features if k == 0 else max(linear[k - 1].module.out_features, _WIDTH)
        outputs = module.out_features if k == len(linear) - 1 else max(module.out_features, _WIDTH)
        if (inputs, outputs) == (module.in_features, module.out_features):
            continue
        for name, shape in (("weight", (outputs, inputs)), ("bias", (outputs,))):
            old = getattr(module, name)
            if old is None:
                continue
            fresh = nn.Parameter(torch.zeros(shape, dtype=old.dtype, device=old.device))
            swapped[id(old)] = fresh
            setattr(module, name, fresh)
    for layer in linear:
        layer.module.out_features, layer.module.in_features = layer.module.weight.shape
    if watch.optimizer is not None:
        for group in watch.optimizer.param_groups:
            group["params"] = [swapped.get(id(p), p) for p in group["params"]]
    from relukit.monitoring._layers import layers_of

    watch.layers[:] = layers_of(watch._inner)
    return f"hidden layers are now at least {_WIDTH} units wide"


def nothing(watch: Any, finding: Finding) -> str:
    return ""


BY_USER = {
    "change_loss": "the loss is computed outside the model: use one that fits its output (cross-entropy on logits for classes, squared error for numbers)",
    "remove_output_activation": "the output activation is written in forward(): remove it there",
    "clean_input": "the inputs hold NaN or infinity: clean the data",
    "scale_output": "divide the targets by their standard deviation, and multiply predictions by it",
    "standardize_input": "standardize the inputs to mean 0 and deviation 1",
    "relu_activation": "the activations are written in forward(): use relu there",
    "leaky_activation": "the activations are written in forward(): use leaky_relu there",
    "lower_learning_rate": "pass optimizer= to watch, or lower the learning rate tenfold",
    "widen": "make the hidden layers wider than their inputs",
    "raise_learning_rate": "pass optimizer= to watch, or raise the learning rate tenfold",
}

CURES: dict[str, Callable[[Any, Finding], str]] = {
    "reinitialize": reinitialize, "revive_dead_units": revive_dead_units, "reset_biases": reset_biases,
    "lower_learning_rate": lower_learning_rate, "raise_learning_rate": raise_learning_rate,
    "familiar_learning_rate": familiar_learning_rate, "clip_gradients": clip_gradients,
    "standardize_input": standardize_input, "remove_output_activation": remove_output_activation,
    "relu_activation": relu_activation, "leaky_activation": leaky_activation, "restore_if_broken": restore_if_broken, "restart": restart,
    "widen": widen, "scale_output": scale_output, "change_loss": nothing, "clean_input": nothing,
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
    ("", "saturating_activation"): ("relu_activation", "reinitialize", "familiar_learning_rate"),
    ("", "too_deep_for_init"): ("reinitialize", "familiar_learning_rate"),
    ("", "too_narrow"): ("widen", "leaky_activation", "reinitialize", "familiar_learning_rate"),
    ("", "wrong_output_layer"): ("remove_output_activation",),
    ("", "loss_mismatch"): ("change_loss",),
    ("", "bad_input_data"): ("clean_input",),
    ("", "unscaled_target"): ("restore_if_broken", "familiar_learning_rate", "scale_output"),
}
