"""`corpusmill inspect --scores`: how the columns that stages wrote are spread over the documents that are left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from pipeline.errors import UserError
from pipeline.look.histogram import QUANTILES
from pipeline.look.rules import short
from pipeline.look.runfolder import SCORES_NOT, RunFolder
from pipeline.look.tables import percent, table

_FIELDS = 12
"""Most fields of one column that the table lists."""


def report(run: RunFolder) -> list[dict[str, Any]]:
    """For each column: its documents, those that are not 0, mean and quantiles; of a list its length is meant.

    One column at a time is in memory. Raises UserError where no stage of the run wrote one.
    """
    paths = run.parts("documents")
    if run.removed("documents") or not paths:
        list(run.batches("documents", []))  # says why
        raise UserError(f"the run in {run.folder} has no documents yet; run its recipe")
    fields = [field for field in pq.read_schema(paths[0]) if field.name not in SCORES_NOT]
    columns = [(name, path) for field in fields for name, path in _leaves(field.name, field.type, ())]
    if all(name == "cluster_size" for name, _ in columns):
        raise UserError(
            f"no stage of the run in {run.folder} wrote a score: `language`, `classify`, `toxicity`, `toxicity_model`, "
            "`bias` and `decontaminate` do"
        )
    return [_spread(run, name, path) for name, path in columns]


def _leaves(name: str, kind: pa.DataType, inner: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The columns of numbers in a column, each as what it is called and the way to it."""
    if pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(name, field.type, (*inner, field.name))
    elif pa.types.is_list(kind) or pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        yield name, inner


def _spread(run: RunFolder, name: str, inner: tuple[str, ...]) -> dict[str, Any]:
    values, documents, listed = [np.zeros(0)], 0, False
    for batch in run.batches("documents", [name]):
        column = batch.column(0)
        documents += len(column)
        for field in inner:
            column = pa.compute.struct_field(column, field)
        listed = pa.types.is_list(column.type)
        column = pa.compute.list_value_length(column) if listed else column
        narrow = pa.types.is_floating(column.type) and not pa.types.is_float64(column.type)
        kind = pa.int8() if pa.types.is_boolean(column.type) else pa.float32() if narrow else pa.float64()
        values.append(column.drop_null().cast(kind, safe=False).to_numpy())
    found = np.concatenate(values[1:] or values)
    found = found[~np.isnan(found)]
    spread = np.quantile(found, QUANTILES, method="lower").tolist() if len(found) else []
    return {
        "column": ".".join((name, *inner)) + (" (number)" if listed else ""),
        "documents": documents,
        "with_value": len(found),
        "not_zero": int((found != 0).sum()),
        "mean": float(found.mean(dtype=np.float64)) if len(found) else None,
        "quantiles": dict(zip(map(str, QUANTILES), spread, strict=False)),
    }


def print_report(rows: list[dict[str, Any]], console: Console) -> None:
    """One table, a row for each column."""
    documents = rows[0]["documents"]
    made = table(
        f"Columns of the {documents:,} documents that are left", "column", "with value", "not 0", "share", "mean",
        "least", "1 %", "5 %", "25 %", "50 %", "75 %", "95 %", "99 %", "most",
    )  # fmt: skip
    whole = Counter(row["column"].partition(".")[0] for row in rows)
    for row in rows:
        if whole[row["column"].partition(".")[0]] > _FIELDS:
            continue
        spread = [short(value) for value in row["quantiles"].values()] or [""] * len(QUANTILES)
        mean = "" if row["mean"] is None else f"{row['mean']:.3g}"
        share = percent(row["not_zero"], row["with_value"])
        made.add_row(row["column"], f"{row['with_value']:,}", f"{row['not_zero']:,}", share, mean, *spread)
    console.print(made)
    for name, number in whole.items():
        if number > _FIELDS:
            console.print(f"{name} has {number} fields: see --json", markup=False, highlight=False)
