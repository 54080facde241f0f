"""What NumPy's names do not reach from compiled code: count of ones and lowest one of a word, plain array places."""

from typing import Any

import numpy as np
from llvmlite import binding
from numba import types
from numba.extending import intrinsic

from relukit._numba import njit


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


@intrinsic
def _extract(typing: Any, word: Any, mask: Any) -> Any:
    def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        from llvmlite import ir

        one = ir.IntType(64)
        kind = ir.FunctionType(one, [one, one])
        return builder.call(builder.module.declare_intrinsic("llvm.x86.bmi.pext.64", (), kind), arguments)

    return types.uint64(types.uint64, types.uint64), make


if binding.get_host_cpu_features().get("bmi2"):

    @njit(cache=True, nogil=True, _nrt=False, forceinline=True)
    def squeeze(word: Any, mask: Any) -> Any:
        """The bits of a word where `mask` has ones, moved together."""
        return _extract(word, mask)

else:  # other processors have no such instruction

    @njit(cache=True, nogil=True, _nrt=False, forceinline=True)
    def squeeze(word: Any, mask: Any) -> Any:
        """The bits of a word where `mask` has ones, moved together."""
        out, place = np.uint64(0), np.uint64(0)
        while mask:
            out |= ((word >> np.uint64(lowest(mask))) & np.uint64(1)) << place
            place += np.uint64(1)
            mask &= mask - np.uint64(1)
        return out
