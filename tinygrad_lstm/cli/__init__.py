"""The command line, `tinygrad-lstm`: a thin layer over the library.

Each command is in the file of its name. Parts of `fit` and `train` are in files that begin with their names, `fit_*.py`
and `train_*.py`; what several commands use is in the others.

It is the only package above models/: it combines models and the training loop.
"""

import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from tinygrad_lstm.backends import threads

from .. import __version__
from ..device import set_num_threads
from . import atlas, eval, explain, export, fit, gradient_flow, info, inspect, predict, run, sample, search, show, train
from .escaping import escaped_output
from .interruption import end_at_signals, open_standard_streams, settle_output
from .shared import in_one_line

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Trains character models on text, and models of labelled sequences; tries them, and looks inside. Shows and "
    "runs models of other frameworks.",
)


def _show_version(given: bool) -> None:
    if given:
        print(f"tinygrad-lstm {__version__}")
        raise typer.Exit


@app.callback()
def _prepare(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    # A second thread makes the products of a small LSTM little faster, but they wait long for it if another program has
    # its core. With one thread, sums are the same for any number of cores.
    if not threads.set_by_environment():
        set_num_threads(1)


app.command()(train.train)
app.command()(sample.sample)
app.command("eval")(eval.evaluate)
app.command()(fit.fit)
app.command()(predict.predict)
app.command(context_settings={"ignore_unknown_options": True})(search.search)
app.command()(explain.explain)
app.command("gradient-flow")(gradient_flow.gradient_flow)
app.command()(inspect.inspect)
app.command()(show.show)
app.command("inspect-weights", hidden=True)(show.show)  # its name in earlier versions
app.command()(export.export)
app.command()(run.run)
app.command()(atlas.atlas)
app.command()(info.info)


def main() -> None:
    """Runs the command line. An error of the library is shown in one line, with exit status 2."""
    open_standard_streams()
    end_at_signals()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # the terminal may not have all characters of a model
    try:
        with escaped_output():
            _run()
    finally:
        settle_output()


def _run() -> None:
    try:
        app()
    except (ValueError, OSError, RuntimeError, ArithmeticError, MemoryError) as error:
        print(f"error: {in_one_line(error)}", file=sys.stderr)
        sys.exit(2)
