"""A layer as the config of a Keras model describes it, and which layers are the same."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import ContentError, shown
from ...keras.config import is_custom, is_layer, layer_config, snake_case

__all__ = ["Sharing", "Slot", "Spec", "sharing_of"]

_DEEPEST = 40
"""How many models and wrappers may be within each other."""


@dataclass(frozen=True)
class Spec:
    """A layer as the config describes it.

    Attributes:
        class_name: Keras's name of its class.
        module: the Python module of the class; empty if the config does not have it.
        config: its settings.
        path: the path of its variables in files of Keras 3, such as "layers/lstm_1".
        keras: the major version of Keras that wrote it.
        operation: whether it is known to be a function, though its module does not say it.
        custom: whether the class is user-defined, though it may have the name of one of Keras's.
        trainable: whether it and all layers around it are trainable.
        depth: the number of layers around it.
        shared: which layers of the model are the same.
    """

    class_name: str
    module: str
    config: Mapping[str, Any]
    path: str
    keras: int
    operation: bool = False
    custom: bool = False
    trainable: bool = True
    depth: int = 0
    shared: Sharing = field(default_factory=lambda: Sharing({}))

    @property
    def name(self) -> str:
        """The layer's name."""
        return str(self.config.get("name", ""))

    @property
    def is_operation(self) -> bool:
        """Whether it is a function of Keras 3 or 2 that a functional model calls, not a layer."""
        return (
            self.operation
            or ".ops." in self.module
            or self.class_name in ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer")
        )

    def within(self, config: Any, path: str) -> Spec:
        """A layer within this one, given what the config has for it.

        Raises:
            ContentError: it is not a layer, or layers are nested too deeply.
        """
        if not is_layer(config):
            raise ContentError(f"the layer {shown(self.name)} contains something that is not a layer")
        if self.depth >= _DEEPEST:
            raise ContentError(f"its layers are nested more than {_DEEPEST} deep")
        settings = layer_config(config)
        own = f"{self.path}/{path}".removeprefix("/")
        return Spec(
            config["class_name"],
            str(config.get("module") or ""),
            settings,
            self.shared.paths.get(own, own),
            self.keras,
            False,
            is_custom(config),
            self.trainable and settings.get("trainable") is not False,
            self.depth + 1,
            self.shared,
        )

    def within_list(self, key: str) -> list[Spec]:
        """The layers in a list that is one of the settings, with the paths of Keras 3: "cells/lstm_cell_1"."""
        given = self.config.get(key)
        if not isinstance(given, list) or not given:
            raise ContentError(f"the layer {shown(self.name)} has no {key}")
        used: Counter[str] = Counter()
        found = []
        for each in given:
            stem = snake_case(str(each.get("class_name"))) if isinstance(each, dict) else ""
            found.append(self.within(each, f"{key}/{stem}_{used[stem]}" if used[stem] else f"{key}/{stem}"))
            used[stem] += not found[-1].is_operation
        return found


@dataclass(frozen=True)
class Slot:
    """An array that a layer needs.

    Attributes:
        path: its path in a file of Keras 3, such as "layers/lstm_1/cell/vars/0".
        role: its name in Keras, such as "kernel"; of several versions, separated by "|".
        trainable: whether it is among the layer's trainable weights, which older files list first.
    """

    path: str
    role: str
    trainable: bool

    @property
    def roles(self) -> list[str]:
        """The names that it has in versions of Keras."""
        return self.role.split("|")


class Sharing:
    """Layers that are in several places of a model, such as in two models within it. Each is built once.

    Args:
        paths: the path of the first place by that of each further place.
    """

    def __init__(self, paths: Mapping[str, str]) -> None:
        self.paths = paths
        self._first = set(paths.values())
        self._built: dict[str, Any] = {}

    def get(self, path: str) -> Any:
        """What was built of a shared layer; None if nothing was, or the layer is not shared."""
        return self._built.get(path)

    def keep(self, path: str, built: Any) -> None:
        """Keeps what was built of a layer if it is shared."""
        if path in self._first:
            self._built[path] = built


_SHARED = "shared_object_id"
_WITHIN = ("layers", "layer", "forward_layer", "backward_layer", "cell", "cells")
"""The settings of models and wrappers that are layers."""


def sharing_of(model: Spec) -> Sharing:
    """The layers of a model that are the same.

    A file marks the further places of a layer with a number, but not always the first one. That is then the one place
    before it with the same class, name and settings. If there are several, the layer counts as a separate one.
    """
    unmarked: defaultdict[bytes, list[str]] = defaultdict(list)
    first: dict[tuple[bytes, Any], str] = {}
    further: dict[str, str] = {}
    if _SHARED not in str(model.config):
        return Sharing(further)
    for spec, mark in _places(model):
        settings = json.dumps([spec.class_name, _unmarked(spec.config)], sort_keys=True, default=str)
        key = hashlib.sha256(settings.encode()).digest()
        if mark is None:
            unmarked[key].append(spec.path)
            continue
        before = [first[key, mark]] if (key, mark) in first else unmarked[key]
        first[key, mark] = before[0] if len(before) == 1 else spec.path
        if first[key, mark] != spec.path:
            further[spec.path] = first[key, mark]
    return Sharing(further)


def _places(spec: Spec) -> Iterator[tuple[Spec, int | None]]:
    """The layers within a layer, in the order in which their arrays are written, and the number that marks each."""
    for key in _WITHIN:
        value = spec.config.get(key)
        if isinstance(value, list) and value:
            found = list(zip(spec.within_list(key), value, strict=True))
        elif is_layer(value) and not (spec.class_name == "Bidirectional" and spec.keras > 2):  # which copies its layer
            found = [(spec.within(value, key), value)]
        else:
            continue
        for each, config in found:
            if not each.is_operation:
                mark = config.get(_SHARED)
                yield each, mark if isinstance(mark, int) else None
                yield from _places(each)


def _unmarked(value: Any) -> Any:
    """A value of a config without marks of shared objects."""
    if isinstance(value, dict):
        return {key: _unmarked(each) for key, each in value.items() if key != _SHARED}
    return [_unmarked(each) for each in value] if isinstance(value, list) else value
