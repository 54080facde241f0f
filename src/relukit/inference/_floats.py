"""Two rows of a float32 matrix at a time, while the two that come next are on their way.

What a loop over scattered rows waits for is memory: a row of 4,096 floats is four pages, and the processor's own prefetch starts anew at each.
For every cache line that is used, the same line of the rows that come next is asked for, into the second-level cache. Measured on a Xeon with rows
of 16 KiB, 5 % of them in order: 13.2 GB/s instead of 11.9 for four rows side by side with their starts asked for, 12.0 with the first-level
cache as the target, 11.8 row by row; a plain sum of all rows gives 10.5. Written out as vectors of 16, since the compiler gave up on loops that
were inlined beside others (0.7 of 1.9 ms for one layer).
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from relukit._numba import njit
from relukit.inference._bytes import prefetch

LINE = 16  # floats of a cache line
_SECOND = 2  # the prefetch hint for the second-level cache


class _Rows:
    """Pointers and vector loads, for the intrinsics below."""

    def __init__(self, context, builder, kind, matrix) -> None:
        self.builder, self.kind, self.context = builder, kind, context
        self.array = context.make_array(kind)(context, builder, matrix)
        self.byte, self.size = ir.IntType(8).as_pointer(), ir.IntType(64)
        self.vector = ir.VectorType(ir.FloatType(), LINE)

    def row(self, i):
        at = cgutils.get_item_pointer(self.context, self.builder, self.kind, self.array, [i, self.size(0)], wraparound=False, boundscheck=False)  # fmt: skip
        return self.builder.bitcast(at, self.byte)

    def start(self, kind, vector):
        return self.builder.bitcast(self.context.make_array(kind)(self.context, self.builder, vector).data, self.byte)

    def place(self, pointer, offset):
        return self.builder.bitcast(self.builder.gep(pointer, [offset]), self.vector.as_pointer())

    def load(self, pointer, offset):
        value: Any = self.builder.load(self.place(pointer, offset))
        value.align = 4
        return value

    def product(self):
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        return cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.fmuladd.v{LINE}f32")

    def spread(self, value):
        empty, first = ir.Constant(self.vector, ir.Undefined), ir.IntType(32)(0)
        one = self.builder.insert_element(empty, value, first)
        return self.builder.shuffle_vector(one, empty, ir.Constant(ir.VectorType(ir.IntType(32), LINE), [0] * LINE))


@intrinsic
def _dots(typingctx, W, i, j, next_i, next_j, x, lines):
    """`(W[i] . x, W[j] . x)` over the first `2 * lines` cache lines; asks for rows `next_i` and `next_j` meanwhile."""
    result = types.UniTuple(types.float32, 2)

    def generate(context, builder, signature, arguments):
        r = _Rows(context, builder, signature.args[0], arguments[0])
        here, there = [r.row(k) for k in arguments[1:3]], [r.row(k) for k in arguments[3:5]]
        inputs, product = r.start(signature.args[5], arguments[5]), r.product()
        zero = ir.Constant(r.vector, [0.0] * LINE)
        sums = [[cgutils.alloca_once_value(builder, zero) for _ in range(2)] for _ in range(2)]
        end = builder.mul(arguments[6], r.size(8 * LINE))
        with cgutils.for_range_slice(builder, r.size(0), end, r.size(8 * LINE), intp=r.size) as (k, _):
            for line in range(2):
                offset = builder.add(k, r.size(4 * LINE * line))
                v = r.load(inputs, offset)
                for row in range(2):
                    prefetch(builder, builder.gep(there[row], [offset]), _SECOND)
                    total = sums[row][line]
                    builder.store(builder.call(product, [r.load(here[row], offset), v, builder.load(total)]), total)
        kind = ir.FunctionType(ir.FloatType(), [ir.FloatType(), r.vector])
        add = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{LINE}f32")
        both = [
            builder.call(add, [ir.FloatType()(0.0), builder.fadd(builder.load(a), builder.load(b))], fastmath=("reassoc",))
            for a, b in sums
        ]  # fmt: skip
        return context.make_tuple(builder, signature.return_type, both)

    return result(W, types.intp, types.intp, types.intp, types.intp, x, types.intp), generate


@intrinsic
def _adds(typingctx, y, A, i, j, next_i, next_j, a, b, first, lines):
    """`y += a A[i] + b A[j]` from column `first` over `2 * lines` cache lines; asks for rows `next_i` and `next_j` meanwhile."""

    def generate(context, builder, signature, arguments):
        r = _Rows(context, builder, signature.args[1], arguments[1])
        start = builder.mul(arguments[8], r.size(4))
        rows = [builder.gep(r.row(k), [start]) for k in arguments[2:6]]
        here, there = rows[:2], rows[2:]
        factors = [r.spread(v) for v in arguments[6:8]]
        out, product = builder.gep(r.start(signature.args[0], arguments[0]), [start]), r.product()
        end = builder.mul(arguments[9], r.size(8 * LINE))
        with cgutils.for_range_slice(builder, r.size(0), end, r.size(8 * LINE), intp=r.size) as (k, _):
            for line in range(2):
                offset = builder.add(k, r.size(4 * LINE * line))
                total = r.load(out, offset)
                for row in range(2):
                    prefetch(builder, builder.gep(there[row], [offset]), _SECOND)
                    total = builder.call(product, [r.load(here[row], offset), factors[row], total])
                builder.store(total, r.place(out, offset)).align = 4
        return context.get_dummy_value()

    one, whole = types.float32, types.intp
    return types.void(y, A, whole, whole, whole, whole, one, one, whole, whole), generate


@njit(cache=True, nogil=True, inline="always")
def dot_two(W, i, j, next_i, next_j, x):
    """`(W[i] . x, W[j] . x)`, float32."""
    n = x.shape[0]
    lines = n // (2 * LINE)
    p, q = _dots(W, i, j, next_i, next_j, x, lines)
    for k in range(lines * 2 * LINE, n):
        p += W[i, k] * x[k]
        q += W[j, k] * x[k]
    return p, q


@njit(cache=True, nogil=True, inline="always")
def add_two(y, A, i, j, next_i, next_j, a, b, first, last):
    """`y += a A[i] + b A[j]` for columns first..last."""
    lines = (last - first) // (2 * LINE)
    _adds(y, A, i, j, next_i, next_j, a, b, first, lines)
    for k in range(first + lines * 2 * LINE, last):
        y[k] += a * A[i, k] + b * A[j, k]
