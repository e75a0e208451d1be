"""The function that applies an op. It is written for the op's own parameters, as `dataclasses` write an `__init__`.

It takes tensors of one device and dtype, and numbers beside them, as most calls have. Whatever else an op is given,
`Op.settled` makes into these.
"""

import itertools
import operator
from collections.abc import Callable
from textwrap import indent
from typing import Any, NamedTuple

from tinygrad_lstm.backends.dtypes import FLOAT16, FLOAT32, FLOAT64

from .._tensor import Tensor
from ..device import get_device
from ..graph import record
from ..lengths import Derived, plain
from ..mode import mode
from ..tracer_hooks import shapes_traced
from .operation import MISSING, NUMBERS, Op
from .source import by_own_names, compiled, written_when_called

__all__ = ["MANY", "caller"]

# dtypes are equal, but not always the same object: those of unpickled arrays are not.
_NO_FLOAT = "_dtype is not _float32 and _dtype is not _float64 and _dtype not in _FLOATS"


MANY = 2**15
"""The number of elements from which one pass is used. Its call takes several times as long as that of an op."""


def caller(op: Op, one_pass: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """The function that applies an op.

    Args:
        one_pass: computes the op for large tensors, or returns None if it does not.
    """
    names = {"_one_pass": one_pass, "_many": MANY}
    return written_when_called(lambda: compiled(op.name, _source(op, one_pass is not None), _names(op) | names))


def _names(op: Op) -> dict[str, Any]:
    """What the source calls by names of its own."""
    names = by_own_names(Derived, Tensor, get_device, itertools.repeat, operator.is_, plain, record)
    names |= {"_op": op, "_forward": op.forward, "_view": op.view, "_derivatives": op.derivatives, "_missing": MISSING}
    names |= {"_float32": FLOAT32, "_float64": FLOAT64, "_FLOATS": {FLOAT16, FLOAT32, FLOAT64}, "_NUMBERS": NUMBERS}
    names |= {"_mode": mode, "_wrap": Tensor._wrap, "_tracing": shapes_traced}
    return names | {f"_default_{name}": default for name, default in op.defaults.items()}


def _source(op: Op, in_one_pass: bool) -> str:
    """The source of the function.

    In it the op's parameters have their own names, and the array of `x` is `_array_x`. All other names begin with `_`,
    Python's own functions too: so no name of a parameter, which may not begin with `_`, can hide one of them.
    """
    first, all_names, inputs = op.inputs[0], ", ".join(op.names), _inputs(op)
    parameters, bind = _parameters(op)
    values = ", ".join(f"_array_{name}" if name in op.inputs else name for name in op.names)
    if op.composed is not None:
        forward, kept = f"_out, _saved = _apply(_device.backend, {values}, _bool(_mask and _now.recording))", "_saved"
    else:
        forward, kept = f"_out = _apply(_device.{'backend' if op.wants_backend else 'xp'}, {values})", "_out"
    copied = "" if op.view is not False else f" or {inputs.returned}"
    saved = ", ".join(f"{name} if _keep & {op.bit(name)} else None" if name in op.inputs else name for name in op.names)
    view = "" if op.view is False else f"if _view is True or _view({values}): {first}._share_version(_result)"
    tried = f"""
    if _array_{first} is not {first} and _array_{first}.size >= _many:
        _result = _one_pass({all_names})
        if _result is not None: return _result
"""
    return f"""
def _call({parameters}):
    {bind}
    _now, _device, _dtype, _mask, _number = _mode().value, None, None, 0, False
{indent("".join(_input_source(op, name) for name in op.inputs), "    ")}
    if {_unfit(op)}:
        if {inputs.given}:
            return {_settled(op)}
        _device = _get_device(){tried if in_one_pass else ""}
    _apply = _forward
    if _now.watched:
        _given = ({all_names},)
        if _now.tracer is not None:
            _apply = _now.tracer.forward_of(_op)
        if _tracing.blocks:  # lengths may be numbers that know where they come from
            {all_names}, = _plain(({all_names},))
            {values}, = _plain(({values},))
    try:
        if _device.switch is None:
            {forward}
        else:
            with _device.switch():
                {forward}
    except _Exception as _error:
        _op.explain(_error, {inputs.tensors}, _device)
        raise
    if _out.__class__ is not _device.array_type{copied}:
        _out = _op.regular(_out, _device)
    _node = None
    if _mask and _now.recording:
        _derivative = _derivatives.get(_mask) or _op.derivative(_mask)
        _keep = _derivative.keep
        _shapes = None
        if _out.__class__ is _tuple or _number or _derivative.keeps_shapes or {inputs.reshaped}:
            _shapes = {inputs.shapes}
        _kept = {kept} if _derivative.keeps_out else None
        _node = _record(_derivative, {inputs.parents}, _device, _out, ({saved},), _kept, _shapes)
    if _out.__class__ is _tuple:
        _result = _op.several(_out, _device, _node, {first})
    else:
        _result = _wrap(_out, _device, _node)
        {view}
    if _now.watched:
        _op.watched(_now, _given, {inputs.arrays}, _result, _node)
    return _result
"""


def _parameters(op: Op) -> tuple[str, str]:
    """The parameters, and the line that binds arguments that are not in their places."""
    parameters = [f"{name}=_default_{name}" if name in op.defaults else name for name in op.names]
    if len(op.inputs) == len(op.names):
        if not op.also:
            return ", ".join(parameters), ""
        given, named = " or ".join(f"{k} is not None" for k in op.also), ", ".join(f"{k!r}: {k}" for k in op.also)
        bind = f"if {given}: return _op.called(({', '.join(op.names)},), (), {{{named}}})"
        return ", ".join([*parameters, "*", *(f"{k}=None" for k in op.also)]), bind
    # Settings go by other names, too.
    required = [name for name, default in op.defaults.items() if default is MISSING and name not in op.inputs]
    missing = "".join(f" or {name} is _missing" for name in required)
    bind = f"if _more or _named{missing}: return _op.called(({', '.join(op.names)},), _more, _named)"
    return ", ".join([*parameters, "*_more", "**_named"]), bind


class _Inputs(NamedTuple):
    """Expressions of what is known of all inputs.

    Attributes:
        tensors: the inputs.
        arrays: their arrays.
        given: whether one is not None.
        returned: whether the result is the array of one.
        reshaped: whether the result has a shape that is not that of all.
        shapes: their shapes.
        parents: their nodes.
    """

    tensors: str
    arrays: str
    given: str
    returned: str
    reshaped: str
    shapes: str
    parents: str


def _inputs(op: Op) -> _Inputs:
    names, first = op.inputs, op.inputs[0]
    if op.sequence:
        return _Inputs(
            tensors=first,
            arrays=f"_array_{first}",
            given=f"False in _map(_is_, _array_{first}, _repeat(None))",
            returned=f"True in _map(_is_, _array_{first}, _repeat(_out))",
            reshaped="True",
            shapes="_input_shapes",
            parents="_parents",
        )
    shape = "(None if {0} is None else ()) if _array_{0} is {0} else _array_{0}.shape"  # a number is its own array
    return _Inputs(
        tensors=f"({', '.join(names)},)",
        arrays=f"({', '.join(f'_array_{x}' for x in names)},)",
        given=" or ".join(f"{x} is not None" for x in names),
        returned=" or ".join(f"_out is _array_{x}" for x in names),
        reshaped=" or ".join(f"_array_{x}.shape != _out.shape" for x in names),
        shapes=f"({', '.join(shape.format(x) for x in names)},)",
        parents=f"({', '.join(f'{x}._node if _mask & {op.bit(x)} else None' for x in names)},)",
    )


def _unfit(op: Op) -> str:
    """The condition of arguments that must be brought to one device and dtype first."""
    if op.promotion == "float":
        return f"_device is None or ({_NO_FLOAT})"
    beside = f"({_NO_FLOAT} and not _op.take_beside(_dtype, ({', '.join(op.promoted)},)))"
    unfit = "_device is None" + f" or _dtype is None or {beside}" * bool(op.promoted)
    return unfit if op.sequence else f"_number and ({unfit})"


def _settled(op: Op) -> str:
    """The call for arguments that were brought to one device and dtype."""
    return f"_call(*_op.settled(({', '.join(op.names)},)))"


def _input_source(op: Op, name: str) -> str:
    """The part that takes the array of an input, or those of a list of inputs."""
    x, settle = "_each" if op.sequence else name, _settled(op)

    def agreed(known: str, value: str, first: str, differs: str = "") -> str:
        if x == first:
            return f"{known} = {value}"
        return f"""if {known} is None: {known} = {value}
    elif {value} is not {known}{differs}: return {settle}"""

    numbers = "()" if op.sequence else "_NUMBERS"
    dtype = ""
    if name in op.promoted:
        dtype = agreed("_dtype", f"_array_{x}.dtype", op.promoted[0], f" and _array_{x}.dtype != _dtype")
    source = f"""
if {x}.__class__ is _Tensor or _isinstance({x}, _Tensor):
    _array_{x} = {x}._array
    {agreed("_device", f"{x}.device", op.inputs[0])}
    {dtype}
    if {x}._node is not None:
        _mask |= {op.bit(name) if name in op.rules else 0}
    if {x}._viewed_at is not None:
        {x}._check_current({op.name!r})
elif {x} is None or {x}.__class__ in {numbers} or (_now.watched and _isinstance({x}, _Derived)):
    _array_{x} = {x}
    _number = True
else:
    return {settle}
"""
    if not op.sequence:
        return source
    return f"""
{name} = _list({name})  # a copy, which no one else changes
_array_{name}, _parents, _input_shapes = [], [], []
for _each in {name}:
{indent(source, "    ")}
    _array_{name}.append(_array__each)
    _parents.append(None if _each is None else _each._node)
    _input_shapes.append(None if _each is None else _array__each.shape)
"""
