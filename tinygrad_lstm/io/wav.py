"""Sound files, .wav.

Reference: "Multimedia Programming Interface and Data Specifications 1.0" (1991), and mmreg.h for the formats.
"""

from pathlib import Path

import numpy as np

from tinygrad_lstm.backends.base import HostArray

from ..files import read_file
from .errors import ContentError, naming_file

__all__ = ["RIFF", "read_wav"]

RIFF = b"RIFF"
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_FORMATS = {2: "ADPCM", 6: "A-law", 7: "mu-law", 0x11: "ADPCM", 0x31: "GSM", 0x55: "MP3"}


def read_wav(path: Path) -> tuple[HostArray, int]:
    """The samples of a sound, float32 from -1 to 1, and the number of samples a second.

    Returns:
        The samples, (T,) of one channel, (T, C) of several; and the rate.

    Raises:
        OSError: the file is not there or cannot be read.
        ValueError: it is cut off or damaged; or its samples are not PCM of 8, 16, 24 or 32 bits, nor floats.
    """
    with naming_file(path):
        content = read_file(path)
        if content[:4] != RIFF or content[8:12] != b"WAVE":
            raise ContentError("not a .wav file")
        chunks = _chunks(memoryview(content))
        if missing := [name for name in (b"fmt ", b"data") if name not in chunks]:
            raise ContentError(f"a .wav file without the chunks {', '.join(map(repr, missing))}")
        return _samples(chunks[b"fmt "], chunks[b"data"])


def _chunks(content: memoryview) -> dict[bytes, memoryview]:
    """The first chunk of each name."""
    chunks: dict[bytes, memoryview] = {}
    at = 12
    while at + 8 <= len(content):
        name, size = bytes(content[at : at + 4]), int.from_bytes(content[at + 4 : at + 8], "little")
        chunk = content[at + 8 : at + 8 + size]
        # A program that writes a sound while it comes in does not know its size, and sets all bits.
        if len(chunk) < size and not (name == b"data" and size == 0xFFFFFFFF):
            raise ContentError(f"cut off: its chunk {name!r} of {size} bytes has only {len(chunk)}")
        chunks.setdefault(name, chunk)
        at += 8 + size + size % 2
    return chunks


def _samples(header: memoryview, data: memoryview) -> tuple[HostArray, int]:
    if len(header) < 16:
        raise ContentError("damaged: its chunk 'fmt ' is too short")
    kind, channels, rate, block, bits = (
        int.from_bytes(header[start:end], "little") for start, end in ((0, 2), (2, 4), (4, 8), (12, 14), (14, 16))
    )
    if kind == _EXTENSIBLE and len(header) >= 26:
        kind = int.from_bytes(header[24:26], "little")
    width = bits // 8
    known = bits in (8, 16, 24, 32) if kind == _PCM else kind == _FLOAT and bits in (32, 64)
    if not known:
        named = {_PCM: "PCM", _FLOAT: "floats", **_FORMATS}.get(kind, f"the format {kind}")
        raise ContentError(f"its samples are {named} of {bits} bits; expected PCM of 8, 16, 24 or 32 bits, or floats")
    if not channels or not rate or block != channels * width:
        raise ContentError(f"damaged: {channels} channels of {bits} bits in {block} bytes, {rate} samples a second")
    data = data[: len(data) // block * block]
    samples: HostArray
    if kind == _FLOAT:
        samples = np.frombuffer(data, f"<f{width}").astype(np.float32)
    elif width == 1:
        samples = (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
    else:
        # The bytes of a sample are the upper ones of 32 bits.
        wide = np.zeros((len(data) // width, 4), np.uint8)
        wide[:, 4 - width :] = np.frombuffer(data, np.uint8).reshape(-1, width)
        samples = (wide.view("<i4")[:, 0] / 2.0**31).astype(np.float32)
    return samples if channels == 1 else samples.reshape(-1, channels), rate
