"""Models that `torch.save(model)` pickled whole: classes are only names, and layers of known types are built."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tinygrad_lstm.backends.dtypes import is_float

from ...._tensor import Tensor, tensor
from ....nn import Module, ModuleDict, ModuleList, Parameter, Sequential
from ....printable import printable
from ...errors import ContentError, shown
from ...torch.file import TorchContents
from ...torch.nesting import flattened
from ...torch.pickle_reader import Dictionary
from ...torch.pickled import NumpyArray, Record
from ...torch.pickled import Tensor as DescribedTensor
from ..names import attribute_names
from .graph import Graph
from .layers import RESULTS, Ties, layer_of, torch_type
from .values import Applied, call_layer

__all__ = ["Parts", "loaded_pickle"]

DEEPEST = 50
_CONTAINERS: dict[str, type[ModuleDict | ModuleList]] = {
    **{"ModuleDict": ModuleDict, "ModuleList": ModuleList, "Sequential": Sequential}
}
_WRAPPERS = {"DataParallel": "module", "DistributedDataParallel": "module", "OptimizedModule": "_orig_mod"}


class Parts(Module):
    """The layers, parameters and settings of a module of a user-defined class, as attributes of the same names.

    A pickle has no code, so that `forward` raises: write a class that calls the layers.

    Args:
        kind: the name of the class.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(self._no_forward())

    def example_inputs(self, T: int = 1, B: int = 1) -> dict[str, Tensor]:
        """Raises ValueError: the file does not have them."""
        raise ValueError(self._no_forward())

    def _no_forward(self) -> str:
        names = ", ".join(name for name, _ in self.named_children()) or "none"
        return (
            f"{self._kind}: the file has its layers but not its forward, which is code: call the layers ({names}) in a "
            "forward that you write, or export the model to ONNX or TorchScript"
        )

    def extra_repr(self) -> str:
        return self._kind


def loaded_pickle(path: Path, contents: TorchContents) -> Module:
    """The module in a file of `torch.save(model)`, or in a dictionary that was saved with one module in it.

    A single layer is returned as it is, Sequential as a `Loaded`, a user-defined module as `Parts`.

    Raises:
        ContentError: there is no module, or none of its layers is known; a part of a Sequential is not known.
    """
    found = list(_modules(contents.root))
    if len(found) != 1:
        named = f"{len(found)} models, and one is expected" if found else "only arrays"
        raise ContentError(f"it has {named}; tg.io.load_weights reads the arrays")
    root = _unwrapped(found[0])
    if str(root.name).startswith("__torch__."):
        raise ContentError("a TorchScript archive without its code")
    builder = _Builder(contents)
    kind = torch_type(str(root.name))
    if kind == "Sequential":
        return builder.sequential(path.name, root)
    module = builder.module(root, "", 0)
    if builder.unknown and not builder.known:
        raise ContentError(f"it has no layer whose type is known, but {', '.join(builder.unknown[:10])}")
    return module.eval()


