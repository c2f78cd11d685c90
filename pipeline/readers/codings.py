"""HTTP's transfer and content codings undone: whole, cut short, damaged, or never applied."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

import brotli
import zstandard
from isal import isal_zlib

from pipeline.readers.codecs import InflateError
from pipeline.readers.sniff import begins_as_html, looks_html
from stages.schema import DOCUMENT_BYTES

_CHUNK = re.compile(rb"[ \t]*([0-9a-fA-F]{1,8})[ \t]*(?:;[^\n]{0,1000})?\r?\n")
_FEED = 2 << 10
_BITE = 256  # behind an error: what lies in front of it is wanted to the last line
_NONE = frozenset(("", "identity", "none", "utf-8", "8bit", "7bit", "binary"))
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"

Notes = set[str]
"""What was wrong with a body that could be read: `chunked_lie`, `encoding_lie` (the coding was never applied),
`body_cut_short`, `body_damaged` (kept up to the damage)."""


class TooLarge(Exception):
    """A body that decodes to more than DOCUMENT_BYTES."""


def unchunked(body: bytes, notes: Notes) -> bytes:
    """The body without its chunk lines; up to the first that is broken. Where the very first line is none, the
    header lied and the body is given as it is."""
    parts: list[bytes] = []
    position = 0
    while True:
        line = _CHUNK.match(body, position)
        if line is None:
            if not parts:
                notes.add("chunked_lie")
                return body
            rest = body[position : position + 64]
            notes.add("body_damaged" if rest.strip() else "body_cut_short")
            return b"".join(parts)
        size = int(line[1], 16)
        if size == 0:
            return b"".join(parts)
        part = body[line.end() : line.end() + size]
        parts.append(part)
        position = line.end() + size
        if len(part) < size:
            notes.add("body_cut_short")
            return b"".join(parts)
        if body[position : position + 2] == b"\r\n":
            position += 2
        elif body[position : position + 1] == b"\n":
            position += 1


def decoded(body: bytes, coding: str, notes: Notes) -> bytes:
    """The body without one content coding; of a damaged one, what comes before the damage.

    Raises TooLarge, and ValueError where the bytes are not of that coding. A body that is visibly HTML
    under a coding that it does not have is given as it is: crawlers store decoded bodies under old headers.
    """
    if coding in _NONE or not body:
        return body
    decoder = _decoder(body, coding, notes)
    if decoder is not None:
        result, whole, error = decoder(body)
        if whole:
            return result
        # Brotli and raw deflate have no mark of their own: any bytes may give some output before they fail.
        sure = body.startswith((_GZIP, _ZSTD)) or not error or looks_html(result)
        if result and sure and not begins_as_html(body):
            notes.add("body_damaged" if error else "body_cut_short")
            return result
    if begins_as_html(body):
        notes.add("encoding_lie")
        return body
    raise ValueError(f"not {coding}")


Outcome = tuple[bytes, bool, bool]
"""Decoded bytes, whether they are whole, whether an error ended them."""


def _decoder(body: bytes, coding: str, notes: Notes) -> Callable[[bytes], Outcome] | None:
    if coding in ("gzip", "x-gzip", "deflate", "br", "zstd"):
        if body.startswith(_GZIP + b"\x08"):
            if coding not in ("gzip", "x-gzip"):
                notes.add("encoding_lie")
            return _gzip
        return {"br": _brotli, "zstd": _zstd}.get(coding, _deflate)
    return None


def _gzip(data: bytes) -> Outcome:
    parts: list[bytes] = []
    size = 0
    while True:
        part, whole, error, rest = _inflated(data, 31)
        parts.append(part)
        size += len(part)
        if size > DOCUMENT_BYTES:
            raise TooLarge
        if not whole or not rest.startswith(_GZIP):
            return b"".join(parts), whole, error
        data = rest


def _deflate(data: bytes) -> Outcome:
    """zlib's format, as the standard has it, or raw deflate, as many servers do."""
    if len(data) >= 2 and data[0] & 15 == 8 and (data[0] << 8 | data[1]) % 31 == 0:
        result, whole, error, _ = _inflated(data, 15)
        if result or whole:
            return result, whole, error
    return _inflated(data, -15)[:3]


def _inflated(data: bytes, bits: int) -> tuple[bytes, bool, bool, bytes]:
    """Also the bytes behind the stream."""
    decoder = isal_zlib.decompressobj(bits)
    try:
        result = decoder.decompress(data, DOCUMENT_BYTES + 1)
    except InflateError:
        return *_bites(data, isal_zlib.decompressobj(bits).decompress, InflateError), b""
    if len(result) > DOCUMENT_BYTES:
        raise TooLarge
    return result, decoder.eof, False, decoder.unused_data


def _bites(data: bytes, step: Callable[[bytes], bytes], fault: type[Exception]) -> Outcome:
    """What a decoder gives before its error."""
    parts: list[bytes] = []
    size = 0
    for start in range(0, len(data), _BITE):
        try:
            parts.append(step(data[start : start + _BITE]))
        except fault:
            break
        size += len(parts[-1])
        if size > DOCUMENT_BYTES:
            raise TooLarge
    return b"".join(parts), False, True


def _brotli(data: bytes) -> Outcome:
    decoder = brotli.Decompressor()
    parts: list[bytes] = []
    size = 0
    rest = data
    while True:
        try:
            part = decoder.process(rest, output_buffer_limit=DOCUMENT_BYTES + 1 - size)
        except brotli.error:
            again = functools.partial(brotli.Decompressor().process, output_buffer_limit=1 << 20)
            return _bites(data, again, brotli.error)
        parts.append(part)
        size += len(part)
        if size > DOCUMENT_BYTES:
            raise TooLarge
        rest = b""
        if decoder.is_finished() or decoder.can_accept_more_data():
            return b"".join(parts), bool(decoder.is_finished()), False


def _zstd(data: bytes) -> Outcome:
    decoder = zstandard.ZstdDecompressor().decompressobj()
    parts: list[bytes] = []
    size = start = 0
    while start < len(data):  # small bites: the decoder has no limit on its output
        try:
            parts.append(decoder.decompress(data[start : start + _FEED]))
        except zstandard.ZstdError:
            return b"".join(parts), False, True
        start += _FEED
        size += len(parts[-1])
        if size > DOCUMENT_BYTES:
            raise TooLarge
        if decoder.eof:
            start = min(start, len(data)) - len(decoder.unused_data)
            if data[start : start + 4] != _ZSTD:
                break
            decoder = zstandard.ZstdDecompressor().decompressobj()
    return b"".join(parts), decoder.eof, False
