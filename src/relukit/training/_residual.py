"""Residual blocks (He et al., 2016) that keep two activations where torch keeps four, gradients the same.

A block relu(x + norm(conv(... relu(norm(conv(x)))))) hands its sum on beside its output, so that the sum serves three
purposes: its ReLU is the next block's input; its sign is this block's gate; and the sum less the input gives the last
normalization's output back, whose backward pass needs no more. The hidden activations are computed again, as in `lean`.
"""

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# Below this, dividing by the normalization's slope would magnify rounding more than sixteenfold: the convolution's output is kept.
_SMALLEST_SLOPE = 1 / 16


@dataclass(frozen=True)
class Stage:
    """A convolution and the normalization after it, by their names in the block."""

    conv: str
    norm: str


def stages(block: nn.Module) -> tuple[list[Stage], list[Stage]] | None:
    """Main path and shortcut (empty: the identity) of a module that is relu(main(x) + shortcut(x)), or None."""
    if type(block).__module__.startswith("torch.nn") or not any(isinstance(m, nn.BatchNorm2d) for m in block.modules()):
        return None
    try:
        graph = _Tracer().trace(block)
    except (
        Exception
    ):  # whatever a forward does that cannot be traced (branches on values, several inputs): no such block
        return None
    nodes = list(graph.nodes)
    inputs = [n for n in nodes if n.op == "placeholder"]
    output = nodes[-1].args[0] if nodes[-1].op == "output" else None
    if len(inputs) != 1 or not isinstance(output, fx.Node) or not _is_relu(output, block):
        return None
    total = output.args[0]
    if not (isinstance(total, fx.Node) and _is_sum(total)):
        return None
    paths = [_path(end, inputs[0], block) for end in total.args[:2]]
    if any(p is None for p in paths):
        return None
    paths = sorted(paths, key=len, reverse=True)
    known = sum(3 * len(p) - 1 if p else 0 for p in paths)
    fit = len(paths[0]) >= 2 and len(paths[1]) <= 1 and known == len(nodes) - 4
    return (paths[0], paths[1]) if fit else None


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m).__module__.startswith("torch.nn") and not isinstance(m, nn.Sequential)


def _is_relu(node: fx.Node, block: nn.Module) -> bool:
    if node.op == "call_module":
        return type(block.get_submodule(str(node.target))) is nn.ReLU
    functions = (F.relu, torch.relu, torch.relu_, F.relu_)
    return (node.op == "call_function" and node.target in functions) or (
        node.op == "call_method" and node.target in ("relu", "relu_")
    )


def _is_sum(node: fx.Node) -> bool:
    plain = len(node.args) == 2 and not node.kwargs
    functions = (operator.add, operator.iadd, torch.add)
    return plain and ((node.op == "call_function" and node.target in functions) or (
        node.op == "call_method" and node.target in ("add", "add_")
    ))  # fmt: skip


def _path(node: Any, start: fx.Node, block: nn.Module) -> list[Stage] | None:
    """Stages from `start` to `node`, read backwards: norm, conv, relu, norm, conv."""
    found: list[Stage] = []
    while node is not start:
        if found:
            if not (isinstance(node, fx.Node) and _is_relu(node, block) and len(node.users) == 1):
                return None
            node = node.args[0]
        norm = node
        if not (isinstance(norm, fx.Node) and _is_module(norm, nn.BatchNorm2d, block) and len(norm.users) == 1):
            return None
        conv = norm.args[0]
        if not (isinstance(conv, fx.Node) and _is_module(conv, nn.Conv2d, block) and len(conv.users) == 1):
            return None
        found.append(Stage(str(conv.target), str(norm.target)))
        node = conv.args[0]
    names = [name for s in found for name in (s.conv, s.norm)]
    return found[::-1] if len(set(names)) == len(names) else None


def _is_module(node: fx.Node, kind: type, block: nn.Module) -> bool:
    if node.op != "call_module" or type(block.get_submodule(str(node.target))) is not kind:
        return False
    m: Any = block.get_submodule(str(node.target))
    if kind is nn.Conv2d:
        return m.padding_mode == "zeros" and not isinstance(m.padding, str)
    return m.affine and m.momentum is not None


class LeanBlock(nn.Module):
    """A residual block under its old names, evaluated with less memory; `source` is the block itself."""

    def __init__(self, source: nn.Module, main: list[Stage], shortcut: list[Stage]) -> None:
        super().__init__()
        object.__setattr__(self, "source", source)  # not registered: its children are this module's own
        self._modules = source._modules
        layers = [(source.get_submodule(s.conv), source.get_submodule(s.norm)) for s in [*main, *shortcut]]
        object.__setattr__(self, "layers", layers)
        self.has_shortcut = bool(shortcut)
        self.train(source.training)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(object.__getattribute__(self, "source"), name)

    def fits(self, x: torch.Tensor) -> bool:
        """Whether this call is one of training, in one precision."""
        training = torch.is_grad_enabled() and all(n.training for _, n in self.layers)
        one = (
            x.dim() == 4 and x.dtype == self.layers[0][0].weight.dtype and not torch.is_autocast_enabled(x.device.type)
        )
        return training and one

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.fits(x):
            self.source.training = self.training
            return self.source.forward(x)
        listed = []
        for conv, norm in self.layers:
            listed += [conv.weight, *([conv.bias] if conv.bias is not None else []), norm.weight, norm.bias]
        before = _sum_before(x)
        total = _Sum.apply(self, x if before is None else before, x.detach(), before is not None, *listed)
        y = _GateOfSum.apply(total)
        y._relukit_sum = (total, y._version)
        return y


