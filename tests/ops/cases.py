"""The cases of every op, in one list. Each file `cases_*.py` adds those of some families when it is imported."""

from ops import cases_attention as cases_attention
from ops import cases_elementwise as cases_elementwise
from ops import cases_indexing as cases_indexing
from ops import cases_linalg as cases_linalg
from ops import cases_padding as cases_padding
from ops import cases_reduction as cases_reduction
from ops import cases_scattering as cases_scattering
from ops import cases_shape as cases_shape
from ops import cases_sorting as cases_sorting
from ops import cases_windows as cases_windows
from ops.case import CASES

__all__ = ["CASES"]
