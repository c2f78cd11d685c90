"""Makes the bundled crawl in `tests/data/crawl` from the real pages and texts of a shared data folder.

    python tests/data/make_crawl.py DATA [OUT]

DATA holds `crawl/`, `text/` and `dedup/`. The same data gives the same bytes (under one zlib and zstd).
`tests/data/crawl/README.md` says what each file and each odd record is for.
"""

from __future__ import annotations

import gzip
import json
import re
import struct
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import brotli
import emoji
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
import zstandard
from fastwarc.warc import ArchiveIterator, WarcRecordType
from resiliparse.extract.html2text import extract_plain_text

SETS = ("magic-article", "trafilatura-eval", "wcxb-dev")  # llm-webkit's licence is not confirmed: never taken
PAGES = {"en": 100, "de": 50, "zh": 40, "es": 20, "fr": 16, "pl": 12}
OTHERS = 20  # pages of every other language together, two of a language at most
DAMAGED_PAGES = 66  # of three members each, behind one warcinfo: 199, and one more makes 200
DAMAGED_MEMBER = 101
DATE = "2026-01-01T00:00:00Z"
HTML = "text/html; charset=utf-8"
Record = bytes


@dataclass
class Page:
    """A real page: its HTTP body as stored, and what is known of it."""

    id: str
    url: str
    language: str
    content_type: str
    body: bytes
    gold: str
    text: str
    packed: int

    @property
    def host(self) -> str:
        return (urlsplit(self.url).hostname or "").removeprefix("www.")


def rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def load(data: Path) -> list[Page]:
    """Every page with text that is small enough to bundle, best ratio of text to packed size first."""
    gold = {row["id"]: row for row in rows(data / "crawl" / "gold.jsonl.gz")}
    pages = []
    for name in SETS:
        for path in sorted((data / "crawl").glob(f"{name}-*.warc.gz")):
            with path.open("rb") as file:
                for record in ArchiveIterator(file, record_types=WarcRecordType.response, auto_decode="none"):
                    page_id = record.headers["WARC-Record-ID"].removeprefix("<urn:page:").removesuffix(">")
                    body = record.reader.read()
                    facts = gold.get(page_id, {})
                    language = {"wuu": "zh"}.get(facts.get("lang"), facts.get("lang"))
                    packed = len(zlib.compress(body, 9))
                    if not language or packed > 60_000 or len(body) > 400_000:
                        continue
                    content_type = record.http_headers.get("Content-Type") or HTML
                    charset = content_type.partition("charset=")[2]
                    text = extract_plain_text(body.decode(charset or "utf-8", "replace"), main_content=True)
                    url = record.headers["WARC-Target-URI"]
                    gold_text = facts.get("gold_text") or ""
                    pages.append(Page(page_id, url, language, content_type, body, gold_text, text, packed))
    return sorted(pages, key=lambda page: (-min(len(page.text), 9_000) / page.packed, page.id))


def choose(pages: list[Page], want: int, fit: Callable[[Page], bool], taken: set[str], per_host: int = 2) -> list[Page]:
    """The first `want` pages that fit, few from one host; what is chosen is taken."""
    hosts: Counter[str] = Counter()
    chosen = []
    for page in pages:
        if len(chosen) < want and page.id not in taken and fit(page) and hosts[page.host] < per_host:
            hosts[page.host] += 1
            taken.add(page.id)
            chosen.append(page)
    return chosen


def hashed(pages: list[Page]) -> list[Page]:
    return sorted(pages, key=lambda page: xxhash.xxh3_64_digest(page.id.encode()))


def warc(kind: str, record_id: str, block: bytes, url: str | None = None, date: str = DATE, **more: str) -> Record:
    """One WARC/1.0 record. Further headers: underscores of `more` are dashes."""
    head = {"WARC-Type": kind, "WARC-Record-ID": f"<urn:page:{record_id}>", "WARC-Date": date}
    if url:
        head["WARC-Target-URI"] = url
    head |= {name.replace("_", "-"): value for name, value in more.items()}
    head.setdefault("Content-Type", f"application/http; msgtype={kind}")
    head["Content-Length"] = str(len(block))
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return b"WARC/1.0\r\n" + lines.encode() + b"\r\n" + block + b"\r\n\r\n"


