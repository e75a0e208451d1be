"""An elementwise program as C: one loop that reads each element of the inputs once, and writes those of the results."""

from __future__ import annotations

from collections.abc import Sequence

from ..dtypes import is_float
from .c_kernels import CannotEmitError, Kernel, Place, kernels_of
from .program import BATCH, Value

__all__ = ["HEAD", "one_pass_c"]

_OPERATIONS = 20  # that an elementary function takes, about

HEAD = """#include "functions.h"
#include "runtime.h"

typedef unsigned char Flag;
"""
"""The beginning of a source, before its functions."""

# Threads share the elements. All elements of an array of results are adjacent; inputs consist of rows of `columns`
# elements. `elements` is not inlined: compilers would no longer know that the arrays do not overlap.
_FUNCTION_OF_ELEMENTS = """
typedef struct {{ Index size, columns, steps[{number}]; REAL *arrays[{number}]; }} {name}_arguments;

__attribute__((noinline)) static void {name}_elements(Index n, {parameters}) {{
    for (Index r = 0; r < n; r++) {{
        {lines}
    }}
}}

static void {name}_part(void *given, Index first, Index last) {{
    const {name}_arguments *pass = given;
    for (Index at = first, n; at < last; at += n) {{
        const Index row = at / pass->columns, column = at % pass->columns, left = pass->columns - column;
        n = left < last - at ? left : last - at;
        {name}_elements(n, {arguments});
    }}
}}

void {name}(Index threads, {name}_arguments *pass) {{ share(threads, pass->size, {name}_part, pass); }}
"""


def one_pass_c(name: str, inputs: Sequence[Value], results: Sequence[Value]) -> tuple[str, int]:
    """The source of the function `name(threads, arguments)`, and the number of operations for each element, about.

    Raises:
        CannotEmitError: a result is not computed element by element, or has a dtype for which there is no C code.
    """
    if any(value.shape != (BATCH,) or not is_float(value.dtype) for value in (*inputs, *results)):
        raise CannotEmitError("an input or a result has a different shape, or is not of floats")
    places = {value: Place(f"in{k}", "r") for k, value in enumerate(inputs)}
    wanted = [(value, Place(f"out{k}", "r")) for k, value in enumerate(results)]
    (kernel,) = kernels_of(wanted, places, lambda value: "REAL" if is_float(value.dtype) else "Flag", Kernel)
    parameters = [f"const REAL *restrict in{k}" for k in range(len(inputs))]
    parameters += [f"REAL *restrict out{k}" for k in range(len(results))]
    source = _FUNCTION_OF_ELEMENTS.format(
        name=name,
        number=len(parameters),
        parameters=", ".join(parameters),
        lines="\n        ".join(kernel.lines),
        arguments=", ".join(f"pass->arrays[{k}] + row * pass->steps[{k}] + column" for k in range(len(parameters))),
    )
    return source, len(kernel.lines) + _OPERATIONS * source.count("OF_REAL")
