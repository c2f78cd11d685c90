"""Phase signatures: what deduplication must know of each document, as a signed part for each clean part.

See `pipeline.signed` for its files; the table holds keys and what decides between duplicates.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import edits
from pipeline.ledger import Part, Row, Staged
from pipeline.parts import PartWriter
from pipeline.progress import Reporter
from pipeline.signed import NAMES
from pipeline.work import Context, Task, once, unit_key
from stages import minhash
from stages.keys import content_keys, exact_keys
from stages.minhash import MinHashSettings, signatures
from stages.schema import ORIGIN
from stages.shingles import shingle_sets


@once
def tasks(context: Context) -> list[Task]:
    """One unit for each clean part."""
    dedup = context.recipe.dedup
    near = dedup.near if dedup else None
    settings = {
        "exact": sorted(dedup.exact) if dedup else [],
        "near": {"permutations": near.permutations, "ngram": near.ngram} if near else None,
        "sets": near is not None and near.verify == "exact",
        "quality": dedup.quality if dedup else None,
    }
    found = []
    for part in clean_parts(context):
        facts = {"part": edits.digest(context, part), "minhash": minhash.VERSION, **settings}
        key = unit_key("signatures", minhash.PACKAGES, facts)
        found.append(
            Task("signatures", key, part.bytes, {"documents": edits.where(context, part), **settings})
        )  # fmt: skip
    return found


@once
def clean_rows(context: Context) -> list[tuple[Part, int]]:
    """The committed clean parts of the present recipe with their generations, in the order of their inputs' contents.

    So the order is the same on any machine, whatever the files are called, and whatever the stages' settings:
    where a changed setting gives the same documents, nothing behind them is redone.
    """
    from pipeline.phases import clean

    found = []
    for task in clean.tasks(context):
        row = context.ledger.read_row("clean", task.key)
        if row is not None:
            found += [(part, task.spec["generation"]) for part in row.parts if part.path.startswith("clean/")]
    return found


def clean_parts(context: Context) -> list[Part]:
    """The parts alone."""
    return [part for part, _ in clean_rows(context)]


@once
def committed(context: Context) -> list[tuple[Row, int]]:
    """The manifest row of each signed part with its generation, in the order of the clean parts."""
    found = []
    for task, (_, generation) in zip(tasks(context), clean_rows(context), strict=True):
        row = context.ledger.read_row("signatures", task.key)
        assert row is not None
        found.append((row, generation))
    return found


def schema_of(settings: dict[str, Any]) -> pa.Schema:
    """The columns of the table of a signed part."""
    fields = [
        pa.field("id", pa.binary(16)),
        pa.field("origin", ORIGIN),
        pa.field("date", pa.int64()),
        pa.field("length", pa.int64()),
        pa.field("quality", pa.float64()),
        pa.field("content", pa.binary(16)),
    ]
    fields += [pa.field(f"{kind}_key", pa.binary(16)) for kind in settings["exact"]]
    return pa.schema(fields)


def work(task: Task, context: Context, folder: Path, reporter: Reporter) -> tuple[Sequence[Staged], dict[str, Any]]:
    """Keys and signatures of the documents of a part, row by row as they stand in it."""
    spec = task.spec
    schema = schema_of(spec)
    settings = MinHashSettings(**(spec["near"] or {}))
    columns = ["id", "source", "url", "origin", "date", "title", "text", "language"]
    columns += [spec["quality"]] if spec["quality"] and spec["quality"] not in columns else []
    endings = ["parquet", "names", *(["bin"] if spec["near"] else []), *(["offsets", "sets"] if spec["sets"] else [])]
    filled = 0
    with (
        PartWriter(folder / "parquet", schema) as out,
        pa.OSFile(str(folder / "names"), "wb") as names_file,
        pa.ipc.new_file(names_file, NAMES) as names,
        (folder / "bin").open("wb") as matrix,
        (folder / "offsets").open("wb") as offsets,
        (folder / "sets").open("wb") as sets,
    ):
        offsets.write(np.zeros(1, "<i8").tobytes())
        for batch in edits.read_documents(context, spec["documents"], columns):
            names.write(batch.select(NAMES.names))
            arrays = {
                "id": batch.column("id"),
                "origin": batch.column("origin"),
                "date": batch.column("date").cast(pa.int64()),
                "length": pa.compute.utf8_length(batch.column("text")).cast(pa.int64()),
                "quality": _quality(batch, spec["quality"]),
                "content": content_keys(batch),
            }
            for kind, keys in exact_keys(batch, spec["exact"]).items():
                arrays[f"{kind}_key"] = keys
            out.write(pa.RecordBatch.from_arrays([arrays[name] for name in schema.names], schema=schema))
            if spec["near"]:
                matrix.write(signatures(batch.column("text"), settings).values.astype("<u4").tobytes())
            if spec["sets"]:
                ends, values = shingle_sets(batch.column("text"), settings.ngram)
                offsets.write((ends[1:] + filled).astype("<i8").tobytes())
                sets.write(values.astype("<u8").tobytes())
                filled += len(values)
            reporter.add(documents=batch.num_rows, kept=batch.num_rows)
    reporter.add(size=task.size)
    staged = [Staged(folder / ending, f"signatures/{task.key[:20]}.{ending}") for ending in endings]
    return staged, {"documents": out.rows}


def _quality(batch: pa.RecordBatch, column: str | None) -> pa.Array:
    if column is None:
        return pa.nulls(batch.num_rows, pa.float64())
    return batch.column(column).cast(pa.float64())
