"""What is found goes out of the text: by placeholder, by fake, or with its document. Shared with `stages.secrets`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa

from stages.base import Outcome
from stages.pii.found import Found
from stages.rows import Drop, outcome
from stages.text.column import Edits, edited

Mode = Literal["placeholder", "fake", "drop", "tag"]

SPAN = pa.struct([pa.field("type", pa.string()), pa.field("start", pa.int32()), pa.field("end", pa.int32())])
"""One thing found: its type, and the code points of the text as written out that stand in its place."""


def replaced(
    batch: pa.RecordBatch,
    found: Mapping[int, tuple[str, Sequence[Found]]],
    written: Callable[[int, Found], str] | None,
    column: str,
    drop: tuple[str, int] | None,
) -> Outcome:
    """The batch with what was found replaced by what `written(row, found)` gives; None leaves the text.

    `found` holds text and finds of the rows that have some. Adds `column`, a list of `SPAN`. With `drop` (reason,
    most finds) documents with more are dropped instead. Rows without text are dropped as `no_text`, rows of which
    nothing is left as `empty_text`. Counts finds by type, and `characters_cut`: those of the values replaced.
    """
    texts = batch.column("text")
    drops: list[Drop] = []
    if texts.null_count:
        nulls = texts.is_null().to_numpy(zero_copy_only=False)
        drops += [(int(row), "no_text", None, None) for row in np.flatnonzero(nulls)]
    counts: Counter[str] = Counter()
    pool: dict[bytes, int] = {}
    edits: list[tuple[int, int, int, int]] = []
    types: list[str] = []
    places: list[tuple[int, int]] = []
    sizes = np.zeros(batch.num_rows, np.int32)
    for row, (text, finds) in found.items():
        counts.update(one.type for one in finds)
        if drop is not None and len(finds) > drop[1]:
            drops.append((row, drop[0], float(len(finds)), float(drop[1])))
        sizes[row] = len(finds)
        types += [one.type for one in finds]
        if written is None:
            places += [(one.start, one.end) for one in finds]
            continue
        at = byte = shift = left = 0
        blank = True
        for one in finds:
            new = written(row, one)
            between = text[at : one.start]
            first = byte + len(between.encode())
            byte = first + len(text[one.start : one.end].encode())
            at = one.end
            edits.append((row, first, byte, pool.setdefault(new.encode(), len(pool))))
            places.append((one.start + shift, one.start + shift + len(new)))
            shift += len(new) - (one.end - one.start)
            left += one.end - one.start
            blank = blank and not between.strip() and not new.strip()
        counts["characters_cut"] += left
        if blank and not text[at:].strip():
            drops.append((row, "empty_text", None, None))
    columns: dict[str, pa.Array] = {}
    if edits:
        columns["text"] = edited(texts, Edits(*np.array(edits, np.int64).T), list(pool))
    starts, ends = np.array(places, np.int32).reshape(-1, 2).T
    spans = pa.StructArray.from_arrays([pa.array(types, pa.string()), pa.array(starts), pa.array(ends)], fields=[*SPAN])
    offsets = np.zeros(batch.num_rows + 1, np.int32)
    np.cumsum(sizes, out=offsets[1:])
    columns[column] = pa.ListArray.from_arrays(pa.array(offsets), spans)
    return outcome(batch, drops, columns, counts)
