"""Stored edits: what a phase over the whole corpus cuts from the texts of the clean parts, and what it drops of them.

A clean part is never written twice. The decision on it lies beside it in a part of edits, one row for each of its rows,
and whoever reads texts behind the clean phase reads them through here. `trace` does too: a text is what the
document-local stages make of a record, with its edits applied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DamageError
from pipeline.ledger import Part, Row, digest_of
from pipeline.parts import read_batches
from pipeline.work import Context, once
from stages.base import with_column
from stages.text.column import Edits, edited

PHASES = ("host", "spans")
"""The phases that make edits, in their order: each speaks of the texts that the ones before it leave."""
PHASE = "host"
"""The phase whose rows name the parts of edits. Its body says of which clean part (`clean`, its digest), how many of
its documents are `kept`, and whether anything is `changed`."""
FOLDER = "edits"
SCHEMA = pa.schema(
    [
        pa.field("id", pa.binary(16)),
        pa.field("offset", pa.int64()),
        pa.field("inner_offset", pa.int64()),
        pa.field("starts", pa.list_(pa.int32())),
        pa.field("ends", pa.list_(pa.int32())),
        pa.field("lost", pa.bool_()),
    ]
)
"""Row i speaks of row i of the clean part. `starts` and `ends` are byte spans of its UTF-8 text as the clean part holds
it: ascending, disjoint, on character bounds. `lost`: the phase drops the document. `id` and the offsets (of its
`origin`) find the row when the clean part is gone."""


class Where(NamedTuple):
    """The files that hold the documents of a clean part, by their paths in the run folder; fit for a task's `spec`."""

    clean: str
    edits: str | None = None
    """None where nothing was cut from them."""


def apply(text: pa.Array, starts: pa.ListArray, ends: pa.ListArray) -> pa.Array:
    """The texts without the spans; the column itself, not a copy, where there is none. Nulls stay null.

    Raises ValueError where spans overlap, are out of order or lie outside of their text.
    """
    rows, begins = _flat(starts)
    _, stops = _flat(ends)
    if len(begins) != len(stops):
        raise ValueError(f"{len(begins)} spans begin and {len(stops)} end")
    return edited(text, Edits(rows, begins, stops, np.zeros(len(rows), np.int64)))


