"""Parameters of an estimator: names and values, as scikit-learn reads and sets them."""

from inspect import signature
from typing import Any, Self

__all__ = ["HasParameters", "SequenceParameters"]


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
