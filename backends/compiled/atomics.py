"""Atomic words of memory, and calls of functions by address: for `team.py`.

These are LLVM's atomic instructions, with numba's `intrinsic`. A word is an element of an int64 array. A thread that
reads a value from a word also sees everything that the writing thread wrote before it.
"""

import itertools
import platform
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = [
    "add_to_word",
    "call",
    "call_share",
    "exchange_word",
    "outlined",
    "pause",
    "read_word",
    "write_word",
    "yield_core",
]

_WORD = ir.IntType(64)
_BYTES = ir.IntType(8).as_pointer()
_WORD_BYTES = 8

# An instruction that tells the processor that this thread is waiting; other processors have none.
_PAUSES = {
    "x86_64": ("llvm.x86.sse2.pause", []),
    "amd64": ("llvm.x86.sse2.pause", []),
    "aarch64": ("llvm.aarch64.hint", [ir.IntType(32)]),
    "arm64": ("llvm.aarch64.hint", [ir.IntType(32)]),
}
_HINT_YIELD = 1

_numbers = itertools.count()


def _word(context: Any, builder: Any, array_type: Any, array: Any, place: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [place], source_etype=_WORD)


def _read_word(typingctx: Any, words: Any, place: Any) -> Any:
    """The value of a word."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = _word(context, builder, signature.args[0], args[0], args[1])
        return builder.load_atomic(at, "acquire", _WORD_BYTES)

    return types.int64(words, types.intp), generate


def _write_word(typingctx: Any, words: Any, place: Any, value: Any) -> Any:
    """Writes a value into a word."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> None:
        at = _word(context, builder, signature.args[0], args[0], args[1])
        builder.store_atomic(args[2], at, "release", _WORD_BYTES)

    return types.void(words, types.intp, types.int64), generate


def _add_to_word(typingctx: Any, words: Any, place: Any, value: Any) -> Any:
    """Adds a value to a word."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> None:
        at = _word(context, builder, signature.args[0], args[0], args[1])
        builder.atomic_rmw("add", at, args[2], "acq_rel")

    return types.void(words, types.intp, types.int64), generate


def _exchange_word(typingctx: Any, words: Any, place: Any, expected: Any, value: Any) -> Any:
    """Writes a value into a word if that has the expected value; returns whether it had."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = _word(context, builder, signature.args[0], args[0], args[1])
        return builder.extract_value(builder.cmpxchg(at, args[2], args[3], "acq_rel", "acquire"), 1)

    return types.boolean(words, types.intp, types.int64, types.int64), generate


def _pause(typingctx: Any) -> Any:
    """Tells the processor that this thread waits for a different one."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> None:
        name, kinds = _PAUSES.get(platform.machine().lower(), ("", []))
        if name:
            kind = ir.FunctionType(ir.VoidType(), kinds)
            function = cgutils.get_or_insert_function(builder.module, kind, name)
            builder.call(function, [ir.Constant(kind, _HINT_YIELD) for kind in kinds])

    return types.void(), generate


def _yield_core(typingctx: Any) -> Any:
    """Yields this core to a waiting thread, if there is one."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> None:
        if platform.system() != "Windows":
            kind = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])

    return types.void(), generate


def outlined(function: Any) -> Any:
    """A function for compiled code: given a tuple of args, it returns the addresses of a part and of its memory.

    `part(first, last)` calls `function(first, last, *args)`. Its memory has a word that says whether a part failed, and
    the args; it ends when the caller returns.
    """

    def outline(typingctx: Any, args: Any) -> Any:
        kinds = [types.intp, types.intp, *map(types.unliteral, args.types)]
        function_signature = typingctx.resolve_function_type(types.Dispatcher(function), kinds, {})

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            result = function.get_compile_result(function_signature)
            context.active_code_library.add_linking_library(result.library)
            memory = cgutils.alloca_once(builder, ir.LiteralStructType([_WORD, values[0].type]))
            builder.store(values[0], cgutils.gep_inbounds(builder, memory, 0, 1))

            kind = ir.FunctionType(_WORD, [_BYTES, _WORD, _WORD])
            part = ir.Function(builder.module, kind, f"{builder.function.name}.part{next(_numbers)}")
            part.linkage = "internal"
            inner = ir.IRBuilder(part.append_basic_block("entry"))
            arguments, first, last = part.args
            held_memory = inner.bitcast(arguments, memory.type)
            held = inner.load(cgutils.gep_inbounds(inner, held_memory, 0, 1))
            operands = [first, last, *cgutils.unpack_tuple(inner, held, len(args.types))]
            status, _ = context.call_internal_no_propagate(inner, result.fndesc, function_signature, operands)
            with inner.if_then(status.is_error, likely=False):
                inner.store(_WORD(1), cgutils.gep_inbounds(inner, held_memory, 0, 0))
            inner.ret(inner.zext(status.is_error, _WORD))

            addresses = [builder.ptrtoint(part, _WORD), builder.ptrtoint(memory, _WORD)]
            return context.make_tuple(builder, signature.return_type, addresses)

        return types.UniTuple(types.int64, 2)(args), generate

    return intrinsic(outline)


def _call(typingctx: Any, address: Any, arguments: Any, first: Any, last: Any) -> Any:
    """Calls a part of an `outlined` function; returns whether it failed."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, arguments, first, last = args
        kind = ir.FunctionType(_WORD, [_BYTES, _WORD, _WORD])
        part = builder.inttoptr(address, kind.as_pointer())
        failed = builder.call(part, [builder.inttoptr(arguments, _BYTES), first, last])
        return builder.icmp_signed("!=", failed, ir.Constant(_WORD, 0))

    return types.boolean(types.int64, types.int64, types.intp, types.intp), generate


def _call_share(typingctx: Any, share: Any, threads: Any, total: Any, address: Any, arguments: Any) -> Any:
    """Calls the `share` of runtime.h at an address, for an `outlined` function; returns whether a part failed."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        share, threads, total, address, arguments = args
        failed = builder.inttoptr(arguments, _WORD.as_pointer())
        builder.store(_WORD(0), failed)
        kind = ir.FunctionType(ir.VoidType(), [_WORD, _WORD, _WORD, _WORD])
        builder.call(builder.inttoptr(share, kind.as_pointer()), [threads, total, address, arguments])
        return builder.icmp_signed("!=", builder.load(failed), _WORD(0))

    return types.boolean(types.int64, types.intp, types.intp, types.int64, types.int64), generate


read_word: Any = intrinsic(_read_word)
write_word: Any = intrinsic(_write_word)
add_to_word: Any = intrinsic(_add_to_word)
exchange_word: Any = intrinsic(_exchange_word)
pause: Any = intrinsic(_pause)
yield_core: Any = intrinsic(_yield_core)
call: Any = intrinsic(_call)
call_share: Any = intrinsic(_call_share)
