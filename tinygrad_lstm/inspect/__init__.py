"""Looking inside: every gate, state and gradient of a recurrent model, and the graph that made a tensor."""

from .. import _public
from ..observing import show_step
from ._explain import Calculation, Stage, explain
from ._graph import Graph, graph
from ._page import PageTooLargeError, page
from ._program import Programs, StepProgram, program
from ._stage_text import stage_text
from ._summary import Summary, SummaryRow, summary
from ._trace import trace, trace_memory
from .flow import Decay, FlowCurve, GradientFlow, fit_decay, flow_of, gradient_flow, median_flow
from .flow_experiment import TASKS, LongLagTask, NetworkFlow, compare_flow, flow_csv, flow_table
from .layers import LayerTrace, Saturation, Trace
from .plots import (
    PlotsUnavailableError,
    plot_cell_states,
    plot_gates,
    plot_gradient_flow,
    plot_losses,
    plot_saturation,
    plot_text,
)

# Every gate, state and gradient: as arrays, as a page, as plots.
__all__ = ["LayerTrace", "Saturation", "Trace", "show_step", "trace", "trace_memory"]
__all__ += ["PageTooLargeError", "page"]
__all__ += ["plot_cell_states", "plot_gates", "plot_gradient_flow", "plot_losses", "plot_saturation", "plot_text"]
__all__ += ["PlotsUnavailableError"]

# How far gradients reach back: in one model, and in several that learn a task.
__all__ += ["Decay", "FlowCurve", "GradientFlow", "fit_decay", "flow_of", "gradient_flow", "median_flow"]
__all__ += ["TASKS", "LongLagTask", "NetworkFlow", "compare_flow", "flow_csv", "flow_table"]

# One step in words and numbers; the graph behind a tensor; a module's table.
__all__ += ["Calculation", "Stage", "explain", "stage_text"]
__all__ += ["Graph", "Summary", "SummaryRow", "graph", "summary"]

# A recurrent step as it is computed over a sequence.
__all__ += ["Programs", "StepProgram", "program"]

_public.publish(globals())
