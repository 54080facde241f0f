"""The table from ONNX operator to nodes: each row takes an operator and the reading, and returns a node, a constant, or a list.

What works on images and signals stands in `onnx_spatial`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from relukit._types import AnyArray
from relukit.activations import catalogue
from relukit.network import onnx_products, onnx_spatial
from relukit.network.onnx_graph import Operator, Reading, axes_of, constant, reindex, value_of
from relukit.network.rewrite import size_of


def _matmul(o: Operator, r: Reading) -> int:
    a, b = (r.get(n) for n in o.inputs)
    if b is not None:
        if b.ndim == 1:
            shape = r.shape(o.inputs[0])
            return r.builder.reshape(
                r.builder.matmul(value_of(o, r), b[:, None], name=o.name, source=o.source), shape[:-1] or (1,)
            )
        if b.ndim > 2 and size_of(b.shape[:-2]) == 1:
            b = b.reshape(b.shape[-2:])
        if b.ndim != 2:
            raise o.refuse(f"a stack of matrices of shape {b.shape} is not supported")
        x = value_of(o, r)
        shape = r.builder.shape(x)
        if len(shape) == 1:
            return r.builder.reshape(
                r.builder.matmul(r.builder.reshape(x, (1, *shape)), b, name=o.name, source=o.source), (b.shape[1],)
            )
        return r.builder.matmul(x, b, name=o.name, source=o.source)
    if a is not None and a.ndim == 2:
        x = value_of(o, r, 1)
        shape = r.builder.shape(x)
        if len(shape) == 1:
            return r.builder.reshape(
                r.builder.matmul(r.builder.reshape(x, (1, *shape)), a.T, name=o.name, source=o.source), (a.shape[0],)
            )
        turn = np.swapaxes(np.arange(size_of(shape)).reshape(shape), -1, -2)
        turned = r.builder.gather(x, turn, turn.shape)
        done = r.builder.matmul(turned, a.T, name=o.name, source=o.source)
        back = np.swapaxes(np.arange(r.builder.nodes[done].size).reshape(r.builder.shape(done)), -1, -2)
        return r.builder.gather(done, back, back.shape)
    return onnx_products.matmul(o, r)


def _gemm(o: Operator, r: Reading) -> int:
    W = constant(o, r, 1)
    W = W if o.attribute("transB", 0) else W.T
    if o.attribute("transA", 0):
        raise o.refuse("transA is not supported")
    W = W if (alpha := o.attribute("alpha", 1.0)) == 1 else alpha * W.astype(np.float64)
    bias = constant(o, r, 2)
    bias = (
        None
        if bias is None
        else o.attribute("beta", 1.0)
        * np.broadcast_to(bias.ravel() if bias.size > 1 else bias, (W.shape[0],)).astype(np.float64)
    )
    return r.builder.matmul(value_of(o, r), W.T, bias, o.name, o.source)


def _add(o: Operator, r: Reading, signs: tuple[float, float] = (1.0, 1.0)) -> int:
    a, b = (r.get(n) for n in o.inputs)
    if a is None and b is None:
        return r.builder.add([r.values[n] for n in o.inputs], signs, o.name, o.source)
    constant, value, sign = (b, r.values[o.inputs[0]], signs[0]) if a is None else (a, r.values[o.inputs[1]], signs[1])
    shift = np.asarray(constant, np.float64) * (signs[1] if a is None else signs[0])
    value = r.builder.broadcast(value, np.broadcast_shapes(r.builder.shape(value), shift.shape))
    return r.builder.scale(value, sign, shift, o.name, o.source)


def _sum(o: Operator, r: Reading) -> int:
    values = [r.values[n] for n in o.inputs if n in r.values]
    total = r.builder.add(values, name=o.name, source=o.source) if len(values) > 1 else values[0]
    for n in o.inputs:
        if n in r.constants:
            total = r.builder.scale(total, 1.0, r.constants[n], o.name, o.source)
    return total


def _mul(o: Operator, r: Reading, divide: bool = False) -> int:
    a, b = (r.get(n) for n in o.inputs)
    if a is None and b is None:
        return onnx_products.divide(o, r) if divide else onnx_products.multiply(o, r)
    if divide and b is None:
        return onnx_products.divide(o, r)
    factor = np.asarray(b if a is None else a, np.float64)
    value = r.values[o.inputs[0 if a is None else 1]]
    value = r.builder.broadcast(value, np.broadcast_shapes(r.builder.shape(value), factor.shape))
    return r.builder.scale(value, 1 / factor if divide else factor, 0.0, o.name, o.source)


def _batch_norm(o: Operator, r: Reading) -> int:
    scale, shift, mean, var = (constant(o, r, k).astype(np.float64) for k in range(1, 5))
    if o.attribute("training_mode", 0) or len([n for n in o.outputs if n]) > 1:
        raise o.refuse("is in training mode; export the model after model.eval()")
    factor = scale / np.sqrt(var + o.attribute("epsilon", 1e-5))
    x = value_of(o, r)
    spread = lambda a: a.reshape(-1, *[1] * (len(r.builder.shape(x)) - 2))
    return r.builder.scale(x, spread(factor), spread(shift - mean * factor), o.name, o.source)


def _reshape(o: Operator, r: Reading) -> int:
    target = [int(s) for s in constant(o, r, 1)] if len(o.inputs) > 1 else list(o.attribute("shape"))
    shape = r.shape(o.inputs[0])
    if not o.attribute("allowzero", 0):
        target = [shape[i] if s == 0 else s for i, s in enumerate(target)]
    return reindex(o, r, lambda a: a.reshape(target))


def _flatten(o: Operator, r: Reading) -> int:
    axis = o.attribute("axis", 1)
    shape = r.shape(o.inputs[0])
    axis = axis + len(shape) if axis < 0 else axis
    return reindex(o, r, lambda a: a.reshape(size_of(shape[:axis]), -1))


def _transpose(o: Operator, r: Reading) -> int:
    return reindex(o, r, lambda a: a.transpose(o.attribute("perm")))


def _squeeze(o: Operator, r: Reading) -> int:
    axes = axes_of(o, r)
    return reindex(o, r, lambda a: np.squeeze(a, None if axes is None else tuple(axes)))


def _unsqueeze(o: Operator, r: Reading) -> int:
    return reindex(o, r, lambda a: np.expand_dims(a, tuple(axes_of(o, r) or ())))


def _slice(o: Operator, r: Reading) -> int:
    if len(o.inputs) > 1:
        starts, ends, axes, steps = (constant(o, r, k) for k in range(1, 5))
    else:
        starts, ends, axes, steps = (o.attribute(k) for k in ("starts", "ends", "axes", "steps"))
    axes = range(len(starts)) if axes is None else [int(a) for a in axes]
    steps = [1] * len(starts) if steps is None else steps
    rank = len(r.shape(o.inputs[0]))
    cut = [slice(None)] * rank
    for s, e, a, t in zip(starts, ends, axes, steps):
        end = None if int(t) < 0 and int(e) < -(1 << 30) else int(e)
        cut[a % rank] = slice(int(s), end, int(t))
    return reindex(o, r, lambda a: a[tuple(cut)])


def _gather(o: Operator, r: Reading) -> int:
    indices = constant(o, r, 1)
    return reindex(o, r, lambda a: np.take(a, indices, axis=o.attribute("axis", 0)))


def _by_reference(o: Operator, r: Reading) -> int:
    """Operators that pick entries by constant indices: run on the entries' numbers by ONNX's reference implementation."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    x = value_of(o, r)
    numbers = np.arange(r.builder.nodes[x].size, dtype=np.int64).reshape(r.builder.shape(x))
    run = ReferenceEvaluator(
        helper.make_model(
            helper.make_graph([o.proto], "move", [helper.make_empty_tensor_value_info(n) for n in o.inputs], [helper.make_empty_tensor_value_info(o.outputs[0])]),
            opset_imports=[helper.make_opsetid("", max(r.opset, 13))],
        )
    )  # fmt: skip
    moved = np.asarray(
        run.run(None, {o.inputs[0]: numbers} | {n: constant(o, r, k) for k, n in enumerate(o.inputs) if k})[0]
    )
    return r.builder.gather(x, moved, moved.shape, o.name, o.source)


