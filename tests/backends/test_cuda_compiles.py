"""Every CUDA kernel compiles to machine code, as CuPy would have it compiled, on a machine without a GPU."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from any_cells import as_parts
from kernels_on_host import kernel_names

import tinygrad_lstm as tg
from tinygrad_lstm.backends import cuda
from tinygrad_lstm.backends.cuda import persistent
from tinygrad_lstm.backends.cuda.launching import complete, definitions, source, with_includes
from tinygrad_lstm.models.atlas import ATLAS
from tinygrad_lstm.ops.sequence import fused_step

nvrtc = pytest.importorskip(
    "cuda.bindings.nvrtc", reason="CUDA's run-time compiler is not installed (cuda-bindings, nvidia-cuda-nvrtc)"
)

FILES = sorted(path.stem for path in Path(cuda.__file__).parent.glob("*.cu"))
DTYPES = {"float16": 8, "float32": 4, "float64": 2}  # with the width of a pack
PERSISTENT = [name for name in FILES if name.startswith("persistent")]
HEADER = '#include "elementwise.cuh"'
ARCHITECTURES = ("sm_80", "sm_90")
OPTIONS = ("-ftz=true", "--ptxas-options=--warn-on-spills", "--ptxas-options=--warn-on-local-memory-usage")


def checked(result: tuple[Any, ...]) -> Any:
    status, *values = result
    assert status == nvrtc.nvrtcResult.NVRTC_SUCCESS, status
    return values[0] if values else None


def compiled(text: str, options: tuple[str, ...]) -> tuple[bytes, str]:
    """The machine code, and what the compiler had to say."""
    program = checked(nvrtc.nvrtcCreateProgram(text.encode(), b"kernels.cu", 0, [], []))
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
    log = bytearray(checked(nvrtc.nvrtcGetProgramLogSize(program)))
    checked(nvrtc.nvrtcGetProgramLog(program, log))
    said = log.rstrip(b"\0").decode()
    assert status == nvrtc.nvrtcResult.NVRTC_SUCCESS, said
    code = bytearray(checked(nvrtc.nvrtcGetCUBINSize(program)))
    checked(nvrtc.nvrtcGetCUBIN(program, code))
    checked(nvrtc.nvrtcDestroyProgram(program))
    return bytes(code), said


def check_compiles(file: str, architecture: str, *options: str) -> None:
    """Without a warning: what a kernel computes with is in registers."""
    text = source(file)
    code, said = compiled(text, (*options, f"--gpu-architecture={architecture}", *OPTIONS))
    assert code.startswith(b"\x7fELF")
    kernels = kernel_names(text)
    assert kernels
    for kernel in kernels:
        assert f".text.{kernel}".encode() in code
    assert not said


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("widest", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("file", [name for name in FILES if name not in PERSISTENT])
def test_compiles(file: str, dtype: str, widest: bool, architecture: str) -> None:
    check_compiles(file, architecture, *definitions(dtype, DTYPES[dtype] if widest else 1))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("hidden_size", [1, 512, 650, 1024])
@pytest.mark.parametrize("file", PERSISTENT)
def test_compiles_for_a_hidden_size(file: str, hidden_size: int, dtype: str, architecture: str) -> None:
    """At the largest sizes too, the registers hold the weights of a block."""
    plan = persistent.plan(hidden_size, 16, dtype, multiprocessors=132, shared_bytes=227 * 1024)
    assert plan is not None
    check_compiles(file, architecture, *definitions(dtype, **plan.constants))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_function_of_generated_kernels_compiles(dtype: str) -> None:
    calls = re.findall(r"inline Wide (\w+)\((.*?)\)", with_includes(HEADER).split("namespace of_real")[1])
    assert calls
    lines = [f"out[r] = OF_REAL({name})(x[r]{', (REAL)INFINITY' if ',' in given else ''});" for name, given in calls]
    head = 'extern "C" __global__ void every(const Real* x, const bool* flags, Real* out)'
    body = "\n".join(["const Index r = thread_number();", *lines, "if (flags[r]) out[r] = (REAL)NAN;"])
    options = (*definitions(dtype), "--gpu-architecture=sm_90", "-ftz=true")
    code, said = compiled(complete(f"{HEADER}\n{head} {{\n{body}\n}}"), options)
    assert b".text.every" in code
    assert not said


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["lstm", "gru_reset_after", "slstm", "lem"])
def test_generated_kernels_compile(name: str, dtype: str, large: bool) -> None:
    cell = ATLAS[name](3, 160).to("emulated", dtype=dtype)
    x = tg.zeros(1, 2, 3, dtype=dtype, device="emulated")

    def step(inputs: Any, states: Any, others: Any) -> Any:
        after = as_parts(cell(inputs[0], tuple(states) if len(states) > 1 else states[0]))
        return after[0], *after

    fused, _ = fused_step(step, [x], as_parts(cell(x[0])), [])
    text = complete(fused.functions(True).kernels)
    macros = definitions(dtype, DTYPES[dtype], LARGE=1) if large else definitions(dtype)
    code, said = compiled(text, (*macros, "--gpu-architecture=sm_90", *OPTIONS))
    assert {"forward_step", "backward_step"} <= set(kernel_names(text))
    for kernel in kernel_names(text):
        assert f".text.{kernel}".encode() in code
    assert not said


def test_mistakes_are_seen() -> None:
    with pytest.raises(AssertionError, match="undefined"):
        compiled(source("dropout") + "__global__ void wrong() { missing(); }", definitions("float32"))
    plan = persistent.plan(1024, 16, "float32", multiprocessors=132, shared_bytes=227 * 1024)
    assert plan is not None
    constants = replace(plan, units=16).constants
    too_many = (*definitions("float32", **constants), "--gpu-architecture=sm_90", *OPTIONS)
    assert "spilled" in compiled(source("persistent_lstm"), too_many)[1]
