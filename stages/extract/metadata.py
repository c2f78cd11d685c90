"""What a page says about itself: title, canonical address, date of publication, language.

Nothing is guessed from the text. Everything stands in a few elements (`meta`, `link`, `time`, `h1`, `title`,
`html`, JSON-LD), which numpy finds among the events; Python reads those alone. No input raises.
"""

from __future__ import annotations

import html as entities
import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

import numpy as np

from stages.extract.dates import parse
from stages.extract.scan import CLOSE, OPEN, TAG_NUMBER, TAGS, TEXT, Events, canonical, scan

TITLE_CHARACTERS = 500
_MOST_ELEMENTS = 400  # of one name that are looked at
_MOST_JSON = 500_000  # bytes

_READ = np.zeros(len(TAGS), np.bool_)
_READ[[TAG_NUMBER[tag] for tag in ("html", "body", "base", "title", "meta", "link", "script", "h1", "time")]] = True
_ATTRIBUTE = re.compile(r' ([^\s=">]+)="([^"]*)"')
_LANGUAGE = re.compile(r"\A\s*([A-Za-z]{2,3})(?:[-_][A-Za-z0-9_-]*)?\s*(?:[,;].*)?\Z")

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


class Metadata(NamedTuple):
    """What the page states; None where it states nothing."""

    title: str | None
    """Without the name of the site, at most 500 characters."""
    canonical_url: str | None
    """Absolute, http or https."""
    date: datetime | None
    """When it was published, by the clock of the page's own place; no time zone."""
    language: str | None
    """Primary subtag, lower case: `en`, `zh`, `yue`."""


def from_html(html: str, url: str | None) -> Metadata:
    """The metadata of a page that another engine extracts."""
    return read(scan(canonical(html)), url)


def read(events: Events, url: str | None) -> Metadata:
    """The metadata of a page. `url` is its address, against which others are resolved."""
    page = _Page(events)
    return Metadata(_title(page), _canonical_url(page, url), _date(page, url), _language(page))


class _Page:
    """The elements of a page that metadata stand in."""

    def __init__(self, events: Events) -> None:
        self.events = events
        self.meta: dict[str, list[str]] = {}
        self.links: dict[str, str] = {}
        self.base = self.html_language = self.title = ""
        self.heads: list[str] = []
        self.times: list[tuple[dict[str, str], int]] = []
        self.json: list[dict[str, Any]] = []
        self.broken_json = ""
        self._read()

    def _read(self) -> None:
        events = self.events
        body = False
        seen = [0] * len(TAGS)
        for event in np.flatnonzero((events.kind == OPEN) & _READ[events.tag]).tolist():
            number = int(events.tag[event])
            seen[number] += 1
            if seen[number] > _MOST_ELEMENTS:
                continue
            tag = TAGS[number]
            if tag == "meta":
                self._meta(self._attributes(event))
            elif tag == "link":
                found = self._attributes(event)
                for relation in found.get("rel", "").lower().split():
                    self.links.setdefault(relation, found.get("href", ""))
            elif tag == "script":
                self._script(event)
            elif tag == "h1":
                self.heads.append(self._text(event))
            elif tag == "time":
                self.times.append((self._attributes(event), event))
            elif tag == "title":
                if not body and not self.title:
                    self.title = self._text(event)
            elif tag == "html":
                self.html_language = self._attributes(event).get("lang", "")
            elif tag == "base":
                self.base = self.base or self._attributes(event).get("href", "")
            else:
                body = True

    def _span(self, event: int) -> str:
        events = self.events
        return events.html[events.start[event] : events.end[event]].tobytes().decode("utf-8", "replace")

    def _attributes(self, event: int) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, value in _ATTRIBUTE.findall(self._span(event)):
            found.setdefault(name.lower(), _plain(value))
        return found

    def _text(self, event: int) -> str:
        """The text of an element, white space collapsed."""
        events, tag = self.events, self.events.tag[event]
        parts = []
        for number in range(event + 1, min(event + 200, len(events.kind))):
            if events.kind[number] == CLOSE and events.tag[number] == tag:
                break
            if events.kind[number] == TEXT and (events.block[number] >= 0 or TAGS[tag] == "title"):
                parts.append(self._span(number))
            elif events.kind[number] == OPEN and TAGS[events.tag[number]] in ("br", "div", "p"):
                parts.append(" ")
        return _tidy(_plain("".join(parts)))

    def _meta(self, found: dict[str, str]) -> None:
        content = found.get("content", "").strip()
        if content:
            for key in ("property", "name", "itemprop", "http-equiv"):
                if key in found:
                    self.meta.setdefault(found[key].strip().lower(), []).append(content)

    def _script(self, event: int) -> None:
        events = self.events
        if events.end[event] - events.start[event] < 20 or "ld+json" not in self._span(event):
            return
        if event + 1 == len(events.kind) or events.kind[event + 1] != TEXT:
            return
        text = self._span(event + 1)
        if '"date' not in text and '"headline' not in text:
            return
        try:
            if len(text) > _MOST_JSON:
                raise ValueError
            self.json.extend(_nodes(json.loads(text.strip().removesuffix(";"), strict=False)))
        except (ValueError, RecursionError):
            self.broken_json += text[:_MOST_JSON]

    def itemprop(self, prop: str) -> Iterator[str]:
        """What elements with this `itemprop` say, in attributes or in their text."""
        wanted = f'itemprop="{prop}"'.encode()
        html = self.events.html.tobytes()
        at = html.find(wanted)
        for _ in range(10):
            if at < 0:
                return
            end = html.find(b">", at)
            attributes = html[html.rfind(b"<", 0, at) : end].decode("utf-8", "replace")
            found = {name.lower(): _plain(value) for name, value in _ATTRIBUTE.findall(attributes)}
            text = html[end + 1 : end + 200].split(b"<")[0].decode("utf-8", "replace")
            yield found.get("datetime") or found.get("content") or found.get("title") or text
            at = html.find(wanted, end)


