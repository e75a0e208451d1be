"""What both estimators share: training, predictions, looking inside, and files."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tinygrad_lstm.backends.base import HostArray
from tinygrad_lstm.models import ManyToOne
from tinygrad_lstm.models.by_name import network_of

from .._tensor import Tensor, tensor
from ..data.sequences import SequenceBatch, SequenceBatches
from ..device import default_device, get_device
from ..io import checkpoint
from ..mode import no_grad
from ..optim import AdamW
from ..random import restored_random_state
from ..train import Trainer
from .parameters import NETWORK, HasParameters, SequenceParameters, check_values
from .randomness import generator_of, seed_from
from .reading import groups_of, sequences_of
from .scikit_learn import not_fitted_error, tags_of
from .sizes import check_sizes
from .splitting import Rows
from .training import CLIP, NEVER, Following, History, Recipe, optimizer_of, trained

if TYPE_CHECKING:
    from ..inspect import Trace

__all__ = ["Lesson", "SequenceEstimator"]

PREDICTED_AT_ONCE = 128
"""Sequences in a batch of `predict`. They are sorted by length: more of them would have more padding."""


@dataclass(frozen=True)
class Lesson:
    """What there is to learn."""

    targets: HostArray
    """The targets, as the network is trained on them."""
    outputs: int
    """The number of the network's outputs."""
    known: dict[str, Any]
    """Attributes of the estimator once it is fitted."""


