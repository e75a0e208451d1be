"""Builds the module of a Keras model from its config and its arrays."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tinygrad_lstm.backends.base import HostArray

from ....printable import printable
from ...errors import ContentError, naming_file, shown
from ...keras.config import is_custom, is_layer, layer_config, major_version
from ...keras.file import opened_keras
from ..loaded import Loaded
from . import (  # noqa: F401  (rules)
    attention,
    bidirectional,
    conv_lstm,
    convolution,
    core,
    lambdas,
    normalization,
    operation_layers,
    pooling,
    recurrent,
    shaping,
    time_distributed,
)
from .graph import graph_of
from .network import Network
from .rules import UnsupportedError, slots_of
from .spec import Slot, Spec, sharing_of
from .weights import arrays_of

__all__ = ["built", "model_of"]


def model_of(path: Path, states: Mapping[str, str] | None = None) -> Loaded:
    """The module of a Keras file.

    Raises:
        OSError, ValueError: as `load_model`.
    """
    with naming_file(path):
        try:
            file = opened_keras(path)
            return built(file.config, file.version, path.name, lambda model, slots: arrays_of(file, slots), states)
        except RecursionError as error:
            raise ContentError("the model's config is nested too deeply") from error


def built(
    config: Any,
    version: str,
    title: str,
    arrays_of: Callable[[Spec, Mapping[str, list[Slot]]], Mapping[str, HostArray]],
    states: Mapping[str, str] | None = None,
) -> Loaded:
    """The module of a Keras model.

    Args:
        config: the model's config; None if there is none.
        version: the version of Keras that wrote it, if it is known.
        title: the file's name.
        arrays_of: returns the arrays by the paths of slots, given the model and the slots of its outermost layers.
        states: the inputs that are states, each with the output that is the state afterwards. Layers of Keras do not
            say it in their names.

    Raises:
        ContentError: the config is missing or has layers that are not supported, or what `arrays_of` raises.
        RecursionError: the config is nested too deeply.
    """
    if config is None:
        raise ContentError("has weights and no model; tg.io.load_weights reads them, or save the whole model")
    if not is_layer(config) or "layers" not in layer_config(config) or is_custom(config):
        name = shown(str(config.get("class_name"))) if isinstance(config, dict) else "unknown"
        raise ContentError(
            f"its model's class, {name}, is user-defined; build it from its layers, whose weights "
            "tg.io.load_weights reads"
        )
    model = Spec(config["class_name"], "", layer_config(config), "", major_version(version))
    model = replace(model, shared=sharing_of(model))
    slots: dict[str, list[Slot]] = {}
    supported = True
    for name, spec in graph_of(model).layers.items():
        try:
            slots[name] = slots_of(spec)
        except UnsupportedError:  # building it raises it again, with the reasons of all layers
            supported = False
    arrays = arrays_of(model, slots) if supported else {}
    try:
        loaded = Network(model, arrays).loaded(title, states).eval()
    except UnsupportedError as error:
        raise ContentError(f"it has layers that are not supported: {'; '.join(error.reasons)}") from error
    if stateful := ", ".join(_stateful(config)):
        warnings.warn(
            f"{printable(title)}: layers that are stateful in Keras start from zeros at each call here; model.stream() "
            f"keeps their states: {stateful}",
            stacklevel=4,  # the caller of load_model
        )
    return loaded


def _stateful(config: Any) -> Iterator[str]:
    """The names of the layers that keep their states from one call to the next, at any depth of a config."""
    waiting = [config]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            if each.get("stateful") is True:
                yield shown(str(each.get("name")))
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
