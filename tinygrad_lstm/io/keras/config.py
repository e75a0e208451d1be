"""The recurrent layers in the config of a Keras model, which is JSON in its files."""

import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

from ...kinds import KINDS, Activation, Kind
from ..errors import ContentError, shown

__all__ = [
    "OF_ANY_LAYER",
    "Described",
    "Settings",
    "activation_name",
    "activation_of",
    "described_layers",
    "is_custom",
    "is_layer",
    "layer_config",
    "major_version",
    "one_direction",
    "shown_setting",
    "snake_case",
]

# The settings of Keras's layers that are read, and those that do not affect what a trained layer computes: how it was
# made and trained, how it runs, and which outputs it returns. All other settings are refused by name.
READ_OF_CELL = {"units", "use_bias", "activation"}
READ_OF_RUNNER = {"go_backwards", "time_major", "cell"}
READ_OF_BIDIRECTIONAL = {"layer", "backward_layer", "merge_mode"}
OF_ANY_LAYER = {
    *("name", "trainable", "dtype", "dynamic", "batch_input_shape", "batch_shape", "input_shape"),
    *("input_dim", "input_length"),
}
OF_CELL = OF_ANY_LAYER | {
    *("unit_forget_bias", "dropout", "recurrent_dropout", "seed", "implementation", "use_cudnn"),
    *("kernel_initializer", "recurrent_initializer", "bias_initializer"),
    *("kernel_regularizer", "recurrent_regularizer", "bias_regularizer", "activity_regularizer"),
    *("kernel_constraint", "recurrent_constraint", "bias_constraint"),
}
OF_RUNNER = OF_ANY_LAYER | {
    *("return_sequences", "return_state", "stateful", "unroll", "zero_output_for_mask", "implementation"),
}

MOST_NAMED = 4  # the most settings in one message

# Settings that matter only if they are given, and their values if they are not.
OPTIONAL, OFF = ("num_constants", "quantization_config"), (None, 0)

# The activation functions of Keras, under the names of ours.
ACTIVATIONS: dict[str, Activation] = {
    "linear": "identity",
    "leaky_relu": ("leaky_relu", 0.2),
    "swish": "silu",
    "hard_swish": "hard_silu",
    "exponential": "exp",
    **{
        name: name
        for name in (
            *("relu", "relu6", "elu", "celu", "selu", "sigmoid", "hard_sigmoid", "tanh", "hard_tanh", "softmax"),
            *("log_softmax", "softplus", "softsign", "gelu", "silu", "hard_silu", "mish", "log_sigmoid"),
            *("soft_shrink", "hard_shrink", "tanh_shrink", "squareplus", "sparse_sigmoid", "sparse_plus"),
        )
    },
}
ACTIVATIONS_IN_2: dict[str, Activation] = {**ACTIVATIONS, "hard_sigmoid": ("hard_sigmoid", 0.2, 0.5)}

OWN_MODULE = re.compile(r"(tf_)?keras(_core)?(\..*)?|tensorflow(\..*)?")

# Paths of a model are shorter than this. Their length is limited, since each of many layers has one.
LONGEST_PATH = 1000

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Settings:
    """What a layer computes, in the terms of `FileLayer`.

    Attributes:
        kind: None if its class is unknown.
        reset_after, use_bias, units: None if the config does not say.
    """

    kind: str | None = None
    reverse: bool = False
    bidirectional: bool = False
    reset_after: bool | None = None
    use_bias: bool | None = None
    units: int | None = None
    nonlinearity: Literal["tanh", "relu"] = "tanh"
    activations: tuple[Activation, ...] = ()
    batch_first: bool = True
    unsupported: tuple[str, ...] = ()


@dataclass(frozen=True)
class Described:
    """A layer of a model.

    Attributes:
        path: the path of its variables in Keras 3, "layers/lstm_1".
        name: the layer's name.
        outermost: the name of the outermost layer that contains it, or its own.
    """

    path: str
    name: str
    outermost: str
    settings: Settings