class SequenceEstimator(HasParameters, SequenceParameters, ABC):
    """A recurrent network with a linear layer on its last state, and how it is trained."""

    KIND: str
    """What it is to scikit-learn."""
    EXPLAINED: str
    """What `_explained` returns, in words."""

    model_: ManyToOne
    """The network, of which `fit` makes a new one."""
    n_features_in_: int
    """The number of features F; of a table, the number of its columns."""
    n_iter_: int
    """Epochs of training, up to the weights that were kept."""
    history_: list[dict[str, Any]]
    """The losses of each epoch."""
    about_: dict[str, Any]
    """What is saved with the estimator, such as the names of its features: lists and dicts of numbers and strings. A
    fit empties it."""
    _columns: int | None
    _optimizer_state: dict[str, Any] | None

    # -- what a classifier and a regressor do differently --------------------------------------------------------------

    @abstractmethod
    def _learn(self, caller: str, y: Any, rows: int, classes: Any = None) -> Lesson:
        """What there is to learn, from the first targets."""

    @abstractmethod
    def _targets(self, caller: str, y: Any, rows: int) -> HostArray:
        """Further targets, as the network is trained on them."""

    @abstractmethod
    def _validation_rows(
        self, caller: str, lesson: Lesson, groups: HostArray | None, fraction: float, rng: np.random.Generator
    ) -> Rows:
        """The rows to validate with, of whole groups if there are groups."""

    @abstractmethod
    def _loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of a batch."""

    @abstractmethod
    def _explained(self, outputs: Tensor) -> Tensor:
        """What of the outputs `inspect` shows the gradients of: a scalar."""

    def _to_units_of_targets(self, model: ManyToOne, known: Mapping[str, Any]) -> None:
        """Lets the outputs of a model have the units of the targets, after training."""

    def _to_units_of_training(self, model: ManyToOne, known: Mapping[str, Any]) -> None:
        """The inverse."""

    @abstractmethod
    def _more_contents(self) -> dict[str, Any]:
        """What else a file has."""

    @classmethod
    @abstractmethod
    def _known_of(cls, contents: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """The attributes that `_learn` notes, and the number of outputs, from a file.

        Raises:
            KeyError, TypeError, ValueError: the file's contents are invalid.
        """

    # -- training ------------------------------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        groups: Any = None,
        callbacks: Sequence[Any] = (),
        out: str | Path | None = None,
        resume: bool = False,
    ) -> Self:
        """Trains a new network.

        If a callback calls `Trainer.stop`, or Ctrl-C is pressed, the best network so far is kept.

        Args:
            X: the sequences: a list of arrays (T_b, F), an array (N, T, F), or a table (N, T) whose rows are sequences
                of one feature.
            y: the target of each sequence, (N,).
            groups: the group of each sequence, (N,), such as the person it is of. `validation` is then a fraction of
                the groups, drawn at random, and no group is both validated and trained on.
            callbacks: objects with any of the methods of `tg.train.Callback`. They follow the training that finds the
                number of epochs, in the folder "search" of `out`, then that of the final network, in "final".
            out: a folder for checkpoints and metrics, after each epoch. `random_state` must be a seed.
            resume: continue the training in `out`, which was of the same parameters and data. The network is bit for
                bit that of a training that was never interrupted.

        Raises:
            ValueError: a parameter, a sequence, a target or a group is invalid; the error says which. Or `out` has a
                training, and `resume` is False; has none, and `resume` is True; or has one of different data or
                parameters. Training has not begun.
            FloatingPointError: training diverged.
            OSError: a file cannot be written.
        """
        caller = f"{type(self).__name__}.fit"
        self.check_parameters()
        sequences, columns = sequences_of(caller, X, learns=True)
        lesson = self._learn(caller, y, len(sequences))
        groups = None if groups is None else groups_of(caller, groups, len(sequences))
        rng = generator_of(caller, self.random_state)
        validation = self._validation_rows(caller, lesson, groups, self.validation, rng) if self.validation else None
        recipe = Recipe(self.lr, self.batch_size, self.epochs, self.patience, bool(self.verbose))
        following = Following.of(
            caller, callbacks, out, resume, self._plain_params(), sequences, lesson.targets, groups
        )
        with self._seeded(rng):
            make, seed = partial(self._made, outputs=lesson.outputs), seed_from(rng)
            found = trained(make, self._loss_of_batch, sequences, lesson.targets, validation, recipe, following, seed)
        self._to_units_of_targets(found.model, lesson.known)
        self._adopt(found.model, columns, lesson.known)
        self.history_, self.n_iter_, self.about_ = found.history, found.epochs, {}
        return self

    def partial_fit(self, X: Any, y: Any) -> Self:
        """Trains for one epoch on further sequences, without validation. The first call makes the network.

        The inputs are standardised as those of the first call, or of `fit`.

        Args:
            X, y: as for `fit`.

        Raises:
            ValueError: as for `fit`.
        """
        return self._partial_fit(X, y)

    def _partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:
        caller = f"{type(self).__name__}.partial_fit"
        self.check_parameters()
        goes_on = self._is_fitted()
        sequences, columns = self._read(caller, X) if goes_on else sequences_of(caller, X, learns=True)
        # Further calls with one seed have different orders.
        seed = seed_from(generator_of(caller, self.random_state))
        rng = np.random.default_rng([seed, self.n_iter_ if goes_on else 0])
        with self._seeded(rng):
            if goes_on:
                targets = self._targets(caller, y, len(sequences))
            else:
                lesson = self._learn(caller, y, len(sequences), classes)
                targets = lesson.targets
                self._adopt(self._made(sequences, lesson.outputs), columns, lesson.known)
                self.history_, self.n_iter_, self.about_ = [], 0, {}
            optimizer = self._optimizer(self.model_, self._optimizer_state)
            history = History(bool(self.verbose), self.n_iter_)
            batches = SequenceBatches(sequences, targets, self.batch_size, seed=seed_from(rng))
            network, loss = self.model_.train(), self._loss_of_batch
            trainer = Trainer(network, loss, optimizer, callbacks=[history], clip=CLIP, seed=None)
            if goes_on:
                self._to_units_of_training(self.model_, vars(self))
            try:
                trainer.fit(batches, epochs=1, log_every=NEVER)
            finally:
                self._to_units_of_targets(self.model_.eval(), vars(self))
        self._optimizer_state = optimizer.state_dict()
        self.history_ = self.history_ + history.epochs
        self.n_iter_ += 1
        return self

    def _optimizer(self, model: ManyToOne, state: Mapping[str, Any] | None) -> AdamW:
        """The optimizer of partial fits, in a state.

        Raises:
            LookupError, TypeError, ValueError: the state is not one of this optimizer and model.
        """
        optimizer = optimizer_of(model, self.lr)
        if state is not None:
            optimizer.load_state_dict(state)
            for group in optimizer.param_groups:
                group["lr"] = self.lr  # which `set_params` may have changed
        return optimizer

    def _loss_of_batch(self, model: ManyToOne, batch: SequenceBatch, carry: Any) -> tuple[Tensor, None]:
        return self._loss(model(tensor(batch.x), lengths=batch.lengths), tensor(batch.y)), None

    def _network(self, features: int, outputs: int) -> ManyToOne:
        """A new network."""
        network = network_of(
            self.cell, features, self.hidden_size, self.num_layers, bool(self.bidirectional), self.dropout
        )
        return ManyToOne(network, outputs, self.dropout, bool(self.standardize))

    def _made(self, sequences: Sequence[HostArray], outputs: int) -> ManyToOne:
        """A new network, which knows the mean and standard deviation of the sequences."""
        model = self._network(sequences[0].shape[1], outputs)
        if model.standardization is not None:
            model.standardization.measure(sequences)
        return model

    def _adopt(self, model: ManyToOne, columns: int | None, known: Mapping[str, Any]) -> None:
        """Makes a network that of the estimator."""
        for name, value in known.items():
            setattr(self, name, value)
        self.model_ = model.eval()
        self._columns = columns
        self._optimizer_state = None
        # `set_params` may change them before `save`.
        self._built_with = {name: value for name, value in self._plain_params().items() if name in NETWORK}
        features = model.network.input_size
        assert features is not None
        self.n_features_in_ = columns or features

    @contextmanager
    def _seeded(self, rng: np.random.Generator) -> Iterator[None]:
        """In a `with` block, tensors are on the device, and random numbers start from the seed."""
        drawn = np.random.default_rng(seed_from(rng))
        with default_device(get_device(self.device)), restored_random_state(dict(drawn.bit_generator.state)):
            yield

    def check_parameters(self) -> None:
        """Raises TypeError or ValueError if a parameter is invalid, as `fit` does."""
        check_values(type(self).__name__, self.get_params())

    # -- predictions ---------------------------------------------------------------------------------------------------

    def _is_fitted(self) -> bool:
        return hasattr(self, "model_")

    def _check_fitted(self, method: str) -> None:
        if not self._is_fitted():
            raise not_fitted_error()(f"{type(self).__name__}.{method}: it is not fitted yet; call fit first")

    def _read(self, caller: str, X: Any) -> tuple[list[HostArray], int | None]:
        """Sequences like those that the network was trained on.

        Raises:
            ValueError: they have a different number of features; or X is a table with a different number of columns
                than the first one.
        """
        sequences, columns = sequences_of(caller, X, learns=False)
        found, expected = sequences[0].shape[1], self.model_.network.input_size
        if columns is not None and self._columns is not None:
            found, expected = columns, self._columns
        if found != expected:
            advice = "" if columns is None else "; each row of a table is a sequence, so give [X] if X is one sequence"
            raise ValueError(
                f"{caller}: X has {found} features, but {type(self).__name__} is expecting {expected} features as input"
                f"{advice}"
            )
        return sequences, columns

    def _outputs(self, method: str, X: Any) -> HostArray:
        """The network's outputs (N, O)."""
        self._check_fitted(method)
        sequences, _ = self._read(f"{type(self).__name__}.{method}", X)
        order = np.argsort([len(sequence) for sequence in sequences], kind="stable")
        batches = SequenceBatches([sequences[row] for row in order], batch_size=PREDICTED_AT_ONCE, shuffle=False)
        like = self.model_.output.weight
        outputs = np.empty((len(sequences), len(like)), np.float32)
        with self.model_.evaluating(), no_grad():
            for batch in batches:
                found = self.model_(tensor(batch.x, device=like.device), lengths=batch.lengths)
                outputs[order[batch.rows]] = found.cpu().numpy()
        return outputs

    def inspect(self, X: Any, path: str | Path | None = None, features: Sequence[str] | None = None) -> "Trace":
        """Every gate and state of some predictions, and the gradients of what was predicted.

        Args:
            X: a few sequences, as for `predict`.
            path: a file such as "page.html", to which they are written as a page.
            features: names of the features, for the page.

        Returns:
            The trace, as of `tg.inspect.trace`.

        Raises:
            NotFittedError: `fit` was not called yet.
            ValueError: X or the names are invalid.
            OSError: the file cannot be written.
        """
        from ..inspect import page, trace  # only needed here

        self._check_fitted("inspect")
        sequences, _ = self._read(f"{type(self).__name__}.inspect", X)
        batch = next(iter(SequenceBatches(sequences, batch_size=len(sequences), shuffle=False)))
        like = self.model_.output.weight
        with self.model_.evaluating():
            x = tensor(batch.x, device=like.device)
            traced = trace(self.model_, x, lengths=batch.lengths, loss=self._explained)
        if path is not None:
            names = {"x": list(features)} if features is not None else {}
            page(traced, path, names=names, title=f"Inside {self!r}", loss_is=self.EXPLAINED)
        return traced

    # -- files ---------------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Writes the estimator to a .safetensors file, which has no code. `estimators.load` reads it.

        `tg.io.load_model` reads its network. After `partial_fit` the file has the state of the optimizer as well, so
        that further partial fits go on as if the estimator had not been saved.

        Raises:
            NotFittedError: `fit` was not called yet.
            OSError: the file cannot be written; an existing file is unchanged.
        """
        self._check_fitted("save")
        parameters = {**self._plain_params(), **self._built_with}
        if not isinstance(parameters["random_state"], int):
            parameters["random_state"] = None
        checkpoint.save(
            path,
            {
                "estimator": type(self).__name__,
                "parameters": parameters,
                "features": self.model_.network.input_size,
                "columns": self._columns,
                "epochs": self.n_iter_,
                "weights": dict(self.model_.state_dict()),
                "about": self.about_,
                "optimizer": self._optimizer_state,
                **self._more_contents(),
            },
        )

    def restore(self, contents: Mapping[str, Any], device: str | None) -> None:
        """Becomes the estimator whose file has these contents.

        Raises:
            LookupError, TypeError, ValueError: the contents are invalid.
        """
        self.set_params(**contents["parameters"]).set_params(device=device)
        self.check_parameters()
        columns, features, weights = contents["columns"], contents["features"], contents["weights"]
        if columns is not None and (type(columns) is not int or columns < 1):
            raise ValueError(f"expected columns to be a number or None, got {columns!r:.50}")
        if not isinstance(contents["about"], dict):
            raise TypeError(f"expected about to be a dict, got {contents['about']!r:.50}")
        check_sizes(self.get_params(), features, weights)
        known, outputs = self._known_of(contents)
        with default_device(get_device(device)):
            model = self._network(features, outputs)
        model.load_state_dict(weights)
        optimizer_state = contents["optimizer"]
        self._optimizer(model, optimizer_state)
        self._adopt(model, columns, known)
        self._optimizer_state = optimizer_state
        self.history_, self.n_iter_, self.about_ = [], int(contents["epochs"]), contents["about"]

    def __sklearn_tags__(self) -> Any:
        return tags_of(self.KIND)
