"""Eight words of 64 bits at a time in compiled code: questions about the bits of the vertices of a cell, eight vertices in one step.

As in `_lanes`, arrays have room for eight more entries than they hold. Which of the eight count is the lowest eight bits of a number.
"""

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic

from relukit.geometry._room import LANES

_WORD, _BITS = ir.IntType(64), ir.IntType(LANES)
_WORDS = ir.VectorType(_WORD, LANES)
_COMPRESS = binding.llvm_version_info[0] >= 20  # LLVM packs chosen lanes by itself


def _place(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), _WORDS.as_pointer())


def _read(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    return builder.load(_place(context, builder, kind, array, at), align=8)


def _spread(builder: Any, x: Any) -> Any:
    one = builder.insert_element(ir.Constant(_WORDS, ir.Undefined), x, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(_WORDS, ir.Undefined), zeros)


def _number(builder: Any, lanes: Any) -> Any:
    """Eight truth values as the lowest bits of an int64."""
    return builder.zext(builder.bitcast(lanes, _BITS), _WORD)


def _chosen(builder: Any, bits: Any) -> Any:
    return builder.bitcast(builder.trunc(bits, _BITS), ir.VectorType(ir.IntType(1), LANES))


def _union(builder: Any, words: Any, bits: Any) -> Any:
    """All chosen words together."""
    kept = builder.select(_chosen(builder, bits), words, ir.Constant(_WORDS, [0] * LANES))
    reduce = ir.FunctionType(_WORD, [_WORDS])
    return builder.call(get_or_insert_function(builder.module, reduce, f"llvm.vector.reduce.or.v{LANES}i64"), [kept])


def _pack(context: Any, builder: Any, words: Any, bits: Any, kind: Any, array: Any, at: Any) -> None:
    """Write the chosen words one after the other, from entry `at` of an array on; the rest of eight entries there is overwritten."""
    if _COMPRESS:
        chosen = _chosen(builder, bits)
        name = f"llvm.experimental.vector.compress.v{LANES}i64"
        packing = get_or_insert_function(builder.module, ir.FunctionType(_WORDS, [_WORDS, chosen.type, _WORDS]), name)
        packed = builder.call(packing, [words, chosen, ir.Constant(_WORDS, ir.Undefined)])
        builder.store(packed, _place(context, builder, kind, array, at), align=8)
        return
    data = context.make_array(kind)(context, builder, array).data
    for k in range(LANES):
        builder.store(builder.extract_element(words, ir.Constant(ir.IntType(32), k)), builder.gep(data, [at]), align=8)
        at = builder.add(at, builder.and_(builder.lshr(bits, ir.Constant(_WORD, k)), ir.Constant(_WORD, 1)))


@intrinsic
def having(typing: Any, array: Any, at: Any, word: Any) -> Any:
    """Which of the eight words from entry `at` on have a one in common with `word`."""

    def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, at, word = arguments
        both = builder.and_(_read(context, builder, signature.args[0], array, at), _spread(builder, word))
        return _number(builder, builder.icmp_unsigned("!=", both, ir.Constant(_WORDS, [0] * LANES)))

    return types.int64(array, types.int64, types.int64), make


@intrinsic
def sharing(typing: Any, array: Any, at: Any, word: Any, need: Any) -> Any:
    """Which of the eight words from entry `at` on have at least `need` ones in common with `word`."""

    def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, at, word, need = arguments
        both = builder.and_(_read(context, builder, signature.args[0], array, at), _spread(builder, word))
        count = get_or_insert_function(builder.module, ir.FunctionType(_WORDS, [_WORDS]), f"llvm.ctpop.v{LANES}i64")
        return _number(builder, builder.icmp_signed(">=", builder.call(count, [both]), _spread(builder, need)))

    return types.int64(array, types.int64, types.uint64, types.int64), make


@intrinsic
def union(typing: Any, array: Any, at: Any, bits: Any) -> Any:
    """Ones of those of the eight words from entry `at` on that `bits` names."""

    def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, at, bits = arguments
        return _union(builder, _read(context, builder, signature.args[0], array, at), bits)

    return array.dtype(array, types.int64, types.int64), make


@intrinsic
def missing(typing: Any, first: Any, second: Any, third: Any, at: Any, bits: Any) -> Any:
    """Ones that some of the chosen vertices lack in all three arrays."""

    def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *arrays, at, bits = arguments
        a, b, c = (_read(context, builder, k, x, at) for k, x in zip(signature.args, arrays))
        return _union(builder, builder.not_(builder.or_(builder.or_(a, b), c)), bits)

    return types.int64(first, second, third, types.int64, types.int64), make


@intrinsic
def pack(typing: Any, array: Any, at: Any, bits: Any, to: Any) -> Any:
    """Copy those of the eight words from entry `at` on that `bits` names, from entry `to` on; what follows there is overwritten."""

    def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, at, bits, to = arguments
        kind = signature.args[0]
        _pack(context, builder, _read(context, builder, kind, array, at), bits, kind, array, to)
        return context.get_dummy_value()

    return types.none(array, types.int64, types.int64, types.int64), make


@intrinsic
def numbers(typing: Any, base: Any, bits: Any, out: Any, to: Any) -> Any:
    """Write `base` + (place of each one of `bits`), from entry `to` on; what follows there is overwritten."""

    def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        base, bits, out, to = arguments
        places = builder.add(_spread(builder, base), ir.Constant(_WORDS, list(range(LANES))))
        _pack(context, builder, places, bits, signature.args[2], out, to)
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, out, types.int64), make
