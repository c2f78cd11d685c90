"""The title of a page's content: not its site's name, nor the site's slogan.

A page spells its title in `og:title` and `title`, mostly with the name of the site, and in a heading, mostly without.
The heading is taken if it shares half its words with one of the others; else they are, less the site's name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from stages.text.forms import normalized

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")
_MARK = r"(?:\s+[|\-–—―·•»«:/~\\›]+\s+|\s*[|｜»«]+\s*|\s*::\s*|(?<=[\u3040-\u9fff])_|_(?=[\u3040-\u9fff]))"
_SEPARATOR = re.compile(_MARK)
_ANCHOR = re.compile(r"[\s¶§#🔗\u200b-\u200d\ufeff]+\Z")


def choose(stated: str, title: str, headings: Sequence[str], site: str, url: str | None) -> str | None:
    """The page's title; None where it has none.

    `stated` is what the page calls itself for others (og:title), `title` its title element, `headings` its h1 in their
    order, `site` the stated name of the site (og:site_name), `url` its address. An unknown one is empty.
    """
    name = stated or title
    known = _words(f"{stated} {title}")
    for heading in headings:
        heading = _ANCHOR.sub("", heading)
        words = _words(heading)
        if words and 2 * len(words & known) >= len(words) and not _is_site_alone(heading, name, site, url):
            return heading
    if not name:
        return next((heading for heading in headings if heading), None)
    return _less_site(name, site, url, not stated) or None


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.casefold()))


def _letters(text: str) -> str:
    return "".join(_WORD.findall(normalized(text, "NFKC").casefold()))


def _is_site(text: str, site: str, url: str | None) -> bool:
    """Whether a text is the name of the site: the one it states, or a part of its host's name."""
    letters = _letters(text)
    if not letters or letters == _letters(site):
        return bool(letters)
    try:
        host = urlsplit(url or "").hostname or ""
    except ValueError:
        host = ""
    return len(letters) > 2 and letters in _letters(host.removeprefix("www."))


def _is_site_alone(heading: str, name: str, site: str, url: str | None) -> bool:
    return _letters(heading) != _letters(name) and _is_site(heading, site, url)


def _less_site(name: str, site: str, url: str | None, always: bool) -> str:
    """A title without the site's name at its end or its start; with `always` less its last part in any case."""
    marks = list(_SEPARATOR.finditer(name))
    if not marks:
        return name
    head, tail = name[: marks[-1].start()].strip(), name[marks[-1].end() :].strip()
    if head and (always or _is_site(tail, site, url)):
        return head
    head, tail = name[: marks[0].start()].strip(), name[marks[0].end() :].strip()
    return tail if tail and _is_site(head, site, url) else name
