"""What a page says of itself: its `meta`, `link`, `time`, `h1`, `title` and JSON-LD, found among the events by numpy.

Only these elements are read in Python. No input raises.
"""

from __future__ import annotations

import html as entities
import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from stages.extract.scan import CLOSE, OPEN, TAG_NUMBER, TAGS, TEXT, Events

TEXT_CHARACTERS = 500
_MOST_ELEMENTS = 400  # of one name that are looked at
_MOST_JSON = 500_000  # bytes
_MOST_TEXT = 20_000  # bytes of a title, or of a heading: they may be nested, and each hold all of the page

_READ = np.zeros(len(TAGS), np.bool_)
_READ[[TAG_NUMBER[tag] for tag in ("html", "body", "base", "title", "meta", "link", "script", "h1", "time")]] = True
_ATTRIBUTE = re.compile(r' ([^\s=">]+)="([^"]*)"')


def tidy(text: str) -> str:
    """White space collapsed, at most 500 characters."""
    return " ".join(text.split())[:TEXT_CHARACTERS].strip()


class Head:
    """The elements of a page that metadata stand in."""

    def __init__(self, events: Events) -> None:
        self.events = events
        self.html: bytes = events.html.tobytes()
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

    def _span(self, event: int, most: int | None = None) -> str:
        start, end = int(self.events.start[event]), int(self.events.end[event])
        return self.html[start : end if most is None else min(end, start + most)].decode("utf-8", "replace")

    def _attributes(self, event: int) -> dict[str, str]:
        return attributes(self._span(event))

    def _text(self, event: int) -> str:
        """The text of an element, white space collapsed."""
        events, tag = self.events, self.events.tag[event]
        parts = []
        room = _MOST_TEXT
        for number in range(event + 1, min(event + 200, len(events.kind))):
            if room <= 0 or (events.kind[number] == CLOSE and events.tag[number] == tag):
                break
            if events.kind[number] == TEXT and (events.block[number] >= 0 or TAGS[tag] == "title"):
                parts.append(self._span(number, room))
                room -= len(parts[-1])
            elif events.kind[number] == OPEN and TAGS[events.tag[number]] in ("br", "div", "p"):
                parts.append(" ")
        return tidy(plain("".join(parts)))

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
        if '"date' not in text and '"headline' not in text and '"license' not in text:
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
        html = self.html
        at = html.find(wanted)
        for _ in range(10):
            if at < 0:
                return
            end = html.find(b">", at)
            tag = html[html.rfind(b"<", 0, at) : end].decode("utf-8", "replace")
            found = {name.lower(): plain(value) for name, value in _ATTRIBUTE.findall(tag)}
            text = html[end + 1 : end + 200].split(b"<")[0].decode("utf-8", "replace")
            yield found.get("datetime") or found.get("content") or found.get("title") or text
            at = html.find(wanted, end)


def attributes(tag: str) -> dict[str, str]:
    """The attributes of a canonical tag, names in lower case; of a name given twice the first."""
    found: dict[str, str] = {}
    for name, value in _ATTRIBUTE.findall(tag):
        found.setdefault(name.lower(), plain(value))
    return found


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


def plain(text: str) -> str:
    """The text with its entities resolved."""
    try:
        return entities.unescape(text) if "&" in text else text
    except ValueError:  # a character whose number has thousands of digits
        return text


def first(head: Head, *names: str) -> str:
    for name in names:
        for value in head.meta.get(name, ()):
            if text := tidy(plain(value)):
                return text
    return ""
