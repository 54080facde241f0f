"""Health of a torch module that is no network of affine maps and one-dimensional functions: seen while it runs."""

from pathlib import Path
from typing import Any

import numpy as np

from relukit._errors import InvalidInput, UnreadableFile
from relukit.monitoring._health import _BATCH, Health, LayerHealth
from relukit.monitoring._verdict import findings_of

_OFF_BELOW = {"ReLU", "ReLU6", "relu", "relu6", "threshold", "clamp_min"}  # off units put out one number
# Activations as the dispatcher calls them, however they are written: torch.relu, F.relu, Tensor.relu_, x.clamp(min=0).
_CALLS = {
    "relu", "relu_", "leaky_relu", "leaky_relu_", "elu", "elu_", "gelu", "silu", "silu_", "mish", "sigmoid", "sigmoid_", "tanh", "tanh_", "hardtanh",
    "hardtanh_", "hardswish", "hardsigmoid", "softplus", "clamp_min", "clamp_min_", "threshold", "threshold_", "prelu", "_prelu_kernel", "celu", "selu",
}  # fmt: skip


def module_health(module: Any, data: Any, one_by_one: bool = False) -> Health:
    """What the output units of every leaf module, and of every activation written in `forward`, do over a batch of rows.

    A unit is an entry of the last axis (a channel, for images). It is dead where its value is the same for every row
    and position, always on where it is above 0 for all of them; zeros are counted exactly. Works for attention,
    normalization and recurrent cells. The gradient is that of the largest output. Mode, gradients and random state stay
    as they are.

    Arguments:
        module: A torch module.
        data: Rows in the shape that its forward takes.
        one_by_one: The module takes one row at a time, as programs exported without a free batch do.

    Raises:
        InvalidInput: No row, or a forward that fails on them.
    """
    import torch

    like = next(module.parameters(), torch.zeros(0))
    rows = torch.as_tensor(np.asarray(data))
    # Token numbers stay whole; what is a number in floating point takes the weights' precision.
    rows = rows.to(device=like.device, dtype=like.dtype) if rows.is_floating_point() else rows.to(like.device)
    if not len(rows):
        raise InvalidInput("health needs at least one row")
    # A program's module has no mode to change.
    state, was = torch.random.get_rng_state(), module.training and not isinstance(module, torch.fx.GraphModule)
    try:
        if was:
            module.eval()
        parts = [_look(module, part) for part in (rows.split(1) if one_by_one else (rows,))]
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise InvalidInput(
            f"the module cannot run on rows of shape {tuple(rows.shape)}: {str(error).splitlines()[0]}"
        ) from error
    finally:
        if was:
            module.train(was)
        torch.random.set_rng_state(state)
    layers = []
    for name, (kind, *_) in parts[0][0].items():
        values = [part[name][1] for part, _ in parts if name in part]
        norms = [part[name][2] for part, _ in parts if name in part]
        grad = None if any(n is None for n in norms) else float(np.linalg.norm(np.mean(norms, axis=0)))
        layers.append(_layer(name, kind, np.concatenate(values), grad))
    outputs = np.concatenate([out for _, out in parts])
    gates = tuple(layer for layer in layers if layer.activation in _OFF_BELOW)
    return Health(tuple(layers), len(rows), findings_of(gates, outputs))


def exported_health(path: str | Path, data: Any) -> Health:
    """The same for a program that `torch.export.save` wrote; its calls go by the modules they came from.

    Raises:
        UnreadableFile: As for `relukit.load`.
        InvalidInput: Rows that do not fit.
    """
    import torch

    from relukit.network.torch import _check_archive

    path = Path(path)
    _check_archive(path)
    try:
        program = torch.export.load(path)
    except Exception as error:
        raise UnreadableFile(
            f"{path} is no readable exported program: {(str(error) or type(error).__name__).splitlines()[0]}"
        ) from error
    named = set(program.graph_signature.user_inputs)
    shape = next(node.meta["val"].shape for node in program.graph.nodes if node.name in named)
    rows = np.asarray(data, np.float32).reshape(len(data), *shape[1:])
    return module_health(program.module(), rows, one_by_one=isinstance(shape[0], int))


