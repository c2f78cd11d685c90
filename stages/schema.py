"""The one Arrow schema of corpusmill, and the id of a document.

Every table of documents that moves through a run or rests on disk takes its columns from here.
A batch stays under `BATCH_BYTES`, so 32-bit string offsets never overflow.
"""

from __future__ import annotations

import struct

import pyarrow as pa
import xxhash

BATCH_BYTES = 64 << 20
"""Most bytes of payload and text that one batch holds."""

DOCUMENT_BYTES = 32 << 20
"""Most bytes of payload that one document may have; a larger one is dropped by the reader."""

ORIGIN = pa.struct(
    [
        pa.field("file", pa.string()),
        pa.field("offset", pa.int64()),
        pa.field("length", pa.int64()),
        pa.field("inner_offset", pa.int64()),
        pa.field("inner_length", pa.int64()),
    ]
)
"""Where a record lies: the input's name, the byte span of the frame that holds it (gzip member, zstd
frame, Parquet row group, or the record itself in a plain file), and its span inside the decoded frame
(bytes; in a row group: the row number and 1). `length` is null where the frame's end was not known when
the record was read (one compressed stream over a whole file)."""

COLUMNS = {
    "id": pa.binary(16),
    "source": pa.string(),
    "url": pa.string(),
    "date": pa.timestamp("s", tz="UTC"),
    "origin": ORIGIN,
    "content_type": pa.string(),
    "headers": pa.string(),
    "payload": pa.binary(),
    "title": pa.string(),
    "text": pa.string(),
    "language": pa.string(),
}
"""The columns that every batch may have. Stages add score columns beside them by name."""

READ = pa.schema([pa.field(name, kind) for name, kind in COLUMNS.items()])
"""What readers give. `payload` holds the decoded HTTP body (null where the input is text already),
`content_type` the value of the HTTP header of that name, `headers` the lines of the HTTP header that tell what may be
done with the page (`x-robots-tag: noindex`), names in lower case; `text` is null until it is extracted."""

DOCUMENTS = pa.schema([READ.field(name) for name in COLUMNS if name not in ("content_type", "headers", "payload")])
"""What the document-local stages leave, before score columns."""

DROPPED = pa.schema(
    [
        pa.field("id", pa.binary(16)),
        pa.field("source", pa.string()),
        pa.field("url", pa.string()),
        pa.field("origin", ORIGIN),
        pa.field("stage", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("limit", pa.float64()),
        pa.field("survivor", pa.binary(16)),
    ]
)
"""One row for each record that was not kept: by which stage, why, with what figure against which limit
(both null where the reason has no figure), and for a duplicate the document that it lost to."""


def document_id(source: str, url: str | None, date: str | None, payload: bytes | memoryview) -> bytes:
    """The 16-byte id of a record: xxHash3-128 over its length-prefixed source, URL, date and payload.

    `payload` is the record as the crawl holds it (the undecoded HTTP block, the mapped text field of a
    table), `date` the date as the input spells it. So the id names content, not a position or a file.
    """
    digest = xxhash.xxh3_128()
    for part in (
        source.encode(),
        (url or "").encode(errors="surrogatepass"),
        (date or "").encode(errors="surrogatepass"),
        payload,
    ):
        digest.update(struct.pack("<Q", len(part)))
        digest.update(part)
    return digest.digest()
