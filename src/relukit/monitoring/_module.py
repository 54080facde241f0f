"""Health of a torch module that is no network of affine maps and one-dimensional functions: by hooks on its leaves."""

from typing import Any

import numpy as np

from relukit._errors import InvalidInput
from relukit.monitoring._health import _BATCH, Health, LayerHealth


def module_health(module: Any, data: Any) -> Health:
    """What the output units of every leaf module do over a batch of rows.

    A unit is an entry of the last axis (a channel, for images). It is dead where its value is the same for every row
    and position, always on where it is above 0 for all of them; zeros are counted exactly. Works for attention,
    normalization and recurrent cells; gradients are not asked for. The module's mode and random state stay as they are.

    Arguments:
        module: A torch module.
        data: Rows in the shape that its forward takes.

    Raises:
        InvalidInput: No row, or a forward that fails on them.
    """
    import torch

    like = next(module.parameters(), torch.zeros(0))
    rows = torch.as_tensor(np.asarray(data), dtype=like.dtype, device=like.device)
    if not len(rows):
        raise InvalidInput("health needs at least one row")
    seen: dict[str, Any] = {}

    def keep(name: str) -> Any:
        def hook(part: Any, inputs: Any, output: Any) -> None:
            value = output[0] if isinstance(output, tuple) else output
            if (
                isinstance(value, torch.Tensor)
                and value.is_floating_point()
                and value.ndim >= 2
                and len(value) == len(rows)
            ):
                axis = 1 if value.ndim == 4 else value.ndim - 1
                seen[name] = (
                    value.detach()
                    .movedim(axis, -1)
                    .reshape(len(rows), -1, value.shape[axis])
                    .to("cpu", torch.float64)
                    .numpy()
                )

        return hook

    handles = [
        part.register_forward_hook(keep(name))
        for name, part in module.named_modules()
        if name and not any(part.children())
    ]
    state, was = torch.random.get_rng_state(), module.training
    try:
        module.eval()
        # Gradients on: torch's fused attention would skip the submodules and their hooks.
        with torch.enable_grad():
            module(rows)
    except (RuntimeError, ValueError, TypeError) as error:
        raise InvalidInput(
            f"the module cannot run on rows of shape {tuple(rows.shape)}: {str(error).splitlines()[0]}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
        module.train(was)
        torch.random.set_rng_state(state)
    return Health(
        tuple(_layer(name, type(module.get_submodule(name)).__name__, value) for name, value in seen.items()), len(rows)
    )


def _layer(name: str, kind: str, value: Any) -> LayerHealth:
    flat = value.reshape(-1, value.shape[-1])
    first = value[:_BATCH].reshape(-1, value.shape[-1])
    dead, silent = np.ptp(flat, axis=0) == 0, np.ptp(first, axis=0) == 0
    off = flat <= 0
    return LayerHealth(
        name, kind, value.shape[-1], int(silent.sum()), int(dead.sum()), int((~off).all(axis=0).sum()), None, float(np.mean(flat == 0)), None,
        off.mean(axis=0), None,
    )  # fmt: skip
