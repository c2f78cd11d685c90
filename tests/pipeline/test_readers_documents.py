"""Files that are one document each: text, Markdown, LaTeX, EPUB, PDF; whole, damaged, locked and lying."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
from pathlib import Path
from unittest.mock import patch

import pytest
import zstandard
from document_files import CHAPTER, epub, pdf
from hypothesis import given, settings
from hypothesis import strategies as st
from reader_books import books, load

from pipeline.formats import FORMATS, missing
from pipeline.readers.base import Read
from pipeline.readers.epub import chapter_text
from pipeline.readers.tex import _uncommented

TEXT = "Über den Fluss, 河を渡る。\nSecond line.\n"


def only(
    path: Path, kind: str, options: tuple[tuple[str, str], ...] = (), fields: tuple[tuple[str, str], ...] = ()
) -> Read:
    (read,), _ = books(path, kind, fields, options)
    return read


def write(path: Path, data: bytes | str) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress, lzma.compress, bz2.compress])
def test_text(pack: object, tmp_path: Path) -> None:
    """A folder of texts would lose files because they are packed, or hold Windows line ends."""
    path = write(tmp_path / "a.txt", pack(TEXT.replace("\n", "\r\n").encode()))  # type: ignore[operator]
    read = only(path, "text")
    assert (read.text, read.reason, read.origin.length) == (TEXT, None, path.stat().st_size)


def test_packed_twice_over(tmp_path: Path) -> None:
    """Of a file that was packed in parallel, in many members, only the first would be read."""
    path = write(tmp_path / "a.txt.gz", gzip.compress(b"one ") + gzip.compress(b"two") + bytes(100))
    assert only(path, "text").text == "one two"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b" \n\n", "empty_text"),
        (b"\x7fELF" + bytes(200), "not_text"),
        (b"%PDF-1.4 ...", "not_text"),
        (b"abc" + bytes(10), "not_text"),
        (gzip.compress(TEXT.encode() * 9000)[:-300], "truncated_record"),
        ("河水向东流去，两岸的村庄在晨雾中渐渐醒来。".encode("gb18030") * 5, None),
        ("川は東へ流れ、岸辺の村は朝霧の中で目を覚ます。".encode("shift_jis") * 5, None),
        (TEXT.encode("utf-16"), None),
        ("grün".encode("latin-1") * 5, None),
    ],
)
def test_texts_that_are_none_or_in_other_charsets(data: bytes, reason: str | None, tmp_path: Path) -> None:
    """Binary junk would enter the corpus, or a text in an old charset would be lost."""
    read = only(write(tmp_path / "a.txt", data), "text")
    assert read.reason == reason
    assert reason is not None or "\ufffd" not in (read.text or "\ufffd")


def test_a_charset_that_the_recipe_says(tmp_path: Path) -> None:
    """A user who knows the charset of a short file could not help where detection is in doubt."""
    path = write(tmp_path / "a.txt", "привет".encode("koi8-r"))
    assert only(path, "text", (("charset", "koi8-r"),)).text == "привет"


def test_large_texts_are_not_held(tmp_path: Path) -> None:
    """A bomb of a few KB would take all memory."""
    with patch("pipeline.readers.documents.DOCUMENT_BYTES", 1000):
        for pack in (bytes, gzip.compress, zstandard.compress):
            path = write(tmp_path / "a.txt", pack(b"x" * 5_000_000))
            read = only(path, "text")
            assert (read.reason, read.limit) == ("too_large", 1000.0)


def test_markdown(tmp_path: Path) -> None:
    """The front matter of a site's pages would be trained on, and their titles, dates and addresses lost."""
    body = "\n# A heading\n\nText with `code`.\n\n---\n\nMore.\n"
    front = "title: 'Of rivers'\ndate: 2024-05-06\nlang: en-GB\nurl: https://e.org/x\nmeta: {name: inner}\ntags: [a]\n"
    path = write(tmp_path / "a.md", f"---\n{front}---\n{body}")
    read = only(path, "markdown")
    assert (read.text, read.title, read.url, read.language) == (body, "Of rivers", "https://e.org/x", "en")
    assert read.date is not None
    assert read.date.isoformat() == "2024-05-06T00:00:00+00:00"
    _, tally = load(path, "markdown")
    assert tally.counts == {"front_matter_characters": len(front) + 8}
    assert only(path, "markdown", fields=(("title", "meta.name"),)).title == "inner"
    write(path, f'+++\ntitle = "Toml"\ndate = 2024-05-06T07:08:09Z\nurl = "/about"\n+++\n{body}')
    read = only(path, "markdown")
    assert (read.text, read.title, read.url) == (body, "Toml", None)
    for text, title in (
        (body, "A heading"),
        (f"Other heading\n===\n{body}", "Other heading"),
        (f"---\n: [broken\n---\n{body}", "A heading"),
        (f"---\nno mapping\n---\n{body}", "A heading"),
        (f"---\n{body}", "A heading"),
    ):
        read = only(write(path, text), "markdown")
        assert (read.text, read.title) == (text, title)
    assert only(write(path, "---\ntitle: x\n---\n"), "markdown").reason == "empty_text"


