"""Training with fewer bytes kept for the backward pass: blocks that keep one activation where torch keeps two or three.

Nothing is approximated. ReLU with dropout keeps its product only, whose zeros tell both masks; LeakyReLU before a linear or
convolution layer keeps its output only, whose sign tells the slope; another activation there is computed again in the backward
pass from its input, which is cheap beside the product; the same goes for batch normalization with an activation before a convolution.
"""

import copy
import ctypes
import platform
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from relukit._errors import InvalidInput
from relukit.training._residual import LeanBlock, stages


class _ReLUDropout(torch.autograd.Function):
    """max(0, x) times a dropout mask; keeps the product alone, which the next layer keeps anyway."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, p: float) -> torch.Tensor:
        # The same random numbers as F.dropout draws on this device, so that results agree bit by bit.
        if x.is_cuda:
            y = torch.native_dropout(torch.relu(x), p, True)[0]
        else:
            y = torch.relu(x) * torch.empty_like(x).bernoulli_(1 - p).div_(1 - p)
        ctx.save_for_backward(y)
        ctx.scale = float(torch.ones((), dtype=x.dtype).div_(1 - p))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(grads[0], y, 0.0).mul_(ctx.scale), None


class ReLUDropout(nn.Module):
    """ReLU followed by dropout with probability `p`, with the random numbers of `nn.Sequential(nn.ReLU(), nn.Dropout(p))`; bit-identical on the CPU."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0:
            return torch.relu(x)
        return _ReLUDropout.apply(x, self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class _Again(torch.autograd.Function):
    """op(front(x)) that keeps x and computes front(x) again when its gradient is asked for."""

    @staticmethod
    def forward(ctx: Any, front: Any, op: Any, x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        ctx.front, ctx.op = front, op
        ctx.save_for_backward(x, *parameters)
        ctx.count = len(front.parameters)
        return op.forward(front.forward(x), parameters[ctx.count :])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        x, *parameters = ctx.saved_tensors
        before, after = parameters[: ctx.count], parameters[ctx.count :]
        again = ctx.front.again(x, before)
        inner, own = ctx.op.backward(grads[0], again[0].detach(), after)
        outer = ctx.front.backward(inner, x, before, again)
        return None, None, outer[0], *outer[1:], *own


class _Activation:
    """The cheap part: an activation module, its gradient taken by autograd on the spot."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.parameters = module, list(module.parameters())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(x)

    def again(self, x: torch.Tensor, parameters: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """The output once more, with the graph that leads back to its input."""
        with torch.enable_grad():
            z = x.detach().requires_grad_()
            return self.module(z), z

    def backward(self, grad: torch.Tensor, x: torch.Tensor, parameters: Any, again: Any) -> tuple:
        return torch.autograd.grad(again[0], [again[1], *self.parameters], grad)


class _NormActivation:
    """The cheap part: batch normalization and an activation."""

    def __init__(self, norm: Any, activation: nn.Module) -> None:
        self.norm, self.activation, self.parameters = norm, activation, [norm.weight, norm.bias]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        norm = self.norm
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        y, self.mean, self.deviation = torch.native_batch_norm(
            x, *self.parameters, norm.running_mean, norm.running_var, True, norm.momentum or 0.0, norm.eps
        )
        return self.activation(y)

    def again(self, x: torch.Tensor, parameters: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """The output once more, from the first pass's statistics, as torch computes it: x slope + offset, fused."""
        slope = parameters[0] * self.deviation
        offset = parameters[1] - self.mean * slope
        y = torch.addcmul(offset[:, None, None], x, slope[:, None, None])
        with torch.enable_grad():
            z = y.detach().requires_grad_()
            return self.activation(z), z

    def backward(self, grad: torch.Tensor, x: torch.Tensor, parameters: Any, again: Any) -> tuple:
        (inner,) = torch.autograd.grad(again[0], again[1], grad)
        return torch.ops.aten.native_batch_norm_backward(
            inner, x, parameters[0], None, None, self.mean, self.deviation, True, self.norm.eps, [True, True, True]
        )


class _FromOutput(torch.autograd.Function):
    """op(LeakyReLU(x)) that keeps the activation's output alone: its sign is that of x, and `op` needs it anyway."""

    @staticmethod
    def forward(ctx: Any, slope: float, op: Any, x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        y = F.leaky_relu(x, slope)
        ctx.slope, ctx.op = slope, op
        ctx.save_for_backward(y, *parameters)
        return op.forward(y, parameters)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        y, *parameters = ctx.saved_tensors
        inner, own = ctx.op.backward(grads[0], y, parameters)
        # Written over what the product just made, which nobody else sees: a fresh one would be one more pass over memory.
        return (
            None,
            None,
            torch.ops.aten.leaky_relu_backward.grad_input(inner, y, ctx.slope, True, grad_input=inner),
            *own,
        )


class _LinearOp:
    """The dear part: a linear layer."""

    def __init__(self, layer: nn.Linear) -> None:
        self.layer = layer

    def forward(self, y: torch.Tensor, parameters: Any) -> torch.Tensor:
        return F.linear(y, *parameters)

    def backward(self, grad: torch.Tensor, y: torch.Tensor, parameters: Any) -> tuple:
        flat, rows = grad.reshape(-1, grad.shape[-1]), y.reshape(-1, y.shape[-1])
        own = [flat.t() @ rows] + ([flat.sum(0)] if len(parameters) > 1 else [])
        return grad @ parameters[0], own


class _ConvOp:
    """The dear part: a convolution."""

    def __init__(self, layer: nn.Conv2d) -> None:
        self.layer = layer

    def forward(self, y: torch.Tensor, parameters: Any) -> torch.Tensor:
        return self.layer._conv_forward(y, parameters[0], parameters[1] if len(parameters) > 1 else None)

    def backward(self, grad: torch.Tensor, y: torch.Tensor, parameters: Any) -> tuple:
        c, biased = self.layer, len(parameters) > 1
        inner, weight, bias = torch.ops.aten.convolution_backward(
            grad, y, parameters[0], [c.out_channels] if biased else None, c.stride, c.padding, c.dilation, False, [0, 0], c.groups,
            [True, True, biased],
        )  # fmt: skip
        return inner, [weight, bias] if biased else [weight]


class _Lean(nn.Module):
    """A run of modules of one `nn.Sequential`, kept under its old names, evaluated with less memory."""

    def __init__(self, parts: list[nn.Module]) -> None:
        super().__init__()
        object.__setattr__(self, "parts", parts)  # not registered: the Sequential holds them already

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        *front, last = self.parts
        mixed = torch.is_autocast_enabled(x.device.type)
        if mixed or not torch.is_grad_enabled() or not (self.training or len(front) == 1):
            return last(front[0](x) if len(front) == 1 else front[1](front[0](x)))
        after = _LinearOp(last) if isinstance(last, nn.Linear) else _ConvOp(last)
        own = [last.weight] + ([last.bias] if last.bias is not None else [])
        if type(front[0]) is nn.LeakyReLU and front[0].negative_slope > 0:
            return _FromOutput.apply(front[0].negative_slope, after, x, *own)
        before = _Activation(front[0]) if len(front) == 1 else _NormActivation(front[0], front[1])
        return _Again.apply(before, after, x, *before.parameters, *own)


class LeanSequential(nn.Sequential):
    """An `nn.Sequential` with the same modules and state_dict that runs some of them together."""

    def __init__(self, source: nn.Sequential) -> None:
        super().__init__()
        for name, module in zip(source._modules, source):  # named_children() leaves out what comes a second time
            self.add_module(name, module)
        self.train(source.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = list(self)
        k = 0
        while k < len(parts):
            length = _pattern(parts[k : k + 3])
            if length == 0:
                x, k = parts[k](x), k + 1
                continue
            run = parts[k : k + length]
            if isinstance(run[1], nn.Dropout):
                x = _ReLUDropout.apply(x, run[1].p) if self.training and run[1].p > 0 else run[1](run[0](x))
            else:
                x = _Lean(run).train(self.training)(x)
            k += length
        return x


_RECOMPUTED = (nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Hardswish)


def _pattern(parts: list[nn.Module]) -> int:
    """How many modules from here on run together: 0 for none."""
    kinds = [type(p) for p in parts]
    if len(parts) >= 2 and kinds[0] is nn.ReLU and kinds[1] is nn.Dropout:
        return 2
    if (
        len(parts) >= 2
        and (isinstance(parts[0], _RECOMPUTED) or kinds[0].__name__ == "ReLUSquared")
        and _dear(parts[1])
    ):
        return 2
    norm = (
        len(parts) == 3
        and kinds[0] is nn.BatchNorm2d
        and parts[0].affine
        and parts[0].training
        and parts[0].momentum is not None
    )
    plain = norm and (kinds[1] is nn.ReLU or (isinstance(parts[1], _RECOMPUTED) and not list(parts[1].parameters())))
    return 3 if plain and _dear(parts[2]) else 0


def _dear(layer: nn.Module) -> bool:
    return type(layer) is nn.Linear or (
        type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    )


def lean(model: nn.Module) -> nn.Module:
    """Swaps lean blocks in wherever the model has one of the patterns; gradients and state_dict stay the same.

    In an `nn.Sequential`, bit by bit: ReLU + Dropout; LeakyReLU, PReLU, ELU, CELU, SELU, GELU, SiLU, Mish, Softplus, Hardswish
    or squared ReLU before a linear or convolution layer; BatchNorm2d + activation before a convolution. Everywhere, up to
    rounding: modules whose forward is relu(norm(conv(... relu(norm(conv(x))))) + x), the shortcut a convolution and a
    normalization or none (He's basic and bottleneck blocks, torchvision's among them), which keep two activations for four
    where one follows the other.
    Hooks on the modules inside are not called. Under autocast everything runs as before. Gradients of gradients are refused.

    Arguments:
        model: Any module; its parameters are shared with the result.

    Returns:
        A module of the same behavior (`model` itself is not changed).

    Raises:
        InvalidInput: It is no torch module.

    References:
        In-Place Activated BatchNorm for Memory-Optimized Training of DNNs, Rota Bulo et al., 2018. Training Deep Nets with
        Sublinear Memory Cost, Chen et al., 2016.
    """
    if not isinstance(model, nn.Module):
        raise InvalidInput(f"lean takes a torch module, got {type(model).__name__}")
    shared = {id(p): p for p in [*model.parameters(), *model.buffers()]}
    return _swapped(copy.deepcopy(model, shared))


def _swapped(module: nn.Module) -> nn.Module:
    if (found := stages(module)) is not None:
        return LeanBlock(module, *found)
    for name, child in list(module.named_children()):
        setattr(module, name, _swapped(child))
    return LeanSequential(module) if type(module) is nn.Sequential else module


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def tune_allocator(threshold: int = 1 << 30) -> bool:
    """Lets glibc keep freed memory instead of giving it back after every step (Linux only, for the whole process).

    Tensors above 32 MiB are otherwise mapped and unmapped, page by page, at every step. Call it before training; it cannot be
    undone and the process keeps its peak.

    Arguments:
        threshold: Bytes below which blocks come from the heap.

    Returns:
        Whether the C library took it.

    References:
        mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    limit = min(int(threshold), 2**31 - 1)
    # glibc refuses mmap thresholds above half its heap size (32 MiB on 64 bit); turning mapping off works for all sizes.
    kept = bool(library.mallopt(_M_TRIM_THRESHOLD, limit))
    return (bool(library.mallopt(_M_MMAP_THRESHOLD, limit)) and kept) or (bool(library.mallopt(-4, 0)) and kept)
