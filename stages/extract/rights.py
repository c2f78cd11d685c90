"""What a page says of what may be done with it: signals to robots, and a licence. No input raises.

Signals come from `meta` elements, for all robots or for one by name, and from HTTP headers. `noai` and `noimageai` are
DeviantArt's; `tdm` is the reservation of text and data mining by the TDM Reservation Protocol (W3C TDMRep, which also
knows a file on the host, that no page tells of); the others are those of search engines. What permits, such as `index`,
is passed over, since it is what holds where nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from stages.extract.head import Head, attributes

SIGNALS = (
    "noai", "noimageai", "tdm", "noindex", "nofollow", "noarchive", "nocache", "nosnippet", "noimageindex",
    "notranslate", "unavailable_after",
)  # fmt: skip
"""What robots are told, as far as it takes something away."""
AGENTS = (
    "adsbot-google", "ai2bot", "amazonbot", "anthropic-ai", "applebot", "applebot-extended", "baiduspider", "bingbot",
    "bytespider", "ccbot", "chatgpt-user", "claude-web", "claudebot", "cohere-ai", "diffbot", "duckduckbot",
    "facebookbot", "google-extended", "googlebot", "googlebot-image", "googlebot-news", "gptbot", "img2dataset",
    "meta-externalagent", "msnbot", "oai-searchbot", "omgili", "omgilibot", "otherbot", "perplexitybot", "petalbot",
    "slurp", "teoma", "yandex", "yandexbot", "yeti", "youbot",
)  # fmt: skip
"""Robots that are told something by name; in a page every other name counts that ends as robots' names do."""
FROM = ("json-ld", "meta", "rel", "header", "link")
"""Where a licence is stated, most certain first. `link` is a bare link to a licence of Creative Commons: it may be that
of a picture."""

_FOR_ALL = "robots"
_TAG_OF_HEADER = "x-robots-tag"
_TDM = "tdm-reservation"
_ROBOT = re.compile(r"[\w.-]{0,40}(?:bot|spider|crawler)(?:-[\w-]{1,40})?")
_BETWEEN = re.compile(r"[^\w:.-]+")  # commas of any script
_HEADER = re.compile(r"""<([^<>]{1,2000})>[^<>]{0,500}?;\s*rel\s*=\s*(?:"[^"<>]*|'[^'<>]*)?\blicense\b""", re.I)
_LICENSE = ("dcterms.license", "dc.license", "dc:license", "license")
_OF_LAW = ("dcterms.rights", "dc.rights", "dc:rights", "rights", "copyright")
"""`meta` that mostly hold whose the page is, and now and then a licence."""
_OF_PAGE = (
    "article", "posting", "report", "page", "creativework", "website", "blog", "book", "course", "dataset", "recipe",
    "howto", "thesis", "learningresource",
)  # fmt: skip
_CC = re.compile(
    r"creativecommons\.org/(?:licen[sc]es/(?P<kind>by(?:-(?:nc|nd|sa|nc-nd|nc-sa|nd-nc))?|sa|nc|nd|nc-sa|publicdomain)"
    r"|publicdomain/(?P<domain>zero|mark))(?:/(?P<version>\d\.\d))?(?![\w.-])",
    re.I,
)
_CC_NAME = re.compile(
    r"\b(?:CC|Creative Commons)[ -](?P<kind>BY(?:[ -](?:NC|ND|SA)){0,2})(?:[ -](?:version )?v?(?P<version>\d\.\d))?"
    r"(?![\w-])",
    re.I,
)
_CC0 = re.compile(r"\bCC[ -]?0\b", re.I)
_OTHERS = (
    (re.compile(r"apache\.org/licenses/license-2\.0", re.I), "Apache-2.0"),
    (re.compile(r"(?:opensource\.org/licenses?/|spdx\.org/licenses/)mit(?![\w-])", re.I), "MIT"),
    (re.compile(r"nationalarchives\.gov\.uk/doc/open-government-licence/version/(\d)", re.I), r"OGL-UK-\1.0"),
    (re.compile(r"opendatacommons\.org/licenses/odbl", re.I), "ODbL-1.0"),
    (re.compile(r"gnu\.org/(?:licenses|copyleft)/fdl(?:-(\d\.\d))?", re.I), "GFDL"),
)
_KINDS = ("BY", "BY-SA", "BY-NC", "BY-NC-SA", "BY-ND", "BY-NC-ND", "SA", "NC", "ND", "NC-SA")
_VERSIONS = ("", "-1.0", "-2.0", "-2.1", "-2.5", "-3.0", "-4.0")
NAMES = (
    *(f"CC-{kind}{version}" for kind in _KINDS for version in _VERSIONS), "CC0-1.0", "CC-PDM-1.0", "CC-PDDC",
    "Apache-2.0", "MIT", "OGL-UK-1.0", "OGL-UK-2.0", "OGL-UK-3.0", "ODbL-1.0", "GFDL",
)  # fmt: skip
"""The licences that have names here."""
_HOST = b"creativecommons.org/"
_TAG = 4_000  # bytes of a tag, about
_VALUE = 80  # bytes of the value of `rel`
_MOST = 200  # places in a page that are looked at


