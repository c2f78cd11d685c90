"""Signed parts: what deduplication knows of a stretch of documents, as files that are read in place.

Beside its table (`.parquet`) a part has the names of its documents (`.names`, an Arrow file), its signatures as a plain
matrix (`.bin`, rows × permutations, uint32, little endian), its band table (`.bands`) and, where pairs are verified
exactly, its shingle sets (`.offsets` int64 and `.sets` uint64). Parts of this run and of earlier ones in an index look
the same. One behind another, their rows are the documents: the number of a document is its place among them.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.mapping import made, mapped

Rows = npt.NDArray[np.int64]

NAMES = pa.schema([pa.field("id", pa.binary(16)), pa.field("source", pa.string()), pa.field("url", pa.string())])


@dataclass(frozen=True)
class SignedPart:
    """One part."""

    stem: Path
    """The path of its files, without their endings: of a known one in its index, of another in the run folder."""
    bands: Path | None
    """Its band table; None where there is none (yet)."""
    rows: int
    generation: int
    known: bool
    """Whether it is of an earlier run, whose outcome stands."""
    opened: Callable[[str], Path] = Path
    """What makes a file of this machine of a path."""

    def beside(self, ending: str) -> Path:
        """The path of one of its files."""
        return self.stem.with_name(f"{self.stem.name}.{ending}")

    def file(self, ending: str) -> Path:
        """One of its files."""
        return self.opened(str(self.beside(ending)))

    @property
    def table(self) -> Path:
        """Its band table."""
        assert self.bands is not None
        return self.opened(str(self.bands))


def starts_of(parts: Sequence[SignedPart]) -> Rows:
    """(parts + 1,) the number of each part's first document."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum([part.rows for part in parts], dtype=np.int64)])


def signatures(
    parts: Sequence[SignedPart], documents: Rows, permutations: int, scratch: Path
) -> npt.NDArray[np.uint32]:
    """(documents, permutations) the signatures of the documents with these numbers.

    More than a million are gathered in a file in `scratch`, which the system may page out.
    """
    shape = (len(documents), permutations)
    found: npt.NDArray[np.uint32]
    if len(documents) > 1 << 20:
        found = made(scratch / f"signatures-{uuid.uuid4().hex}", np.uint32, shape)
    else:
        found = np.empty(shape, np.uint32)
    for part, rows, places in _by_part(parts, documents):
        found[places] = mapped(part.file("bin"), "<u4").reshape(-1, permutations)[rows]
    return found


def shingle_sets(parts: Sequence[SignedPart], documents: Rows, scratch: Path) -> tuple[npt.NDArray[np.uint64], Rows]:
    """The shingle sets of these documents, and (documents, 2) where each one begins and ends among the values.

    More than 512 MB of them are gathered in a file in `scratch`, which the system may page out.
    """
    bounds = np.zeros((len(documents), 2), np.int64)
    filled = 0
    for part, rows, places in _by_part(parts, documents):
        offsets = mapped(part.file("offsets"), "<i8")
        size = offsets[rows + 1] - offsets[rows]
        ends = filled + np.cumsum(size)
        bounds[places, 0], bounds[places, 1] = ends - size, ends
        filled = int(ends[-1])
    found: npt.NDArray[np.uint64]
    if filled > 1 << 26:
        found = made(scratch / f"sets-{uuid.uuid4().hex}", np.uint64, filled)
    else:
        found = np.empty(filled, np.uint64)
    for part, rows, places in _by_part(parts, documents):
        offsets, values = mapped(part.file("offsets"), "<i8"), mapped(part.file("sets"), "<u8")
        for start in range(0, len(rows), 4096):
            some = rows[start : start + 4096]
            size = offsets[some + 1] - offsets[some]
            ends = np.cumsum(size)
            inside = np.repeat(offsets[some] - ends + size, size) + np.arange(int(size.sum()))
            first = bounds[places[start], 0]
            found[first : first + len(inside)] = values[inside]
    return found, bounds


def _by_part(parts: Sequence[SignedPart], documents: Rows) -> Iterator[tuple[SignedPart, Rows, Rows]]:
    """For each part that holds some of the documents: the part, their rows in it, ascending, and their places."""
    order = np.argsort(documents, kind="stable")
    starts = starts_of(parts)
    cuts = np.searchsorted(documents[order], starts)
    for number, part in enumerate(parts):
        if cuts[number] < cuts[number + 1]:
            places = order[cuts[number] : cuts[number + 1]]
            yield part, documents[places] - starts[number], places


def names(parts: Sequence[SignedPart], documents: Rows) -> pa.Table:
    """Id, source and URL of these documents, a row each."""
    found = [NAMES.empty_table()]
    places = [np.zeros(0, np.int64)]
    for part, rows, place in _by_part(parts, documents):
        with pa.memory_map(str(part.file("names"))) as source:
            batches = pa.ipc.open_file(source).read_all().to_batches()
            ends = np.cumsum([batch.num_rows for batch in batches])
            for batch, end, some in zip(batches, ends, np.split(rows, np.searchsorted(rows, ends[:-1])), strict=True):
                if len(some):
                    taken = batch.take(pa.array(some - end + batch.num_rows))
                    found.append(pa.Table.from_batches([taken]))
        places.append(place)
    back = np.argsort(np.concatenate(places))
    return pa.concat_tables(found).combine_chunks().take(pa.array(back))
