"""How compiled code asks Python for an exact answer (see `_rational`)."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def _pointer(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    return builder.bitcast(context.make_array(kind)(context, builder, array).data, ir.IntType(8).as_pointer())


@intrinsic
def ask(typing: Any, address: Any, question: Any, labels: Any, pattern: Any, lower: Any, upper: Any, out: Any, g: Any) -> Any:  # fmt: skip
    """Call `Rational._answer` at its address; `question` is what is asked plus twice the words of the pattern, the arrays come as places in memory."""

    def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word, place = ir.IntType(64), ir.IntType(8).as_pointer()
        function = builder.inttoptr(arguments[0], ir.FunctionType(word, [word, *[place] * 5, word]).as_pointer())
        places = [_pointer(context, builder, signature.args[k], arguments[k]) for k in range(2, 7)]
        return builder.call(function, [arguments[1], *places, arguments[7]])

    return types.int64(types.int64, types.int64, labels, pattern, lower, upper, out, types.int64), make
