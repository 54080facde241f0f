"""Eight doubles side by side as one value of compiled code: the lanes of the search over input boxes.

Numba turns a loop over the entries of an array into vector instructions where it can prove that arrays do not overlap, and checks for
that at run time: with rows of a few dozen gates the checks take longer than the work. Values of this type stay in vector
registers by construction (one of AVX-512, two of AVX2). Arrays are read where they lie in memory, by the number of their flat
entry and without checks of any kind.
"""

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, overload, register_model

LANES = 8
_VECTOR = ir.VectorType(ir.DoubleType(), LANES)
_INT = ir.IntType(32)


class Lanes(types.Type):
    """The type of eight doubles."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


_LANES = Lanes()


@register_model(Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _VECTOR)


def _constant(values: Any, kind: Any = _INT) -> Any:
    return ir.Constant(ir.VectorType(kind, LANES), list(values))


def _address(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    """Of a flat entry."""
    assert kind.layout == "C", kind
    return builder.gep(context.make_array(kind)(context, builder, array).data, [at])


def _filled(builder: Any, x: Any) -> Any:
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), x, ir.Constant(_INT, 0))
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), _constant([0] * LANES))


@intrinsic
def load(typingctx: Any, a: Any, at: Any) -> Any:
    """Eight entries of an array from `at` on."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _address(context, builder, signature.args[0], *args)
        found = builder.load(builder.bitcast(place, _VECTOR.as_pointer()))
        found.align = 8
        return found

    return _LANES(a, types.intp), code


@intrinsic
def store(typingctx: Any, a: Any, at: Any, v: Any) -> Any:
    """Eight lanes into an array from `at` on."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _address(context, builder, signature.args[0], *args[:2])
        builder.store(args[2], builder.bitcast(place, _VECTOR.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(a, types.intp, _LANES), code


@intrinsic
def every(typingctx: Any, a: Any, at: Any) -> Any:
    """One entry of an array in every lane."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _filled(builder, builder.load(_address(context, builder, signature.args[0], *args)))

    return _LANES(a, types.intp), code


@intrinsic
def fill(typingctx: Any, x: Any) -> Any:
    """One number in every lane."""
    return _LANES(types.float64), lambda context, builder, signature, args: _filled(builder, args[0])


@intrinsic
def numbers(typingctx: Any) -> Any:
    """0, 1, ..., 7."""
    return _LANES(), lambda context, builder, signature, args: _constant(range(LANES), ir.DoubleType())


@intrinsic
def pairs(typingctx: Any, a: Any, p: Any, q: Any, r: Any, s: Any) -> Any:
    """Four entries of an array, each followed by its opposite."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        four = ir.Constant(_VECTOR, ir.Undefined)
        for k in range(4):
            x = builder.load(_address(context, builder, signature.args[0], args[0], args[k + 1]))
            four = builder.insert_element(four, x, ir.Constant(_INT, k))
        twice = builder.shuffle_vector(
            four, ir.Constant(_VECTOR, ir.Undefined), _constant(k // 2 for k in range(LANES))
        )
        return builder.fmul(twice, _constant([1.0, -1.0] * 4, ir.DoubleType()))

    return _LANES(a, *[types.intp] * 4), code


@intrinsic
def where_above(typingctx: Any, a: Any, b: Any, x: Any, y: Any) -> Any:
    """x where a > b, else y: y too where one of them is no number."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[2], args[3])

    return _LANES(*[_LANES] * 4), code


@intrinsic
def total(typingctx: Any, v: Any) -> Any:
    """The sum of the lanes."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        parts = [builder.extract_element(args[0], ir.Constant(_INT, k)) for k in range(LANES)]
        while len(parts) > 1:
            parts = [builder.fadd(a, b) for a, b in zip(parts[::2], parts[1::2])]
        return parts[0]

    return types.float64(_LANES), code


def _larger_one(compare: str) -> Any:
    @intrinsic
    def extreme(typingctx: Any, a: Any, b: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.select(builder.fcmp_ordered(compare, *args), *args)

        return _LANES(_LANES, _LANES), code

    return extreme


larger, smaller = _larger_one(">"), _larger_one("<")  # b where one of them is no number


def _arithmetic(name: str, sign: Any) -> None:
    @intrinsic
    def combined(typingctx: Any, a: Any, b: Any) -> Any:
        return _LANES(_LANES, _LANES), lambda context, builder, signature, args: getattr(builder, name)(*args)

    @overload(sign)
    def _(a, b):
        return (lambda a, b: combined(a, b)) if isinstance(a, Lanes) and isinstance(b, Lanes) else None  # noqa: PLW0108 - Numba asks for a function


for _name, _sign in (("fadd", operator.add), ("fsub", operator.sub), ("fmul", operator.mul)):
    _arithmetic(_name, _sign)
