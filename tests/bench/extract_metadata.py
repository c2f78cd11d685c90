"""Titles against WCXB's gold titles, dates against the day in a page's URL, which neither tool is given.

The day is also taken out of the page's own links to itself (`/2019/05/12/` becomes `/`), so that both tools have to
find it in what the page says.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
import unicodedata
from collections.abc import Sequence

from tests.bench.extract_scoring import Page

_DAY = re.compile(r"/((?:19|20)\d\d)([/-])(\d\d?)\2(\d\d?)(?=[/.\-_]|$)")
NOTHING: list[str | None] = [None, None]
"""Neither title nor date."""


def peer_metadata(page: Page) -> list[str | None]:
    """Title and date (YYYY-MM-DD) by trafilatura, which asks htmldate."""
    from trafilatura.metadata import extract_metadata
    from trafilatura.utils import load_html

    tree = load_html(page.payload)
    found = None if tree is None else extract_metadata(tree)
    return NOTHING if found is None else [found.title, found.date]


def same_title(title: str | None, gold: str) -> bool:
    """Whether two titles agree but for case, white space and the form of their characters."""
    return _plain(title or "") == _plain(gold)


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).casefold().replace("’", "'").replace("‘", "'")
    return " ".join(re.sub("[“”«»]", '"', text).split())


def dated(pages: Sequence[Page]) -> list[tuple[Page, str]]:
    """Pages whose URL names a day, without that day in their links, and the day as YYYY-MM-DD."""
    found = []
    for page in pages:
        match = _DAY.search(page.url or "")
        if match is None:
            continue
        year, mark, month, day = match.groups()
        try:
            date = datetime.date(int(year), int(month), int(day))
        except ValueError:
            continue
        path = mark.join((year, month, day)).encode()
        payload = page.payload
        for spelled in (path, path.replace(b"/", rb"\/"), path.replace(b"/", b"%2F"), path.replace(b"/", b"%2f")):
            payload = re.sub(rb"(?<=[/F\\f])" + re.escape(spelled) + rb"""(?=[/.\-_%\\"'\s<&?#])""", b"x", payload)
        found.append((dataclasses.replace(page, payload=payload), date.isoformat()))
    return found
