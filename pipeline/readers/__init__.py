"""From files to records, with every byte accounted for.

Read in this order: `base` (what a reader gives), `sources` (bytes by position), `codecs` (one compressed
member), `frames` (members behind each other, and behind damage), `records` and `arc` (records in decoded bytes),
`http` (the body of a response), then the formats: `warc` (ARC, WET); by line `jsonl` (on `lines`) and
`parquet` (on `tables`). `cut` gets one record out of its file again; `fileobj` is a file for libraries.
"""

from collections.abc import Callable

from pipeline.readers import arrow, delimited, jsonl, parquet, warc
from pipeline.readers.arrow import ARROW
from pipeline.readers.base import Origin, Piece, Read, Reader
from pipeline.readers.delimited import CSV, TSV
from pipeline.readers.jsonl import JSONL
from pipeline.readers.parquet import PARQUET
from pipeline.readers.tables import Fields
from pipeline.readers.warc import ARC, WARC, WET

READERS: dict[str, Reader] = {reader.name: reader for reader in (WARC, ARC, WET, JSONL, PARQUET, ARROW, CSV, TSV)}
"""Formats by the name that recipes use."""

CUTS: dict[str, Callable[[str, Origin, Piece], Read]] = {
    "warc": warc.cut,
    "arc": warc.cut,
    "wet": warc.cut,
    "jsonl": jsonl.cut,
    "parquet": parquet.cut,
    "arrow": arrow.cut,
    **delimited.CUTS,
}
"""By format: (path, origin, piece) to the one record there. Raises UserError where there is none, OSError."""

CHECKS: dict[str, Callable[[str, str, Fields, Fields], None]] = {
    "jsonl": jsonl.check,
    "parquet": parquet.check,
    "arrow": arrow.check,
    **delimited.CHECKS,
}
"""By format: raises UserError where a file (path, name, fields, options) lacks what the recipe maps."""