def http(body: bytes, content_type: str = HTML, status: str = "200 OK", **more: str) -> bytes:
    head = {"Content-Type": content_type, "Content-Length": str(len(body))}
    head |= {name.replace("_", "-"): value for name, value in more.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body


def response(page: Page, suffix: str = "", **more: str) -> Record:
    return warc("response", page.id + suffix, http(page.body, page.content_type), page.url, **more)


def encoded(page: Page, coding: str) -> Record:
    """The page as a server may send it: chunked, gzip, deflate, br or zstd."""
    body = page.body
    extra = {"Content_Encoding": coding}
    if coding == "gzip":
        body = gzip.compress(body, 9, mtime=0)
    elif coding == "deflate":
        body = zlib.compress(body, 9)
    elif coding == "br":
        body = brotli.compress(body)
    elif coding == "zstd":
        body = zstandard.compress(body, 19)
    else:
        extra = {"Transfer_Encoding": "chunked"}
        cuts = [body[start : start + 4096] for start in range(0, len(body), 4096)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(cut), cut) for cut in cuts) + b"0\r\n\r\n"
    return warc("response", page.id, http(body, page.content_type, **extra), page.url)


def warcinfo(name: str) -> Record:
    return warc(
        "warcinfo", f"info-{name}", b"software: tests/data/make_crawl.py\r\n", Content_Type="application/warc-fields"
    )


def edited(page: Page, note: str) -> Page:
    """A near-duplicate: one long paragraph carries a note, and the page has another address."""
    text = page.body.decode("utf-8")
    found = re.search(r"<p>[^<>]{120,}(?=</p>)", text)
    assert found, page.url
    body = (text[: found.end()] + note + text[found.end() :]).encode()
    return Page(page.id, f"https://mirror.example.org/{page.id}.html", page.language, HTML, body, "", "", 0)


def with_text(page: Page, url: str, change: Callable[[str], bytes], content_type: str = HTML) -> Page:
    return Page(page.id, url, page.language, content_type, change(page.body.decode("utf-8")), "", "", 0)


def has_paragraph(page: Page) -> bool:
    return page.content_type == HTML and bool(re.search(rb"<p>[^<>]{300,}</p>", page.body))


