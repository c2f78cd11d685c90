"""WARC, ARC and WET files: gzip members, zstd or lz4 frames or plain, whole, damaged or lying.

Whether a file is WARC or ARC its content says, not the name of the format in the recipe.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from pipeline.errors import UserError
from pipeline.readers import base
from pipeline.readers.arc import ARC_RECORDS
from pipeline.readers.base import Gap, Origin, Piece, Read, Reader, Tally
from pipeline.readers.codecs import Codec
from pipeline.readers.frames import Frame, Frames, detect
from pipeline.readers.http import judged, page
from pipeline.readers.languages import two_letters
from pipeline.readers.records import WARC_RECORDS, Grammar, Junk, Raw, walk
from pipeline.readers.sources import File, Held, Source
from stages.schema import DOCUMENT_BYTES, document_id

KINDS = ("warcinfo", "request", "response", "metadata", "revisit", "resource", "conversion", "continuation")


class _Place(NamedTuple):
    """Where a record's source lies in the file: a frame, or (for a plain file) nothing but the record."""

    name: str
    offset: int | None
    length: int | None


def plan(path: str, target: int) -> list[tuple[int, int]]:
    """See `Reader.plan`. Cuts where a member or a plain record begins, found by decoding from the start."""
    with File(path) as file:
        if file.size <= max(target, 1):
            return [(0, file.size)]
        return tile(_starts(file, *_kind(file)), file.size, target)


def tile(starts: Iterator[int], size: int, target: int) -> list[tuple[int, int]]:
    """Ranges of about `target` bytes that tile [0, size), cut at some of `starts` (ascending)."""
    cuts = [0]
    for start in starts:
        if start - cuts[-1] >= target and start < size:
            cuts.append(start)
    return list(zip(cuts, [*cuts[1:], size], strict=True))


def _starts(file: File, codec: Codec | None, grammar: Grammar) -> Iterator[int]:
    if codec is None:
        for found in walk(file, grammar):
            yield found.start
        return
    for part in Frames(file, codec, grammar.starts).walk(0, file.size):
        if isinstance(part, tuple):
            yield part[0]
        else:
            yield part.offset


def _starts_any(head: bytes) -> bool:
    return WARC_RECORDS.starts(head) or ARC_RECORDS.starts(head)


def _kind(file: File) -> tuple[Codec | None, Grammar]:
    """The compression and the kind of records of a file, by its content."""
    codec = detect(file, _starts_any, _starts_any)
    if codec is not None:
        head = Frames(file, codec, _starts_any).head()
        return codec, ARC_RECORDS if ARC_RECORDS.starts(head) else WARC_RECORDS
    head = file.read(0, 64 << 10)
    if ARC_RECORDS.starts(head):
        return None, ARC_RECORDS
    if not WARC_RECORDS.starts(head) and WARC_RECORDS.following(file, 0) is None:
        return None, WARC_RECORDS if ARC_RECORDS.following(file, 0) is None else ARC_RECORDS
    return None, WARC_RECORDS


def read(piece: Piece, tally: Tally) -> Iterator[Read]:
    """See `Reader.read`. Gap reasons: `zeroed`, `not_a_member`, `corrupt_member`, `crc_mismatch`, `truncated`,
    `no_record`, `not_a_record`."""
    with File(piece.path) as file:
        codec, grammar = _kind(file)
        if codec is None:
            yield from _read_plain(piece, tally, file, grammar)
        else:
            yield from _read_members(piece, tally, file, codec, grammar)


def _read_plain(piece: Piece, tally: Tally, file: File, grammar: Grammar) -> Iterator[Read]:
    position = piece.start
    for found in walk(file, grammar, piece.start, piece.end):
        tally.structure += found.start - position
        position = found.end
        if isinstance(found, Junk):
            tally.gaps.append(Gap(found.start, found.end - found.start, found.reason))
            continue
        tally.framed += 1
        tally.spans += found.end - found.start
        if found.wrong_length:
            tally.counts["content_length_wrong"] += 1
        if found.cut:
            tally.gaps.append(Gap(found.end, 0, "truncated"))
        yield _document(file, found, _Place(piece.name, None, None), piece, tally.counts)
    tally.structure += max(0, piece.end - position)


