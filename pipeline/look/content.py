"""What the documents that are left look like: their lengths, the hosts that they come from, and their dates."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.look.histogram import QUANTILES, powers
from pipeline.look.runfolder import RunFolder
from pipeline.prefix import hosts_of

TOP = (1, 10, 100, 1_000)
"""Numbers of the largest hosts whose share is told."""


def lengths(run: RunFolder) -> dict[str, dict[str, Any]]:
    """`characters` and, where there are tokens, `tokens`: quantiles, mean, and documents by half powers of two.

    What the run has not come to, and what `corpusmill clean` took away, is left out.
    """
    found = {}
    for name, folder, column in (("characters", "documents", "characters"), ("tokens", "tokens", "n_tokens")):
        if not run.parts(folder) or run.removed(folder):
            continue
        pieces = [batch.column(0).to_numpy(zero_copy_only=False) for batch in run.batches(folder, [column])]
        values = np.concatenate(pieces or [np.zeros(0, np.int64)])
        if not len(values):
            continue
        spread = np.quantile(values, QUANTILES, method="lower").tolist()
        bars = powers(values)
        found[name] = {
            "documents": len(values),
            "mean": float(values.mean(dtype=np.float64)),
            "quantiles": dict(zip(map(str, QUANTILES), spread, strict=True)),
            "histogram": None if bars is None else asdict(bars),
        }
    return found


def hosts(run: RunFolder, most: int) -> dict[str, Any] | None:
    """How many hosts there are, the largest by documents and by characters, and what share the largest have.

    About 1.5 s a million documents. None where no document has a host, or there are no documents.
    """
    if not run.parts("documents") or run.removed("documents"):
        return None
    pieces: list[pa.Table] = []
    documents = 0
    for batch in run.batches("documents", ["url", "characters"]):
        documents += batch.num_rows
        here = pa.table({"host": hosts_of(batch.column("url")), "characters": batch.column("characters")})
        pieces.append(here.group_by("host").aggregate([([], "count_all"), ("characters", "sum")]))
    table = pa.concat_tables(pieces).group_by("host").aggregate([("count_all", "sum"), ("characters_sum", "sum")])
    table = table.filter(table.column("host").is_valid())
    if not len(table):
        return None
    columns = {"host": table.column(0), "documents": table.column(1), "characters": table.column(2)}
    table = pa.table(columns)
    counts = np.sort(table.column("documents").to_numpy())[::-1]
    return {
        "hosts": len(table),
        "documents": documents,
        "with_host": int(counts.sum()),
        "with_one_document": int((counts == 1).sum()),
        "top": {str(number): int(counts[:number].sum()) for number in TOP if number <= len(counts)},
        "by_documents": _largest(table, "documents", most),
        "by_characters": _largest(table, "characters", most),
    }


def _largest(table: pa.Table, name: str, most: int) -> list[dict[str, Any]]:
    order = [(name, "descending"), ("host", "ascending")]
    found: list[dict[str, Any]] = table.take(pc.select_k_unstable(table, min(most, len(table)), order)).to_pylist()
    return found


def years(run: RunFolder) -> dict[str, int]:
    """Documents by the year of their date; `unknown` has those without one."""
    found: Counter[int | None] = Counter()
    for batch in run.batches("documents", ["date"]):
        for one in pc.value_counts(pc.year(batch.column("date"))).to_pylist():
            found[one["values"]] += one["counts"]
    named = {str(year): found[year] for year in sorted(year for year in found if year is not None)}
    return named | ({"unknown": found[None]} if found[None] else {})
