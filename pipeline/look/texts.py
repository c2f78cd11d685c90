"""The texts of a few documents of a run, losers of deduplication among them, found by their ids."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

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
    wanted = pa.array(sorted(set(ids)), pa.binary(16))
    folders = ["clean"] if not run.removed("clean") else ["documents"] if not run.removed("documents") else []
    found: dict[bytes, str] = {}
    for path in (path for folder in folders for path in run.parts(folder)):
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                if len(found) == len(wanted):
                    return Beginnings(found, True)
                here = file.read_row_group(group, columns=["id"]).column("id")
                rows = np.flatnonzero(pc.is_in(here, value_set=wanted).to_numpy())
                if not len(rows):
                    continue
                texts = file.read_row_group(group, columns=["text"]).column("text").take(rows)
                start = pc.utf8_slice_codeunits(pc.fill_null(texts, ""), 0, characters)
                for one, text in zip(here.take(rows).to_pylist(), start.to_pylist(), strict=True):
                    found.setdefault(one, text)
    return Beginnings(found, folders == ["clean"])
