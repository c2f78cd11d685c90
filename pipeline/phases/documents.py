"""Phase documents: the clean parts without what deduplication took away: duplicates, and substrings that recur.

Here the corpus-level decisions become rows: losers go, survivors learn the size of their cluster. `characters` is the
length of the text, so that reports need not read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import edits
from pipeline.ledger import Staged
from pipeline.parts import PartWriter
from pipeline.phases import dedup, signatures, spans
from pipeline.progress import Reporter
from pipeline.work import Context, Task, once, unit_key


@once
def tasks(context: Context) -> list[Task]:
    """One unit for each clean part, keyed by the part, and by the decisions on its rows and the cuts in them alone."""
    found = []
    decisions = dedup.decisions(context)
    cuts = spans.cut_parts(context)
    for part, cut in zip(signatures.clean_parts(context), cuts, strict=True):
        decision = decisions[part.path]
        facts = {"part": edits.digest(context, part), "decisions": decision.digest}
        spec = {"documents": edits.where(context, part), "decisions": decision.path, "spans": None}
        if cut is not None:
            facts["spans"] = cut.digest
            spec["spans"] = cut.path
        found.append(Task("documents", unit_key("documents", (), facts), part.bytes, spec))
    return found


def work(task: Task, context: Context, folder: Path, reporter: Reporter) -> tuple[Sequence[Staged], dict[str, Any]]:
    """The surviving documents of a part."""
    sizes = pq.read_table(context.out / task.spec["decisions"]).column("cluster_size").to_numpy()
    documents = task.spec["documents"]
    cuts = edits.opened(context, task.spec["spans"]) if task.spec["spans"] else None
    schema = pq.read_schema(context.out / documents[0])
    for name in ("cluster_size", "characters"):
        schema = schema.append(pa.field(name, pa.int32()))
    position = 0
    sources: dict[str, list[int]] = {}
    languages: dict[str, list[int]] = {}
    with PartWriter(folder / "out", schema) as out:
        for batch in edits.read_documents(context, documents):
            here = sizes[position : position + batch.num_rows].astype(np.int32)
            if cuts is not None:
                batch, lost = edits.applied(batch, cuts.slice(position, batch.num_rows))
                here[lost.to_numpy(zero_copy_only=False)] = 0
            position += batch.num_rows
            batch = batch.append_column("cluster_size", pa.array(here)).filter(pa.array(here > 0))
            characters = pa.compute.utf8_length(batch.column("text"))
            out.write(batch.append_column("characters", characters))
            lengths = characters.to_pylist()
            for name, table in (("source", sources), ("language", languages)):
                for value, length in zip(batch.column(name).to_pylist(), lengths, strict=True):
                    count = table.setdefault(value or "unknown", [0, 0])
                    count[0] += 1
                    count[1] += length
            reporter.add(documents=len(here), kept=batch.num_rows)
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
