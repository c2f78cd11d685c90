"""Blocks that belong together: equal keys make a group, and siblings of one make have equal keys."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from stages.kernels import inline


@inline
def signature(
    e: int, tag: npt.NDArray[np.uint8], parent: npt.NDArray[np.int32], word: npt.NDArray[np.uint32],
    word_start: npt.NDArray[np.int32],
) -> int:  # fmt: skip
    """A hash of the element's tag and first class word, and of its parent's and grandparent's: equal for siblings."""
    value = np.uint64(14695981039346656037)
    for _ in range(3):
        if e < 0:
            break
        value = (value ^ np.uint64(tag[e] + 1)) * np.uint64(1099511628211)
        value = (value ^ np.uint64(word[word_start[e]])) * np.uint64(1099511628211)
        e = parent[e]
    return np.int64(value >> np.uint64(2))


@inline
def groups(keys: npt.NDArray[np.int64]) -> Any:
    """The number of the group of equal keys that each key belongs to, and how many groups there are."""
    order = np.argsort(keys, kind="mergesort")
    group = np.zeros(len(keys), np.int32)
    number = -1
    for i in range(len(keys)):
        if i == 0 or keys[order[i]] != keys[order[i - 1]]:
            number += 1
        group[order[i]] = number
    return group, number + 1


@inline
def ratio(a: float, b: float) -> float:
    """a / b in float32, which every machine rounds alike; 0 where b is none."""
    return np.float32(a) / np.float32(b) if b > 0 else np.float32(0)
