"""Writing Parquet parts: row groups of a bounded size whatever the batches, page indexes, synced at the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DamageError

ROWS = 16_384
"""Most rows of a row group."""
BYTES = 64 << 20
"""Most bytes of Arrow data of a row group."""
PART_BYTES = 256 << 20
"""Most bytes of text of a part: a unit that reads more, as one long compressed stream, writes several."""


class PartWriter:
    """Writes batches of one schema to a Parquet file; equal rows give equal bytes however they are batched."""

    def __init__(self, path: Path, schema: pa.Schema, row_group_bytes: int = BYTES) -> None:
        self.path = path
        self.row_group_bytes = row_group_bytes
        self.schema = schema
        self.rows = 0
        self._held: list[pa.RecordBatch] = []
        self._held_rows = 0
        self._held_bytes = 0
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", write_page_index=True)

    def write(self, batch: pa.RecordBatch) -> None:
        """Adds a batch. A row group ends where a row would be one too many, so batch bounds leave no trace."""
        batch = batch.select(self.schema.names)
        for start, stop in _cuts(batch, self._held_rows, self._held_bytes, ROWS, self.row_group_bytes):
            piece = batch.slice(start, stop - start)
            if start > 0:
                self._flush()
            self._held.append(piece)
            self._held_rows += piece.num_rows
            self._held_bytes += sum(row_bytes(piece))
        self.rows += batch.num_rows
        if self._held_rows >= ROWS or self._held_bytes >= self.row_group_bytes:
            self._flush()

    def write_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds rows given as mappings."""
        if rows:
            self.write(pa.RecordBatch.from_pylist(list(rows), schema=self.schema))

    def close(self) -> None:
        """Ends the file and makes it durable."""
        self._flush()
        self._writer.close()
        with self.path.open("rb") as file:
            os.fsync(file.fileno())

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._writer.close()

    def _flush(self) -> None:
        if self._held:
            table = pa.Table.from_batches(self._held, self.schema)
            self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self._held, self._held_rows, self._held_bytes = [], 0, 0


class PartsWriter:
    """Writes batches to as many parts as keep each near PART_BYTES, one at least; cut at the same rows always."""

    def __init__(self, folder: Path, name: str, schema: pa.Schema, part_bytes: int = PART_BYTES) -> None:
        self.folder, self.name, self.schema, self.part_bytes = folder, name, schema, part_bytes
        self.paths: list[Path] = []
        self._size = 0
        self._done = 0
        self._open()

    @property
    def rows(self) -> int:
        """Rows of all parts."""
        return self._done + self._writer.rows

    def write(self, batch: pa.RecordBatch) -> None:
        """Adds a batch."""
        for start, stop in _cuts(batch, 0, self._size, sys.maxsize, self.part_bytes):
            piece = batch.slice(start, stop - start)
            if self._size >= self.part_bytes:
                self._writer.close()
                self._done += self._writer.rows
                self._open()
            self._writer.write(piece)
            self._size += sum(row_bytes(piece))

    def __enter__(self) -> PartsWriter:
        return self

    def __exit__(self, *error: Any) -> None:
        self._writer.__exit__(*error)

    def _open(self) -> None:
        self.paths.append(self.folder / f"{self.name}-{len(self.paths):03d}")
        self._writer = PartWriter(self.paths[-1], self.schema)
        self._size = 0


def row_bytes(batch: pa.RecordBatch) -> list[int]:
    """What counts of each row towards the size of a row group: the bytes of its text and tokens, and a constant."""
    sizes = [256] * batch.num_rows
    for name, width in (("text", 1), ("tokens", 4)):
        if name in batch.schema.names:
            column = batch.column(name)
            lengths = (
                pa.compute.binary_length(column)
                if pa.types.is_string(column.type)
                else pa.compute.list_value_length(column)
            )
            sizes = [size + width * (length or 0) for size, length in zip(sizes, lengths.to_pylist(), strict=True)]
    return sizes


def _cuts(batch: pa.RecordBatch, rows: int, size: int, most_rows: int, most: int) -> Iterator[tuple[int, int]]:
    """Where a batch is cut so that each row group (or part) ends at the same row however the rows are batched."""
    start = 0
    for index, amount in enumerate(row_bytes(batch)):
        if rows >= most_rows or size >= most:
            yield start, index
            start, rows, size = index, 0, 0
        rows += 1
        size += amount
    if start < batch.num_rows:
        yield start, batch.num_rows


def read_batches(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The batches of a part, a row group at a time in memory. Raises DamageError where it is no readable table."""
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=list(columns) if columns else None)
                yield from table.combine_chunks().to_batches()
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault, not the file's
        raise DamageError(f"{path} is no readable table: {error}; `corpusmill verify` says what else is not") from error
