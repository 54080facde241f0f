"""Any torch module through `torch.export`: a table from ATen operator to nodes."""

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from relukit._errors import UnsupportedOperation
from relukit.activations import catalogue
from relukit.network import curves, torch_activations, torch_products, torch_spatial
from relukit.network._network import Network
from relukit.network.rewrite import Builder, size_of
from relukit.network.torch_call import Call, Value, constant, index_of

_HEADS = {
    "softmax": "softmax",
    "_softmax": "softmax",
    "log_softmax": "log_softmax",
    "_log_softmax": "log_softmax",
    "sigmoid": "sigmoid",
}
_MOST_ENTRIES = 20_000_000  # of a matrix found by probing
# Operators that only move entries: run on the entries' numbers by torch itself.
_MOVES = frozenset(
    "view reshape flatten permute transpose t numpy_T squeeze unsqueeze select slice expand expand_as chunk split split_with_sizes "
    "unbind contiguous clone alias roll flip narrow pixel_shuffle unflatten index_select _unsafe_view movedim swapaxes repeat tile detach "
    "pixel_unshuffle channel_shuffle im2col unfold diagonal".split()
)
# Linear operators without weights: their matrix is what torch makes of the unit vectors.
_LINEAR = frozenset("cumsum diff einsum trace".split())
_SAME = frozenset("dropout dropout_ alpha_dropout feature_dropout to _to_copy lift_fresh_copy native_dropout".split())


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
            if call.kind in _HEADS and all(u.op == "output" for u in node.users) and _over_all(call):
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


def _over_all(call: Call) -> bool:
    """Whether a last softmax or sigmoid can be set aside: a softmax must be over all outputs."""
    if not isinstance(call.args[0], Value):
        return False
    shape = tuple(call.node.meta["val"].shape)
    return _HEADS[call.kind] == "sigmoid" or shape[int(call.argument(1, "dim", -1))] == size_of(shape)


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
    if call.kind == "_assert_tensor_metadata":
        return None
    if call.kind in _SAME:
        before, after = (getattr(n.meta.get("val"), "dtype", None) for n in (call.node.args[0], call.node))
        if after is not None and not after.is_floating_point and before is not None and before.is_floating_point:
            raise call.refuse(
                f"makes {after} of values that depend on the input, which jumps; only other floats are read"
            )
        return call.args[0]
    if call.kind in _MOVES:
        return _move(call, b)
    if call.kind in _LINEAR:
        return _probe(call, b)
    row = OPERATORS.get(call.kind)
    if row is None:
        raise call.refuse(
            "neither affine nor an activation that relukit knows. Bounds, pieces and proofs need such a network; health works on the module itself."
        )
    made = Value(row(call, b))
    pair = isinstance(call.node.meta.get("val"), list | tuple)
    return [made, None] if pair else made  # the places of the largest entries are no continuous function


def _move(call: Call, b: Builder) -> Any:
    """Entries are numbered from 1, so that a 0 that comes out was filled in."""
    x = call.args[0].index
    numbers = torch.arange(1, b.nodes[x].size + 1, dtype=torch.float64).reshape(b.shape(x))
    moved = call.node.target(numbers, *call.args[1:], **call.kwargs)
    place = lambda t: Value(b.gather(x, t.numpy().ravel().astype(np.int64) - 1, tuple(t.shape), call.path, call.source))
    return [place(t) for t in moved] if isinstance(moved, list | tuple) else place(moved)


def _probe(call: Call, b: Builder) -> Value:
    """A linear operator of one value, the rest constants; its matrix column by column."""
    flat, form = torch.utils._pytree.tree_flatten((list(call.args), call.kwargs))
    places = [k for k, a in enumerate(flat) if isinstance(a, Value)]
    if len(places) != 1:
        raise call.refuse("combines two values that depend on the input: no piecewise-linear function")
    x = flat[places[0]].index
    n, out = b.nodes[x].size, tuple(call.node.meta["val"].shape)
    if n * size_of(out) > _MOST_ENTRIES:
        raise call.refuse(f"its {size_of(out)} x {n} matrix has more than {_MOST_ENTRIES:.0e} entries")
    flat = [a.double() if isinstance(a, torch.Tensor) and a.is_floating_point() else a for a in flat]
    columns = []
    for unit in torch.eye(n, dtype=torch.float64):
        args, kwargs = torch.utils._pytree.tree_unflatten(
            [*flat[: places[0]], unit.reshape(b.shape(x)), *flat[places[0] + 1 :]], form
        )
        columns.append(call.node.target(*args, **kwargs).reshape(-1))
    mixed = b.matmul(b.reshape(x, (n,)), torch.stack(columns).numpy(), None, call.path, call.source)
    return Value(b.reshape(mixed, out))


# -- operators ----------------------------------------------------------------------------------------------------------


def _linear(call: Call, b: Builder) -> int:
    W, bias = call.argument(1, "weight"), call.argument(2, "bias")
    if isinstance(W, Value):
        raise call.refuse("multiplies two values that depend on the input")
    return b.matmul(index_of(call), constant(W).T, None if bias is None else constant(bias), call.path, call.source)


def _matmul(call: Call, b: Builder) -> int:
    left, right = call.args[0], call.args[1]
    if isinstance(left, Value) and isinstance(right, Value):
        return torch_products.matmul(call, b)
    if isinstance(right, Value):
        raise call.refuse("a constant times a value is not supported; write it as a Linear layer")
    return b.matmul(left.index, constant(right), None, call.path, call.source)


