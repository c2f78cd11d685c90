"""How much of the code, the formulas and the tables of the main content stands verbatim in the Markdown.

What lies inside the main content is decided by a reference text: the gold text, or trafilatura's where a page has none.
White space plays no part in that: texts are compared without any.

- `pre`: one counts where its text stands in the reference. It is verbatim where its lines as a browser shows them (a
  `div` or `br` inside begins one; blanks at the ends and blank lines around left out) stand as consecutive lines of the
  Markdown, all indented by the same amount (code in a list). A no-break space counts as a blank.
- TeX (`annotation` of application/x-tex, `script` of math/tex, `$$..$$`, `\\(..\\)`, `\\[..\\]` in a text): gold texts
  spell formulas in many ways, so one counts where the nearest text of 12 characters or more before it and the one
  behind it stand in the reference. It is verbatim where it stands in the Markdown, runs of white space counting as one
  blank, and with or without `{\\displaystyle }` around it.
- cells: those of tables with two rows and two columns or more and none inside, of which four fifths stand in the
  reference. One is verbatim where a row of a Markdown table has a cell of this text, less emphasis, code marks, escapes
  and the addresses of links.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import lxml.etree
import lxml.html

from stages.decode import decode
from tests.bench.extract_scoring import Page

KINDS = ("pre", "tex", "cells")
_TEX = re.compile(r"\$\$(.+?)\$\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.S)
_MARKS = re.compile(r"[*`~_]|\\(?=[^\w\s])|!?\[(?=[^\]]*\]\()|\]\([^)\s]*(?: \"[^\"]*\")?\)")
_UNESCAPED = re.compile(r"(?<!\\)\|")
_DISPLAY = re.compile(r"^\{\\(?:display|text)style\s*(.*)\}$", re.S)
_UNSEEN = {"script", "style", "noscript", "template", "textarea", "select", "title"}
_WITHIN = {"math", "pre", "code", *_UNSEEN}
_BLOCKS = {"div", "p", "li", "ol", "ul", "tr", "table"}
_NEAR = 12


@dataclass
class Pieces:
    """What a page's main content holds."""

    pre: list[str] = field(default_factory=list)
    tex: list[str] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)


def pieces(page: Page, reference: str) -> Pieces:
    """The pieces of a page that lie inside its main content, by the rules above."""
    html = decode(page.payload, page.content_type).text
    found = Pieces()
    if not any(mark in html for mark in ("<pre", "<PRE", "<table", "<TABLE", "tex", "$$", "\\(", "\\[")):
        return found
    inside = squeezed(reference)
    try:
        tree = lxml.html.document_fromstring(html.encode(), parser=lxml.html.HTMLParser(encoding="utf-8"))
    except (lxml.etree.LxmlError, ValueError):
        return found
    for element in tree.iter("pre"):
        text = squeezed(element.text_content())
        if text and text in inside and next(element.iterancestors("pre"), None) is None:
            found.pre.append(_shown(element))
    found.tex = _formulas(tree, inside)
    for table in tree.iter("table"):
        found.cells += _cells(table, inside)
    return found


def _shown(pre: lxml.html.HtmlElement) -> str:
    """The text of a `pre` with the line breaks that a browser shows: those written, and those of blocks inside."""
    parts: list[str] = []
    for event, element in lxml.etree.iterwalk(pre, events=("start", "end")):
        if element.tag == "br" and event == "start":
            parts.append("\n")
        elif element.tag in _BLOCKS:
            parts.append("\0")
        parts.append((element.text if event == "start" else element is not pre and element.tail) or "")
    text = re.sub("\0+", "\0", "".join(parts))
    return text.replace("\n\0", "\0").replace("\0", "\n").replace("\xa0", " ")  # a break at a block's end is not seen


