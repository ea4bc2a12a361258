"""A seeded order of very many positions, of which none is kept: any part of it is computed when it is asked for."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

FEW = 1 << 16  # positions that are shuffled and kept: a network over so few numbers is not uniform
ROUNDS = 8
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class Permutation:
    """A permutation of 0 to n - 1, the same for the same n and entropy on every machine.

    Up to 2^16 positions are shuffled as ever. Beyond that it is a Feistel network (Luby and Rackoff 1988) of as many
    bits as n has, its rounds SplitMix64 (Steele, Lea and Flood 2014) of a key and one half, walked until it meets a
    number below n (Black and Rogaway 2002): fewer than two walks in the mean, a bijection whatever the rounds are.
    Memory does not grow with n.
    """

    def __init__(self, n: int, entropy: np.random.SeedSequence) -> None:
        self.n = n
        self._few: NDArray[np.int64] | None = None
        if n <= FEW:
            self._few = np.random.Generator(np.random.PCG64DXSM(entropy)).permutation(n)
            self.checksum = zlib.crc32(self._few.data)
            return
        bits = (n - 1).bit_length()
        self._low = np.uint64(bits // 2)
        self._widths = bits - bits // 2, bits // 2  # of the halves, the upper first
        self._keys = entropy.generate_state(ROUNDS, np.uint64)
        self.checksum = zlib.crc32(self._keys.data)

    def __call__(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """What stands at these positions, each in [0, n)."""
        if self._few is not None:
            return self._few[positions]
        found = self._network(positions.astype(np.uint64))
        while (beyond := np.flatnonzero(found >= np.uint64(self.n))).size:
            found[beyond] = self._network(found[beyond])
        return found.view(np.int64)

    def _network(self, x: NDArray[np.uint64]) -> NDArray[np.uint64]:
        halves = [x >> self._low, x & _ones(self._widths[1])]
        for i, key in enumerate(self._keys):
            changed, other = i % 2, 1 - i % 2
            halves[changed] ^= _mixed(halves[other] + key) >> np.uint64(64 - self._widths[changed])
        return halves[0] << self._low | halves[1]


def _ones(bits: int) -> np.uint64:
    return np.uint64((1 << bits) - 1)


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """What SplitMix64 makes of its counter, in place."""
    x ^= x >> np.uint64(30)
    x *= _FIRST
    x ^= x >> np.uint64(27)
    x *= _SECOND
    x ^= x >> np.uint64(31)
    return x
