"""The compiled scan of a page, against a plain walk over the same page's DOM."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from stages.extract.scan import (
    CLOSE,
    IS_HIDDEN,
    IS_INLINE,
    IS_VOID,
    OPEN,
    TAG_NUMBER,
    TAGS,
    TEXT,
    TRAITS,
    canonical,
    scan,
)

RAW = ("script", "style", "xmp", "iframe", "noembed", "noframes", "plaintext")
NAMES = (
    "div p span b a ul li table tr td h2 pre code br hr img blockquote section nav title textarea select option form "
    "button noscript custom-tag dl dt dd details object"
).split()
HTML_ONLY = [*NAMES, *"script style xmp iframe input".split()]
FOREIGN = [*NAMES, *"math mi mtext mtable mtd annotation-xml svg text foreignobject".split()]
"""No scripts, styles or void elements: in SVG and MathML these names mean something else to a parser."""
TEXTS = (
    "a",
    " ",
    "Two words.",
    "&nbsp;",
    "&lt;b&gt; &amp;amp;",
    "\n\n",
    "中文。",
    "</",
    "<",
    "x > y",
    "\x00",
    "é\u00a0",
)
ATTRIBUTES = ("", " class='a b'", ' id="x > y"', " hidden", " title='\"q\"'", " type='math/tex'", " a=1 =b c='<i>'")


def documents(names: list[str]) -> st.SearchStrategy[str]:
    return st.lists(
        st.one_of(
            st.sampled_from(TEXTS),
            st.sampled_from(
                ("<!-- c -->", "<!---->", "<!-- <p> -- > -->", "<!doctype html>", "<?php ?>", "<?a b > c?>")
            ),
            st.builds("<{}{}>".format, st.sampled_from(names), st.sampled_from(ATTRIBUTES)),
            st.builds("</{}>".format, st.sampled_from(names)),
        ),
        max_size=30,
    ).map("".join)


@dataclass
class Walk:
    """What the scan should find: one (kind, tag, text or None, block) for each event, by rules written out plainly."""

    events: list[tuple[int, str, str | None, int]]
    blocks: int = 0
    depth: int = 0
    open: bool = False
    breaks: int = 0

    def boundary(self) -> None:
        self.open = False
        self.breaks = 0

    def children(self, node: Any, tag: str, visible: bool, fenced: bool, depth: int) -> None:
        for kind, value in parts(node):
            if kind == TEXT:
                self.text(value, tag, visible)
            else:
                self.element(value, visible, fenced, depth + 1)

    def text(self, text: str, tag: str, visible: bool) -> None:
        number = -1
        if visible:
            if text.strip(" \t\n\v\f\r\u00a0"):
                self.blocks += not self.open
                self.open = True
                self.breaks = 0
            if self.open:
                number = self.blocks - 1
        self.events.append((TEXT, tag, text, number))

    def element(self, node: Any, visible: bool, fenced: bool, depth: int) -> None:
        """`fenced`: inside a `pre` or a formula, which are one block whatever is in them."""
        tag = node.tag if node.tag in TAG_NUMBER else ""
        traits = TRAITS[TAG_NUMBER[tag]]
        self.events.append((OPEN, tag, None, -1))
        if tag == "br":
            self.breaks += visible
            if visible and self.breaks >= 2 and not fenced:
                self.open = False
            return
        ends_block = visible and not traits & (IS_INLINE | IS_HIDDEN) and not fenced
        if ends_block:
            self.boundary()
        if traits & IS_VOID:
            return
        self.depth = max(self.depth, depth)
        formula = tag == "script" and (node.attributes.get("type") or "").startswith("math/")
        inside = visible and (not traits & IS_HIDDEN or formula)
        self.children(node, tag, inside, fenced or tag in ("pre", "math"), depth)
        self.events.append((CLOSE, tag, None, -1))
        if ends_block:
            self.boundary()


def parts(node: Any) -> Iterator[tuple[int, Any]]:
    """Elements and texts under a node. Texts with nothing written between them are one; a comment parts them."""
    pending = ""
    for child in node.iter(include_text=True):
        if child.tag == "-text":
            pending += child.text_content or ""
            continue
        if pending:
            yield TEXT, pending
        pending = ""
        if child.tag and not child.tag.startswith("-"):  # neither a comment nor a processing instruction
            yield OPEN, child
    if pending:
        yield TEXT, pending


def scanned(html: str) -> tuple[list[tuple[int, str, str | None, int]], int, int]:
    events = scan(canonical(html))
    found = []
    for kind, tag, start, end, block in zip(*events[1:6], strict=True):
        text = None
        if kind == TEXT:
            text = events.html[start:end].tobytes().decode()
            text = text if TAGS[tag] in RAW else unescape(text)
        found.append((int(kind), TAGS[tag], text, int(block)))
    return found, events.blocks, events.depth


@given(documents(HTML_ONLY) | documents(FOREIGN))
@example("<p>a<br><br>b<br>c<div>d")
@example("<pre>\n\na<div>b</div><br><br>c</pre>d")
@example("<table>a<tr><td>b<table><td>c")
@example("<script>if (a </script b) </scriptx></script>c")
@example("<p>a<!-- > <b> --->b<select><option>c</select><script type='math/tex'>d</script>")
@example("<frameset><frame></frameset>")
@example("<a =b=c><b \"x\"='y'>t")
@example("<p>a<?php if (b) ?></p><nav>c</nav>d")
def test_the_scan_sees_what_a_walk_over_the_dom_sees(html: str) -> None:
    """Texts would be lost, doubled, or put into the wrong block or element: into the menu, or out of the article."""
    root = LexborHTMLParser(html).root
    assert root is not None
    walk = Walk([])
    walk.element(root, True, False, 1)
    assert scanned(html) == (walk.events, walk.blocks, walk.depth)


@pytest.mark.parametrize(
    ("html", "blocks"),
    [
        ("<p>a <b>b</b> <a>c</a>d<p>e", ["a b cd", "e"]),
        ("a<br>b<br><br>c", ["ab", "c"]),
        ("a<br> <br>b", ["a ", "b"]),
        ("<pre>a\n<div>b</div><br><br>c</pre>d", ["a\nbc", "d"]),
        ("<p>x <math><mtable><mtr><mtd>1</mtd></mtr></mtable></math> y", ["x 1 y"]),
        ("a<unknown-tag>b</unknown-tag>c", ["a", "b", "c"]),
        ("a<script>s</script><style>t</style><template><p>u</p></template>b", ["ab"]),
        ("a<svg><title>t</title><link>l</svg>b", ["ab"]),
        ("a<noscript>b</noscript>c", ["a", "b", "c"]),
        ("<p> <p>&nbsp;<p>\t\n", []),
        ("今天。<p>明天。", ["今天。", "明天。"]),
        ("", []),
    ],
)
def test_blocks_are_runs_of_what_a_reader_sees_in_one_line_of_thought(html: str, blocks: list[str]) -> None:
    """A paragraph would be cut at each link, or glued to the button behind it; scripts would become text."""
    events = scan(canonical(html))
    found = [""] * events.blocks
    for start, end, block in zip(events.start, events.end, events.block, strict=True):
        if block >= 0:
            found[block] += unescape(events.html[start:end].tobytes().decode())
    assert found == blocks


def test_elements_nested_deeper_than_any_page_are_counted() -> None:
    """The stack of open elements would overflow, or the limit on depth would not see what it is there for."""
    events = scan(canonical("<b>" * 300 + "<div>" * 3000 + "x"))
    assert events.depth > 3000
    opened, closed = (np.count_nonzero(events.kind == kind) for kind in (OPEN, CLOSE))
    assert opened == closed


def test_html_cut_anywhere_still_ends() -> None:
    """A page that lexbor writes in a way we did not foresee would read beyond its bytes, or hang the run."""
    html = canonical('<p class="a" id=b>x &amp; y<!-- c --><script>s</script><br><pre>t</pre><svg><link>u</svg>')
    for size in range(len(html)):
        events = scan(html[:size].copy())
        assert (events.end <= size + 1).all()
        assert len(events.kind) <= 16 + 2 * np.count_nonzero(html[:size] == ord("<"))
