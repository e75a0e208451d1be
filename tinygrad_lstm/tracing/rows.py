"""Which ops compute each row of a batch by itself, and which add up over the rows.

The instructions of the first kind can be computed for the rows of many steps at once. Those of the second kind give,
for the rows of many steps, the sum of what they give for each step.
"""

from typing import Any

from tinygrad_lstm.backends.emit.program import BATCH, Instruction, Value, values_in

__all__ = [
    "ALONG_DIMS",
    "ELEMENTWISE",
    "has_rows",
    "is_elementwise",
    "is_linear",
    "is_row_wise",
    "is_sum_over_rows",
    "is_transposition_of_rows",
]

ELEMENTWISE = frozenset({
    "abs", "acos", "acosh", "add", "asin", "asinh", "astype", "atan", "atan2", "atanh", "bitwise_and",
    "bitwise_not", "bitwise_or", "bitwise_xor", "ceil", "clamp", "clone", "cos", "cosh", "detach", "direction",
    "div", "elu", "eq", "erf", "exp", "expm1", "floor", "floor_divide", "ge", "gt", "hardtanh", "hypot", "isfinite",
    "isinf", "isnan", "le", "log", "log10", "log1p", "log1pexp", "log2", "logaddexp", "logical_and", "logical_not",
    "logical_or", "logical_xor", "lt", "maximum", "minimum", "mul", "nan_to_num", "ne", "neg", "ones_like",
    "outside", "pow", "reciprocal", "relu", "remainder", "round", "rsqrt", "sigmoid", "sign", "sin", "sinh",
    "softsign", "sqrt", "square", "sub", "tan", "tanh", "trunc", "weigh", "where", "zeros_like",
})  # fmt: skip
ALONG_DIMS = {
    "all": "dim", "any": "dim", "argmax": "dim", "argmin": "dim", "argsort": "dim", "cummax_index": "dim",
    "cumprod": "dim", "cumprod_before": "dim", "cumsum": "dim", "cumsum_from_end": "dim", "flip": "dim",
    "logcumsumexp": "dim", "logsumexp": "dim", "log_softmax": "dim", "max": "dim", "median_index": "dim", "min": "dim",
    "prod": "dim", "put_along": "dim", "recurrence": "dim", "roll": "dim", "softmax": "dim", "sum": "dim",
    "taken_along": "dim", "taken_so_far": "dim", "overlapped": "dim", "unfold": "dim",
    "inverse_deviation": "dims", "magnitude": "dims", "normalized": "dims",
    "cat": "dim", "split": "dim", "stack": "dim", "unbind": "dim",
}  # fmt: skip
_LINEAR = frozenset({
    "add", "broadcast_to", "cat", "clone", "detach", "getitem", "matmul", "mul", "neg", "pad", "permute",
    "reshape", "spread_at", "split", "stack", "sub", "sum", "sum_to", "unbind",
})  # fmt: skip


def is_elementwise(instruction: Instruction) -> bool:
    """Whether each element of the result depends on the same element of the inputs, broadcast."""
    return instruction.op.name in ELEMENTWISE


def is_row_wise(instruction: Instruction) -> bool:
    """Whether each row of the results depends on the same row of the inputs that have a batch dimension."""
    results, inputs = instruction.results, instruction.inputs
    if not all(has_rows(value) for value in results) or any(v.has_batch and not has_rows(v) for v in inputs):
        return False
    if _uses_batch_size(instruction):
        return False
    name = instruction.op.name
    if is_elementwise(instruction):
        ndim = len(results[0].shape)
        return all(_broadcasts_rows(value, ndim) for value in inputs)
    if name in ALONG_DIMS:
        dims = _named(instruction)[ALONG_DIMS[name]]
        ndim = len(inputs[0].shape) + (name == "stack")
        return dims is not None and all(d % ndim for d in (dims if isinstance(dims, list | tuple) else (dims,)))
    if name in ("linear", "matmul"):
        first, second, *rest = inputs
        batched = first.has_batch and second.has_batch and len(first.shape) == len(second.shape) > 2
        return batched or (first.has_batch and not any(value.has_batch for value in (second, *rest)))
    if name in ("convolved", "convolved_back"):
        return inputs[0].has_batch and not inputs[1].has_batch
    if name in ("largest", "spread_in_windows", "taken_from_windows"):
        return len(_named(instruction)["windows"]) < len(inputs[0].shape)
    if name in ("irfft", "rfft", "window_sums", "window_sums_back"):
        return len(inputs[0].shape) > 2 - name.startswith("window")
    if name in ("getitem", "spread_at"):
        return _keeps_rows(_named(instruction)["index"])
    if name == "permute":
        return bool(_named(instruction)["order"][0] == 0)
    if name == "pad":
        return bool(_named(instruction)["widths"][0] == (0, 0))
    if name == "layer_norm":
        x = inputs[0]
        return len(_named(instruction)["shape"]) < len(x.shape) and not any(value.has_batch for value in inputs[1:])
    if name == "einsum":
        named = _named(instruction)
        pairs = list(zip(named["operands"], named["terms"], strict=True))
        letters = {term[0] for value, term in pairs if value.has_batch}
        return letters == {named["out_term"][0]}
    if name in ("tril", "triu"):
        return len(inputs[0].shape) > 2
    return name in ("reshape", "broadcast_to", "sum_to")


