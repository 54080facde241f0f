"""Any torch module through `torch.export`: a table from ATen operator to nodes."""

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from relukit._errors import UnsupportedOperation
from relukit._types import Array
from relukit.activations import catalogue
from relukit.network._network import Network
from relukit.network.affine import Conv
from relukit.network.rewrite import Builder, size_of

_HEADS = {
    "softmax": "softmax",
    "_softmax": "softmax",
    "log_softmax": "log_softmax",
    "_log_softmax": "log_softmax",
    "sigmoid": "sigmoid",
}
# Operators that only move entries: run on the entries' numbers by torch itself.
_MOVES = frozenset(
    "view reshape flatten permute transpose t numpy_T squeeze unsqueeze select slice expand expand_as chunk split split_with_sizes "
    "unbind contiguous clone alias roll flip narrow pixel_shuffle unflatten index_select _unsafe_view movedim swapaxes repeat tile detach".split()
)
_SAME = frozenset("dropout dropout_ alpha_dropout feature_dropout to _to_copy lift_fresh_copy native_dropout".split())


class Call:
    """One call in the exported graph with its arguments resolved: values are `Value`, the rest constants."""

    def __init__(self, node: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
        self.node, self.args, self.kwargs = node, args, kwargs
        self.kind = str(node.target).split(".")[1] if "." in str(node.target) else str(node.target)
        stack = node.meta.get("nn_module_stack") or {}
        path, cls = list(stack.values())[-1] if stack else ("", "")
        self.path = path or node.name
        self.source = f"{getattr(cls, '__name__', str(cls).rsplit('.', 1)[-1])} {path}".strip()

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        value = self.args[position] if position < len(self.args) else self.kwargs.get(name, default)
        return default if value is None else value

    def refuse(self, why: str) -> UnsupportedOperation:
        return UnsupportedOperation(
            f"aten.{self.kind} at node '{self.node.name}' ({self.source or 'no module'}): {why}"
        )


class Value:
    """A tensor that depends on the input: a node of the builder."""

    def __init__(self, index: int) -> None:
        self.index = index


def from_exported(program: Any, dtype: np.dtype) -> Network:
    """A network from a `torch.export.ExportedProgram` with one input of batch 1."""
    signature, tensors = program.graph_signature, {}
    for spec in signature.input_specs:
        if spec.target is not None:
            tensors[spec.arg.name] = program.state_dict.get(spec.target, program.constants.get(spec.target))
    inputs = list(signature.user_inputs)
    if len(inputs) != 1:
        raise UnsupportedOperation(
            f"the module takes {len(inputs)} inputs; relukit reads modules with one tensor input"
        )
    env: dict[str, Any] = {}
    builder: Builder | None = None
    head, nodes = "", list(program.graph.nodes)
    for node in nodes:
        if node.op == "placeholder":
            if node.name in inputs:
                builder = Builder(_fixed_shape(node))
                env[node.name] = Value(0)
            else:
                env[node.name] = tensors.get(node.name)
        elif node.op == "call_function":
            assert builder is not None
            call = Call(
                node, [_resolve(a, env) for a in node.args], {k: _resolve(v, env) for k, v in node.kwargs.items()}
            )
            if call.kind in _HEADS and all(u.op == "output" for u in node.users) and isinstance(call.args[0], Value):
                head = _HEADS[call.kind]
                builder.notes.append(
                    f"the last {head} is set aside: it is monotone, so decisions are those of its inputs"
                )
                env[node.name] = call.args[0]
            else:
                env[node.name] = _convert(call, builder)
        elif node.op == "output":
            assert builder is not None
            results = [_resolve(a, env) for a in torch.utils._pytree.tree_leaves(node.args)]
            results = [r for r in results if isinstance(r, Value)]
            if not results:
                raise UnsupportedOperation("the module's output does not depend on its input")
            if len(results) > 1:
                parts = [builder.reshape(r.index, (1, builder.nodes[r.index].size)) for r in results]
                builder.notes.append(f"{len(parts)} outputs are joined into one vector, in their order")
                results = [Value(builder.concatenate(parts, 1))]
            return _without_batch(builder.build(results[0].index, dtype=dtype, head=head))
    raise UnsupportedOperation("the exported graph has no output")


def _without_batch(network: Network) -> Network:
    from dataclasses import replace

    cut = lambda shape: shape[1:] if len(shape) > 1 and shape[0] == 1 else shape
    return network.with_(nodes=tuple(replace(n, shape=cut(n.shape)) for n in network.nodes))


def _fixed_shape(node: Any) -> tuple[int, ...]:
    shape = node.meta["val"].shape
    sizes = []
    for k, s in enumerate(shape):
        if not isinstance(s, int):
            if k > 0:
                raise UnsupportedOperation(
                    f"input '{node.name}' has the dynamic shape {list(map(str, shape))}: only the batch may be open"
                )
            s = 1
        sizes.append(int(s))
    return tuple(sizes)


def _resolve(value: Any, env: dict[str, Any]) -> Any:
    if isinstance(value, torch.fx.Node):
        return env[value.name]
    if isinstance(value, list | tuple):
        return [_resolve(v, env) for v in value]
    return value


def _convert(call: Call, b: Builder) -> Any:
    flat = torch.utils._pytree.tree_leaves((call.args, call.kwargs))
    if call.node.target is operator.getitem:
        return call.args[0][call.args[1]]
    if not any(isinstance(a, Value) for a in flat):
        return call.node.target(*call.args, **call.kwargs)
    if call.kind in _SAME:
        return call.args[0]
    if call.kind in _MOVES:
        return _move(call, b)
    row = OPERATORS.get(call.kind)
    if row is None:
        raise call.refuse(
            "neither affine nor an activation that relukit knows. Bounds, pieces and proofs need such a network; health works on the module itself."
        )
    return Value(row(call, b))


def _move(call: Call, b: Builder) -> Any:
    x = call.args[0].index
    numbers = torch.arange(b.nodes[x].size).reshape(b.shape(x))
    moved = call.node.target(numbers, *call.args[1:], **call.kwargs)
    place = lambda t: Value(b.gather(x, t.numpy().ravel(), tuple(t.shape), call.path, call.source))
    return [place(t) for t in moved] if isinstance(moved, list | tuple) else place(moved)


# -- operators ----------------------------------------------------------------------------------------------------------


def _const(value: Any) -> Array:
    return (
        value.detach().to("cpu", torch.float64).numpy()
        if isinstance(value, torch.Tensor)
        else np.asarray(value, np.float64)
    )


def _x(call: Call, position: int = 0) -> int:
    value = call.args[position]
    if not isinstance(value, Value):
        raise call.refuse(f"argument {position} must depend on the input")
    return value.index


def _linear(call: Call, b: Builder) -> int:
    W, bias = call.argument(1, "weight"), call.argument(2, "bias")
    if isinstance(W, Value):
        raise call.refuse("multiplies two values that depend on the input")
    return b.matmul(_x(call), _const(W).T, None if bias is None else _const(bias), call.path, call.source)


def _matmul(call: Call, b: Builder) -> int:
    left, right = call.args[0], call.args[1]
    if isinstance(left, Value) and isinstance(right, Value):
        raise call.refuse("multiplies two values that depend on the input (attention): no piecewise-linear function")
    if isinstance(right, Value):
        raise call.refuse("a constant times a value is not supported; write it as a Linear layer")
    return b.matmul(left.index, _const(right), None, call.path, call.source)


def _addmm(call: Call, b: Builder) -> int:
    if isinstance(call.args[2], Value):
        raise call.refuse("multiplies two values that depend on the input")
    return b.matmul(_x(call, 1), _const(call.args[2]), _const(call.args[0]), call.path, call.source)


def _pair(value: Any, line: bool, fill: int) -> tuple[int, int]:
    values = [value] if isinstance(value, int) else list(value)
    if line:
        return fill, int(values[0])
    return (int(values[0]), int(values[0])) if len(values) == 1 else (int(values[0]), int(values[1]))


def _image(call: Call, b: Builder, rank: int) -> tuple[int, bool]:
    """The value as `(1, C, H, W)`; 1-D signals get height 1."""
    x = _x(call)
    shape = b.shape(x)
    if rank == 1 and len(shape) == 3:
        return b.reshape(x, (*shape[:2], 1, shape[2])), True
    if rank == 2 and len(shape) == 4:
        return x, False
    raise call.refuse(f"works on batches of 1-D signals and 2-D images, got a value of shape {shape}")


def _back(b: Builder, x: int, line: bool) -> int:
    shape = b.shape(x)
    return b.reshape(x, (*shape[:2], shape[3])) if line else x


def _conv(call: Call, b: Builder, rank: int) -> int:
    W, bias = _const(call.args[1]), call.argument(2, "bias")
    x, line = _image(call, b, rank)
    stride = _pair(call.argument(3, "stride", 1), line, 1)
    dilation = _pair(call.argument(5, "dilation", 1), line, 1)
    padding, kernel = call.argument(4, "padding", 0), W[:, :, None] if line else W
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel.shape[2:])]
        pads = (total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2)
    else:
        p = (0, 0) if padding == "valid" else _pair(padding, line, 0)
        pads = (*p, *p)
    conv = Conv(kernel, b.shape(x)[1:], stride, pads, dilation, int(call.argument(6, "groups", 1)))
    return _back(
        b,
        b.convolve(x, conv, 0.0 if bias is None else _const(bias), (1, *conv.out_shape), call.path, call.source),
        line,
    )