def odd_records(en: list[Page], zh: list[Page], de: list[Page]) -> list[Record]:
    """The records that a real crawl has and a tidy one has not; README.md lists them."""
    plain = [page for page in en if has_paragraph(page) and len(page.text) > 3000]
    zh_plain = [page for page in zh if has_paragraph(page) and len(page.text) > 2000]
    de_plain = [page for page in de if has_paragraph(page) and "ü" in page.text and "ä" in page.text]
    base = "https://odd.example.org/"
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 1, 1, 8, 0, 0, 0, 0) + bytes(40)
    pdf = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"

    def emoji_marks(text: str) -> bytes:
        marks = iter(["😀", "🎉", "👍🏽", "🚀", "❤️", "🐼", "🍜", "👨‍👩‍👧"])
        spot = re.compile(r"(<p>[^<>]{60,}?)(?=</p>)")
        return spot.sub(lambda found: found[1] + next(marks, ""), text).encode()

    def spoilt(text: str) -> bytes:
        """Bytes that are text in no charset: GB18030 with every seventh byte replaced by one that fits nowhere."""
        data = bytearray(text.encode("gb18030"))
        start = data.find(b"<body")
        data[start + 40 :: 7] = bytes((0xFF, 0x81, 0x8D, 0x00)[i % 4] for i in range(len(data[start + 40 :: 7])))
        return bytes(data)

    def relabelled(text: str) -> bytes:
        text = re.sub(r"(?i)<meta[^>]*charset[^>]*>", "", text)
        return re.sub(r"(?i)<head([^>]*)>", r'<head\1><meta charset="gb18030">', text, count=1).encode(
            "gb18030", "ignore"
        )

    def unlabelled(text: str) -> bytes:
        return spoilt(re.sub(r"(?i)<meta[^>]*charset[^>]*>", "", text))

    def mojibake(text: str) -> bytes:
        return text.encode("utf-8").decode("cp1252", "ignore").encode("utf-8")

    first, second, third = plain[0], plain[1], plain[2]
    moved = Page(first.id, f"https://mirror.example.org/{first.id}.html", "en", HTML, first.body, "", "", 0)
    zh_moved = Page(
        zh_plain[0].id, f"https://mirror.example.org/zh/{zh_plain[0].id}.html", "zh", HTML, zh_plain[0].body, "", "", 0
    )
    later = edited(first, " This page was checked again in February.")
    later.url = first.url
    recoverable = with_text(zh_plain[1], base + "gb18030-as-utf8.html", relabelled)
    no_charset = with_text(zh_plain[2], base + "no-charset.html", unlabelled)
    en_emoji = with_text(third, base + "emoji-en.html", emoji_marks)
    zh_emoji = with_text(zh_plain[-1], base + "emoji-zh.html", emoji_marks)
    broken = with_text(de_plain[0], base + "mojibake.html", mojibake)
    return [
        warc("response", "odd-png", http(png, "image/png"), base + "dot.png"),
        warc("response", "odd-pdf-as-html", http(pdf), base + "leaflet.html"),
        warc(
            "response",
            "odd-404",
            http(b"<html><body><h1>Not Found</h1></body></html>", status="404 Not Found"),
            base + "gone.html",
        ),
        warc("response", "odd-empty", http(b""), base + "empty.html"),
        warc(
            "response",
            "odd-bad-gzip",
            http(b"\x1f\x8b\x08 no gzip at all", Content_Encoding="gzip"),
            base + "bad-gzip.html",
        ),
        warc(
            "revisit",
            first.id + "-revisit",
            http(b""),
            first.url,
            "2026-02-01T00:00:00Z",
            WARC_Profile="http://netpreserve.org/warc/1.0/revisit/identical-payload-digest",
        ),
        response(recoverable, "-gb18030"),
        response(no_charset, "-spoilt"),
        response(en_emoji, "-emoji"),
        response(zh_emoji, "-emoji"),
        response(broken, "-mojibake"),
        response(moved, "-copy"),
        response(zh_moved, "-copy"),
        response(edited(second, " An earlier version of this page misstated a date; it was corrected."), "-edited"),
        response(edited(plain[3], " Corrections: the second name was misspelt."), "-edited"),
        response(edited(zh_plain[0], "（更正：本文早先的版本有一处日期错误。）"), "-edited"),
        response(edited(zh_plain[3], "（编者注：此段有改动。）"), "-edited"),
        response(later, "-later", date="2026-02-02T00:00:00Z"),
        response(plain[4]),  # the very record once more: an equal id
    ]


def undecodable(page: Page) -> Record:
    """A page without control bytes that still is text in no charset: every ninth byte of its body is 0xFF."""
    data = bytearray(re.sub(r"(?i)<meta[^>]*charset[^>]*>", "", page.body.decode("utf-8")).encode("gb18030"))
    start = data.find(b"<body") + 40
    data[start::9] = b"\xff" * len(data[start::9])
    lie = Page(page.id, "https://odd.example.org/undecodable.html", "zh", HTML, bytes(data), "", "", 0)
    return response(lie, "-undecodable")


def write_gz(path: Path, records: Iterable[Record]) -> int:
    members = [gzip.compress(record, 9, mtime=0) for record in records]
    path.write_bytes(b"".join(members))
    return len(members)


