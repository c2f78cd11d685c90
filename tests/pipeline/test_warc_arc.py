"""ARC files: versions 1 and 2, members and plain, under either format's name, damaged, split, cut."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import zstandard

from pipeline.formats import by_ending
from pipeline.readers.base import Piece, Read, Tally
from pipeline.readers.warc import ARC, WARC, cut

BODY = b"<html><body><p>Some text, \xe4\xb8\xad\xe6\x96\x87</p></body></html>"
HTTP = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + BODY


def header(version: int) -> bytes:
    names = {
        1: b"URL IP-address Archive-date Content-type Archive-length\n",
        2: b"URL IP-address Archive-date Content-type Result-code Checksum Location Offset Filename Archive-length\n",
    }
    return b"%d 0 Someone\n%s" % (version, names[version])


def record(url: str, block: bytes, media: str = "text/html", version: int = 1, length: int | None = None) -> bytes:
    size = len(block) if length is None else length
    middle = f"{media} 200 abc123 - 1234 crawl.arc" if version == 2 else media
    return f"{url} 10.0.0.1 20140216050221 {middle} {size}\n".encode() + block + b"\n"


def records(version: int) -> list[bytes]:
    return [
        record("filedesc://crawl.arc", header(version), "text/plain", version),
        record("dns:e.org", b"20140216050221\ne.org. 589 IN A 10.0.0.1\n", "text/dns", version),
        record("http://e.org/a b?c= d", HTTP, version=version),
        record("http://e.org/404", HTTP.replace(b"200 OK", b"404 Not Found"), version=version),
        record("http://e.org/old", BODY, version=version),
        record("http://e.org/x.png", b"HTTP/1.0 200 OK\nContent-Type: image/png\n\n\x89PNG", "image/png", version),
        record("http://e.org/last", HTTP, "text/html; charset=utf-8", version),
    ]


def load(path: Path, ranges: list[tuple[int, int]] | None = None) -> tuple[list[Read], Tally]:
    """Reads a file in pieces under both names of the format, and checks the books."""
    total = Tally()
    reads: list[Read] = []
    for start, end in ranges or [(0, path.stat().st_size)]:
        found = []
        for reader in (ARC, WARC):
            tally = Tally()
            found.append(list(reader.read(Piece("web", reader.name, str(path), "x.arc", start, end), tally)))
            assert tally.framed == len(found[-1])
            assert end - start == tally.spans + tally.structure + sum(gap.length for gap in tally.gaps)
        assert found[0] == found[1]
        reads += found[0]
        total.gaps += tally.gaps
        total.counts.update(tally.counts)
    return reads, total


PACKS = {
    "plain": b"".join,
    "a member a record": lambda parts: b"".join(map(gzip.compress, parts)),
    "one member": lambda parts: gzip.compress(b"".join(parts)),
    "zstd": lambda parts: b"".join(map(zstandard.compress, parts)),
}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("pack", PACKS)
def test_arc_is_read_whole_split_and_cut(pack: str, version: int, tmp_path: Path) -> None:
    """Crawls from before 2009 would be one gap, or their pages could not be traced."""
    path = tmp_path / "x.arc"
    path.write_bytes(PACKS[pack](records(version)))
    reads, tally = load(path)
    assert not tally.gaps
    assert tally.counts == {"no_http_header": 1}
    assert [(read.url, read.reason) for read in reads] == [
        ("filedesc://crawl.arc", "warcinfo"), ("dns:e.org", "dns"), ("http://e.org/a b?c= d", None),
        ("http://e.org/404", "http_status"), ("http://e.org/old", None), ("http://e.org/x.png", "not_html"),
        ("http://e.org/last", None),
    ]  # fmt: skip
    assert [read.payload for read in reads if read.reason is None] == [BODY] * 3
    assert str(reads[2].date) == "2014-02-16 05:02:21+00:00"
    assert reads[2].content_type == "text/html; charset=utf-8"
    ranges = ARC.plan(str(path), 1)
    assert len(ranges) == (1 if pack == "one member" else len(reads))
    assert load(path, ranges)[0] == reads
    for read in reads:
        piece = Piece("web", "arc", str(path), "x.arc", 0, 0)
        assert cut(str(path), read.origin, piece) == read


@pytest.mark.parametrize("pack", ["plain", "one member"])
@pytest.mark.parametrize("shift", [-8, 9, 10**9])
def test_arc_lengths_that_lie(pack: str, shift: int, tmp_path: Path) -> None:
    """One wrong length would swallow every record behind it."""
    parts = records(1)
    parts[2] = record("http://lie.org/", HTTP, length=len(HTTP) + shift)
    path = tmp_path / "x.arc"
    path.write_bytes(PACKS[pack](parts))
    reads, tally = load(path)
    assert [read.url for read in reads] == [
        "filedesc://crawl.arc", "dns:e.org", "http://lie.org/", "http://e.org/404", "http://e.org/old",
        "http://e.org/x.png", "http://e.org/last",
    ]  # fmt: skip
    assert tally.counts["content_length_wrong"] == 1
    assert reads[2].payload is not None
    assert BODY[: -max(-shift, 1)] in reads[2].payload


def test_arc_goes_on_behind_damage(tmp_path: Path) -> None:
    """One bad member would hide the rest of an old crawl; a damaged start would make it no ARC file at all."""
    parts = list(map(gzip.compress, records(1)))
    path = tmp_path / "x.arc.gz"
    for broken in (0, 3):
        damaged = list(parts)
        damaged[broken] = bytes(len(parts[broken]))
        path.write_bytes(b"".join(damaged))
        reads, tally = load(path)
        assert len(reads) == len(parts) - 1
        start = sum(map(len, parts[:broken]))
        assert [(gap.offset, gap.length, gap.reason) for gap in tally.gaps] == [(start, len(parts[broken]), "zeroed")]
    plain = records(1)
    path.write_bytes(b"garbage without any header\n" + b"".join(plain[1:]))
    reads, tally = load(path)
    assert len(reads) == len(plain) - 1
    assert [(gap.offset, gap.length, gap.reason) for gap in tally.gaps] == [(0, 27, "not_a_record")]


def test_a_header_line_inside_a_page_starts_no_record(tmp_path: Path) -> None:
    """A page that quotes an ARC header would be cut in two."""
    quoted = HTTP + b"\n" + record("http://inner.org/", HTTP)
    parts = [records(1)[0], record("http://outer.org/", quoted), record("http://e.org/", HTTP)]
    for pack in ("plain", "one member"):
        path = tmp_path / "x.arc"
        path.write_bytes(PACKS[pack](parts))
        reads, tally = load(path)
        assert [read.url for read in reads] == ["filedesc://crawl.arc", "http://outer.org/", "http://e.org/"]
        assert not tally.counts


def test_an_ending_of_arc_is_enough() -> None:
    """A recipe over `*.arc.gz` would be refused, or read it as something else."""
    assert [by_ending(name) for name in ("x.arc", "X.ARC.GZ", "x.warc.gz", "x.warc")] == ["arc", "arc", "warc", "warc"]
