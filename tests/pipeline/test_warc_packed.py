"""WARC under every compression: lz4, zstd with a dictionary of its own, padding, one stream over a whole file."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import lz4.frame
import pytest
import zstandard

from pipeline.readers import CUTS, READERS
from pipeline.readers.base import Piece, Read, Tally

PAGE = b"<html><head><title>Page %d</title></head><body><p>Text of page %d, much like the others.</p></body></html>"


def record(number: int, more: bytes = b"") -> bytes:
    block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + PAGE % (number, number) + more
    head = (
        f"WARC/1.1\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:test:{number}>\r\n"
        f"WARC-Date: 2026-01-01T00:00:00.123456Z\r\nWARC-Target-URI: http://e.org/{number}\r\n"
        f"Content-Type: application/http;msgtype=response\r\nContent-Length: {len(block)}\r\n\r\n"
    )
    return head.encode() + block + b"\r\n\r\n"


RECORDS = [record(number) for number in range(40)]
DICTIONARY = zstandard.train_dictionary(2048, RECORDS * 8)


def skippable(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", 0x184D2A50 + kind, len(data)) + data


def with_dictionary(packed: bool) -> bytes:
    """A .warc.zst as IIPC's proposal has it: the dictionary in a skippable frame, then a frame a record."""
    data = DICTIONARY.as_bytes()
    compressor = zstandard.ZstdCompressor(dict_data=DICTIONARY, write_checksum=True)
    head = skippable(0xD, zstandard.compress(data) if packed else data)
    return head + b"".join(map(compressor.compress, RECORDS))


def load(path: Path, ranges: list[tuple[int, int]] | None = None, kind: str = "warc") -> tuple[list[Read], Tally]:
    total = Tally()
    reads: list[Read] = []
    for start, end in ranges or [(0, path.stat().st_size)]:
        tally = Tally()
        found = list(READERS[kind].read(Piece("web", kind, str(path), "x", start, end), tally))
        assert tally.framed == len(found)
        assert end - start == tally.spans + tally.structure + sum(gap.length for gap in tally.gaps)
        reads += found
        total.spans += tally.spans
        total.structure += tally.structure
        total.gaps += tally.gaps
        total.counts.update(tally.counts)
    return reads, total


FILES: dict[str, Callable[[], bytes]] = {
    "lz4": lambda: b"".join(map(lz4.frame.compress, RECORDS)),
    "lz4, one frame": lambda: lz4.frame.compress(b"".join(RECORDS), content_checksum=True),
    "lz4 behind padding": lambda: skippable(1, b"note") + b"".join(map(lz4.frame.compress, RECORDS)),
    "zstd": lambda: b"".join(map(zstandard.compress, RECORDS)),
    "zstd, one frame": lambda: zstandard.compress(b"".join(RECORDS)),
    "zstd with padding": lambda: b"".join(zstandard.compress(r) + skippable(2, b"\0" * 9) for r in RECORDS),
    "zstd, its dictionary plain": lambda: with_dictionary(False),
    "zstd, its dictionary packed": lambda: with_dictionary(True),
    "gzip": lambda: b"".join(map(gzip.compress, RECORDS)),
    "gzip, one member": lambda: gzip.compress(b"".join(RECORDS)),
    "plain": lambda: b"".join(RECORDS),
}


@pytest.mark.parametrize("name", FILES)
def test_every_compression_gives_the_same_records(name: str, tmp_path: Path) -> None:
    """Archives of ArchiveTeam (zstd with a dictionary) or of lz4 writers could not be read; ids would depend on it."""
    path = tmp_path / "x"
    path.write_bytes(FILES[name]())
    reads, tally = load(path)
    assert not tally.gaps
    assert not tally.counts
    assert [read.payload for read in reads] == [PAGE % (number, number) for number in range(40)]
    plain = tmp_path / "plain"
    plain.write_bytes(b"".join(RECORDS))
    assert [read.id for read in reads] == [read.id for read in load(plain)[0]]
    ranges = READERS["warc"].plan(str(path), 150)
    assert len(ranges) == 1 if "one" in name else len(ranges) > 5
    again, books = load(path, ranges)
    assert again == reads
    assert (books.spans, books.structure) == (tally.spans, tally.structure)
    for read in reads[::13]:
        assert CUTS["warc"](str(path), read.origin, Piece("web", "warc", str(path), "x", 0, 0)) == read


