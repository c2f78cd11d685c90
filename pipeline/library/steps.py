"""Stages bound to their files, from a table to the table that they leave."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from pipeline import bound
from pipeline.errors import UserError, nearest
from pipeline.library.columns import fitted, ids, is_bytes, is_text, payload, pieces, takable, text_type
from pipeline.resources import digests, lacking, load
from pipeline.settings import explain, listed
from pipeline.verdicts import check_outcome
from stages.base import Processor, Stage, make
from stages.quality import statistics
from stages.schema import READ

if TYPE_CHECKING:
    from datasets import Features

_NOT_WRITTEN = b"corpusmill.not_written"
"""In the metadata of a column that is the caller's, or nobody's: a stage that writes it makes a new one without."""
_VERDICT = pa.struct([("reason", pa.string()), ("value", pa.float64()), ("limit", pa.float64())])


class Steps:
    """Stages ready for tables. It travels between processes without what the stages have loaded."""

    def __init__(self, stages: Sequence[Stage], text: str, html: str | None, mark: str | None, folder: str) -> None:
        self.stages = tuple(_valid(stage) for stage in stages)
        self.text, self.html, self.mark, self.folder = text, html, mark, folder
        self.facts = [bound.facts_of(stage, digests(stage.files(), Path(folder))) for stage in self.stages]
        """What the outcome depends on: a cache of results must not outlive it."""
        self._ready: list[Processor] = []

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_ready": []}

    def __call__(self, table: pa.Table) -> pa.Table:
        """What the stages make of a table."""
        self._check(table.schema)
        made = [self._batch(piece) for batch in table.to_batches() for piece in pieces(batch, self._sized())]
        return pa.Table.from_batches(made) if made else self.schema(table.schema).empty_table()

    def schema(self, schema: pa.Schema) -> pa.Schema:
        """The columns that come of a table with these."""
        self._check(schema)
        return self._batch(pa.RecordBatch.from_pylist([], schema=schema)).schema

    def _sized(self) -> list[str]:
        return [name for name in (self.text, self.html or "payload") if name]

    def _check(self, schema: pa.Schema) -> None:
        """Raises UserError where the columns named are not there, or not of the kind that they should be."""
        if len(set(schema.names)) < len(schema.names):
            twice = sorted(name for name in set(schema.names) if schema.names.count(name) > 1)
            raise UserError(f"the table has several columns of one name: {', '.join(twice)}")
        for name, what in ((self.text, "text"), (self.html, "html")):
            if name is not None and name not in schema.names:
                if what == "text" and (self.html or "payload" in schema.names):
                    continue
                raise UserError(f"{what}: there is no column '{name}'.{nearest(name, schema.names)}")
            kind = schema.field(name).type if name is not None else pa.string()
            if not (is_text(kind) or (what == "html" and is_bytes(kind))):
                raise UserError(f"{what}: the column '{name}' is of type {kind}; it should hold {what}")
        if self.mark is not None and self.mark in schema.names:
            raise UserError(f"mark: the table has a column '{self.mark}' already; take another name")

    def _batch(self, given: pa.RecordBatch) -> pa.RecordBatch:
        """What becomes of one batch."""
        if not self._ready:
            self._ready = [stage.bind(load(stage.files(), Path(self.folder))) for stage in self.stages]
        given = takable(given)
        batch = self._documents(given)
        rows = np.arange(given.num_rows)
        lost: list[tuple[int, dict[str, Any]]] = []
        for stage, step in zip(self.stages, self._ready, strict=True):
            outcome = step(batch)
            kept = check_outcome(stage.name, batch, outcome)
            lost += [
                (int(rows[row]), {"reason": f"{stage.name}.{reason}", "value": value, "limit": limit})
                for row, reason, value, limit in outcome.dropped
            ]
            rows, batch = rows[kept], outcome.batch
        made = self._columns(given.take(pa.array(rows)), batch)
        return made if self.mark is None else self._marked(given, made, rows, lost)

    def _documents(self, given: pa.RecordBatch) -> pa.RecordBatch:
        """The batch as readers would give it: every column that stages may ask for, and the caller's others."""
        there = {name: given.column(name) for name in given.schema.names}
        theirs = {
            "text": there.get(self.text),
            "payload": payload(there[self.html]) if self.html else there.get("payload"),
        }
        columns, fields = [], []
        for field in READ:
            column = theirs.get(field.name, there.get(field.name))
            columns.append(fitted(column, field.type, given.num_rows))
            fields.append(field.with_metadata({_NOT_WRITTEN: b""}))
        place = READ.get_field_index("id")
        if columns[place].null_count:
            columns[place] = ids(columns)
        place = READ.get_field_index("source")
        columns[place] = pc.fill_null(columns[place], "")
        place = READ.get_field_index("content_type")
        if self.html and columns[place].null_count and is_text(there[self.html].type):
            columns[place] = pc.fill_null(columns[place], "text/html; charset=utf-8")
        for field in given.schema:
            if field.name not in (*READ.names, self.text, self.html, statistics.COLUMN):
                columns.append(there[field.name])
                fields.append(field.with_metadata({_NOT_WRITTEN: b""}))
        return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))

    def _columns(self, given: pa.RecordBatch, made: pa.RecordBatch) -> pa.RecordBatch:
        """The kept rows as the caller wants them: own columns first, those that stages wrote behind."""
        written = {
            field.name: made.column(field.name)
            for field in made.schema
            if _NOT_WRITTEN not in (field.metadata or {}) and field.name != statistics.COLUMN
        }
        written.pop("text", None)
        if self.text in given.schema.names or _NOT_WRITTEN not in (made.schema.field("text").metadata or {}):
            written[self.text] = made.column("text").cast(text_type(given.schema, self.text))
        names = {self.html: "payload"} if self.html else {}
        columns = {}
        for name in given.schema.names:
            if name in written:
                columns[name] = written.pop(name)
            elif names.get(name, name) in made.schema.names or name == statistics.COLUMN:
                columns[name] = given.column(name)
        return pa.RecordBatch.from_pydict(columns | written)

    def _marked(
        self, given: pa.RecordBatch, made: pa.RecordBatch, rows: npt.NDArray[np.int64], lost: list[Any]
    ) -> pa.RecordBatch:
        """All rows: what was made of the kept ones, the others as they came, and the verdicts."""
        assert self.mark is not None
        gone = np.array(sorted(row for row, _ in lost), np.int64)
        order = np.argsort(np.concatenate([rows, gone]), kind="stable")
        others = given.take(pa.array(gone))
        if self.mark in made.schema.names:
            raise UserError(f"mark: a stage writes a column '{self.mark}'; take another name")
        columns = {}
        for field in made.schema:
            kind = given.schema.field(field.name).type if field.name in given.schema.names else None
            can = kind == field.type or (field.name == self.text and kind is not None)
            rest = others.column(field.name).cast(field.type) if can else pa.nulls(len(gone), field.type)
            columns[field.name] = pa.concat_arrays([made.column(field.name), rest]).take(pa.array(order))
        verdicts: list[dict[str, Any] | None] = [None] * given.num_rows
        for row, verdict in lost:
            verdicts[row] = verdict
        return pa.RecordBatch.from_pydict(columns | {self.mark: pa.array(verdicts, _VERDICT)})