def _flat(lists: pa.ListArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The row of each item, and the items."""
    sizes = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    return np.repeat(np.arange(len(lists)), sizes), lists.flatten().to_numpy(zero_copy_only=False).astype(np.int64)


@once
def _rows(context: Context) -> dict[str, Row]:
    """The rows of the phase by the digest of the clean part that they speak of; none where the recipe has no `host`."""
    if context.recipe.host is None:
        return {}
    return {row.body["clean"]: row for row in context.ledger.rows(PHASE)}


def _row(context: Context, clean_part: Part) -> Row | None:
    """The row of a clean part from which something is cut or dropped."""
    row = _rows(context).get(clean_part.digest)
    return row if row is not None and row.body["changed"] else None


def where(context: Context, clean_part: Part) -> Where:
    """What `read_documents` must read. To be asked by `tasks` and put into a unit's `spec`, whose strings tell the
    runner which parts the unit needs."""
    row = _row(context, clean_part)
    return Where(clean_part.path, None if row is None else row.part(FOLDER).path)


def digest(context: Context, clean_part: Part) -> str:
    """What the documents of a clean part depend on, for the keys of units: its digest, with that of its edits where
    they change anything."""
    row = _row(context, clean_part)
    return clean_part.digest if row is None else digest_of([clean_part.digest, row.part(FOLDER).digest])


def rows_of(context: Context, clean_part: Part) -> int:
    """How many documents of a clean part are left."""
    row = _row(context, clean_part)
    return context.ledger.rows_in(clean_part)[0] if row is None else int(row.body["kept"])


def read_documents(
    context: Context, clean_part: Part | Where | Sequence[str | None], columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """The batches of a clean part with its edits applied and lost rows left out, a row group at a time in memory.

    A worker hands over `Where(*task.spec[...])`, or the list that JSON has made of it. Columns that stages computed
    from a text stay as they were before the cut.
    """
    place = where(context, clean_part) if isinstance(clean_part, Part) else Where(*clean_part)  # type: ignore[arg-type]
    batches = read_batches(context.file(place.clean), columns)
    if place.edits is None:
        yield from batches
        return
    table = opened(context, place.edits)
    at = 0
    for batch in batches:
        batch, lost = applied(batch, table.slice(at, batch.num_rows))
        at += batch.num_rows
        yield batch.filter(pa.compute.invert(lost)) if lost.true_count else batch


def opened(context: Context, path: str) -> pa.Table:
    """The edits of a part, one row for each of its documents."""
    return pq.read_table(context.file(path), columns=["starts", "ends", "lost"]).combine_chunks()


def applied(batch: pa.RecordBatch, table: pa.Table) -> tuple[pa.RecordBatch, pa.BooleanArray]:
    """A batch with the spans of its rows of a table of edits cut out, and which of its rows are lost, still in it."""
    starts, ends, lost = (table.column(name).combine_chunks() for name in ("starts", "ends", "lost"))
    if "text" in batch.schema.names:
        index = batch.schema.get_field_index("text")
        batch = batch.set_column(index, batch.schema.field(index), apply(batch.column("text"), starts, ends))
    return batch, lost


def rows(
    batch: pa.RecordBatch,
    places: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    lost: npt.NDArray[np.bool_],
) -> pa.RecordBatch:
    """The rows of SCHEMA for a batch: spans by the row that they lie in (`places`, ascending), and which rows go."""
    offsets = pa.array(np.searchsorted(places, np.arange(batch.num_rows + 1)).astype(np.int32))
    lists = [pa.ListArray.from_arrays(offsets, pa.array(values.astype(np.int32))) for values in (starts, ends)]
    origin = [pa.compute.struct_field(batch.column("origin"), name) for name in ("offset", "inner_offset")]
    return pa.RecordBatch.from_arrays([batch.column("id"), *origin, *lists, pa.array(lost)], schema=SCHEMA)


def again(context: Context, row: Row, origin: Mapping[str, Any], batch: pa.RecordBatch) -> pa.RecordBatch:
    """A record that the stages have made a document of once more, as a batch of one row, with its stored edits.

    `row` is the manifest row of the unit that read it, `origin` where it lies. Raises DamageError where the edits are
    gone, or do not fit the text.
    """
    for path, starts, ends in stored(context, row, origin, batch.column("id")[0].as_py()):
        try:
            text = apply(batch.column("text"), starts, ends)
            text.validate(full=True)  # of another text, a span may cut a character in two
        except ValueError as error:
            raise DamageError(f"the edits in {path} do not fit what the record gives now: {error}") from error
        batch = with_column(batch, "text", text)
    return batch


def stored(
    context: Context, row: Row, origin: Mapping[str, Any], document: bytes
) -> Iterator[tuple[Path, pa.ListArray, pa.ListArray]]:
    """The edits of one record, by phase: their file, and starts and ends of the spans as lists of one row.

    Raises DamageError where they are gone.
    """
    parts = {part.digest for part in row.parts}
    place = [("offset", "=", origin["offset"]), ("inner_offset", "=", origin["inner_offset"])]
    mine = [*place, ("id", "=", document)]
    for phase in PHASES:
        for found in context.ledger.rows(phase):
            if found.body["clean"] not in parts or not found.body["changed"]:
                continue
            path = context.file(found.part(FOLDER).path)
            if not path.exists():
                raise DamageError(f"{path} is missing; `corpusmill verify {context.ledger.store}` says what else is")
            table = pq.read_table(path, columns=["starts", "ends"], filters=mine).combine_chunks()
            starts, ends = (table.column(name).combine_chunks().slice(0, 1) for name in ("starts", "ends"))
            if not pa.compute.sum(starts.value_lengths()).as_py():
                continue  # of two equal parts, the documents of one lost to those of the other, and were left alone
            yield path, starts, ends
            break
