"""What readers make of single records: lying lengths, codings and charsets, damage, odd lines, real files."""

from __future__ import annotations

import gzip
import json
import lzma
import zlib
from collections import Counter
from pathlib import Path
from unittest.mock import patch

import brotli
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from pipeline.errors import UserError
from pipeline.readers import READERS
from pipeline.readers.base import Piece, Read, Tally
from pipeline.readers.cut import cut
from pipeline.readers.http import page
from pipeline.readers.languages import two_letters

BODY = b"<html><body><p>Some real text, gr\xc3\xbc\xc3\x9fe</p></body></html>"


def load(path: Path, kind: str, fields: tuple[tuple[str, str], ...] = ()) -> tuple[list[Read], Tally]:
    size = path.stat().st_size
    tally = Tally()
    reads = list(READERS[kind].read(Piece("web", kind, str(path), path.name, 0, size, fields), tally))
    assert tally.framed == len(reads)
    assert size == tally.spans + tally.structure + sum(gap.length for gap in tally.gaps)
    return reads, tally


def record(
    block: bytes, length: int | None = None, kind: str = "response", url: str = "http://e.org/", more: str = ""
) -> bytes:
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:test:1>\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n"
    head += f"WARC-Target-URI: {url}\r\n{more}Content-Length: {len(block) if length is None else length}\r\n\r\n"
    return head.encode() + block + b"\r\n\r\n"


