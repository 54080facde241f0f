"""torch modules that torch lacks: squared ReLU, CReLU, maxout, and weight-decay groups that spare PReLU slopes."""

from typing import Any

import torch
from torch import nn

from relukit._errors import InvalidInput


class ReLUSquared(nn.Module):
    """max(0, x)^2, entrywise.

    References:
        Primer: Searching for Efficient Transformers for Language Modeling, So et al., 2021.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(x)
        return y * y


class CReLU(nn.Module):
    """(max(0, x), max(0, -x)) along `dim`: twice as many outputs, nothing lost.

    References:
        Understanding and Improving Convolutional Neural Networks via Concatenated ReLUs, Shang et al., 2016.
    """

    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(torch.cat([x, -x], self.dim))


class Maxout(nn.Module):
    """Largest of `pieces` affine maps.

    Arguments:
        inputs: Features in; `outputs` features out; shape `(..., inputs)` to `(..., outputs)`.
        pieces: Maps for each output, at least 2.

    References:
        Maxout Networks, Goodfellow et al., 2013.
    """

    def __init__(self, inputs: int, outputs: int, pieces: int = 2) -> None:
        super().__init__()
        if pieces < 2:
            raise InvalidInput(f"maxout needs at least 2 pieces, got {pieces}")
        self.pieces, self.outputs = pieces, outputs
        self.linear = nn.Linear(inputs, outputs * pieces)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x).unflatten(-1, (self.outputs, self.pieces)).amax(-1)


def decay_groups(model: nn.Module, weight_decay: float = 1e-2) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer: decay for weights, none for biases, normalization and PReLU slopes.

    Decay would pull a learned slope towards 0 and so turn PReLU into ReLU.

    Example:
        >>> torch.optim.AdamW(relukit.nn.decay_groups(model, 0.01), lr=1e-3)

    References:
        Delving Deep into Rectifiers, He et al., 2015 (section 2.1: no weight decay on the slopes).
    """
    spared: list[Any] = []
    decayed: list[Any] = []
    seen: set[int] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen or not parameter.requires_grad:
                continue
            seen.add(id(parameter))
            keep_out = isinstance(module, nn.PReLU) or name == "bias" or parameter.ndim < 2
            (spared if keep_out else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]


def __getattr__(name: str) -> Any:
    """`lean`, `tune_allocator` and `ReLUDropout` live in a file of their own."""
    if name in ("lean", "tune_allocator", "ReLUDropout", "LeanSequential"):
        from relukit.training import lean as module

        return getattr(module, name)
    raise AttributeError(f"module 'relukit.nn' has no attribute {name!r}")
