"""Ids and digests of 16 bytes as arrays: from Arrow, to bytes for hashing, to integers for sorting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ids = npt.NDArray[np.uint8]
"""Shape (n, 16): one id or digest a row."""

AnyIds: TypeAlias = Ids | Sequence[bytes] | pa.Array | pa.ChunkedArray
"""Ids as callers have them: an array (n, 16), bytes of length 16, or a `binary(16)` column."""


def matrix(values: AnyIds) -> Ids:
    """Ids as an array (n, 16), from whatever holds them; a null in a column is sixteen zero bytes."""
    if isinstance(values, np.ndarray):
        if values.ndim != 2 or values.shape[1] != 16 or values.dtype != np.uint8:
            raise TypeError(f"ids are uint8 of shape (n, 16), not {values.dtype} of shape {values.shape}")
        return values
    if not isinstance(values, pa.Array | pa.ChunkedArray):
        return np.frombuffer(b"".join(values), np.uint8).reshape(-1, 16)
    column = pa.concat_arrays(values.chunks) if isinstance(values, pa.ChunkedArray) and values.num_chunks else values
    if column.type != pa.binary(16):
        raise TypeError(f"expected a binary(16) column, got {column.type}")
    if len(column) == 0:
        return np.zeros((0, 16), np.uint8)
    if column.null_count:
        column = column.fill_null(bytes(16))
    return np.frombuffer(column.buffers()[1], np.uint8, 16 * len(column), 16 * column.offset).reshape(-1, 16)


def rows(ids: Ids) -> Iterator[bytes]:
    """Each row as bytes."""
    data = np.ascontiguousarray(ids).tobytes()
    return (data[start : start + 16] for start in range(0, len(data), 16))


def halves(ids: Ids) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """The first and the last 8 bytes of each row as integers that sort as the bytes do."""
    words = np.ascontiguousarray(ids).view(">u8").astype(np.uint64)
    return words[:, 0], words[:, 1]


def ascending(ids: Ids) -> npt.NDArray[np.int64]:
    """The rows in ascending order of their bytes (stable)."""
    high, low = halves(ids)
    return np.lexsort((low, high))


def starts(*columns: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """(n,) whether a row begins a run: differs from the row before it in one of the sorted columns."""
    begins = np.ones(len(columns[0]), bool)
    if len(begins):
        begins[1:] = False
        for column in columns:
            begins[1:] |= column[1:] != column[:-1]
    return begins
