"""What every reader gives: framed records with their place in the file, and a tally of every byte.

A *frame* is the smallest stretch of a file that can be decoded alone: a gzip member, a zstd frame, a
Parquet row group, a record or line of a plain file. For the piece of a file that was read,

    piece.end - piece.start = tally.spans + tally.structure + sum of gap lengths

and every record that was framed is counted in `tally.framed` where it is found, before anything is
judged, and then yielded exactly once: as a document, or with the reason why it is none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

import pyarrow as pa

from stages.schema import BATCH_BYTES, READ


@dataclass(frozen=True)
class Piece:
    """A range of an input file, the unit of work of the clean phase: the frames that begin in it."""

    source: str
    format: str
    path: str
    """Where the file is opened."""
    name: str
    """How origins call the file."""
    start: int
    end: int
    """Bytes of the file, start included, end excluded; both lie where a frame begins or the file ends."""
    fields: tuple[tuple[str, str], ...] = ()
    """For tables: our name (text, url, date, title, language) to the column or key of the input."""
    options: tuple[tuple[str, str], ...] = ()
    """Settings of the format, such as a delimiter: see `pipeline.formats`."""


@dataclass(frozen=True)
class Gap:
    """A stretch of a file that gave no record. How many records lay inside is unknown."""

    offset: int
    length: int
    reason: str


@dataclass
class Tally:
    """The reader's own books on one piece."""

    framed: int = 0
    """Records found."""
    spans: int = 0
    """Bytes of the file that lie in frames that gave at least one record."""
    structure: int = 0
    """Bytes that the format needs for itself: Parquet's footer and indexes, blank lines, empty frames."""
    gaps: list[Gap] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    """Further figures for the funnel, such as `content_length_wrong`."""


class Origin(NamedTuple):
    """See `stages.schema.ORIGIN`."""

    file: str
    offset: int
    length: int | None
    inner_offset: int
    inner_length: int


class Read(NamedTuple):
    """One framed record: a document, or, where `reason` is set, none."""

    id: bytes
    origin: Origin
    url: str | None = None
    date: datetime | None = None
    content_type: str | None = None
    headers: str | None = None
    payload: bytes | None = None
    title: str | None = None
    text: str | None = None
    language: str | None = None
    reason: str | None = None
    value: float | None = None
    limit: float | None = None


class Reader(NamedTuple):
    """A format. `columns` are what `fields` of a recipe's input may map; `fields_required` those it needs."""

    name: str
    plan: Callable[..., list[tuple[int, int]]]
    """(path, target bytes, and the options where the format has any) to ranges that tile the file, cut where a
    frame begins. Reads no more of the file than it must: one range where the file is smaller than the target or
    cannot be cut."""
    read: Callable[[Piece, Tally], Iterator[Read]]
    """The records of a piece in file order; keeps the tally. Raises OSError where the file cannot be read."""
    mapped: bool = False
    """Whether `fields` applies."""


def parse_date(text: str | None) -> datetime | None:
    """A date as crawls and tables spell it (ISO 8601, or seconds since 1970), or None."""
    if not text:
        return None
    try:
        if text.isdigit() and len(text) not in (4, 8):
            return datetime.fromtimestamp(int(text), UTC)
        moment = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError, OSError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def batches(reads: Iterable[Read], source: str, rows: int = 256) -> Iterator[tuple[pa.RecordBatch, list[Read]]]:
    """Groups records into batches of the READ schema and the rejected records that lay between them.

    A batch ends at `rows` documents or a quarter of BATCH_BYTES, so that no buffer nears its limit.
    """
    kept: list[Read] = []
    rejected: list[Read] = []
    size = 0
    for read in reads:
        if read.reason is not None:
            rejected.append(read)
        else:
            kept.append(read)
            size += len(read.payload or b"") + 3 * len(read.text or "")
        if len(kept) >= rows or size >= BATCH_BYTES // 4 or len(rejected) >= 16 * rows:
            yield _batch(kept, source), rejected
            kept, rejected, size = [], [], 0
    if kept or rejected:
        yield _batch(kept, source), rejected


def origin_row(origin: Origin) -> dict[str, object]:
    """An origin as a row of the ORIGIN struct."""
    return origin._asdict()


def _batch(reads: list[Read], source: str) -> pa.RecordBatch:
    columns: dict[str, list[object]] = {
        "id": [read.id for read in reads],
        "source": [source] * len(reads),
        "url": [read.url for read in reads],
        "date": [read.date for read in reads],
        "origin": [origin_row(read.origin) for read in reads],
        "content_type": [read.content_type for read in reads],
        "headers": [read.headers for read in reads],
        "payload": [read.payload for read in reads],
        "title": [read.title for read in reads],
        "text": [read.text for read in reads],
        "language": [read.language for read in reads],
    }
    return pa.RecordBatch.from_arrays([pa.array(columns[f.name], f.type) for f in READ], schema=READ)
