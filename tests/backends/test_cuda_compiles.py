"""Every CUDA kernel compiles to machine code, as CuPy would have it compiled, on a machine without a GPU."""

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from cuda.bindings import nvrtc

from tinygrad_lstm.backends import cuda
from tinygrad_lstm.backends.cuda.launching import definitions, source

FILES = sorted(path.stem for path in Path(cuda.__file__).parent.glob("*.cu"))
DTYPES = {"float16": 8, "float32": 4, "float64": 2}  # with the width of a pack
ARCHITECTURES = ("sm_80", "sm_90")


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


def variants() -> list[tuple[str, str, int]]:
    return [
        (file, dtype, width)
        for file, (dtype, widest) in itertools.product(FILES, DTYPES.items())
        for width in (1, widest)
    ]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("file, dtype, width", variants())
def test_compiles(file: str, dtype: str, width: int, architecture: str) -> None:
    text = source(file)
    code, said = compiled(text, (*definitions(dtype, width), f"--gpu-architecture={architecture}", "-ftz=true"))
    assert code.startswith(b"\x7fELF")
    kernels = re.findall(r"__global__ void (\w+)\(", text)
    assert kernels
    for kernel in kernels:
        assert f".text.{kernel}".encode() in code
    assert not said


def test_a_mistake_is_seen() -> None:
    with pytest.raises(AssertionError, match="undefined"):
        compiled(source("lstm") + "__global__ void wrong() { missing(); }", definitions("float32"))