@pytest.mark.parametrize("name", ["lz4", "zstd, its dictionary packed"])
def test_damage_in_any_compression_is_a_gap(name: str, tmp_path: Path) -> None:
    """One bad frame would hide all behind it, or its broken text be taken for a page."""
    data = bytearray(FILES[name]())
    path = tmp_path / "x"
    path.write_bytes(data)
    reads, _ = load(path)
    origin = reads[7].origin
    assert origin.length is not None
    data[origin.offset + origin.length // 2] ^= 0x55
    path.write_bytes(data)
    left, tally = load(path)
    if tally.gaps:
        assert [(gap.offset, gap.length) for gap in tally.gaps] == [(origin.offset, origin.length)]
        assert [read.url for read in left] == [read.url for read in reads if read.url != reads[7].url]
    else:  # lz4 frames need have no checksum
        assert name == "lz4"
        assert len(left) == len(reads)
    data[origin.offset : origin.offset + origin.length] = bytes(origin.length)
    path.write_bytes(data)
    assert [(gap.offset, gap.length, gap.reason) for gap in load(path)[1].gaps] == [
        (origin.offset, origin.length, "zeroed")
    ]


def test_a_lost_dictionary_is_said(tmp_path: Path) -> None:
    """A file cut at its head would give pages of garbage, or a crash."""
    path = tmp_path / "x"
    path.write_bytes(with_dictionary(False)[8 + len(DICTIONARY.as_bytes()) :])
    reads, tally = load(path)
    assert not reads
    assert [(gap.offset, gap.length, gap.reason) for gap in tally.gaps] == [(0, path.stat().st_size, "corrupt_member")]


@pytest.mark.parametrize("name", ["gzip, one member", "zstd, one frame", "lz4, one frame"])
def test_one_stream_over_a_file_is_never_held_whole(name: str, tmp_path: Path) -> None:
    """A crawl packed as one stream would need memory for all its decoded bytes."""
    filler = bytes(range(1, 256)) * 40
    parts = [record(number, b"<p>" + filler) for number in range(300)]
    packed = {"gzip": gzip.compress, "zstd": zstandard.compress, "lz4": lz4.frame.compress}[name.split(",")[0]]
    path = tmp_path / "x"
    path.write_bytes(packed(b"".join(parts)))
    held = 0

    def watch(read: Read) -> Read:
        nonlocal held
        held = max(held, len(flows[-1]._data) if flows else 0)
        return read

    from pipeline.readers import frames, sources

    flows: list[sources.Flow] = []

    class Watched(sources.Flow):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)  # type: ignore[arg-type]
            flows.append(self)

    with (
        patch.object(frames, "MEMBER_BYTES", 100_000),
        patch.object(frames, "Flow", Watched),
        patch.object(sources, "_BLOCK", 20_000),
        patch.object(sources, "_BACK", 40_000),
        patch("pipeline.readers.codecs._OUT", 10_000),
    ):
        tally = Tally()
        piece = Piece("web", "warc", str(path), "x", 0, path.stat().st_size)
        reads = [watch(read)._replace(payload=None) for read in READERS["warc"].read(piece, tally)]
    assert len(flows) == 1
    assert len(reads) == 300
    assert all(read.reason is None and read.origin.length is None for read in reads)
    assert 0 < held < 700_000 < sum(map(len, parts))
    assert path.stat().st_size == tally.spans


WET = "\n".join(["A text about archives.", "WARC/1.0", "WARC-Type: conversion", "", "WARC/1.0", "and its end"])


@pytest.mark.parametrize("pack", [b"".join, lambda parts: b"".join(map(gzip.compress, parts))])
def test_a_version_line_in_a_text_starts_no_record(pack: Callable[[list[bytes]], bytes], tmp_path: Path) -> None:
    """A WET text that quotes a WARC header would be cut in two, as in tfds C4, and the half behind it be lost."""
    texts = [WET, "Another.", "WARC/1.0\nWARC-Type: response\nContent-Length: 7\n\nfooled?", "Last."]
    parts = [
        (
            f"WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: http://e.org/{number}\r\n"
            f"WARC-Record-ID: <urn:{number}>\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n"
            f"Content-Length: {len(text)}\r\n\r\n{text}\r\n\r\n"
        ).encode()
        for number, text in enumerate(texts)
    ]
    path = tmp_path / "x.wet"
    path.write_bytes(pack(parts))
    reads, tally = load(path, kind="wet")
    assert [read.text for read in reads] == texts
    assert not tally.counts
    assert load(path, READERS["wet"].plan(str(path), 1), "wet")[0] == reads
