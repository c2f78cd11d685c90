"""The table of counts beside the text, so that stages behind each other count once."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from stages.base import with_column
from stages.quality.count import count
from stages.quality.fields import FIELDS
from stages.text.column import Ints, digests, texts

COLUMN = "statistics"
"""Column of the table: a list for each row, the counts in the order of `FIELDS` and the digest of the text they are of.

It goes from stage to stage only, and is in no file."""

_KIND = pa.list_(pa.int64(), len(FIELDS) + 1)


def counted(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Ints]:
    """The batch with the column, and the counts: a row for each of `FIELDS`, a column for each text.

    A text that some stage changed is counted again, whether that stage knew of the column or not.
    """
    view = texts(batch.column("text"))
    now = digests(view).view(np.int64)
    place = batch.schema.get_field_index(COLUMN)
    if place >= 0:
        table = batch.column(place).flatten().to_numpy().reshape(batch.num_rows, len(FIELDS) + 1)
        if np.array_equal(table[:, -1], now):
            return batch, table[:, :-1].T
    table = np.column_stack((count(view), now))
    column = pa.FixedSizeListArray.from_arrays(pa.array(table.ravel()), type=_KIND)
    return with_column(batch, COLUMN, column), table[:, :-1].T
