"""Records inside decoded bytes: found by the length in their header, and found again where that lies."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pipeline.readers.sources import File, Source, find

HEADER_BYTES = 1 << 20
"""Most bytes of a record's header."""

_VERSION = re.compile(rb"WARC/\d+\.\d+[ \t]*\r?\n")
_HEADER = re.compile(rb"WARC/\d+\.\d+[ \t]*\r?\n(?:[!-9;-~]+[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*)*", re.ASCII)
_BLANK = b"\r\n"
_HEADER_END = re.compile(rb"\n\r?\n")
_FOLD = re.compile(rb"\r?\n[ \t]+")
_ASCII_SPACE = " \t\r\n\x0b\x0c"


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
    cut: bool = False
    """Whether a plain file ends inside the block: it was cut off, or the length lies; nobody can tell."""


class Junk(NamedTuple):
    """Bytes between records that are none: reason `truncated` or `not_a_record`."""

    start: int
    end: int
    reason: str


def starts_record(head: bytes) -> bool:
    """Whether bytes begin as a WARC file does: a version line, perhaps behind blank lines."""
    return _VERSION.match(head.lstrip(_BLANK)) is not None


def fields(data: bytes, lists: frozenset[str] = frozenset()) -> dict[str, str]:
    """The `Name: value` lines of a WARC or HTTP header: names in lower case, folded lines joined.

    Of a name given twice the first counts; those in `lists` are joined by a comma. A value that is not
    UTF-8 is Latin-1.
    """
    if b"\n " in data or b"\n\t" in data:
        data = _FOLD.sub(b" ", data)
    try:
        lines = data.decode("utf-8").replace("\r", "\n").split("\n")
    except UnicodeDecodeError:
        lines = [_text(line) for line in data.splitlines()]
    found: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            name = name.strip(_ASCII_SPACE).lower()
            if name not in found:
                found[name] = value.strip(_ASCII_SPACE)
            elif name in lists:
                found[name] += "," + value.strip(_ASCII_SPACE)
    return found


def _text(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")


class Grammar(NamedTuple):
    """How records of a format are found: those of WARC and of ARC differ in this alone."""

    starts: Callable[[bytes], bool]
    """Whether bytes begin as a file or member of the format does."""
    header: Callable[[Source, int], tuple[int | None, dict[str, str] | None]]
    """Where the header at a position ends and its fields; (None, None): no header; (None, {}): the input ends in it."""
    at: Callable[[Source, int], bool]
    """Whether a record may begin at a position: a quick look, which confirms a length."""
    following: Callable[[Source, int], int | None]
    """The first place from a position where a record begins beyond doubt."""


def walk(source: Source, grammar: Grammar, start: int = 0, stop: int | None = None) -> Iterator[Raw | Junk]:
    """The records that begin in `source` from `start` and before `stop`, and what lies between them.

    While Content-Length leads to a version line or the end, nothing inside a block starts a record. Where
    it does not, the next line counts at which a version line is followed by named fields of a record.
    """
    position = start
    while True:
        begin = _skip_blank(source, position)
        if begin is None or (stop is not None and begin >= stop):
            return
        raw = _record(source, grammar, begin)
        if isinstance(raw, Raw):
            yield raw
            position = raw.end
            continue
        following = grammar.following(source, begin + 1)
        end = following if following is not None else _end(source, begin)
        reason = raw if following is None else "not_a_record"
        yield Junk(begin, end, reason)
        position = end


def _record(source: Source, grammar: Grammar, start: int) -> Raw | str:
    """The record at `start`, or why there is none."""
    header_end, header = grammar.header(source, start)
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
            if grammar.at(source, after):
                return Raw(start, header_end, block_end, after, header, False)
    else:
        block_end = header_end
    # The length lies, or the input ends inside the block.
    following = grammar.following(source, max(header_end, source.kept))
    if following is None:
        end = _end(source, max(header_end, source.kept))
        if end < block_end and not source.complete:
            if not isinstance(source, File):
                return "truncated"
            trimmed = _trimmed(source, header_end, end)
            closed = end - trimmed > 1 and source.read(trimmed, 4) in (b"\r\n\r\n", b"\n\n")
            return Raw(start, header_end, trimmed if closed else end, end, header, True, not closed)
        if end >= block_end > header_end or not length:
            return Raw(start, header_end, min(block_end, end), min(block_end, end), header, True)
        return Raw(start, header_end, _trimmed(source, header_end, end), end, header, True)
    if header_end < block_end < following:
        return Raw(start, header_end, block_end, block_end, header, True)
    return Raw(start, header_end, _trimmed(source, header_end, following), following, header, True)


def _header(source: Source, start: int) -> tuple[int | None, dict[str, str] | None]:
    size = 4096
    while True:
        head = source.read(start, size)
        if not _VERSION.match(head):
            short = len(head) < size and b"\n" not in head and b"WARC/".startswith(head[:5])
            return None, ({} if short else None)
        blank = _HEADER_END.search(head)
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


def _at(source: Source, position: int) -> bool:
    return source.read(position, 5) == b"WARC/"


WARC_RECORDS = Grammar(starts_record, _header, _at, _next_header)


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
