"""Programs that `torch.export` saved, .pt2, as modules: their graph is JSON, of ATen ops.

Reference: PyTorch's `torch/_export/serde/schema.py`, and `torch/export/pt2_archive/constants.py`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tinygrad_lstm.backends.base import HostArray

from ...archive import open_archive
from ...errors import ContentError, naming_file, shown
from ...torch.export_file import ExportFile, dtype_of_number
from ..loaded import Loaded
from ..ports import Port
from .graph import Graph
from .recurrent import recurrent_op

__all__ = ["export_model"]

_UNCOUNTED = {"_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_constrain_range_for_size"}


def export_model(path: Path, states: Mapping[str, str] | None = None) -> Loaded:
    """The module of a program that `torch.export.save` wrote, PyTorch 2.8 or later.

    Raises:
        OSError, ValueError: as `load_model`.
    """
    with open_archive(path) as archive, naming_file(path):
        try:
            return _Program(ExportFile(archive)).loaded(path.name, states)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ContentError(f"damaged: its program lacks something ({type(error).__name__})") from error


class _Program:
    def __init__(self, file: ExportFile) -> None:
        self._module = file.json("models/model.json")["graph_module"]
        self._tensors: dict[str, HostArray] = {**file.tensors("constants"), **file.tensors("weights")}
        self.graph = Graph()
        self.values: dict[str, Any] = {}

    def loaded(self, title: str, states: Mapping[str, str] | None) -> Loaded:
        graph, signature = self._module["graph"], self._module["signature"]
        ports = list(self._inputs(signature["input_specs"], graph["tensor_values"]))
        for node in graph["nodes"]:
            self._node(node)
        return self.graph.loaded(title, list(self._outputs(signature["output_specs"])), ports, states)

    # -- inputs, outputs and tensors -----------------------------------------------------------------------------------

    def _inputs(self, specs: Sequence[Any], metas: Mapping[str, Any]) -> Iterator[Port]:
        for spec in specs:
            ((kind, own),) = spec.items()
            argument = own["arg"]
            within: Any = argument if "name" in argument else next(iter(argument.values()), {})
            name = within["name"]
            match kind:
                case "user_input":
                    self.values[name] = self.graph.input(name)
                    yield _port(name, metas.get(name))
                case "parameter" | "buffer" | "tensor_constant":
                    path = own[f"{kind}_name"]
                    if path not in self._tensors:
                        raise ContentError(f"damaged: it lacks the tensor {shown(path)}")
                    self.values[name] = self.graph.add(path, self._tensors[path], trainable=kind == "parameter")
                case _:
                    raise ContentError(f"it has a {shown(kind)} among its inputs, which is not supported")

    def _outputs(self, specs: Sequence[Any]) -> Iterator[tuple[str, Any]]:
        number = 0
        for spec in specs:
            ((kind, own),) = spec.items()
            if kind == "user_output":
                value = self._argument(own["arg"])
                for each in value if isinstance(value, list) else [value]:
                    if each is not None:
                        yield f"output_{number}" if number else "output", each
                        number += 1
            elif kind != "buffer_mutation":  # as of statistics, in training
                raise ContentError(f"it has a {shown(kind)} among its outputs, which is not supported")

    # -- nodes ---------------------------------------------------------------------------------------------------------

    def _node(self, node: Mapping[str, Any]) -> None:
        target = node["target"]
        op = target.removeprefix("torch.ops.aten.").removeprefix("_operator.").partition(".")[0]
        if op in _UNCOUNTED:
            return
        args = [self._argument(each["arg"]) for each in node["inputs"] if each["kind"] != _KEYWORD]
        kwargs = {each["name"]: self._argument(each["arg"]) for each in node["inputs"] if each["kind"] == _KEYWORD}
        self.graph.origin = f"the node {shown(str(node.get('name') or op))}"
        names = self._names(node["outputs"])
        result = recurrent_op(self.graph, op, args)
        if result is None:
            result = self.graph.apply(op, args, kwargs, len(names))
        self._set(node["outputs"], list(result) if isinstance(result, tuple) else [result])

    def _names(self, outputs: Sequence[Any]) -> list[str]:
        return [name for each in outputs for name in _output_names(each)]

    def _set(self, outputs: Sequence[Any], results: Sequence[Any]) -> None:
        for name, result in zip(self._names(outputs), results, strict=True):
            self.values[name] = result

    def _argument(self, argument: Mapping[str, Any]) -> Any:
        ((kind, value),) = argument.items()
        match kind:
            case "as_tensor" | "as_optional_tensor":
                return self._value(value["name"]) if "name" in value else self._argument(value)
            case "as_tensors":
                return [self._value(each["name"]) for each in value]
            case "as_optional_tensors":
                return [self._argument(each) for each in value]
            case "as_none" | "as_device" | "as_layout" | "as_memory_format":
                return None
            case "as_float":
                return float(value)  # "Infinity" is a string
            case "as_int" | "as_bool" | "as_string":
                return value
            case "as_ints" | "as_floats" | "as_bools" | "as_strings":
                return list(value)
            case "as_scalar_type":
                return dtype_of_number(value)
            case "as_sym_int" | "as_sym_float" | "as_sym_bool":
                return self._symbol(value)
            case "as_sym_ints" | "as_sym_floats":
                return [self._symbol(each) for each in value]
        raise ContentError(f"it has an argument {shown(kind)}, which is not supported")

    def _symbol(self, value: Mapping[str, Any]) -> Any:
        ((kind, own),) = value.items()
        return self._value(own) if kind == "as_name" else own

    def _value(self, name: str) -> Any:
        if name not in self.values:
            raise ContentError(f"damaged: its program uses {shown(name)} before it is computed")
        return self.graph.current(self.values[name])


_KEYWORD = 2
_SYMBOL = re.compile(r"Symbol\('(\w+)'.*\)")


def _output_names(output: Mapping[str, Any]) -> list[str]:
    ((kind, value),) = output.items()
    match kind:
        case "as_tensor":
            return [value["name"]]
        case "as_tensors":
            return [each["name"] for each in value]
        case "as_sym_int" | "as_sym_bool" | "as_sym_float":
            return [value["as_name"]]
        case "as_none":
            return [""]
    raise ContentError(f"it has a result {shown(kind)}, which is not supported")


def _port(name: str, meta: Mapping[str, Any] | None) -> Port:
    if meta is None:  # a number
        return Port(name)
    shape = tuple(
        [size["as_int"] if "as_int" in size else _length(size["as_expr"]["expr_str"]) for size in meta["sizes"]]
    )
    return Port(name, shape, dtype_of_number(meta["dtype"]))


def _length(expression: str) -> str:
    """The name of a free length, such as s0; a length that depends on others has its whole expression."""
    symbol = _SYMBOL.fullmatch(expression)
    return symbol[1] if symbol else expression
