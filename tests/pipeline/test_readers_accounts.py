"""Every reader's books: bytes = spans + structure + gaps, framed = records given, whatever happened to the file."""

from __future__ import annotations

import bz2
import gzip
import itertools
import json
import lzma
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.readers import READERS
from pipeline.readers.base import Piece, Read, Tally, batches
from pipeline.readers.cut import cut

CRAWL = Path(__file__).parents[1] / "data" / "crawl"
FIELDS = (("text", "body"), ("url", "link"), ("title", "headline"), ("date", "published"), ("language", "lang"))


def record(kind: str, number: int, block: bytes, length: int | None = None) -> bytes:
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:test:{number}>\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n"
        f"WARC-Target-URI: http://example.org/{number}\r\nContent-Type: application/http; msgtype=response\r\n"
        f"Content-Length: {len(block) if length is None else length}\r\n\r\n"
    )
    return head.encode() + block + b"\r\n\r\n"


def page(number: int) -> bytes:
    body = f"<html><body><p>Page {number} ".encode() + bytes(range(32, 127)) * (number % 3) + b"</p></body></html>"
    return record("response", number, b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + body)


RECORDS = [page(number) if number % 3 else record("request", number, b"GET / HTTP/1.1\r\n\r\n") for number in range(9)]
ROWS = [
    {"text": f"A line of text, number {number}. 中文 {'x' * number}", "url": f"http://e.org/{number}"}
    for number in range(9)
]
LINES = [json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in ROWS]
LINES[4] = b'{"text": broken\n'
LINES[6] = b"\n"


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def parquet(tmp: Path) -> bytes:
    path = tmp / "made.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=3, write_page_checksum=True)
    return path.read_bytes()


FILES: dict[str, tuple[str, bytes]] = {
    "gz, a member a record": ("warc", b"".join(map(gzip.compress, RECORDS))),
    "gz, three records a member": ("warc", b"".join(gzip.compress(b"".join(RECORDS[i : i + 3])) for i in (0, 3, 6))),
    "gz, one member": ("warc", gzip.compress(b"".join(RECORDS))),
    "zst": ("warc", b"".join(map(zstd, RECORDS))),
    "plain warc": ("warc", b"".join(RECORDS)),
    "wet": ("wet", b"".join(gzip.compress(record("conversion", i, f"Text {i} ü".encode())) for i in range(5))),
    "jsonl": ("jsonl", b"".join(LINES)),
    "jsonl gz": ("jsonl", gzip.compress(b"".join(LINES))),
    "jsonl gz, a member a line": ("jsonl", b"".join(map(gzip.compress, LINES))),
    "jsonl zst": ("jsonl", b"".join(map(zstd, LINES))),
    "jsonl xz": ("jsonl", lzma.compress(b"".join(LINES))),
    "jsonl bz2": ("jsonl", bz2.compress(b"".join(LINES))),
}


def load(
    path: Path, kind: str, ranges: list[tuple[int, int]] | None = None, fields: Any = ()
) -> tuple[list[Read], Tally]:
    """Reads a file (in pieces) and checks both identities."""
    size = path.stat().st_size
    tally = Tally()
    reads: list[Read] = []
    for start, end in ranges or [(0, size)]:
        piece = Piece("web", kind, str(path), path.name, start, end, fields)
        mine = Tally()
        found = list(READERS[kind].read(piece, mine))
        assert mine.framed == len(found)
        assert end - start == mine.spans + mine.structure + sum(gap.length for gap in mine.gaps), mine
        assert all(start <= gap.offset and gap.offset + gap.length <= end for gap in mine.gaps)
        reads += found
        tally.framed += mine.framed
        tally.spans += mine.spans
        tally.structure += mine.structure
        tally.gaps += mine.gaps
        tally.counts.update(mine.counts)
    return reads, tally


