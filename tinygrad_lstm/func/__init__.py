"""Derivatives of plain functions over plain arrays.

`grad` and most of these functions take a function and return a function of the same arguments; `jvp` and `linearize`
take the function and its arguments. Arguments are NumPy or CuPy arrays, Python floats (computed in float64), Tensors,
or tuples, lists and dicts of these. The given function receives Tensors instead of all arrays, and computes with `tg`
ops. It must not change them in place. `functional_call` makes such a function of a module.

Results are of the kind of the arguments: arrays for arrays, floats for floats, Tensors for Tensors. Tensors stay part
of the graph, so transformed functions nest: `grad(grad(f))`, or `tg.grad` of the result of `func.grad`. Arrays and
floats carry no graph, except inside the function of a different transformation: there, results that depend on its
arguments are Tensors.

`argnums` selects the positional arguments to differentiate in: an int, or a tuple of ints, for which the derivative is
also a tuple. The `.grad` of tensors is not changed.
"""

from .. import _public
from .examples import *
from .forward import *
from .modules import *
from .reverse import *

_public.publish_gathered(globals())
