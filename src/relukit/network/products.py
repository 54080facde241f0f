r"""Products, quotients and what is made of them, written as functions of one variable: :math:`a b = ((a + b)^2 - (a - b)^2) / 4`.

A network stays a list of affine maps and functions of one variable, so that every bound method knows it. How tight the two
squares are depends on the widths of a and b: `bounds.balanced` scales them for a box, and the two squares then say what
McCormick's planes say.

References:
    Computability of global solutions to factorable nonconvex programs, McCormick, 1976.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from relukit._types import Array, Shape
from relukit.activations import catalogue
from relukit.network import curves
from relukit.network._nodes import Affine
from relukit.network.affine import Identity, Scale
from relukit.network.rewrite import Builder, size_of
from relukit.piecewise import AbstractActivation, PiecewiseLinear, Smooth

# Where a function written in several operators is compared with those of the catalogue, and how far it may be from them: constants
# like the root of 2 are written in float32.
_FAR = np.geomspace(9, 1e6, 200)
_GRID = np.concatenate([-_FAR[::-1], np.linspace(-9, 9, 721), _FAR])
_LOOSE = 4e-7
_KNOWN = (("silu", {}), ("gelu", {}), ("gelu", {"approximate": "tanh"}), ("mish", {}), ("hardswish", {}), ("tanh", {}), ("sigmoid", {}))  # fmt: skip
_WALK = 24  # nodes looked at before a value to find the one that it is a function of
MOST = 4_000_000  # products of one operator at most


def multiply(b: Builder, left: int, right: int, name: str = "", source: str = "") -> int:
    """The product of two values, broadcast to one shape."""
    shape = np.broadcast_shapes(b.shape(left), b.shape(right))
    left, right = b.broadcast(left, shape), b.broadcast(right, shape)
    known = _as_one_function(b, left, right, name, source)
    if known is not None:
        return known
    n, pair = size_of(shape), (left, right)
    plus = b.combine(pair, (Identity(n), Identity(n)), np.zeros(n), shape, name and f"{name}.plus", source)
    minus = b.combine(
        pair, (Identity(n), Scale(np.full(n, -1.0))), np.zeros(n), shape, name and f"{name}.minus", source
    )
    squares = [b.activation(i, curves.square(), name and f"{name}.square", source) for i in (plus, minus)]
    quarter = (Scale(np.full(n, 0.25)), Scale(np.full(n, -0.25)))
    return b.combine(squares, quarter, np.zeros(n), shape, name or "product", source)


def divide(b: Builder, left: int, right: int, name: str = "", source: str = "") -> int:
    """A quotient: the product with the reciprocal, which is unbounded where the divisor may be 0."""
    return multiply(
        b, left, b.activation(right, curves.reciprocal(), name and f"{name}.reciprocal", source), name, source
    )


def matmul(b: Builder, left: int, right: int, name: str = "", source: str = "") -> int:
    """`left @ right` of two values with NumPy's rules for stacks of matrices."""
    one, two = b.shape(left), b.shape(right)
    rows, columns = len(one) == 1, len(two) == 1
    one, two = (1, *one) if rows else one, (*two, 1) if columns else two
    stack = np.broadcast_shapes(one[:-2], two[:-2])
    n, k, m = one[-2], one[-1], two[-1]
    shape = (*stack, n, k, m)
    if size_of(shape) > MOST:
        raise ValueError(f"makes {size_of(shape)} products of two values, more than {MOST}")
    first, second = b.reshape(left, (*one, 1)), b.reshape(right, (*two[:-2], 1, k, m))
    done = b.reduce(multiply(b, first, second, name, source), [len(shape) - 2], False, "sum", name, source)
    out = (*stack, *(() if rows else (n,)), *(() if columns else (m,)))
    return b.reshape(done, out or (1,))


