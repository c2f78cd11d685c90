"""EPUB and PDF files for tests, written by hand: nothing that corpusmill needs can write them."""

from __future__ import annotations

import io
import zipfile


def epub(
    chapters: dict[str, str | bytes],
    *,
    metadata: str = "<dc:title>A Book</dc:title><dc:language>en-GB</dc:language><dc:date>1899-01-02</dc:date>",
    more: dict[str, str] | None = None,
    spine: list[str] | None = None,
) -> bytes:
    names = list(chapters)
    item = '<item id="i{}" href="text/{}" media-type="application/xhtml+xml"{}/>'
    items = "".join(
        item.format(n, name, ' properties="nav"' if name == "nav.xhtml" else "") for n, name in enumerate(names)
    )
    order = "".join(f'<itemref idref="i{names.index(name)}"/>' for name in spine or names)
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        archive.writestr(
            "META-INF/container.xml",
            '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="OEBPS/a%20book.opf"/></rootfiles></container>'.replace("%20", " "),
        )
        archive.writestr(
            "OEBPS/a book.opf",
            '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf"><metadata '
            f'xmlns:dc="http://purl.org/dc/elements/1.1/">{metadata}</metadata><manifest>{items}'
            f'<item id="c" href="cover.svg" media-type="image/svg+xml"/></manifest><spine><itemref idref="c"/>{order}'
            "</spine></package>",
        )
        for name, content in chapters.items():
            archive.writestr(f"OEBPS/text/{name}", content)
        for name, text in (more or {}).items():
            archive.writestr(name, text)
    return sink.getvalue()


CHAPTER = (
    '<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/><script src="a"/>'
    '</head><body><h1><a id="x"/>Chapter {n}</h1><p>It was caf&eacute; number {n}, <i>漢字<rt>kan</rt></i>.</p>'
    "<pre>code\n  kept</pre></body></html>"
)


def pdf(pages: list[str], password: str | None = None) -> bytes:
    """A PDF with a line of text on each page, written by hand: nothing here makes PDFs with text."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>"]
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects.append(f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode())
    objects.append(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    for n, text in enumerate(pages):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * n} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>".encode()
        )
        lines = "".join(f"({line}) Tj 0 -14 Td " for line in text.split("\n"))
        content = f"BT /F1 12 Tf 72 720 Td {lines}ET".encode() if text else b""
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content))
    objects.append(b"<< /Title (A Paper) /CreationDate (D:20240506070809Z) >>")
    out = b"%PDF-1.4\n"
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    locked = b""
    if password:
        locked = b" /Encrypt << /Filter /Standard /V 1 /R 2 /O <%s> /U <%s> /P -44 >> /ID [<00> <00>]" % (
            b"41" * 32,
            b"42" * 32,
        )
    info = len(objects)
    out += b"trailer << /Size %d /Root 1 0 R /Info %d 0 R%s >>\nstartxref\n%d\n%%%%EOF\n" % (
        info + 1,
        info,
        locked,
        start,
    )
    return out
