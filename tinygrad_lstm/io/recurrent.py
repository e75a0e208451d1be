"""Recurrent layers of other frameworks in this library's names, gate order and layout.

Each framework's arrays are first named by their roles, which are PyTorch's names: weight_ih (k·H, I), weight_hh (k·H,
P), bias_ih, bias_hh (k·H,), weight_hr (P, H), with k gates; if a layer has them, also peephole (3·H,), and for layer
normalization norm_ih, norm_hh, norm_ih_bias, norm_hh_bias (k·H,), norm_c, bias_c (H,). P is the size of a projection,
or H.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any, NamedTuple, TypeVar

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.backends.dtypes import DType, checked_dtype, is_float, promoted_dtype

from ..kinds import Kind, Weight
from ..printable import printable

__all__ = [
    "Faults",
    "Part",
    "Place",
    "Recurrent",
    "assembled",
    "each_made",
    "gates_reordered",
    "recurrent_bias",
    "stacked",
    "under",
]

S = TypeVar("S")

_TWO_BIASES = {"bias_ih", "bias_hh"}
_NORMS = {"norm_ih", "norm_hh", "norm_c"}
_NORM_BIASES = {"norm_ih_bias", "norm_hh_bias", "bias_c"}


class Part(NamedTuple):
    """An array, its name in its source, and whether it is transposed there."""

    name: str
    array: HostArray
    transposed: bool = False


Place = Mapping[str, Part]
"""The arrays of one layer in one direction, by their roles."""


@dataclass(frozen=True, eq=False)
class Recurrent:
    """A recurrent network that was found among arrays: the settings and parameters of its module.

    Attributes:
        kind: its name in `KINDS`.
        input_size, hidden_size, num_layers, bidirectional: its sizes.
        options: the settings that differ from the defaults: proj_size, peephole, layer_norm, reset_after, nonlinearity.
        parameters: by their names in the module, such as weight_ih_l0.
        names: the arrays' names in their source.
        batch_first: whether inputs are (B, T, I) in the source.
    """

    kind: str
    input_size: int
    hidden_size: int
    num_layers: int
    bidirectional: bool
    options: Mapping[str, Any]
    parameters: Mapping[str, HostArray]
    names: Sequence[str]
    batch_first: bool = False

    def __str__(self) -> str:
        settings = [f"{self.input_size}, {self.hidden_size}"]
        settings += [f"num_layers={self.num_layers}"] * (self.num_layers > 1)
        settings += ["bidirectional=True"] * self.bidirectional
        settings += [f"{name}={value!r}" for name, value in self.options.items()]
        return f"{self.kind}({', '.join(settings)})"

    @property
    def output_size(self) -> int:
        """The size of an output, which is the input size of a layer above."""
        return (2 if self.bidirectional else 1) * (self.options.get("proj_size") or self.hidden_size)


@dataclass
class Faults:
    """Everything that is wrong with the arrays of a network, for one error."""

    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.misshapen)

    def __str__(self) -> str:
        listed = {"missing": self.missing, "extra": self.extra, "misshapen": self.misshapen}
        return "; ".join(f"{fault}: {printable(', '.join(names))}" for fault, names in listed.items() if names)


def under(prefix: str, names: Sequence[str], separator: str = ".") -> Iterator[str]:
    """The names under a prefix, found in sorted names by bisection."""
    start = prefix and f"{prefix}{separator}"
    first = bisect_left(names, start)
    return takewhile(lambda name: name.startswith(start), (names[at] for at in range(first, len(names))))


def gates_reordered(kind: Kind, role: str, array: HostArray, before: str, after: str) -> HostArray:
    """The array of a role with the rows of its gates, if it has any, reordered from `before` to `after`."""
    weight = next((weight for weight in kind.weights if weight.name == role), None)
    if weight is not None and "kH" not in weight.shape:
        return array
    own = (weight and weight.gates) or kind.letters  # roles without a parameter here are biases of all gates
    letters = [gate for gate in before if gate in own]
    by_gate = array.reshape(len(letters), -1, *array.shape[1:])
    return by_gate[[letters.index(gate) for gate in after if gate in own]].reshape(array.shape)


def assembled(
    kind: Kind,
    places: Mapping[str, Place],
    faults: Faults,
    *,
    gates: str | None = None,
    dtype: DType = None,
    name: Callable[[str, str], str] = lambda role, place: role,
    options: Mapping[str, Any],
) -> Recurrent | None:
    """A network from arrays at its places "l0", "l0_reverse", "l1", ...; None, with faults added, if they are invalid.

    Args:
        kind: the kind of the network.
        places: roles and arrays at each place.
        faults: errors are added to these.
        gates: the order of the gates' rows, if it differs from this library's.
        dtype: the network's dtype, if it differs from the arrays'. Parameters have the more exact dtype; loading them
            casts them and finds values that are too large.
        name: returns the name of a missing array, from its role and place.
        options: settings that arrays do not show: reset_after, nonlinearity, layer_norm.
    """
    order = kind.order(gates or kind.letters)
    given = set[str]().union(*places.values())
    known = _known_roles(kind, given, options)
    faults.extra += [part.name for parts in places.values() for role, part in parts.items() if role not in known]
    roles = _roles(given & known)
    faults.missing += [name(role, place) for place, parts in places.items() for role in roles if role not in parts]
    first = places["l0"]
    sizes = _sizes(kind, first)
    if sizes is None:
        rows = f"{len(kind.gates)}·H".removeprefix("1·")
        expected = {"weight_ih": (rows, "I"), "weight_hh": (rows, "H")}
        faults.misshapen += [_shape_error(first[role], *shape) for role, shape in expected.items() if role in first]
        return None
    I, H, P = sizes
    directions = 2 if any(place.endswith("_reverse") for place in places) else 1
    for place, parts in places.items():
        columns = I if place.startswith("l0") else directions * P
        shapes = _shapes(kind, columns, H, P)
        for role, part in parts.items():
            if role in known and (part.array.shape != shapes[role] or not is_float(part.array.dtype)):
                faults.misshapen.append(_shape_error(part, *shapes[role]))
    if faults:
        return None
    dtypes = [part.array.dtype for parts in places.values() for part in parts.values()]
    common = promoted_dtype(dtypes if dtype is None else [*dtypes, checked_dtype(dtype)])
    found: dict[str, Any] = {}
    found |= {"proj_size": P} if "weight_hr" in roles else {}
    found |= {"peephole": True} if "peephole" in roles else {}
    return Recurrent(
        kind.name,
        I,
        H,
        len(places) // directions,
        directions == 2,
        {**found, **options},
        {
            f"{role}_{place}": array
            for place, parts in places.items()
            for role, array in _own(
                kind, {r: part.array.astype(common) for r, part in parts.items()}, order, H, options
            )
        },
        [part.name for parts in places.values() for part in parts.values()],
    )


def each_made(sources: Iterable[S], make: Callable[[S], Recurrent]) -> list[Recurrent]:
    """A network from each source.

    Raises:
        ValueError: some sources are invalid; one error has all reasons.
    """
    networks, errors = [], []
    for source in sources:
        try:
            networks.append(make(source))
        except ValueError as error:
            errors.append(str(error))
    if errors:
        raise ValueError("; ".join(dict.fromkeys(errors)))
    return networks


def stacked(networks: Sequence[Recurrent]) -> Recurrent:
    """A stack of networks, as one network of several layers.

    Raises:
        ValueError: they differ in more than their input sizes, or an output size is not the next input size.
    """
    first = networks[0]
    layers = 0
    parameters: dict[str, HostArray] = {}
    for below, network in zip([None, *networks], networks, strict=False):
        alike = (network.hidden_size, network.bidirectional, network.options, network.kind)
        if alike != (first.hidden_size, first.bidirectional, first.options, first.kind):
            raise ValueError(
                f"{first} and {network} cannot be layers of one network: they differ in more than their input"
            )
        if below is not None and network.input_size != below.output_size:
            raise ValueError(f"{network} cannot be stacked on {below}, whose outputs have size {below.output_size}")
        for name, array in network.parameters.items():
            role, _, place = name.rpartition("_l")
            number, _, direction = place.partition("_")
            parameters[f"{role}_l{layers + int(number)}{direction and '_' + direction}"] = array
        layers += network.num_layers
    names = [name for network in networks for name in network.names]
    return replace(first, num_layers=layers, parameters=parameters, names=names)


def _known_roles(kind: Kind, given: Iterable[str], options: Mapping[str, Any]) -> set[str]:
    """The roles that a network of a kind may have, if these are given."""
    weights = [weight for weight in kind.weights if options.get(weight.option, True)]
    known = {weight.name for weight in weights} | _TWO_BIASES
    if "norm_ih" in known:
        known |= _NORM_BIASES
    if _TWO_BIASES.intersection(given):  # or they would be added twice
        known -= {"bias", *(weight.name for weight in weights if weight.part_of)}
    return known


def _roles(given: set[str]) -> list[str]:
    """The roles that each place must have: those of any place, and those that come with them."""
    roles = {"weight_ih", "weight_hh"} | given
    if roles & _TWO_BIASES:
        roles |= _TWO_BIASES
    if roles & (_NORMS | _NORM_BIASES):
        roles |= _NORMS
    return sorted(roles)


def _sizes(kind: Kind, parts: Place) -> tuple[int, int, int] | None:
    """I, H and P, from the arrays of the first layer; None if these are not weights of this kind."""
    if not {"weight_ih", "weight_hh"} <= parts.keys():
        return None
    of_x, of_h = parts["weight_ih"].array, parts["weight_hh"].array
    number = len(kind.gates)
    if of_x.ndim != 2 or of_h.ndim != 2 or not of_x.size or not of_h.size or len(of_h) % number:
        return None
    H, P = len(of_h) // number, of_h.shape[1]
    if "weight_hr" not in parts and P != H:
        return None
    return of_x.shape[1], H, P


def _shapes(kind: Kind, I: int, H: int, P: int) -> dict[str, tuple[int, ...]]:
    shapes = {weight.name: kind.shape(weight, I, H, P) for weight in kind.weights}
    return {**dict.fromkeys((*_TWO_BIASES, "norm_ih_bias", "norm_hh_bias"), shapes["bias"]), **shapes}


def _own(
    kind: Kind, arrays: Mapping[str, HostArray], order: str, H: int, options: Mapping[str, Any]
) -> Iterator[tuple[str, HostArray]]:
    """The parameters of one place under this library's names and gate order, without the place."""
    own = {role: gates_reordered(kind, role, array, order, kind.letters) for role, array in arrays.items()}
    dtype = own["weight_ih"].dtype
    yield "weight_ih", own["weight_ih"]
    yield "weight_hh", own["weight_hh"]
    for weight in kind.weights_with(options):
        if weight.part_of:
            part = own.get(weight.name, np.zeros(kind.shape(weight, 0, H, H), dtype))
            if weight.part_of in own:  # these rows are not added to the other bias
                rows = _rows(kind, weight, H)
                own[weight.part_of] = own[weight.part_of].copy()
                part, own[weight.part_of][rows] = own[weight.part_of][rows], 0
            yield weight.name, part
    biases = [own[role] for role in ("bias_ih", "bias_hh", "bias", "norm_ih_bias", "norm_hh_bias") if role in own]
    with np.errstate(all="ignore"):  # a file may contain infinities
        bias: HostArray = sum(biases, np.zeros(len(order) * H, dtype))
    yield "bias", bias
    if "norm_ih" in own:
        own.setdefault("bias_c", np.zeros(H, dtype))
    for weight in kind.weights:
        if weight.option and not weight.part_of and weight.name in own:
            yield weight.name, own[weight.name]


def recurrent_bias(kind: Kind, parameters: Mapping[str, HostArray]) -> HostArray:
    """The bias_hh that goes with a bias_ih equal to `bias`: 0 except for separate parameters, such as bias_hn."""
    bias = np.zeros_like(parameters["bias"])
    for weight in kind.weights:
        if weight.part_of and weight.name in parameters:
            bias[_rows(kind, weight, len(bias) // len(kind.gates))] = parameters[weight.name]
    return bias


def _rows(kind: Kind, weight: Weight, H: int) -> HostArray:
    """The row numbers of a parameter's gates among all gates' rows."""
    return np.concatenate([np.r_[kind.rows(gate, H)] for gate in weight.gates])


def _shape_error(part: Part, *expected: int | str) -> str:
    """An array's actual and expected shape, in its source's layout."""
    shape = part.array.shape
    if part.transposed:
        shape, expected = shape[::-1], expected[::-1]
    given, floats = ("", "") if is_float(part.array.dtype) else (f"{part.array.dtype} ", "floats ")
    return (
        f"{part.name} ({given}{shape}, expected {floats}({', '.join(map(str, expected))}{',' * (len(expected) == 1)}))"
    )