class Rights(NamedTuple):
    """What a page states; None where it states nothing."""

    robots: str | None = None
    """Signals, sorted, with commas between them; those for one robot behind its name: `gptbot:noindex`."""
    license: str | None = None
    """`CC-BY-4.0`, `CC0-1.0`, `CC-BY-NC-SA-3.0` (ported ones without their country), or an address."""
    license_from: str | None = None
    """One of FROM."""


def read(page: Head, url: str | None, headers: str | None) -> Rights:
    """What a page states, and the server for it. `headers`: lines as `x-robots-tag: noindex`."""
    lines = _lines(headers)
    return Rights(_robots(page, lines), *_license(page, url, lines))


def of_headers(headers: str | None) -> Rights:
    """What the server alone states, of what is no HTML."""
    lines = _lines(headers)
    return Rights(_robots(None, lines), *_first(_of_links(lines), None))


def _lines(headers: str | None) -> list[tuple[str, str]]:
    found = (line.partition(":") for line in (headers or "").splitlines())
    return [(name.strip().lower(), value.strip()) for name, sign, value in found if sign]


def _robots(page: Head | None, lines: list[tuple[str, str]]) -> str | None:
    found: set[str] = set()
    said = [(name, value) for name, values in page.meta.items() for value in values[:_MOST]] if page else []
    for name, value in said:
        if name == _FOR_ALL or name in AGENTS or _ROBOT.fullmatch(name):
            found |= {_for(name, signal) for signal in _signals(value)}
    for name, value in said + lines:  # a header may stand in a page, too, as `meta http-equiv`
        if name == _TAG_OF_HEADER:
            found |= _of_tag(value)
        elif name == _TDM and "1" in _BETWEEN.split(value):
            found.add("tdm")
    return ",".join(sorted(found)) or None


def _for(agent: str, signal: str) -> str:
    return signal if agent == _FOR_ALL else f"{agent}:{signal}"


def _signals(value: str) -> Iterator[str]:
    for part in _BETWEEN.split(value.lower()[:2000]):
        name = part.partition(":")[0]
        if name == "none":
            yield from ("noindex", "nofollow")
        elif name in SIGNALS:
            yield name


def _of_tag(value: str) -> set[str]:
    """The signals of a header, in which a robot's name holds for what follows it."""
    agent = _FOR_ALL
    found = set()
    for part in value.lower()[:2000].split(","):
        name, sign, rest = (piece.strip() for piece in part.partition(":"))
        if sign and name not in SIGNALS and not name.startswith("max-"):
            agent, part = name if re.fullmatch(r"[\w.-]{1,40}", name) else agent, rest
        found |= {_for(agent, signal) for signal in _signals(part)}
    return found


def _license(page: Head, url: str | None, lines: list[tuple[str, str]]) -> tuple[str | None, str | None]:
    """The licence, and where it is stated: of several in one place that differ, none."""
    base = url
    with suppress(ValueError):
        base = urljoin(url or "", page.base)
    return _first(
        {"json-ld": _of_json(page), "meta": _of_meta(page), "rel": _of_rel(page)} | _of_links(lines)
        | {"link": _of_bare(page)},
        base,
    )  # fmt: skip


def _first(places: dict[str, list[str]], base: str | None) -> tuple[str | None, str | None]:
    for place, stated in places.items():
        named = {found for value in stated if (found := normal(value, base)) is not None}
        if len(named) == 1:
            return named.pop(), place
        if named:
            return None, None
    return None, None


