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
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from reader_books import books, load

from pipeline.errors import UserError
from pipeline.formats import FORMATS, by_ending
from pipeline.readers import CHECKS, CUTS, READERS

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


@pytest.mark.parametrize("name", FILES)
def test_truncated_anywhere(name: str, tmp_path: Path) -> None:
    """A download that broke off would end the run, or lose its tail in silence."""
    kind, make = FILES[name]
    data = make()
    path = tmp_path / "input"
    for size in range(0, len(data), max(1, len(data) // 25)):
        path.write_bytes(data[:size])
        try:
            reads, tally = load(path, kind, FIELDS)
        except UserError:
            assert size < 60 or name in ("csv", "tsv")  # half a header names half a column
            continue
        if size == 0:
            assert (reads, tally.gaps, tally.framed) == ([], [], 0)
        elif kind == "arrow":
            assert [gap.reason for gap in tally.gaps][-1:] in (["truncated"], ["not_arrow"]) or "stream" in name
    path.write_bytes(data[: len(data) * 3 // 4])
    reads, tally = books(path, kind, FIELDS)
    if kind == "arrow" and "coded file" not in name:
        assert [read.text for read in reads if read.text] == [
            row["body"] for row in ROWS[: len(reads)] if row["body"] != " "
        ]
        assert len(reads) in (3, 6)


def test_a_damaged_record_batch_costs_itself_alone(tmp_path: Path) -> None:
    """One bad sector would cost a whole Arrow file, or crash the reader: Arrow trusts what it reads."""
    path = tmp_path / "input"
    for kind in ("file", "stream"):
        data = arrow(ROWS[:4] + ROWS[5:7], kind, 2)
        path.write_bytes(data)
        whole, _ = books(path, "arrow", FIELDS)
        second = whole[2].origin
        assert second.length
        offsets = bytearray(data)
        place = data.index(b"Row 2,", second.offset) - 16
        offsets[place : place + 16] = b"\xff\x7f\x00\x00" * 4
        header = bytearray(data)
        header[second.offset : second.offset + 8] = bytes(8)
        marker = bytearray(data)
        marker[second.offset + 8 : second.offset + 40] = b"\x5a" * 32
        for damaged, reason in (
            (offsets, "corrupt_record_batch"),
            (marker, "corrupt_message"),
            (header, "corrupt_message"),
        ):
            path.write_bytes(damaged)
            reads, tally = books(path, "arrow", FIELDS)
            assert [read.url for read in reads] == [read.url for read in (*whole[:2], *whole[4:])], (kind, reason)
            assert [(gap.offset, gap.length, gap.reason) for gap in tally.gaps] == [
                (second.offset, second.length, reason)
            ]


def test_a_string_that_is_no_utf8_costs_its_row(tmp_path: Path) -> None:
    """One bad byte would cost the thousands of rows around it."""
    path = tmp_path / "input"
    path.write_bytes(arrow(ROWS[:3]).replace(b"Row 1", b"Row \xff"))
    reads, _ = books(path, "arrow", FIELDS)
    assert [read.reason for read in reads] == [None, "undecodable_bytes", None]


def test_columns_of_other_types(tmp_path: Path) -> None:
    """Dates, numbers, nested and coded columns would be lost, or a text of numbers enter the corpus."""
    rows = [{"m": {"t": "nested text", "n": 3}, "d": "2024-05-06", "u": b"http://e.org", "x": [1]}]
    table = pa.Table.from_pylist(rows).append_column("when", pa.array([1714953600000000000], pa.timestamp("ns", "UTC")))
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    path = tmp_path / "a.arrow"
    path.write_bytes(sink.getvalue())
    (read,), _ = books(path, "arrow", (("text", "m.t"), ("date", "when"), ("url", "u"), ("title", "m.n")))
    assert (read.text, read.url, read.title) == ("nested text", "http://e.org", "3")
    assert read.date is not None
    assert read.date.isoformat() == "2024-05-06T00:00:00+00:00"
    for fields, words in (
        ((("text", "m.n"),), ["holds int64", "must be a string"]),
        ((("text", "m.tt"),), ["a.arrow has no column 'm.tt' for 'text'", "It has: m, d, u, x, when"]),
        ((), ["no column 'text'", "fields: {text: COLUMN}"]),
    ):
        for call in (CHECKS["arrow"], lambda *args: load(path, "arrow", args[2])):
            with pytest.raises(UserError) as found:
                call(str(path), path.name, fields, ())
            assert all(word in str(found.value) for word in words)


@pytest.mark.parametrize("kind", ["parquet", "arrow", "csv", "jsonl"])
def test_a_missing_column_is_named_before_any_work(kind: str, tmp_path: Path) -> None:
    """A misspelt column would make a corpus without URLs, or none at all, after hours."""
    make = {"parquet": parquet, "arrow": arrow, "csv": delimited, "jsonl": jsonl}[kind]
    path = tmp_path / f"a.{kind}"
    path.write_bytes(make(ROWS))
    with pytest.raises(UserError) as found:
        CHECKS[kind](str(path), "folder/a", (("text", "body"), ("url", "lnik")), ())
    message = str(found.value)
    assert "folder/a has no column 'lnik' for 'url'. Did you mean 'link'?" in message
    assert "body" in message.split("It has:")[1]
    CHECKS[kind](str(path), "folder/a", FIELDS, ())


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_broken_rows_of_csv(ending: str, tmp_path: Path) -> None:
    """A quote that is never closed would swallow the rows behind it, or two rows become one."""
    lines = [
        "text,url", "plain,http://1", 'stray "quote" inside,http://2', '"unclosed,http://3', "fine,http://4",
        '"a ""quoted"" one",http://5', "too,many,cells", "few", '"closed"too early,http://6', "", '"two', 'lines",http://7',
        "last,http://8",
    ]  # fmt: skip
    path = tmp_path / "a.csv"
    for first in ("", "\ufeff"):
        path.write_bytes((first + ending.join(lines)).encode())
        reads, tally = books(path, "csv", targets=(1, 30))
        assert [(read.text, read.reason) for read in reads] == [
            ("plain", None), ('stray "quote" inside', None), (None, "unclosed_quote"), ("fine", None),
            ('a "quoted" one', None), (None, "wrong_columns"), (None, "wrong_columns"), (None, "broken_row"),
            ("two\nlines", None), ("last", None),
        ]  # fmt: skip
        assert (reads[5].value, reads[5].limit) == (3.0, 2.0)
        assert tally.counts == {"blank_lines": 1}
    path.write_bytes(ending.join(lines[:4]).encode() + b"x" * 100)
    assert [read.reason for read in books(path, "csv")[0]] == [None, None, "unclosed_quote"]


def test_csv_of_other_kinds(tmp_path: Path) -> None:
    """Tables with semicolons, in an old charset, without rows or without a header would be misread."""
    path = tmp_path / "a.csv"
    path.write_bytes("text;url\ngrün, blau;x\n".encode("latin-1"))
    (read,), _ = books(path, "csv", (), (("delimiter", ";"),))
    assert read.text == "grün, blau"
    with pytest.raises(UserError, match="delimiter: ';'"):
        CHECKS["csv"](str(path), "a.csv", (), ())
    path.write_bytes("text,url\n河水向东,x\n".encode("gb18030"))
    assert books(path, "csv", (), (("charset", "gb18030"),))[0][0].text == "河水向东"
    for options in ((("delimiter", "ab"),), (("charset", "utf-16"),), (("charset", "nonsense"),)):
        with pytest.raises(UserError, match="options"):
            load(path, "csv", (), options)
    path.write_bytes(b"text,url\n")
    assert books(path, "csv") == ([], books(path, "csv")[1])
    for data, reason in (
        (bytes(range(256)), "not_text"), ("text,url\n".encode("utf-16"), "utf_16"), (b'"text,url\na,b\n', "no_header"),
    ):  # fmt: skip
        path.write_bytes(data)
        reads, tally = books(path, "csv")
        assert (reads, [gap.reason for gap in tally.gaps]) == ([], [reason])
    path.write_bytes(b"\n\n  \n")
    assert books(path, "csv")[1].structure == 5
    path.write_bytes(b"text,url\nok,1\n\xff\xfe,2\n")
    assert [read.reason for read in books(path, "csv", (), (("charset", "utf-8"),))[0]] == [None, "undecodable_bytes"]


def test_large_rows_are_named_and_not_held(tmp_path: Path) -> None:
    """One huge row, or one quote that is never closed, would take all memory."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,url\n" + b"x" * 5000 + b",1\nfine,2\n" + b'"open,3\n' + b"row,4\n" * 300)
    with patch("pipeline.readers.lines.DOCUMENT_BYTES", 1000), patch("pipeline.readers.delimited.DOCUMENT_BYTES", 1000):
        reads, _ = books(path, "csv")
    assert [read.reason for read in reads[:4]] == ["too_large", None, "unclosed_quote", None]
    assert len(reads) == 303


cells = st.lists(
    st.text(st.characters(exclude_characters="\r", exclude_categories=("Cs",)), max_size=12), min_size=2, max_size=2
)


@given(st.lists(cells, max_size=12), st.sampled_from(["csv", "tsv"]))
@settings(max_examples=60, deadline=None)
def test_delimited_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], kind: str) -> None:
    """Text with quotes, newlines or delimiters in it would come out another."""
    sink = io.StringIO()
    writer = csv.writer(sink, delimiter="," if kind == "csv" else "\t", lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerows([["text", "url"], *rows])
    path = tmp_path_factory.mktemp("round") / "a"
    path.write_bytes(sink.getvalue().encode())
    reads, tally = books(path, kind, (), (("charset", "utf-8"),), targets=(1,))
    assert [read.text for read in reads] == [text if text.strip() else None for text, _ in rows]
    assert not tally.gaps


@given(
    st.lists(st.one_of(st.none(), st.text(max_size=12)), max_size=12), st.integers(1, 5), st.booleans(), st.booleans()
)
@settings(max_examples=60, deadline=None)
def test_arrow_round_trip(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str | None], size: int, coded: bool, stream: bool
) -> None:
    """A row would be lost, or come out another, by how it was put into batches."""
    table = pa.table({"text": pa.array(texts, pa.string())})
    table = table.set_column(0, "text", table["text"].dictionary_encode()) if coded else table
    sink = io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=size)
    path = tmp_path_factory.mktemp("round") / "a"
    path.write_bytes(sink.getvalue())
    reads, tally = books(path, "arrow", targets=(1,))
    assert [read.text for read in reads] == [text if text and text.strip() else None for text in texts]
    assert not tally.gaps


JSON_FILES = {
    "pretty array": json.dumps(ROWS, indent=2).encode(),
    "tight array": json.dumps(ROWS, separators=(",", ":")).encode(),
    "array gz": gzip.compress(json.dumps(ROWS).encode()),
    "array in members": b"".join(gzip.compress(json.dumps(ROWS).encode()[i : i + 100]) for i in range(0, 3000, 100)),
    "pretty objects": "\n".join(json.dumps(row, indent=1) for row in ROWS).encode(),
    "lines": jsonl(ROWS),
    "array with BOM": b"\xef\xbb\xbf" + json.dumps(ROWS).encode(),
}


@pytest.mark.parametrize("name", JSON_FILES)
def test_json_of_every_shape(name: str, tmp_path: Path) -> None:
    """A file of one JSON array would be one broken line."""
    path = tmp_path / "a.json"
    path.write_bytes(JSON_FILES[name])
    for block in (1 << 20, 7):
        with patch("pipeline.readers.json_values._BLOCK", block):
            reads, tally = books(path, "json", FIELDS)
        assert [read.reason for read in reads] == REASONS
        assert [read.text for read in reads if read.text] == [
            ROWS[n]["body"] for n, reason in enumerate(REASONS) if not reason
        ]
        assert not tally.gaps


def test_broken_json_values(tmp_path: Path) -> None:
    """One broken object would cost all that stand behind it, and a cut-off array pass for a whole one."""
    path = tmp_path / "a.json"
    path.write_bytes(
        b'[{"text": "a"}, {"text": b, "x": [1, 2]}, 3, "s,]", null, [{"text": "in"}], {"text": "z\\"]}"}]\n'
    )
    reads, tally = books(path, "json")
    assert [read.reason for read in reads] == [None, "broken_json", *["not_an_object"] * 4, None]
    assert reads[-1].text == 'z"]}'
    assert not tally.gaps
    for data, reasons in (
        (b'[{"text": "a"},{"te', [None, "truncated_record"]),
        (b'[{"text": "a"},', [None]),
        (b"[", []),
    ):
        path.write_bytes(data)
        reads, tally = books(path, "json")
        assert ([read.reason for read in reads], [gap.reason for gap in tally.gaps]) == (reasons, ["truncated"])
    path.write_bytes(b"[]")
    assert books(path, "json")[1].structure == 2
    with patch("pipeline.readers.json_values.DOCUMENT_BYTES", 50):
        path.write_bytes(b'[{"text": "' + b"x" * 99 + b'"},{"text": "b"}]')
        assert [read.reason for read in books(path, "json")[0]] == ["too_large", None]


@pytest.mark.parametrize(
    ("data", "pieces"),
    [
        (b'[{"text": "a"}}, {"text": "b"}]', [b'{"text": "a"}', b"}", b'{"text": "b"}']),
        (b'[1}, {"text": "b"}]', [b"1}", b'{"text": "b"}']),
        (b'[{"text": "a"}]]} 1] {"text": "b"}', [b'{"text": "a"}', b"]", b"}", b"1]", b'{"text": "b"}']),
    ],
)
def test_brackets_that_close_nothing(data: bytes, pieces: list[bytes], tmp_path: Path) -> None:
    """A single `}` too many would hold the run up for ever, and fill the memory."""
    path = tmp_path / "a.json"
    path.write_bytes(data)
    for block in (1 << 20, 1):
        with patch("pipeline.readers.json_values._BLOCK", block):
            reads, _ = books(path, "json")
        assert [data[read.origin.offset :][: read.origin.length] for read in reads] == pieces


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_anywhere(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """One bad sector would end a run of weeks, or make its accounts lie."""
    samples = {name: (kind, make) for name, (kind, make) in FILES.items() if kind != "jsonl"}
    samples |= {name: ("json", lambda name=name: JSON_FILES[name]) for name in JSON_FILES}  # type: ignore[misc]
    kind, make = samples[data.draw(st.sampled_from(sorted(samples)))]
    damaged = bytearray(make())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(damaged) - 1))
        stretch = data.draw(st.one_of(st.binary(min_size=1, max_size=8), st.integers(1, 100).map(bytes)))
        damaged[start : start + len(stretch)] = stretch[: len(damaged) - start]
    path = tmp_path_factory.mktemp("damaged") / "input"
    path.write_bytes(damaged)
    try:
        load(path, kind, FIELDS)
    except UserError as error:
        assert "has no column" in str(error) or "must be a string" in str(error)  # noqa: PT017
        return
    books(path, kind, FIELDS, targets=(1,))


@given(
    st.sampled_from(["json", "csv", "tsv", "arrow"]),
    st.binary(max_size=200),
    st.sampled_from([b"", b"ARROW1\0\0", b"[{"]),
)
@settings(max_examples=100, deadline=None)
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, kind: str, data: bytes, head: bytes) -> None:
    """A file of something else entirely would end the run with a traceback."""
    path = tmp_path_factory.mktemp("any") / "input"
    path.write_bytes(head + data)
    try:
        load(path, kind)
    except UserError as error:
        assert "has no column 'text'" in str(error)  # noqa: PT017
        return
    books(path, kind, targets=(1,))


def test_formats_and_readers_are_one_list() -> None:
    """A format that the recipe takes would have no reader, or none that traces its records."""
    assert set(FORMATS) == set(READERS) == set(CUTS)
    assert by_ending("a/b.csv.gz") == "csv"
    assert by_ending("x/CC-MAIN-1.warc.wet.gz") == "wet"
    assert by_ending("x/CC-MAIN-1.warc.gz") == "warc"
    assert by_ending("notes.d/README") is None
    assert {by_ending(f"a{ending}") for item in FORMATS.values() for ending in item.endings} == set(FORMATS) - {
        "datasets"
    }
