"""Derivatives of plain functions over plain arrays.

`grad` and most others take a function and give back another one, to be called with the same arguments; `jvp` and
`linearize` take the arguments at once. These may be NumPy or CuPy arrays, Python floats (computed with in float64),
Tensors, or tuples, lists and dicts of these; the function itself is given Tensors in place of all arrays, and computes
with `tg` ops. It must not change them in place. `functional_call` makes such a function of a module.

What comes back is of the kind that was given: arrays for arrays, floats for floats, Tensors for Tensors. Since Tensors
stay part of the graph, transformed functions nest: `grad(grad(f))`, or `tg.grad` over what `func.grad` gave. Arrays and
floats carry no graph, but inside the function of another transformation: there, what depends on its arguments comes
back as a Tensor.

`argnums` says which positional arguments to differentiate in: an int, or a tuple of ints, for which the derivative is
a tuple as well. The `.grad` of no tensor is touched.
"""

from .. import _public
from .examples import *
from .forward import *
from .modules import *
from .reverse import *

_public.publish_gathered(globals())
