"""Two instructions on 64-bit words that NumPy's names do not reach from compiled code: count of ones, lowest one."""

from typing import Any

from numba import types
from numba.extending import intrinsic


@intrinsic
def ones(typing: Any, word: Any) -> Any:
    """How many bits of a uint64 are set, as int64."""

    def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), make


@intrinsic
def lowest(typing: Any, word: Any) -> Any:
    """Number of the lowest set bit of a uint64, as int64; 64 for zero."""

    def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        from llvmlite import ir

        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), make
