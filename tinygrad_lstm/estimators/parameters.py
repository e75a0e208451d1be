"""Parameters of an estimator: names and values, as scikit-learn reads and sets them."""

from collections.abc import Mapping
from inspect import signature
from numbers import Real
from typing import Any, Self

import numpy as np

from tinygrad_lstm.models.atlas import known_cell

from ..arguments import integer

__all__ = ["NETWORK", "HasParameters", "ParameterError", "SequenceParameters", "check_values"]

NETWORK = ("cell", "hidden_size", "num_layers", "bidirectional", "dropout", "standardize")
"""The parameters that decide what the network is, and so what its file contains."""


class SequenceParameters:
    """The parameters of all estimators of sequences. Their arguments are attributes of the same names."""

    def __init__(
        self,
        cell: str = "lstm",
        hidden_size: int = 64,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        lr: float = 1e-2,
        batch_size: int = 32,
        epochs: int = 50,
        patience: int = 10,
        validation: float | None = 0.1,
        standardize: bool = True,
        device: str | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.cell = cell
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.lr = lr
        self.batch_size = batch_size
        self.epochs = epochs
        self.patience = patience
        self.validation = validation
        self.standardize = standardize
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        super().__init__()


class HasParameters:
    """Parameters are the arguments of `__init__`, which are attributes of the same names."""

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        return {name: each.default for name, each in signature(cls).parameters.items()}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters, by name.

        Args:
            deep: as scikit-learn passes it; it has no effect.
        """
        return {name: getattr(self, name) for name in sorted(self._defaults())}

    def _plain_params(self) -> dict[str, Any]:
        """The parameters for a file, which has Python's numbers in place of NumPy's, such as those of a search."""
        return {
            name: value.item() if isinstance(value, np.generic) else value for name, value in self.get_params().items()
        }

    def set_params(self, **params: Any) -> Self:
        """Sets parameters by name. They take effect in the next `fit`.

        Raises:
            ValueError: a name is unknown; nothing is set.
        """
        known = self._defaults()
        for name in params:
            if name not in known:
                raise ValueError(f"{type(self).__name__}: expected parameters among {', '.join(known)}, got {name!r}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        changed = [
            f"{name}={getattr(self, name)!r}"
            for name, default in self._defaults().items()
            if repr(getattr(self, name)) != repr(default)
        ]
        return f"{type(self).__name__}({', '.join(changed)})"


class ParameterError(ValueError):
    """A parameter whose value is out of its range.

    Args:
        caller: whose parameter it is.
        name: its name.
        expected: the values that are expected, in words.
        given: its value.
    """

    def __init__(self, caller: str, name: str, expected: str, given: Any) -> None:
        super().__init__(f"{caller}: expected {name} to be {expected}, got {given}")
        self.name, self.expected, self.given = name, expected, given


def check_values(caller: str, parameters: Mapping[str, Any]) -> None:
    """Checks the parameters of an estimator.

    Raises:
        TypeError, ValueError: one is invalid.
    """
    if not isinstance(parameters["cell"], str):
        raise TypeError(f"{caller}: expected cell to be the name of a cell, got {parameters['cell']!r:.100}")
    known_cell(caller, parameters["cell"])
    for name in ("hidden_size", "num_layers", "batch_size", "epochs", "patience"):
        value = integer(caller, name, parameters[name])
        if value < 1:
            raise ParameterError(caller, name, "at least 1", value)
    for name in ("bidirectional", "standardize"):
        if not isinstance(parameters[name], bool | np.bool_):
            raise TypeError(f"{caller}: expected {name} to be True or False, got {parameters[name]!r:.100}")
    validation = 0.0 if parameters["validation"] is None else parameters["validation"]
    numbers: dict[str, Any] = {"lr": parameters["lr"], "dropout": parameters["dropout"], "validation": validation}
    for name, number in numbers.items():
        if not isinstance(number, Real):
            raise TypeError(f"{caller}: expected {name} to be a number, got {number!r:.100}")
    if not 0 < numbers["lr"] < np.inf:
        raise ParameterError(caller, "lr", "above 0 and finite", numbers["lr"])
    if not 0 <= numbers["dropout"] < 1:
        raise ParameterError(caller, "dropout", "from 0 to below 1", numbers["dropout"])
    if not 0 <= validation < 1:
        raise ParameterError(caller, "validation", "a fraction below 1, or 0 for none", validation)
