"""From an HTTP response as the crawl holds it to the decoded body, or to the reason why it is no page."""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

from pipeline.readers.codings import Notes, TooLarge, decoded, unchunked
from pipeline.readers.records import fields
from pipeline.readers.sniff import kind_of, may_be_page, media_type
from stages.schema import DOCUMENT_BYTES

_STATUS = re.compile(rb"HTTP(?:/\d+(?:\.\d+)?)?[ \t]+(\d{3})(?:[ \t][^\n]*)?\r?\n", re.IGNORECASE)
_BODY = re.compile(rb"\n\r?\n")
_RIGHTS = re.compile(
    rb"^(x-robots-tag|tdm-reservation|link)[ \t]*:[ \t]*([^\r\n]{1,2000})", re.IGNORECASE | re.MULTILINE
)
_LISTS = frozenset(("content-encoding", "transfer-encoding"))
_INTERIM = 4  # answers of status 1xx in front of the real one


class Page(NamedTuple):
    """A body, or the reason why there is none."""

    body: bytes | None = None
    content_type: str | None = None
    reason: str | None = None
    value: float | None = None
    limit: float | None = None
    headers: str | None = None
    """See `stages.schema.READ`."""


def page(block: bytes | memoryview, counts: Counter[str], declared: str = "") -> Page:
    """What an HTTP response holds: status line, header and body as received.

    `declared` is the type that the record's own header gives; a block without a status line under another type
    than application/http (old crawlers wrote such) is taken as the body alone.

    Reasons: `bad_http`, `http_status` (value is the status), `not_html` (its header says another type),
    `pdf`, `image`, `media`, `archive`, `binary`, `json`, `xml`, `plain_text` (its content is that, whatever the
    header says), `bad_encoding`, `too_large`, `empty_body`. `counts` learns of bodies that did not keep
    what their header said but could be read (see `codings.Notes`), and `http_length_wrong`.
    """
    status = _STATUS.match(block)
    start = 0
    for _ in range(_INTERIM):
        if status is None or status[1][:1] != b"1" or (gap := _BODY.search(block, status.end() - 1)) is None:
            break
        following = _STATUS.match(block, gap.end())
        if following is None:
            break
        status, start = following, gap.end()
    if status is None:
        if not declared or media_type(declared) == "application/http":
            return Page(reason="bad_http")
        counts["no_http_header"] += 1
        return judged(bytes(block), declared)
    split = _BODY.search(block, max(start, status.end() - 1))
    head = bytes(block[status.end() : split.end() if split else len(block)])
    header = fields(head, _LISTS)
    content_type = header.get("content-type")
    code = int(status[1])
    if not 200 <= code < 300:
        return Page(None, content_type, "http_status", float(code), 200.0)
    if not may_be_page(media_type(content_type)):
        return Page(None, content_type, "not_html")
    body = bytes(block[split.end() :]) if split else b""
    notes: Notes = set()
    try:
        body = _undone(body, header, notes)
    except TooLarge:
        return Page(None, content_type, "too_large", float(DOCUMENT_BYTES + 1), float(DOCUMENT_BYTES))
    except ValueError:
        return Page(None, content_type, "bad_encoding")
    finally:
        counts.update(notes)
    return judged(body, content_type)._replace(headers=_rights(head))


def _rights(head: bytes) -> str | None:
    """The lines of a header that tell what may be done with the page."""
    lines = []
    for name, value in _RIGHTS.findall(head):
        if name.lower() != b"link" or b"license" in value.lower():
            lines.append(f"{name.decode().lower()}: {value.decode('utf-8', 'replace').strip()}")
    return "\n".join(lines) or None


def _undone(body: bytes, header: dict[str, str], notes: Notes) -> bytes:
    """The body without its codings, last one first."""
    transfer = header.get("transfer-encoding")
    if transfer is None:
        length = header.get("content-length", "")
        if length.isascii() and length.isdigit() and len(length) < 19 and int(length) != len(body):
            notes.add("body_cut_short" if int(length) > len(body) else "http_length_wrong")
    else:
        for coding in reversed(transfer.lower().split(",")):
            coding = coding.strip()
            body = unchunked(body, notes) if coding == "chunked" else decoded(body, coding, notes)
    codings = header.get("content-encoding")
    if codings is not None:
        for coding in reversed(codings.lower().split(",")):
            body = decoded(body, coding.strip(), notes)
    if body.startswith(b"\x1f\x8b\x08"):  # a coding that no header tells of
        try:
            body = decoded(body, "gzip", notes)
            notes.add("encoding_lie")
        except ValueError:
            pass  # some other file; its content will tell
    return body


def judged(body: bytes, content_type: str | None) -> Page:
    """The body as a page, unless it is empty, too large or, by header or first bytes, something else than HTML."""
    if not body or body.isspace():
        return Page(None, content_type, "empty_body")
    if len(body) > DOCUMENT_BYTES:
        return Page(None, content_type, "too_large", float(len(body)), float(DOCUMENT_BYTES))
    media = media_type(content_type)
    kind = kind_of(body, media) if may_be_page(media) else "not_html"
    return Page(body, content_type) if kind == "html" else Page(None, content_type, kind)
