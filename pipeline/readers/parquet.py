"""Parquet files, a row group at a time."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UserError, nearest
from pipeline.readers.base import Gap, Origin, Piece, Read, Reader, Tally
from pipeline.readers.jsonl import mapped, mapping
from pipeline.readers.sources import File
from pipeline.readers.warc import tile
from stages.schema import document_id

_ROWS = 64


class Group(NamedTuple):
    """A row group: its number, its bytes from `start` to `end`, the bytes of its column chunks, its rows."""

    number: int
    start: int
    end: int
    size: int
    rows: int


class CorruptFooter(Exception):
    """A file whose footer is missing, unreadable, or points outside the file."""


def _open(path: str) -> tuple[pq.ParquetFile, list[Group]]:
    with File(path) as file:  # raises OSError where the file cannot be read, before Arrow wraps it
        size = file.size
    try:
        table = pq.ParquetFile(path, page_checksum_verification=True)
        groups = _groups(table, size)
    except (pa.ArrowException, OSError, ValueError, IndexError) as error:
        raise CorruptFooter from error
    return table, groups


def _groups(table: pq.ParquetFile, size: int) -> list[Group]:
    groups = []
    last = 0
    for number in range(table.metadata.num_row_groups):
        facts = table.metadata.row_group(number)
        spans = []
        for column in range(facts.num_columns):
            chunk = facts.column(column)
            dictionary = chunk.dictionary_page_offset if chunk.has_dictionary_page else None
            start = min(chunk.data_page_offset, dictionary or chunk.data_page_offset)
            spans.append((start, start + chunk.total_compressed_size))
        spans.sort()
        for start, end in spans:
            if start < last or end < start or end > size:
                raise CorruptFooter
            last = end
        if spans:
            total = sum(end - start for start, end in spans)
            groups.append(Group(number, spans[0][0], spans[-1][1], total, facts.num_rows))
    return groups


def plan(path: str, target: int) -> list[tuple[int, int]]:
    """See `Reader.plan`. Cuts where a row group begins."""
    with File(path) as file:
        size = file.size
    if size <= max(target, 1):
        return [(0, size)]
    try:
        _, groups = _open(path)
    except CorruptFooter:
        return [(0, size)]
    return tile((group.start for group in groups[1:]), size, target)


def read(piece: Piece, tally: Tally) -> Iterator[Read]:
    """See `Reader.read`. Reasons: as for JSON lines; gaps: `corrupt_footer`, `corrupt_row_group`.

    Raises UserError where a mapped column is missing or holds no strings.
    """
    if piece.end == piece.start:
        return
    try:
        table, groups = _open(piece.path)
    except CorruptFooter:
        tally.gaps.append(Gap(piece.start, piece.end - piece.start, "corrupt_footer"))
        return
    with table:
        columns = _columns(table.schema_arrow, piece)
        tally.structure += piece.end - piece.start
        for group in groups:
            if not piece.start <= group.start < piece.end or not group.rows:
                continue
            given = 0
            for row in _rows(table, group, columns):
                given += 1
                tally.framed += 1
                yield _document(row, group, given - 1, piece, tally.counts)
            tally.structure -= group.size
            if given:
                tally.spans += group.size
                if given < group.rows:
                    tally.gaps.append(Gap(group.end, 0, "corrupt_row_group"))
            else:
                tally.gaps.append(Gap(group.start, group.size, "corrupt_row_group"))


def cut(path: str, origin: Origin, piece: Piece) -> Read:
    """The row at `origin`, read as the whole file would be; decodes its row group alone. Raises UserError."""
    try:
        table, groups = _open(path)
    except CorruptFooter:
        groups = []
    else:
        with table:
            columns = _columns(table.schema_arrow, piece)
            for group in groups:
                if group.start == origin.offset:
                    for number, row in enumerate(_rows(table, group, columns)):
                        if number == origin.inner_offset:
                            return _document(row, group, number, piece, Counter())
    raise UserError(
        f"{path} holds no row {origin.inner_offset} in a row group at byte {origin.offset}. "
        "The file is not the one that the run read, or it was changed since."
    )


def _columns(schema: pa.Schema, piece: Piece) -> dict[str, str]:
    """Our names to columns that are there (dotted for fields of structs)."""
    asked = {ours for ours, _ in piece.fields}
    found = {}
    for ours, column in mapping(piece.fields).items():
        kind = _type(schema, column)
        if kind is None:
            if ours in asked or ours == "text":
                hint = nearest(column, schema.names)
                how = "" if ours in asked else f" Say which column holds it: fields: {{{ours}: COLUMN}}."
                raise UserError(f"{piece.name} has no column '{column}' for '{ours}'.{hint}{how}")
            continue
        if ours == "text" and not _textual(kind):
            raise UserError(f"{piece.name}: column '{column}' holds {kind}, a text must be a string.")
        found[ours] = column
    return found


def _type(schema: pa.Schema, column: str) -> pa.DataType | None:
    if column in schema.names:
        return schema.field(column).type
    first, *rest = column.split(".")
    kind = schema.field(first).type if first in schema.names else None
    for part in rest:
        if kind is None or not pa.types.is_struct(kind) or kind.get_field_index(part) < 0:
            return None
        kind = kind.field(part).type
    return kind


def _textual(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind) or pa.types.is_string_view(kind) or pa.types.is_null(kind)
    )  # fmt: skip


def _rows(table: pq.ParquetFile, group: Group, columns: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The rows of a group by our names, up to damage."""
    names = list(columns.values())
    try:
        for batch in table.iter_batches(_ROWS, row_groups=[group.number], columns=names, use_threads=False):
            values = {ours: _values(batch, column) for ours, column in columns.items()}
            for row in range(batch.num_rows):
                yield {ours: column[row] for ours, column in values.items()}
    except (pa.ArrowException, OSError, ValueError, OverflowError):
        return


def _values(batch: pa.RecordBatch, column: str) -> list[Any]:
    if column in batch.schema.names:
        array = batch.column(column)
    else:
        first, *rest = column.split(".")
        array = batch.column(first)
        for part in rest:
            array = pa.compute.struct_field(array, part)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if _textual(array.type) and not pa.types.is_null(array.type):
        array = array.cast(pa.large_binary())  # decoded row by row, since files hold strings that are no UTF-8
    return list(array.to_pylist())


def _document(row: dict[str, Any], group: Group, number: int, piece: Piece, counts: Counter[str]) -> Read:
    origin = Origin(piece.name, group.start, group.end - group.start, number, 1)
    raw = repr(sorted(row.items())).encode(errors="surrogatepass")
    blank = Read(document_id(piece.source, None, None, raw), origin)
    plain: dict[str, Any] = dict.fromkeys(("text", "url", "title", "date", "language"))
    for name, value in row.items():
        if isinstance(value, bytes):
            try:
                value = value.decode("utf-8")
            except UnicodeDecodeError:
                if name == "text":
                    return blank._replace(reason="undecodable_bytes")
                value = value.decode("utf-8", "replace")
        elif isinstance(value, dt.datetime | dt.date):
            value = value.isoformat()
        plain[name] = value
    return mapped(plain, blank, raw, piece.source, counts)


PARQUET = Reader("parquet", plan, read, mapped=True)