def _nodes(value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """The top-level objects of JSON-LD: those in lists, graphs and as main entity, not what is nested in them."""
    if depth > 4:
        return
    if isinstance(value, list):
        for part in value[:200]:
            yield from _nodes(part, depth + 1)
    elif isinstance(value, dict):
        yield value
        for key in ("@graph", "mainEntity", "mainEntityOfPage"):
            if isinstance(value.get(key), (list, dict)):
                yield from _nodes(value[key], depth + 1)


def _kind(node: dict[str, Any]) -> int:
    """How likely a JSON-LD object is about the page's own content: 0 most."""
    named = str(node.get("@type", "")).lower()
    if any(name in named for name in _ARTICLES):
        return 0
    return 1 if "webpage" in named else 2


def _plain(text: str) -> str:
    return entities.unescape(text) if "&" in text else text


def _tidy(text: str) -> str:
    return " ".join(text.split())[:TITLE_CHARACTERS].strip()


def _first(page: _Page, *names: str) -> str:
    for name in names:
        for value in page.meta.get(name, ()):
            if tidy := _tidy(_plain(value)):
                return tidy
    return ""


def _title(page: _Page) -> str | None:
    return _first(page, "og:title") or page.title or None


def _canonical_url(page: _Page, url: str | None) -> str | None:
    """`link rel=canonical`, else `og:url`."""
    try:
        base = urljoin(url or "", page.base)
        for found in (page.links.get("canonical", ""), _first(page, "og:url")):
            address = urljoin(base, found.strip()) if found.strip() else ""
            parts = urlsplit(address)
            if parts.scheme in ("http", "https") and parts.hostname and len(address) <= 2_000:
                return address
    except ValueError:  # no address at all, such as one with half a bracket
        pass
    return None


def _date(page: _Page, url: str | None) -> datetime | None:
    for found in _dates(page):
        if made := parse(found):
            return made
    return None


def _dates(page: _Page) -> Iterator[str]:
    """Texts that may hold the date of publication, the most reliable first."""
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
    for found, _ in page.times:
        if "pubdate" in found:
            yield found.get("datetime", "")
    for found, _ in page.times:
        if re.search(r"publi|post|entry|created|date", found.get("class", ""), re.I):
            yield found.get("datetime", "")
    for found, _ in page.times:
        yield found.get("datetime", "")
    for node in nodes:
        yield _text_of(node.get("dateCreated") or node.get("uploadDate") or node.get("dateModified"))


def _text_of(value: Any) -> str:
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, dict):
        value = value.get("@value")
    return value if isinstance(value, str) else ""


def _language(page: _Page) -> str | None:
    """`html lang`, else `content-language`, else `og:locale`."""
    for found in (
        page.html_language,
        _first(page, "content-language", "dc.language", "language"),
        _first(page, "og:locale"),
    ):
        match = _LANGUAGE.match(found)
        if match and match[1].lower() not in ("und", "xx", "mul"):
            return match[1].lower()
    return None