def _formulas(tree: lxml.html.HtmlElement, inside: str) -> list[str]:
    """Formulas whose neighbours stand in the reference."""
    row: list[tuple[bool, str]] = []  # (whether it is a formula, text) in document order
    for event, element in lxml.etree.iterwalk(tree, events=("start", "end", "comment", "pi")):
        if event == "start":
            if _is_tex(element):
                row.append((True, element.text_content()))
            elif _is_seen(element):
                row += _split(element.text or "")
        elif (parent := element.getparent()) is not None and _is_seen(parent):
            row += _split(element.tail or "")
    near = ""
    before = []
    for formula, text in row:
        before.append(near)
        if not formula and len(squeezed(text)) >= _NEAR:
            near = squeezed(text)
    near = ""
    found = []
    for (formula, text), left in zip(reversed(row), reversed(before), strict=True):
        if not formula:
            near = squeezed(text) if len(squeezed(text)) >= _NEAR else near
        elif text.strip() and left and near and left in inside and near in inside:
            found.append(text)
    return found[::-1]


def _split(text: str) -> Iterator[tuple[bool, str]]:
    at = 0
    for match in _TEX.finditer(text):
        yield False, text[at : match.start()]
        yield True, next(group for group in match.groups() if group is not None)
        at = match.end()
    yield False, text[at:]


def _is_tex(element: lxml.html.HtmlElement) -> bool:
    if element.tag == "annotation":
        return "x-tex" in (element.get("encoding") or "")
    return element.tag == "script" and (element.get("type") or "").startswith("math/tex")


def _is_seen(element: lxml.html.HtmlElement) -> bool:
    """Whether an element's own text is prose that a reader sees."""
    return element.tag not in _WITHIN and next(element.iterancestors(*_WITHIN), None) is None


def _cells(table: lxml.html.HtmlElement, inside: str) -> list[str]:
    if next(table.iterdescendants("table"), None) is not None:
        return []
    rows = [[cell.text_content() for cell in line.iter("td", "th")] for line in table.iter("tr")]
    cells = [cell for line in rows for cell in line if squeezed(cell)]
    if len(rows) < 2 or max(map(len, rows)) < 2:
        return []
    kept = [cell for cell in cells if squeezed(cell) in inside]
    return kept if len(kept) * 5 >= len(cells) * 4 else []


class Markdown:
    """A Markdown text, asked for pieces."""

    def __init__(self, text: str) -> None:
        self._lines = [line.rstrip() for line in text.splitlines()]
        self._places: dict[str, list[int]] = {}
        for number, line in enumerate(self._lines):
            self._places.setdefault(line.strip(), []).append(number)
        self._text = " ".join(text.split())
        self._cells = {
            plain(cell)
            for line in self._lines
            if line.lstrip().startswith("|")
            for cell in _UNESCAPED.split(line.strip())[1:]
        }

    def has(self, kind: str, piece: str) -> bool:
        """Whether a piece of this kind stands in it verbatim."""
        if kind == "pre":
            return self._has_lines(piece)
        if kind == "tex":
            bare = _DISPLAY.sub(r"\1", piece.strip())
            return any(" ".join(text.split()) in self._text for text in (piece, bare))
        return plain(piece) in self._cells

    def _has_lines(self, piece: str) -> bool:
        lines = [line.rstrip() for line in piece.splitlines()]
        while lines and not lines[-1]:
            lines.pop()
        while lines and not lines[0]:
            lines.pop(0)
        for place in self._places.get(lines[0].strip(), ()):
            here = self._lines[place : place + len(lines)]
            shift = len(here[0]) - len(lines[0])
            indented = [" " * shift + line if line else "" for line in lines]
            if here == indented:
                return True
        return False


def plain(text: str) -> str:
    """A cell without emphasis, code marks, escapes, link addresses and line breaks; single blanks."""
    return " ".join(_MARKS.sub("", re.sub(r"<br\s*/?>", " ", text)).split())


def squeezed(text: str) -> str:
    """The text without white space."""
    return "".join(text.split())


def kept(found: Pieces, markdown: str) -> dict[str, tuple[int, int]]:
    """For each kind how many pieces stand verbatim in the Markdown, and how many there are."""
    text = Markdown(markdown)
    return {
        kind: (sum(text.has(kind, piece) for piece in getattr(found, kind)), len(getattr(found, kind)))
        for kind in KINDS
    }
