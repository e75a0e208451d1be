"""CRC-32C, the checksum in TensorFlow's files.

Reference: https://reveng.sourceforge.io/crc-catalogue/17plus.htm (CRC-32/ISCSI); tensorflow/core/lib/hash/crc32c.h
"""

import numpy as np

from tinygrad_lstm.backends.base import HostArray

__all__ = ["masked_crc32c"]

POLYNOMIAL = 0x82F63B78
MASK_DELTA = 0xA282EAD8
ALL_ONES = 0xFFFFFFFF
FEWEST_IN_PARALLEL = 4096


def _table() -> HostArray:
    table: HostArray = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> 1) ^ np.where(table & 1, POLYNOMIAL, 0).astype(np.uint32)
    return table


TABLE = _table()
ENTRIES: list[int] = TABLE.tolist()


def masked_crc32c(content: bytes | bytearray | memoryview) -> int:
    """The checksum of bytes as TensorFlow stores it: rotated, and a constant is added."""
    crc = _crc32c(content)
    return (((crc >> 15) | (crc << 17)) + MASK_DELTA) & ALL_ONES


def _crc32c(content: bytes | bytearray | memoryview) -> int:
    """The register is linear in the bytes, so that equal parts are processed side by side and then joined."""
    register, rest = ALL_ONES, memoryview(content)
    if len(rest) >= FEWEST_IN_PARALLEL:
        parts = 2 ** ((len(rest).bit_length() + 1) // 2)
        size = len(rest) // parts
        columns = np.frombuffer(rest[: parts * size], np.uint8).reshape(parts, size).T
        registers: HostArray = np.zeros(parts, np.uint32)
        for column in columns:
            registers = TABLE[(registers ^ column) & 0xFF] ^ (registers >> 8)
        shift = _shift(size)
        while len(registers) > 1:
            registers = _applied(shift, registers[::2]) ^ registers[1::2]
            shift = _applied(shift, shift)
        register = int(_applied(shift, np.array([register], np.uint32))[0] ^ registers[0])
        rest = rest[parts * size :]
    for byte in rest:
        register = ENTRIES[(register ^ byte) & 0xFF] ^ (register >> 8)
    return register ^ ALL_ONES


def _shift(size: int) -> HostArray:
    """What this number of zero bytes make of a register: the results for each of its bits."""
    bits: HostArray = np.uint32(1) << np.arange(32, dtype=np.uint32)
    result, power = bits, TABLE[bits & 0xFF] ^ (bits >> 8)
    while size:
        if size & 1:
            result = _applied(power, result)
        power = _applied(power, power)
        size >>= 1
    return result


def _applied(shift: HostArray, registers: HostArray) -> HostArray:
    result: HostArray = np.zeros_like(registers)
    for bit in range(32):
        result ^= ((registers >> np.uint32(bit)) & np.uint32(1)) * shift[bit]
    return result
