"""Recurrent cells, recurrent networks, and models built from them."""

from tinygrad_lstm import _public

from . import atlas as atlas
from .by_name import network_of
from .cells import GRUCell, LSTMCell, RNNCell
from .language_model import CharLM
from .many_to_one import ManyToOne
from .model_stream import ModelStream, stream
from .networks import GRU, LSTM, RNN
from .recurrent import Recurrent
from .standardize import Standardize
from .streaming import Stream

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "CharLM",
    "GRUCell",
    "LSTMCell",
    "ManyToOne",
    "ModelStream",
    "RNNCell",
    "Recurrent",
    "Standardize",
    "Stream",
    "atlas",
    "network_of",
    "stream",
]

_public.publish(globals())
