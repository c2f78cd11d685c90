"""PDF: a file is a document, the text of its pages in their order, by PDFium. Needs the extra `pdf`."""

from __future__ import annotations

import re
import threading
from collections import Counter
from typing import Any

from pipeline.errors import UserError
from pipeline.formats import missing
from pipeline.readers.base import Piece
from pipeline.readers.documents import Documents, NoRecord, Parsed
from pipeline.readers.fileobj import FileObject
from pipeline.readers.sources import File
from stages.schema import DOCUMENT_BYTES

MOST_PAGES = 10_000
_lock = threading.Lock()  # PDFium is not thread-safe
_HYPHEN = re.compile(r"[\ufffe\x02]\n?")  # how PDFium writes a hyphen that a line end brought
_DATE = re.compile(r"^D:(\d{4})(\d\d)?(\d\d)?")
_PASSWORD, _SECURITY = 4, 5
"""FPDF_ERR_PASSWORD and FPDF_ERR_SECURITY."""


def pdf(file: File, piece: Piece, counts: Counter[str]) -> Parsed:
    """The text of a file. Reasons: `encrypted`, `no_text` (a scan; value: pages), `too_many_pages`, `too_large`.

    Counts `pages_unreadable`. Raises NoRecord; UserError where the extra is not installed.
    """
    if lacking := missing("pdf"):
        raise UserError(lacking)
    import pypdfium2

    with _lock:
        try:
            document = pypdfium2.PdfDocument(FileObject(file))
        except pypdfium2.PdfiumError as error:
            if getattr(error, "err_code", None) in (_PASSWORD, _SECURITY) or "password" in str(error):
                return Parsed(reason="encrypted")
            whole = b"%%EOF" in file.read(max(0, file.size - 2048), 2048)
            reason = "not_pdf" if b"%PDF-" not in file.read(0, 1024) else "corrupt_pdf" if whole else "truncated"
            raise NoRecord(reason) from error
        try:
            return _pages(document, counts, pypdfium2.PdfiumError)
        finally:
            document.close()


def _pages(document: Any, counts: Counter[str], failure: type[Exception]) -> Parsed:
    number = len(document)
    if number > MOST_PAGES:
        return Parsed(reason="too_many_pages", value=float(number), limit=float(MOST_PAGES))
    texts: list[str] = []
    size = 0
    for place in range(number):
        try:
            page = document[place]
            words = page.get_textpage()
            text = words.get_text_range(errors="replace")
            words.close()
            page.close()
        except failure:
            counts["pages_unreadable"] += 1
            continue
        text = _HYPHEN.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).replace("\x00", "").strip()
        if text:
            texts.append(text)
            size += len(text.encode(errors="surrogatepass"))
        if size > DOCUMENT_BYTES:
            return Parsed(reason="too_large", value=float(size), limit=float(DOCUMENT_BYTES))
    if not texts:
        return Parsed(reason="no_text", value=float(number))
    facts = document.get_metadata_dict()
    date = _DATE.match(facts.get("CreationDate") or "")
    spelled = "-".join((date[1], date[2] or "01", date[3] or "01")) if date else None
    return Parsed("\n\n".join(texts), facts.get("Title") or None, None, spelled)


PDF = Documents("pdf", pdf)
