"""torch modules that torch lacks: squared ReLU, CReLU, maxout, a formula with a residual, and weight-decay groups that spare PReLU slopes."""

from collections.abc import Callable
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


class Rising(nn.Module):
    """One layer of ReLUs that rises with its last input by construction, whatever the other inputs do.

    Three groups of `hidden` units: the last input's weight and the output's both positive, both negative, or no weight of the
    last input at all. Positive numbers are softplus of free ones, so nothing is penalized and nothing can be violated.

    Arguments:
        inputs: Features in, at least 1; shape `(..., inputs)` to `(..., 1)`.
        hidden: Units in each group.
    """

    def __init__(self, inputs: int, hidden: int = 12) -> None:
        super().__init__()
        if inputs < 1 or hidden < 1:
            raise InvalidInput(f"a rising layer needs at least one input and one unit, got {inputs} and {hidden}")
        self.inner = nn.Parameter(torch.randn(3 * hidden, inputs) * 0.5)
        self.bias = nn.Parameter(torch.randn(3 * hidden) * 0.5)
        self.outer = nn.Parameter(torch.randn(3 * hidden) * 0.05)
        self.rest = nn.Parameter(torch.zeros(1))
        self.register_buffer("sign", torch.tensor([1.0, -1.0, 0.0]).repeat_interleave(hidden))

    def weights(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The signed weights of the inputs `(units, inputs)` and of the output `(units,)`."""
        last = nn.functional.softplus(self.inner[:, -1] - 1) * self.sign
        out = torch.where(self.sign == 0, self.outer, nn.functional.softplus(self.outer - 4) * self.sign)
        return torch.cat([self.inner[:, :-1], last[:, None]], 1), out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        W, out = self.weights()
        return (torch.relu(x @ W.T + self.bias) @ out)[..., None] + self.rest


class Residual(nn.Module):
    """A known formula and a network for the rest: `formula(x) + scale * network(x)`.

    Arguments:
        formula: Takes the inputs and gives the outputs; a module of its own is trained along, a plain function stays.
        network: Any module of the same shapes; `optimize` bounds what it adds over a box.
        scale: Size of the rest in units of the output, so that the network works with numbers near 1.
    """

    def __init__(self, formula: Callable[[torch.Tensor], torch.Tensor], network: nn.Module, scale: float = 1.0) -> None:
        super().__init__()
        self.formula, self.network, self.scale = formula, network, scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.formula(x) + self.scale * self.network(x)


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
