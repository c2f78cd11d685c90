"""Tables of every format: their rows, whole, damaged and lying."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from reader_books import books

ROWS: list[dict[str, Any]] = [
    {"body": f'Row {number}, "quoted", über 中文\nsecond line {"x" * number}', "link": f"http://e.org/{number}"}
    for number in range(9)
]
ROWS[4]["body"] = " "
ROWS[7]["body"] = None
FIELDS = (("text", "body"), ("url", "link"))
REASONS = [None, None, None, None, "empty_text", None, None, "no_text", None]


def arrow(rows: list[dict[str, Any]], kind: str = "file", size: int = 3, **options: Any) -> bytes:
    """An IPC file or stream with `size` rows in a record batch."""
    sink = io.BytesIO()
    table = pa.Table.from_pylist(rows)
    if options.pop("coded", False):
        table = pa.table({"body": table["body"].dictionary_encode(), "link": table["link"]})
    make = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    with make(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for start in range(0, table.num_rows, size):
            writer.write_table(table.slice(start, size).combine_chunks(), max_chunksize=size)
    return sink.getvalue()


def delimited(rows: list[dict[str, Any]], delimiter: str = ",", ending: str = "\r\n") -> bytes:
    sink = io.StringIO()
    writer = csv.DictWriter(sink, ["link", "body"], delimiter=delimiter, lineterminator=ending)
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue().encode()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=3, write_page_checksum=True)
    return sink.getvalue()


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


FILES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "arrow file": ("arrow", lambda: arrow(ROWS)),
    "arrow stream": ("arrow", lambda: arrow(ROWS, "stream")),
    "arrow lz4": ("arrow", lambda: arrow(ROWS, compression="lz4")),
    "arrow zstd stream": ("arrow", lambda: arrow(ROWS, "stream", compression="zstd")),
    "arrow coded": ("arrow", lambda: arrow(ROWS, "stream", coded=True)),
    "arrow coded file": ("arrow", lambda: arrow(ROWS, size=9, coded=True)),
    "parquet": ("parquet", lambda: parquet(ROWS)),
    "csv": ("csv", lambda: delimited(ROWS)),
    "csv gz": ("csv", lambda: gzip.compress(delimited(ROWS))),
    "csv zst": ("csv", lambda: zstandard.compress(delimited(ROWS))),
    "csv xz": ("csv", lambda: lzma.compress(delimited(ROWS))),
    "csv bz2": ("csv", lambda: bz2.compress(delimited(ROWS))),
    "csv two members": ("csv", lambda: b"".join(map(gzip.compress, (delimited(ROWS)[:150], delimited(ROWS)[150:])))),
    "tsv": ("tsv", lambda: delimited(ROWS, "\t", "\n")),
    "jsonl": ("jsonl", lambda: jsonl(ROWS)),
}


@pytest.mark.parametrize("name", FILES)
def test_rows_of_every_format(name: str, tmp_path: Path) -> None:
    """The same table would give other documents in another format, or other ones once it is split."""
    kind, make = FILES[name]
    path = tmp_path / "input"
    path.write_bytes(make())
    reads, tally = books(path, kind, FIELDS)
    assert not tally.gaps
    reasons = [
        reason or "empty_text" if kind in ("csv", "tsv") and n == 7 else reason for n, reason in enumerate(REASONS)
    ]
    reasons[7] = "empty_text" if kind in ("csv", "tsv") else "no_text"
    assert [read.reason for read in reads] == reasons
    assert [read.text for read in reads if read.text] == [
        row["body"] for row in ROWS if row["body"] and row["body"].strip()
    ]
    assert [read.url for read in reads] == [row["link"] for row in ROWS]
