
from .explain import *
from .flow import *
from .flow_experiment import *
from .layers import *
from .observing import *
from .page import *
from .plots import *
from .stage_text import *
from .trace import *
