"""From an HTTP response as the crawl holds it to the decoded body, or to the reason why it is no page."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import brotli
import zstandard

from pipeline.readers.records import fields
from stages.schema import DOCUMENT_BYTES

HTML_TYPES = ("text/html", "application/xhtml+xml", "application/vnd.wap.xhtml+xml")

_STATUS = re.compile(rb"HTTP/\d+(?:\.\d+)?[ \t]+(\d{3})(?:[ \t][^\n]*)?\r?\n", re.IGNORECASE)
_BINARY = (
    b"%PDF-", b"\x89PNG", b"GIF8", b"\xff\xd8\xff", b"PK\x03\x04", b"\x1f\x8b\x08", b"RIFF", b"OggS", b"ID3",
    b"\x00\x00\x01\x00", b"\xd0\xcf\x11\xe0", b"Rar!", b"7z\xbc\xaf", b"wOFF", b"wOF2", b"\x7fELF", b"\x28\xb5\x2f\xfd",
)  # fmt: skip
_TAG = re.compile(
    rb"<(?:!doctype\s+html|!--"
    rb"|/?(?:html|head|body|title|meta|link|script|div|p|a|table|span|h[1-6]|ul|br|font|center)\b)",
    re.IGNORECASE,
)
_CHUNK = re.compile(rb"[ \t]*([0-9a-fA-F]{1,8})[ \t]*(?:;[^\n]{0,1000})?\r?\n")
_FEED = 2 << 10


class Page(NamedTuple):
    """A body, or the reason why there is none."""

    body: bytes | None = None
    content_type: str | None = None
    reason: str | None = None
    value: float | None = None
    limit: float | None = None


class TooLarge(Exception):
    """A body that decodes to more than DOCUMENT_BYTES."""


def page(block: bytes, counts: Counter[str]) -> Page:
    """What an HTTP response holds: status line, header and body as received.

    Reasons: `bad_http`, `http_status` (value is the status), `not_html`, `bad_encoding`, `too_large`,
    `empty_body`. `counts` learns of bodies that did not keep what their header said but could be read.
    """
    status = _STATUS.match(block)
    if status is None:
        return Page(reason="bad_http")
    split = re.compile(rb"\r?\n\r?\n").search(block, status.end() - 2)
    header = fields(block[status.end() : split.start() if split else len(block)])
    body = block[split.end() :] if split else b""
    content_type = header.get("content-type")
    code = int(status[1])
    if not 200 <= code < 300:
        return Page(None, content_type, "http_status", float(code), 200.0)
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind and kind not in HTML_TYPES:
        return Page(None, content_type, "not_html")
    try:
        if "chunked" in header.get("transfer-encoding", "").lower():
            body = unchunked(body, counts)
        for coding in reversed(header.get("content-encoding", "").lower().split(",")):
            body = decoded(body, coding.strip(), counts)
    except TooLarge:
        return Page(None, content_type, "too_large", float(DOCUMENT_BYTES + 1), float(DOCUMENT_BYTES))
    except ValueError:
        return Page(None, content_type, "bad_encoding")
    return judged(body, content_type, bool(kind))


def judged(body: bytes, content_type: str | None, says_html: bool) -> Page:
    """The body as a page, unless it is empty or, by its first bytes, something else than HTML."""
    if not body.strip():
        return Page(None, content_type, "empty_body")
    if len(body) > DOCUMENT_BYTES:
        return Page(None, content_type, "too_large", float(len(body)), float(DOCUMENT_BYTES))
    if binary(body) or not (says_html or looks_html(body)):
        return Page(None, content_type, "not_html")
    return Page(body, content_type)


def binary(body: bytes) -> bool:
    """Whether the first bytes are those of an image, an archive and the like, or mostly NULs outside UTF-16."""
    head = body[:1024]
    if head.lstrip().startswith(_BINARY):
        return True
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or len(head) < 8:
        return False
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) > len(head) // 4 and min(even, odd) * 8 < max(even, odd):
        return False  # text in Latin letters as UTF-16 without a mark
    return even + odd > len(head) // 10


def looks_html(body: bytes) -> bool:
    """Whether a tag of HTML stands in the first 2,000 bytes (NULs ignored, for UTF-16)."""
    return _TAG.search(body[:2000].replace(b"\x00", b"")) is not None


def unchunked(body: bytes, counts: Counter[str]) -> bytes:
    """The body without its chunk lines. Where the first is none, the header lied and the body is given as it is.

    Raises ValueError where a later chunk line is none.
    """
    if not _CHUNK.match(body):
        counts["chunked_lie"] += 1
        return body
    parts: list[bytes] = []
    position = 0
    while True:
        line = _CHUNK.match(body, position)
        if line is None:
            if not body[position:].strip():
                counts["body_cut_short"] += 1
                return b"".join(parts)
            if not parts:  # text that only begins like a chunk line
                counts["chunked_lie"] += 1
                return body
            raise ValueError("broken chunk")
        size = int(line[1], 16)
        if size == 0:
            return b"".join(parts)
        part = body[line.end() : line.end() + size]
        parts.append(part)
        if len(part) < size:
            counts["body_cut_short"] += 1
            return b"".join(parts)
        position = line.end() + size
        if body[position : position + 2] == b"\r\n":
            position += 2
        elif body[position : position + 1] == b"\n":
            position += 1


def decoded(body: bytes, coding: str, counts: Counter[str]) -> bytes:
    """The body without one content coding.

    Raises TooLarge, and ValueError where the bytes are not of that coding. A body that is visibly HTML
    under a coding that it does not have is given as it is: crawlers store decoded bodies under old headers.
    """
    if coding in ("", "identity", "none", "utf-8", "8bit", "binary") or not body:
        return body
    decoders: dict[str, Callable[[bytes], tuple[bytes, bool]]] = {
        "gzip": lambda data: _zlib(data, 31),
        "x-gzip": lambda data: _zlib(data, 31),
        "deflate": lambda data: _zlib(data, 15 if _zlib_header(data) else -15),
        "br": _brotli,
        "zstd": _zstd,
    }
    if coding in decoders:
        try:
            result, whole = decoders[coding](body)
        except (zlib.error, brotli.error, zstandard.ZstdError, MemoryError):
            pass
        else:
            if result or whole:
                if not whole:
                    counts["body_cut_short"] += 1
                return result
    head = body[:512].replace(b"\x00", b"").lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(b"<") and looks_html(body):
        counts["encoding_lie"] += 1
        return body
    raise ValueError(f"not {coding}")


def _zlib_header(data: bytes) -> bool:
    return len(data) >= 2 and data[0] & 15 == 8 and (data[0] << 8 | data[1]) % 31 == 0


def _zlib(data: bytes, bits: int) -> tuple[bytes, bool]:
    decoder = zlib.decompressobj(bits)
    out = decoder.decompress(data, DOCUMENT_BYTES + 1)
    if len(out) > DOCUMENT_BYTES:
        raise TooLarge
    parts, size = [out], len(out)
    while decoder.eof and bits == 31 and decoder.unused_data.startswith(b"\x1f\x8b"):
        rest = decoder.unused_data
        decoder = zlib.decompressobj(bits)
        parts.append(decoder.decompress(rest, DOCUMENT_BYTES + 1))
        size += len(parts[-1])
        if size > DOCUMENT_BYTES:
            raise TooLarge
    return b"".join(parts), decoder.eof


def _brotli(data: bytes) -> tuple[bytes, bool]:
    decoder = brotli.Decompressor()
    parts: list[bytes] = []
    size = 0
    while True:
        part = decoder.process(data, output_buffer_limit=DOCUMENT_BYTES + 1 - size)
        parts.append(part)
        size += len(part)
        if size > DOCUMENT_BYTES:
            raise TooLarge
        data = b""
        if decoder.is_finished() or decoder.can_accept_more_data():
            return b"".join(parts), bool(decoder.is_finished())


def _zstd(data: bytes) -> tuple[bytes, bool]:
    decoder = zstandard.ZstdDecompressor().decompressobj()
    parts, size = [], 0
    for start in range(0, len(data), _FEED):  # small bites: the decoder has no limit on its output
        part = decoder.decompress(data[start : start + _FEED])
        parts.append(part)
        size += len(part)
        if size > DOCUMENT_BYTES:
            raise TooLarge
        if decoder.eof:
            break
    return b"".join(parts), decoder.eof
