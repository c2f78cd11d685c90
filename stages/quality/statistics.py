"""The table of counts beside the text, so that stages behind each other count once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import xxhash

from stages import segmenters
from stages.base import with_column
from stages.quality.count import count
from stages.quality.fields import FIELDS
from stages.segmenters import Cuts
from stages.text.column import Ints, Texts, digests, texts

COLUMN = "statistics"
"""Column of the table: for each row `counts`, a list of the counts in the order of `FIELDS` and the digest of the text
and the segmenter they are of, and `cuts`, where that segmenter ends words, in bytes.

It goes from stage to stage only, and is in no file."""

_COUNTS = pa.list_(pa.int64(), len(FIELDS) + 1)
_NONE: Mapping[str, str] = MappingProxyType({})


def counted(batch: pa.RecordBatch, segmenter: Mapping[str, str] = _NONE) -> tuple[pa.RecordBatch, Ints]:
    """The batch with the column, and the counts: a row for each of `FIELDS`, a column for each text.

    `segmenter`, by language, cuts the words of scripts without spaces. A text that some stage changed is counted
    again, whether that stage knew of the column or not.
    """
    view = texts(batch.column("text"))
    chosen = segmenters.names(batch, segmenter)
    now = _now(view, chosen)
    table = _table(batch, now)
    if table is not None:
        return batch, table[:, :-1].T
    cuts = segmenters.cuts(view, chosen)
    table = np.column_stack((count(view, cuts), now))
    column = pa.StructArray.from_arrays(
        [
            pa.FixedSizeListArray.from_arrays(pa.array(table.ravel()), type=_COUNTS),
            pa.ListArray.from_arrays(pa.array(cuts.starts, pa.int32()), pa.array(cuts.places, pa.int32())),
        ],
        names=["counts", "cuts"],
    )
    return with_column(batch, COLUMN, column), table[:, :-1].T


def cuts_of(batch: pa.RecordBatch, segmenter: Mapping[str, str]) -> Cuts:
    """Where the segmenter ends words in the texts of a batch: those beside the counts, where these are of it."""
    view = texts(batch.column("text"))
    chosen = segmenters.names(batch, segmenter)
    if not segmenter or _table(batch, _now(view, chosen)) is None:
        return segmenters.cuts(view, chosen)
    lists = batch.column(COLUMN).field("cuts")
    starts = lists.offsets.to_numpy().astype(np.int64)
    return Cuts(lists.flatten().to_numpy().astype(np.int64), starts - starts[0])


def _now(view: Texts, chosen: Sequence[tuple[str, str]]) -> Ints:
    """What the counts of each text are of: the text, and how its words are cut."""
    own = {pair: xxhash.xxh3_64_intdigest(":".join(pair).encode()) if pair[0] else 0 for pair in set(chosen)}
    return (digests(view) ^ np.array([own[pair] for pair in chosen], np.uint64)).view(np.int64)


def _table(batch: pa.RecordBatch, now: Ints) -> Ints | None:
    """The counts beside the texts, with what they are of; None where there are none, or some are of something else."""
    place = batch.schema.get_field_index(COLUMN)
    if place < 0:
        return None
    table: Ints = batch.column(place).field("counts").flatten().to_numpy().reshape(batch.num_rows, len(FIELDS) + 1)
    return table if np.array_equal(table[:, -1], now) else None
