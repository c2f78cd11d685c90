"""From files to records, with every byte accounted for.

Read in this order: `base` (what a reader gives), `sources` (bytes by position), `codecs` (one compressed
member), `frames` (members behind each other, and behind damage), `records` (WARC records in decoded bytes),
`http` (the body of a response), then the formats `warc` (and WET), `jsonl`, `parquet`. `cut` gets one
record out of its file again.
"""

from pipeline.readers.base import Reader
from pipeline.readers.jsonl import JSONL
from pipeline.readers.parquet import PARQUET
from pipeline.readers.warc import WARC, WET

READERS: dict[str, Reader] = {reader.name: reader for reader in (WARC, WET, JSONL, PARQUET)}
"""Formats by the name that recipes use."""
