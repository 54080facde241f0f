"""Eight float64 numbers at a time in compiled code: one vector of AVX-512, two of AVX2, four of NEON.

LLVM makes vectors of long loops by itself. Walks over pieces and searches over boxes are full of short ones (the corners of a polygon against one
line, rows of a few dozen gates), for which it writes a vector loop, a scalar loop, and checks that choose between the two. With the eight numbers as a
value of their own there is no loop and no check: arrays are read where they lie in memory, by the number of their flat entry, and
have room for what is read beyond what they hold (`geometry._room.room_for`, padding to whole eights).
"""

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic, models, overload, register_model

from relukit._types import LANES

_VECTOR = ir.VectorType(ir.DoubleType(), LANES)
_CONTRACT = ("contract",)  # a fused multiply-add is welcome: error bounds hold with and without


class LanesType(types.Type):
    """Eight float64 numbers."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


lanes_type = LanesType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


def _spread(builder: Any, x: Any) -> Any:
    """The same number in all lanes."""
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), x, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), zeros)


def _place(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    """Pointer to the vector that begins at entry `at`."""
    return builder.bitcast(_entry(context, builder, kind, array, at), _VECTOR.as_pointer())


def _entry(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    """Pointer to one flat entry."""
    assert kind.layout == "C", kind
    return builder.gep(context.make_array(kind)(context, builder, array).data, [at])


@intrinsic
def load(typing: Any, array: Any, at: Any) -> Any:
    """The eight entries of a float64 array from `at` on."""

    def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_place(context, builder, signature.args[0], *arguments), align=8)

    return lanes_type(array, types.int64), make


@intrinsic
def store(typing: Any, array: Any, at: Any, lanes: Any) -> Any:
    """Write eight entries of a float64 array from `at` on."""

    def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, at, lanes = arguments
        builder.store(lanes, _place(context, builder, signature.args[0], array, at), align=8)
        return context.get_dummy_value()

    return types.none(array, types.int64, lanes_type), make


@intrinsic
def spread(typing: Any, x: Any) -> Any:
    """One number in all lanes."""

    def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _spread(builder, arguments[0])

    return lanes_type(types.float64), make


@intrinsic
def multiply_add(typing: Any, x: Any, y: Any, z: Any) -> Any:
    """x y + z in each lane."""

    def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, y, z = arguments
        return builder.fadd(builder.fmul(x, y, flags=_CONTRACT), z, flags=_CONTRACT)

    return lanes_type(lanes_type, lanes_type, lanes_type), make


@intrinsic
def magnitude(typing: Any, x: Any) -> Any:
    """Absolute values."""

    def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        return builder.call(get_or_insert_function(builder.module, kind, f"llvm.fabs.v{LANES}f64"), arguments)

    return lanes_type(lanes_type), make


def _compared(sign: str) -> Any:
    def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = builder.bitcast(builder.fcmp_ordered(sign, *arguments), ir.IntType(LANES))
        return builder.zext(bits, ir.IntType(64))

    return make


@intrinsic
def above(typing: Any, x: Any, y: Any) -> Any:
    """Bits of the lanes with x > y, as int64."""

    return types.int64(lanes_type, lanes_type), _compared(">")


@intrinsic
def negative(typing: Any, x: Any) -> Any:
    """Minus each number."""

    def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fneg(arguments[0])

    return lanes_type(lanes_type), make


@intrinsic
def copy(typing: Any, array: Any, source: Any, to: Any) -> Any:
    """Eight entries of an array of words, from `source` on, to `to` on."""

    def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, source, to = arguments
        kind = signature.args[0]
        words = builder.load(_place(context, builder, kind, array, source), align=8)
        builder.store(words, _place(context, builder, kind, array, to), align=8)
        return context.get_dummy_value()

    return types.none(array, types.int64, types.int64), make


@intrinsic
def equal(typing: Any, x: Any, y: Any) -> Any:
    """Bits of the lanes with x = y, as int64."""

    return types.int64(lanes_type, lanes_type), _compared("==")


@intrinsic
def larger(typing: Any, x: Any, y: Any) -> Any:
    """The larger number of each lane; y where they cannot be compared."""

    def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *arguments), *arguments)

    return lanes_type(lanes_type, lanes_type), make


@intrinsic
def total(typing: Any, x: Any) -> Any:
    """The sum of the lanes, in pairs."""

    def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes, width = arguments[0], LANES
        while width > 1:
            width //= 2
            kind = ir.VectorType(ir.IntType(32), width)
            low, high = (ir.Constant(kind, list(range(k, k + width))) for k in (0, width))
            undefined = ir.Constant(lanes.type, ir.Undefined)
            lanes = builder.fadd(
                builder.shuffle_vector(lanes, undefined, low), builder.shuffle_vector(lanes, undefined, high)
            )
        return builder.extract_element(lanes, ir.Constant(ir.IntType(32), 0))

    return types.float64(lanes_type), make


@intrinsic
def smaller(typing: Any, x: Any, y: Any) -> Any:
    """The smaller number of each lane; y where they cannot be compared."""

    def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", *arguments), *arguments)

    return lanes_type(lanes_type, lanes_type), make


@intrinsic
def where_above(typing: Any, a: Any, b: Any, x: Any, y: Any) -> Any:
    """x where a > b, else y: y too where one of them is no number."""

    def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b, x, y = arguments
        return builder.select(builder.fcmp_ordered(">", a, b), x, y)

    return lanes_type(*[lanes_type] * 4), make


@intrinsic
def every(typing: Any, array: Any, at: Any) -> Any:
    """One entry of an array in every lane."""

    def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _spread(builder, builder.load(_entry(context, builder, signature.args[0], *arguments)))

    return lanes_type(array, types.int64), make


@intrinsic
def numbers(typing: Any) -> Any:
    """0, 1, ..., 7."""
    eight = ir.VectorType(ir.DoubleType(), LANES)
    return lanes_type(), lambda context, builder, signature, arguments: ir.Constant(eight, list(range(LANES)))


@intrinsic
def pairs(typing: Any, array: Any, p: Any, q: Any, r: Any, s: Any) -> Any:
    """Four entries of an array, each followed by its opposite."""

    def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        undefined = ir.Constant(_VECTOR, ir.Undefined)
        four = undefined
        for k in range(4):
            x = builder.load(_entry(context, builder, signature.args[0], arguments[0], arguments[k + 1]))
            four = builder.insert_element(four, x, ir.Constant(ir.IntType(32), k))
        twice = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [k // 2 for k in range(LANES)])
        signs = ir.Constant(_VECTOR, [1.0, -1.0] * (LANES // 2))
        return builder.fmul(builder.shuffle_vector(four, undefined, twice), signs)

    return lanes_type(array, *[types.int64] * 4), make


def _arithmetic(name: str, sign: Any) -> None:
    @intrinsic
    def combined(typing: Any, x: Any, y: Any) -> Any:
        return lanes_type(lanes_type, lanes_type), lambda context, builder, signature, both: getattr(builder, name)(*both)

    @overload(sign)
    def _(x, y):
        lanes = isinstance(x, LanesType) and isinstance(y, LanesType)
        return (lambda x, y: combined(x, y)) if lanes else None  # noqa: PLW0108 - Numba asks for a function


for _name, _sign in (("fadd", operator.add), ("fsub", operator.sub), ("fmul", operator.mul)):
    _arithmetic(_name, _sign)
