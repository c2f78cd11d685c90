"""EPUB: a book is a document, its chapters in the order of the spine.

Chapters are markup without navigation or advertisement around it, so all of their text is taken, not what an
extractor of web pages would think the main part. Bounded: the bytes that are unpacked, whatever the archive says.
"""

from __future__ import annotations

import posixpath
import re
import zipfile
import zlib
from collections import Counter
from typing import NamedTuple
from urllib.parse import unquote

import lxml.etree
from resiliparse.extract.html2text import extract_plain_text

from pipeline.readers.base import Piece
from pipeline.readers.documents import Documents, NoRecord, Parsed
from pipeline.readers.fileobj import FileObject
from pipeline.readers.sources import File
from stages.decode import decode
from stages.schema import DOCUMENT_BYTES

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_XHTML = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")
_MOST_DEPTH = 500
_VOID = "area|base|br|col|embed|hr|img|input|link|meta|param|source|track|wbr"
_SELF_CLOSED = re.compile(rf"<(?!(?:{_VOID})\b)([a-zA-Z][\w:.-]*)((?:\s[^<>]*)?)/>", re.I)
_DECLARATION = re.compile(r"\A\s*<\?xml[^>]*\?>", re.I)


class _Rejected(Exception):
    """A book that gives no document: (reason, value, limit)."""


class Package(NamedTuple):
    """What a book's package file says."""

    chapters: list[str]
    """Names in the archive, in reading order."""
    facts: dict[str, str]
    """Dublin Core elements by name, the first of each."""


def epub(file: File, piece: Piece, counts: Counter[str]) -> Parsed:
    """The text of a book. Reasons: `not_epub`, `encrypted`, `unreadable_chapter`, `too_large`, `empty_text`.

    Counts `chapters_missing`, `chapters_not_text`, `navigation_left_out`. Raises NoRecord.
    """
    try:
        with zipfile.ZipFile(FileObject(file)) as archive:
            package = _package(archive, counts)
            left = DOCUMENT_BYTES
            texts = []
            for number, name in enumerate(package.chapters):
                try:
                    data = _member(archive, name, left)
                except KeyError:
                    counts["chapters_missing"] += 1
                    continue
                except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
                    raise _Rejected("unreadable_chapter", float(number), None) from error
                left -= len(data)
                texts.append(chapter_text(data))
    except _Rejected as rejected:
        return Parsed(reason=rejected.args[0], value=rejected.args[1], limit=rejected.args[2])
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OverflowError) as error:
        raise NoRecord("truncated" if file.read(0, 4) == b"PK\x03\x04" else "not_a_zip") from error
    url = next((package.facts[key] for key in ("source", "identifier") if _is_url(package.facts.get(key))), None)
    facts = package.facts
    text = "\n\n".join(filter(None, texts))
    return Parsed(text, facts.get("title"), url, facts.get("date"), facts.get("language"))


def _is_url(value: str | None) -> bool:
    return bool(value) and str(value).startswith(("http://", "https://"))


def _member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """A file of the archive. Raises KeyError, _Rejected where it is encrypted or larger than `most`."""
    entry = archive.getinfo(name)
    if entry.flag_bits & 1:
        raise _Rejected("encrypted", None, None)
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise NotImplementedError
    with archive.open(entry) as member:
        data = member.read(most + 1)
    if len(data) > most:
        raise _Rejected("too_large", float(DOCUMENT_BYTES - most + len(data)), float(DOCUMENT_BYTES))
    return data


def _xml(data: bytes) -> lxml.etree._Element | None:
    parser = lxml.etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, recover=True)
    try:
        return lxml.etree.fromstring(data, parser)
    except (lxml.etree.XMLSyntaxError, ValueError):
        return None


def _package(archive: zipfile.ZipFile, counts: Counter[str]) -> Package:
    try:
        container = _xml(_member(archive, _CONTAINER, 1 << 20))
        paths = [] if container is None else container.xpath("//*[local-name()='rootfile']/@full-path")
        root = _xml(_member(archive, str(paths[0]), 16 << 20))
    except (KeyError, IndexError) as error:
        raise _Rejected("not_epub", None, None) from error
    if root is None:
        raise _Rejected("not_epub", None, None)
    folder = posixpath.dirname(str(paths[0]))
    items = {item.get("id"): item for item in root.xpath("//*[local-name()='manifest']/*[local-name()='item']")}
    chapters = []
    for reference in root.xpath("//*[local-name()='spine']/*[local-name()='itemref']"):
        item = items.get(reference.get("idref"))
        if item is None:
            counts["chapters_missing"] += 1
        elif "nav" in (item.get("properties") or "").split():
            counts["navigation_left_out"] += 1
        elif item.get("media-type") not in _XHTML:
            counts["chapters_not_text"] += 1
        else:
            href = unquote((item.get("href") or "").split("#")[0])
            chapters.append(posixpath.normpath(posixpath.join(folder, href)))
    closed = _encrypted(archive)
    if any(name in closed for name in chapters):
        raise _Rejected("encrypted", None, None)
    facts: dict[str, str] = {}
    for element in root.xpath("//*[local-name()='metadata']//*[namespace-uri()='http://purl.org/dc/elements/1.1/']"):
        value = " ".join("".join(element.itertext()).split())
        if value:
            facts.setdefault(lxml.etree.QName(element).localname, value)
    return Package(chapters, facts)


def _encrypted(archive: zipfile.ZipFile) -> set[str]:
    """Names of the files that digital rights management has locked. Fonts are among them in free books as well."""
    try:
        root = _xml(_member(archive, _ENCRYPTION, 16 << 20))
    except KeyError:
        return set()
    found = [] if root is None else root.xpath("//*[local-name()='CipherReference']/@URI")
    return {posixpath.normpath(unquote(str(name))) for name in found}


def chapter_text(data: bytes) -> str:
    """The text of an XHTML file: paragraphs, headings, lists, tables and preformatted text on lines of their own."""
    html = _DECLARATION.sub("", decode(data, "application/xhtml+xml").text)
    html = _SELF_CLOSED.sub(r"<\1\2></\1>", html)  # in HTML `<title/>` and `<a id="x"/>` would stay open
    text: str = extract_plain_text(
        html,
        preserve_formatting=True,
        main_content=False,
        list_bullets=True,
        alt_texts=False,
        links=False,
        form_fields=False,
        noscript=True,
        comments=True,
        skip_elements=["rt", "rp"],
    )
    return text.strip()


EPUB = Documents("epub", epub)