def softmax(b: Builder, x: int, axis: int, logarithm: bool = False, name: str = "", source: str = "") -> int:
    r"""Softmax along an axis as :math:`1 / (1 + \sum_{j \ne i} \exp(x_j - x_i))`, whose parts are never unbounded, or its logarithm."""
    shape = b.shape(x)
    axis %= len(shape)
    length = shape[axis]
    others = length * (size_of(shape) if length > 1 else 0)
    if others > MOST:
        raise ValueError(f"needs {others} differences, more than {MOST}")
    numbers = np.moveaxis(np.arange(size_of(shape)).reshape(shape), axis, -1)
    if length == 1:
        return b.scale(b.gather(x, np.full(shape, -1), shape), 1.0, 0.0 if logarithm else 1.0, name, source)
    j = np.array([[k for k in range(length) if k != i] for i in range(length)])
    wide = (*numbers.shape, length - 1)
    mine = b.gather(x, np.broadcast_to(numbers[..., None], wide), wide)
    other = b.gather(x, numbers[..., j], wide)
    apart = b.add((other, mine), (1.0, -1.0), name and f"{name}.apart", source)
    sizes = b.activation(apart, curves.exponential(), name and f"{name}.exp", source)
    total = b.scale(b.reduce(sizes, [len(wide) - 1], False, "sum"), 1.0, 1.0)
    if logarithm:
        done = b.scale(b.activation(total, curves.logarithm(), name and f"{name}.log", source), -1.0)
    else:
        done = b.activation(total, curves.reciprocal(), name, source)
    back = np.moveaxis(np.arange(size_of(shape)).reshape(numbers.shape), -1, axis)
    return b.gather(done, back, shape)


def normalize(b: Builder, x: int, axes: Sequence[int], epsilon: float, name: str = "", source: str = "") -> int:
    """Layer normalization over some axes, without its scale and shift."""
    centered = b.add((x, b.broadcast(b.reduce(x, axes, True, "mean"), b.shape(x))), (1.0, -1.0))
    spread = b.reduce(b.activation(centered, curves.square(), name and f"{name}.square", source), axes, True, "mean")
    deviation = b.activation(b.scale(spread, 1.0, epsilon), curves.root(), name and f"{name}.root", source)
    return divide(b, centered, deviation, name, source)


def choose(b: Builder, condition: int, yes: int, no: int, name: str = "", source: str = "") -> int:
    """`yes` where the condition is 1, `no` where it is 0; one piecewise-linear function where both meet at the jump."""
    shape = np.broadcast_shapes(*(b.shape(i) for i in (condition, yes, no)))
    condition, yes, no = (b.broadcast(i, shape) for i in (condition, yes, no))
    bent = _bent(b, condition, yes, no)
    if bent is not None:
        return b.activation(bent[0], bent[1], name, source)
    return b.add((no, multiply(b, condition, b.add((yes, no), (1.0, -1.0)), name, source)), name=name, source=source)


# -- functions of one variable that several operators make ---------------------------------------------------------------


def _as_one_function(b: Builder, left: int, right: int, name: str, source: str) -> int | None:
    """The product where both factors are functions of one value: a square, a ReLU by a jump, or one of the catalogue times a number."""
    if left == right:
        return b.activation(left, curves.square(), name, source)
    for condition, other in ((left, right), (right, left)):
        zero = b.gather(other, np.full(b.shape(other), -1), b.shape(other)) if _is_jump(b, condition) else None
        if zero is not None and (bent := _bent(b, condition, other, zero)) is not None:
            return b.activation(bent[0], bent[1], name, source)
    for base in _before(b, left):
        f, g = _function(b, left, base), _function(b, right, base)
        if f is None or g is None:
            continue
        with np.errstate(all="ignore"):
            value = f(_GRID) * g(_GRID)
        bends = _bends(b, left, base) + _bends(b, right, base)
        for kind, parameters in _KNOWN:
            known = catalogue.get(kind, **parameters)
            # A bend may hide between two points of the grid: it is no part of a smooth function, and a hardswish has one clip.
            if bends > (2 if kind == "hardswish" else 0):
                continue
            shape = known.fast(_GRID)
            factor = float(shape @ value / (shape @ shape))
            size = np.abs(value) + np.abs(factor * shape) + 1e-3
            if np.isfinite(factor) and factor and np.all(np.abs(value - factor * shape) <= _LOOSE * size):
                factor = round(factor, 6) if abs(factor - round(factor, 6)) < 1e-6 * abs(factor) else factor
                b.notes.append(f"what makes '{name}' is read as {kind}{f' times {factor:g}' if factor != 1 else ''}")
                known = replace(known, loose=4 * _LOOSE) if isinstance(known, Smooth) else known
                done = b.activation(base, known, name, source)
                return done if factor == 1 else b.scale(done, factor)
        return None
    return None


