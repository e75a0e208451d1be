"""The function that applies an op. It is written for the op's own parameters, as `dataclasses` write an `__init__`.

It takes tensors of one device and dtype, and numbers beside them, as most calls have. Whatever else an op is given,
`Op.settled` makes into these.
"""

import itertools
import operator
from collections.abc import Callable
from textwrap import indent
from typing import Any

from tinygrad_lstm.backends.dtypes import FLOAT16, FLOAT32, FLOAT64

from .._tensor import Tensor
from ..device import get_device
from ..graph import record
from ..mode import mode
from ..tracing.lengths import Derived, plain
from .operation import MISSING, NUMBERS, Op
from .source import compiled, written_when_called

__all__ = ["caller"]

# In the source the op's parameters have their own names, and the array of `x` is `_array_x`. All other names begin with
# `_`, Python's own functions too: so no name of a parameter, which may not begin with `_`, can hide one of them.
_CALL = """
def _call({parameters}):
    {bind}
    _now, _device, _dtype, _mask, _number = _mode().value, None, None, 0, False
{inputs}
    if {unfit}:
        if {given_any}:
            return {settle}
        _device = _get_device()
    if _now.watched:
        _given = ({names},)
        {names}, = _plain(({names},))
        {values}, = _plain(({values},))
    try:
        if _device.switch is None:
            {forward}
        else:
            with _device.switch():
                {forward}
    except _Exception as _error:
        _op.explain(_error, {given}, _device)
        raise
    if _out.__class__ is not _device.array_type or {same}:
        _out = _op.regular(_out, _device)
    _node = None
    if _mask and _now.recording:
        _derivative = _derivatives.get(_mask) or _op.derivative(_mask)
        _keep = _derivative.keep
        _shapes = None
        if _out.__class__ is _tuple or _number or _derivative.keeps_shapes or {unlike}:
            _shapes = {shapes}
        _kept = {kept} if _derivative.keeps_out else None
        _node = _record(_derivative, {parents}, _device, _out, ({saved},), _kept, _shapes)
    if _out.__class__ is _tuple:
        _result = _op.several(_out, _device, _node, {first})
    else:
        _result = _wrap(_out, _device, _node)
        {view}
    if _now.watched:
        _op.watched(_now, _given, {arrays}, _result, _node)
    return _result
"""

_INPUT = """
if {x}.__class__ is _Tensor or _isinstance({x}, _Tensor):
    _array_{x} = {x}._array
    {device}
    {promotion}
    if {x}._node is not None:
        _mask |= {bit}
    if {x}._viewed_at is not None:
        {x}._check_current({op!r})
elif {x} is None or {x}.__class__ in {numbers} or (_now.watched and _isinstance({x}, _Derived)):
    _array_{x} = {x}
    _number = True
else:
    return {settle}
"""

_INPUTS = """
{x} = _list({x})  # a copy, which no one else changes
_array_{x}, _parents, _input_shapes = [], [], []
for _each in {x}:
{each}
    _array_{x}.append(_array__each)
    _parents.append(None if _each is None else _each._node)
    _input_shapes.append(None if _each is None else _array__each.shape)
"""

_FIRST = "{name} = {value}"

_NEXT = """
    if {name} is None:
        {name} = {value}
    elif {value} is not {name}{differs}:
        return {settle}
"""

# dtypes are equal, but not always the same object: those of unpickled arrays are not.
_NO_FLOAT = "_dtype is not _float32 and _dtype is not _float64 and _dtype not in _FLOATS"


def caller(op: Op) -> Callable[..., Any]:
    """The function that applies an op."""
    return written_when_called(lambda: _written(op))


def _written(op: Op) -> Callable[..., Any]:
    defaults = {f"_default_{name}": default for name, default in op.defaults.items()}
    names: dict[str, Any] = {
        "_derivatives": op.derivatives,
        "_float32": FLOAT32,
        "_float64": FLOAT64,
        "_FLOATS": frozenset({FLOAT16, FLOAT32, FLOAT64}),
        "_forward": op.forward,
        "_get_device": get_device,
        "_is": operator.is_,
        "_Derived": Derived,
        "_missing": MISSING,
        "_mode": mode,
        "_NUMBERS": NUMBERS,
        "_op": op,
        "_plain": plain,
        "_record": record,
        "_repeat": itertools.repeat,
        "_Tensor": Tensor,
        "_view": op.view,
        "_wrap": Tensor._wrap,
        **defaults,
    }
    return compiled(op.name, _source(op), names)


