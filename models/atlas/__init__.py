"""An atlas of recurrent cells: each is the equations of its paper.

`ATLAS` has all of them by name, the cells of `LSTM`, `GRU` and `RNN` too. Each is a module with `forward(x, state)`,
which returns the next state. Its docstring has the equations, the paper and the parameters.

    >>> import tinygrad_lstm as tg
    >>> from tinygrad_lstm.models.atlas import ATLAS
    >>> cell = ATLAS["lem"](3, 5)
    >>> y, z = cell(tg.ones(2, 3))
    >>> cell
    LEMCell(3, 5)      180 parameters
"""

from difflib import get_close_matches

from tinygrad_lstm import _public
from tinygrad_lstm.printable import printable

from ..cells import Cell, GRUCell, LSTMCell, RNNCell
from .continuous import CoRNNCell, LEMCell
from .gru import GRUResetBeforeCell, LiGRUCell, MGUCell, UGRNNCell
from .independent import IndRNNCell, MinGRUCell, MinLSTMCell, SRUCell
from .lstm import (
    CIFGLSTMCell,
    JANETCell,
    LayerNormLSTMCell,
    LayerNormStateLSTMCell,
    LSTM1997Cell,
    PeepholeLSTMCell,
    ProjectionLSTMCell,
    ZoneoutLSTMCell,
)
from .xlstm import MLSTMCell, SLSTMCell

__all__ = [
    "ATLAS",
    "CIFGLSTMCell",
    "CoRNNCell",
    "GRUCell",
    "GRUResetBeforeCell",
    "IndRNNCell",
    "JANETCell",
    "LEMCell",
    "LSTM1997Cell",
    "LSTMCell",
    "LayerNormLSTMCell",
    "LayerNormStateLSTMCell",
    "LiGRUCell",
    "MGUCell",
    "MLSTMCell",
    "MinGRUCell",
    "MinLSTMCell",
    "PeepholeLSTMCell",
    "ProjectionLSTMCell",
    "RNNCell",
    "SLSTMCell",
    "SRUCell",
    "UGRNNCell",
    "ZoneoutLSTMCell",
    "known_cell",
]

ATLAS: dict[str, type[Cell]] = {
    "lstm": LSTMCell,
    "lstm_1997": LSTM1997Cell,
    "lstm_peephole": PeepholeLSTMCell,
    "lstm_cifg": CIFGLSTMCell,
    "lstm_projection": ProjectionLSTMCell,
    "lstm_layer_norm": LayerNormLSTMCell,
    "lstm_layer_norm_cell": LayerNormStateLSTMCell,
    "lstm_zoneout": ZoneoutLSTMCell,
    "janet": JANETCell,
    "gru_reset_after": GRUCell,
    "gru_reset_before": GRUResetBeforeCell,
    "mgu": MGUCell,
    "li_gru": LiGRUCell,
    "ugrnn": UGRNNCell,
    "rnn": RNNCell,
    "ind_rnn": IndRNNCell,
    "sru": SRUCell,
    "min_gru": MinGRUCell,
    "min_lstm": MinLSTMCell,
    "co_rnn": CoRNNCell,
    "lem": LEMCell,
    "slstm": SLSTMCell,
    "mlstm": MLSTMCell,
}
"""The cells by name."""


def known_cell(caller: str, name: str) -> type[Cell]:
    """The cell of this name.

    Raises:
        ValueError: there is none; the message begins with the caller's name.
    """
    if name not in ATLAS:
        near = ", ".join(get_close_matches(name, ATLAS, n=3, cutoff=0.0))
        raise ValueError(f"{caller}: expected a cell of the atlas, such as {near}, got {printable(repr(name))}")
    return ATLAS[name]


_public.publish(globals())
