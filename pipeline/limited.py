"""Stages that look at the documents of some sources alone: the setting `sources` that every stage of a recipe has.

In a mixture the rules for web pages are not those for books and code: `- c4: {sources: [web]}`. Documents of other
sources pass such a stage as they are, with nulls in the columns that it writes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipeline.errors import nearest
from pipeline.step_labels import PASSED
from stages.base import Outcome, Processor, Stage
from stages.quality import statistics

SETTING = "sources"
TEXT = "the sources of the inputs that it is for, as [web]; documents of others pass it as they are (default: all)"


def taken_apart(kind: type[Stage], settings: Mapping[str, Any] | None) -> tuple[dict[str, Any], Any]:
    """A stage's own settings, and what `sources` says; None where it is left out, or a setting of the stage itself."""
    own = dict(settings or {})
    if any(field.name == SETTING for field in dataclasses.fields(kind)):
        return own, None
    return own, own.pop(SETTING, None)


def problems(sources: Any, known: Sequence[str]) -> list[str]:
    """What is wrong with the value of `sources`, a line each: `known` are the sources of the recipe."""
    if sources is None:
        return []
    if not isinstance(sources, list | tuple) or not sources or not all(isinstance(name, str) for name in sources):
        return [f"{SETTING}: should be a list of the recipe's sources, as [{known[0]}], found {sources!r}"]
    unknown = [name for name in sources if name not in known]
    return [f"{SETTING}: no input has the source '{name}'.{nearest(name, known)}" for name in unknown]


class Limited:
    """A processor that gives `step` the batches of some sources, and lets those of others pass.

    All documents of a batch must be of one source, as they are in the units of a run.
    """

    def __init__(self, step: Processor, sources: Collection[str]) -> None:
        self._step = step
        self._sources = frozenset(sources)
        self._after: tuple[pa.Schema, pa.Schema] | None = None
        """A schema that came in, and what the stage makes of it."""

    def __call__(self, batch: pa.RecordBatch) -> Outcome:
        """What becomes of the batch."""
        if not batch.num_rows or batch.column("source")[0].as_py() in self._sources:
            return self._step(batch)
        if self._after is None or self._after[0] != batch.schema:
            self._after = batch.schema, self._step(batch.slice(0, 0)).batch.schema
        columns = {name: batch.column(name) for name in batch.schema.names if name != statistics.COLUMN}
        columns |= {
            field.name: pa.nulls(batch.num_rows, field.type)
            for field in self._after[1]
            if field.name not in batch.schema.names and field.name != statistics.COLUMN
        }
        return Outcome(pa.RecordBatch.from_pydict(columns), counts={PASSED: batch.num_rows})


def limited(step: Processor, sources: Collection[str] | None) -> Processor:
    """The step, for the documents of these sources alone; None: for all."""
    return step if sources is None else Limited(step, sources)