def _valid(stage: Stage) -> Stage:
    """The stage, its settings as a recipe would have them. Raises UserError where a recipe would be refused."""
    if not isinstance(stage, Stage):
        raise UserError(f"{stage!r} is no stage; give one with its settings, as Emoji(mode='name')")
    if problems := lacking(type(stage)):
        raise UserError("\n".join(problems))
    if type(stage).__module__.partition(".")[0] != "stages":
        return stage  # one's own may hold what no recipe can say
    try:
        return make(type(stage), dataclasses.asdict(stage))
    except ValidationError as error:
        raise UserError(listed(f"stage {stage.name}", explain(error, type(stage)))) from error


def _array(name: str, values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except pa.ArrowException as error:
        raise UserError(f"the column '{name}' of the stream holds values of several types: {error}") from error


class Rows:
    """The same for lists by column, as streams of Hugging Face have them."""

    def __init__(self, steps: Steps, features: Features | None) -> None:
        self._steps, self._features = steps, features

    def __call__(self, columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """What the stages make of some rows."""
        if self._features is None:
            table = pa.table({name: _array(name, values) for name, values in columns.items()})
        else:
            table = pa.table(self._features.encode_batch(columns), schema=self._features.arrow_schema)
        made: dict[str, list[Any]] = self._steps(table).to_pydict()
        return made
