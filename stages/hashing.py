"""Keyed hashes: every choice that a run makes by chance is one of these, over a document's id.

One key for each purpose, so that being sampled says nothing about where a document lands in the shuffle.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

PURPOSES = ("shuffle", "sample", "split", "tokenizer", "try", "probe", "swap")


def keyed(purpose: str, seed: int, data: bytes) -> int:
    """A 64-bit xxHash3 of `data` under the key of `purpose` and the recipe's seed."""
    if purpose not in PURPOSES:
        raise ValueError(f"no such purpose: {purpose!r}; one of {', '.join(PURPOSES)}")
    key = xxhash.xxh3_64_intdigest(f"corpusmill/{purpose}/{seed}".encode())
    return xxhash.xxh3_64_intdigest(data, seed=key)


def keyed_all(purpose: str, seed: int, values: Iterable[bytes]) -> npt.NDArray[np.uint64]:
    """`keyed` for each value, as one array."""
    if purpose not in PURPOSES:
        raise ValueError(f"no such purpose: {purpose!r}; one of {', '.join(PURPOSES)}")
    key = xxhash.xxh3_64_intdigest(f"corpusmill/{purpose}/{seed}".encode())
    digest = xxhash.xxh3_64_intdigest
    return np.fromiter((digest(value, seed=key) for value in values), np.uint64)


def threshold(share: float) -> int:
    """The integer below which a 64-bit hash falls with probability `share` (0 to 1)."""
    if not 0 <= share <= 1:
        raise ValueError(f"a share lies between 0 and 1, not {share}")
    return min(int(share * 2.0**64), 2**64)


def id_list(column: pa.Array) -> list[bytes]:
    """The ids of a `binary(16)` column as Python bytes."""
    ids: list[bytes] = column.to_pylist()
    return ids