def _read_members(piece: Piece, tally: Tally, file: File, codec: Codec, grammar: Grammar) -> Iterator[Read]:
    for part in Frames(file, codec, grammar.starts).walk(piece.start, piece.end):
        if isinstance(part, Gap):
            tally.gaps.append(part)
        elif isinstance(part, Frame):
            records = 0
            for found in walk(part.source, grammar):
                if isinstance(found, Junk):
                    tally.counts["bytes_between_records"] += found.end - found.start
                    continue
                records += 1
                tally.framed += 1
                if found.wrong_length:
                    tally.counts["content_length_wrong"] += 1
                place = _Place(piece.name, part.offset, part.length)
                yield _document(part.source, found, place, piece, tally.counts)
            part.book(records, tally)
        else:
            tally.structure += part[1]


def cut(path: str, origin: Origin, piece: Piece) -> Read:
    """The record at `origin`, read as the whole file would be; decodes its member alone.

    Raises UserError where no record begins there.
    """
    counts: Counter[str] = Counter()
    with File(path) as file:
        codec, grammar = _kind(file)
        if codec is None:
            for found in walk(file, grammar, origin.offset, origin.offset + 1):
                if isinstance(found, Raw) and found.start == origin.offset:
                    return _document(file, found, _Place(piece.name, None, None), piece, counts)
        else:
            for part in Frames(file, codec, grammar.starts).walk(origin.offset, origin.offset + 1):
                if isinstance(part, Frame):
                    for found in walk(part.source, grammar, origin.inner_offset, origin.inner_offset + 1):
                        if isinstance(found, Raw) and found.start == origin.inner_offset:
                            place = _Place(piece.name, part.offset, part.length)
                            return _document(part.source, found, place, piece, counts)
    raise UserError(
        f"{path} holds no record at byte {origin.offset} (inside its member: {origin.inner_offset}). "
        "The file is not the one that the run read, or it was changed since."
    )


def _document(source: Source, raw: Raw, place: _Place, piece: Piece, counts: Counter[str]) -> Read:
    header = raw.header
    url = header.get("warc-target-uri")
    if url is not None:
        url = url.strip().removeprefix("<").removesuffix(">") or None  # wget 1.14 to 1.19 put it in brackets
    spelled = header.get("warc-date")
    size = raw.block_end - raw.block
    inner = raw.end - raw.start
    if place.offset is None:
        origin = Origin(place.name, raw.start, inner, 0, inner)
    else:
        origin = Origin(place.name, place.offset, place.length, raw.start, inner)
    date = _date(spelled)
    if size > DOCUMENT_BYTES or raw.block < source.kept:
        record_id = document_id(piece.source, url, spelled, repr(sorted(header.items())).encode())
        return Read(record_id, origin, url, date, reason="too_large", value=float(size), limit=float(DOCUMENT_BYTES))
    block: bytes | memoryview
    if isinstance(source, Held):
        block = memoryview(source.data)[raw.block : raw.block_end]
    else:
        block = source.read(raw.block, size)
    record_id = document_id(piece.source, url, spelled, block)
    blank = Read(record_id, origin, url, date)
    if piece.format == "wet":
        return _text(blank, header, block, counts)
    return _page(blank, header, block, counts)


def _page(blank: Read, header: dict[str, str], block: bytes | memoryview, counts: Counter[str]) -> Read:
    kind = header["warc-type"].lower()
    if kind not in ("response", "resource"):
        return blank._replace(reason=kind if kind in KINDS else "unknown_type")
    if "warc-segment-number" in header:
        return blank._replace(reason="segmented")
    if "warc-truncated" in header:
        counts["warc_truncated"] += 1
    declared = header.get("content-type", "")
    if kind == "resource":
        found = judged(bytes(block), declared or None)
    elif declared.lower().startswith("text/dns") or (blank.url or "").startswith("dns:"):
        return blank._replace(reason="dns")
    else:
        found = page(block, counts, declared)
    return blank._replace(
        content_type=found.content_type,
        headers=found.headers,
        payload=found.body,
        reason=found.reason,
        value=found.value,
        limit=found.limit,
    )


def _text(blank: Read, header: dict[str, str], block: bytes | memoryview, counts: Counter[str]) -> Read:
    kind = header["warc-type"].lower()
    if kind != "conversion":
        return blank._replace(reason=kind if kind in KINDS else "unknown_type")
    text = str(block, "utf-8", "replace")
    if "�" in text and "�".encode() not in bytes(block):
        counts["texts_with_undecodable_bytes"] += 1
    if not text.strip():
        return blank._replace(reason="empty_text")
    return blank._replace(text=text, language=two_letters(header.get("warc-identified-content-language")))


def _date(spelled: str | None) -> datetime | None:
    date = base.parse_date(spelled)
    return None if date is None else date.replace(microsecond=0)


WARC = Reader("warc", plan, read)
ARC = Reader("arc", plan, read)
WET = Reader("wet", plan, read)