def _split(o: Operator, r: Reading) -> list[int]:
    axis, shape = o.attribute("axis", 0), r.shape(o.inputs[0])
    sizes = constant(o, r, 1) if len(o.inputs) > 1 else o.attribute("split")
    if sizes is None:
        count = o.attribute("num_outputs", len(o.outputs))
        step = -(-shape[axis] // count)
        sizes = [min(step, shape[axis] - k * step) for k in range(count)]
    edges = np.cumsum(np.asarray(sizes, np.int64))[:-1]
    return [reindex(o, r, lambda a, k=k: np.split(a, edges, axis=axis)[k]) for k in range(len(sizes))]


def _concat(o: Operator, r: Reading) -> int:
    parts = []
    for name in o.inputs:
        if name in r.values:
            parts.append(r.values[name])
        else:  # a constant block: zero times the input plus the block
            block = r.constants[name]
            empty = r.builder.gather(0, np.full(block.size, -1), block.shape)
            parts.append(r.builder.scale(empty, 1.0, block))
    axis = o.attribute("axis", 1)
    return r.builder.concatenate(parts, axis, o.name, o.source)


def _pad(o: Operator, r: Reading) -> int:
    mode = o.attribute("mode", "constant")
    pads = constant(o, r, 1) if len(o.inputs) > 1 else np.asarray(o.attribute("pads"))
    value = float(np.ravel(constant(o, r, 2, 0.0))[0]) if len(o.inputs) > 1 else float(o.attribute("value", 0.0))
    x = value_of(o, r)
    rank = len(r.builder.shape(x))
    axes = [int(a) % rank for a in constant(o, r, 3)] if len(o.inputs) > 3 and o.inputs[3] else range(rank)
    widths = [(0, 0)] * rank
    half = len(pads) // 2
    for k, a in enumerate(axes):
        widths[a] = (int(pads[k]), int(pads[half + k]))
    cut = lambda a: a[tuple(slice(max(-b, 0), n - max(-e, 0)) for (b, e), n in zip(widths, a.shape))]
    grown = [(max(b, 0), max(e, 0)) for b, e in widths]
    if mode != "constant":
        return reindex(
            o, r, lambda a: np.pad(cut(a), grown, mode={"reflect": "reflect", "edge": "edge", "wrap": "wrap"}[mode])
        )
    numbers = np.pad(cut(np.arange(r.builder.nodes[x].size).reshape(r.builder.shape(x))), grown, constant_values=-1)
    padded = r.builder.gather(x, numbers, numbers.shape, o.name, o.source)
    return padded if value == 0 else r.builder.scale(padded, 1.0, np.where(numbers < 0, value, 0.0))


def _reduce(o: Operator, r: Reading, how: str) -> int:
    return r.builder.reduce(value_of(o, r), axes_of(o, r), bool(o.attribute("keepdims", 1)), how, o.name, o.source)


def _sum_of_sizes(o: Operator, r: Reading) -> int:
    sizes = r.builder.activation(value_of(o, r), catalogue.absolute(), o.name and f"{o.name}.abs", o.source)
    return r.builder.reduce(sizes, axes_of(o, r), bool(o.attribute("keepdims", 1)), "sum", o.name, o.source)


def _activation(o: Operator, r: Reading, make: Callable[[Operator, Reading], Any]) -> int:
    return r.builder.activation(value_of(o, r), make(o, r), o.name, o.source)


def _prelu(o: Operator, r: Reading) -> int:
    x = value_of(o, r)
    slope = constant(o, r, 1)
    weight = slope if slope.size == 1 else np.broadcast_to(slope, r.builder.shape(x)).ravel()
    return r.builder.activation(x, catalogue.prelu(weight), o.name, o.source)


def _clip(o: Operator, r: Reading) -> Any:
    if len(o.inputs) > 1:
        low, high = (constant(o, r, k) for k in (1, 2))
    else:
        low, high = o.attribute("min"), o.attribute("max")
    low = -np.inf if low is None else float(np.ravel(low)[0])
    high = np.inf if high is None else float(np.ravel(high)[0])
    limit = float(np.finfo(np.float32).max)
    low, high = (-np.inf if low <= -limit else low), (np.inf if high >= limit else high)
    if (low, high) == (0.0, np.inf):
        return catalogue.relu()
    return catalogue.clip(low, high, "relu6" if (low, high) == (0.0, 6.0) else "clip")


def _extremum(o: Operator, r: Reading, largest: bool) -> int:
    """Max and Min of values and constants; min(a, b) = -max(-a, -b)."""
    values = [r.values[n] for n in o.inputs if n in r.values]
    shapes = np.broadcast_shapes(*(r.shape(n) for n in o.inputs))
    sign = 1.0 if largest else -1.0
    parts = [r.builder.scale(r.builder.broadcast(v, shapes), sign) for v in values]
    for n in o.inputs:
        if n in r.constants:
            bound = np.broadcast_to(r.constants[n].astype(np.float64), shapes)
            if len(values) == 1 and np.all(bound == bound.flat[0]):
                level = float(bound.flat[0])
                op = (
                    (catalogue.relu() if level == 0 else catalogue.clip(level, np.inf))
                    if largest
                    else catalogue.clip(-np.inf, level)
                )
                parts = [
                    r.builder.scale(r.builder.activation(r.builder.scale(parts[0], sign), op, o.name, o.source), sign)
                ]
                continue
            parts.append(r.builder.scale(r.builder.gather(0, np.full(size_of(shapes), -1), shapes), 1.0, sign * bound))
    while len(parts) > 1:
        parts = [r.builder.maximum(parts[0], parts[1], o.name, o.source), *parts[2:]]
    return r.builder.scale(parts[0], sign)


def _same(o: Operator, r: Reading) -> int:
    return value_of(o, r)


def _cast(o: Operator, r: Reading) -> int:
    from onnx import TensorProto

    kinds = {TensorProto.FLOAT: "float", TensorProto.DOUBLE: "double", TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}  # fmt: skip
    target = o.attribute("to")
    if o.inputs[0] in r.conditions:  # 0 or 1 whatever the type
        r.conditions.add(o.outputs[0])
        return value_of(o, r)
    if target not in kinds and target not in ("FLOAT", "DOUBLE", "FLOAT16"):  # names before opset 6
        name = TensorProto.DataType.Name(target) if isinstance(target, int) else target
        raise o.refuse(f"makes {name} of values that depend on the input, which jumps; only other floats are read")
    return value_of(o, r)


def _shape(o: Operator, r: Reading) -> AnyArray:
    return np.asarray(r.shape(o.inputs[0]), np.int64)[o.attribute("start", 0) : o.attribute("end", None)]


def _tile(o: Operator, r: Reading) -> int:
    repeats = [int(n) for n in constant(o, r, 1)]
    return reindex(o, r, lambda a: np.tile(a, repeats))


def _expand(o: Operator, r: Reading) -> int:
    target = tuple(int(s) for s in constant(o, r, 1))
    return reindex(o, r, lambda a: np.broadcast_to(a, np.broadcast_shapes(a.shape, target)))


def _selu(o: Operator, r: Reading) -> int:
    if abs(o.attribute("alpha", 1.67326) - 1.67326) > 1e-3 or abs(o.attribute("gamma", 1.0507) - 1.0507) > 1e-3:
        raise o.refuse("has constants of its own; only the self-normalizing ones are known")
    return _activation(o, r, lambda o, r: catalogue.get("selu"))


def _fixed(name: str, *attributes: tuple[str, str, Any]) -> Callable[[Operator, Reading], int]:
    """An activation whose parameters are attributes: `(attribute, parameter, default)`."""

    def make(o: Operator, r: Reading) -> Any:
        return catalogue.get(name, **{p: o.attribute(a, d) for a, p, d in attributes})

    return partial(_activation, make=make)


OPERATORS: dict[str, Callable[[Operator, Reading], Any]] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Conv": onnx_spatial.convolve,
    "ConvTranspose": onnx_spatial.convolve_transposed,
    "Resize": onnx_spatial.resize,
    "Upsample": onnx_spatial.resize,
    "DepthToSpace": onnx_spatial.depth_to_space,
    "SpaceToDepth": onnx_spatial.space_to_depth,
    "BatchNormalization": _batch_norm,
    "Add": _add,
    "Sub": partial(_add, signs=(1.0, -1.0)),
    "Sum": _sum,
    "Mul": _mul,
    "Div": partial(_mul, divide=True),
    "Neg": lambda o, r: r.builder.scale(value_of(o, r), -1.0, 0.0, o.name, o.source),
    "AveragePool": onnx_spatial.average_pool,
    "GlobalAveragePool": partial(onnx_spatial.average_pool, everything=True),
    "MaxPool": onnx_spatial.max_pool,
    "GlobalMaxPool": partial(onnx_spatial.max_pool, everything=True),
    "ReduceMean": partial(_reduce, how="mean"),
    "ReduceSum": partial(_reduce, how="sum"),
    "ReduceL1": _sum_of_sizes,
    "ReduceMax": partial(_reduce, how="max"),
    "ReduceMin": partial(_reduce, how="min"),
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Concat": _concat,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "GatherND": _by_reference,
    "GatherElements": _by_reference,
    "Pad": _pad,
    "Expand": _expand,
    "Tile": _tile,
    "Identity": _same,
    "Dropout": _same,
    "Cast": _cast,
    "Shape": _shape,
    "Max": partial(_extremum, largest=True),
    "Min": partial(_extremum, largest=False),
    "Relu": _fixed("relu"),
    "LeakyRelu": _fixed("leaky_relu", ("alpha", "negative_slope", float(np.float32(0.01)))),
    "PRelu": _prelu,
    "Clip": partial(_activation, make=_clip),
    "Abs": _fixed("abs"),
    "HardSigmoid": _fixed("hardsigmoid", ("alpha", "alpha", 0.2), ("beta", "beta", 0.5)),
    "HardSwish": _fixed("hardswish"),
    "Sigmoid": _fixed("sigmoid"),
    "Tanh": _fixed("tanh"),
    "Elu": _fixed("elu", ("alpha", "alpha", 1.0)),
    "Gelu": _fixed("gelu", ("approximate", "approximate", "none")),
    "Softplus": _fixed("softplus"),
    "Selu": _selu,
    "Celu": _fixed("celu", ("alpha", "alpha", 1.0)),
    "Mish": _fixed("mish"),
    **onnx_products.ROWS,
}
