"""Builds the module of a Keras model from its config and its arrays."""

from __future__ import annotations

from pathlib import Path

from ...errors import ContentError, naming_file, shown
from ...keras.config import is_custom, is_layer, layer_config
from ...keras.file import KerasFile, opened_keras
from ..loaded import Loaded
from . import core, recurrent  # noqa: F401  (they register their rules)
from .graph import graph_of
from .network import Network
from .rules import Slot, Spec, UnsupportedError, slots_of
from .weights import arrays_of

__all__ = ["model_of"]


def model_of(path: Path) -> Loaded:
    """The module of a Keras file.

    Raises:
        OSError, ValueError: as `load_model`.
    """
    with naming_file(path):
        try:
            return _built(opened_keras(path), path.name)
        except RecursionError as error:
            raise ContentError("the model's config is nested too deeply") from error


def _built(file: KerasFile, title: str) -> Loaded:
    if file.config is None:
        raise ContentError("has weights and no model; tg.io.load_weights reads them, or save the whole model")
    if not is_layer(file.config) or "layers" not in layer_config(file.config) or is_custom(file.config):
        name = shown(str(file.config.get("class_name"))) if isinstance(file.config, dict) else "unknown"
        raise ContentError(
            f"its model's class, {name}, is user-defined; build it from its layers, whose weights "
            "tg.io.load_weights reads"
        )
    keras = int(file.version[0]) if file.version[:1].isdigit() else 2
    model = Spec(file.config["class_name"], "", layer_config(file.config), "", keras)
    slots: dict[str, list[Slot]] = {}
    supported = True
    for name, spec in graph_of(model).layers.items():
        try:
            slots[name] = slots_of(spec)
        except UnsupportedError:  # building it raises it again, with the reasons of all layers
            supported = False
    arrays = arrays_of(file, slots) if supported else {}
    try:
        return Network(model, arrays).loaded(title).eval()
    except UnsupportedError as error:
        raise ContentError(f"it has layers that are not supported: {'; '.join(error.reasons)}") from error
