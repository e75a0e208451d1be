"""TorchScript archives as modules.

The code of an archive is not run. It is read as a graph: the calls of known layers and ops in `forward` become steps.
"""

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.kinds import KINDS

from ....nn import Module
from ...errors import ContentError, shown
from ...torch.file import TorchContents
from ...torch.nesting import flattened
from ...torch.pickle_reader import Dictionary
from ...torch.pickled import NumpyArray, Record
from ...torch.pickled import Tensor as DescribedTensor
from .code import Class, Code, traced_settings
from .graph import Graph, MissingPartsError
from .layers import RESULTS, Ties, UnsupportedSettingError, layer_of, memory_of, torch_type, unmangled
from .recurrent import call_packed, pack, pad_packed, recurrent_op
from .transformers import TRANSFORMERS, transformed
from .values import Applied, Ref, call_layer

__all__ = ["loaded_script"]

DEEPEST = 50
ADVICE = "export the model to ONNX; or write its forward for the layers that from_torch makes of this file"
MOST_CALLS = 20_000
MOST_STATEMENTS = 200_000


@dataclass(frozen=True, eq=False)
class _Dotted:
    """A name that is not a value: of a function, or the beginning of one."""

    name: str


@dataclass(frozen=True, eq=False)
class _Method:
    owner: Record
    name: str


class _UnsupportedError(Exception):
    """What a function does that no graph has."""


def loaded_script(path: Path, contents: TorchContents, states: Mapping[str, str] | None = None) -> Module:
    """The module of a TorchScript archive: a `Loaded`, or a single layer as it is.

    Raises:
        ContentError: the archive is damaged; or the model has parts that are not there, which are named.
    """
    root = contents.root
    if not isinstance(root, Record) or contents.archive is None:
        raise ContentError("it holds no module")
    try:
        return _Reader(contents, Code(contents.archive, contents.folder)).loaded(path.name, root, states)
    except RecursionError as error:
        raise ContentError("refuses code that is nested so deep") from error


