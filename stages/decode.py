"""Bytes of a web page to text, when its charset may be missing or a lie."""

from __future__ import annotations

import codecs
from typing import NamedTuple

import regex
from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

from stages import charsets

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_HEADER = regex.compile(r"charset\s*=\s*[\"']?\s*([^\s\"';,]+)", regex.I)
_META = regex.compile(rb"<meta\b[^>]{0,300}?charset\s*=\s*[\"']?\s*([\w:.-]+)", regex.I)
_XML = regex.compile(rb"^\s*<\?xml\b[^>]{0,200}?encoding\s*=\s*[\"']([\w:.-]+)", regex.I)
_SAMPLE = 4096
_META_BYTES = 4096  # WHATWG says 1024; real pages put scripts first
_MULTIBYTE = frozenset(("utf-8", "gb18030", "big5hkscs", "cp932", "euc_jp", "iso2022_jp", "cp949"))
# As WHATWG has it, a label stands for the superset that pages really use.
_SUPERSETS = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
}
_MAGIC = (
    b"%PDF-",
    b"\x89PNG",
    b"GIF8",
    b"\xff\xd8\xff",
    b"PK\x03\x04",
    b"\x1f\x8b\x08",
    b"RIFF",
    b"\x7fELF",
    b"OggS",
    b"ID3",
)
_HIGH = bytes(range(0x80, 0x100))
_CONTROL = bytes(set(range(32)) - {9, 10, 12, 13, 27})  # 27: ISO-2022-JP switches charsets with it
_ENOUGH = 10  # good characters to one broken one that speak for a multi-byte charset


class Decoded(NamedTuple):
    """A decoded page."""

    text: str
    charset: str
    """The Python codec that was used."""
    declared: str | None
    """The codec that the page said first: HTTP header, else the page itself; None where it says none known."""
    replaced: int
    """Characters that stand for bytes that could not be decoded."""

    @property
    def corrected(self) -> bool:
        """Whether the declared charset was wrong for these bytes."""
        return self.declared is not None and self.charset != self.declared and not self.text.isascii()


def control_share(payload: bytes) -> float:
    """Share of bytes that text does not have: 1 for the signature of a known binary format, else control bytes.

    UTF-16 and UTF-32 (by byte order mark, or by NULs at every other place) have none.
    """
    if payload.startswith(_MAGIC):
        return 1.0
    if not payload or _bom(payload) or _utf16(payload):
        return 0.0
    return 1 - len(payload.translate(None, _CONTROL)) / len(payload)


def decode(payload: bytes, content_type: str | None = None) -> Decoded:
    """The text of a page, by the first of these that holds.

    1. byte order mark; 2. UTF-8, where the bytes are valid and not ASCII (other charsets hardly ever give
    valid UTF-8; against a declared multi-byte charset it takes 8 such characters), or ISO-2022-JP, by its escapes;
    3. the East Asian charset that makes common characters of the bytes (`stages.charsets`); 4. the charsets of the
    HTTP header and of the page, in that order, where they decode without error (a header that says Latin-1,
    as servers do by default, yields to the page, and to detection where over a tenth of the bytes are not
    ASCII); 5. a multi-byte charset among these with at least ten good characters to one broken one;
    6. detection (uchardet), without error; 7. whichever of all these replaces the fewest characters.
    """
    header = _codec(_HEADER.findall(content_type or "")[:1])
    page = _codec([label.decode("ascii", "replace") for label in _labels(payload[:_META_BYTES])])
    declared = [name for name in dict.fromkeys((header, page)) if name]
    first = declared[0] if declared else None
    if bom := _bom(payload) or _utf16(payload):
        text, replaced = _lossy(payload, bom)
        if replaced == 0:
            return Decoded(text, bom.removesuffix("-sig"), first, 0)
    utf8 = _strict(payload, "utf-8")
    if utf8 is not None:
        others = [name for name in declared if name in _MULTIBYTE and name != "utf-8"]
        foreign = len(utf8) - len(payload.translate(None, _HIGH))
        if foreign >= (8 if others else 1):
            return Decoded(utf8, "utf-8", first, 0)
    if utf8 is not None and b"\x1b$" in payload and (japanese := _strict(payload, "iso2022_jp")) is not None:
        return Decoded(japanese, "iso2022_jp", first, 0)
    if header == "cp1252" and page:
        declared = [page, header]
    if utf8 is None and (found := charsets.evident(payload, declared)):
        return Decoded(found[0], found[1], first, 0)
    for name in declared:
        text_or_none = _strict(payload, name)
        if text_or_none is None:
            continue
        if name == "cp1252" and (found := _contradicted(payload)):
            return Decoded(found[0], found[1], first, 0)
        return Decoded(text_or_none, name, first, 0)
    if utf8 is not None:
        return Decoded(utf8, "utf-8", first, 0)
    for name in dict.fromkeys((*(n for n in declared if n in _MULTIBYTE), "utf-8")):
        text, replaced = _lossy(payload, name)
        good = sum(1 for character in text if character > "\x7f") - replaced
        if good >= _ENOUGH * replaced:
            return Decoded(text, name, first, replaced)
    detected = _detected(payload)
    candidates = list(dict.fromkeys((detected, *declared, "utf-8")))
    tries = [(_lossy(payload, name), name) for name in candidates]
    (text, replaced), name = min(tries, key=lambda item: item[0][1])
    return Decoded(text, name, first, replaced)


