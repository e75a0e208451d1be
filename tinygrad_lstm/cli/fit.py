"""`tinygrad-lstm fit`."""

import shlex
import sys
import warnings
from pathlib import Path
from typing import Annotated, Literal

import typer

from tinygrad_lstm.models.atlas import known_cell

from ..device import get_device
from ..estimators import SequenceClassifier, SequenceRegressor
from ..estimators.parameters import ParameterError
from ..train.folder import RunFolder
from .fit_parts import Parts, parts_of
from .fit_progress import STAGES, following
from .fit_results import write_results
from .interruption import Stop, say
from .labelled import DataFile, roles_to_fit
from .predictions import MODEL
from .shared import Device, Threads, new_folder, path_option, program, require, use_threads, with_threads

__all__ = ["check_options", "fit"]

OPTIONS = {"hidden_size": "hidden", "num_layers": "layers", "batch_size": "batch"}
"""The options of parameters that have different names."""
FIT_OUT = Path("runs/fit")
"""The folder of the first fit without --out; the next ones are fit-2, fit-3, ..."""


def fit(
    task: Annotated[
        Literal["classify", "regress"],
        typer.Argument(help="Learn a class for each sequence, or a number.", metavar="classify|regress"),
    ],
    data: DataFile,
    target: Annotated[
        str | None, typer.Option(help="The column to be predicted; of an .npz file the array, by default y.")
    ] = None,
    id: Annotated[
        str | None, typer.Option(help="The column that says which sequence a row belongs to: the table is long.")
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="The column of the times; the rows of a sequence must be in its order.")
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(help="The columns to learn from, as in x,y,z.  [default: all others]", metavar="NAMES"),
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option(help="A column that is left out; may be repeated.", metavar="NAME")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            help="A column of groups, such as persons: the sequences of a group stay in one part, training, validation "
            "or test. Of an .npz file an array; not for folders.",
            metavar="COLUMN",
        ),
    ] = None,
    test: Annotated[
        str,
        typer.Option(
            help="What the model is tested on: a share of the sequences, drawn at random, of each class alike, or with "
            "--group a share of the groups; or a file like DATA; 0 for no test.",
            metavar="SHARE|FILE",
        ),
    ] = "0.2",
    out: Annotated[
        str | None,
        typer.Option(
            help=f"The folder for the model and its page.  [default: the next free of {FIT_OUT}, {FIT_OUT}-2, ...]",
            metavar="DIR",
        ),
    ] = None,
    cell: Annotated[str, typer.Option(help="The recurrent cell; the command atlas lists all.")] = "lstm",
    hidden: Annotated[int, typer.Option("--hidden", "--hidden-size", help="Size of the hidden state.")] = 64,
    layers: Annotated[int, typer.Option("--layers", "--num-layers", help="Recurrent layers.")] = 1,
    bidirectional: Annotated[bool, typer.Option("--bidirectional", help="Read in both directions.")] = False,
    dropout: Annotated[float, typer.Option(help="Probability of dropout in training.")] = 0.0,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 1e-2,
    batch: Annotated[int, typer.Option("--batch", "--batch-size", help="Sequences in a batch.")] = 32,
    epochs: Annotated[int, typer.Option(help="The largest number of epochs.")] = 50,
    patience: Annotated[
        int, typer.Option(help="End the search after this many epochs without a lower validation loss.")
    ] = 10,
    validation: Annotated[
        float, typer.Option(help="The share of the training part that finds the number of epochs; 0 for none.")
    ] = 0.1,
    standardize: Annotated[
        bool, typer.Option("--standardize/--as-is", help="Standardise the features, as they are in the training part.")
    ] = True,
    device: Device = None,
    threads: Threads = None,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers, and of the parts of the data.")] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the fit in --out, with the same data and options.")
    ] = False,
) -> None:
    """Learn a class or a number for each sequence of a table.

    Tests the model on sequences that it has not seen, and writes it with a page of the results, and pages of right and
    wrong predictions. Ctrl-C, SIGTERM and SIGHUP keep the best model so far.
    """
    make = SequenceClassifier if task == "classify" else SequenceRegressor
    estimator = make(
        cell=cell,
        hidden_size=hidden,
        num_layers=layers,
        bidirectional=bidirectional,
        dropout=dropout,
        lr=lr,
        batch_size=batch,
        epochs=epochs,
        patience=patience,
        validation=validation,
        standardize=standardize,
        device=device,
        random_state=seed,
    )
    require("--seed", seed >= 0, "at least 0", seed)
    check_options(estimator)
    use_threads(threads)
    place = str(get_device(device))
    folder = None if out is None else _checked_folder(path_option("--out", out), resume)
    require("--resume", folder is not None or not resume, "--out with it", "none")
    path = path_option("DATA", data)
    roles = roles_to_fit(path, target, id, time, features, drop or (), group)
    parts = parts_of(path, roles, task == "classify", test, validation, seed)
    print(parts.described, flush=True)
    model = _described(estimator, place)
    with new_folder(folder, FIT_OUT) as made:
        stop = _trained(estimator, parts, made, resume, model)
    estimator.about_ = {"columns": parts.columns, "rate": parts.train.rate}
    estimator.save(made / MODEL)
    if stop.signal is not None or stop.failure is not None:
        resumed = [*program(), *sys.argv[1:], *([] if out else ["--out", str(made)]), *([] if resume else ["--resume"])]
        say(f"interrupted after {estimator.n_iter_} epochs; the best network so far is in {made / MODEL}")
        say(f"resume with: {shlex.join(resumed)}")
        stop.end()
    for line in write_results(estimator, parts, f"trained {model}", made):
        print(line)
    print(f"predict with: {shlex.join([*program(), 'predict', str(made), f'new{path.suffix}'])}")


