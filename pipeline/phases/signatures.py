"""Phase signatures: what deduplication must know of each document, a small table for each clean part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from pipeline import edits
from pipeline.ledger import Staged
from pipeline.parts import PartWriter
from pipeline.progress import Reporter
from pipeline.work import Context, Task, once, unit_key
from stages import minhash
from stages.keys import exact_keys
from stages.minhash import MinHashSettings, signatures
from stages.schema import ORIGIN


@once
def tasks(context: Context) -> list[Task]:
    """One unit for each clean part."""
    dedup = context.recipe.dedup
    near = dedup.near if dedup else None
    settings = {
        "exact": sorted(dedup.exact) if dedup else [],
        "near": {"permutations": near.permutations, "ngram": near.ngram} if near else None,
    }
    found = []
    for part in clean_parts(context):
        facts = {"part": edits.digest(context, part), "minhash": minhash.VERSION, **settings}
        key = unit_key("signatures", minhash.PACKAGES, facts)
        found.append(Task("signatures", key, part.bytes, {"documents": edits.where(context, part), **settings}))
    return found


@once
def clean_parts(context: Context) -> list[Any]:
    """The committed clean parts of the present recipe, in the order of the contents of their inputs.

    So the order is the same on any machine, whatever the files are called, and whatever the stages' settings:
    where a changed setting gives the same documents, nothing behind them is redone.
    """
    from pipeline.phases import clean

    rows = [context.ledger.read_row("clean", task.key) for task in clean.tasks(context)]
    return [part for row in rows if row is not None for part in row.parts if part.path.startswith("clean/")]


def schema_of(settings: dict[str, Any]) -> pa.Schema:
    """The columns of a signature part."""
    fields = [
        pa.field("id", pa.binary(16)),
        pa.field("source", pa.string()),
        pa.field("url", pa.string()),
        pa.field("origin", ORIGIN),
        pa.field("date", pa.int64()),
        pa.field("length", pa.int64()),
        pa.field("content", pa.binary(16)),
    ]
    fields += [pa.field(f"{kind}_key", pa.binary(16)) for kind in settings["exact"]]
    if settings["near"]:
        fields.append(pa.field("signature", pa.binary(4 * settings["near"]["permutations"])))
    return pa.schema(fields)


def work(task: Task, context: Context, folder: Path, reporter: Reporter) -> tuple[Sequence[Staged], dict[str, Any]]:
    """Keys and signatures of the documents of a part, row by row as they stand in it."""
    spec = task.spec
    schema = schema_of(spec)
    settings = MinHashSettings(**(spec["near"] or {}))
    columns = ["id", "source", "url", "origin", "date", "title", "text", "language"]
    with PartWriter(folder / "out", schema) as out:
        for batch in edits.read_documents(context, spec["documents"], columns):
            arrays = {
                "id": batch.column("id"),
                "source": batch.column("source"),
                "url": batch.column("url"),
                "origin": batch.column("origin"),
                "date": batch.column("date").cast(pa.int64()),
                "length": pa.compute.utf8_length(batch.column("text")).cast(pa.int64()),
            }
            arrays["content"] = contents(batch)
            for kind, keys in exact_keys(batch, spec["exact"]).items():
                arrays[f"{kind}_key"] = keys
            if spec["near"]:
                arrays["signature"] = as_binary(signatures(batch.column("text"), settings).values)
            out.write(pa.RecordBatch.from_arrays([arrays[name] for name in schema.names], schema=schema))
            reporter.add(documents=batch.num_rows, kept=batch.num_rows)
    reporter.add(size=task.size)
    return [Staged(folder / "out", f"signatures/{task.key[:20]}.parquet")], {"documents": out.rows}


def contents(batch: pa.RecordBatch) -> pa.Array:
    """A digest of each row's title, language and text: what records of one id may still differ in.

    An id names the record as the crawl holds it; a table's title and language stand outside of it. Ordered by
    this digest, it does not matter which file such a record came from.
    """
    rows = zip(*(batch.column(name).to_pylist() for name in ("title", "language", "text")), strict=True)
    digests = []
    for row in rows:
        digest = xxhash.xxh3_128()
        for value in row:
            data = (value or "").encode()
            digest.update(len(data).to_bytes(8, "little") + data)
        digests.append(digest.digest())
    return pa.array(digests, pa.binary(16))


def as_binary(values: np.ndarray[Any, Any]) -> pa.Array:
    """A matrix (rows, permutations) of uint32 as a column of fixed-size binary, one value a row."""
    values = np.ascontiguousarray(values, "<u4")
    kind = pa.binary(4 * values.shape[1])
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values.tobytes())])