def _convolution(call: Call, b: Builder) -> int:
    """The general form: (x, W, bias, stride, padding, dilation, transposed, output_padding, groups)."""
    if call.args[6]:
        raise call.refuse("transposed convolutions are not supported")
    call.args = [*call.args[:6], call.args[8]]
    return _conv(call, b, len(call.args[1].shape) - 2)


def _batch_norm(call: Call, b: Builder) -> int:
    x, weight, bias, mean, var = call.args[:5]
    if call.argument(5, "training", False) is True and call.kind == "batch_norm":
        raise call.refuse("is in training mode; call model.eval() first")
    if mean is None:
        raise call.refuse("keeps no running statistics: it depends on the batch")
    eps = call.args[7] if call.kind == "batch_norm" else call.args[-1]
    factor = (1.0 if weight is None else _const(weight)) / np.sqrt(_const(var) + eps)
    shift = (0.0 if bias is None else _const(bias)) - _const(mean) * factor
    spread = lambda a: np.asarray(a).reshape(-1, *[1] * (len(b.shape(x.index)) - 2))
    return b.scale(x.index, spread(factor), spread(shift), call.path, call.source)


def _add(call: Call, b: Builder, sign: float = 1.0) -> int:
    left, right = call.args[0], call.args[1]
    factor = sign * float(call.kwargs.get("alpha", 1))
    if isinstance(left, Value) and isinstance(right, Value):
        return b.add((left.index, right.index), (1.0, factor), call.path, call.source)
    x, shift, scale = (left, factor * _const(right), 1.0) if isinstance(left, Value) else (right, _const(left), factor)
    index = b.broadcast(x.index, np.broadcast_shapes(b.shape(x.index), shift.shape))
    return b.scale(index, scale, shift, call.path, call.source)