def write_damaged(path: Path, pages: list[Page]) -> None:
    """200 gzip members, one of them zeroed: a response in the middle of the file."""
    records = [warcinfo("damaged.warc.gz")]
    for page in pages:
        request = f"GET {urlsplit(page.url).path or '/'} HTTP/1.1\r\nHost: {page.host}\r\n\r\n".encode()
        records.append(warc("request", page.id + "-request", request, page.url))
        records.append(response(page))
        records.append(
            warc(
                "metadata", page.id + "-meta", b"fetchTimeMs: 120\r\n", page.url, Content_Type="application/warc-fields"
            )
        )
    records.append(warc("metadata", "crawl-end", b"end: true\r\n", Content_Type="application/warc-fields"))
    members = [gzip.compress(record, 9, mtime=0) for record in records]
    assert len(members) == 200
    assert b"WARC-Type: response" in records[DAMAGED_MEMBER]
    members[DAMAGED_MEMBER] = bytes(len(members[DAMAGED_MEMBER]))
    path.write_bytes(b"".join(members))


def write_wet(path: Path, pages: list[Page]) -> None:
    three = {"en": "eng", "zh": "zho", "fr": "fra", "de": "deu"}
    records = [warcinfo(path.name)]
    for page in pages:
        text = (page.gold or page.text).encode()
        language = three.get(page.language, page.language)
        records.append(
            warc(
                "conversion",
                page.id,
                text,
                page.url,
                Content_Type="text/plain",
                WARC_Identified_Content_Language=language,
            )
        )
    write_gz(path, records)


