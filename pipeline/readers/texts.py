"""Plain text and Markdown: a file is a document."""

from __future__ import annotations

import datetime as dt
import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from typing import Any

import yaml

from pipeline.readers.base import Piece
from pipeline.readers.documents import Documents, Parsed, text_of
from pipeline.readers.sources import File

_MOST_FRONT = 64 << 10
_FRONT = re.compile(r"\A(---|\+\+\+)[ \t]*\n(.*?\n)??(\1|\.\.\.)[ \t]*(?:\n|\Z)", re.S)
_HEADING = re.compile(r"^ {0,3}# +(.+?)[ #]*$|^(\S.*)\n=+[ \t]*$", re.M)
_KEYS: Mapping[str, tuple[str, ...]] = {
    "title": ("title",),
    "date": ("date", "published", "pubDate", "publishDate", "created"),
    "url": ("url", "canonical_url", "canonicalUrl", "canonical", "permalink", "link"),
    "language": ("language", "lang", "locale"),
}
"""Where front matter says what, in the order of trust; a recipe's `fields` come first."""


def plain(file: File, piece: Piece, counts: Counter[str]) -> Parsed:
    """A text as it is."""
    text = text_of(file, piece, counts)
    return text if isinstance(text, Parsed) else Parsed(text)


def markdown(file: File, piece: Piece, counts: Counter[str]) -> Parsed:
    """The text behind the front matter. Counts `front_matter_characters`, `front_matter_broken` (left in the text)."""
    text = text_of(file, piece, counts)
    if isinstance(text, Parsed):
        return text
    known: dict[str, Any] = {}
    found = _FRONT.match(text[:_MOST_FRONT])
    if found:
        front = _front(found[1], found[2] or "")
        if front is None:
            counts["front_matter_broken"] += 1
        else:
            known = front
            counts["front_matter_characters"] += found.end()
            text = text[found.end() :]
    if not text.strip():
        return Parsed(reason="empty_text")
    asked = dict(piece.fields)
    facts = {ours: _fact(known, [asked[ours]] if ours in asked else _KEYS[ours]) for ours in _KEYS}
    if facts["url"] and "://" not in facts["url"]:
        facts["url"] = None  # a site's own path, the same on many sites
    heading = _HEADING.search(text[:_MOST_FRONT])
    title = facts["title"] or (heading and (heading[1] or heading[2])) or None
    return Parsed(text, title, facts["url"], facts["date"], facts["language"])


def _front(fence: str, front: str) -> dict[str, Any] | None:
    """The mapping between two fences, or None where it is none: a rule, or a broken one."""
    try:
        known = tomllib.loads(front) if fence == "+++" else yaml.safe_load(front)
    except (yaml.YAMLError, tomllib.TOMLDecodeError, ValueError, RecursionError, OverflowError):
        return None
    return known if isinstance(known, dict) else None


def _fact(known: Mapping[str, Any], keys: tuple[str, ...] | list[str]) -> str | None:
    for key in keys:
        value: Any = known
        for part in [key] if key in known else key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if isinstance(value, dt.date | dt.datetime):
            return value.isoformat()
        if isinstance(value, str | int | float) and not isinstance(value, bool) and str(value).strip():
            return str(value).strip()
    return None


TEXT = Documents("text", plain)
MARKDOWN = Documents("markdown", markdown)
