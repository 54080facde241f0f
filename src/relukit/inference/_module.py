"""The torch face of a `Fast` network."""

from typing import Any

import torch


class FastModule(torch.nn.Module):
    """Calls a `Fast` network on CPU tensors; inference only."""

    def __init__(self, fast: Any) -> None:
        super().__init__()
        self.fast = fast

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs `(batch, outputs)`, float32, without gradient."""
        return torch.from_numpy(self.fast(x.detach().cpu().numpy()))
