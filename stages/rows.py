"""Between Arrow columns and Python strings, for stages whose library needs strings: convert once, go back once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from stages.base import Outcome, with_column

Drop = tuple[int, str, float | None, float | None]
"""(row, reason, value, limit), as `Outcome.dropped` lists them."""


def strings(batch: pa.RecordBatch, name: str) -> list[str | None]:
    """The values of a text column, all null where the batch has no such column."""
    index = batch.schema.get_field_index(name)
    return [None] * batch.num_rows if index < 0 else batch.column(index).to_pylist()


def text_array(values: Sequence[str | None]) -> pa.Array:
    """A string column. Lone surrogates, which no Arrow string can hold, become U+FFFD."""
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        mended = [v and v.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for v in values]
        return pa.array(mended, pa.string())


def outcome(
    batch: pa.RecordBatch,
    drops: Sequence[Drop],
    columns: Mapping[str, pa.Array] | None = None,
    counts: Mapping[str, int] | None = None,
) -> Outcome:
    """The batch with whole `columns` put in, less the dropped rows. Figures that are 0 are left out of `counts`."""
    for name, column in (columns or {}).items():
        batch = with_column(batch, name, column)
    if drops:
        keep = np.ones(batch.num_rows, np.bool_)
        keep[[drop[0] for drop in drops]] = False
        batch = batch.filter(pa.array(keep))
    return Outcome(batch, sorted(drops, key=lambda drop: drop[0]), {k: n for k, n in (counts or {}).items() if n})
