"""The recurrent layers of a Keras file: found by the paths of arrays, described by the model's config."""

import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from tinygrad_lstm.backends.base import HostArray

from ...kinds import KINDS, kind_with_gates
from ..contents import FileLayer
from ..errors import shown
from ..file_layers import ALIKE, has_two_biases
from ..recurrent import under
from .config import Described, Settings, snake_case
from .hdf5 import Hdf5Contents

__all__ = ["GENERATORS", "OPTIMIZERS", "counted_once", "listed_names", "recurrent_layers"]

# The groups of optimizers, some of whose arrays have the names of layers.
OPTIMIZERS = ("optimizer", "optimizer_weights")

# Keras before this version had a different default for the activation of gates.
SIGMOID_SINCE = (2, 3)

ROLES = ("kernel", "recurrent_kernel", "bias")

WORD = re.compile(r"\w+")
DIRECTION = re.compile(r"(forward|backward)_")

# What a cell with dropout keeps in addition to its arrays.
GENERATORS = re.compile(r"(.*/)?(seed_generator|_random_generator)/.*", re.DOTALL)

# How many of a layer's foreign arrays are named, limited since groups may be nested.
MOST_NAMED = 4

# In the archives of TensorFlow 2.12 to 2.14, layers with weights are counted twice.
COUNTED_TWICE = re.compile(r"_layer_checkpoint_dependencies/([^/]+?)(?:_(\d{1,9}))?(?=/|$)")

Find = Callable[[str], Described | None]


@dataclass(frozen=True)
class Cell:
    """The arrays of a recurrent layer or, if it has two directions, of one direction.

    Attributes:
        path: the path of the layer or direction.
        roles: the names of the arrays, by role.
        described: the config's description of the layer, if there is one.
        extra: the first names of further arrays, which the layers here do not have.
    """

    path: str
    roles: Mapping[str, str]
    described: Described | None
    extra: Sequence[str] = ()

    @property
    def is_one_of_two(self) -> bool:
        """Whether the layer has two directions."""
        if self.described:
            return self.described.settings.bidirectional
        return DIRECTION.match(posixpath.basename(self.path)) is not None

    @property
    def layer(self) -> str:
        """The path that the directions of a layer share."""
        if self.described and self.is_one_of_two:
            return self.described.path
        return posixpath.dirname(self.path) if self.is_one_of_two else self.path


def recurrent_layers(file: Hdf5Contents, described: Sequence[Described]) -> dict[str, FileLayer]:
    """The recurrent layers of a file by their paths, in the order of the model if the file has it.

    Args:
        file: a file with the layout of Keras 3, in which "layers/lstm/cell/vars/0" to 2 are kernel, recurrent kernel
            and bias, or the older one, in which "lstm/lstm/lstm_cell/kernel:0" is a kernel and strings list the
            outermost groups.
        described: the layers of the model's config; empty for a file with only weights.
    """
    root = "model_weights" if "model_weights" in file.strings else ""
    listed = listed_names(file.strings[root], "layer_names")
    find = _finder_by_name(described, root) if listed else _finder_by_path(described)
    arrays = {name: file.arrays[name] for name in _of_layers(file.arrays, listed, root)}
    layers = _in_order(list(_together(_cells(arrays, find))), listed, root, described)
    version = "".join(file.strings[root].get("keras_version", ()))
    outermost = Counter(_outermost(cells[0].path, root) for cells in layers)
    found = {}
    for cells in layers:
        path = cells[0].path if len(cells) == 1 else posixpath.commonpath([cell.path for cell in cells])
        if listed and outermost[_outermost(path, root)] == 1:
            path = posixpath.join(root, _outermost(path, root))
        names = file.strings.get(f"{path}/vars", {}).get("name", [posixpath.basename(path) if listed else ""])
        layer = _file_layer(cells, arrays, names[0] if names else "", version)
        if layer is not None:
            found[path] = layer
    return found


def listed_names(strings: Mapping[str, Sequence[str]], attribute: str) -> list[str]:
    """The names in an attribute of the older layout, which Keras writes as several if one would be too long.

    "layer_names" are the outermost groups, and "weight_names" the arrays of one of them.
    """
    if attribute in strings:
        return list(strings[attribute])
    parts = (strings.get(f"{attribute}{number}") for number in range(len(strings)))
    return [name for part in parts if part for name in part]


