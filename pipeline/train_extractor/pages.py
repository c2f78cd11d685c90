"""Real pages with the main text that people took out of them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.splits import registered_domain
from stages.extract.folds import fold

SPACELESS = ("zh", "wuu", "yue", "ja", "th", "lo", "km", "my")
"""Languages written without spaces between words."""


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

    Raises FileNotFoundError where the data is not there. With `up_to`, only pages whose id does not lie behind it.
    """
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    gold_path = folder / "gold.jsonl.gz"
    if not gold_path.exists():
        raise FileNotFoundError(f"{folder}/gold.jsonl.gz is not there")
    with gzip.open(gold_path, "rt", encoding="utf-8") as file:
        rows = {row["id"]: row for row in map(json.loads, file)}
    found = []
    for path in sorted(folder.glob("*.warc.gz")):
        with path.open("rb") as stream:
            for record in ArchiveIterator(stream, record_types=WarcRecordType.response):
                name = (record.record_id or "").removeprefix("<urn:page:").rstrip(">")
                row = rows.pop(name, {"dataset": path.name.rsplit("-", 1)[0]})
                if up_to and name > up_to:
                    continue
                found.append(_page(name, row, record.reader.read(), record.http_headers.get("Content-Type")))
    if rows:
        raise ValueError(f"{len(rows)} pages of {gold_path.name} have no record, the first is {next(iter(rows))}")
    return found


def _page(name: str, row: dict[str, object], payload: bytes, content_type: str | None) -> Page:
    def text(key: str) -> str | None:
        return str(row[key]) if row.get(key) else None

    def texts(key: str) -> tuple[str, ...]:
        value = row.get(key) or ()
        assert isinstance(value, Iterable)
        return tuple(str(each) for each in value)

    return Page(
        name,
        str(row["dataset"]),
        text("url"),
        text("lang"),
        text("page_type"),
        text("title"),
        text("gold_text"),
        texts("with_snippets"),
        texts("without_snippets"),
        payload,
        content_type,
    )


def site(url: str | None) -> str:
    """The registered domain of a URL; empty where it has no host or is missing."""
    try:
        return registered_domain(urlsplit(url or "").hostname or "")
    except ValueError:  # a bracket that opens no address
        return ""
