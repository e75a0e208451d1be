"""Code that computes a step over a sequence.

What is computed is described by `program.py` (the ops of a step and of its derivative) and `schedule.py` (when each op
runs).

Python code for an array module: `arrays.py` (forward) and `arrays_backward.py` write the functions, from parts:
`code.py` (an instruction), `chunks.py` (the rows of many steps), `loops.py` (a step), `packs.py` (one call for several
instructions), `rooms.py` (memory that is used again) and `norms.py` (layer normalizations). `steps.py` writes a single
step. `sequence.py` runs all of them.

C: `c_forward.py` and `c_backward.py` write the functions. `c_writer.py` has what their parts share, `c_phases.py`
orders products, rows and elements, `c_kernels.py` writes loops over elements, `c_rows.py` writes ops on whole rows, and
`c_moves.py` finds where an element that an op moves comes from.

CUDA: `groups.py` finds what one kernel can compute, and `cuda_kernels.py` writes the kernel.
"""