class _Reader:
    """Follows `forward` from call to call, with values in place of tensors."""

    def __init__(self, contents: TorchContents, code: Code) -> None:
        self.contents = contents
        self.code = code
        self._names = contents.archive.names if contents.archive else ()
        self.graph = Graph()
        self._paths: dict[Record, str] = {}
        self._refs: dict[object, Ref] = {}
        self._layers: dict[Record, tuple[str, Ref] | None] = {}
        self._ties = Ties()
        self._constants: list[Any] | None = None
        self._depth = 0
        self._calls = 0
        self._statements = 0

    def loaded(self, title: str, root: Record, states: Mapping[str, str] | None) -> Module:
        self._paths = dict(_paths(root))
        found = self._layer(root)
        layer = self.graph.contents[found[1]][1] if found else None
        if isinstance(layer, Module):
            return layer.eval()
        forward = self._class(root).methods.get("forward") or self._class(root).methods.get("forward__0")
        if forward is None:
            raise ContentError(f"its module, {shown(_type(root))}, has no code for forward")
        _, *names = (each.arg for each in forward.args.args)
        optional = len(forward.args.defaults)
        if torch_type(_type(root)) and optional:  # the states of a recurrent layer, for instance
            names = names[: len(names) - optional]
            optional = 0
        given: list[Any] = [self.graph.input(name) for name in names[: len(names) - optional]]
        result = self._method(_Method(root, forward.name), given, {})
        self.graph.check_nesting(result)
        try:
            return self.graph.loaded(title, list(_named_outputs(result)), states=states)
        except MissingPartsError as error:
            raise ContentError(f"{error}: {ADVICE}") from error

    # -- modules -------------------------------------------------------------------------------------------------------

    def _class(self, record: Record) -> Class:
        return self.code.class_of(_type(record))

    def _attribute(self, record: Record, name: str) -> Any:
        for key, value in record.attributes.pairs() if record.attributes else ():
            if key == name:
                return self._value(value, f"{self._paths[record]}.{name}".removeprefix("."), self._class(record))
        settings = self._class(record).settings
        if name in settings:
            return settings[name]
        if name in self._class(record).methods:
            return _Method(record, name)
        raise ContentError(f"damaged: a {shown(_type(record))} has no {shown(name)}")

    def _value(self, value: object, path: str, owner: Class) -> Any:
        """A pickled value."""
        if isinstance(value, DescribedTensor):
            key = memory_of(value)
            if key not in self._refs:
                array = self.contents.arrays.array(value)
                name = path.rpartition(".")[-1]
                ref = self.graph.add(path, array, trainable=name in owner.parameters)
                self.graph.replace(ref, self._ties.first(key, self.graph.contents[ref][1]))
                self._refs[key] = ref
            return self._refs[key]
        if isinstance(value, Dictionary):
            return {
                key: self._value(each, f"{path}.{key}", owner) for key, each in value.pairs() if isinstance(key, str)
            }
        if isinstance(value, list | tuple):
            return [self._value(each, f"{path}.{number}", owner) for number, each in enumerate(value)]
        return value

    def _layer(self, record: Record) -> tuple[str, Ref] | None:
        """The kind and the layer of a module whose type is known; None for other modules."""
        if record not in self._layers:
            self._layers[record] = None
            kind = torch_type(_type(record))
            own = self._class(record)
            settings = own.settings or traced_settings(kind, own.methods.get("forward"))
            if kind and settings is not None:
                attributes = record.attributes.pairs() if record.attributes else ()
                plain = {key: value for key, value in attributes if isinstance(key, str)}
                with suppress(UnsupportedSettingError):  # its code is read instead
                    described = self._described(record)
                    arrays = {name: self.contents.arrays.array(each) for name, each in described.items()}
                    layer = layer_of(kind, plain | settings, arrays)
                    if layer is not None:
                        self._ties.tie(layer, described)
                        path = self._paths[record] or kind.lower()
                        self._layers[record] = kind, self.graph.add(path, layer)
        return self._layers[record]

    def _described(self, record: Record) -> dict[str, DescribedTensor | NumpyArray]:
        try:
            return flattened(record, self.contents.file_size)
        except ContentError:  # it has none
            return {}

    # -- calls ---------------------------------------------------------------------------------------------------------

    def _method(self, method: _Method, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        owner, path = method.owner, self._paths[method.owner]
        if method.name.startswith("forward"):
            found = self._layer(owner)
            if found is not None:
                kind, layer = found
                result = self._layer_call(kind, layer, [*args, *kwargs.values()])
                if self._class(owner).settings.get("inplace") is True and isinstance(args[0], Ref):
                    self.graph.change(args[0], result)
                return result
            code = self._class(owner).methods.get(method.name)
            # A traced layer has the branches that were taken, and no arguments with a default.
            if (kind := torch_type(_type(owner))) in TRANSFORMERS and code is not None and code.args.defaults:
                return self._transformed(kind, owner, args, kwargs)
        function = self._class(owner).methods.get(method.name)
        if function is None:
            raise ContentError(f"damaged: a {shown(_type(owner))} has no {shown(method.name)}")
        before, self.graph.origin = self.graph.origin, path and f"the module {shown(path)}"
        try:
            return self._function(function, [owner, *args], kwargs)
        except _UnsupportedError as error:
            return self.graph.lacks(f"{error} in {method.name} of a {shown(_type(owner))}")
        finally:
            self.graph.origin = before

    def _transformed(self, kind: str, owner: Record, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        def call(module: Record, name: str, *given: Any) -> Any:
            return self._method(_Method(module, name), given, {})

        def add(x: Any, y: Any) -> Any:
            return self.graph.apply("add", [x, y], {})

        self._depth += 1
        if self._depth > DEEPEST:
            raise ContentError("refuses modules that are nested so deep")
        try:
            return transformed(kind, owner, args[0], args[1:], kwargs, self._attribute, call, add)
        finally:
            self._depth -= 1

    def _layer_call(self, kind: str, layer: Ref, args: Sequence[Any]) -> Any:
        args = [*args]
        self.graph.check_nesting(args)
        while args and args[-1] is None:
            args.pop()
        run: Callable[..., Any] = call_layer
        match args:
            case [(Ref() as packed, None, None, None), *states] if kind in KINDS:
                run, args = call_packed, [packed, *states]
        results = self.graph.step(kind, Applied(run, (layer, *map(_as_tuples, args))), RESULTS.get(kind, 1))
        found = _structured(kind, results)
        return found if run is call_layer else ((found[0], None, None, None), *found[1:])

    def _function(self, function: ast.FunctionDef, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        self._depth += 1
        self._calls += 1
        if self._depth > DEEPEST or self._calls > MOST_CALLS:
            raise ContentError("refuses functions that call each other so often, or so deep")
        names = [each.arg for each in function.args.args]
        scope: dict[str, Any] = {}
        for name, default in zip(reversed(names), reversed(function.args.defaults), strict=False):
            scope[name] = self._evaluated(default, {})
        scope |= {**dict(zip(names, args, strict=False)), **kwargs}
        if missing := [name for name in names if name not in scope]:
            raise ContentError(f"damaged: {function.name} is called without {', '.join(missing)}")
        try:
            result = self._block(function.body, scope)
        finally:
            self._depth -= 1
        return result[0] if result else None

    # -- statements ----------------------------------------------------------------------------------------------------

    def _block(self, statements: Sequence[ast.stmt], scope: dict[str, Any]) -> tuple[Any] | None:
        """Follows statements; returns what they return, if they do."""
        for each in statements:
            self._statements += 1
            if self._statements > MOST_STATEMENTS:
                raise ContentError("refuses code of so many statements")
            match each:
                case ast.Return(value):
                    return (self._evaluated(value, scope) if value else None,)
                case ast.Assign([target], value):
                    self._assign(target, self._evaluated(value, scope), scope)
                case ast.AnnAssign(target, _, value) if value is not None:
                    self._assign(target, self._evaluated(value, scope), scope)
                case ast.If():
                    if result := self._if(each, scope):
                        return result
                case ast.Expr(value):
                    self._evaluated(value, scope)
                case ast.Pass():
                    pass
                case ast.For(target, values, body):
                    for number in self._repetitions(values, scope):
                        self._assign(target, number, scope)
                        if result := self._block(body, scope):
                            return result
                case ast.While():
                    raise _UnsupportedError("a loop that depends on the inputs")
                case _:
                    raise _UnsupportedError(f"a statement ({type(each).__name__}) that no graph has")
        return None

    def _assign(self, target: ast.expr, value: Any, scope: dict[str, Any]) -> None:
        match target:
            case ast.Name(name):
                scope[name] = value
                if isinstance(value, Ref) and not value.label and not name.startswith("_"):
                    value.label = name
            case ast.Tuple(targets) | ast.List(targets):
                if isinstance(value, Ref):
                    value = self.graph.unpacked(value, len(targets))
                if not isinstance(value, list | tuple) or len(value) != len(targets):
                    raise ContentError("damaged: values do not match their names")
                for part, each in zip(targets, value, strict=True):
                    self._assign(part, each, scope)
            case _:
                raise _UnsupportedError(f"an assignment to a {type(target).__name__}")

    def _repetitions(self, values: ast.expr, scope: Mapping[str, Any]) -> range:
        match values:
            case ast.Call(ast.Name("range"), args, []):
                limits = [self._evaluated(each, scope) for each in args]
                if limits and all(type(limit) is int for limit in limits) and len(limits) <= 3 and limits[2:] != [0]:
                    self._calls += len(found := range(*limits))
                    if self._calls > MOST_CALLS:
                        raise ContentError("refuses a loop of so many steps")
                    return found
        raise _UnsupportedError("a loop that depends on the inputs")

    def _if(self, statement: ast.If, scope: dict[str, Any]) -> tuple[Any] | None:
        condition = self._evaluated(statement.test, scope)
        if isinstance(condition, Ref):
            # A branch that only raises checks the inputs, which ours do as well.
            if _raises(statement.body):
                condition = False
            elif _raises(statement.orelse):
                condition = True
            else:
                raise _UnsupportedError("an if that depends on the inputs")
        return self._block(statement.body if condition else statement.orelse, scope)

    # -- expressions ---------------------------------------------------------------------------------------------------

    def _evaluated(self, node: ast.expr, scope: Mapping[str, Any]) -> Any:
        match node:
            case ast.Constant(value):
                return value
            case ast.Name(name):
                if name in scope:
                    return self.graph.current(scope[name])
                return _NUMBERS[name] if name in _NUMBERS else _Dotted(name)
            case ast.Attribute(value, name):
                owner = self._evaluated(value, scope)
                if isinstance(owner, _Dotted):
                    return self._constant(name) if owner.name == "CONSTANTS" else _Dotted(f"{owner.name}.{name}")
                if isinstance(owner, Record):
                    return self.graph.current(self._attribute(owner, name))
                raise _UnsupportedError(f"an attribute {shown(name)}")
            case ast.List(values) | ast.Tuple(values):
                made = [self._evaluated(each, scope) for each in values]
                return tuple(made) if isinstance(node, ast.Tuple) else made
            case ast.Dict(keys, values):
                names = [self._evaluated(key, scope) if key else None for key in keys]
                return dict(zip(names, [self._evaluated(each, scope) for each in values], strict=True))
            case ast.UnaryOp(ast.USub(), value):
                number = self._evaluated(value, scope)
                return self.graph.apply("neg", [number], {})
            case ast.Subscript(value, index):
                return self._item(self._evaluated(value, scope), self._evaluated(index, scope))
            case ast.IfExp(test, body, other):
                condition = self._evaluated(test, scope)
                if isinstance(condition, Ref):
                    raise _UnsupportedError("an if that depends on the inputs")
                return self._evaluated(body if condition else other, scope)
            case ast.Call(function, args, keywords):
                return self._call(function, args, keywords, scope)
        raise _UnsupportedError(f"an expression ({type(node).__name__}) that no graph has")

    def _item(self, value: Any, index: Any) -> Any:
        if isinstance(value, Ref) or isinstance(index, Ref):
            return self.graph.apply("__getitem__", [value, index], {})
        try:
            return value[index]
        except (TypeError, LookupError) as error:
            raise ContentError("damaged: an index is out of range") from error

    def _call(
        self, function: ast.expr, args: Sequence[ast.expr], keywords: Sequence[ast.keyword], scope: Mapping[str, Any]
    ) -> Any:
        called = self._evaluated(function, scope)
        if isinstance(called, _Dotted) and called.name in ("annotate", "unchecked_cast") and len(args) == 2:
            return self._evaluated(args[1], scope)  # the first is a type
        if isinstance(called, _Dotted) and called.name == "uninitialized":
            return None
        values = [self._evaluated(each, scope) for each in args]
        named = {each.arg: self._evaluated(each.value, scope) for each in keywords if each.arg}
        if isinstance(called, _Method):
            return self._method(called, values, named)
        if not isinstance(called, _Dotted):
            raise _UnsupportedError("a call of a value")
        return self._called(called.name, values, named)

    def _called(self, name: str, values: list[Any], named: dict[str, Any]) -> Any:
        match name, values:
            case "getattr", [Record() as owner, str() as attribute]:
                return self.graph.current(self._attribute(owner, attribute))
            case (("int" | "float" | "bool"), [value]):
                if isinstance(value, Ref):
                    return self.graph.apply("prim.truncated", [value], {}) if name == "int" else value
                try:
                    return {"int": int, "float": float, "bool": bool}[name](value)
                except (TypeError, ValueError, OverflowError) as error:
                    raise ContentError(f"damaged: {name}() of something that is not a finite number") from error
            case (("torch.device" | "torch.warn" | "print"), _):
                return None
            case "torch.format", _:
                return ""
            case "torch.append", [list() as target, value]:
                target.append(value)
                return target
            case "__torch__.torch.nn.utils.rnn.pack_padded_sequence", [x, lengths, *first]:
                given = (x, lengths, named.get("batch_first", first[0] if first else False))
                packed, _ = self.graph.step("pack", Applied(pack, given), 2)
                return (packed, None, None, None)
            case "__torch__.torch.nn.utils.rnn.pad_packed_sequence", [(packed, *_), *settings]:
                return tuple(self.graph.step("pad_packed", Applied(pad_packed, (packed, *settings), named), 2))
        if (whole := unmangled(name).removeprefix("torch.nn.functional.")) in _WHOLE:
            return self.graph.apply(_WHOLE[whole], values, named)
        if name.startswith("__torch__."):
            function = self.code.function(name)
            if function is None:
                raise _UnsupportedError(f"a call of {shown(name.removeprefix('__torch__.'))}")
            return self._function(function, values, named)
        short = name.removeprefix("torch.").removeprefix("ops.").removeprefix("aten.")
        recurrent = recurrent_op(self.graph, short, values)
        return self.graph.apply(short, values, named) if recurrent is None else recurrent

    def _number_or_tensor(self, path: str, array: HostArray) -> Any:
        """A constant; one without dimensions is a number, which has no effect on dtypes."""
        return array.item() if not array.ndim else self.graph.add(path, array, trainable=False)

    def _constant(self, name: str) -> Any:
        """A tensor constant of the code, such as `CONSTANTS.c0`."""
        if self._constants is None:
            if f"{self.contents.folder}/constants.pkl" not in self._names:
                raise ContentError(f"damaged: it has no constant {shown(name)}")
            values, arrays = self.contents.pickled("/constants.pkl", "constants")
            self._constants = [
                self._number_or_tensor(f"constants.c{number}", arrays.array(each))
                for number, each in enumerate(values if isinstance(values, list | tuple) else ())
                if isinstance(each, DescribedTensor)
            ]
        try:
            return self._constants[int(name.removeprefix("c"))]
        except (ValueError, IndexError) as error:
            raise ContentError(f"damaged: it has no constant {shown(name)}") from error


_WHOLE = {
    **{name: name for name in ("interpolate", "group_norm", "local_response_norm")},
    "embedding_bag": "functional.embedding_bag",
}
"""The functions of torch.nn.functional that are ops here: their code has branches that depend on shapes."""

_NUMBERS = {"inf": float("inf"), "nan": float("nan")}


def _structured(kind: str, results: Sequence[Ref]) -> Any:
    """The results of a layer as in PyTorch: two states of a network are a tuple."""
    first, *others = results
    if not others:
        return first
    return (first, tuple(others)) if len(others) > 1 else (first, *others)


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list | tuple) else value


def _type(record: Record) -> str:
    return str(record.name)


def _paths(root: Record) -> Iterator[tuple[Record, str]]:
    """All modules with their dotted names; a module that is there twice has its first."""
    seen = {root}
    walk = [(root, "")]
    while walk:
        record, path = walk.pop()
        yield record, path
        children = [
            (child, f"{path}.{key}".removeprefix("."))
            for key, child in (record.attributes.pairs() if record.attributes else ())
            if isinstance(child, Record) and isinstance(key, str) and child not in seen
        ]
        for child, name in reversed(children):
            if len(name) > MOST_NAME:
                raise ContentError("its modules are nested too deep")
            if child not in seen:
                seen.add(child)
                walk.append((child, name))


MOST_NAME = 1000


def _raises(statements: Sequence[ast.stmt]) -> bool:
    """Whether statements end in an exception."""
    return any(
        isinstance(each, ast.Expr)
        and isinstance(each.value, ast.Call)
        and ast.unparse(each.value.func) == "ops.prim.RaiseException"
        for each in statements
    )


def _named_outputs(result: Any, name: str = "output") -> Iterator[tuple[str, Any]]:
    """The results of nested tuples, lists and dictionaries, by name."""
    if isinstance(result, dict):
        for key, value in result.items():
            yield from _named_outputs(value, str(key))
    elif isinstance(result, list | tuple):
        for number, value in enumerate(result):
            yield from _named_outputs(value, name if number == 0 else f"{name}_{number}")
    elif result is not None:
        yield (getattr(result, "label", "") or name), result
