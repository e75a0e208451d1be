"""Reductions in ONNX."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_lstm.backends.dtypes import INT64, is_float, widened_dtype

from ....ops import _softmax, class_loss, cumulative, reduction
from ....ops.reduction import Dim
from ....programs.program import Operand
from ..graph import Graph, Input
from .entries import Entry, dim_in, dims_in, wide, write_alike, writes


def _reduced(g: Graph, kind: str, x: Input, dims: Sequence[int], keepdim: bool) -> str:
    if not dims:
        return g.name(x)
    if kind == "ReduceSum":  # the first whose dimensions became an input
        return g.node(kind, x, np.array(dims, np.int64), keepdims=int(keepdim))
    return g.node(kind, x, axes=list(dims), keepdims=int(keepdim))


def _reduction(kind: str) -> Entry:
    """A reduction in the dtype of its result, which is `dtype` if the mean has one."""

    def entry(g: Graph, x: Operand, dim: Dim, keepdim: bool, dtype: Any = None) -> str:
        return _reduced(g, kind, g.cast(x, g.call.result.dtype), dims_in(x, dim), keepdim)

    return entry


write_alike(
    _reduction,
    {
        reduction.sum: "ReduceSum",
        reduction.mean: "ReduceMean",
        reduction.prod: "ReduceProd",
    },
)


def _keeping_nan(kind: str) -> Entry:
    """A reduction for which ONNX does not specify that NaNs propagate: the sum of the NaNs is added."""

    def entry(g: Graph, x: Operand, dim: Dim, keepdim: bool) -> str:
        dims = dims_in(x, dim)
        given = g.cast(x, g.call.result.dtype)
        reduced = _reduced(g, kind, given, dims, keepdim)
        if not is_float(x.dtype) or not dims:
            return reduced
        nans = g.node("Where", g.node("IsNaN", wide(g, x)), given, g.number(0, g.call.result.dtype))
        return g.node("Add", reduced, _reduced(g, "ReduceSum", nans, dims, keepdim))

    return entry


write_alike(
    _keeping_nan,
    {reduction.logsumexp: "ReduceLogSumExp", reduction.max_op: "ReduceMax", reduction.min_op: "ReduceMin"},
)


def _quantified(kind: str) -> Entry:
    """`any` and `all`, by ones and zeros; also for empty tensors."""

    def entry(g: Graph, x: Operand, dim: Dim, keepdim: bool) -> str:
        zeros_and_ones = g.cast(g.cast(x, np.bool_), np.int32, np.bool_)
        return g.name(g.cast(_reduced(g, kind, zeros_and_ones, dims_in(x, dim), keepdim), np.bool_, np.int32))

    return entry


write_alike(_quantified, {reduction.any: "ReduceSum", reduction.all: "ReduceProd"})


def _variance(g: Graph, x: Operand, dim: Dim, correction: float, keepdim: bool, unbiased: bool | None) -> str:
    correction = correction if unbiased is None else int(unbiased)
    dims, dtype = dims_in(x, dim), g.call.result.dtype
    x_wide = g.cast(x, dtype)
    centred = g.node("Sub", x_wide, _reduced(g, "ReduceMean", x_wide, dims, True))
    biased = _reduced(g, "ReduceMean", g.node("Mul", centred, centred), dims, keepdim)
    lengths = g.ints(x.shape[d] for d in dims)
    number = g.cast(g.node("ReduceProd", lengths, keepdims=0), dtype, INT64)
    return g.node("Mul", biased, g.node("Div", number, g.node("Sub", number, g.number(correction, dtype))))


writes(reduction.var)(_variance)


@writes(reduction.std)
def _std(g: Graph, x: Operand, dim: Dim, correction: float, keepdim: bool, unbiased: bool | None) -> str:
    return g.node("Sqrt", _variance(g, x, dim, correction, keepdim, unbiased))


@writes(reduction.magnitude)
def _magnitude(g: Graph, x: Operand, dims: Sequence[int]) -> str:
    largest = _reduced(g, "ReduceMax", g.node("Abs", x), dims, True)
    usable = g.node("And", g.node("Greater", largest, np.zeros((), x.dtype)), g.node("Not", g.node("IsInf", largest)))
    return g.node("Where", usable, largest, np.ones((), x.dtype))


def _searched(kind: str) -> Entry:
    """The index of an extreme, or of the first NaN if there is one, which ONNX does not specify."""

    def entry(g: Graph, x: Operand, dim: int | None, keepdim: bool) -> str:
        if dim is not None and x.shape:
            return _found(g, kind, x, x, dim_in(x, dim), keepdim)
        place = _found(g, kind, x, g.node("Reshape", x, np.array([-1])), 0, False)
        return g.node("Reshape", place, np.ones(len(x.shape), np.int64)) if keepdim else place

    return entry


def _found(g: Graph, kind: str, x: Operand, given: Input, dim: int, keepdim: bool) -> str:
    """The index along a dimension of x, or of x in a different shape."""
    place = g.node(kind, given, axis=dim, keepdims=int(keepdim))
    if not is_float(x.dtype):
        return place
    wider = g.cast(given, widened_dtype(x.dtype), x.dtype)
    nans = g.cast(g.node("IsNaN", wider), np.int32, np.bool_)
    first = g.node("ArgMax", nans, axis=dim, keepdims=int(keepdim))
    some = g.cast(_reduced(g, "ReduceMax", nans, [dim], keepdim), np.bool_, np.int32)
    return g.node("Where", some, first, place)


write_alike(_searched, {reduction.argmax: "ArgMax", reduction.argmin: "ArgMin"})


def _over_one_dim(kind: str) -> Entry:
    def entry(g: Graph, x: Operand, dim: Dim) -> str:
        if not x.shape:
            row = g.node(kind, g.node("Unsqueeze", x, np.array([0])), axis=0)
            return g.node("Squeeze", row, np.array([0]))
        dims = dims_in(x, dim)
        if len(dims) != 1:
            raise ValueError(
                f"export_onnx: op {g.call.name!r} goes over the dimensions {dims}, and in ONNX over one; flatten them"
            )
        return g.node(kind, x, axis=dims[0])

    return entry


write_alike(_over_one_dim, {_softmax.softmax: "Softmax", _softmax.log_softmax: "LogSoftmax"})


@writes(class_loss.cross_entropy_op)
def _cross_entropy(
    g: Graph, inputs: Sequence[Operand], ids: Operand, ignore_index: int, reduction: str, *_: Any
) -> str:
    logits = g.cast(inputs[0], g.call.results[0].dtype)
    return g.node("SoftmaxCrossEntropyLoss", logits, ids, ignore_index=ignore_index, reduction=reduction)


@writes(class_loss.picked)
def _picked(g: Graph, x: Operand, ids: Operand, dim: int) -> str:
    at = g.node("Unsqueeze", g.cast(ids, INT64), np.array([dim]))
    return g.node("Squeeze", g.node("GatherElements", x, at, axis=dim), np.array([dim]))


@writes(reduction.taken_along, cumulative.taken_so_far)
def _taken_along(g: Graph, x: Operand, index: Operand, dim: int) -> str:
    return g.node("GatherElements", x, index, axis=dim_in(x, dim))