def http(body: bytes = BODY, head: str = "Content-Type: text/html", status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\n{head}\r\n\r\n".encode() + body


def warc(tmp_path: Path, data: bytes) -> tuple[list[Read], Tally]:
    path = tmp_path / "input.warc"
    path.write_bytes(data)
    return load(path, "warc")


def test_a_version_line_in_a_body_starts_no_record(tmp_path: Path) -> None:
    """A page that quotes a WARC header would be cut in two (tfds C4 does so)."""
    quoted = record(http(b"<p>inner</p>"))
    for data in (record(http(BODY + b"\n" + quoted)), gzip.compress(record(http(BODY + b"\n" + quoted)))):
        reads, tally = warc(tmp_path, data + (record(http()) if data[:1] == b"W" else gzip.compress(record(http()))))
        assert [read.payload for read in reads] == [BODY + b"\n" + quoted, BODY]
        assert not tally.gaps
        assert not tally.counts


@pytest.mark.parametrize("shift", [-9, -5, 7, 300, 10**12])
def test_wrong_content_length(shift: int, tmp_path: Path) -> None:
    """One lying length would swallow the records behind it, or end the file."""
    block = http()
    data = record(block) + record(block, len(block) + shift, url="http://lie.org/") + record(block) + record(block)
    for content in (data, gzip.compress(data)):
        reads, tally = warc(tmp_path, content)
        assert [read.url for read in reads] == ["http://e.org/", "http://lie.org/", "http://e.org/", "http://e.org/"]
        assert tally.counts["content_length_wrong"] == 1
        assert [read.payload for read in (reads[0], reads[2], reads[3])] == [BODY] * 3
        if shift > 0:
            assert reads[1].payload == BODY


def test_reading_goes_on_behind_damage(tmp_path: Path) -> None:
    """One bad member would hide every record behind it (fastwarc stops or goes silent)."""
    good = gzip.compress(record(http()))
    flipped = bytearray(gzip.compress(record(http(b"<p>" + bytes(range(33, 120)) * 40 + b"</p>"))))
    flipped[-8] ^= 1  # the CRC
    cases = {"crc_mismatch": bytes(flipped), "zeroed": bytes(len(good)), "not_a_member": b"garbage" * 9}
    cases["corrupt_member"] = good[:10] + b"\xff" * 40  # a block of a type that deflate has not
    for reason, bad in cases.items():
        reads, tally = warc(tmp_path, good + bad + good)
        assert [read.payload for read in reads] == [BODY, BODY], reason
        assert [(gap.offset, gap.length, gap.reason) for gap in tally.gaps] == [(len(good), len(bad), reason)]
        reads, tally = warc(tmp_path, bad + good)
        assert len(reads) == 1, reason
    reads, tally = warc(tmp_path, good + good[:150])
    assert [(gap.offset, gap.reason) for gap in tally.gaps] == [(len(good), "truncated")]
    reads, tally = warc(tmp_path, gzip.compress(record(http()) * 3)[:-5])
    assert len(reads) == 3  # sound up to where the file was cut
    assert [(gap.length, gap.reason) for gap in tally.gaps] == [(0, "truncated")]


def test_other_content_than_the_name_says(tmp_path: Path) -> None:
    """A file with a wrong name would be read as something that it is not, or crash the run."""
    path = tmp_path / "input.warc.gz"
    for content, reason in (
        (b"no archive\n" * 50, "not_a_record"),
        (gzip.compress(b"text"), "no_record"),
        (b"filedesc://x 1", "not_a_record"),
    ):
        path.write_bytes(content)
        reads, tally = load(path, "warc")
        assert not reads
        assert [(gap.offset, gap.length, gap.reason) for gap in tally.gaps] == [(0, len(content), reason)]
    path.write_bytes(b"\x00\x01binary\x00" * 50)
    assert [gap.reason for gap in load(path, "jsonl")[1].gaps] == ["not_jsonl"]
    path.write_bytes(record(http()))
    assert len(load(path, "warc")[0]) == 1


def test_large_records_are_named_and_not_held(tmp_path: Path) -> None:
    """One huge record would take all memory, or vanish from the accounts."""
    big = record(http(b"<p>" + b"x" * 5000), url="http://big.org/")
    lines = [json.dumps({"text": "x" * 5000}), json.dumps({"text": "short"})]
    path = tmp_path / "input"
    with (
        patch.multiple("pipeline.readers.warc", DOCUMENT_BYTES=1000),
        patch("pipeline.readers.lines.DOCUMENT_BYTES", 1000),
        patch("pipeline.readers.jsonl.DOCUMENT_BYTES", 1000),
    ):
        for content in (big + record(http()), gzip.compress(big + record(http()))):
            path.write_bytes(content)
            reads, _ = load(path, "warc")
            assert [(read.reason, read.limit) for read in reads] == [("too_large", 1000.0), (None, None)]
        for content in ("\n".join(lines).encode(), gzip.compress("\n".join(lines).encode())):
            path.write_bytes(content)
            reads, _ = load(path, "jsonl")
            assert [read.reason for read in reads] == ["too_large", None]
            assert reads[0].value == len(lines[0]) + 1
    with patch("pipeline.readers.http.DOCUMENT_BYTES", 100_000):
        for coding, bomb in (
            ("gzip", gzip.compress(b"x" * 10**6)), ("br", brotli.compress(b"x" * 10**6)),
            ("zstd", zstandard.compress(b"x" * 10**6)), ("deflate", zlib.compress(b"x" * 10**6)),
        ):  # fmt: skip
            found = page(http(bomb, f"Content-Type: text/html\r\nContent-Encoding: {coding}"), Counter())
            assert (found.reason, found.limit) == ("too_large", 100_000.0), coding


def chunked(body: bytes) -> bytes:
    return (
        b"".join(b"%x;ext=1\r\n%s\r\n" % (len(body[i : i + 7]), body[i : i + 7]) for i in range(0, len(body), 7))
        + b"0\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("head", "body", "count"),
    [
        ("Transfer-Encoding: chunked", chunked(BODY), None),
        ("Transfer-Encoding: chunked", BODY, "chunked_lie"),
        ("Transfer-Encoding: chunked", chunked(BODY)[:-5], "body_cut_short"),
        ("Transfer-Encoding: chunked\r\nContent-Encoding: gzip", chunked(gzip.compress(BODY)), None),
        ("Content-Encoding: gzip", gzip.compress(BODY[:20]) + gzip.compress(BODY[20:]), None),
        ("Content-Encoding: gzip", gzip.compress(BODY)[:-6], "body_cut_short"),
        ("Content-Encoding: deflate", zlib.compress(BODY), None),
        ("Content-Encoding: deflate", zlib.compress(BODY)[2:-4], None),
        ("Content-Encoding: br", brotli.compress(BODY), None),
        ("Content-Encoding: zstd", zstandard.compress(BODY), None),
        ("Content-Encoding: gzip, br", brotli.compress(gzip.compress(BODY)), None),
        ("Content-Encoding: gzip", BODY, "encoding_lie"),
        ("Content-Encoding: UTF-8", BODY, None),
    ],
)
def test_bodies_are_decoded(head: str, body: bytes, count: str | None) -> None:
    """Pages would reach extraction as compressed bytes, or with chunk sizes in their text."""
    counts: Counter[str] = Counter()
    assert page(http(body, "Content-Type: text/html\r\n" + head), counts).body == BODY
    assert counts == ({count: 1} if count else {})


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (b"not http", "bad_http"),
        (http(status="404 Not Found"), "http_status"),
        (http(status="301"), "http_status"),
        (http(head="Content-Type: image/png"), "not_html"),
        (http(b"%PDF-1.4 ..."), "pdf"),
        (http(b"\x00\x01\x02" * 400), "binary"),
        (http(b"just text", head="Server: x"), "plain_text"),
        (http(b" \r\n"), "empty_body"),
        (http(b""), "empty_body"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html", "empty_body"),
        (http(b"\x1f\x8b\x08 broken", "Content-Type: text/html\r\nContent-Encoding: gzip"), "bad_encoding"),
        (http(b"abc", "Content-Type: text/html\r\nContent-Encoding: sdch"), "bad_encoding"),
        (http(head="Server: x"), None),
        (http("<html>text</html>".encode("utf-16-le")), None),
    ],
)
def test_reasons_of_responses(block: bytes, reason: str | None) -> None:
    """A dropped response would carry no reason, or the wrong one."""
    assert page(block, Counter()).reason == reason