def _before(b: Builder, index: int) -> list[int]:
    """Values of the same size that one is made of, the nearest first."""
    found, waiting, size = [], [index], b.nodes[index].size
    while waiting and len(found) < _WALK:
        k = max(waiting)
        waiting.remove(k)
        if k not in found and b.nodes[k].size == size:
            found.append(k)
            waiting.extend(b.nodes[k].inputs)
    return found


def _bends(b: Builder, index: int, base: int) -> int:
    """Knots of the piecewise-linear functions between a value and the one that it is a function of."""
    found, waiting = set(), {index}
    while waiting:
        k = waiting.pop()
        if k > base and k not in found:
            found.add(k)
            waiting.update(b.nodes[k].inputs)
    ops = [b.nodes[k].op for k in found]
    return sum(
        len(op.knots) if isinstance(op, PiecewiseLinear) else 99
        for op in ops
        if isinstance(op, PiecewiseLinear | curves.Jump)
    )


def _function(b: Builder, index: int, base: int, depth: int = 0) -> Callable[[Array], Array] | None:
    """The value as a function of another one, entry by entry and the same for all entries; None where it is no such function."""
    if index == base:
        return lambda x: x
    node = b.nodes[index]
    if index < base or depth > _WALK or not node.inputs:
        return None
    inner = [g for j in node.inputs if (g := _function(b, j, base, depth + 1)) is not None]
    if len(inner) < len(node.inputs):
        return None
    if isinstance(node.op, AbstractActivation):
        op, f = node.op, inner[0]
        if isinstance(op, PiecewiseLinear) and (op.knots.ndim > 1 or op.slopes.ndim > 1):
            return None
        return lambda x: op.fast(f(x))
    assert isinstance(node.op, Affine)
    factors = [k for m in node.op.maps if (k := _factor(m)) is not None]
    bias = node.op.bias
    if len(factors) < len(inner) or not len(bias) or np.any(bias != bias[0]):
        return None
    return lambda x: sum(k * f(x) for k, f in zip(factors, inner)) + bias[0]


def _factor(m: object) -> float | None:
    """The one number that a map multiplies all entries by."""
    if isinstance(m, Identity):
        return 1.0
    if isinstance(m, Scale) and len(m.diagonal) and np.all(m.diagonal == m.diagonal[0]):
        return float(m.diagonal[0])
    return None


def _is_jump(b: Builder, index: int) -> bool:
    return isinstance(b.nodes[index].op, curves.Jump) and b.nodes[index].op.name == "step"


def _lines(b: Builder, index: int) -> dict[int, tuple[float, float]]:
    """Slope and constant of a value in itself and in each value before it that it is affine in, entry by entry, the farthest last."""
    slope, constant = 1.0, 0.0
    found = {index: (slope, constant)}
    while True:
        node = b.nodes[index]
        if not isinstance(node.op, Affine) or len(node.inputs) != 1:
            return found
        factor, bias = _factor(node.op.maps[0]), node.op.bias
        if factor is None or not len(bias) or np.any(bias != bias[0]):
            return found
        slope, constant, index = slope * factor, constant + slope * float(bias[0]), node.inputs[0]
        found[index] = slope, constant


def _bent(b: Builder, condition: int, yes: int, no: int) -> tuple[int, PiecewiseLinear] | None:
    """The value and function that a choice comes to where both sides are lines of what jumps, and meet there."""
    if not _is_jump(b, condition):
        return None
    level = _lines(b, b.nodes[condition].inputs[0])
    base = list(level)[-1]
    sides = [(0.0, 0.0) if _is_zero(b.fixed(side)) else _lines(b, side).get(base) for side in (yes, no)]
    slope, shift = level[base]
    if slope == 0 or sides[0] is None or sides[1] is None:
        return None
    at = -shift / slope
    above, below = sides if slope > 0 else sides[::-1]
    meet = above[0] * at + above[1]
    if meet != below[0] * at + below[1]:
        return None
    plain = (at, meet, below[0], above[0]) == (0.0, 0.0, 0.0, 1.0)
    return base, catalogue.relu() if plain else PiecewiseLinear([at], [below[0], above[0]], meet, name="bent")


def _is_zero(entries: Array | None) -> bool:
    return entries is not None and not np.any(entries)


def constant(b: Builder, block: Array, shape: Shape | None = None) -> int:
    """A constant as a value: nothing of the input, plus the block."""
    shape = np.shape(block) if shape is None else shape
    empty = b.gather(0, np.full(size_of(shape), -1), shape)
    return b.scale(empty, 1.0, block) if np.any(block) else empty
