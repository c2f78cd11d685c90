"""The day a page was published: what it states for machines, else its address, else a date beside its text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from stages.extract.dates import parse
from stages.extract.head import Head, plain
from stages.extract.scan import TEXT

_PUBLISHED = (
    "article:published_time", "og:article:published_time", "bt:pubdate", "datepublished", "dc.date.issued",
    "dcterms.issued", "dc.date", "dc.date.created", "dcterms.created", "dcterms.date", "citation_publication_date",
    "citation_date", "citation_online_date", "parsely-pub-date", "sailthru.date", "cxenseparse:recs:publishtime",
    "date", "pubdate", "publishdate", "publish-date", "publish_date", "published-date", "publication_date",
    "article_date_original", "originalpublicationdate", "article.published", "article:published", "rnews:datepublished",
    "ptime", "displaydate", "date.created", "og:pubdate", "og:published_time", "created", "dc:date", "dc:created",
    "shareaholic:article_published_time", "datecreated", "last-modified", "og:release_date", "video:release_date",
)  # fmt: skip
_ARTICLES = ("article", "posting", "report", "review", "recipe", "course", "book", "product", "qapage", "question")
_IN_ADDRESS = re.compile(r"/((?:19|20)\d\d([-/])(?:1[0-2]|0?[1-9])\2(?:3[01]|[12]\d|0?[1-9]))(?!\d)")

_YEAR = re.compile(rb"(?:19|20)\d\d(?!\d)")
_MOST_YEARS = 500
_BEFORE = 400  # bytes before a text, whose tags say what it is
_OWN_LINE = 48  # bytes of a text that holds a date and little else
_LINE = 120
_OF_DATE = re.compile(
    rb'(?:class|id|itemprop)="[^"]*(?:date|datum|fecha|time|publi|posted|byline|meta|created|calendar|clock)', re.I
)
_OF_OTHERS = re.compile(rb'comment|copyright|sidebar|related|widget|recent|"prev|"next', re.I)


def choose(page: Head, url: str | None) -> datetime | None:
    """When the page was published, by the clock of its own place, without a time zone; None where nothing says it."""
    for text in _stated(page):
        if made := parse(text, page.html_language):
            return made
    if made := _of_address(url):
        return made
    for text in (*_beside_text(page), *_of_other_things(page)):
        if made := parse(text, page.html_language):
            return made
    return None


def _stated(page: Head) -> Iterator[str]:
    """What is meant for machines and for nothing but this, the most reliable first."""
    nodes = sorted(page.json, key=_kind)
    for node in nodes:
        if _kind(node) == 0:
            yield _text_of(node.get("datePublished"))
    for name in _PUBLISHED:
        yield from page.meta.get(name, ())
    yield from page.itemprop("datePublished")
    for node in nodes:
        yield _text_of(node.get("datePublished"))
    if page.broken_json:
        yield from re.findall(r'"datePublished"\s*:\s*"([^"]{4,40})"', page.broken_json)[:1]


def _of_address(url: str | None) -> datetime | None:
    try:
        path = urlsplit(url or "").path
    except ValueError:
        return None
    match = _IN_ADDRESS.search(path)
    return parse(match[1]) if match else None


def _beside_text(page: Head) -> Iterator[str]:
    """What stands beside the text for readers, the likelier first, then in the page's order.

    `time` elements and short lines in elements that are named for dates; then other lines that are hardly more than a
    date. What belongs to comments, other articles and the page's frame is left out.
    """
    events = page.events
    html = page.html
    found: list[tuple[int, int, str]] = []  # (rank, place, text)
    for attributes, event in page.times:
        rank = 0 if "pubdate" in attributes else 1
        found.append((rank, int(events.start[event]), attributes.get("datetime", "")))
    of_text = np.flatnonzero((events.kind == TEXT) & (events.block >= 0))
    starts, ends = events.start[of_text], events.end[of_text]
    last = -1
    for _, match in zip(range(_MOST_YEARS), _YEAR.finditer(html), strict=False):
        number = int(np.searchsorted(starts, match.start(), "right")) - 1
        if number in (-1, last) or ends[number] <= match.start():
            continue
        last = number
        start, end = int(starts[number]), int(ends[number])
        before = _open_tags(html[max(start - _BEFORE, 0) : start])
        if match.end() - start > _LINE or _OF_OTHERS.search(before):
            continue
        is_line = end - start <= _OWN_LINE
        if (is_named := bool(_OF_DATE.search(before))) or is_line:
            text = plain(html[start : min(end, start + 2 * _LINE)].decode("utf-8", "replace"))
            found.append(((1 if is_line else 2) if is_named else 3, start, text))
    for _, _, text in sorted(found):
        yield text


def _open_tags(before: bytes) -> bytes:
    """The tags of what stands before a text that are still open there, the innermost first."""
    closed = 0
    still = []
    for tag in reversed(before.split(b"<")[1:]):
        if tag.startswith(b"/"):
            closed += 1
        elif closed:
            closed -= 1
        else:
            still.append(tag)
    return b"".join(still)


def _of_other_things(page: Head) -> Iterator[str]:
    for node in sorted(page.json, key=_kind):
        yield _text_of(node.get("dateCreated") or node.get("uploadDate") or node.get("dateModified"))


def _kind(node: dict[str, Any]) -> int:
    """How likely a JSON-LD object is about the page's own content: 0 most."""
    types = node.get("@type", "")
    named = " ".join(each.lower() for each in (types if isinstance(types, list) else [types]) if isinstance(each, str))
    if any(name in named for name in _ARTICLES):
        return 0
    return 1 if "webpage" in named else 2


def _text_of(value: Any) -> str:
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, dict):
        value = value.get("@value")
    return value if isinstance(value, str) else ""