TEX = r"""% a licence
\documentclass{article} % the class
\newcommand{\x}{100\%}
\title[Short]{On \emph{Rivers} and {Towns}\thanks{Nobody}}
\begin{document}
\maketitle
Rain fell 10\% more. % why?
  % a line that is all comment
Formula: $a \% b$, $$\int_0^1 x\,dx$$ \verb|50% kept| end.
\begin{verbatim}
% kept: printf("%d")
\end{verbatim}
\begin{comment}
gone
\end{comment}
\input{chapter1}
\include{chapter2}
\end{document}
notes % behind
"""


def test_tex(tmp_path: Path) -> None:
    """Preambles and comments would be trained on, or verbatim code and escaped per cent signs be cut."""
    path = write(tmp_path / "a.tex", TEX)
    read = only(path, "tex")
    assert read.title == "On Rivers and Towns"
    assert read.text == (
        "\n\\maketitle\nRain fell 10\\% more. \nFormula: $a \\% b$, $$\\int_0^1 x\\,dx$$ \\verb|50% kept| end.\n"
        '\\begin{verbatim}\n% kept: printf("%d")\n\\end{verbatim}\n\n\\input{chapter1}\n\\include{chapter2}\n'
    )
    _, tally = load(path, "tex")
    assert tally.counts["inputs_not_followed"] == 2
    assert len(read.text or "") + tally.counts["comment_characters"] + tally.counts["preamble_characters"] == len(TEX)
    fragment = only(write(path, "Just a chapter. % with a note\n"), "tex")
    assert fragment.text == "Just a chapter. \n"
    assert load(path, "tex")[1].counts["without_document_environment"] == 1
    assert only(write(path, "% only\n% comments\n"), "tex").reason == "empty_text"


@given(
    st.lists(
        st.sampled_from(["%", "\\", "\n", "a", " ", "{", "}", "\\verb|", "|", "\\begin{verbatim}", "\\end{verbatim}"])
    )
)
def test_tex_comments_as_a_plain_reading_finds_them(parts: list[str]) -> None:
    """Text would be lost where a comment meets a backslash, a line end or a verbatim stretch."""
    text = "".join(parts)
    found = _uncommented(text)
    iterator = iter(text)
    assert all(character in iterator for character in found)  # nothing is added, nothing changes its order
    if "%" not in text:
        assert found == text
    if "verb" not in text and "\\" not in text:
        assert "%" not in found
        assert "".join(line.split("%")[0] for line in text.split("\n")).split() == found.split() or "\n" in text


def test_epub(tmp_path: Path) -> None:
    """A book would lose its chapters, their order, or all behind a tag that closes itself."""
    chapters: dict[str, str | bytes] = {f"c {n}.xhtml": CHAPTER.replace("{n}", str(n)) for n in (1, 2, 3)}
    data = epub(
        chapters | {"nav.xhtml": "<nav>Contents</nav>"}, spine=["nav.xhtml", "c 2.xhtml", "c 1.xhtml", "c 3.xhtml"]
    )
    path = write(tmp_path / "a.epub", data.replace(b"c%201", b"c 1"))
    read = only(path, "epub")
    assert (read.title, read.language, read.reason) == ("A Book", "en", None)
    assert read.date is not None
    assert read.date.year == 1899
    assert (read.text or "").split("\n\n") == [
        part for n in (2, 1, 3) for part in (f"Chapter {n}", f"It was café number {n}, 漢字.", "code\n  kept")
    ]
    assert load(path, "epub")[1].counts == {"chapters_not_text": 1, "navigation_left_out": 1}


def test_epubs_that_are_no_documents(tmp_path: Path) -> None:
    """A locked book would give gibberish, a bomb take all memory, a broken download pass for a book."""
    path = tmp_path / "a.epub"
    one: dict[str, str | bytes] = {"c.xhtml": CHAPTER}
    locked = '<encryption><EncryptedData><CipherReference URI="OEBPS/{}"/></EncryptedData></encryption>'
    for data, reason in (
        (epub(one, more={"META-INF/encryption.xml": locked.format("text/c.xhtml")}), "encrypted"),
        (epub(one, more={"META-INF/encryption.xml": locked.format("fonts/f.otf")}), None),
        (epub({"c.xhtml": "<html><body> </body></html>"}), "empty_text"),
        (epub({}), "empty_text"),
    ):
        assert only(write(path, data), "epub").reason == reason
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<w/>")
    assert only(path, "epub").reason == "not_epub"
    bomb = epub({"c.xhtml": b"x" * 3_000_000})
    assert len(bomb) < 10_000
    with patch("pipeline.readers.epub.DOCUMENT_BYTES", 100_000):
        read = only(write(path, bomb), "epub")
        assert (read.reason, read.limit) == ("too_large", 100_000.0)
    whole = epub({f"{n}.xhtml": CHAPTER * 20 for n in range(5)})
    broken = bytearray(whole)
    place = broken.find(b"text/3.xhtml") + 60
    broken[place : place + 40] = bytes(40)
    assert only(write(path, bytes(broken)), "epub").reason == "unreadable_chapter"
    for size in range(1, len(whole) - 30, 211):
        reads, tally = books(write(path, whole[:size]), "epub")
        assert not reads
        assert [gap.reason for gap in tally.gaps] == ["truncated" if size > 3 else "not_a_zip"]