def _look(module: Any, rows: Any) -> tuple[dict[str, Any], Any]:
    """One forward and backward pass: by name the kind, the values and the mean absolute gradient by unit."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: dict[str, Any] = {}
    inside: list[str] = []
    count = len(rows)

    def keep(name: str, kind: str, value: Any) -> None:
        if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.ndim < 2:
            return
        if len(value) == count and name not in seen:
            seen[name] = [kind, _by_unit(value), value]

    class Calls(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            call = func.overloadpacket.__name__
            where = inside[-1] if inside else ""
            if call in _CALLS and where not in leaves:
                number = sum(k.startswith(f"{where}.{call}".lstrip(".")) for k in calls)
                name = f"{where}.{call.strip('_')}".lstrip(".") + (f"_{number}" if number else "")
                calls[name] = (call.strip("_"), _by_unit(out) if out.ndim >= 2 and len(out) == count else None)
                order.append(name)
            return out

    calls: dict[str, Any] = {}
    order: list[str] = []
    leaves = {name for name, part in module.named_modules() if name and not any(part.children())}
    handles = []
    for name, part in module.named_modules():
        handles.append(part.register_forward_pre_hook(lambda _, __, name=name: inside.append(name)))

        def leave(part: Any, _: Any, output: Any, name: str = name) -> None:
            inside.pop()
            if name in leaves:
                keep(name, type(part).__name__, output[0] if isinstance(output, tuple) else output)
                order.append(name)

        handles.append(part.register_forward_hook(leave, always_call=False))
    try:
        # Gradients on: torch's fused attention would skip the submodules and their hooks.
        with torch.enable_grad(), Calls():
            out = module(rows)
    finally:
        for handle in handles:
            handle.remove()
    out = out[0] if isinstance(out, tuple) else out
    found: dict[str, Any] = {}
    gradients = _gradients(out, {name: value for name, (_, _, value) in seen.items()})
    for name in order:
        if name in found:
            continue
        if name in seen:
            found[name] = (seen[name][0], seen[name][1], gradients.get(name))
        elif name in calls and calls[name][1] is not None:
            found[name] = (*calls[name], None)
    return found, out.detach().reshape(len(out), -1).to("cpu", torch.float64).numpy()


def _gradients(out: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Mean absolute gradient of each row's largest output by unit; nothing where values were written over."""
    import torch

    wanted = {name: value for name, value in values.items() if value.requires_grad}
    if not wanted or not out.requires_grad:
        return {}
    try:
        found = torch.autograd.grad(
            out.reshape(len(out), -1).amax(1).sum(), list(wanted.values()), allow_unused=True, retain_graph=False
        )
    except RuntimeError:  # an in-place activation changed what the gradient needs
        return {}
    return {
        name: np.abs(_by_unit(g)).mean(axis=(0, 1)) for name, g in zip(wanted, found) if g is not None
    }  # fmt: skip


def _by_unit(value: Any) -> Any:
    """A copy of shape (rows, positions, units): channels are the units of images and signals."""
    import torch

    axis = 1 if value.ndim == 4 else value.ndim - 1
    moved = value.detach().movedim(axis, -1).reshape(len(value), -1, value.shape[axis])
    return moved.to("cpu", torch.float64, copy=True).numpy()


def _layer(name: str, kind: str, value: Any, grad: float | None) -> LayerHealth:
    flat = value.reshape(-1, value.shape[-1])
    first = value[:_BATCH].reshape(-1, value.shape[-1])
    dead, silent = np.ptp(flat, axis=0) == 0, np.ptp(first, axis=0) == 0
    off = flat <= 0
    return LayerHealth(
        name, kind, value.shape[-1], int(silent.sum()), int(dead.sum()), int((~off).all(axis=0).sum()), None, float(np.mean(flat == 0)), grad,
        off.mean(axis=0), None,
    )  # fmt: skip
