"""Small hash tables inside of kernels: 64-bit hashes to numbers, open addressing, each table a power of two in size.

For lists of some thousands; `lookup` is for millions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.kernels import inline

Hashes = npt.NDArray[np.uint64]


def table(entries: Mapping[int, int]) -> tuple[Hashes, npt.NDArray[np.int32]]:
    """The slots of some hashes with numbers above 0: (hashes, numbers), 0 for an empty slot."""
    size = 4
    while size < 2 * len(entries):
        size *= 2
    keys, numbers = np.zeros(size, np.uint64), np.zeros(size, np.int32)
    for key, number in entries.items():
        slot = key >> 20 & size - 1
        while numbers[slot]:
            slot = slot + 1 & size - 1
        keys[slot], numbers[slot] = key, number
    return keys, numbers


@inline
def slot_of(keys: Hashes, numbers: npt.NDArray[np.int32], first: int, size: int, key: Any) -> Any:
    """Where a hash is, or may be put, in the table that begins at `first`: a slot that is empty has the number 0."""
    slot = np.int64(key >> np.uint64(20)) & size - 1
    while numbers[first + slot] and keys[first + slot] != key:
        slot = slot + 1 & size - 1
    return first + slot
