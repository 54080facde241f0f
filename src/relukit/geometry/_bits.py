"""What NumPy's names do not reach from compiled code: count of ones and lowest one of a word, plain array places."""

from typing import Any

from numba import types
from numba.extending import intrinsic


@intrinsic
def ones(typing: Any, word: Any) -> Any:
    """How many bits of a 64-bit word are set, as int64."""

    def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(word), make


@intrinsic
def lowest(typing: Any, word: Any) -> Any:
    """Number of the lowest set bit of a 64-bit word, as int64; 64 for zero."""

    def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        from llvmlite import ir

        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(word), make


@intrinsic
def nth(typing: Any, index: Any) -> Any:
    """The index itself, with the promise that it is not negative: compiled code then skips counting from the end."""

    def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        from llvmlite import ir

        place = arguments[0]
        promise = builder.icmp_signed(">=", place, ir.Constant(place.type, 0))
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(1)])
        builder.call(builder.module.declare_intrinsic("llvm.assume", (), kind), [promise])
        return place

    return types.int64(types.int64), make
