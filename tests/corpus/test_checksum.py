"""CRC-32C: known values, the definition, and every implementation against the others."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("pyarrow")

from spcl_fast.corpus.checksum import checksum, crc32c_reference, joined

# RFC 3720, appendix B.4, whose bytes are little-endian; and the check value of the catalogues of CRCs.
KNOWN = [
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(range(31, -1, -1)), 0x113FDB5C),
    (b"123456789", 0xE3069283),
    (b"", 0),
]
# Around what is taken at once: 8 bytes, three lanes of 4096, the reference's smallest number of pieces.
SIZES = [1, 7, 8, 9, 63, 4095, 4096, 4097, 12287, 12288, 12289, 24576, 40001]


def by_definition(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@pytest.fixture(params=["compiled", "reference"])
def crc32c(request):
    if request.param == "reference":
        return crc32c_reference
    arrays = pytest.importorskip("spcl_fast._arrays")
    return lambda data, *before: arrays.crc32c(np.frombuffer(data, np.uint8), *before)


@pytest.mark.parametrize(("data", "value"), KNOWN, ids=lambda x: str(x)[:12])
def test_known_values(crc32c, data, value):
    assert crc32c(data) == value
    assert checksum(data) == f"crc32c:{value:08x}"


@pytest.mark.parametrize("size", SIZES)
def test_every_size_is_as_defined(crc32c, size):
    data = np.random.default_rng(size).bytes(size)
    assert crc32c(data) == by_definition(data)


@pytest.mark.parametrize("size", SIZES)
def test_bytes_may_come_in_parts(crc32c, size):
    data = np.random.default_rng(size).bytes(size)
    whole = crc32c_reference(data)
    for cut in sorted({0, 1, size // 3, size - 1, size}):
        first, second = data[:cut], data[cut:]
        assert crc32c(second, crc32c(first)) == whole
        assert joined(crc32c(first), crc32c(second), len(second)) == whole


def test_start_of_the_memory_does_not_matter(crc32c):
    data = np.random.default_rng(0).bytes(30_000)
    for start in range(9):
        assert crc32c(memoryview(data)[start : start + 25_000]) == crc32c(data[start : start + 25_000])


@pytest.mark.parametrize("instruction_set", ["baseline", "avx2", "avx512"])
def test_instruction_sets_agree(instruction_set):
    pytest.importorskip("spcl_fast._arrays")
    code = """
import numpy as np
from spcl_fast import _arrays
data = np.random.default_rng(5).integers(256, size=100_003, dtype=np.uint8)
print(*(_arrays.crc32c(data[a:b]) for a, b in ((0, 100_003), (3, 12_300), (1, 9), (5, 5))))
"""
    env = {**os.environ, "SPCL_FAST_ISA": instruction_set}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    if done.returncode and "SPCL_FAST_ISA" in done.stderr:
        pytest.skip("this machine has no " + instruction_set)
    data = np.random.default_rng(5).integers(256, size=100_003, dtype=np.uint8)
    wanted = [crc32c_reference(data[a:b]) for a, b in ((0, 100_003), (3, 12_300), (1, 9), (5, 5))]
    assert [int(word) for word in done.stdout.split()] == wanted, done.stderr


def test_arrays_of_any_dtype_are_their_bytes():
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert checksum(values) == checksum(values.tobytes())
    assert checksum(values[:0]) == "crc32c:00000000"
    with pytest.raises(ValueError, match="checksum: buffer must be contiguous"):
        checksum(values[:, ::2])
    with pytest.raises(TypeError):
        checksum("text")
