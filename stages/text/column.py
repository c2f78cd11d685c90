"""A text column as bytes and offsets, and what edits by byte spans make of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.kernels import njit
from stages.text.utf8 import Bytes

Ints = npt.NDArray[np.int64]


class Texts(NamedTuple):
    """The n texts of a column where they lie: text i is `data[offsets[i]:offsets[i + 1]]`."""

    data: Bytes
    """The column's whole buffer; a slice of a column shares it."""
    offsets: Ints
    """n + 1 places in `data`; a null's text is empty."""
    valid: npt.NDArray[np.bool_]
    """False for nulls."""


def texts(column: pa.Array) -> Texts:
    """A view of a string column: no text is copied; slices and nulls are as Arrow has them."""
    kind = np.int64 if pa.types.is_large_string(column.type) or pa.types.is_large_binary(column.type) else np.int32
    _, places, data = column.buffers()
    count = len(column)
    if places is None or count == 0:
        offsets = np.zeros(count + 1, np.int64)
    else:
        item = np.dtype(kind).itemsize
        offsets = np.frombuffer(places, kind, count + 1, column.offset * item).astype(np.int64)
    content = np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(0, np.uint8)
    if not column.null_count:
        return Texts(content, offsets, np.ones(count, np.bool_))
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    if (np.diff(offsets)[~valid] != 0).any():  # allowed by the format, though nobody writes it
        return texts(column.fill_null(""))._replace(valid=valid)
    return Texts(content, offsets, valid)


def digests(view: Texts) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each text, by which a change of it shows."""
    found = np.empty(len(view.valid), np.uint64)
    _digest(view.data, view.offsets, found)
    return found


@njit
def _digest(data: Bytes, offsets: Ints, found: npt.NDArray[np.uint64]) -> None:
    for row in range(len(offsets) - 1):
        start, end = offsets[row], offsets[row + 1]
        value = np.uint64(end - start)
        at = start
        while at < end:
            part = np.uint64(0)
            for place in range(at, min(at + 8, end)):
                part = part << np.uint64(8) | np.uint64(data[place])
            value = (value ^ part) * np.uint64(0x9E3779B97F4A7C15)
            value ^= value >> np.uint64(32)
            at += 8
        found[row] = value


class Edits(NamedTuple):
    """Byte spans of the texts of a column and what takes their place, ascending and not overlapping."""

    rows: Ints
    starts: Ints
    """Counted from the start of the row's own text."""
    ends: Ints
    which: Ints
    """Number of the replacement."""


def edited(column: pa.Array, edits: Edits, replacements: Sequence[bytes] = (b"",)) -> pa.Array:
    """The column with the edits made; the column itself, not a copy, where there is none. Nulls stay null.

    Raises ValueError where edits are out of order, overlap, or lie outside of their text.
    """
    if not len(edits.rows):
        return column
    view = texts(column)
    pool = np.frombuffer(b"".join(replacements) or b"\0", np.uint8)
    ends = np.cumsum([0, *map(len, replacements)]).astype(np.int64)
    sizes = np.diff(view.offsets)
    arrays = Edits(*(np.ascontiguousarray(part, np.int64) for part in edits))
    total = int(sizes.sum() - (arrays.ends - arrays.starts).sum() + np.diff(ends)[arrays.which].sum())
    wrong = (arrays.starts < 0) | (arrays.ends < arrays.starts) | (arrays.ends > sizes[arrays.rows])
    same = arrays.rows[1:] == arrays.rows[:-1]
    wrong[1:] |= (arrays.rows[1:] < arrays.rows[:-1]) | (same & (arrays.starts[1:] < arrays.ends[:-1]))
    if wrong.any():
        raise ValueError(f"edit {int(np.flatnonzero(wrong)[0])} is out of order or outside of its text")
    if total > np.iinfo(np.int32).max:
        raise ValueError(f"the texts would have {total} bytes together, more than a batch may hold")
    data = np.empty(total, np.uint8)
    offsets = np.empty(len(column) + 1, np.int32)
    _edit(view.data, view.offsets, *arrays, pool, ends, data, offsets)
    nulls = None if view.valid.all() else pa.py_buffer(np.packbits(view.valid, bitorder="little"))
    return pa.Array.from_buffers(
        pa.string(), len(column), [nulls, pa.py_buffer(offsets), pa.py_buffer(data)], int((~view.valid).sum())
    )


@njit
def _edit(
    data: Bytes, offsets: Ints, rows: Ints, starts: Ints, ends: Ints, which: Ints, pool: Bytes, pools: Ints,
    out: Bytes, out_offsets: npt.NDArray[np.int32],
) -> None:  # fmt: skip
    at = 0
    edit = 0
    for row in range(len(offsets) - 1):
        out_offsets[row] = at
        place, end = offsets[row], offsets[row + 1]
        while edit < len(rows) and rows[edit] == row:
            start = offsets[row] + starts[edit]
            out[at : at + start - place] = data[place:start]
            at += start - place
            place = offsets[row] + ends[edit]
            first, last = pools[which[edit]], pools[which[edit] + 1]
            out[at : at + last - first] = pool[first:last]
            at += last - first
            edit += 1
        out[at : at + end - place] = data[place:end]
        at += end - place
    out_offsets[len(offsets) - 1] = at
