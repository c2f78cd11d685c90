"""Phase documents: the clean parts without what deduplication took away: duplicates, and substrings that recur.

Here the corpus-level decisions become rows: losers go (or, in `mode: mark`, stay and say whose duplicates they are),
survivors learn the size of their cluster. `characters` is the length of the text, so that reports need not read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import edits
from pipeline.ledger import Staged
from pipeline.parts import PartWriter
from pipeline.phases import clusters, signatures, spans
from pipeline.progress import Reporter
from pipeline.work import Context, Task, once, unit_key


@once
def tasks(context: Context) -> list[Task]:
    """One unit for each clean part, keyed by the part, and by the decisions on its rows and the cuts in them alone."""
    found = []
    decisions = clusters.decisions(context)
    for part, cuts in zip(signatures.clean_parts(context), spans.cut_parts(context), strict=True):
        decision = decisions[part.path]
        facts = {"part": edits.digest(context, part), "decisions": decision.digest, "marked": _marked(context)}
        spec = {"documents": edits.where(context, part), "decisions": decision.path, "spans": None}
        if cuts is not None:
            facts["spans"] = cuts.digest
            spec["spans"] = cuts.path
        found.append(Task("documents", unit_key("documents", (), facts), part.bytes, spec))
    return found


def _marked(context: Context) -> bool:
    return context.recipe.dedup is not None and context.recipe.dedup.mode == "mark"


def work(task: Task, context: Context, folder: Path, reporter: Reporter) -> tuple[Sequence[Staged], dict[str, Any]]:
    """The surviving documents of a part; those that stay as duplicates say whose."""
    decided = pq.read_table(context.file(task.spec["decisions"])).combine_chunks()
    schema = pq.read_schema(context.file(task.spec["documents"][0]))
    own = [pa.field("cluster_size", pa.int32()), pa.field("characters", pa.int32())]
    marked = _marked(context)
    own += [pa.field("duplicate_of", pa.binary(16))] if marked else []
    schema = pa.schema([*schema, *own])
    cuts = edits.opened(context, task.spec["spans"]) if task.spec["spans"] else None
    position = 0
    sources: dict[str, list[int]] = {}
    languages: dict[str, list[int]] = {}
    with PartWriter(folder / "out", schema) as out:
        for batch in edits.read_documents(context, task.spec["documents"]):
            rows = batch.num_rows
            here = decided.slice(position, rows)
            lost = None
            if cuts is not None:
                batch, lost = edits.applied(batch, cuts.slice(position, rows))
            position += rows
            for name in ("cluster_size", *(["duplicate_of"] if marked else [])):
                batch = batch.append_column(name, here.column(name).combine_chunks())
            kept = pa.compute.greater(batch.column("cluster_size"), 0)
            batch = batch.filter(kept if lost is None else pa.compute.and_not(kept, lost))
            characters = pa.compute.utf8_length(batch.column("text"))
            out.write(batch.append_column("characters", characters))
            lengths = characters.to_pylist()
            for name, table in (("source", sources), ("language", languages)):
                for value, length in zip(batch.column(name).to_pylist(), lengths, strict=True):
                    count = table.setdefault(value or "unknown", [0, 0])
                    count[0] += 1
                    count[1] += length
            reporter.add(documents=rows, kept=batch.num_rows)
    reporter.add(size=task.size)
    body = {
        "documents": out.rows,
        "sources": {name: sources[name] for name in sorted(sources)},
        "languages": {name: languages[name] for name in sorted(languages)},
    }
    return [Staged(folder / "out", f"documents/{task.key[:20]}.parquet")], body


@once
def parts(context: Context) -> list[Any]:
    """The committed parts of documents of the present recipe, in a fixed order."""
    rows = [context.ledger.read_row("documents", task.key) for task in tasks(context)]
    return sorted((row.part("documents") for row in rows if row is not None), key=lambda part: part.path)