def test_kinds_of_records(tmp_path: Path) -> None:
    """Records that are no pages would be missing from the funnel, or be taken for pages."""
    kinds = ["warcinfo", "request", "metadata", "revisit", "conversion", "continuation", "invented"]
    data = b"".join(record(http(), kind=kind) for kind in kinds)
    data += record(BODY, kind="resource", more="Content-Type: text/html\r\n")
    data += record(b"1.2.3.4", url="dns:e.org", more="Content-Type: text/dns\r\n")
    data += record(http(), url="<http://wget.org/>")
    reads, _ = warc(tmp_path, data)
    assert [read.reason for read in reads] == [*kinds[:-1], "unknown_type", None, "dns", None]
    assert reads[-1].url == "http://wget.org/"
    assert reads[-3].payload == BODY


def test_wet(tmp_path: Path) -> None:
    """WET text would lose its language, or a bad byte would end the run."""
    path = tmp_path / "x.wet.gz"
    language = "WARC-Identified-Content-Language: {}\r\n"
    texts = [("zho", "中文".encode()), ("eng,fra", b"two"), ("xyz", b"a \xff b"), ("eng", b" ")]
    path.write_bytes(
        b"".join(gzip.compress(record(text, kind="conversion", more=language.format(code))) for code, text in texts)
    )
    reads, tally = load(path, "wet")
    assert [(read.language, read.text, read.reason) for read in reads] == [
        ("zh", "中文", None), (None, "two", None), (None, "a \ufffd b", None), (None, None, "empty_text"),
    ]  # fmt: skip
    assert tally.counts == {"texts_with_undecodable_bytes": 1}
    assert two_letters("DEU") == two_letters("de") == "de"


def test_json_lines(tmp_path: Path) -> None:
    """A broken line would end the run or vanish; ids would change with the compression."""
    rows = [
        b'{"text": "ok", "meta": {"link": "http://a.org"}, "date": 1700000000, "title": 5}',
        b'{"text": "caf\xe9"}',
        b"[" * 100_000,
        b'{"text": "half \\ud83d pair \\ud83d\\ude00 \\u0000"}',
        b'{"n": ' + b"9" * 5000 + b"}",
        b'\xef\xbb\xbf{"text": "mark"}\r',
        b'{"text": null}',
        b"",
        b'{"text": "last, without an end"}',
    ]
    path = tmp_path / "rows"
    fields = (("url", "meta.link"),)
    seen = []
    for pack in (
        bytes,
        gzip.compress,
        lzma.compress,
        zstandard.compress,
        lambda data: gzip.compress(data[:90]) + gzip.compress(data[90:]),
    ):
        path.write_bytes(pack(b"\n".join(rows)))
        reads, tally = load(path, "jsonl", fields)
        assert [read.reason for read in reads] == [
            None, "undecodable_bytes", "broken_json", None, "broken_json", None, "no_text", None,
        ]  # fmt: skip
        assert (reads[0].url, reads[0].title, str(reads[0].date)) == ("http://a.org", "5", "2023-11-14 22:13:20+00:00")
        assert reads[3].text == "half \ufffd pair 😀 \x00"
        assert tally.counts == {"blank_lines": 1, "texts_with_lone_surrogates": 1}
        assert all(cut(str(path), "jsonl", read.origin, "web", fields) == read for read in reads)
        seen.append([read.id for read in reads])
    assert all(ids == seen[0] for ids in seen)
    path.write_bytes(
        gzip.compress(b"\n".join([b'{"text": "one"}', b'{"text": "two"}', b'{"text": "%b"}' % bytes(range(35, 90))]))[
            :-30
        ]
    )
    reads, tally = load(path, "jsonl")
    assert [read.reason for read in reads] == [None, None, "truncated_record"]
    assert [(gap.length, gap.reason) for gap in tally.gaps] == [(0, "truncated")]


def test_parquet_columns(tmp_path: Path) -> None:
    """A misspelt column would give an empty corpus without a word."""
    path = tmp_path / "t.parquet"
    table = pa.table(
        {"body": pa.array(["a text", "b"]).dictionary_encode(), "meta": [{"link": "http://a.org"}, None], "n": [1, 2]}
    )
    pq.write_table(table, path)
    reads, _ = load(path, "parquet", (("text", "body"), ("url", "meta.link")))
    assert [(read.text, read.url) for read in reads] == [("a text", "http://a.org"), ("b", None)]
    for fields, message in (
        ((("text", "bod"),), "Did you mean 'body'"),
        ((), "fields: {text: COLUMN}"),
        ((("text", "n"),), "must be a string"),
    ):
        with pytest.raises(UserError, match=message):
            load(path, "parquet", fields)


def test_a_record_that_is_gone(tmp_path: Path) -> None:
    """`trace` would show some other record, or a traceback, when the crawl was changed or moved."""
    path = tmp_path / "input.warc"
    path.write_bytes(gzip.compress(record(http())) * 2)
    origin = load(path, "warc")[0][1].origin
    path.write_bytes(gzip.compress(record(http())))
    with pytest.raises(UserError, match="holds no record"):
        cut(str(path), "warc", origin, "web", ())
    path.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        cut(str(path), "warc", origin, "web", ())
