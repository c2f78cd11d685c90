"""What rules were held against: the values of each document that a stage judged, dropped or not.

They lie in `measures/`, one row a document, one column for each limit (`STAGE.SETTING`) and one for the rules that it
breaks (`STAGE.broken`, see `stages.base.BROKEN`); null where a document did not reach the stage. So `inspect` shows how
values spread, and what another limit would keep, without another run. What else the reports of stages need of dropped
documents, too (`stages.base.Outcome.findings`), has columns beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.base import BROKEN, Outcome

FOLDER = "measures"


def is_limit(setting: str) -> bool:
    """Whether this is the name of a limit (see `stages.base.Rule`), not of another finding."""
    return setting.startswith(("min_", "max_"))


def schema_of(outcomes: Mapping[str, Outcome]) -> pa.Schema:
    """The columns of a chain whose stages, by label, measure and find what is in these outcomes."""
    fields = [pa.field("id", pa.binary(16))]
    for label, outcome in outcomes.items():
        for setting in outcome.measures:
            fields.append(pa.field(f"{label}.{setting}", pa.uint32() if setting == BROKEN else pa.float32()))
        fields += [pa.field(f"{label}.{name}", column.type) for name, column in outcome.findings.items()]
    return pa.schema(fields)


class Measured:
    """The values of one batch, from stage to stage."""

    def __init__(self, schema: pa.Schema, batch: pa.RecordBatch) -> None:
        self.schema = schema
        self.ids = batch.column("id")
        self.rows = np.arange(batch.num_rows)
        """Where the rows that are left stood in the batch."""
        self._values: dict[str, npt.NDArray[Any]] = {}
        self._found: dict[str, pa.Array] = {}
        self._seen = np.zeros(batch.num_rows, np.bool_)
        self._seen_by: dict[str, npt.NDArray[np.bool_]] = {}

    def add(self, label: str, outcome: Outcome, kept: npt.NDArray[np.bool_]) -> None:
        """What a stage measured of the rows that reached it, and which of them are left behind it."""
        for name, column in outcome.findings.items():
            place = np.full(len(self.ids), -1)
            place[self.rows] = np.arange(len(self.rows))
            self._found[f"{label}.{name}"] = column.take(pa.array(place, mask=place < 0))
            self._seen[self.rows] = True
        for setting, values in outcome.measures.items():
            name = f"{label}.{setting}"
            self._values[name] = np.zeros(len(self.ids), np.uint32 if setting == BROKEN else np.float32)
            self._values[name][self.rows] = values
            self._seen_by[name] = np.zeros(len(self.ids), np.bool_)
            self._seen_by[name][self.rows] = True
            self._seen[self.rows] = True
        self.rows = self.rows[kept]

    def table(self) -> pa.RecordBatch:
        """A row for each document that a stage measured."""
        columns = [self.ids]
        for field in list(self.schema)[1:]:
            if field.name in self._values:
                columns.append(pa.array(self._values[field.name], field.type, mask=~self._seen_by[field.name]))
            elif field.name in self._found:
                columns.append(self._found[field.name])
            else:
                columns.append(pa.nulls(len(self.ids), field.type))
        return pa.RecordBatch.from_arrays(columns, schema=self.schema).filter(pa.array(self._seen))
