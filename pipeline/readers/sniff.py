"""What a body is by its first bytes, whatever its header says (after the WHATWG's MIME Sniffing standard).

Where the standard thinks of safety (text/plain never becomes HTML), a crawl thinks of text: servers label
pages text/plain or application/octet-stream, and PDFs, images, feeds and API answers text/html.
"""

from __future__ import annotations

import re

HTML_TYPES = ("text/html", "application/xhtml+xml", "application/vnd.wap.xhtml+xml")

SNIFFED_TYPES = frozenset(
    (
        "", "text/plain", "text/xml", "application/xml", "application/octet-stream", "binary/octet-stream",
        "application/x-download", "application/force-download", "application/x-httpd-php", "unknown/unknown",
        "application/unknown", "application/x-unknown-content-type", "httpd/unix-directory", "no-type", "*/*",
    )
)  # fmt: skip
"""Types that say little or are often wrong: the content decides."""

_HEAD = 4096
_MAGIC = (
    (b"%PDF-", "pdf"),
    (b"\x89PNG", "image"), (b"GIF8", "image"), (b"\xff\xd8\xff", "image"), (b"\x00\x00\x01\x00", "image"),
    (b"II*\x00", "image"), (b"MM\x00*", "image"), (b"8BPS", "image"),
    (b"RIFF", "media"), (b"OggS", "media"), (b"ID3", "media"), (b"\x1aE\xdf\xa3", "media"), (b"fLaC", "media"),
    (b"FLV\x01", "media"), (b"\xff\xfb", "media"), (b"\xff\xf3", "media"), (b"MThd", "media"),
    (b"PK\x03\x04", "archive"), (b"\x1f\x8b\x08", "archive"), (b"Rar!", "archive"), (b"7z\xbc\xaf", "archive"),
    (b"\x28\xb5\x2f\xfd", "archive"), (b"\xfd7zXZ\x00", "archive"), (b"MSCF", "archive"), (b"BZh91AY", "archive"),
    (b"wOFF", "binary"), (b"wOF2", "binary"), (b"OTTO\x00", "binary"), (b"\x7fELF", "binary"),
    (b"\xd0\xcf\x11\xe0", "binary"), (b"%!PS-Adobe", "binary"), (b"{\\rtf", "binary"),
)  # fmt: skip
_SIGNATURES = tuple(magic for magic, _ in _MAGIC)
_MARKS = b"\xef\xbb\xbf\xff\xfe"
_PROLOGUE = re.compile(rb"(?:\s++|<!--.*?-->|<\?.*?\?>|<!doctype\s(?!\s*html)[^>\[]*+(?:\[.*?\])?\s*+>)*+", re.I | re.S)
_HTML_START = re.compile(
    rb"<(?:!doctype\s+html|/?(?:html|head|body|title|meta|link|script|style|noscript|iframe|div|p|a|table|tr|td|span"
    rb"|h[1-6]|ul|ol|br|hr|b|i|font|center|img|form|main|article|section|header|nav|frameset|base)[\s/>])",
    re.I,
)
_TAG = re.compile(
    rb"<(?:!doctype\s+html|!--"
    rb"|/?(?:html|head|body|title|meta|link|script|div|p|a|table|span|h[1-6]|ul|br|font|center)\b)",
    re.I,
)
_XML_ROOT = re.compile(
    rb"<(?:rss|feed|rdf:rdf|urlset|sitemapindex|opml|svg|soap(?:-env)?:envelope|methodresponse|kml|gpx|wml)[\s/>]", re.I
)
_JSON = re.compile(rb'\{\s*+(?:"|\}\s*+\Z)|\[\s*+(?:["{\[]|\]\s*+\Z|-?\d)')


def media_type(content_type: str | None) -> str:
    """The type of a Content-Type header in lower case: `text/html` of `text/html; charset=utf-8`, and of
    `text/htmlcharset=utf-8`; empty where there is none."""
    found = re.split("[;,\\s]", (content_type or "").strip().lower(), maxsplit=1)[0]
    return "text/html" if found.startswith("text/html") else found


def may_be_page(media: str) -> bool:
    """Whether a body under this type may be a page: it says HTML, nothing, nothing certain, or is no type at all."""
    return media in HTML_TYPES or media in SNIFFED_TYPES or "/" not in media


def kind_of(body: bytes, media: str) -> str:
    """What `body` is: `html`, `pdf`, `image`, `media`, `archive`, `binary`, `json`, `xml` or `plain_text`.

    Text that says nothing of itself is HTML where `media` says so; without a header it is where a tag of
    HTML stands in its first 2,000 bytes; called text/plain, XML or a stream of bytes, only where it begins as HTML.
    """
    head = body[:_HEAD]
    if found := _signature(head):
        return found
    if binary(head):
        return "binary"
    if b"\x00" in head:
        head = head.replace(b"\x00", b"")  # UTF-16
    head = head.lstrip(_MARKS)
    prologue = _PROLOGUE.match(head)
    start = prologue.end() if prologue else 0
    if _HTML_START.match(head, start):
        return "html"
    if _XML_ROOT.match(head, start) or (head.lstrip()[:5].lower() == b"<?xml" and b"/1999/xhtml" not in head):
        return "xml"
    if _JSON.match(head, start) and body.rstrip(b"\x00 \t\r\n")[-1:] in (b"}", b"]"):
        return "json"
    if media in HTML_TYPES or ((not media or "/" not in media) and looks_html(body)):
        return "html"
    return "xml" if media in ("text/xml", "application/xml") else "plain_text"


def _signature(head: bytes) -> str | None:
    first = head.lstrip()
    if first.startswith(_SIGNATURES):
        kind = next(kind for magic, kind in _MAGIC if first.startswith(magic))
        return "image" if kind == "media" and first[8:12] == b"WEBP" else kind
    if head[4:8] == b"ftyp":
        return "image" if head[8:12] in (b"avif", b"avis", b"heic", b"mif1") else "media"
    return "image" if head[:2] == b"BM" and head[6:10] == bytes(4) else None


def binary(body: bytes) -> bool:
    """Whether the first bytes are mostly NULs outside UTF-16."""
    head = body[:1024]
    if b"\x00" not in head or head.startswith((b"\xff\xfe", b"\xfe\xff")) or len(head) < 8:
        return False
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) > len(head) // 4 and min(even, odd) * 8 < max(even, odd):
        return False  # text in Latin letters as UTF-16 without a mark
    return even + odd > len(head) // 10


def looks_html(body: bytes) -> bool:
    """Whether a tag of HTML stands in the first 2,000 bytes (NULs ignored, for UTF-16)."""
    return _TAG.search(body[:2000].replace(b"\x00", b"")) is not None


def begins_as_html(body: bytes) -> bool:
    """Whether the first character is a `<` and a tag of HTML stands near it."""
    return body[:512].replace(b"\x00", b"").lstrip(_MARKS + b" \t\r\n").startswith(b"<") and looks_html(body)