def _rsub(call: Call, b: Builder) -> int:
    return b.scale(_x(call), -1.0, _const(call.args[1]), call.path, call.source)


def _mul(call: Call, b: Builder, divide: bool = False) -> int:
    left, right = call.args[0], call.args[1]
    if isinstance(left, Value) and isinstance(right, Value):
        raise call.refuse("multiplies or divides two values that depend on the input: no piecewise-linear function")
    if divide and isinstance(right, Value):
        raise call.refuse("divides by a value that depends on the input")
    x, factor = (left, _const(right)) if isinstance(left, Value) else (right, _const(left))
    index = b.broadcast(x.index, np.broadcast_shapes(b.shape(x.index), factor.shape))
    return b.scale(index, 1 / factor if divide else factor, 0.0, call.path, call.source)


def _max_pool(call: Call, b: Builder, rank: int) -> int:
    x, line = _image(call, b, rank)
    sides = _pair(call.args[1], line, 1)
    stride = _pair(call.argument(2, "stride") or call.args[1], line, 1)
    p = _pair(call.argument(3, "padding", 0), line, 0)
    dilation = _pair(call.argument(4, "dilation", 1), line, 1)
    pooled = b.max_pool(
        x, sides, stride, (*p, *p), dilation, bool(call.argument(5, "ceil_mode", False)), call.path, call.source
    )
    return _back(b, pooled, line)


