"""Tables of 64-bit numbers in files, sorted by the first: written by parts, read by ranges over all parts.

A file holds its columns one behind the other, little-endian, so that a mapped file gives any range of any column.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline import mapping

Numbers = npt.NDArray[np.uint64]


def write(path: Path, columns: Sequence[Numbers]) -> None:
    """Writes records in the order of the first column; equal ones stay in theirs."""
    order = np.argsort(columns[0], kind="stable")
    with path.open("wb") as file:
        for column in columns:
            file.write(column[order].astype("<u8", copy=False).data)


def mapped(path: Path, columns: int) -> Numbers:
    """(columns, records) of a file, which is read where it is looked at."""
    count = path.stat().st_size // (8 * columns)
    if count == 0:
        return np.zeros((columns, 0), np.uint64)
    return mapping.mapped(path, "<u8").reshape(columns, count)


def between(file: Numbers, low: int, high: int) -> slice:
    """The records whose first number is from `low` to below `high`."""
    start = int(np.searchsorted(file[0], np.uint64(low)))
    stop = file.shape[1] if high >= 1 << 64 else int(np.searchsorted(file[0], np.uint64(high)))
    return slice(start, stop)


def bounds(number: int, count: int) -> tuple[int, int]:
    """The `number`-th of `count` equal ranges of 64-bit numbers."""
    return number * (1 << 64) // count, (number + 1) * (1 << 64) // count


def in_pieces(files: Sequence[Numbers], low: int, high: int, budget: int) -> Iterator[list[slice]]:
    """For each of the files where a piece of the range lies, piece by piece: about `budget` records at a time, and all
    that share a first number together."""
    whole = [between(file, low, high) for file in files]
    total = sum(part.stop - part.start for part in whole)
    pieces = max(1, -(-total // budget))
    for piece in range(pieces):
        start, stop = (low + (high - low) * step // pieces for step in (piece, piece + 1))
        yield whole if pieces == 1 else [between(file, start, stop) for file in files]
