"""Searching for good options: a trial is a function of options that returns a summary.

It uses no library of searches, so that it works with any. The command `search` uses Optuna.
"""

from .. import _public
from .pruning import Pruning
from .sequence_trials import SequenceTask
from .text_trials import TextTask
from .trials import TrialSummary, run_trial

__all__ = ["Pruning", "SequenceTask", "TextTask", "TrialSummary", "run_trial"]

_public.publish(globals())
