"""The texts of a few documents of a run, losers of deduplication among them, found by their ids."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import UserError
from pipeline.look.runfolder import RunFolder


@dataclass(frozen=True)
class Beginnings:
    """What was found of the documents asked for."""

    texts: dict[bytes, str]
    """The beginning of each text that is still there."""
    searched_all: bool
    """Whether every document of the run was looked at: an id that was not found is none of this run."""


def beginnings(run: RunFolder, ids: Collection[bytes], characters: int) -> Beginnings:
    """The first characters of the texts with these ids, as the clean phase left them.

    All ids of the run are read, 16 bytes a document; of texts only the row groups that hold a wanted one, one at a
    time. The clean parts hold losers and survivors; where `corpusmill clean` took them away, the documents are left.
    """
    wanted = set(ids)
    folders = ["clean"] if not run.removed("clean") else ["documents"] if not run.removed("documents") else []
    found: dict[bytes, str] = {}
    for table in rows_of((path for folder in folders for path in run.parts(folder)), wanted, ["id", "text"]):
        start = pc.utf8_slice_codeunits(pc.fill_null(table.column("text"), ""), 0, characters)
        for one, text in zip(table.column("id").to_pylist(), start.to_pylist(), strict=True):
            found.setdefault(one, text)
        if len(found) == len(wanted):
            return Beginnings(found, True)
    return Beginnings(found, folders == ["clean"])


def of_documents(run: RunFolder, ids: Collection[bytes]) -> dict[bytes, str]:
    """The whole texts of those of these ids that are among the documents of a run.

    Raises UserError where `corpusmill clean` took the documents away.
    """
    if run.removed("documents"):
        raise UserError(f"`corpusmill clean` took the documents out of {run.folder}; its recipe brings them back")
    found: dict[bytes, str] = {}
    for table in rows_of(run.parts("documents"), ids, ["id", "text"]):
        texts = (text or "" for text in table.column("text").to_pylist())
        found.update(zip(table.column("id").to_pylist(), texts, strict=True))
    return found


def rows_of(paths: Iterable[Path], ids: Collection[bytes], columns: list[str]) -> Iterator[pa.Table]:
    """These columns of the rows with these ids, a row group at a time; of others no more than the ids are read."""
    wanted = pa.array(sorted(ids), pa.binary(16))
    for path in paths if len(wanted) else ():
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                here = file.read_row_group(group, columns=["id"]).column("id")
                rows = np.flatnonzero(pc.is_in(here, value_set=wanted).to_numpy())
                if len(rows):
                    yield file.read_row_group(group, columns=columns).take(rows)