def _of_layers(names: Iterable[str], listed: Sequence[str], root: str) -> Iterator[str]:
    """Yields the names of arrays that belong to layers, not to an optimizer."""
    groups = {posixpath.join(root, name) for name in listed}
    depths = sorted({group.count("/") + 1 for group in groups})
    for name in names:
        if listed:
            parts = name.split("/")
            if any("/".join(parts[:depth]) in groups for depth in depths if depth < len(parts)):
                yield name
        elif _outermost(name, root) not in OPTIMIZERS:
            yield name


def counted_once(path: str) -> str:
    """A path of a `.keras` archive as later versions of Keras write it."""
    return COUNTED_TWICE.sub(lambda part: f"layers/{part[1]}" + (f"_{int(part[2]) // 2}" if part[2] else ""), path)


def _finder_by_path(described: Sequence[Described]) -> Find:
    """Returns a function that finds the layer of a group of arrays by the path that the config implies."""
    by_path = {layer.path: layer for layer in described}

    def find(group: str) -> Described | None:
        group = counted_once(group)
        above = posixpath.dirname(group)
        found = by_path.get(group) or by_path.get(above)
        around = by_path.get(posixpath.dirname(above))
        return found or (around if around and around.settings.bidirectional else None)

    return find


def _finder_by_name(described: Sequence[Described], root: str) -> Find:
    """Returns a function that finds it by the names of the outermost group (a layer or model) and of inner groups."""
    by_name = {(layer.outermost, layer.name): layer for layer in reversed(described)}

    def find(group: str) -> Described | None:
        parts = group.removeprefix(f"{root}/").split("/")
        return next((by_name[parts[0], part] for part in reversed(parts) if (parts[0], part) in by_name), None)

    return find


def _cells(arrays: Mapping[str, HostArray], find: Find) -> Iterator[Cell]:
    """The groups with a recurrent layer's arrays: matrices with the names of kernels."""
    members: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for name in arrays:
        group, _, last = name.replace("\\", "/").rpartition("/")  # TensorFlow on Windows joined paths by a backslash
        members[group][last.removesuffix(":0")] = name
    groups: dict[str, dict[str, str]] = {}
    for group, names in members.items():
        numbered = _is_numbered_cell(group)
        keys = map(str, range(len(ROLES))) if numbered else ROLES
        roles = {role: names[key] for role, key in zip(ROLES, keys) if key in names}
        if all(role in roles and arrays[roles[role]].ndim == 2 for role in ROLES[:2]):
            groups[group.removesuffix("/vars") if numbered else group] = roles
    siblings = Counter(map(posixpath.dirname, groups))
    cells = [snake_case(cell) for _, cell in (kind.keras_classes for kind in KINDS.values())]
    called_cell = re.compile(rf"cell|({'|'.join(cells)})(_\d+)?")
    in_order = sorted(name for name in arrays if not GENERATORS.fullmatch(name))
    for group, roles in groups.items():
        above, last = posixpath.split(group)
        is_only_cell = above and not above.endswith("cells") and siblings[above] == 1
        path = above if is_only_cell and called_cell.fullmatch(last) else group
        within = under(group, in_order, "/") if group else [name for name in in_order if "/" not in name]
        extra = list(islice((name for name in within if name not in roles.values()), MOST_NAMED))
        yield Cell(path, roles, find(group), extra)


def _is_numbered_cell(group: str) -> bool:
    """Whether a group has a cell's arrays by number: "lstm/cell/vars", "rnn/cell/cells/high/vars"."""
    cell, last = posixpath.split(group)
    above, name = posixpath.split(cell)
    named = "cell" in name and WORD.fullmatch(name) is not None
    return last == "vars" and (named or posixpath.basename(above) == "cells")


def _together(cells: Iterator[Cell]) -> Iterator[list[Cell]]:
    """The directions of each layer, forward first."""
    layers: defaultdict[tuple[str, bool], list[Cell]] = defaultdict(list)
    for cell in cells:
        layers[cell.layer, cell.is_one_of_two].append(cell)
    for parts in layers.values():
        if len(parts) == 2 and parts[0].is_one_of_two:
            yield sorted(parts, key=lambda cell: not posixpath.basename(cell.path).startswith("forward"))
        else:
            yield from ([cell] for cell in parts)