def described_layers(model: Any, keras: int = 3) -> list[Described]:
    """The layers in a model's config, in its order; empty if it has none, as for a user-defined class.

    Args:
        keras: the major version of Keras that wrote it.

    Raises:
        ContentError: the layers are nested more deeply than those of a model can be.
    """
    return list(_layers_within(model, "", "", None, keras)) if is_layer(model) else []


def major_version(version: str) -> int:
    """The major version of Keras, 2 or 3; without one, 2, of which files do not always say it."""
    return 3 if version[:1].isdigit() and int(version[0]) > 2 else 2


def is_layer(value: Any) -> bool:
    """Whether a value of a config describes a layer."""
    return isinstance(value, dict) and isinstance(value.get("class_name"), str) and "config" in value


def layer_config(layer: Config) -> Config:
    """The settings of a layer; empty if there are none."""
    config = layer["config"]
    if isinstance(config, list):  # a Sequential of the first versions of Keras 2
        return {"layers": config}
    return config if isinstance(config, dict) else {}


def _layers_within(layer: Config, path: str, outermost: str, runner: Config | None, keras: int) -> Iterator[Described]:
    """The layers that are values of a layer's config, or in lists there, and the layers within them.

    `runner` is the config of the RNN layer that runs its cells through time.
    """
    for key, value in layer_config(layer).items():
        used: Counter[str] = Counter()
        for child in value if isinstance(value, list) else [value]:
            if not is_layer(child):
                continue
            part = f"{path}/{key}".removeprefix("/")
            if isinstance(value, list):
                stem = snake_case(child["class_name"])
                part += f"/{stem}_{used[stem]}" if used[stem] else f"/{stem}"
                used[stem] += 1
            if len(part) > LONGEST_PATH:
                raise ContentError("the model's config has layers within layers, more than a model can have")
            yield from _layers_of(child, part, outermost, runner, keras)


def _layers_of(layer: Config, path: str, outermost: str, runner: Config | None, keras: int) -> Iterator[Described]:
    """A layer, unless it is a model, and the layers within it."""
    kind, config = layer["class_name"], layer_config(layer)
    name = str(config.get("name", ""))
    outermost = outermost or name
    if kind == "Bidirectional":
        yield Described(path, name, outermost, _both_directions(config, keras))
    elif _kind_of(kind):
        yield Described(path, name, outermost, _settings(layer, runner or config, keras))
    elif kind == "RNN" and _class(config.get("cell")) != "StackedRNNCells":
        yield Described(path, name, outermost, one_direction(layer, keras))
    else:
        if "layers" not in config:
            yield Described(path, name, outermost, _settings(layer, config, keras))
        yield from _layers_within(layer, path, outermost, config if kind == "RNN" else runner, keras)


def _kind_of(class_name: str) -> Kind | None:
    """The kind of one of Keras's layer or cell classes."""
    return next((kind for kind in KINDS.values() if class_name in (*kind.keras_classes, kind.cudnn_class)), None)


def _class(layer: Any) -> str:
    return str(layer["class_name"]) if is_layer(layer) else ""


def _both_directions(config: Config, keras: int) -> Settings:
    forward = one_direction(config.get("layer"), keras)
    backward = one_direction(config.get("backward_layer") or config.get("layer"), keras)
    unsupported = list(forward.unsupported)
    if forward.reverse:
        unsupported.append("a forward direction that runs from the end")
    if replace(backward, reverse=forward.reverse) != forward:
        unsupported.append("different settings in its two directions")
    unsupported += _unknown(config, OF_ANY_LAYER | READ_OF_BIDIRECTIONAL)
    if (mode := config.get("merge_mode", "concat")) != "concat":
        unsupported.append(f"the merge mode {shown_setting(mode)}")
    return replace(forward, reverse=False, bidirectional=True, unsupported=tuple(unsupported))


def one_direction(layer: Any, keras: int) -> Settings:
    """The settings of a recurrent layer of one direction."""
    if _class(layer) == "RNN":
        return _settings(layer_config(layer).get("cell"), layer_config(layer), keras)
    return _settings(layer, layer_config(layer) if is_layer(layer) else {}, keras)


