"""Looking inside: every gate, state and gradient of a recurrent model, and the graph that made a tensor."""

from .layers import *
from .observing import *
from .trace import *
