"""Large networks at points, in torch on the CPU: attacks ask for the largest output and its slope."""

from typing import Any

import numpy as np

from relukit._types import Array, BoolArray
from relukit.network import Affine, Network

_WORTH = 30_000_000  # multiplications of one forward pass from which torch's convolutions are worth its import


def module_of(network: Network) -> Any:
    """The network in torch, in single precision; None where it is too small to be worth it."""
    maps = [m for node in network.nodes if isinstance(node.op, Affine) for m in node.op.maps]
    return network.on("cpu", np.float32) if sum(m.terms * m.out_size for m in maps) >= _WORTH else None


def outputs(module: Any, points: Array) -> Array:
    """All outputs at points `(k, n)`."""
    import torch

    with torch.no_grad():
        return module(torch.as_tensor(points, dtype=torch.float32)).numpy()


def extreme(module: Any, points: Array, mine: BoolArray | None = None, least: bool = False) -> tuple[Array, Array]:
    """All outputs at points `(k, n)`, and the slope of the largest one (or the least) at each.

    Arguments:
        mine: Outputs `(k, R)` that count at each point.
    """
    import torch

    x = torch.tensor(points, dtype=torch.float32, requires_grad=True)
    out = module(x)
    if mine is not None:
        out = torch.where(torch.from_numpy(mine), out, torch.inf if least else -torch.inf)
    chosen = out.min(dim=1).values if least else out.max(dim=1).values
    (grad,) = torch.autograd.grad(chosen.sum(), x)
    return out.detach().numpy(), grad.numpy().astype(np.float64)
