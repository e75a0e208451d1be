"""The module that a file's model becomes."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import is_float
from tinygrad_lstm.models.model_stream import ModelStream

from ..._tensor import Tensor, as_tensor
from ...device import Device, default_device, get_device
from ...nn import Module, Parameter
from ...printable import printable
from ...programs.examples import EXAMPLE_STEPS
from ...streams.planning import NotCausalError
from .body import Body, computing_in, floats_as, plain_array
from .names import identifiers
from .ports import Made, Port, UnknownShapeError, by_port, checked
from .printing import MOST_PRINTED, program_lines, shapes_by_step

__all__ = ["Loaded"]


class Loaded(Module):
    """A model from a file, which `tg.io.load_model` returns.

    It is called with the inputs by position or by the file's names (`model.input_names`), as tensors or arrays. One
    output is a Tensor; several are a named tuple in the file's order. `print(model)` shows what it computes, op by op.
    Parameters and layers have the file's names; see `names.attribute_names`. States that go in and come out
    (`model.states`) start from zeros if they are not given. After `to(dtype=...)` all floats that it computes are of
    this dtype, and inputs that are arrays are converted.

    Args:
        title: what it is, for messages and `print`: the file's name.
        inputs: the inputs.
        body: what it computes from the inputs, contents and constants. Its outputs are the model's.
        contents: parameters, buffers (as plain Tensors) and modules, by the names of values in the body.
        attributes: the dotted attribute names of the contents.
        constants: host arrays, by the names of values in the body.
        states: the inputs that are states, each with the output that is the state afterwards.
    """

    def __init__(
        self,
        title: str,
        inputs: Sequence[Port],
        body: Body,
        contents: Mapping[str, Module | Tensor],
        attributes: Mapping[str, str],
        constants: Mapping[str, HostArray] | None = None,
        states: Mapping[str, str] | None = None,
    ) -> None:
        self.title = title
        self.inputs = tuple(inputs)
        self.body = body
        self.states = dict(states or {})
        self.input_names = identifiers(port.name for port in inputs)
        self.output_names = identifiers(body.outputs)
        self._constants = dict(constants or {})
        self._attributes = {name: attributes[name] for name in contents}
        self._getters = [(name, operator.attrgetter(path)) for name, path in self._attributes.items()]
        for name, value in contents.items():
            _set(self, attributes[name], value)
        self._file_dtype = getattr(self._like(), "dtype", None)

    # -- running -------------------------------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        made = self._made()
        given = self._given(args, kwargs, made)
        device = next((x.device for x in given.values() if isinstance(x, Tensor)), get_device())
        results = self._run(self.body, given, device, made)
        results = tuple([_as_output(result, device) for result in results])
        return results[0] if len(results) == 1 else _outputs_type(tuple(self.output_names))(*results)

    def compute(self, body: Body, *given: Any) -> tuple[Any, ...]:
        """The outputs of a body over the contents of this model, which may be a different one than the model's."""
        return self._run(body, dict(zip(body.inputs, given, strict=True)), get_device(), self._made())

    def _run(self, body: Body, given: Mapping[str, Any], device: Device, made: Made) -> tuple[Any, ...]:
        """The outputs of a body over the contents of this model; new tensors are on this device."""
        constants = self._constants
        with ExitStack() as settings:
            if device is not get_device():
                settings.enter_context(default_device(device))
            if made.dtype is not None and made.dtype != self._file_dtype:
                settings.enter_context(computing_in(made.dtype))
                constants = {name: floats_as(made.dtype, array) for name, array in constants.items()}
            return body.run({**constants, **self._own_values(), **given})

    def _own_values(self) -> dict[str, Any]:
        """Parameters, buffers and modules, as they are now."""
        return {name: get(self) for name, get in self._getters}

    def _given(self, args: Sequence[Any], kwargs: Mapping[str, Any], made: Made) -> dict[str, Any]:
        """The inputs by their names in the file.

        Raises:
            TypeError: an input is missing, unknown, or given twice.
            ValueError: an input has a different shape or kind of dtype.
        """
        given = by_port(self.title, self.inputs, self.input_names, args, kwargs)
        sizes: dict[str, int] = {}
        tensors: dict[str, Any] = {
            port.name: checked(self.title, port, given[port.name], sizes, made)
            for port in self.inputs
            if given.get(port.name) is not None
        }
        missing = []
        for port in self.inputs:
            if port.name in tensors or port.name in self._attributes or port.name in self._constants:
                continue  # it is given, or the model has a default
            if port.optional:
                tensors[port.name] = None
            elif port.name in self.states:
                tensors[port.name] = made.zero_state(port, sizes)
            else:
                missing.append(str(port))
        if missing:
            raise TypeError(f"{self.title}: missing the inputs {'; '.join(missing)}")
        return tensors

    def _made(self) -> Made:
        """Which dtypes and which device have inputs that are made here."""
        like = self._like()
        return Made(
            None if like is None else like.dtype, self._file_dtype, get_device() if like is None else like.device
        )

    def _like(self) -> Tensor | None:
        """A tensor with the device and dtype of the model; None without parameters and buffers of floats."""
        for _, get in self._getters:
            content = get(self)
            is_tensor = isinstance(content, Tensor)
            own = (content,) if is_tensor else itertools.chain(content.parameters(), content.buffers())
            found: Tensor | None = next((each for each in own if is_float(each.dtype)), None)
            if found is not None:
                return found
        return None

    # -- export and printing -------------------------------------------------------------------------------------------

    def example_inputs(self, T: int, B: int) -> dict[str, Tensor]:
        """Random inputs of `forward`, with T and B as the lengths of free dimensions; integers are ones.

        Raises:
            ValueError: the file does not say the shape of an input.
        """
        batches = {name for port in self.inputs for name in port.batch_names}
        others = dict.fromkeys(name for port in self.inputs for name in port.free if name not in batches)
        return self._examples({name: T + k for k, name in enumerate(others)}, B)

    def _examples(self, lengths: Mapping[str, int], B: int) -> dict[str, Tensor]:
        """Random inputs of `forward`, with these lengths of free dimensions, and B for the batch.

        Raises:
            ValueError: the file does not say the shape of an input.
        """
        made = self._made()
        shapes = self._example_shapes(lengths, B).items()
        return {name: made.example(port, shape) for (name, shape), port in zip(shapes, self.inputs, strict=True)}

    def _example_shapes(self, lengths: Mapping[str, int], B: int) -> dict[str, list[int]]:
        """The shapes of `_examples`."""
        self._check_shapes()
        return {
            name: [length if isinstance(length, int) else lengths.get(length, B) for length in port.shape or ()]
            for port, name in zip(self.inputs, self.input_names, strict=True)
        }

    def _check_shapes(self) -> None:
        """Raises an UnknownShapeError if the file does not say the shape of an input."""
        for port, name in zip(self.inputs, self.input_names, strict=True):
            if port.shape is None:
                reason = f"{self.title}: the file does not say the shape of the input {port.name!r}"
                advice = f"give examples of the inputs, as in inputs={{{name!r}: x}}"
                raise UnknownShapeError(reason, advice, port.name)

    def extra_repr(self) -> str:
        return printable(self.title)

    def stream(
        self,
        batch: int = 1,
        inputs: Mapping[str, Any] | None = None,
        *,
        dynamic: Mapping[str, Mapping[int, str]] | None = None,
        fixed: Mapping[str, Any] | None = None,
        lookahead: int = 0,
    ) -> ModelStream:
        """Inference on `batch` sequences as they come in, with the present weights; see `tg.models.stream`.

        Args:
            inputs, dynamic, fixed, lookahead: as for `tg.models.stream`. By default the inputs have the shapes that the
                file says, whose free dimension that is not the batch is the time.

        Raises:
            NotCausalError, ValueError: as for `tg.models.stream`; or the file does not say which dimension is the time,
                or fixes the number of steps.
        """
        examples: Iterable[Mapping[str, Any]] = [] if inputs is None else [inputs]
        if inputs is None:
            self._check_shapes()
            batches = {name for port in self.inputs for name in port.batch_names}
            free = {
                port.name: [name for name in dict.fromkeys(port.free) if name not in batches] for port in self.inputs
            }
            alone = {names[0] for names in free.values() if len(names) == 1}
            times = {name: [each for each in names if each in alone or len(names) == 1] for name, names in free.items()}
            for port in self.inputs:
                if dynamic is None and len(free[port.name]) > 1 and len(times[port.name]) != 1:
                    reason = f"{self.title}: the file does not say which dimension of {port} is the time"
                    advice = "give examples of the inputs, and dynamic={'x': {0: 'batch', 1: 'time'}}, for instance"
                    raise UnknownShapeError(reason, advice, port.name)
            lengths = {name for names in free.values() for name in names}
            examples = (self._examples(dict.fromkeys(lengths, steps), 3) for steps in EXAMPLE_STEPS)
            dynamic = dynamic or {
                name: {
                    k: "batch" if length in batches else "time"
                    for k, length in enumerate(port.shape or ())
                    if length in batches or length in times[port.name]
                }
                for name, port in zip(self.input_names, self.inputs, strict=True)
            }
        if dynamic is not None:
            self._check_time(dynamic)
        names = dict(zip((port.name for port in self.inputs), self.input_names, strict=True))
        recorded = self.output_names if len(self.output_names) > 1 else ["output"]
        outputs = dict(zip(self.body.outputs, recorded, strict=True))
        states = {names[before]: outputs[after] for before, after in self.states.items()}
        first_error = None
        for each in examples:
            try:
                return ModelStream(self, each, batch, dynamic, fixed, states, lookahead)
            except NotCausalError:
                raise
            except ValueError as error:  # perhaps a window is longer than these examples
                first_error = first_error or error
        assert first_error is not None
        timed = {name for name, dims in (dynamic or {}).items() if "time" in dims.values()}
        timeless = [name for name in self.input_names if name not in {*states, *(fixed or {}), *timed}]
        if timed and timeless:
            first_error.add_note(f"(inputs that have no time dimension are given by fixed=: {', '.join(timeless)})")
        raise first_error

    def _check_time(self, dynamic: Mapping[str, Mapping[int, str]]) -> None:
        """Raises if the file fixes the number of steps, as that of a loop which is written out step by step.

        A model of one step, which takes the states and returns them, can be streamed.
        """
        times = {name: [k for k, what in dims.items() if what != "batch"] for name, dims in dynamic.items()}
        ports = [
            port
            for port, name in zip(self.inputs, self.input_names, strict=True)
            if any(
                port.shape[k] not in (1, *port.free) for k in times.get(name, ()) if port.shape and k < len(port.shape)
            )
        ]
        if ports or not (self.states or any(times.values())):
            listed = "; ".join(map(str, ports or self.inputs))
            raise ValueError(
                f"{self.title}: the file fixes the number of steps of its inputs, {listed}, so it cannot be streamed; "
                "write it with a free length"
            )

    def free_lengths(self) -> dict[str, dict[int, str]]:
        """For each input of `forward`, the dimensions that may have any length, with the file's names."""
        named = zip(self.input_names, self.inputs, strict=True)
        return {
            name: {dim: length for dim, length in enumerate(port.shape or ()) if isinstance(length, str)}
            for name, port in named
        }

    def __repr__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        total = sum(parameter.size for parameter in self.parameters())
        yield f"{printable(self.title)}      {total:,} parameters"
        yield f"  inputs: {'; '.join(map(str, self.inputs))}"
        lines = program_lines(self.body, self._attributes, self._constants, self._shapes())
        yield from (f"  {line}" for line in lines)
        yield printable(f"  outputs: {', '.join(self.body.outputs)}")

    def _size(self) -> int:
        """The number of elements of the parameters, buffers and constants."""
        return sum(each.size for own in (self.parameters(), self.buffers(), self._constants.values()) for each in own)

    def _shapes(self) -> dict[int, tuple[str, ...]]:
        """The shapes of results, by the identities of steps, as far as the model runs with random inputs."""
        names = dict.fromkeys(length for lengths in self.free_lengths().values() for length in lengths.values())
        training = [module for module in self.modules() if module.training]
        self.eval()

        def run(lengths: Mapping[str, int]) -> object:
            size = sum(map(math.prod, self._example_shapes(lengths, 1).values()))
            return self(**self._examples(lengths, 1)) if size <= MOST_PRINTED else None

        try:
            return shapes_by_step(tuple(names), run, MOST_PRINTED + 2 * self._size())
        finally:
            for module in training:
                module.training = True


def _as_output(value: Any, device: Device) -> Any:
    """A value as an output: a Tensor, a tuple for a sequence, or None."""
    if value is None or isinstance(value, Tensor):
        return value
    if hasattr(value, "pairs"):  # a complex tensor
        return value.pairs()
    if isinstance(value, tuple):
        return tuple([_as_output(part, device) for part in value])
    return as_tensor(plain_array(value), device)


@functools.lru_cache(maxsize=64)
def _outputs_type(names: tuple[str, ...]) -> Callable[..., Any]:
    return namedtuple("Outputs", names)


def _set(model: Module, path: str, value: Module | Tensor) -> None:
    """Sets a dotted attribute; modules on the way are made."""
    *above, last = path.split(".")
    for name in above:
        if not isinstance(vars(model).get(name), Module):
            setattr(model, name, Module())
        model = vars(model)[name]
    if isinstance(value, Module | Parameter):
        setattr(model, last, value)
    else:
        model.register_buffer(last, value)
