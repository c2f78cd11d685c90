"""`corpusmill try`: one page through a recipe's stages, with what each of them made of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline import listing
from pipeline.errors import RecipeError, nearest
from pipeline.look.runfolder import as_json
from pipeline.phases.clean import NO_LONGER_NEEDED, Chain, rejected_row
from pipeline.readers import READERS
from pipeline.readers.base import Origin, Piece, Read, Tally, batches
from pipeline.recipe import DEDUP_LABEL, HOST_LABEL
from pipeline.sources import InputFile, input_files
from pipeline.work import Context
from stages.decode import decode
from stages.keys import canonical_url
from stages.schema import DOCUMENT_BYTES, DOCUMENTS, document_id

_ARCHIVE = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"WARC/", b"PAR1")
_MARKUP = re.compile(rb"<(!doctype|html|head|body|title|meta|div|p|article|table|h[1-6])[\s>/]", re.I)
BESIDES = ("request", "metadata", "warcinfo", "revisit")
"""Records that go with a page's response under the same URL."""


@dataclass
class Step:
    """What one stage made of the page."""

    stage: str
    before: str | None
    after: str | None
    """Its text before and after; None where there was none (yet)."""
    columns: dict[str, Any] = field(default_factory=dict)
    """Other columns that the stage wrote or changed."""
    counts: dict[str, int] = field(default_factory=dict)


@dataclass
class Trying:
    """A page's way through the stages."""

    page: str
    source: str
    url: str | None
    origin: dict[str, Any] | None
    steps: list[Step] = field(default_factory=list)
    dropped: dict[str, Any] | None = None
    """stage, reason, value, limit; None where the page is kept."""
    untried: list[str] = field(default_factory=list)
    """Sections of the recipe that look at the whole corpus, and may cut from the page's text or drop it."""

    def to_json(self) -> dict[str, Any]:
        """As one JSON value: the text after each stage in full."""
        return {
            "page": self.page,
            "source": self.source,
            "url": self.url,
            "origin": self.origin,
            "kept": self.dropped is None,
            "dropped": self.dropped,
            "untried": self.untried,
            "stages": [
                {"stage": step.stage, "text": step.after, "changed": step.before != step.after}
                | {"columns": as_json(step.columns), "counts": step.counts}
                for step in self.steps
            ],
        }


def try_page(context: Context, page: str, source: str | None, url: str | None) -> Trying:
    """The page (a file, or a URL in the recipe's inputs) through the recipe's stages. Raises RecipeError."""
    sources = context.recipe.sources
    if source is not None and source not in sources:
        raise RecipeError(f"--source {source}: the recipe has no such source.{nearest(source, sources)}")
    if Path(page).is_file():
        source = source or sources[0]
        record, origin = from_file(Path(page), source, url), None
    elif "://" in page:
        if url is not None:
            raise RecipeError("--url goes with a file; the record in the crawl has its own")
        file, record = from_inputs(context, page, source)
        source, origin = file.source, record.origin._asdict() | {"path": file.path}
    else:
        raise RecipeError(f"{page} is no file, and no URL to look up in the recipe's inputs (as in https://...)")
    whole = [name for name in (HOST_LABEL, DEDUP_LABEL) if getattr(context.recipe, name) is not None]
    trying = Trying(page, source, record.url, origin, untried=whole)
    trying.steps, trying.dropped = through(lambda: Chain(context), record, source)
    return trying


def through(chain: Callable[[], Chain], record: Read, source: str) -> tuple[list[Step], dict[str, Any] | None]:
    """What each stage makes of a record, up to the one that drops it; and stage, reason, value and limit of that.

    `chain` is asked for only where there is something to judge: it loads models.
    """
    if record.reason is not None:
        row = rejected_row(record, source)
        return [], {name: row[name] for name in ("stage", "reason", "value", "limit")}
    (batch, _), *_ = batches([record], source)
    steps = []
    for label, name, step in chain().steps:
        outcome = step(batch)
        before = _text(batch)
        if outcome.dropped:
            _, reason, value, limit = outcome.dropped[0]
            steps.append(Step(label, before, before, counts=dict(outcome.counts)))
            return steps, {"stage": label, "reason": f"{name}.{reason}", "value": value, "limit": limit}
        changed = _changed(batch, outcome.batch)
        steps.append(Step(label, before, _text(outcome.batch), changed, dict(outcome.counts)))
        batch = outcome.batch
    return steps, None


def from_file(path: Path, source: str, url: str | None) -> Read:
    """A record as a reader would give it: markup as a payload, anything else as text."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}") from error
    if data.startswith(_ARCHIVE):
        raise RecipeError(f"{path} is an archive of many records; give the URL of one that the recipe's inputs hold")
    if not data:
        raise RecipeError(f"{path} is empty (0 bytes)")
    origin = Origin(path.name, 0, len(data), 0, len(data))
    record = Read(document_id(source, url, None, data), origin, url)
    if len(data) > DOCUMENT_BYTES:
        return record._replace(reason="too_large", value=float(len(data)), limit=float(DOCUMENT_BYTES))
    if b"\0" in data or path.suffix.lower() in (".html", ".htm", ".xhtml") or _MARKUP.search(data[:4096]):
        return record._replace(payload=data, content_type="text/html")
    return record._replace(text=decode(data, "text/plain").text)


def from_inputs(context: Context, url: str, source: str | None) -> tuple[InputFile, Read]:
    """The record of a URL in the recipe's inputs: a document if there is one, else what the reader rejected."""
    wanted = canonical_url(url)
    rejected: list[tuple[InputFile, Read]] = []
    away = 0
    files = [file for file in input_files(context.recipe) if source in (None, file.source)]
    for file in files:
        seen = listing.look(file.path, listed=file.listed)
        if seen.why is not None:
            away += 1
            continue
        piece = Piece(file.source, file.format, file.path, file.name, 0, seen.size, file.fields, file.options)
        for record in READERS[file.format].read(piece, Tally()):
            if record.url is None or (record.url != url and canonical_url(record.url) != wanted):
                continue
            if record.reason is None:
                return file, record
            rejected.append((file, record))
    if not rejected:
        gone = f" that could be had (of {len(files)})" if away else ""
        raise RecipeError(
            f"{url} is in none of the {len(files) - away} input files{gone}; "
            "`corpusmill trace --url` knows finished runs"
        )
    return next((found for found in rejected if found[1].reason not in BESIDES), rejected[0])


def _text(batch: pa.RecordBatch) -> str | None:
    text: str | None = batch.column("text")[0].as_py()
    return text


def _changed(before: pa.RecordBatch, after: pa.RecordBatch) -> dict[str, Any]:
    """Columns of the one row that a stage wrote, other than its text."""
    old = before.select([name for name in before.schema.names if name not in NO_LONGER_NEEDED]).to_pylist()[0]
    new = after.select([name for name in after.schema.names if name not in NO_LONGER_NEEDED]).to_pylist()[0]
    found = {name: value for name, value in new.items() if name != "text" and old.get(name) != value}
    # A score that a stage gives is shown even where it equals what was there, as a language that came with the record.
    added = {name: new[name] for name in new if name not in old and name not in DOCUMENTS.names}
    return found | added
