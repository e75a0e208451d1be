"""Models from files of any format, for commands: inputs and outputs by the file's names."""

from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeAlias

import typer

from tinygrad_lstm.backends.base import HostArray

from ..device import default_device, get_device
from ..io import load_model
from ..io.models.loaded import Loaded
from ..io.models.ports import Port, UnknownShapeError
from ..mode import no_grad
from ..nn import Module
from ..printable import printable
from ..programs.examples import examples_of
from .shared import path_option, require, with_notes

__all__ = ["ModelFile", "Shapes", "StatePairs", "WholeModel", "shape_advice"]

ModelFile: TypeAlias = Annotated[
    str,
    typer.Argument(
        help="A model: a file of ONNX, Keras, TensorFlow or TorchScript, or a checkpoint that train wrote.",
        metavar="FILE",
    ),
]
StatePairs: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--state",
        help="An input that is a state, and the output that is the state afterwards; may be repeated. "
        "[default: paired by name and shape]",
        metavar="INPUT=OUTPUT",
    ),
]
Shapes: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        help="The lengths of an input, with names for those that are free, as in x=batch,time,80; may be repeated. "
        "[default: as the file has them]",
        metavar="INPUT=LENGTHS",
    ),
]


@dataclass(frozen=True)
class WholeModel:
    """A model from a file.

    Attributes:
        module: the module.
        inputs: its inputs.
        outputs: the names of its outputs.
        states: the inputs that are states, each with the output that is the state afterwards.
    """

    module: Module
    inputs: tuple[Port, ...]
    outputs: tuple[str, ...]
    states: Mapping[str, str]

    @classmethod
    def load(
        cls,
        file: str,
        device: str | None = None,
        pairs: list[str] | None = None,
        shapes: list[str] | None = None,
    ) -> "WholeModel":
        """The model of a file, on a device, with states and shapes as the options say.

        Raises:
            OSError, RuntimeError, ValueError: as `tg.io.load_model`; a pair of states or a shape is invalid.
        """
        for pair in pairs or ():
            require("--state", pair.count("=") == 1, "the names of an input and an output, as in h0=hn", repr(pair))
        states = dict(pair.split("=") for pair in pairs) if pairs else None
        with default_device(get_device(device)):
            module = load_model(path_option("FILE", file), states)
            if not hasattr(module, "example_inputs"):
                kind = type(module).__name__
                raise ValueError(f"{file}: one {kind}, without the shapes of its inputs; tg.io.load_model returns it")
            return cls.of(module)._shaped(shapes or ())

    @classmethod
    def of(cls, module: Module) -> "WholeModel":
        """The model with its inputs and outputs: those of the file, or those of its methods for export."""
        if isinstance(module, Loaded):
            return cls(module, module.inputs, module.body.outputs, module.states)
        named: Any = module
        ports = [
            Port(name, tuple(each.dims.get(k, n) for k, n in enumerate(each.array.shape)), each.array.dtype.name)
            for name, each in examples_of(module, None, None).items()
        ]
        with no_grad():
            outputs = tuple(named.named_forward(**named.example_inputs(1, 1)))
        states = {port.name: port.name[:-1] for port in ports if port.name[:-1] in outputs and port.name[-1] == "0"}
        return cls(module, tuple(ports), outputs, states)

    def _shaped(self, shapes: Iterable[str]) -> "WholeModel":
        """The model whose inputs have the shapes of an option. Lengths of one name have the same one in all inputs."""
        ports = {port.name: port for port in self.inputs}
        lengths_of: dict[str, int | str] = {}
        given_to: set[str] = set()
        for given in shapes:
            name, equals, lengths = given.partition("=")
            require(
                "--shape", bool(equals) and name in ports, f"INPUT=LENGTHS for one of {', '.join(ports)}", repr(given)
            )
            parts = [part.strip() for part in lengths.split(",") if part]
            good = bool(parts) and all(part.isidentifier() or (part.isdecimal() and int(part)) for part in parts)
            require("--shape", good, f"lengths or names, as in {name}=batch,time,80", repr(given))
            shape = tuple(int(part) if part.isdecimal() else part for part in parts)
            known = ports[name].shape
            fits = known is None or (
                len(known) == len(shape) and all(isinstance(n, str) or n == m for n, m in zip(known, shape))
            )
            require("--shape", fits, f"lengths of {printable(str(ports[name]))}", lengths)
            ports[name] = replace(ports[name], shape=shape)
            given_to.add(name)
            lengths_of |= {own: new for own, new in zip(known or (), shape) if isinstance(own, str)}
        inputs = tuple([port if port.name in given_to else _with_lengths(port, lengths_of) for port in ports.values()])
        if isinstance(self.module, Loaded):
            self.module.inputs = inputs
        return replace(self, inputs=inputs)

    @property
    def parameters(self) -> dict[str, str]:
        """The inputs, each with the name of its parameter of the module's `forward`."""
        names = [port.name for port in self.inputs]
        return dict(zip(names, self.module.input_names if isinstance(self.module, Loaded) else names, strict=True))

    def __call__(self, given: Mapping[str, Any]) -> dict[str, HostArray]:
        """The outputs by name, given inputs by name. States that are not given start from zeros.

        Raises:
            ValueError: an input is missing or does not fit.
        """
        module: Any = self.module
        with self.running(given):
            if isinstance(module, Loaded):
                result: Any = module(*[given.get(port.name) for port in self.inputs])
                outputs = result if isinstance(result, tuple) else (result,)
            else:
                outputs = tuple(module.named_forward(**given).values())
        return {name: output.numpy() for name, output in zip(self.outputs, outputs, strict=True)}

    @contextmanager
    def running(self, given: Container[str]) -> Iterator[None]:
        """Within this context, the model runs: errors are due to its inputs, and become a ValueError.

        Raises:
            ValueError: an input is missing.
        """
        if missing := [port for port in self.inputs if port.name not in given and port.name not in self.states]:
            raise ValueError(f"missing inputs: {'; '.join(map(str, missing))}; give --input")
        try:
            yield
        except UnknownShapeError as error:
            raise ValueError(shape_advice(error)) from error
        except (TypeError, LookupError) as error:
            raise ValueError(with_notes(error)) from error


def shape_advice(error: UnknownShapeError) -> str:
    """What a file does not say of a shape, and how the command says it."""
    return printable(f"{error.reason}; give it with --shape, as in --shape {error.name}=batch,time,80")


def _with_lengths(port: Port, lengths: Mapping[str, int | str]) -> Port:
    """An input with other lengths in place of these names."""
    if port.shape is None:
        return port
    shape = tuple([lengths.get(length, length) if isinstance(length, str) else length for length in port.shape])
    return replace(port, shape=shape)
