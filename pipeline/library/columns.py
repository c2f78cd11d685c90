"""From a caller's columns to those that stages know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.schema import BATCH_BYTES, READ, document_id

ROWS = 1_000
"""Most rows of a batch that stages are given."""


def is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or kind == pa.null()
    )


def takable(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch without the layouts that Arrow cannot take rows of: views of strings and bytes, and run ends."""
    for place, field in enumerate(batch.schema):
        if pa.types.is_run_end_encoded(field.type):
            batch = batch.set_column(place, field.name, pc.run_end_decode(batch.column(place)))
    schema = pa.schema([field.with_type(_plain(field.type)) for field in batch.schema])
    return batch if schema == batch.schema else batch.cast(schema)


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type with plain strings and bytes in place of views, within lists and structs too."""
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_plain(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain(field.type)) for field in kind])
    return {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}.get(kind, kind)


def text_type(schema: pa.Schema, name: str) -> pa.DataType:
    """The type of the texts that are given back."""
    large = name in schema.names and schema.field(name).type == pa.large_string()
    return pa.large_string() if large else pa.string()


def is_flat(kind: pa.DataType) -> bool:
    """Whether Arrow tells the lengths of its values."""
    return kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())


def is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def payload(column: pa.Array) -> pa.Array:
    """Pages as bytes."""
    return column.cast(pa.string()).cast(pa.binary()) if is_text(column.type) else column.cast(pa.binary())


def fitted(column: pa.Array | None, kind: pa.DataType, rows: int) -> pa.Array:
    """A column as stages know it; null where there is none, or one that means something else."""
    if column is not None and column.type == kind:
        return column
    if column is not None and (
        (pa.types.is_string(kind) and is_text(column.type))
        or (pa.types.is_binary(kind) and is_bytes(column.type))
        or (pa.types.is_timestamp(kind) and pa.types.is_timestamp(column.type) and column.type.tz is not None)
    ):
        return pc.cast(column, kind, safe=not pa.types.is_timestamp(kind))
    return pa.nulls(rows, kind)


def ids(columns: Sequence[pa.Array]) -> pa.Array:
    """The ids of documents, made of their contents where they have none."""
    values = dict(zip(READ.names, columns, strict=True))
    names = ("id", "source", "url", "date", "payload", "text")
    found = [
        own or document_id(source or "", url, None if date is None else date.isoformat(), page or (text or "").encode())
        for own, source, url, date, page, text in zip(*(values[name].to_pylist() for name in names), strict=True)
    ]
    return pa.array(found, pa.binary(16))


def pieces(batch: pa.RecordBatch, sized: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The batch in pieces of at most ROWS rows and, of more than one row, a quarter of BATCH_BYTES."""
    sizes = np.zeros(batch.num_rows, np.int64)
    for name in sized:
        if name in batch.schema.names and is_flat(batch.schema.field(name).type):
            sizes += pc.fill_null(pc.binary_length(batch.column(name)), 0).to_numpy(zero_copy_only=False)
    ends = np.cumsum(sizes)
    start = 0
    while start < batch.num_rows:
        before = ends[start - 1] if start else 0
        stop = int(np.searchsorted(ends, before + BATCH_BYTES // 4, "right"))
        stop = min(max(stop, start + 1), start + ROWS, batch.num_rows)
        yield batch.slice(start, stop - start)
        start = stop
