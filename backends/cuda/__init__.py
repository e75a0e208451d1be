"""Kernels in CUDA C++, one `.cu` file per family, and the Python code that launches them, which does not import CuPy.

`kernels.CudaKernels` is what a device has of them.
"""
