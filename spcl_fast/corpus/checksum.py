"""The checksum of every file of a store: CRC-32C, the cyclic redundancy check of iSCSI, ext4 and Parquet's kin."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import numpy as np

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed (RFC 3720, appendix B.4)


def checksum(buffer: Any) -> str:
    """CRC-32C of some bytes, as a text: `"crc32c:"` and eight hexadecimal digits.

    It finds every error burst of up to 32 bits, so every wrong byte, and all but 2^-32 of anything else. It is no
    protection against somebody who wants the bytes to pass.

    Args:
        buffer: bytes, an array, or anything else with a contiguous buffer; read in place. May be empty.

    Returns:
        The text; the same by the compiled module, which is used where it is built, and by `crc32c_reference`.

    Raises:
        TypeError: something without a buffer.
        ValueError: a buffer with gaps.

    Example:
        >>> from spcl_fast.corpus.checksum import checksum
        >>> checksum(b"123456789")
        'crc32c:e3069283'
    """
    return f"crc32c:{_fastest()(_bytes(buffer)):08x}"


def crc32c_reference(buffer: Any, before: int = 0) -> int:
    """The same number in NumPy, slower, and what the compiled one is held to.

    A CRC is linear, so equal pieces are taken side by side, a byte of each at a time, and joined two by two: the CRC
    of a piece that is followed by n bytes is its own, shifted by n bytes.

    Args:
        buffer: as for `checksum`.
        before: the CRC of bytes that stand before these; 0 of none.

    Returns:
        The CRC of all of them, an integer in [0, 2^32).

    Raises:
        TypeError: something without a buffer.
        ValueError: a buffer with gaps.

    Example:
        >>> from spcl_fast.corpus.checksum import crc32c_reference
        >>> hex(crc32c_reference(b"123456789"))
        '0xe3069283'
    """
    data = _bytes(buffer)
    pieces = 1 << (len(data).bit_length() // 2 - 3) if len(data) >= 4096 else 1
    size = len(data) // pieces
    crc = np.zeros(pieces, np.uint32)
    crc[0] = before ^ 0xFFFFFFFF
    if pieces > 1:
        table = _table()
        for column in np.ascontiguousarray(data[: pieces * size].reshape(pieces, size).T):
            crc = table[(crc & 0xFF) ^ column] ^ (crc >> 8)
        shift = _shift_by(size)
        while len(crc) > 1:
            crc = _apply(shift, crc[::2]) ^ crc[1::2]
            shift = _apply(shift, shift)
    last, of_byte = int(crc[0]), _table().tolist()
    for byte in data[pieces * size if pieces > 1 else 0 :].tolist():
        last = of_byte[(last ^ byte) & 0xFF] ^ (last >> 8)
    return last ^ 0xFFFFFFFF


def joined(first: int, second: int, size: int) -> int:
    """The CRC-32C of bytes that are followed by others, from the CRCs of both.

    Args:
        first: of the bytes before, in [0, 2^32).
        second: of those that follow.
        size: how many bytes follow.

    Returns:
        The CRC of all of them.

    Example:
        >>> from spcl_fast.corpus.checksum import crc32c_reference, joined
        >>> hex(joined(crc32c_reference(b"1234"), crc32c_reference(b"56789"), 5))
        '0xe3069283'
    """
    return _product(first, _past(size)) ^ second


def _bytes(buffer: Any) -> np.ndarray:
    view = memoryview(buffer)
    if not view.c_contiguous:
        raise ValueError(f"checksum: buffer must be contiguous (got strides {view.strides})")
    return np.frombuffer(view, np.uint8) if view.nbytes else np.zeros(0, np.uint8)


@cache
def _fastest() -> Callable[..., int]:
    try:
        from spcl_fast._arrays import crc32c
    except ImportError:
        return crc32c_reference
    return crc32c


def _product(a: int, b: int) -> int:
    """Of two polynomials over the field of two elements, modulo the CRC's; the bit of x^0 is the highest."""
    result = 0
    while a:
        if a & 0x80000000:
            result ^= b
        a = a << 1 & 0xFFFFFFFF
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return result


@lru_cache
def _past(size: int) -> int:
    """x^(8 size), which a CRC is multiplied by when so many bytes of zeros follow."""
    if size < 2:
        return 0x00800000 if size else 0x80000000
    half = _past(size // 2)
    return _product(_product(half, half), _past(size % 2))


@cache
def _table() -> np.ndarray:
    """What eight zero bits make of the lowest byte: uint32 [256]."""
    crc = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        crc = (crc >> np.uint32(1)) ^ np.where(crc & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    return crc


def _shift_by(count: int) -> np.ndarray:
    """What `count` zero bytes make of each of the 32 bits, uint32 [32]: a matrix over the field of two elements."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    by_power = _table()[bits & 0xFF] ^ (bits >> 8)
    result = bits
    while count:
        if count & 1:
            result = _apply(by_power, result)
        by_power = _apply(by_power, by_power)
        count >>= 1
    return result


def _apply(matrix: np.ndarray, crc: np.ndarray) -> np.ndarray:
    result = np.zeros_like(crc)
    for bit in range(32):
        result ^= np.where((crc >> bit) & 1, matrix[bit], np.uint32(0))
    return result
