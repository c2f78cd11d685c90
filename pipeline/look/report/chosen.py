"""Which documents a report shows: of each kind those with the least ids, which are hashes, so that it is a sample."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import ids
from pipeline.look.runfolder import RunFolder
from pipeline.look.texts import rows_of

DROPPED = ("id", "source", "url", "origin", "stage", "reason", "value", "limit", "survivor")


def least(column: pa.Array | pa.ChunkedArray, most: int) -> npt.NDArray[np.int64]:
    """Where the least ids stand, in their order."""
    high, low = ids.halves(ids.matrix(column))
    rows = np.arange(len(high))
    if len(rows) > most:
        bound = np.partition(high, most - 1)[most - 1]
        rows = np.flatnonzero(high <= bound)
    return rows[np.lexsort((low[rows], high[rows]))][:most]


def dropped(run: RunFolder, most: int) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Some dropped records for each stage and reason; none where `corpusmill clean` took them away."""
    return {} if run.removed("dropped") else _least_of(run.batches("dropped", DROPPED), ("stage", "reason"), most)


def kept(run: RunFolder, most: int, columns: Iterable[str]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Some documents of each source."""
    return {} if run.removed("documents") else _least_of(run.batches("documents", list(columns)), ("source",), most)


def _least_of(batches: Iterable[pa.RecordBatch], by: tuple[str, ...], most: int) -> dict[Any, list[dict[str, Any]]]:
    found: dict[Any, list[dict[str, Any]]] = {}
    for batch in batches if most else ():
        if not batch.num_rows:
            continue
        keys = [batch.column(name) for name in by]
        joined = pc.binary_join_element_wise(*keys, "\0") if len(keys) > 1 else keys[0]
        codes = joined.dictionary_encode()
        places = pc.fill_null(codes.indices, -1).to_numpy(zero_copy_only=False)
        for place in range(len(codes.dictionary)):
            rows = np.flatnonzero(places == place)
            rows = rows[least(batch.column("id").take(rows), most)]
            here = batch.take(rows).to_pylist()
            key = tuple(here[0][name] for name in by)
            found[key] = sorted([*found.get(key, []), *here], key=lambda row: row["id"])[:most]
    return dict(sorted(found.items()))


def largest(run: RunFolder, column: str, most: int) -> list[dict[str, Any]]:
    """The documents with the largest values above 0 of a column; of equal ones those with the least ids."""
    found: list[dict[str, Any]] = []
    for batch in run.batches("documents", ["id", column]) if most else ():
        values = pc.fill_null(batch.column(column), 0).to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(values > 0)
        if len(rows) > most:
            rows = rows[values[rows] >= np.partition(values[rows], -most)[-most]]
        found += batch.take(rows).to_pylist()
        found = sorted(found, key=lambda row: (-row[column], row["id"]))[:most]
    return found


def dropped_by_id(run: RunFolder, wanted: Collection[bytes]) -> list[dict[str, Any]]:
    """The dropped records with these ids."""
    values = pa.array(sorted(wanted), pa.binary(16))
    found: list[dict[str, Any]] = []
    for batch in run.batches("dropped", DROPPED):
        found += batch.filter(pc.is_in(batch.column("id"), value_set=values)).to_pylist()
    return found


def about(run: RunFolder, wanted: Collection[bytes]) -> dict[bytes, dict[str, Any]]:
    """Source, URL and language of the documents with these ids that passed the document-local stages."""
    folder = "documents" if run.removed("clean") else "clean"
    paths = [] if run.removed(folder) else run.parts(folder)
    tables = rows_of(paths, wanted, ["id", "source", "url", "language"])
    return {row["id"]: row for table in tables for row in table.to_pylist()}
