"""What a page says about itself: title, canonical address, date of publication, language, rights. No input raises."""

from __future__ import annotations

import re
from datetime import datetime
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from stages.extract import published, rights, titles
from stages.extract.head import Head, first
from stages.extract.rights import Rights
from stages.extract.scan import Events, canonical, scan

_LANGUAGE = re.compile(r"\A\s*([A-Za-z]{2,3})(?:[-_][A-Za-z0-9_-]*)?\s*(?:[,;].*)?\Z")


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
    rights: Rights = Rights()
    """Signals to robots, and the licence."""


def from_html(html: str, url: str | None) -> Metadata:
    """The metadata of a page that another engine extracts."""
    return read(scan(canonical(html)), url)


def read(events: Events, url: str | None, headers: str | None = None) -> Metadata:
    """The metadata of a page. `url` is its address, against which others are resolved; `headers`, see `rights.read`."""
    page = Head(events)
    title = titles.choose(first(page, "og:title"), page.title, page.heads, first(page, "og:site_name"), url)
    return Metadata(
        title,
        _canonical_url(page, url),
        published.choose(page, url),
        _language(page),
        rights.read(page, url, headers),
    )


def _canonical_url(page: Head, url: str | None) -> str | None:
    """`link rel=canonical`, else `og:url`."""
    try:
        base = urljoin(url or "", page.base)
        for found in (page.links.get("canonical", ""), first(page, "og:url")):
            address = urljoin(base, found.strip()) if found.strip() else ""
            parts = urlsplit(address)
            if parts.scheme in ("http", "https") and parts.hostname and len(address) <= 2_000:
                return address
    except ValueError:  # no address at all, such as one with half a bracket
        pass
    return None


def _language(page: Head) -> str | None:
    """`html lang`, else `content-language`, else `og:locale`."""
    for found in (
        page.html_language,
        first(page, "content-language", "dc.language", "language"),
        first(page, "og:locale"),
    ):
        match = _LANGUAGE.match(found)
        if match and match[1].lower() not in ("und", "xx", "mul"):
            return match[1].lower()
    return None
