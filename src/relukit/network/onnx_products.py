"""ONNX operators that multiply values, compare them, or bend them by a function nobody trains with."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from relukit.network import curves, products
from relukit.network.onnx_graph import Operator, Reading, axes_of, constant, value_of
from relukit.network.rewrite import RELU, size_of
from relukit.piecewise import AbstractActivation


def node_of(o: Operator, r: Reading, position: int) -> int:
    """Input number `position` as a node, constants included."""
    name = o.inputs[position]
    return r.values[name] if name in r.values else products.constant(r.builder, np.asarray(r.constants[name], float))


def multiply(o: Operator, r: Reading) -> int:
    return products.multiply(r.builder, node_of(o, r, 0), node_of(o, r, 1), o.name, o.source)


def divide(o: Operator, r: Reading) -> int:
    """A quotient whose divisor depends on the input."""
    above = r.get(o.inputs[0])
    if above is None:
        return products.divide(r.builder, node_of(o, r, 0), node_of(o, r, 1), o.name, o.source)
    below = r.builder.activation(value_of(o, r, 1), curves.reciprocal(), o.name, o.source)
    return r.builder.scale(r.builder.broadcast(below, np.broadcast_shapes(r.builder.shape(below), above.shape)), above)


def matmul(o: Operator, r: Reading) -> int:
    try:
        return products.matmul(r.builder, node_of(o, r, 0), node_of(o, r, 1), o.name, o.source)
    except ValueError as error:
        raise o.refuse(str(error)) from error


def einsum(o: Operator, r: Reading) -> int:
    """A sum of products of one or two operands by letters; with a constant that shares summed letters alone it is a matrix product."""
    equation = o.attribute("equation").replace(" ", "")
    left, arrow, out = equation.partition("->")
    terms = left.split(",")
    if "." in equation or len(terms) > 2 or any(len(set(t)) < len(t) for t in (*terms, out)):
        raise o.refuse(f"'{equation}': one or two operands are read, without dots and with no letter twice in one")
    out = out if arrow else "".join(c for c in sorted(set(left) - {","}) if left.count(c) == 1)
    sizes = {c: n for t, name in zip(terms, o.inputs) for c, n in zip(t, r.shape(name))}
    b, summed = r.builder, "".join(c for c in sizes if c not in out)

    def turned(index: int, have: str, want: str) -> int:
        """Axes in another order, of length 1 for letters that the value lacks."""
        numbers = np.arange(b.nodes[index].size).reshape(b.shape(index)).transpose([have.index(c) for c in want if c in have])
        return b.gather(index, numbers, tuple(sizes[c] if c in have else 1 for c in want))

    fixed = [k for k, name in enumerate(o.inputs) if name in r.constants]
    if fixed and set(terms[fixed[0]]) & set(terms[1 - fixed[0]]) == set(summed):
        W, have, mine = r.constants[o.inputs[fixed[0]]], terms[fixed[0]], terms[1 - fixed[0]]
        rest, own = ("".join(c for c in t if c not in summed) for t in (mine, have))
        matrix = np.asarray(W, float).transpose([have.index(c) for c in summed + own])
        matrix = matrix.reshape(size_of(tuple(sizes[c] for c in summed)), -1)
        x = turned(r.values[o.inputs[1 - fixed[0]]], mine, rest + summed)
        rows = b.reshape(x, (size_of(tuple(sizes[c] for c in rest)), len(matrix)))
        done = b.matmul(rows, matrix, None, o.name, o.source)
        return turned(b.reshape(done, tuple(sizes[c] for c in rest + own)), rest + own, out)
    if size_of(tuple(sizes.values())) > products.MOST:
        raise o.refuse(f"'{equation}' makes {size_of(tuple(sizes.values()))} products, more than {products.MOST}")
    parts = [turned(node_of(o, r, k), t, out + summed) if k not in fixed else 0 for k, t in enumerate(terms)]
    if fixed:
        have = terms[fixed[0]]
        factor = r.constants[o.inputs[fixed[0]]].transpose([have.index(c) for c in out + summed if c in have])
        factor = factor.reshape([sizes[c] if c in have else 1 for c in out + summed])
        value = b.broadcast(parts[1 - fixed[0]], tuple(sizes[c] for c in out + summed))
        total = b.scale(value, factor, 0.0, o.name, o.source)
    else:
        total = products.multiply(b, *parts, o.name, o.source) if len(parts) > 1 else parts[0]
    axes = list(range(len(out), len(out) + len(summed)))
    return b.reduce(total, axes, False, "sum") if axes else total


def softmax(o: Operator, r: Reading, logarithm: bool = False) -> int:
    """A softmax inside the network, over one axis (over all from `axis` on before opset 13)."""
    x = value_of(o, r)
    shape = r.builder.shape(x)
    axis = o.attribute("axis", 1 if r.opset < 13 else -1) % max(len(shape), 1)
    if r.opset < 13:
        x, axis = r.builder.reshape(x, (size_of(shape[:axis]), size_of(shape[axis:]))), 1
    try:
        done = products.softmax(r.builder, x, axis, logarithm, o.name, o.source)
    except ValueError as error:
        raise o.refuse(str(error)) from error
    return r.builder.reshape(done, shape)


def power(o: Operator, r: Reading) -> Any:
    """Whole powers, their reciprocals, and square roots."""
    exponents = constant(o, r, 1)
    level = float(exponents.ravel()[0])
    if np.any(exponents != level) or level not in (-2.0, -1.0, -0.5, 0.5, *range(9)):
        raise o.refuse(
            f"raises to the power {exponents.ravel()[:3]}; whole powers up to 8, -1, -2, 0.5 and -0.5 are known"
        )
    x = value_of(o, r)
    x = r.builder.broadcast(x, np.broadcast_shapes(r.builder.shape(x), exponents.shape))
    bend = lambda i, op: r.builder.activation(i, op, o.name, o.source)
    if level in (0.0, 1.0):
        return x if level else r.builder.scale(x, 0.0, 1.0)
    if level in (0.5, -0.5):
        x = bend(x, curves.root())
    elif level not in (-1.0,):
        x = bend(x, curves.power(int(abs(level))))
    return bend(x, curves.reciprocal()) if level < 0 else x


def _curve(o: Operator, r: Reading, make: Callable[[], AbstractActivation]) -> int:
    return r.builder.activation(value_of(o, r), make(), o.name, o.source)


def _softsign(o: Operator, r: Reading) -> int:
    from relukit.activations import catalogue

    x = value_of(o, r)
    size = r.builder.scale(r.builder.activation(x, catalogue.absolute()), 1.0, 1.0)
    return products.divide(r.builder, x, size, o.name, o.source)


def _layer_norm(o: Operator, r: Reading) -> int:
    x = value_of(o, r)
    rank = len(r.builder.shape(x))
    axes = list(range(o.attribute("axis", -1) % rank, rank))
    done = products.normalize(r.builder, x, axes, o.attribute("epsilon", 1e-5), o.name, o.source)
    return r.builder.scale(done, constant(o, r, 1, 1.0), constant(o, r, 2, 0.0), o.name, o.source)


def _instance_norm(o: Operator, r: Reading) -> int:
    x = value_of(o, r)
    rank = len(r.builder.shape(x))
    done = products.normalize(r.builder, x, range(2, rank), o.attribute("epsilon", 1e-5), o.name, o.source)
    spread = lambda a: a.reshape(-1, *[1] * (rank - 2))
    return r.builder.scale(done, spread(constant(o, r, 1)), spread(constant(o, r, 2)), o.name, o.source)


def _squares(o: Operator, r: Reading, rooted: bool = False) -> int:
    squares = r.builder.activation(value_of(o, r), curves.square(), o.name, o.source)
    total = r.builder.reduce(squares, axes_of(o, r), bool(o.attribute("keepdims", 1)), "sum", o.name, o.source)
    return r.builder.activation(total, curves.root(), o.name, o.source) if rooted else total


# -- comparisons and choices: a condition is a value of 0 or 1 ------------------------------------------------------------


def _compare(o: Operator, r: Reading, swapped: bool, strictly: bool) -> int:
    first, second = (node_of(o, r, k) for k in ((1, 0) if swapped else (0, 1)))
    r.conditions.add(o.outputs[0])
    return r.builder.activation(_apart(r, first, second), curves.above(strictly), o.name, o.source)


def _apart(r: Reading, first: int, second: int) -> int:
    """`first - second`; a constant becomes the shift of the other, so that choices between lines of it are seen."""
    b = r.builder
    shape = np.broadcast_shapes(b.shape(first), b.shape(second))
    first, second = b.broadcast(first, shape), b.broadcast(second, shape)
    values = [b.fixed(i) for i in (first, second)]
    if values[1] is not None:
        return first if not np.any(values[1]) else b.scale(first, 1.0, -values[1].reshape(shape))
    if values[0] is not None:
        return b.scale(second, -1.0, values[0].reshape(shape))
    return b.add((first, second), (1.0, -1.0))


def _equal(o: Operator, r: Reading) -> int:
    apart = _apart(r, node_of(o, r, 0), node_of(o, r, 1))
    r.conditions.add(o.outputs[0])
    more = r.builder.activation(apart, curves.above(True), o.name, o.source)
    less = r.builder.activation(r.builder.scale(apart, -1.0), curves.above(True), o.name, o.source)
    return r.builder.scale(r.builder.add((more, less)), -1.0, 1.0, o.name, o.source)


def _conditions(o: Operator, r: Reading) -> list[int]:
    for name in o.inputs:
        if name not in r.conditions and name not in r.constants:
            raise o.refuse(f"reads '{name}', which is no comparison")
    r.conditions.add(o.outputs[0])
    return [node_of(o, r, k) for k in range(len(o.inputs))]


def _not(o: Operator, r: Reading) -> int:
    return r.builder.scale(_conditions(o, r)[0], -1.0, 1.0, o.name, o.source)


def _both(o: Operator, r: Reading) -> int:
    sum_ = r.builder.add(_conditions(o, r))
    return r.builder.activation(r.builder.scale(sum_, 1.0, -1.0), RELU, o.name, o.source)


def _either(o: Operator, r: Reading) -> int:
    sum_ = r.builder.add(_conditions(o, r))
    neither = r.builder.activation(r.builder.scale(sum_, -1.0, 1.0), RELU, o.name, o.source)
    return r.builder.scale(neither, -1.0, 1.0, o.name, o.source)


def _where(o: Operator, r: Reading) -> int:
    condition = r.get(o.inputs[0])
    yes, no = node_of(o, r, 1), node_of(o, r, 2)
    if condition is None:
        if o.inputs[0] not in r.conditions:
            raise o.refuse(f"reads '{o.inputs[0]}', which is no comparison")
        return products.choose(r.builder, r.values[o.inputs[0]], yes, no, o.name, o.source)
    shape = np.broadcast_shapes(condition.shape, r.builder.shape(yes), r.builder.shape(no))
    mask = np.broadcast_to(condition.astype(bool), shape)
    pick = lambda i, where: r.builder.gather(
        i, np.where(where, np.broadcast_to(np.arange(r.builder.nodes[i].size).reshape(r.builder.shape(i)), shape), -1), shape
    )  # fmt: skip
    return r.builder.add((pick(yes, mask), pick(no, ~mask)), name=o.name, source=o.source)


ROWS: dict[str, Callable[[Operator, Reading], Any]] = {
    "Einsum": einsum,
    "Pow": power,
    "Sqrt": partial(_curve, make=curves.root),
    "Exp": partial(_curve, make=curves.exponential),
    "Log": partial(_curve, make=curves.logarithm),
    "Erf": partial(_curve, make=curves.erf),
    "Sin": partial(_curve, make=curves.Wave),
    "Cos": partial(_curve, make=partial(curves.Wave, "cos")),
    "Reciprocal": partial(_curve, make=curves.reciprocal),
    "Sign": partial(_curve, make=curves.sign),
    "Softsign": _softsign,
    "Softmax": softmax,
    "LogSoftmax": partial(softmax, logarithm=True),
    "LayerNormalization": _layer_norm,
    "InstanceNormalization": _instance_norm,
    "ReduceSumSquare": _squares,
    "ReduceL2": partial(_squares, rooted=True),
    "Greater": partial(_compare, swapped=False, strictly=True),
    "GreaterOrEqual": partial(_compare, swapped=False, strictly=False),
    "Less": partial(_compare, swapped=True, strictly=True),
    "LessOrEqual": partial(_compare, swapped=True, strictly=False),
    "Equal": _equal,
    "Not": _not,
    "And": _both,
    "Or": _either,
    "Where": _where,
}
