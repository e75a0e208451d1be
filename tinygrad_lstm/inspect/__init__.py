
from .explain import *
from .layers import *
from .observing import *
from .page import *
from .stage_text import *
from .trace import *