def clip(text: str, most: int) -> str:
    """The text up to a paragraph's end before `most` characters."""
    if len(text) <= most:
        return text
    end = text.rfind("\n\n", 0, most)
    return text[: end if end > most // 2 else most].strip()


def write_notes(path: Path, data: Path) -> None:
    lines: list[bytes] = []

    def add(row: dict[str, Any]) -> None:
        lines.append(json.dumps(row, ensure_ascii=False).encode())

    seen: Counter[str] = Counter()
    for row in rows(data / "text" / "books.jsonl.gz"):
        book, _, number = row["id"].rpartition("-")
        language = "es" if "uijote" in book.lower() or "quixote" in book.lower() else "en"
        if int(number) % 10 == 5 and seen[book] < 6:  # from the middle of the books: no headers, no licences
            seen[book] += 1
            add({"text": row["text"], "title": book.replace("_", " "), "language": language, "kind": "books"})
    for name, most, language in (
        ("docs_zh", 14, "zh"),
        ("docs_ja", 8, "ja"),
        ("docs_fr", 6, "fr"),
        ("poetry_zh", 150, "zh"),
    ):
        for number, row in enumerate(rows(data / "text" / f"{name}.jsonl.gz")):
            if number >= most:
                break
            kind = "poetry" if name == "poetry_zh" else "docs"
            add({"text": clip(row["text"], 9_000), "title": row["id"], "language": language, "kind": kind})
    add_pairs(data, add)
    lines.insert(10, b'{"text": "this line was cut in the middle of a wor')
    lines.insert(20, b'{"text": "", "title": "an empty text", "language": "en", "kind": "odd"}')
    lines.insert(30, b'{"title": "a row without a text", "language": "en", "kind": "odd"}')
    lines.insert(40, b'["a list", "and no object"]')
    lines.insert(50, b'{"text": 7, "title": "a text that is a number", "kind": "odd"}')
    lines.insert(60, b"")
    path.write_bytes(gzip.compress(b"\n".join(lines) + b"\n", 9, mtime=0))


def add_pairs(data: Path, add: Callable[[dict[str, Any]], None]) -> None:
    """Two versions each of some React pages (CC-BY-4.0; d2l's are share-alike and stay out)."""
    documents = {row["id"]: row for row in rows(data / "dedup" / "revision_pairs" / "docs.jsonl.gz")}
    wanted: dict[str, int] = defaultdict(lambda: 2)
    used: set[str] = set()
    for line in (data / "dedup" / "revision_pairs" / "pairs.tsv").read_text().splitlines()[1:]:
        one, two, jaccard, language = line.split("\t")
        a, b = documents[one], documents[two]
        fits = a["repo"].startswith("reactjs/") and 0.9 <= float(jaccard) < 0.99 and 2_000 < len(a["text"]) < 9_000
        if fits and wanted[language] and a["path"] not in used:
            wanted[language] -= 1
            used.add(a["path"])
            for version in (a, b):
                title = f"{version['repo']}/{version['path']}"
                add({"text": version["text"], "title": title, "language": language, "kind": "docs"})


def write_table(path: Path, data: Path) -> None:
    found: list[dict[str, Any]] = []
    for name, most in (("docs_en", 40), ("docs_es", 12)):
        for number, row in enumerate(rows(data / "text" / f"{name}.jsonl.gz")):
            if number < most:
                found.append(
                    {
                        "link": f"https://docs.example.org/{row['id']}",
                        "body": clip(row["text"], 9_000),
                        "headline": row["id"].rsplit("/", 1)[-1],
                        "published": f"2025-{number % 12 + 1:02d}-15",
                        "lang": row["lang"],
                        "views": number,
                    }
                )
    found.append({"link": None, "body": "", "headline": "an empty text", "published": None, "lang": "en", "views": 0})
    found.append({"link": None, "body": None, "headline": "no text", "published": None, "lang": "en", "views": 0})
    pq.write_table(pa.Table.from_pylist(found), path, row_group_size=20, compression="zstd")


def main(data: Path, out: Path) -> None:
    """Writes every file of the crawl to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    pages = load(data)
    taken: set[str] = set()
    by_language = {
        language: choose(
            pages,
            want,
            lambda page, language=language: (
                page.language == language and len(page.text) > (600 if language == "zh" else 1500)
            ),
            taken,
        )
        for language, want in PAGES.items()
    }
    others: list[Page] = []
    for language in sorted({page.language for page in pages} - set(PAGES)):
        others += choose(
            pages, 2, lambda page, language=language: page.language == language and len(page.text) > 600, taken
        )
    others = sorted(others, key=lambda page: page.packed)[:OTHERS]
    small = choose(
        pages,
        DAMAGED_PAGES,
        lambda page: page.language in ("en", "de") and len(page.text) > 1000 and page.packed < 12_000,
        taken,
        1,
    )
    wet = choose(pages, 25, lambda page: len(page.gold) > 1500 and page.language in ("en", "zh", "fr"), taken, 1)
    emojis = choose(pages, 4, lambda page: emoji.emoji_count(page.text) > 2 and page.packed < 25_000, taken, 1)

    en = hashed(by_language["en"] + emojis)
    odd = odd_records(en, hashed(by_language["zh"]), hashed(by_language["de"]))
    write_gz(out / "web-000.warc.gz", [warcinfo("web-000.warc.gz"), *map(response, en)])
    rest = hashed(by_language["de"] + by_language["es"] + by_language["fr"] + by_language["pl"] + others)
    codings = ("chunked", "gzip", "deflate", "br", "zstd")
    mixed = [encoded(page, codings[i % 5]) if i < 20 else response(page) for i, page in enumerate(rest)]
    write_gz(out / "web-001.warc.gz", [warcinfo("web-001.warc.gz"), *mixed, *odd])
    frame = zstandard.ZstdCompressor(level=19)
    zh = [warcinfo("web-zh.warc.zst"), *map(response, hashed(by_language["zh"]))]
    (out / "web-zh.warc.zst").write_bytes(b"".join(frame.compress(record) for record in zh))
    write_gz(out / "odd.warc.gz", [undecodable(hashed(by_language["zh"])[-1])])
    write_damaged(out / "damaged.warc.gz", hashed(small))
    write_wet(out / "wet.warc.wet.gz", hashed(wet))
    write_notes(out / "notes.jsonl.gz", data)
    write_table(out / "table.parquet", data)
    chosen = en + rest + by_language["zh"] + small + wet
    print(len(chosen), "pages", sum(len(page.text.encode()) for page in chosen), "bytes of text")
    print(Counter(page.language for page in chosen), Counter(page.host for page in chosen).most_common(5))
    for path in sorted(out.iterdir()):
        print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent / "crawl")
