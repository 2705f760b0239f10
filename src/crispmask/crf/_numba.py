"""What the kernels are made of: two ways to compile, and operations on vectors of floats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from crispmask.compiling import jit

# What the filters may do beyond IEEE arithmetic: fuse multiply and add, and sum in vector lanes. Results are the same
# for every run and number of threads, but may differ in the last bit between processor families.
_RELAXED = {"contract", "reassoc", "nsz"}


def relaxed_jit(function: Callable[..., Any]) -> Any:
    """As `jit`, with sums that may be reordered and fused."""
    return jit(function, fastmath=_RELAXED)


@intrinsic
def _float_of_bits(typingctx: Any, bits: Any) -> Any:
    """The float32 whose bits are those of an int32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), codegen


# Floats of one 256-bit register: the channels that the functions below handle at a time. Left to itself, LLVM guards
# loops as short as a label vector with checks for overlapping arrays, and sums them one by one: half as fast.
LANES = 8
_VECTOR = ir.VectorType(ir.FloatType(), LANES)


def _place(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


def _scaling(accumulate: bool) -> Any:
    def scale(typingctx: Any, target: Any, i: Any, source: Any, j: Any, weight: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            undefined = ir.Constant(_VECTOR, ir.Undefined)
            first = builder.insert_element(undefined, args[4], ir.Constant(ir.IntType(32), 0))
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
            factor = builder.shuffle_vector(first, undefined, zeros)
            into = _place(context, builder, signature.args[0], args[0], args[1])
            source = builder.load(_place(context, builder, signature.args[2], args[2], args[3]), align=4)
            result = builder.fmul(source, factor, flags=["contract"])
            if accumulate:
                result = builder.fadd(builder.load(into, align=4), result, flags=["contract"])
            builder.store(result, into, align=4)
            return context.get_dummy_value()

        return types.void(target, types.intp, source, types.intp, types.float32), codegen

    return intrinsic(scale)


def _reduction(name: str, *start: float) -> Any:
    def reduce(typingctx: Any, source: Any, j: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            values = builder.load(_place(context, builder, signature.args[0], args[0], args[1]), align=4)
            single = ir.FloatType()
            kind = ir.FunctionType(single, [single] * len(start) + [_VECTOR])
            full_name = f"llvm.vector.reduce.{name}.v{LANES}f32"
            function = cgutils.get_or_insert_function(builder.module, kind, full_name)
            return builder.call(function, [*(single(value) for value in start), values], fastmath=("reassoc", "nnan"))

        return types.float32(source, types.intp), codegen

    return intrinsic(reduce)


add_scaled = _scaling(accumulate=True)  # target[i : i + LANES] += weight * source[j : j + LANES]
set_scaled = _scaling(accumulate=False)  # target[i : i + LANES] = weight * source[j : j + LANES]
highest = _reduction("fmax")  # max(source[j : j + LANES])
total = _reduction("fadd", 0.0)  # sum(source[j : j + LANES])


@relaxed_jit
def exp(x):
    """exp of a float32 in [-87, 88], to 2 units in the last place; unlike `math.exp` it vectorises (10 times faster).

    Cephes' expf: 2^n times a polynomial of the remainder.
    """
    n = np.rint(x * np.float32(1.44269504))
    r = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    p = (p * r) * r + r + np.float32(1)
    return p * _float_of_bits((np.int32(n) + np.int32(127)) << np.int32(23))