def _addmm(call: Call, b: Builder) -> int:
    if isinstance(call.args[2], Value):
        raise call.refuse("multiplies two values that depend on the input")
    return b.matmul(index_of(call, 1), constant(call.args[2]), constant(call.args[0]), call.path, call.source)


def _batch_norm(call: Call, b: Builder) -> int:
    x, weight, bias, mean, var = call.args[:5]
    if call.argument(5, "training", False) is True and call.kind == "batch_norm":
        raise call.refuse("is in training mode; call model.eval() first")
    if mean is None:
        raise call.refuse("keeps no running statistics: it depends on the batch")
    eps = call.args[7] if call.kind == "batch_norm" else call.args[-1]
    factor = (1.0 if weight is None else constant(weight)) / np.sqrt(constant(var) + eps)
    shift = (0.0 if bias is None else constant(bias)) - constant(mean) * factor
    spread = lambda a: np.asarray(a).reshape(-1, *[1] * (len(b.shape(x.index)) - 2))
    return b.scale(x.index, spread(factor), spread(shift), call.path, call.source)


def _add(call: Call, b: Builder, sign: float = 1.0) -> int:
    left, right = call.args[0], call.args[1]
    factor = sign * float(call.kwargs.get("alpha", 1))
    if isinstance(left, Value) and isinstance(right, Value):
        return b.add((left.index, right.index), (1.0, factor), call.path, call.source)
    x, shift, scale = (
        (left, factor * constant(right), 1.0) if isinstance(left, Value) else (right, constant(left), factor)
    )
    index = b.broadcast(x.index, np.broadcast_shapes(b.shape(x.index), shift.shape))
    return b.scale(index, scale, shift, call.path, call.source)


def _rsub(call: Call, b: Builder) -> int:
    return b.scale(index_of(call), -1.0, constant(call.args[1]), call.path, call.source)


def _mul(call: Call, b: Builder, divide: bool = False) -> int:
    left, right = call.args[0], call.args[1]
    if isinstance(left, Value) and isinstance(right, Value):
        return torch_products.divide(call, b) if divide else torch_products.multiply(call, b)
    if divide and isinstance(right, Value):
        below = b.activation(right.index, curves.reciprocal(), call.path, call.source)
        above = constant(left)
        return b.scale(b.broadcast(below, np.broadcast_shapes(b.shape(below), above.shape)), above)
    x, factor = (left, constant(right)) if isinstance(left, Value) else (right, constant(left))
    index = b.broadcast(x.index, np.broadcast_shapes(b.shape(x.index), factor.shape))
    return b.scale(index, 1 / factor if divide else factor, 0.0, call.path, call.source)


def _reduce(call: Call, b: Builder, how: str) -> int:
    """Sums, means, and extremes (of `max` and `min` the values); two values go to `maximum` and `minimum`."""
    if len(call.args) > 1 and isinstance(call.args[1], Value):
        return _extremum(call, b, how == "max")
    dims = call.argument(1, "dim")
    axes = [dims] if isinstance(dims, int) else dims or None
    return b.reduce(index_of(call), axes, bool(call.argument(2, "keepdim", False)), how, call.path, call.source)


def _cat(call: Call, b: Builder) -> int:
    parts = []
    for part in call.args[0]:
        if isinstance(part, Value):
            parts.append(part.index)
        else:
            block = constant(part)
            parts.append(b.scale(b.gather(0, np.full(block.size, -1), block.shape), 1.0, block))
    rank = len(b.shape(parts[0]))
    return b.concatenate(parts, int(call.argument(1, "dim", 0)) % rank, call.path, call.source)


def _stack(call: Call, b: Builder) -> int:
    rank = len(call.node.meta["val"].shape)
    dim = int(call.argument(1, "dim", 0)) % rank
    wide = lambda shape: (*shape[:dim], 1, *shape[dim:])
    call.args = [
        [
            Value(b.reshape(p.index, wide(b.shape(p.index)))) if isinstance(p, Value) else p.unsqueeze(dim)
            for p in call.args[0]
        ],
        dim,
    ]
    return _cat(call, b)


def _pad(call: Call, b: Builder) -> int:
    x = index_of(call)
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
    x, level = (left, constant(right)) if isinstance(left, Value) else (right, constant(left))
    if level.size > 1:
        raise call.refuse("compares with a constant tensor; compare with one number")
    bound = float(level.ravel()[0])
    return b.activation(
        x.index, catalogue.clip(bound, np.inf) if largest else catalogue.clip(-np.inf, bound), call.path, call.source
    )


OPERATORS: dict[str, Callable[[Call, Builder], int]] = {
    "linear": _linear,
    "matmul": _matmul,
    "mm": _matmul,
    "bmm": _matmul,
    "addmm": _addmm,
    "max": partial(_reduce, how="max"),
    "min": partial(_reduce, how="min"),
    "amax": partial(_reduce, how="max"),
    "amin": partial(_reduce, how="min"),
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
    "neg": lambda c, b: b.scale(index_of(c), -1.0, 0.0, c.path, c.source),
    "mean": partial(_reduce, how="mean"),
    "sum": partial(_reduce, how="sum"),
    "cat": _cat,
    "concat": _cat,
    "stack": _stack,
    "pad": _pad,
    "constant_pad_nd": _pad,
    "maximum": partial(_extremum, largest=True),
    "minimum": partial(_extremum, largest=False),
    **torch_activations.ROWS,
    **torch_spatial.ROWS,
    **torch_products.ROWS,
}