def _of_json(page: Head) -> list[str]:
    found = []
    for node in page.json:
        types = node.get("@type", "")
        named = " ".join(one.lower() for one in (types if isinstance(types, list) else [types]) if isinstance(one, str))
        if any(kind in named for kind in _OF_PAGE):
            value = node.get("license")
            for one in value[:_MOST] if isinstance(value, list) else [value]:
                if isinstance(one, dict):
                    name = one.get("name")  # which may be any word, and no address
                    named_so = name if isinstance(name, str) and _known(name) else None
                    one = one.get("url") or one.get("@id") or named_so
                if isinstance(one, str):
                    found.append(one)
    return found


def _of_meta(page: Head) -> list[str]:
    stated = {
        names: [one for name in names for one in page.meta.get(name, ())[:_MOST]] for names in (_LICENSE, _OF_LAW)
    }
    of_law = [value for value in stated[_OF_LAW] if _known(value)]
    return of_law + [value for value in stated[_LICENSE] if _known(value) or _is_address(value)]


def _of_rel(page: Head) -> list[str]:
    """What links with `rel=license` lead to."""
    html = page.html
    places = [place for word in (b"license", b"License", b"LICENSE") for place in _places(html, word)]
    tags = [_tag(html, place) for place in places if _of_relation(html, place)]
    return [tag["href"] for tag in tags if "license" in tag.get("rel", "").lower().split() and tag.get("href")]


def _places(html: bytes, word: bytes) -> Iterator[int]:
    """Where a word stands."""
    place = html.find(word)
    for _ in range(_MOST):
        if place < 0:
            return
        yield place
        place = html.find(word, place + len(word))


def _of_relation(html: bytes, place: int) -> bool:
    """Whether this is a value of `rel`, as far as a look at what is before it tells."""
    return html.rfind(b' rel="', max(0, place - _VALUE), place) >= 0


def _tag(html: bytes, place: int) -> dict[str, str]:
    """The attributes of the tag around a place, if it is one that links."""
    start, end = html.rfind(b"<", max(0, place - _TAG), place), html.find(b">", place, place + _TAG)
    if start < 0 or end < 0 or not html.startswith((b"<a ", b"<link ", b"<area "), start):
        return {}
    return attributes(html[start:end].decode("utf-8", "replace"))


def _of_links(lines: list[tuple[str, str]]) -> dict[str, list[str]]:
    stated = [value for name, value in lines if name == "link"]
    return {"header": [match[1] for value in stated for match in _HEADER.finditer(value[:10_000])]}


def _of_bare(page: Head) -> list[str]:
    """Addresses of Creative Commons that the page links to."""
    found = (_tag(page.html, place).get("href", "") for place in _places(page.html, _HOST))
    return [address for address in found if _CC.search(address)]


def normal(stated: str, base: str | None = None) -> str | None:
    """The name of a licence that is known, else its address made absolute; None for what is neither."""
    stated = stated.strip()
    if known := _known(stated):
        return known
    if not stated or len(stated) > 2_000 or any(mark.isspace() for mark in stated):
        return None
    try:
        address = urljoin(base or "", stated)
        parts = urlsplit(address)
        return address if parts.scheme in ("http", "https") and parts.hostname else None
    except ValueError:
        return None


def _known(stated: str) -> str | None:
    stated = stated[:2_000]
    if match := _CC.search(stated):
        version = match["version"]
        if match["domain"]:
            return f"{'CC0' if match['domain'].lower() == 'zero' else 'CC-PDM'}-{version or '1.0'}"
        kind = _kind(match["kind"])
        return "CC-PDDC" if kind == "PUBLICDOMAIN" else f"CC-{kind}" + (f"-{version}" if version else "")
    for pattern, name in _OTHERS:
        if match := pattern.search(stated):
            return match.expand(name)
    if match := _CC_NAME.search(stated):
        return f"CC-{_kind(match['kind'])}" + (f"-{match['version']}" if match["version"] else "")
    return "CC0-1.0" if _CC0.search(stated) else None


def _kind(stated: str) -> str:
    """`BY-NC-SA`, in whatever order and spelling it is written."""
    return stated.upper().replace(" ", "-").replace("ND-NC", "NC-ND").replace("SA-NC", "NC-SA")


def _is_address(stated: str) -> bool:
    return stated.strip().lower().startswith(("http://", "https://"))
