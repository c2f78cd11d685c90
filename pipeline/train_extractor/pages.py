"""Real pages with the main text that people took out of them."""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.errors import UserError
from pipeline.splits import registered_domain
from stages.extract.folds import fold

SPACELESS = ("zh", "wuu", "yue", "ja", "th", "lo", "km", "my")
"""Languages written without spaces between words."""
_GOLD = "gold.jsonl.gz"
_LISTS = ("with_snippets", "without_snippets")


class DataError(UserError, ValueError):
    """Data that a model cannot be learned from."""


@dataclass(frozen=True)
class Page:
    """One page of the crawl, with what people said about it; `gold` and `title` are None where nobody did."""

    id: str
    dataset: str
    """wcxb-dev, magic-article, trafilatura-eval or llm-webkit."""
    url: str | None
    """None where it is unknown (the record then carries a made-up one)."""
    language: str | None
    page_type: str | None
    title: str | None
    gold: str | None
    wanted: tuple[str, ...]
    """Snippets that the text must hold."""
    unwanted: tuple[str, ...]
    """Snippets that it must not hold."""
    payload: bytes
    content_type: str | None

    @cached_property
    def site(self) -> str:
        """Registered domain, or the page's id where the URL is unknown."""
        return site(self.url) or self.id

    @property
    def fold(self) -> int:
        """The fold whose model may score this page."""
        return fold(self.site)

    @property
    def spaceless(self) -> bool:
        """Whether its language is written without spaces between words."""
        return self.language in SPACELESS


def load(folder: Path, up_to: str = "") -> list[Page]:
    """Every page of a crawl, WARC files beside a `gold.jsonl.gz`, in the order of its files.

    Raises FileNotFoundError where the data is not there, DataError where it is not what it should be. With `up_to`,
    only pages whose id does not lie behind it.
    """
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    if not folder.is_dir():
        raise FileNotFoundError(f"the folder {folder} is not there: name one that holds *.warc.gz and {_GOLD}")
    files = sorted(folder.glob("*.warc.gz"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no *.warc.gz, the pages to learn from")
    rows = _gold(folder / _GOLD)
    found = []
    for path in files:
        with path.open("rb") as stream:
            for record in ArchiveIterator(stream, record_types=WarcRecordType.response):
                name = (record.record_id or "").removeprefix("<urn:page:").rstrip(">")
                row = rows.pop(name, {"dataset": path.name.rsplit("-", 1)[0]})
                if up_to and name > up_to:
                    continue
                found.append(_page(name, row, record.reader.read(), record.http_headers.get("Content-Type")))
    if rows:
        raise DataError(
            f"{len(rows)} pages of {folder / _GOLD} have no record in the WARC files beside it, the first is "
            f"{next(iter(rows))}: a file is missing or cut short, or its WARC-Record-ID is not <urn:page:ID>"
        )
    return found


def _gold(path: Path) -> dict[str, dict[str, Any]]:
    """What people said about each page, by its id."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there, which says what the main text of each page is")
    rows: dict[str, dict[str, Any]] = {}
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                row = json.loads(line)
                if not isinstance(row, dict) or not isinstance(row.get("id"), str):
                    raise DataError(f"{path}, line {number}: each line is an object with the `id` of a page")
                for key in _LISTS:
                    if not isinstance(row.get(key) or [], list):
                        raise DataError(f"{path}, line {number}: `{key}` is a list of texts, not {row[key]!r:.60}")
                rows[row["id"]] = row
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {number}: this is no JSON ({error})") from error
    except (EOFError, OSError, UnicodeDecodeError, zlib.error) as error:
        raise DataError(f"{path} cannot be read behind line {number}: {error}") from error
    return rows


def _page(name: str, row: dict[str, Any], payload: bytes, content_type: str | None) -> Page:
    def text(key: str) -> str | None:
        return str(row[key]) if row.get(key) else None

    wanted, unwanted = (tuple(map(str, row.get(key) or ())) for key in _LISTS)
    return Page(
        name,
        str(row.get("dataset") or ""),
        text("url"),
        text("lang"),
        text("page_type"),
        text("title"),
        text("gold_text"),
        wanted,
        unwanted,
        payload,
        content_type,
    )


def site(url: str | None) -> str:
    """The registered domain of a URL; empty where it has no host or is missing."""
    try:
        return registered_domain(urlsplit(url or "").hostname or "")
    except ValueError:  # a bracket that opens no address
        return ""