def _settings(layer: Any, runner: Config, keras: int) -> Settings:
    """The settings of a layer or cell, and of what runs it through time."""
    kind = _kind_of(_class(layer))
    if kind is None or is_custom(layer):
        return Settings(unsupported=(f"the class {shown_setting(_class(layer))}",))
    config = layer_config(layer)
    of_cell, of_runner = READ_OF_CELL | OF_CELL, READ_OF_RUNNER | OF_RUNNER
    of_cell |= {"recurrent_activation"} if kind.shares else set()
    of_cell |= {"reset_after"} & kind.options.keys()
    if runner is config:
        unsupported = _unknown(config, of_runner | of_cell)
    else:
        unsupported = [*_unknown(config, of_cell), *_unknown(runner, of_runner)]
    functions = {"activation": "tanh"} | ({"recurrent_activation": "sigmoid"} if kind.shares else {})
    chosen = {name: activation_of(config.get(name, usual), keras) for name, usual in functions.items()}
    unsupported += [
        f"the {name.replace('_', ' ')} {shown_setting(config[name])}"
        for name, activation in chosen.items()
        if activation is None
    ]
    shares, candidate = chosen.get("recurrent_activation") or "sigmoid", chosen["activation"] or "tanh"
    activations = tuple([shares if usual == "sigmoid" else candidate for usual in kind.onnx_activations])
    of_option = "nonlinearity" in kind.options and candidate in ("tanh", "relu")
    reset_after, use_bias, units = map(config.get, ("reset_after", "use_bias", "units"))
    return Settings(
        kind.name,
        reverse=bool(runner.get("go_backwards", False)),
        reset_after=reset_after if isinstance(reset_after, bool) else None,
        use_bias=use_bias if isinstance(use_bias, bool) else None,
        units=units if isinstance(units, int) else None,
        nonlinearity="relu" if of_option and candidate == "relu" else "tanh",
        activations=() if unsupported or of_option or activations == kind.onnx_activations else activations,
        batch_first=not runner.get("time_major", False),
        unsupported=tuple(unsupported),
    )


def activation_of(setting: Any, keras: int) -> Activation | None:
    """The activation function of a setting, with its meaning in this major version of Keras; None if it is unknown."""
    name = activation_name(setting)
    if is_layer(setting) and name == setting["class_name"]:
        return None if is_custom(setting) else _activation_layer(name, layer_config(setting))
    return (ACTIVATIONS if keras > 2 else ACTIVATIONS_IN_2).get(name)


def activation_name(setting: Any) -> str:
    """The name of a function or of a layer in a config: a string, or a description of it."""
    if setting is None:
        return "linear"
    if is_layer(setting):
        return str(setting["config"] if isinstance(setting["config"], str) else setting["class_name"])
    return str(setting)


def _activation_layer(name: str, config: Config) -> Activation | None:
    """The function of a layer of a single function."""
    alpha = config.get("negative_slope", config.get("alpha", 0.3 if name == "LeakyReLU" else 1.0))
    if name in ("LeakyReLU", "ELU") and isinstance(alpha, int | float):
        return ("leaky_relu" if name == "LeakyReLU" else "elu", float(alpha))
    return None


def is_custom(layer: Config) -> bool:
    """Whether a layer's class is user-defined, with the name of one of Keras's."""
    module = layer.get("module")
    foreign = isinstance(module, str) and not OWN_MODULE.fullmatch(module)
    return foreign or ">" in str(layer.get("registered_name"))


def _unknown(config: Config, known: Container[str]) -> list[str]:
    """The first few unknown settings of a config, in words."""
    unknown = (key for key, value in config.items() if key not in known and not (key in OPTIONAL and value in OFF))
    return [f"the setting {shown(key)}" for key in islice(unknown, MOST_NAMED)]


def shown_setting(value: Any) -> str:
    """A setting for a message: its string, or the name of its class if it is a config."""
    return shown(_class(value) or str(value))


def snake_case(name: str) -> str:
    """A class's name in a path of Keras: lstm for LSTM, simple_rnn for SimpleRNN."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