def check_everything(
    path: Path, kind: str, fields: Any = (), targets: tuple[int, ...] = (1, 300)
) -> tuple[list[Read], Tally]:
    """Books, batches, splits and cuts of one file."""
    reads, tally = load(path, kind, fields=fields)
    for target in targets:
        ranges = READERS[kind].plan(str(path), target)
        assert ranges[0][0] == 0
        assert ranges[-1][1] == path.stat().st_size
        assert all(one[1] == two[0] for one, two in itertools.pairwise(ranges))
        assert load(path, kind, ranges, fields) == (reads, tally)
    for read in reads[:: max(1, len(reads) // 12)]:
        assert cut(str(path), kind, read.origin._asdict(), "web", fields) == read
    rows = sum(batch.num_rows + len(rejected) for batch, rejected in batches(reads, "web"))
    assert rows == len(reads)
    return reads, tally


@pytest.mark.parametrize("name", FILES)
def test_books_balance_and_splits_agree(name: str, tmp_path: Path) -> None:
    """A user would lose records, or count them twice, as soon as a file is split or is compressed in another way."""
    kind, data = FILES[name]
    path = tmp_path / "input"
    path.write_bytes(data)
    reads, tally = check_everything(path, kind)
    assert not tally.gaps
    assert len(reads) == {"warc": 9, "wet": 5, "jsonl": 8}[kind]


@pytest.mark.parametrize("name", FILES)
def test_truncated_anywhere(name: str, tmp_path: Path) -> None:
    """A download that broke off would end the run, or lose its tail in silence."""
    kind, data = FILES[name]
    path = tmp_path / "input"
    whole = len(data)
    for size in range(0, whole, max(1, whole // 40)):
        path.write_bytes(data[:size])
        reads, tally = load(path, kind)
        if size == 0:
            assert (reads, tally.gaps, tally.framed) == ([], [], 0)
    path.write_bytes(data[: whole * 3 // 4])
    reads, tally = check_everything(path, kind)
    plain = name in ("jsonl",)
    assert plain or any(gap.reason == "truncated" for gap in tally.gaps)
    if name not in ("gz, one member", "jsonl xz", "jsonl bz2"):
        assert any(read.reason is None for read in reads)


@given(st.data())
@settings(max_examples=120, deadline=None)
def test_damaged_anywhere(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """One bad sector would crash a run of weeks, or make its accounts lie."""
    kind, content = FILES[data.draw(st.sampled_from(sorted(FILES)))]
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(damaged) - 1))
        stretch = data.draw(st.one_of(st.binary(min_size=1, max_size=8), st.integers(1, 400).map(bytes)))
        damaged[start : start + len(stretch)] = stretch[: len(damaged) - start]
    path = tmp_path_factory.mktemp("damaged") / "input"
    path.write_bytes(damaged)
    with ExitStack() as small:
        if data.draw(st.booleans()):  # members too large to be checked whole, and faults found to 64 bytes
            small.enter_context(patch("pipeline.readers.frames.MEMBER_BYTES", 150))
            small.enter_context(patch("pipeline.readers.codecs.CHUNK", 64))
            small.enter_context(patch("pipeline.readers.codecs._OUT", 100))
        check_everything(path, kind, targets=(1,))


@given(
    st.sampled_from(["warc", "wet", "jsonl", "parquet"]),
    st.binary(max_size=300),
    st.sampled_from([b"", b"WARC/1.0\r\n", b"\x1f\x8b\x08", b"{"]),
)
@settings(max_examples=120, deadline=None)
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, kind: str, data: bytes, head: bytes) -> None:
    """A file of something else entirely would end the run with a traceback."""
    path = tmp_path_factory.mktemp("any") / "input.warc.gz"
    path.write_bytes(head + data)
    if kind == "parquet":
        load(path, kind)
    else:
        check_everything(path, kind, targets=(1,))


def test_parquet_books_and_damage(tmp_path: Path) -> None:
    """A corrupt row group or footer would take the whole file with it, or go unnoticed."""
    data = parquet(tmp_path)
    path = tmp_path / "input"
    path.write_bytes(data)
    reads, tally = check_everything(path, "parquet")
    assert len(reads) == 9
    assert not tally.gaps
    first = reads[3].origin
    assert first.length
    damaged = bytearray(data)
    damaged[first.offset : first.offset + first.length] = bytes(first.length)
    path.write_bytes(damaged)
    reads, tally = check_everything(path, "parquet")
    assert [read.origin.inner_offset for read in reads] == [0, 1, 2, 0, 1, 2]
    assert [(gap.offset, gap.reason) for gap in tally.gaps] == [(first.offset, "corrupt_row_group")]
    for size in range(1, len(data), 97):
        path.write_bytes(data[:size])
        reads, tally = load(path, "parquet")
        assert not reads
        assert [(gap.offset, gap.length, gap.reason) for gap in tally.gaps] == [(0, size, "corrupt_footer")]


def test_bundled_crawl() -> None:
    """The demo's own figures: 200 members, one zeroed, are 199 records and one gap; each odd record has its reason."""
    expected: dict[str, dict[str | None, int]] = {
        "web-000.warc.gz": {"warcinfo": 1, None: 104},
        "web-001.warc.gz": {
            "warcinfo": 1, None: 131, "not_html": 1, "pdf": 1, "http_status": 1, "empty_body": 1, "bad_encoding": 1,
            "revisit": 1,
        },
        "web-zh.warc.zst": {"warcinfo": 1, None: 40},
        "damaged.warc.gz": {"warcinfo": 1, "request": 66, "metadata": 67, None: 65},
        "odd.warc.gz": {None: 1},
        "wet.warc.wet.gz": {"warcinfo": 1, None: 25},
        "notes.jsonl.gz": {
            None: 238, "broken_json": 1, "empty_text": 1, "no_text": 1, "not_an_object": 1, "bad_text": 1,
        },
        "table.parquet": {None: 52, "empty_text": 1, "no_text": 1},
    }  # fmt: skip
    assert {path.name for path in CRAWL.iterdir()} == {*expected, "README.md"}
    for name, reasons in expected.items():
        kind = "wet" if "wet" in name else "jsonl" if "jsonl" in name else "parquet" if "parquet" in name else "warc"
        fields = FIELDS if kind == "parquet" else ()
        reads, tally = check_everything(CRAWL / name, kind, fields, (100_000,))
        found: dict[str | None, int] = {}
        for read in reads:
            found[read.reason] = found.get(read.reason, 0) + 1
        assert found == reasons, name
        gaps = [(gap.offset, gap.length, gap.reason) for gap in tally.gaps]
        assert gaps == ([(312_023, 6_961, "zeroed")] if name == "damaged.warc.gz" else [])
        assert tally.counts == ({"blank_lines": 1} if kind == "jsonl" else {})