def _source(op: Op) -> str:
    """The source of the function."""
    inputs, first, all_names = op.inputs, op.inputs[0], ", ".join(op.names)
    settle = f"_call(*_op.settled(({all_names},)))"
    parameters = [f"{name}=_default_{name}" if name in op.defaults else name for name in op.names]
    bind = ""
    if len(inputs) < len(op.names):  # settings go by other names, too
        parameters += ["*_more", "**_named"]
        missing = "".join(f" or {name} is _missing" for name, default in op.defaults.items() if default is MISSING)
        bind = f"if _more or _named{missing}: return _call(*_op.bound(({all_names},), _more, _named))"
    values = ", ".join(f"_array_{name}" if name in inputs else name for name in op.names)
    if op.composed is not None:
        forward, kept = f"_out, _saved = _forward(_device.backend, {values}, _bool(_mask and _now.recording))", "_saved"
    else:
        forward, kept = f"_out = _forward(_device.{'backend' if op.wants_backend else 'xp'}, {values})", "_out"
    arrays = [f"_array_{name}" for name in inputs]
    if op.sequence:
        same = f"True in _map(_is, _array_{first}, _repeat(_out))"
        given_any = f"_array_{first}.count(None) < {first}.__len__()"
        shapes, parents, unlike = "_input_shapes", "_parents", "True"
    else:
        same = " or ".join(f"_out is {array}" for array in arrays)
        shape = "(None if {0} is None else ()) if _array_{0} is {0} else _array_{0}.shape"  # a number is its own array
        shapes = f"({', '.join(shape.format(name) for name in inputs)},)"
        given_any = " or ".join(f"{name} is not None" for name in inputs)
        unlike = " or ".join(f"{array}.shape != _out.shape" for array in arrays)
        parents = f"({', '.join(f'{x}._node if _mask & {op.bit(x)} else None' for x in inputs)},)"
    if op.promotion == "float":
        unfit = f"_device is None or ({_NO_FLOAT})"
    else:
        beside = f"({_NO_FLOAT} and not _op.take_beside(_dtype, ({', '.join(op.promoted)},)))"
        unfit = "_device is None" + f" or _dtype is None or {beside}" * bool(op.promoted)
        unfit = unfit if op.sequence else f"_number and ({unfit})"
    view = "" if op.view is False else f"if _view is True or _view({values}): {first}._share_version(_result)"
    return _CALL.format(
        parameters=", ".join(parameters),
        bind=bind,
        inputs=indent("".join(_input_source(op, name, settle) for name in inputs), "    "),
        unfit=unfit,
        settle=settle,
        given_any=given_any,
        forward=forward,
        given=first if op.sequence else f"({', '.join(inputs)},)",
        same="False" if op.view is not False else same,
        shapes=shapes,
        unlike=unlike,
        kept=kept,
        parents=parents,
        saved=", ".join(f"{name} if _keep & {op.bit(name)} else None" if name in inputs else name for name in op.names),
        first=first,
        view=view,
        names=all_names,
        values=values,
        arrays=arrays[0] if op.sequence else f"({', '.join(arrays)},)",
    )


def _input_source(op: Op, name: str, settle: str) -> str:
    """The part that takes the array of an input, or those of a list of inputs."""
    x = "_each" if op.sequence else name

    def agreeing(known: str, value: str, first: str, differs: str = "") -> str:
        template = _FIRST if first == x else _NEXT.strip()
        return template.format(name=known, value=value, settle=settle, differs=differs)

    promotion = ""
    if name in op.promoted:
        promotion = agreeing("_dtype", f"_array_{x}.dtype", op.promoted[0], f" and _array_{x}.dtype != _dtype")
    source = _INPUT.format(
        x=x,
        device=agreeing("_device", f"{x}.device", op.inputs[0]),
        promotion=promotion,
        settle=settle,
        bit=op.bit(name) if name in op.rules else 0,
        op=op.name,
        numbers="()" if op.sequence else "_NUMBERS",
    )
    return _INPUTS.format(x=name, each=indent(source, "    ")) if op.sequence else source
