"""Looking inside: every gate, state and gradient of a recurrent model, and the graph that made a tensor."""

from ..observing import *
from .explain import *
from .flow import *
from .flow_experiment import *
from .graph import *
from .layers import *
from .page import *
from .plots import *
from .stage_text import *
from .summary import *
from .trace import *
