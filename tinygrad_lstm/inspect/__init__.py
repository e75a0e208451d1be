
from .layers import *
from .observing import *
from .page import *
from .trace import *