def is_sum_over_rows(instruction: Instruction) -> bool:
    """Whether the result is a sum, over the rows of the inputs, of what each row gives."""
    inputs, (result, *_) = instruction.inputs, instruction.results
    if result.has_batch or len(instruction.results) > 1 or _uses_batch_size(instruction):
        return False
    name = instruction.op.name
    if name == "matmul" and len(inputs) == 2:
        x, y = inputs
        return len(x.shape) == len(y.shape) == 2 and x.shape[1] is BATCH and y.shape[0] is BATCH
    if name in ("sum", "sum_to"):
        return has_rows(inputs[0])
    if name == "correlated":
        return all(map(has_rows, inputs))
    if name == "einsum":
        named = _named(instruction)
        letters = {term[value.shape.index(BATCH)] for value, term in zip(named["operands"], named["terms"])
                   if value.has_batch}  # fmt: skip
        return len(letters) == 1 and letters.isdisjoint(named["out_term"])
    return False


def is_linear(instruction: Instruction, sums: set[Value]) -> bool:
    """Whether the results are linear in those inputs that are sums, so that it can be applied after adding up."""
    name, of_sums = instruction.op.name, [value in sums for value in instruction.inputs]
    if name not in _LINEAR or any(value.has_batch for value in (*instruction.inputs, *instruction.results)):
        return False
    if name in ("mul", "matmul"):
        return sum(of_sums) == 1
    others = [value for value, is_sum in zip(instruction.inputs, of_sums) if not is_sum]
    return any(of_sums) and all(value.constant == 0 for value in others if not hasattr(value.constant, "shape"))


def is_transposition_of_rows(instruction: Instruction) -> bool:
    """Whether it only exchanges the rows (B, n) for columns, as for the product of a weight's gradient."""
    return (
        instruction.op.name == "permute"
        and instruction.inputs[0].shape[0] is BATCH
        and len(instruction.inputs[0].shape) == 2
    )


def _uses_batch_size(instruction: Instruction) -> bool:
    """Whether it computes with the batch size, which is different for the rows of many steps; a shape may have it."""
    return any(_has_batch_size(argument) for name, argument in _named(instruction).items() if name != "shape")


def _has_batch_size(argument: Any) -> bool:
    if isinstance(argument, slice):
        argument = (argument.start, argument.stop, argument.step)
    return any(map(_has_batch_size, argument)) if isinstance(argument, list | tuple) else argument is BATCH


def _named(instruction: Instruction) -> dict[str, Any]:
    return dict(zip(instruction.op.names, instruction.arguments, strict=True))


def has_rows(value: Value) -> bool:
    """Whether the first dimension, and no other, is the batch."""
    return bool(value.shape) and value.shape[0] is BATCH and BATCH not in value.shape[1:]


def _broadcasts_rows(value: Value, ndim: int) -> bool:
    """Whether a value is broadcast to `ndim` dimensions such that rows stay rows."""
    if value.has_batch:
        return len(value.shape) == ndim
    return len(value.shape) < ndim or value.shape[0] == 1


def _keeps_rows(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    plain = all(isinstance(part, int | slice) or part is None or part is Ellipsis for part in parts)
    if not plain or any(True for _ in values_in(parts)) or not parts:
        return False
    first = parts[0]
    return (first is Ellipsis and len(parts) == 2) or (isinstance(first, slice) and first == slice(None))
