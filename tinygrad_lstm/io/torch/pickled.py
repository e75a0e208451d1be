"""The contents of PyTorch's pickles: tensors, storages, and other allowed values.

Reference: PyTorch's `torch/_utils.py`, `torch/_tensor.py` and `torch/jit/_pickle.py`, which have the functions that are
named here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from ..dtypes import TORCH_STORAGES
from ..errors import ContentError, shown
from .pickle_reader import Dictionary, Name

__all__ = ["NumpyArray", "NumpyType", "Record", "Storage", "Tensor", "TorchMaker", "described"]

Arguments = tuple[object, ...]
MISMATCH = "damaged: something has arguments that PyTorch does not write"

# Limits of a storage, since comparing longer keys or larger sizes would take time.
LONGEST_KEY, LARGEST_SIZE = 1000, 2**63 - 1


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """Elements that are stored outside the pickle."""

    key: str
    type_name: str
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A view of a storage as the pickle describes it, not checked.

    `offset` and `strides` are in elements. `type` is their type if it differs from the storage's.
    """

    storage: object
    offset: object
    shape: object
    strides: object
    type: Name | None = None


@dataclass(slots=True, eq=False)
class NumpyType:
    """An element type: a code such as "f8", and the byte order, "<" or ">", which is its pickled state."""

    code: str
    byte_order: str = "="


@dataclass(slots=True, eq=False)
class NumpyArray:
    """A NumPy array as the pickle describes it, not checked; before protocol 5 everything is in its state.

    `content` has the bytes of its elements, or is a string with a character for each byte.
    """

    type: object = None
    shape: object = ()
    fortran_order: object = False
    content: object = b""


@dataclass(slots=True, eq=False)
class Record:
    """An instance of a class: a module, or a different object. Its attributes are its pickled state."""

    name: Name
    attributes: Dictionary | None = None


class TorchMaker:
    """Makes tensors, dictionaries and plain values, and refuses all other calls by name.

    An instance of any class that is pickled by its attributes becomes a `Record` of these; no class is imported. Plain
    values that arrays do not need, such as a `torch.device` or a NumPy scalar, become their class's name.

    Attributes:
        storages: the storages that were looked up, by key.
    """

    def __init__(self) -> None:
        self.storages: dict[str, Storage] = {}

    def make(self, name: Name, arguments: Arguments) -> object:
        path = f"{MODULES_TODAY.get(name.module, name.module)}.{name.name}"
        if path in PLAIN:
            return name
        if path == "torch.ScriptObject":
            raise ContentError("refuses the packed weights of a quantized layer: save the weights before quantization")
        if path not in MAKERS:
            raise ContentError(
                f"refuses to call {shown(str(name))}: only tensors, dictionaries and plain values are read "
                "(if you trust the file, load it with what wrote it, and save only its arrays, a model's state_dict())"
            )
        return MAKERS[path](arguments)

    def instance(self, name: Name, arguments: Arguments) -> object:
        path = f"{MODULES_TODAY.get(name.module, name.module)}.{name.name}"
        known = path in PLAIN or path in MAKERS or path == "torch.ScriptObject" or path.startswith("builtins.")
        return self.make(name, arguments) if known or arguments else Record(name)

    def set_state(self, value: object, state: object) -> None:
        match value, state:
            case Dictionary(), Dictionary():  # the _metadata of a state_dict
                pass
            case Record(attributes=None), Dictionary():
                value.attributes = state
            case NumpyType(), (_, str() as byte_order, None, None, *_):
                value.byte_order = byte_order
            case NumpyArray(), (_, _, _, _, _):
                _, value.shape, value.type, value.fortran_order, value.content = state
            case NumpyType(), _:
                raise ContentError("refuses an array of structures")
            case Record(), _:
                raise ContentError(f"refuses the packed state of a {shown(str(value.name))}")
            case _:
                raise ContentError(f"refuses to give a state to {described(value)}")

    def look_up(self, identifier: object) -> object:
        if isinstance(identifier, tuple) and len(identifier) == 6 and identifier[5] is None:
            identifier = identifier[:5]  # the older format adds the part of the storage, None for all of it
        match identifier:
            case ("storage", Name() as kind, str() as key, _, int() as size):
                if kind.module not in STORAGE_MODULES or kind.name not in TORCH_STORAGES:
                    raise ContentError(f"refuses a {shown(str(kind))}, whose elements NumPy has no type for")
                return self._storage(key, TORCH_STORAGES[kind.name], size)
            case ("storage", _, _, _, _, _):
                raise ContentError("refuses a part of a storage, as PyTorch saved it before 0.4")
            case ("module", Name() as kind, *_):  # a module's class, with its source code
                return kind
        raise ContentError("damaged: what it refers to is not a storage")

    def _storage(self, key: str, type_name: str, size: int) -> Storage:
        if len(key) > LONGEST_KEY or not 0 <= size <= LARGEST_SIZE:
            raise ContentError(f"damaged: its storage {shown(key)} has an invalid name or size")
        storage = self.storages.setdefault(key, Storage(key, type_name, size))
        if storage.type_name != type_name or storage.size != size:
            raise ContentError(f"its storage {shown(key)} is described in two ways")
        return storage


def described(value: object) -> str:
    """A short description of a value of a pickle."""
    if isinstance(value, Dictionary) and value:
        keys = [shown(key) if isinstance(key, str) else _kind(key) for key, _ in islice(value.pairs(), 5)]
        return f"a dictionary of {', '.join(keys)}"
    return _kind(value)


