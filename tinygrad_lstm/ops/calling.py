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
from ..graph import record
from ..mode import mode
from ..tracing.lengths import Derived, plain
from .operation import MISSING, NUMBERS, Op
from .source import compiled, written_when_called

__all__ = ["caller"]

# In the source the op's parameters have their own names, and a parameter's array is `_name`.
_CALL = """
def call({parameters}):
    {bind}
    _now, _device, _dtype, _mask, _number = _mode().value, None, None, 0, False
{inputs}
    if {unfit}:
        return {settle}
    if _now.watched:
        _given = ({names},)
        {values}, = _plain(({values},))
    try:
        if _device.switch is None:
            {forward}
        else:
            with _device.switch():
                {forward}
    except Exception as _error:
        _op.explain(_error, {given}, _device)
        raise
    if _out.__class__ is not _device.array_type or {same}:
        _out = _op.regular(_out, _device)
    _node = None
    if _mask and _now.recording:
        _derivative = _derivatives.get(_mask) or _op.derivative(_mask)
        _keep = _derivative.keep
        _shapes = None
        if _out.__class__ is tuple or _number or _derivative.keeps_shapes or {unlike}:
            _shapes = {shapes}
        _kept = {kept} if _derivative.keeps_out else None
        _node = _record(_derivative, {parents}, _device, _out, ({saved},), _kept, _shapes)
    if _out.__class__ is tuple:
        _result = _op.several(_out, _device, _node, {first})
    else:
        _result = _wrap(_out, _device, _node)
        {view}
    if _now.watched:
        _op.watched(_now, _given, {arrays}, _result, _node)
    return _result
"""

_INPUT = """
if {x}.__class__ is _Tensor or isinstance({x}, _Tensor):
    _{x} = {x}._array
    {device}
    {promotion}
    if {x}._node is not None:
        _mask |= {bit}
    if {x}._viewed_at is not None:
        {x}._check_current({op!r})
elif {x} is None or {x}.__class__ in {numbers} or (_now.watched and isinstance({x}, _Derived)):
    _{x} = {x}
    _number = True
else:
    return {settle}
"""

_INPUTS = """
{x} = list({x})  # a copy, which no one else changes
_{x}, _parents, _input_shapes = [], [], []
for _each in {x}:
{each}
    _{x}.append(__each)
    _parents.append(None if _each is None else _each._node)
    _input_shapes.append(None if _each is None else __each.shape)
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
    defaults = {f"_{name}_default": default for name, default in op.defaults.items()}
    names: dict[str, Any] = {
        "_derivatives": op.derivatives,
        "_float32": FLOAT32,
        "_float64": FLOAT64,
        "_FLOATS": frozenset({FLOAT16, FLOAT32, FLOAT64}),
        "_forward": op.forward,
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
    settle = f"call(*_op.settled(({all_names},)))"
    parameters = [f"{name}=_{name}_default" if name in op.defaults else name for name in op.names]
    bind = ""
    if len(inputs) < len(op.names):  # settings go by other names, too
        parameters += ["*_more", "**_named"]
        missing = "".join(f" or {name} is _missing" for name, default in op.defaults.items() if default is MISSING)
        bind = f"if _more or _named{missing}: return call(*_op.bound(({all_names},), _more, _named))"
    values = ", ".join(f"_{name}" if name in inputs else name for name in op.names)
    if op.composed is not None:
        forward, kept = f"_out, _saved = _forward(_device.backend, {values}, bool(_mask and _now.recording))", "_saved"
    else:
        forward, kept = f"_out = _forward(_device.{'backend' if op.wants_backend else 'xp'}, {values})", "_out"
    arrays = [f"_{name}" for name in inputs]
    if op.sequence:
        same = f"True in map(_is, _{first}, _repeat(_out))"
        shapes, parents, unlike = "_input_shapes", "_parents", "True"
    else:
        same = " or ".join(f"_out is {array}" for array in arrays)
        shape = "(None if {0} is None else ()) if _{0} is {0} else _{0}.shape"  # a number is its own array
        shapes = f"({', '.join(shape.format(name) for name in inputs)},)"
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
        arrays=f"_{first}" if op.sequence else f"({', '.join(arrays)},)",
    )


def _input_source(op: Op, name: str, settle: str) -> str:
    """The part that takes the array of an input, or those of a list of inputs."""
    x = "_each" if op.sequence else name

    def agreeing(known: str, value: str, first: str, differs: str = "") -> str:
        template = _FIRST if first == x else _NEXT.strip()
        return template.format(name=known, value=value, settle=settle, differs=differs)

    promotion = ""
    if name in op.promoted:
        promotion = agreeing("_dtype", f"_{x}.dtype", op.promoted[0], f" and _{x}.dtype != _dtype")
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
