"""Whether a stage kept to what a stage must do: users bring stages of their own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.errors import UserError
from stages.base import Outcome


def check_outcome(label: str, batch: pa.RecordBatch, outcome: Outcome) -> npt.NDArray[np.bool_]:
    """Which rows are kept. Raises UserError where a stage did not either keep a row, in its place, or drop it once."""
    kept = np.ones(batch.num_rows, bool)
    rows = [row for row, *_ in outcome.dropped]
    good = all(0 <= row < batch.num_rows for row in rows) and len(set(rows)) == len(rows)
    if good:
        kept[rows] = False
        good = outcome.batch.column("id").equals(batch.column("id").filter(pa.array(kept)))
    if not good:
        raise UserError(
            f"stage {label} took {batch.num_rows} rows, kept {outcome.batch.num_rows} and dropped {len(rows)}: every "
            "row must be kept, in its place and with its id, or be dropped once"
        )
    return kept