def _in_order(
    layers: list[list[Cell]], listed: Sequence[str], root: str, described: Sequence[Described]
) -> list[list[Cell]]:
    """Layers in the order of the file's list, then of the config, then of the numbers in their paths."""
    in_list = {name: place for place, name in enumerate(listed)}
    in_config = {layer.path: place for place, layer in enumerate(described)}

    def place(cells: list[Cell]) -> tuple[int, int, list[tuple[int, str]]]:
        first = cells[0]
        numbers = [(len(part), part) if part.isdigit() else (0, part) for part in re.split(r"(\d+)", first.path)]
        of_config = in_config[first.described.path] if first.described else len(described)
        return in_list.get(_outermost(first.path, root), len(listed)), of_config, numbers

    return sorted(layers, key=place)


def _outermost(path: str, root: str) -> str:
    return path.removeprefix(f"{root}/").split("/", 1)[0]


def _file_layer(cells: Sequence[Cell], arrays: Mapping[str, HostArray], name: str, version: str) -> FileLayer | None:
    """A layer as described by the config or, without one, by its arrays; None if it is not a recurrent layer."""
    first = cells[0]
    described = first.described
    settings = described.settings if described else Settings(bidirectional=len(cells) == 2)
    kind = settings.kind or _kind(arrays[first.roles["kernel"]].shape, arrays[first.roles["recurrent_kernel"]].shape)
    if kind is None:
        return None
    has_variants = "reset_after" in KINDS[kind].options
    reset_after, undecided = settings.reset_after, _undecided(first, kind, version)
    if reset_after is None and "bias" in first.roles:
        own = (arrays[first.roles[role]] for role in ("recurrent_kernel", "bias"))
        reset_after = not has_variants or has_two_biases(*own)
    elif reset_after is None:
        reset_after = not has_variants or "reset_after" in undecided
    roles = [_roles(cell, settings) for cell in cells]
    if settings.bidirectional and len(cells) == 1:  # the arrays of the other direction are missing
        roles.insert(0 if posixpath.basename(first.path).startswith("backward") else 1, {})
    return FileLayer(
        kind,
        "keras",
        roles,
        reverse=settings.reverse,
        bidirectional=settings.bidirectional,
        reset_after=reset_after,
        nonlinearity=settings.nonlinearity,
        activations=settings.activations,
        batch_first=settings.batch_first,
        unsupported=(*settings.unsupported, *(reason for cell in cells for reason in _beside(cell, settings, arrays))),
        undecided=undecided,
        name=described.name if described else name,
    )


def _roles(cell: Cell, settings: Settings) -> Mapping[str, str]:
    """The names of a cell's arrays by role, including a missing bias that the config has."""
    missing = settings.use_bias and "bias" not in cell.roles
    return {**cell.roles, "bias": f"{cell.path}/bias"} if missing else cell.roles


def _beside(cell: Cell, settings: Settings, arrays: Mapping[str, HostArray]) -> Iterator[str]:
    """In words, what a cell has in addition to its config."""
    for name in cell.extra:
        yield f"the array {shown(name)}"
    if settings.use_bias is False and "bias" in cell.roles:
        yield f"the array {shown(cell.roles['bias'])}, though its config says that it has no bias"
    units = len(arrays[cell.roles["recurrent_kernel"]])
    if settings.units not in (None, units):
        yield f"arrays of {units} units, though its config says {settings.units}"


def _undecided(cell: Cell, kind: str, version: str) -> dict[str, str]:
    """The settings that neither a config nor the arrays contain, and that differ between versions of Keras."""
    if cell.described or not KINDS[kind].shares:
        return {}
    undecided = {}
    if "reset_after" in KINDS[kind].options and "bias" not in cell.roles:
        undecided["reset_after"] = ALIKE
    numbers = re.match(r"(\d{1,9})\.(\d{1,9})", version)
    before = numbers is None or (int(numbers[1]), int(numbers[2])) < SIGMOID_SINCE
    if before and not posixpath.basename(cell.roles["kernel"]).isdigit():  # since Keras 2.12 names are numbers
        of = f"of Keras {shown(version)}" if version else "of an unknown version of Keras"
        undecided["recurrent_activation"] = (
            f"weights only, {of}, do not tell whether its recurrent activation is hard_sigmoid, the default before"
            " 2.3, or sigmoid: give recurrent_activation='sigmoid' or 'hard_sigmoid'"
        )
    return undecided


def _kind(kernel: tuple[int, ...], recurrent: tuple[int, ...]) -> str | None:
    """The kind of a layer with kernels (I, k·H) and (H, k·H), for k gates."""
    H, columns = recurrent
    if kernel[1] != columns or not H or columns % H:
        return None
    return kind_with_gates(columns // H)
