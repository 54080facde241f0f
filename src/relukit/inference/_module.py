"""The torch face of a `Fast` network."""

from typing import Any

import torch


def forward(fast: Any, x: torch.Tensor) -> torch.Tensor:
    """Outputs `(batch, outputs)`, float32, without gradient; where dense is the plan, the owner's module runs by itself.

    Nothing is done twice: for small networks a microsecond counts.
    """
    if fast.own is not None and fast.is_dense(len(x)) and x.dtype is torch.float32 and x.shape[1:] == fast.network.input_shape and not x.is_cuda:  # fmt: skip
        if torch.is_grad_enabled():
            with torch.no_grad():
                out = fast.own(x)
        else:
            out = fast.own(x)
        return out if out.ndim == 2 else out.reshape(len(x), -1)
    return torch.from_numpy(fast(x.detach().cpu().numpy()))


class FastModule(torch.nn.Module):
    """Calls a `Fast` network on CPU tensors; inference only."""

    def __init__(self, fast: Any) -> None:
        super().__init__()
        self.fast = fast

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As `forward` above."""
        return forward(self.fast, x)
