"""The torch face of a `Fast` network."""

from typing import Any

import torch


def forward(fast: Any, x: torch.Tensor) -> torch.Tensor:
    """Outputs `(batch, outputs)`, float32, without gradient; where dense is the plan, the owner's module runs by itself.

    Nothing is done twice: for small networks a microsecond counts.
    """
    own = fast.own
    if own is not None and x.dtype is torch.float32 and x.is_cpu and x.shape[1:] == fast.network.input_shape and fast.chosen(len(x)) is None:  # fmt: skip
        if torch.is_grad_enabled():
            with torch.no_grad():
                out = own(x)
        else:
            out = own(x)
        return out if out.ndim == 2 else out.reshape(len(x), -1)
    return torch.from_numpy(fast(x.detach().cpu().numpy()))


class FastModule(torch.nn.Module):
    """Calls a `Fast` network on CPU tensors; inference only.

    Shapes met before go straight to the owner's module where dense is the plan, or to the compiled form.
    """

    def __init__(self, fast: Any) -> None:
        super().__init__()
        self.fast = fast
        self._calls = (fast.own, fast.run, fast.straight)  # a tuple: torch looks modules among attributes up slowly
        self._plans: dict[Any, Any] = {}  # by shape: None for dense, a plan else
        self._flat_input = len(fast.network.input_shape) == 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As `forward` above."""
        return forward(self.fast, x)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Without hooks of this wrapper; those of the owner's module run where it does."""
        if x.dtype is torch.float32 and x.is_cpu:
            plan = self._plans.get(x.shape, self)
            if plan is None:
                if torch.is_grad_enabled():
                    with torch.no_grad():
                        return self._calls[0](x)
                return self._calls[0](x)
            if plan is not self:
                if plan[0] == "torch":
                    return self._calls[2](x.detach() if x.requires_grad else x)
                return torch.from_numpy(self._calls[1](x.detach().numpy() if x.requires_grad else x.numpy(), plan))
        return self._first(x)

    def _first(self, x: torch.Tensor) -> torch.Tensor:
        """A shape not met before: what it needs is kept where nothing has to be reshaped."""
        out = forward(self.fast, x)
        if (
            x.dtype is torch.float32
            and x.is_cpu
            and x.ndim == 2
            and self._flat_input
            and x.shape[1] == self.fast.network.inputs
            and len(self._plans) < 1000
        ):
            plan = self.fast.chosen(len(x))
            if plan is not None or (self.fast.own is not None and self.fast.own(x[:1]).ndim == 2):
                self._plans[x.shape] = plan
        return out
