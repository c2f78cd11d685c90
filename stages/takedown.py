"""Documents that somebody asked to have taken out: by URL, by domain, by id."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stages.base import Outcome, Processor, Stage
from stages.keys import canonical_url
from stages.rows import Drop, outcome
from stages.url.hosts import is_public_suffix, split

KINDS = ("url", "domain", "id")
_AUTHORITY = r"^\s*(?:(?:[A-Za-z][A-Za-z0-9+.\-]*:)?//)?(?P<name>[^/?#\\]*)"
_SCHEME = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.\-]*://")
_LINE = re.compile(r"(url|domain|id)\s+(\S.*)", re.IGNORECASE)
_COMMENT = re.compile(r"(?:^|\s)#.*")


@dataclass(frozen=True)
class Request:
    """What somebody asked for."""

    kind: str
    """`url`, `domain` or `id`."""
    value: str
    """As it was written."""

    @property
    def line(self) -> str:
        """As a list holds it."""
        return f"{self.kind} {self.value}"

    @functools.cached_property
    def key(self) -> str:
        """What it is compared by: a canonical URL, a domain in ASCII, an id in hex.

        Raises ValueError where it is none.
        """
        if self.kind == "id":
            if not re.fullmatch(r"[0-9a-fA-F]{32}", self.value):
                raise ValueError(f"{self.value!r} is no id: those are 32 hex digits")
            return self.value.lower()
        host = split(self.value)[0]
        if self.kind == "url":
            if not host or ("." not in host and "://" not in self.value):
                raise ValueError(f"{self.value!r} is no URL with a host")
            return _page(self.value)
        if "/" in self.value or not host or "." not in host:
            raise ValueError(f"{self.value!r} is no domain, such as example.org")
        if is_public_suffix(host):
            raise ValueError(f"{self.value!r} is a public suffix: it would take out each site below it")
        return host


def read(data: bytes, name: str) -> list[Request]:
    """The requests of a list: a line each, `url ADDRESS`, `domain NAME` or `id HEX`, or the bare value; `#` begins a
    comment, at the beginning of a line or behind a blank. Raises ValueError with the line where one cannot be
    understood."""
    found = []
    for number, raw in enumerate(data.decode("utf-8-sig", "replace").splitlines(), 1):
        line = _COMMENT.sub("", raw).strip()
        if not line:
            continue
        match = _LINE.fullmatch(line)
        if match:
            request = Request(match[1].lower(), match[2])
        elif re.fullmatch(r"[0-9a-fA-F]{32}", line):
            request = Request("id", line)
        else:
            request = Request("url" if "/" in line else "domain", line)
        try:
            _ = request.key
        except ValueError as error:
            raise ValueError(f"{name}, line {number}: {error}") from error
        found.append(request)
    return found


def _page(url: str) -> str:
    """The canonical URL, of one without a scheme that of https, its host in ASCII."""
    found = canonical_url(url if _SCHEME.match(url) else f"https://{url.strip().lstrip('/')}")
    with suppress(ValueError):
        host = "" if found.isascii() else urlsplit(found).hostname or ""
        return found if host.isascii() else found.replace(host, split(found)[0], 1)
    return found


class Matcher:
    """Many requests at once, held against whole columns."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self.requests = once(requests)
        """Those that mean the same once."""
        self._of: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
        for number, request in enumerate(self.requests):
            self._of[request.kind][request.key] = number
        self._ids = {bytes.fromhex(key): number for key, number in self._of["id"].items()}
        self._hosts = {split(key)[0] for key in self._of["url"]}

    def match(self, ids: pa.Array, urls: pa.Array) -> npt.NDArray[np.int32]:
        """(documents,) the number of the first request that names each document, by id, then URL, then domain; -1
        where none does. A domain covers the hosts below it; a URL, all spellings that lead to the same page."""
        found = np.full(len(ids), -1, np.int32)
        if self._ids:  # Arrow's is_in would make its table of a million ids anew for each batch
            found[:] = [self._ids.get(one, -1) for one in ids.to_pylist()]
        domains, addresses = self._of["domain"], self._of["url"]
        if not domains and not addresses:
            return found
        names = pc.struct_field(pc.extract_regex(urls, _AUTHORITY), "name").dictionary_encode()
        hosts = [split("//" + name)[0] for name in names.dictionary.to_pylist()]
        place = names.indices.fill_null(len(hosts)).to_numpy(zero_copy_only=False)
        by_domain = np.array([*map(self._domain, hosts), -1], np.int32)[place]
        asked = np.array([*(host in self._hosts for host in hosts), False])[place]
        found = np.where(found < 0, by_domain, found)
        for row in np.flatnonzero(asked & ((found < 0) | (found == by_domain))).tolist():
            found[row] = addresses.get(_page(urls[row].as_py()), found[row])
        return found

    def naming(self, id_: bytes, url: str | None) -> list[int]:
        """The numbers of all requests that name a document; `match` gives one of them."""
        keys = {"id": [id_.hex()]}
        if url is not None and (self._of["url"] or self._of["domain"]):
            keys |= {"url": [canonical_url(url)], "domain": _above(split(url)[0])}
        return [self._of[kind][key] for kind, some in keys.items() for key in some if key in self._of[kind]]

    def _domain(self, host: str) -> int:
        """The number of the request that covers a host; -1 where none does."""
        return next((self._of["domain"][name] for name in _above(host) if name in self._of["domain"]), -1)


def once(requests: Iterable[Request]) -> list[Request]:
    """Of requests that mean the same, such as two spellings of a URL, the first."""
    found: dict[tuple[str, str], Request] = {}
    for request in requests:
        found.setdefault((request.kind, request.key), request)
    return list(found.values())


def _above(host: str) -> list[str]:
    """A host and the domains above it."""
    labels = host.split(".")
    return [".".join(labels[place:]) for place in range(len(labels))]


@dataclass(frozen=True, kw_only=True)
class Takedown(Stage):
    """Drops documents that lists name: those that `corpusmill remove` took out of a corpus, so that the next run of the
    recipe does not bring them back.

    Needs only `id` and `url`, so it belongs before all other stages: what is taken down loses no one else as its
    duplicate. Reasons: `id`, `url`, `domain`. An id is that of the record as the crawl holds it, under the same source
    name; a URL counts in every spelling that leads to the same page; a domain covers the hosts below it.
    """

    name: ClassVar[str] = "takedown"
    version: ClassVar[int] = 2
    packages: ClassVar[tuple[str, ...]] = ("idna", "tldextract", "regex")

    lists: tuple[str, ...] = ()
    """Files with a request a line: `url https://example.org/page`, `domain example.org`, `id 3f2a...` (32 hex digits),
    as `takedown.txt` of `corpusmill remove` has them; `#` behind a blank begins a comment."""

    def files(self) -> dict[str, str]:
        return {f"lists/{number}": path for number, path in enumerate(self.lists)}

    def bind(self, files: Mapping[str, bytes]) -> Processor:
        named = [(path, files[f"lists/{number}"]) for number, path in enumerate(self.lists)]
        matcher = Matcher(request for path, data in named for request in read(data, path))
        return lambda batch: _judge(batch, matcher)


def _judge(batch: pa.RecordBatch, matcher: Matcher) -> Outcome:
    found = matcher.match(batch.column("id"), batch.column("url"))
    drops: list[Drop] = [
        (row, matcher.requests[found[row]].kind, None, None) for row in np.flatnonzero(found >= 0).tolist()
    ]
    return outcome(batch, drops)
