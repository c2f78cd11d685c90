"""Equal documents in several tables, found on disk: memory is bounded whatever the number of documents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from pipeline import ids
from pipeline.parts import read_batches

BUCKETS = 64
_RECORD = np.dtype([("high", "<u8"), ("low", "<u8"), ("table", "<u4"), ("row", "<u4")])


def later_ones(tables: Sequence[Path], owners: Sequence[int], scratch: Path) -> list[npt.NDArray[np.int64] | None]:
    """For each table the rows, ascending, of documents that a table of an earlier owner holds too; None for no row.

    `owners` ascends. Ids go through files in `scratch`, by their first bits; one of `BUCKETS` parts of them is in
    memory at a time (about 60 bytes a document of it), besides 8 bytes for each row that is found.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    files = [(scratch / f"ids-{number:02d}").open("w+b") for number in range(BUCKETS)]
    try:
        for number, path in enumerate(tables):
            row = 0
            for batch in read_batches(path, ["id"]):
                records = np.empty(batch.num_rows, _RECORD)
                records["high"], records["low"] = ids.halves(ids.matrix(batch.column("id")))
                records["table"] = number
                records["row"] = np.arange(row, row + batch.num_rows)
                row += batch.num_rows
                bucket = (records["high"] >> np.uint64(58)).astype(np.int64)
                for here in np.unique(bucket).tolist():
                    files[here].write(records[bucket == here].tobytes())
        owner = np.array(owners, np.int64)
        found: list[list[npt.NDArray[np.int64]]] = [[] for _ in tables]
        for file in files:
            file.seek(0)
            records = np.frombuffer(file.read(), _RECORD)
            order = np.lexsort((records["row"], records["table"], records["low"], records["high"]))
            records = records[order]
            if not len(records):
                continue
            begins = ids.starts(records["high"], records["low"])
            first = owner[records["table"][begins]][np.cumsum(begins) - 1]
            later = records[owner[records["table"]] != first]
            for number in np.unique(later["table"]).tolist():
                found[number].append(later["row"][later["table"] == number].astype(np.int64))
    finally:
        for file in files:
            file.close()
            Path(file.name).unlink(missing_ok=True)
    return [np.sort(np.concatenate(rows)) if rows else None for rows in found]


def kept(path: Path, gone: npt.NDArray[np.int64] | None) -> npt.NDArray[np.bool_] | None:
    """Which rows of a table stay; None where all do."""
    if gone is None:
        return None
    keep = np.ones(pq.read_metadata(path).num_rows, bool)
    keep[gone] = False
    return keep