def _sum_before(x: torch.Tensor) -> torch.Tensor | None:
    """The sum whose ReLU `x` is, when a lean block made it and nothing changed it since."""
    total, version = getattr(x, "_relukit_sum", (None, None))
    return total if version == x._version else None


class _GateOfSum(torch.autograd.Function):
    """ReLU that keeps its input, which the block keeps anyway, not its output."""

    @staticmethod
    def forward(ctx: Any, total: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(total)
        return torch.relu(total)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        return torch.ops.aten.threshold_backward(grads[0], ctx.saved_tensors[0], 0.0)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, block: LeanBlock, x: torch.Tensor, entry: torch.Tensor, gated: bool, *parameters: torch.Tensor
    ) -> torch.Tensor:
        y, kept, ctx.statistics = entry, [], []
        main = block.layers[:-1] if block.has_shortcut else block.layers
        for k, (conv, norm) in enumerate(main):
            c = conv._conv_forward(y, conv.weight, conv.bias)
            y, *moments = _normalized(norm, c)
            ctx.statistics.append(moments)
            kept.append(c)
            if k < len(main) - 1:
                y = y.relu_()
        if block.has_shortcut:
            conv, norm = block.layers[-1]
            c = conv._conv_forward(entry, conv.weight, conv.bias)
            other, *moments = _normalized(norm, c)
            ctx.statistics.append(moments)
            kept.append(c)
            total = y.add_(other)
        else:
            total = y.add_(entry)
        # The last main convolution's output follows from the sum, unless its normalization has slopes near 0.
        ctx.last = len(main) - 1
        ctx.follows = float(main[-1][1].weight.detach().abs().min()) >= _SMALLEST_SLOPE
        if ctx.follows:
            del kept[ctx.last]
        ctx.block, ctx.gated, ctx.count = block, gated, len(kept)
        # The parameters go along for torch's check that none was changed in between.
        ctx.save_for_backward(x, total, *kept, *parameters)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        block, last = ctx.block, ctx.last
        x, total, *rest = ctx.saved_tensors
        kept = rest[: ctx.count]
        entry = torch.relu(x) if ctx.gated else x
        (grad,) = grads
        found: list[list[Any]] = [[] for _ in block.layers]
        if block.has_shortcut:
            conv, norm = block.layers[-1]
            inner, found[-1] = _norm_backward(norm, grad, kept[-1], ctx.statistics[-1])
            through, own = _conv_backward(conv, inner, entry)
            found[-1] = own + found[-1]
            del inner
        else:
            through = grad
        conv, norm = block.layers[last]
        if ctx.follows:
            other = _affine(block.layers[-1][1], kept[-1], ctx.statistics[-1]) if block.has_shortcut else entry
            inner, own = _norm_backward_from_output(norm, grad, total - other, ctx.statistics[last])
            del other
        else:
            inner, own = _norm_backward(norm, grad, kept[last], ctx.statistics[last])
        for k in range(last, -1, -1):
            conv, norm = block.layers[k]
            y = _affine(block.layers[k - 1][1], kept[k - 1], ctx.statistics[k - 1]).relu_() if k else entry
            back, above = _conv_backward(conv, inner, y)
            found[k] = above + own
            if k:
                back = torch.ops.aten.threshold_backward(back, y, 0.0)
                inner, own = _norm_backward(block.layers[k - 1][1], back, kept[k - 1], ctx.statistics[k - 1])
        back += through
        if ctx.gated:
            back = torch.ops.aten.threshold_backward(back, entry, 0.0)
        return None, back, None, None, *[g for own in found for g in own]


def _normalized(norm: Any, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Output, mean and 1 / deviation; the running statistics are updated as the module does."""
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    return torch.native_batch_norm(
        c, norm.weight, norm.bias, norm.running_mean, norm.running_var, True, norm.momentum, norm.eps
    )


def _affine(norm: Any, c: torch.Tensor, moments: list[torch.Tensor]) -> torch.Tensor:
    """The normalization's output once more, from the first pass's statistics."""
    slope = norm.weight.detach() * moments[1]
    return torch.addcmul((norm.bias.detach() - moments[0] * slope)[:, None, None], c, slope[:, None, None])


def _norm_backward(
    norm: Any, grad: torch.Tensor, c: torch.Tensor, moments: list[torch.Tensor]
) -> tuple[torch.Tensor, list[Any]]:
    inner, *own = torch.ops.aten.native_batch_norm_backward(
        grad, c, norm.weight, None, None, *moments, True, norm.eps, [True, True, True]
    )
    return inner, own


def _norm_backward_from_output(
    norm: Any, grad: torch.Tensor, y: torch.Tensor, moments: list[torch.Tensor]
) -> tuple[torch.Tensor, list[Any]]:
    """The same from the normalization's output y = weight z + bias: z is (y - bias) / weight, so these stand in for the
    mean and the deviation, and weight^2 / deviation for the weight."""
    weight = norm.weight.detach()
    inner, *own = torch.ops.aten.native_batch_norm_backward(
        grad,
        y,
        weight * weight * moments[1],
        None,
        None,
        norm.bias.detach(),
        1 / weight,
        True,
        norm.eps,
        [True, True, True],
    )
    return inner, own


def _conv_backward(conv: Any, grad: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, list[Any]]:
    biased = conv.bias is not None
    back, weight, bias = torch.ops.aten.convolution_backward(
        grad, y, conv.weight, [conv.out_channels] if biased else None, conv.stride, conv.padding, conv.dilation, False, [0, 0],
        conv.groups, [True, True, biased],
    )  # fmt: skip
    return back, [weight, bias] if biased else [weight]
