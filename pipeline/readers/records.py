"""WARC records inside decoded bytes: found by their Content-Length, and found again where that lies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.readers.sources import Source, find

HEADER_BYTES = 1 << 20
"""Most bytes of a record's header."""

_VERSION = re.compile(rb"WARC/\d+\.\d+[ \t]*\r?\n")
_HEADER = re.compile(rb"WARC/\d+\.\d+[ \t]*\r?\n(?:[!-9;-~]+[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*)*", re.ASCII)
_BLANK = b"\r\n"


class Raw(NamedTuple):
    """A record's place: header from `start`, block from `block` to `block_end`, the next record from `end`."""

    start: int
    block: int
    block_end: int
    end: int
    header: dict[str, str]
    """Names in lower case; of a name given twice the first."""
    wrong_length: bool
    """Whether the block ends elsewhere than Content-Length says."""


class Junk(NamedTuple):
    """Bytes between records that are none: reason `truncated` or `not_a_record`."""

    start: int
    end: int
    reason: str


def starts_record(head: bytes) -> bool:
    """Whether bytes begin as a WARC file does: a version line, perhaps behind blank lines."""
    return _VERSION.match(head.lstrip(_BLANK)) is not None


def fields(data: bytes) -> dict[str, str]:
    """The `Name: value` lines of a WARC or HTTP header: names in lower case, folded lines joined.

    Of a name given twice the first counts.
    """
    found: dict[str, str] = {}
    for line in re.sub(rb"\r?\n[ \t]+", b" ", data).splitlines():
        name, colon, value = line.partition(b":")
        if colon:
            try:
                text = value.strip().decode("utf-8")
            except UnicodeDecodeError:
                text = value.strip().decode("latin-1")
            found.setdefault(name.strip().decode("latin-1").lower(), text)
    return found


def walk(source: Source, start: int = 0, stop: int | None = None) -> Iterator[Raw | Junk]:
    """The records that begin in `source` from `start` and before `stop`, and what lies between them.

    While Content-Length leads to a version line or the end, nothing inside a block starts a record. Where
    it does not, the next line counts at which a version line is followed by named fields of a record.
    """
    position = start
    while True:
        begin = _skip_blank(source, position)
        if begin is None or (stop is not None and begin >= stop):
            return
        raw = _record(source, begin)
        if isinstance(raw, Raw):
            yield raw
            position = raw.end
            continue
        following = _next_header(source, begin + 1)
        end = following if following is not None else _end(source, begin)
        reason = raw if following is None else "not_a_record"
        yield Junk(begin, end, reason)
        position = end


def _record(source: Source, start: int) -> Raw | str:
    """The record at `start`, or why there is none."""
    header_end, header = _header(source, start)
    if header_end is None:
        return "not_a_record" if header is None else "truncated"
    assert header is not None
    length = header.get("content-length", "").strip()
    if length.isascii() and length.isdigit() and len(length) < 19:
        block_end = header_end + int(length)
        if block_end == header_end or source.read(block_end - 1, 1):
            after = _skip_blank(source, block_end)
            if after is None:
                return Raw(start, header_end, block_end, _end(source, block_end), header, False)
            if source.read(after, 5) == b"WARC/":
                return Raw(start, header_end, block_end, after, header, False)
    else:
        block_end = header_end
    # The length lies, or the input ends inside the block.
    following = _next_header(source, max(header_end, source.kept))
    if following is None:
        end = _end(source, max(header_end, source.kept))
        if end < block_end and not source.complete:
            return "truncated"
        if end >= block_end > header_end or not length:
            return Raw(start, header_end, min(block_end, end), min(block_end, end), header, True)
        return Raw(start, header_end, _trimmed(source, header_end, end), end, header, True)
    if header_end < block_end < following:
        return Raw(start, header_end, block_end, block_end, header, True)
    return Raw(start, header_end, _trimmed(source, header_end, following), following, header, True)


def _header(source: Source, start: int) -> tuple[int | None, dict[str, str] | None]:
    """Where the header at `start` ends and its fields; (None, None): no header; (None, {}): the input ends in it."""
    size = 4096
    while True:
        head = source.read(start, size)
        if not _VERSION.match(head):
            short = len(head) < size and b"\n" not in head and b"WARC/".startswith(head[:5])
            return None, ({} if short else None)
        blank = re.search(rb"\n\r?\n", head)
        if blank:
            found = fields(head[: blank.end()])
            return (start + blank.end(), found) if "warc-type" in found else (None, None)
        if len(head) < size:
            return None, {}
        if size >= HEADER_BYTES:
            return None, None
        size *= 16


def _next_header(source: Source, start: int) -> int | None:
    """The next line from `start` that plausibly starts a record: a version line with named fields behind it."""
    position = start
    while (position := find(source, b"WARC/", position)) >= 0:
        # Heritrix and others write bodies without a line end in front of the next header, so none is asked for.
        found = _HEADER.match(source.read(position, 4096))
        if found:
            names = found[0].lower()
            if b"\nwarc-type:" in names and (b"\nwarc-record-id:" in names or b"\ncontent-length:" in names):
                return position
        position += 1
    return None


def _skip_blank(source: Source, position: int) -> int | None:
    """The first position from `position` that is no line end, or None at the end."""
    while block := source.read(position, 64):
        rest = len(block.lstrip(_BLANK))
        if rest:
            return position + len(block) - rest
        position += len(block)
    return None


def _end(source: Source, position: int) -> int:
    """Where the source ends."""
    while block := source.read(position, 1 << 20):
        position += len(block)
    return position


def _trimmed(source: Source, start: int, end: int) -> int:
    """`end` without the two line ends that close a record."""
    tail = source.read(max(start, end - 4), end - max(start, end - 4))
    for close in (b"\r\n\r\n", b"\n\n", b"\r\n", b"\n"):
        if tail.endswith(close):
            return end - len(close)
    return end