def _contradicted(payload: bytes) -> tuple[str, str] | None:
    foreign = len(payload) - len(payload.translate(None, bytes(range(128, 256))))
    if foreign * 10 <= len(payload):
        return None
    detected = _detected(payload)
    if detected in ("cp1252", "utf-8"):
        return None
    text = _strict(payload, detected)
    return None if text is None else (text, detected)


def _bom(payload: bytes) -> str | None:
    return next((name for bom, name in _BOMS if payload.startswith(bom)), None)


def _utf16(payload: bytes) -> str | None:
    """UTF-16 without a byte order mark, by ASCII: the page begins with it, and it has NULs on one side."""
    sample = payload[:_SAMPLE]
    for name, place in (("utf-16-le", 1), ("utf-16-be", 0)):
        highs, lows = sample[place::2], sample[1 - place :: 2]
        zeros = highs.count(0)
        if zeros < 8 or highs[0] or lows.count(0) * 10 > zeros:
            continue
        ascii_lows = bytes(low for high, low in zip(highs, lows, strict=False) if not high)
        if len(ascii_lows.translate(None, _CONTROL)) * 10 >= zeros * 9:
            return name
    return None


def _labels(head: bytes) -> list[bytes]:
    return [*_XML.findall(head)[:1], *_META.findall(head)[:1]]


def _codec(labels: list[str]) -> str | None:
    """The first label that WHATWG knows, as a Python codec. A page that can say so in ASCII is no UTF-16."""
    for label in labels:
        mapped = map_encoding_to_html5(label.strip(), fallback_utf8=False)
        if mapped:
            name = _python_name(mapped)
            return "utf-8" if name.startswith("utf-16") else name
    return None


def _python_name(label: str | None) -> str:
    try:
        name = codecs.lookup(label or "utf-8").name
    except LookupError:
        return "utf-8"
    return _SUPERSETS.get(name, name)


def _detected(payload: bytes) -> str:
    # Not html5_compatible: that takes cp949 for an unknown name and says UTF-8.
    return _python_name(detect_encoding(payload, html5_compatible=False))


def _strict(payload: bytes, name: str) -> str | None:
    """The text, or None where a byte does not fit; a last character that the crawl cut off is let go."""
    decoder = codecs.getincrementaldecoder(name)("strict")
    try:
        text = decoder.decode(payload)
    except UnicodeError:
        return None
    return text


def _lossy(payload: bytes, name: str) -> tuple[str, int]:
    """The text with U+FFFD for what does not fit, and how many of them the payload itself does not hold."""
    text = codecs.getincrementaldecoder(name)("replace").decode(payload)
    own = payload.count(b"\xef\xbf\xbd") if name.startswith("utf-8") else 0
    return text, max(text.count("\ufffd") - own, 0)
