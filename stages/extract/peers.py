"""The extractors of others: one function each, from a decoded page and the stage's settings to the text.

Neither remembers a page: the same page gives the same text wherever it stands.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING

import lxml.etree
import lxml.html
import trafilatura
from resiliparse.extract.html2text import extract_plain_text
from trafilatura.utils import load_html

from stages.extract.scan import Events

if TYPE_CHECKING:
    from stages.extract.stage import Extract

# What trafilatura finds wrong with a page is a verdict here, never a line on the user's screen.
for _name in ("trafilatura", "htmldate", "justext", "courlan", "charset_normalizer"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)


class TooDeep(Exception):
    """A page whose elements are nested deeper than its extractor can bear: (depth)."""


def trafilatura_text(html: str, events: Events, settings: Extract) -> str:
    """The main text by trafilatura (Barbaresi 2021), empty where it finds none. Raises TooDeep.

    Its metadata is off: dates alone are more than half of its time. The depth is that of libxml2's tree, which loses
    what is nested in more than 256 levels.
    """
    tree = load_html(html)
    if tree is None:
        return ""
    if _deeper(settings.deepest)(tree):
        raise TooDeep(_depth(tree))
    text = trafilatura.extract(
        tree,
        fast=settings.mode == "fast",
        favor_precision=settings.mode == "precision",
        favor_recall=settings.mode == "recall",
        include_comments=bool(settings.comments),
        include_tables=settings.tables,
        output_format="markdown" if settings.format == "markdown" else "txt",
        deduplicate=False,  # its cache would let one page decide on another
        with_metadata=False,
    )
    return text or ""


def resiliparse_text(html: str, events: Events, settings: Extract) -> str:
    """The main content by resiliparse (Bevendorff et al. 2018) as plain text, with list bullets. Raises TooDeep.

    The depth is that of lexbor's tree: the time grows with depth times nodes, from 3 s of CPU for 146,000 elements
    within 100 levels to 24 s within 1,000.
    """
    if events.depth > settings.deepest:
        raise TooDeep(events.depth)
    text: str = extract_plain_text(
        html,
        main_content=True,
        alt_texts=bool(settings.alt_texts),
        comments=settings.comments is not False,
        skip_elements=None if settings.tables else ["table"],
    )
    return text


@functools.cache
def _deeper(limit: int) -> lxml.etree.XPath:
    """Whether a tree has elements below this depth: one step a level, all of it in libxml2."""
    return lxml.etree.XPath(f"boolean({'/*' * (limit + 1)})")


def _depth(tree: lxml.html.HtmlElement) -> int:
    deepest = depth = 0
    for event, _ in lxml.etree.iterwalk(tree, events=("start", "end")):
        depth += 1 if event == "start" else -1
        deepest = max(deepest, depth)
    return deepest