def check_options(estimator: SequenceClassifier | SequenceRegressor) -> None:
    """Raises ValueError that names the option if a parameter of an estimator is invalid."""
    known_cell("--cell", estimator.cell)
    try:
        estimator.check_parameters()
    except ParameterError as error:
        raise ValueError(
            f"--{OPTIONS.get(error.name, error.name)}: expected {error.expected}, got {error.given}"
        ) from error


def _checked_folder(folder: Path, resume: bool) -> Path:
    """A folder that has a fit if it is to be resumed, and otherwise neither a fit nor a run of `train`."""
    require("--out", folder.is_dir() or not folder.exists(), "the path of a folder", f"the file {str(folder)!r}")
    if RunFolder(folder).is_used():
        raise ValueError(f"{folder}: holds a run of train; give another --out")
    has_fit = _has_fit(folder)
    if has_fit and not resume:
        raise ValueError(f"{folder}: holds a fit; --resume continues it, or give another --out")
    if resume and not has_fit:
        raise ValueError(f"{folder}: there is no fit to resume; leave out --resume")
    return folder


def _has_fit(folder: Path) -> bool:
    """Whether a folder has a checkpoint of a fit."""
    return any(RunFolder(folder / stage).last.exists() for stage in STAGES)


def _described(estimator: SequenceClassifier | SequenceRegressor, place: str) -> str:
    layers = f"{estimator.num_layers} layer{'s' * (estimator.num_layers > 1)} of {estimator.hidden_size} units"
    directions = ", in both directions" if estimator.bidirectional else ""
    return f"{estimator.cell}, {layers}{directions}, on {with_threads(place)}"


def _trained(
    estimator: SequenceClassifier | SequenceRegressor, parts: Parts, folder: Path, resume: bool, model: str
) -> Stop:
    """Trains the estimator, and returns why the training was stopped, if it was."""
    begun = f"{'resuming' if resume else 'training'} {model}, in {folder}"
    try:
        with following(estimator.epochs) as progress:
            progress.say(begun)
            with warnings.catch_warnings(category=UserWarning, action="ignore"):  # the command says it itself
                estimator.fit(
                    parts.train.sequences,
                    parts.targets,
                    groups=parts.train.groups,
                    callbacks=[progress],
                    out=folder,
                    resume=resume,
                )
    except FloatingPointError as error:
        kept = f"; {folder} keeps the epochs before: give another --out" if _has_fit(folder) else ""
        raise FloatingPointError(f"{error}, with --lr{kept}") from error
    except KeyboardInterrupt:
        say("quit before the end of the first epoch; nothing is saved")
        Stop().end()
    return progress.stop