def _kind(value: object) -> str:
    """The same without the contents of a dictionary, which may contain itself."""
    match value:
        case Dictionary():
            return "a dictionary" if value else "an empty dictionary"
        case list() | tuple():
            return f"a {type(value).__name__} of {len(value)}"
        case Record(name) | (Name() as name):
            return f"a {shown(str(name))}"
        case Tensor() | NumpyArray():
            return "an array"
        case None | bool() | int() | float() | str() | bytes():
            return f"a plain {type(value).__name__}"
    return f"a {type(value).__name__}"


def _tensor(arguments: Arguments) -> Tensor:
    match arguments:
        case (storage, offset, shape, strides) | (storage, offset, shape, strides, _, _):
            return Tensor(storage, offset, shape, strides)
        case (storage, offset, shape, strides, _, _, Dictionary() as view):
            _check_view(view)
            return Tensor(storage, offset, shape, strides)
    raise ContentError(MISMATCH)


def _typed_tensor(arguments: Arguments) -> Tensor:
    match arguments:
        case (storage, offset, shape, strides, _, _, Name() as type):
            return Tensor(storage, offset, shape, strides, type)
        case (storage, offset, shape, strides, _, _, Name() as type, Dictionary() as view):
            _check_view(view)
            return Tensor(storage, offset, shape, strides, type)
    raise ContentError(MISMATCH)


def _check_view(view: Dictionary) -> None:
    if view:
        raise ContentError("refuses a conjugated or negated view: save its resolve_conj().resolve_neg()")


def _parameter(arguments: Arguments) -> Tensor:
    """From its tensor, `requires_grad`, hooks, and attributes."""
    match arguments:
        case (Tensor() as tensor, _, _) | (Tensor() as tensor, _, _, _):
            return tensor
    raise ContentError(MISMATCH)


def _buffer(arguments: Arguments) -> Tensor:
    """From the function that makes its tensor, its class, that function's arguments, and its attributes."""
    match arguments:
        case (Name() as function, _, tuple() as inner, _) if str(function) in TENSORS:
            return TENSORS[str(function)](inner)
    raise ContentError(MISMATCH)


def _dictionary(arguments: Arguments) -> Dictionary:
    match arguments:
        case () | (None | Name(),):  # the default_factory of a defaultdict
            return Dictionary()
        case (Dictionary() as items,):
            return items
        case (list() as pairs,):  # Python 2
            return _from_pairs(pairs)
    raise ContentError(MISMATCH)


def _from_pairs(pairs: list[object]) -> Dictionary:
    items = Dictionary()
    for pair in pairs:
        match pair:
            case (key, value):
                items.extend((key, value))
            case _:
                raise ContentError("damaged: an ordered dictionary is made of values that are not pairs")
    pairs.clear()  # moved, not copied, however often the pickle repeats it
    return items


def _reconstructed(arguments: Arguments) -> object:
    """From a class, its base and that one's state, in protocols 0 and 1."""
    match arguments:
        case (Name() as kind, Name() as base, None) if base.name == "object":
            return Record(kind)
    raise ContentError("refuses an instance of a subclass of a built-in type")


def _itself(arguments: Arguments) -> object:
    """From a value, and its type in TorchScript."""
    match arguments:
        case (value,) | (value, _):
            return value
    raise ContentError(MISMATCH)


def _no_bytes(arguments: Arguments) -> bytes:
    if arguments:
        raise ContentError("refuses to call 'builtins.bytes' with arguments, which no pickle of plain values has")
    return b""


def _text(arguments: Arguments) -> str:
    """Bytes, as a string with a character for each."""
    match arguments:
        case (str() as text, "latin1"):
            return text
    raise ContentError(MISMATCH)


def _numpy_type(arguments: Arguments) -> NumpyType:
    match arguments:
        case (str() as code, _, _):
            return NumpyType(code)
    raise ContentError(MISMATCH)


def _numpy_array(arguments: Arguments) -> NumpyArray:
    """From its bytes, type, shape and order, as in pickles of protocol 5."""
    match arguments:
        case (content, type, shape, "C" | "F" as order):
            return NumpyArray(type, shape, order == "F", content)
        case (_, _, _, "K", _):
            raise ContentError("refuses an array of NumPy's that is not contiguous: save a copy of it")
    raise ContentError(MISMATCH)


TENSORS: dict[str, Callable[[Arguments], Tensor]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
}
MAKERS: dict[str, Callable[[Arguments], object]] = {
    **TENSORS,
    **dict.fromkeys(("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"), _parameter),
    "torch._tensor._rebuild_from_type_v2": _buffer,
    **dict.fromkeys(("collections.OrderedDict", "collections.defaultdict", "collections.Counter"), _dictionary),
    "torch.Size": _itself,
    **dict.fromkeys((f"torch.jit._pickle.build_{kind}list" for kind in ("int", "double", "bool", "tensor")), _itself),
    "torch.jit._pickle.restore_type_tag": _itself,
    "copyreg._reconstructor": _reconstructed,
    "builtins.bytes": _no_bytes,
    "_codecs.encode": _text,
    "numpy.dtype": _numpy_type,
    "numpy._core.multiarray._reconstruct": lambda arguments: NumpyArray(),
    "numpy._core.numeric._frombuffer": _numpy_array,
}
PLAIN = {
    *(f"builtins.{name}" for name in ("set", "frozenset", "complex", "bytearray")),
    "torch.device",
    "torch.nn.backends.thnn._get_thnn_function_backend",  # of each module in a `torch.save(model)` before PyTorch 1.4
    "numpy._core.multiarray.scalar",
}
MODULES_TODAY = {
    "__builtin__": "builtins",
    "copy_reg": "copyreg",
    "numpy.core.multiarray": "numpy._core.multiarray",
    "numpy.core.numeric": "numpy._core.numeric",
}
STORAGE_MODULES = {"torch", "torch.cuda", "torch.storage"}
