"""torch operators that multiply values, compare them, or bend them by a function nobody trains with."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from relukit.network import curves, products
from relukit.network.rewrite import RELU, Builder, size_of
from relukit.network.torch_call import Call, Value, constant, index_of
from relukit.piecewise import AbstractActivation


def node_of(call: Call, b: Builder, position: int) -> int:
    """Argument number `position` as a node, constants included."""
    value = call.args[position]
    return value.index if isinstance(value, Value) else products.constant(b, constant(value))


def multiply(call: Call, b: Builder) -> int:
    return products.multiply(b, node_of(call, b, 0), node_of(call, b, 1), call.path, call.source)


def divide(call: Call, b: Builder) -> int:
    return products.divide(b, node_of(call, b, 0), node_of(call, b, 1), call.path, call.source)


def matmul(call: Call, b: Builder) -> int:
    return _multiplied(call, b, node_of(call, b, 0), node_of(call, b, 1))


def _multiplied(call: Call, b: Builder, left: int, right: int) -> int:
    try:
        return products.matmul(b, left, right, call.path, call.source)
    except ValueError as error:
        raise call.refuse(str(error)) from error


def softmax(call: Call, b: Builder, logarithm: bool = False) -> int:
    return _softmax(call, b, index_of(call), int(call.argument(1, "dim", -1)), logarithm)


def _softmax(call: Call, b: Builder, x: int, axis: int, logarithm: bool = False) -> int:
    try:
        return products.softmax(b, x, axis, logarithm, call.path, call.source)
    except ValueError as error:
        raise call.refuse(str(error)) from error


def _attention(call: Call, b: Builder) -> int:
    """softmax(Q K' / sqrt(d)) V."""
    if call.argument(3, "attn_mask") is not None or call.argument(5, "is_causal", False):
        raise call.refuse("has a mask")
    q, k, v = (index_of(call, i) for i in range(3))
    scale = call.kwargs.get("scale") or b.shape(q)[-1] ** -0.5
    turned = np.swapaxes(np.arange(b.nodes[k].size).reshape(b.shape(k)), -1, -2)
    scores = b.scale(_multiplied(call, b, q, b.gather(k, turned, turned.shape)), scale)
    return _multiplied(call, b, _softmax(call, b, scores, -1), v)


def _layer_norm(call: Call, b: Builder) -> int:
    x, axes = index_of(call), len(call.args[1])
    rank = len(b.shape(x))
    done = products.normalize(
        b, x, range(rank - axes, rank), float(call.argument(4, "eps", 1e-5)), call.path, call.source
    )
    weight, bias = call.argument(2, "weight"), call.argument(3, "bias")
    return b.scale(done, 1.0 if weight is None else constant(weight), 0.0 if bias is None else constant(bias))


def _curve(call: Call, b: Builder, make: Callable[[], AbstractActivation]) -> int:
    return b.activation(index_of(call), make(), call.path, call.source)


def _rsqrt(call: Call, b: Builder) -> int:
    return b.activation(_curve(call, b, curves.root), curves.reciprocal(), call.path, call.source)


def _power(call: Call, b: Builder) -> int:
    n = call.args[1]
    if (
        isinstance(n, Value)
        or isinstance(call.args[0], int | float)
        or float(n) not in (-2, -1, 0.5, -0.5, *range(2, 9))
    ):
        raise call.refuse("whole powers up to 8, -1, -2, 0.5 and -0.5 are known")
    x = index_of(call)
    if abs(n) == 0.5:
        x = b.activation(x, curves.root(), call.path, call.source)
    elif n != -1:
        x = b.activation(x, curves.power(int(abs(n))), call.path, call.source)
    return b.activation(x, curves.reciprocal(), call.path, call.source) if n < 0 else x


def _apart(call: Call, b: Builder, swapped: bool) -> int:
    """The first value less the second, a constant as a shift of the other."""
    first, second = call.args[0], call.args[1]
    sign = -1.0 if swapped else 1.0
    if isinstance(first, Value) and isinstance(second, Value):
        return b.add((first.index, second.index), (sign, -sign))
    x, level = (first, constant(second)) if isinstance(first, Value) else (second, constant(first))
    sign = sign if isinstance(first, Value) else -sign
    index = b.broadcast(x.index, np.broadcast_shapes(b.shape(x.index), level.shape))
    return index if sign > 0 and not np.any(level) else b.scale(index, sign, -sign * level)


def _compare(call: Call, b: Builder, swapped: bool, strictly: bool) -> int:
    return b.activation(_apart(call, b, swapped), curves.above(strictly), call.path, call.source)


def _equal(call: Call, b: Builder) -> int:
    apart = _apart(call, b, False)
    sides = [b.activation(i, curves.above(True), call.path, call.source) for i in (apart, b.scale(apart, -1.0))]
    return b.scale(b.add(sides), -1.0, 1.0)


def _conditions(call: Call, b: Builder) -> list[int]:
    """The arguments, which must be conditions."""
    import torch

    if any(getattr(a.meta.get("val"), "dtype", torch.bool) != torch.bool for a in call.node.all_input_nodes):
        raise call.refuse("reads a value that is no comparison")
    return [node_of(call, b, k) for k in range(len(call.args))]


def _not(call: Call, b: Builder) -> int:
    return b.scale(_conditions(call, b)[0], -1.0, 1.0, call.path, call.source)


def _both(call: Call, b: Builder) -> int:
    return b.activation(b.scale(b.add(_conditions(call, b)), 1.0, -1.0), RELU, call.path, call.source)


def _either(call: Call, b: Builder) -> int:
    neither = b.scale(b.add(_conditions(call, b)), -1.0, 1.0)
    return b.scale(b.activation(neither, RELU, call.path, call.source), -1.0, 1.0)


def _where(call: Call, b: Builder) -> int:
    yes, no = node_of(call, b, 1), node_of(call, b, 2)
    if isinstance(call.args[0], Value):
        return products.choose(b, call.args[0].index, yes, no, call.path, call.source)
    condition = constant(call.args[0])
    shape = np.broadcast_shapes(condition.shape, b.shape(yes), b.shape(no))
    mask, both = np.broadcast_to(condition != 0, shape), [b.broadcast(i, shape) for i in (yes, no)]
    order = np.arange(size_of(shape)).reshape(shape)
    parts = [b.gather(i, np.where(m, order, -1), shape) for i, m in zip(both, (mask, ~mask))]
    return b.add(parts, name=call.path, source=call.source)


_COMPARED = {
    "gt": (False, True), "ge": (False, False), "lt": (True, True), "le": (True, False),
    "greater": (False, True), "greater_equal": (False, False), "less": (True, True), "less_equal": (True, False),
}  # fmt: skip

ROWS: dict[str, Callable[[Call, Builder], Any]] = {
    "softmax": softmax,
    "_softmax": softmax,
    "log_softmax": partial(softmax, logarithm=True),
    "_log_softmax": partial(softmax, logarithm=True),
    "scaled_dot_product_attention": _attention,
    "layer_norm": _layer_norm,
    "exp": partial(_curve, make=curves.exponential),
    "log": partial(_curve, make=curves.logarithm),
    "erf": partial(_curve, make=curves.erf),
    "sin": partial(_curve, make=curves.Wave),
    "cos": partial(_curve, make=partial(curves.Wave, "cos")),
    "sqrt": partial(_curve, make=curves.root),
    "rsqrt": _rsqrt,
    "square": partial(_curve, make=curves.square),
    "reciprocal": partial(_curve, make=curves.reciprocal),
    "sign": partial(_curve, make=curves.sign),
    "pow": _power,
    **{kind: partial(_compare, swapped=s, strictly=t) for kind, (s, t) in _COMPARED.items()},
    "eq": _equal,
    **dict.fromkeys(("logical_not", "bitwise_not"), _not),
    **dict.fromkeys(("logical_and", "bitwise_and", "__and__"), _both),
    **dict.fromkeys(("logical_or", "bitwise_or", "__or__"), _either),
    "where": _where,
}
