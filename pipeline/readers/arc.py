"""How records lie in ARC files, which crawlers wrote before WARC: one line of header, then the response.

A line of version 1 is `URL IP date type length`, of version 2 `URL IP date type status checksum location
offset file length`; the first record, `filedesc:`, tells of the file. URLs may hold spaces.
Source: https://archive.org/web/researcher/ArcFileFormat.php.
"""

from __future__ import annotations

import re

from pipeline.readers.records import Grammar
from pipeline.readers.sources import Source

_LINE_BYTES = 64 << 10
_LINE = re.compile(
    rb"([A-Za-z][A-Za-z0-9+.\-]{0,30}:[^\r\n]{0,32768}?) (\S{1,256}) (\d{8,17}) "
    rb"([^\r\n]{0,1024}?)(?: (?:\d{3}|-) \S+ \S+ (?:\d+|-) \S+)? (\d{1,18})[ \t]*\r?\n"
)
_SURE = re.compile(
    rb"(?:^|(?<=\n))[A-Za-z][A-Za-z0-9+.\-]{0,30}:[^\r\n]{0,8192}? [0-9A-Fa-f.:\-]{1,64} "
    rb"\d{12,14} \S[^\r\n]{0,1024} \d{1,18}\r?\n"
)
_BLOCK = 1 << 20


def _starts(head: bytes) -> bool:
    return _LINE.match(head.lstrip(b"\r\n")) is not None


def _header(source: Source, start: int) -> tuple[int | None, dict[str, str] | None]:
    line = source.read(start, 1024)
    if b"\n" not in line:
        line = source.read(start, _LINE_BYTES)
    found = _LINE.match(line)
    if found is None:
        short = b"\n" not in line and len(line) < _LINE_BYTES and re.match(rb"[A-Za-z][A-Za-z0-9+.\-]*(?::|\Z)", line)
        return None, ({} if short else None)
    url, _, date, media, length = (part.decode("utf-8", "replace") for part in found.groups())
    return start + found.end(), {
        "warc-type": "warcinfo" if url.startswith("filedesc:") else "response",
        "warc-target-uri": url,
        "warc-date": _iso(date),
        "content-type": media,
        "content-length": length,
    }


def _iso(date: str) -> str:
    """`2014-02-16T05:02:21Z` of `20140216050221`; what is missing behind the day is 0."""
    digits = date[:14].ljust(14, "0")
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}T{digits[8:10]}:{digits[10:12]}:{digits[12:]}Z"


def _at(source: Source, position: int) -> bool:
    return _header(source, position)[1] is not None


def _following(source: Source, start: int) -> int | None:
    position = start
    while block := source.read(position, _BLOCK + _LINE_BYTES):
        # Only behind a line end, of which the one in front of `start` counts too.
        for found in _SURE.finditer(block):
            if found.start() < _BLOCK and (found.start() > 0 or _behind_line_end(source, position)):
                return position + found.start()
        if len(block) <= _BLOCK:
            return None
        position += _BLOCK
    return None


def _behind_line_end(source: Source, position: int) -> bool:
    return position == 0 or (position > source.kept and source.read(position - 1, 1) == b"\n")


ARC_RECORDS = Grammar(_starts, _header, _at, _following)
