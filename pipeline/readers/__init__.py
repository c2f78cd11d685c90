"""From files to records, with every byte accounted for.

Read in this order: `base` (what a reader gives), `sources` (bytes by position), `codecs` (one compressed
member), `frames` (members behind each other, and behind damage), `records` (WARC records in decoded bytes),
`http` (the body of a response), then the formats:

- crawls: `warc` (WARC, ARC and WET);
- by line, on `lines`: `jsonl`, and `delimited` (CSV, TSV); by value: `json_values`;
- tables, on `tables`: `parquet`, `arrow`, `datasets` (Hugging Face);
- a file a document, on `documents`: `texts` (plain, Markdown), `tex`, `epub`, `pdf`.

`cut` gets one record out of its file again; `fileobj` is a file for libraries that want a file object.
"""

from collections.abc import Callable

from pipeline.readers import arrow, datasets, delimited, json_values, jsonl, parquet, warc
from pipeline.readers.base import Origin, Piece, Read, Reader
from pipeline.readers.epub import EPUB
from pipeline.readers.pdf import PDF
from pipeline.readers.tables import Fields
from pipeline.readers.tex import TEX
from pipeline.readers.texts import MARKDOWN, TEXT

_TABLES = (jsonl.JSONL, json_values.JSON, parquet.PARQUET, arrow.ARROW, delimited.CSV, delimited.TSV, datasets.DATASETS)
_DOCUMENTS = (TEXT, MARKDOWN, TEX, EPUB, PDF)

READERS: dict[str, Reader] = {
    reader.name: reader for reader in (warc.WARC, warc.ARC, warc.WET, *_TABLES, *(item.reader for item in _DOCUMENTS))
}
"""Formats by the name that recipes use."""

CUTS: dict[str, Callable[[str, Origin, Piece], Read]] = {
    "warc": warc.cut,
    "arc": warc.cut,
    "wet": warc.cut,
    "jsonl": jsonl.cut,
    "json": json_values.cut,
    "parquet": parquet.cut,
    "arrow": arrow.cut,
    "datasets": datasets.cut,
    **delimited.CUTS,
    **{item.reader.name: item.cut for item in _DOCUMENTS},
}
"""By format: (path, origin, piece) to the one record there. Raises UserError where there is none, OSError."""

CHECKS: dict[str, Callable[[str, str, Fields, Fields], None]] = {
    "jsonl": jsonl.check,
    "json": json_values.check,
    "parquet": parquet.check,
    "arrow": arrow.check,
    "datasets": datasets.check,
    **delimited.CHECKS,
}
"""By format: raises UserError where a file (path, name, fields, options) lacks what the recipe maps."""