def test_entities_and_loops_in_books(tmp_path: Path) -> None:
    """A book's package file could read files of the machine, or blow up in memory."""
    (tmp_path / "secret").write_text("secret words")
    data = epub({"c.xhtml": CHAPTER}, metadata="<dc:title>&x;&y;</dc:title>")
    path = write(tmp_path / "a.epub", data)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    doctype = f'<!DOCTYPE p [<!ENTITY x SYSTEM "file://{tmp_path}/secret"><!ENTITY y "{"z" * 50}">]>'
    name = "OEBPS/a book.opf"
    files[name] = files[name].replace(b'<?xml version="1.0"?>', doctype.encode())
    with zipfile.ZipFile(path, "w") as archive:
        for key, content in files.items():
            archive.writestr(key, content)
    read = only(path, "epub")
    assert "secret" not in f"{read.title} {read.text}"


def test_chapters_in_other_charsets() -> None:
    """A chapter in an old charset would become question marks."""
    assert (
        chapter_text('<?xml version="1.0" encoding="windows-1251"?><p>Привет, мир</p>'.encode("cp1251"))
        == "Привет, мир"
    )


def test_pdf(tmp_path: Path) -> None:
    """A paper would lose pages, or their order."""
    path = write(tmp_path / "a.pdf", pdf(["First page\nwith two lines", "Second page"]))
    read = only(path, "pdf")
    assert (read.text, read.title) == ("First page\nwith two lines\n\nSecond page", "A Paper")
    assert read.date is not None
    assert read.date.isoformat() == "2024-05-06T00:00:00+00:00"


def test_pdfs_that_are_no_documents(tmp_path: Path) -> None:
    """A scan would be an empty document, a locked file end the run."""
    path = tmp_path / "a.pdf"
    read = only(write(path, pdf(["", ""])), "pdf")
    assert (read.reason, read.value) == ("no_text", 2.0)
    assert only(write(path, pdf(["secret"], "word")), "pdf").reason == "encrypted"
    with patch("pipeline.readers.pdf.MOST_PAGES", 1):
        assert only(write(path, pdf(["one", "two"])), "pdf").reason == "too_many_pages"
    for data, reason in (
        (b"no PDF at all", "not_pdf"),
        (b"%PDF-1.4\nnothing\n%%EOF", "corrupt_pdf"),
        (b"%PDF-1.4\n1 0", "truncated"),
    ):
        reads, tally = books(write(path, data), "pdf")
        assert (reads, [gap.reason for gap in tally.gaps]) == ([], [reason])


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without the extra would learn of it after hours, by a traceback."""
    from importlib.metadata import PackageNotFoundError

    def gone(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("pipeline.formats.release", gone)
    assert missing("pdf") == (
        "format pdf needs the package pypdfium2, which is not installed: pip install 'corpusmill[pdf]'"
    )
    assert missing("text") is None
    assert FORMATS["datasets"].extra == "datasets"


SAMPLES = {
    "text": gzip.compress(TEXT.encode() * 20),
    "markdown": b"---\ntitle: x\n---\n# Heading\n\ntext\n",
    "tex": TEX.encode(),
    "epub": epub({"a.xhtml": CHAPTER, "b.xhtml": CHAPTER}),
    "pdf": pdf(["one", "two"]),
}


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_damaged_anywhere(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """One bad sector would end a run of weeks, or make its accounts lie."""
    kind = data.draw(st.sampled_from(sorted(SAMPLES)))
    damaged = bytearray(SAMPLES[kind])
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(damaged) - 1))
        stretch = data.draw(st.one_of(st.binary(min_size=1, max_size=8), st.integers(1, 100).map(bytes)))
        damaged[start : start + len(stretch)] = stretch[: len(damaged) - start]
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged))) :]
    path = tmp_path_factory.mktemp("damaged") / "input"
    path.write_bytes(damaged)
    reads, tally = books(path, kind)
    assert len(reads) + len(tally.gaps) >= (1 if damaged else 0)