class _Builder:
    def __init__(self, contents: TorchContents) -> None:
        self._contents = contents
        self._made: dict[Record, Module] = {}
        self._ties = Ties()
        self.known = 0
        self.unknown: list[str] = []

    def sequential(self, title: str, root: Record) -> Module:
        graph = Graph()
        x: Any = graph.input("input")
        for name, record in _leaves(root, ""):
            kind = torch_type(str(record.name))
            layer = self.module(record, name, 0)
            number = RESULTS.get(kind, 1)
            results = graph.step(kind, Applied(call_layer, (graph.add(name, layer), x)), number)
            x = results[0] if number == 1 else tuple(results)
        if self.unknown:
            raise ContentError(f"it has layers that are not supported: {'; '.join(self.unknown)}")
        outputs = enumerate(x) if isinstance(x, tuple) else [(0, x)]
        return graph.loaded(title, [(f"output_{number}" if number else "output", each) for number, each in outputs])

    def module(self, record: Record, path: str, depth: int) -> Module:
        """The module of a record; `Parts` if its type is not known."""
        if record in self._made:
            return self._made[record]
        if depth > DEEPEST:
            raise ContentError("its modules are nested too deep")
        kind, attributes = torch_type(str(record.name)), _attributes(record)
        made: Module | None = None
        try:
            described = self._described(record) if kind else {}
            arrays = {name: self._contents.arrays.array(each) for name, each in described.items()}
            made = layer_of(kind, attributes, arrays) if kind else None
            if made is not None:
                self._ties.tie(made, described)
            self.known += made is not None
        except ContentError as error:
            self.unknown.append(f"{path or 'the model'} ({error})")
            made = self._container(record, "", attributes, path, depth)
        if made is None:
            made = self._container(record, kind, attributes, path, depth)
            if kind not in _CONTAINERS:
                self.unknown.append(f"{path or 'the model'} ({shown(str(record.name))})")
        self._made[record] = made
        return made

    def _container(self, record: Record, kind: str, attributes: Mapping[str, Any], path: str, depth: int) -> Module:
        children = {
            name: self.module(_unwrapped(child), f"{path}.{name}".removeprefix("."), depth + 1)
            for name, child in _named(attributes.get("_modules"))
            if isinstance(child, Record)
        }
        if kind in _CONTAINERS:
            container = _CONTAINERS[kind]()
            for name, child in children.items():
                setattr(container, _free_attribute(container, name), child)
            return container
        made = Parts(printable(str(record.name)))
        own: dict[str, Any] = {
            name: value
            for name, value in attributes.items()
            if isinstance(value, bool | int | float | str) and not name.startswith("_") and name != "training"
        }
        for role in ("_parameters", "_buffers"):
            for name, each in _named(attributes.get(role)):
                if isinstance(each, DescribedTensor | NumpyArray):
                    value = tensor(self._contents.arrays.array(each))
                    is_parameter = role == "_parameters" and is_float(value.dtype)
                    own[name] = Parameter(value) if is_parameter else value
        own |= children
        for name, attribute in attribute_names(own).items():
            if isinstance(own[name], Module | Parameter | bool | int | float | str):
                setattr(made, attribute.replace(".", "_"), own[name])
            else:
                made.register_buffer(attribute.replace(".", "_"), own[name])
        return made

    def _described(self, record: Record) -> dict[str, DescribedTensor | NumpyArray]:
        try:
            return flattened(record, self._contents.file_size)
        except ContentError:  # it has none
            return {}


def _modules(root: object) -> Iterator[Record]:
    """The module of a pickle, or the modules in its dictionary."""
    if isinstance(root, Record):
        yield root
    elif isinstance(root, Dictionary):
        yield from (
            value for _, value in root.pairs() if isinstance(value, Record) and "_modules" in _attributes(value)
        )


def _unwrapped(record: Record) -> Record:
    """The module that a wrapper such as DataParallel has, or the module itself."""
    for _ in range(DEEPEST):
        inner = _WRAPPERS.get(record.name.name)
        child = None if inner is None else dict(_named(_attributes(record).get("_modules"))).get(inner)
        if not isinstance(child, Record):
            break
        record = child
    return record


def _free_attribute(container: Module, name: str) -> str:
    """The name of a module in a container: its name in the file, unless the container uses that itself."""
    name = name.replace(".", "_") or "unnamed"
    while hasattr(container, name):
        name += "_"
    return name


def _leaves(record: Record, path: str, depth: int = 0) -> Iterator[tuple[str, Record]]:
    """The modules of nested Sequentials, in order."""
    if depth > DEEPEST:
        raise ContentError("its modules are nested too deep")
    for name, child in _named(_attributes(record).get("_modules")):
        if isinstance(child, Record):
            inner, own = f"{path}.{name}".removeprefix("."), _unwrapped(child)
            if torch_type(str(own.name)) == "Sequential":
                yield from _leaves(own, inner, depth + 1)
            else:
                yield inner, own


def _attributes(record: Record) -> dict[str, Any]:
    pairs = record.attributes.pairs() if record.attributes else ()
    return {key: value for key, value in pairs if isinstance(key, str)}


def _named(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Dictionary):
        yield from ((key, each) for key, each in value.pairs() if isinstance(key, str))