def _average(
    call: Call,
    b: Builder,
    x: int,
    line: bool,
    sides: tuple[int, int],
    stride: tuple[int, int],
    p: tuple[int, int],
    whole: bool,
) -> int:
    C = b.shape(x)[1]
    conv = Conv(np.full((C, 1, *sides), 1 / size_of(sides)), b.shape(x)[1:], stride, (*p, *p), (1, 1), C)
    pooled = b.convolve(x, conv, 0.0, (1, *conv.out_shape), call.path, call.source)
    if any(p) and not whole:
        pooled = b.scale(pooled, (1 / conv.apply(np.ones(conv.in_size))).reshape(1, *conv.out_shape))
    return _back(b, pooled, line)


def _avg_pool(call: Call, b: Builder, rank: int) -> int:
    x, line = _image(call, b, rank)
    if call.argument(4, "ceil_mode", False):
        raise call.refuse("ceil_mode is not supported for average pooling")
    sides = _pair(call.args[1], line, 1)
    stride = _pair(call.argument(2, "stride") or call.args[1], line, 1)
    return _average(
        call,
        b,
        x,
        line,
        sides,
        stride,
        _pair(call.argument(3, "padding", 0), line, 0),
        bool(call.argument(5, "count_include_pad", True)),
    )


def _adaptive(call: Call, b: Builder, rank: int) -> int:
    x, line = _image(call, b, rank)
    out, (H, W) = _pair(call.args[1], line, 1), b.shape(x)[2:]
    if H % out[0] or W % out[1]:
        raise call.refuse(f"pools {(H, W)} to {out}, which do not divide evenly")
    sides = (H // out[0], W // out[1])
    return _average(call, b, x, line, sides, sides, (0, 0), True)


def _reduce(call: Call, b: Builder, mean: bool) -> int:
    x = _x(call)
    shape, dims = b.shape(x), call.argument(1, "dim")
    chosen = (
        list(range(len(shape)))
        if dims is None
        else [d % len(shape) for d in ([dims] if isinstance(dims, int) else dims)]
    )
    kept = [d for d in range(len(shape)) if d not in chosen]
    count = size_of(tuple(shape[d] for d in chosen))
    order = np.arange(size_of(shape)).reshape(shape).transpose(kept + chosen).reshape(-1, count)
    total = b.matmul(
        b.gather(x, order, order.shape),
        np.full((count, 1), 1 / count if mean else 1.0),
        name=call.path,
        source=call.source,
    )
    keep = call.argument(2, "keepdim", False)
    out = tuple(1 if d in chosen else s for d, s in enumerate(shape)) if keep else tuple(shape[d] for d in kept)
    return b.reshape(total, out or (1,))


def _cat(call: Call, b: Builder) -> int:
    parts = []
    for part in call.args[0]:
        if isinstance(part, Value):
            parts.append(part.index)
        else:
            block = _const(part)
            parts.append(b.scale(b.gather(0, np.full(block.size, -1), block.shape), 1.0, block))
    rank = len(b.shape(parts[0]))
    return b.concatenate(parts, int(call.argument(1, "dim", 0)) % rank, call.path, call.source)


def _pad(call: Call, b: Builder) -> int:
    x = _x(call)
    mode = call.argument(2, "mode", "constant") if call.kind == "pad" else "constant"
    value = call.argument(3, "value", 0.0) if call.kind == "pad" else call.argument(2, "value", 0.0)
    numbers = torch.arange(b.nodes[x].size, dtype=torch.float64).reshape(b.shape(x))
    fill = {"value": -1.0} if mode == "constant" else {}
    moved = torch.nn.functional.pad(numbers, call.args[1], mode=mode, **fill).numpy().astype(np.int64)
    padded = b.gather(x, moved, moved.shape, call.path, call.source)
    return b.scale(padded, 1.0, np.where(moved < 0, float(value), 0.0)) if value else padded


def _extremum(call: Call, b: Builder, largest: bool) -> int:
    left, right = call.args[0], call.args[1]
    sign = 1.0 if largest else -1.0
    if isinstance(left, Value) and isinstance(right, Value):
        return b.scale(b.maximum(b.scale(left.index, sign), b.scale(right.index, sign), call.path, call.source), sign)
    x, level = (left, _const(right)) if isinstance(left, Value) else (right, _const(left))
    if level.size > 1:
        raise call.refuse("compares with a constant tensor; compare with one number")
    bound = float(level.ravel()[0])
    return b.activation(
        x.index, catalogue.clip(bound, np.inf) if largest else catalogue.clip(-np.inf, bound), call.path, call.source
    )


def _clamp(call: Call, b: Builder) -> int:
    low, high = call.argument(1, "min"), call.argument(2, "max")
    if call.kind.startswith("clamp_max"):
        low, high = None, call.args[1]
    low, high = (-np.inf if low is None else float(low)), (np.inf if high is None else float(high))
    op = catalogue.relu() if (low, high) == (0.0, np.inf) else catalogue.clip(low, high)
    return b.activation(_x(call), op, call.path, call.source)


def _activation(call: Call, b: Builder, name: str, names: tuple[str, ...] = ()) -> int:
    given = {n: call.argument(k + 1, n) for k, n in enumerate(names)}
    return b.activation(
        _x(call), catalogue.get(name, **{k: v for k, v in given.items() if v is not None}), call.path, call.source
    )


def _prelu(call: Call, b: Builder) -> int:
    x, weight = _x(call), _const(call.args[1])
    if weight.size > 1:
        shape = b.shape(x)
        weight = np.broadcast_to(weight.reshape(-1, *[1] * (len(shape) - 2)), shape[1:]).ravel()
    return b.activation(x, catalogue.prelu(weight), call.path, call.source)


OPERATORS: dict[str, Callable[[Call, Builder], int]] = {
    "linear": _linear,
    "matmul": _matmul,
    "mm": _matmul,
    "bmm": _matmul,
    "addmm": _addmm,
    "conv1d": partial(_conv, rank=1),
    "conv2d": partial(_conv, rank=2),
    "convolution": _convolution,
    "batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "add": _add,
    "add_": _add,
    "sub": partial(_add, sign=-1.0),
    "sub_": partial(_add, sign=-1.0),
    "rsub": _rsub,
    "mul": _mul,
    "mul_": _mul,
    "div": partial(_mul, divide=True),
    "div_": partial(_mul, divide=True),
    "neg": lambda c, b: b.scale(_x(c), -1.0, 0.0, c.path, c.source),
    "max_pool1d": partial(_max_pool, rank=1),
    "max_pool2d": partial(_max_pool, rank=2),
    "avg_pool1d": partial(_avg_pool, rank=1),
    "avg_pool2d": partial(_avg_pool, rank=2),
    "adaptive_avg_pool1d": partial(_adaptive, rank=1),
    "adaptive_avg_pool2d": partial(_adaptive, rank=2),
    "mean": partial(_reduce, mean=True),
    "sum": partial(_reduce, mean=False),
    "cat": _cat,
    "concat": _cat,
    "pad": _pad,
    "constant_pad_nd": _pad,
    "maximum": partial(_extremum, largest=True),
    "minimum": partial(_extremum, largest=False),
    "clamp": _clamp,
    "clamp_": _clamp,
    "clamp_min": _clamp,
    "clamp_max": _clamp,
    "relu": partial(_activation, name="relu"),
    "relu_": partial(_activation, name="relu"),
    "leaky_relu": partial(_activation, name="leaky_relu", names=("negative_slope",)),
    "leaky_relu_": partial(_activation, name="leaky_relu", names=("negative_slope",)),
    "prelu": _prelu,
    "_prelu_kernel": _prelu,
    "elu": partial(_activation, name="elu", names=("alpha",)),
    "gelu": lambda c, b: b.activation(_x(c), catalogue.gelu(c.kwargs.get("approximate", "none")), c.path, c.source),
    "sigmoid": partial(_activation, name="sigmoid"),
    "tanh": partial(_activation, name="tanh"),
    "silu": partial(_activation, name="silu"),
    "silu_": partial(_activation, name="silu"),
    "softplus": partial(_activation, name="softplus", names=("beta",)),
    "relu6": partial(_activation, name="relu6"),
    "hardtanh": partial(_activation, name="hardtanh", names=("min_val", "max_val")),
    "hardtanh_": partial(_activation, name="hardtanh", names=("min_val", "max_val")),
    "hardsigmoid": partial(_activation, name="hardsigmoid"),
    "hardswish": partial(_activation, name="hardswish"),
    "hardswish_": partial(_activation, name="hardswish"),
    "abs": partial(_activation, name="abs"),
    "mish": partial(_activation, name="mish"),
    "selu": partial(_activation, name="selu"),
    "selu_": partial(_activation, name="selu"),
}
