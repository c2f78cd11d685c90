"""What a stage is: settings, and one method from a batch to the kept rows and the verdicts.

A stage is a frozen dataclass; its fields are what a recipe may set. It is pure: the same batch gives the
same outcome on any worker, and a row's outcome never depends on the other rows of its batch.
"""

from __future__ import annotations

import dataclasses
import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import ConfigDict, TypeAdapter

from stages import kernels
from stages.releases import release

BROKEN = "broken"
"""Which rules a row breaks, as bits: bit i for the i-th setting of `Outcome.measures`, the last for all other rules."""
_OTHERS = 1 << 31


@dataclass(frozen=True)
class Rule:
    """One reason to drop rows: where `hit` is true, `value` stood against `limit` (one for all rows, or one each)."""

    reason: str
    hit: npt.NDArray[np.bool_]
    value: npt.NDArray[Any] | None = None
    limit: float | npt.NDArray[np.float64] | None = None
    setting: str | None = None
    """The setting that holds the limit: `min_...` or `max_...`. Values of rules that name it are kept for `inspect`."""


@dataclass(frozen=True)
class Outcome:
    """What a stage made of a batch of n rows.

    `batch` holds the kept rows in their order, with the stage's columns added. `dropped` lists the others
    as (row number in the input batch, reason, value, limit), ascending by row. `counts` are figures that
    the funnel shows beside the stage, such as characters cut; they add up over batches.
    """

    batch: pa.RecordBatch
    dropped: Sequence[tuple[int, str, float | None, float | None]] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    measures: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    """For each of the n rows, dropped or not: the values that rules were held against, by setting, and `BROKEN`."""
    findings: Mapping[str, pa.Array] = field(default_factory=dict)
    """For each of the n rows, dropped or not: what else a report of the stage needs, kept beside the measures."""
    groups: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    """Which of the n rows are in which group. Later stages' drops are counted by group, so that the report can say
    whether a filter takes more of one than of another; the same names whatever the batch."""


Processor = Callable[[pa.RecordBatch], Outcome]


@dataclass(frozen=True)
class Limits:
    """What one row may cost a stage that runs in a child process: the last line of defence behind its own limits."""

    cpu_seconds: int
    """CPU time, never wall clock: a busy machine must not cost documents."""
    memory: int
    """Bytes of address space beyond what the stage has once it is ready."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Base of all stages. A subclass sets `name` and `version` and writes `process`."""

    name: ClassVar[str]
    """How recipes call it."""
    version: ClassVar[int]
    """Raised whenever the same settings give another outcome; part of the resume key."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Distributions whose release changes the outcome; their versions are part of the resume key."""
    extra: ClassVar[str | None] = None
    """The extra of corpusmill that brings `packages`, where the base installation does not."""
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    """A setting that the stage does not have is an error of the recipe."""

    def process(self, batch: pa.RecordBatch) -> Outcome:
        """What becomes of one batch. A stage that reads files writes `bind` in its place."""
        raise NotImplementedError(f"{type(self).__name__} reads files: call bind(files), which gives the processor")

    def files(self) -> dict[str, str]:
        """Files that the stage reads, role to path; `builtin:NAME` is a file under stages/data.

        The pipeline opens them, puts their digests into the resume key and hands their bytes to `bind`. A role that
        ends with `/` may be a folder: each of its files comes as the role and the file's path within.
        """
        return {}

    def limits(self) -> Limits | None:
        """Limits of a stage whose libraries may hang or crash; None for one that is safe within the worker.

        The pipeline runs a stage with limits in a child process. A row that breaks one is dropped as `cpu_time`,
        `memory` or `crashed`; rows beside it keep their outcome.
        """
        return None

    def length_rules(self) -> Stage | None:
        """The stage with no rules but those on a text's length, or None where it has none.

        A phase behind the stages that cuts texts holds what it leaves against these rules again; what the stage makes
        of the batch besides is not looked at.
        """
        return None

    def bind(self, files: Mapping[str, bytes]) -> Processor:
        """The stage ready for work, given the contents of its files by role."""
        return self.process

    def fingerprint(self) -> dict[str, object]:
        """Everything but its files that the outcome depends on: name, version, settings, packages, Unicode data, and
        the sources of all kernels."""
        return {
            "stage": self.name,
            "version": self.version,
            "settings": dataclasses.asdict(self),
            "packages": {package: release(package) for package in self.packages},
            "unicode": unicodedata.unidata_version,
            "kernels": kernels.digest(),
        }


def make(kind: type[Stage], settings: Mapping[str, Any]) -> Stage:
    """The stage with these settings. Raises pydantic.ValidationError: unknown setting, another type, out of range.

    By way of JSON, where pydantic is strict about types and still takes a list for a tuple.
    """
    return TypeAdapter(kind).validate_json(json.dumps(settings, default=str), strict=True)


def judged(batch: pa.RecordBatch, rules: Sequence[Rule], counts: Mapping[str, int] | None = None) -> Outcome:
    """The outcome where each row that breaks a rule is dropped, under the first rule that it breaks."""
    verdict = np.full(batch.num_rows, -1, np.int32)
    for number, rule in enumerate(rules):
        verdict[(verdict < 0) & rule.hit] = number
    dropped = []
    for row in np.flatnonzero(verdict >= 0).tolist():
        rule = rules[verdict[row]]
        value = None if rule.value is None else float(rule.value[row])
        limit = float(rule.limit[row]) if isinstance(rule.limit, np.ndarray) else rule.limit
        dropped.append((row, rule.reason, value, limit))
    kept = batch if not dropped else batch.filter(pa.array(verdict < 0))
    measures = {rule.setting: rule.value for rule in rules if rule.setting and rule.value is not None}
    if measures:
        bits = {setting: 1 << number for number, setting in enumerate(measures)}
        measures[BROKEN] = np.zeros(batch.num_rows, np.uint32)
        for rule in rules:
            measures[BROKEN] |= np.where(rule.hit, np.uint32(bits.get(rule.setting or "", _OTHERS)), np.uint32(0))
    return Outcome(kept, dropped, counts or {}, measures)


def with_column(batch: pa.RecordBatch, name: str, column: pa.Array) -> pa.RecordBatch:
    """The batch with `column` put in place of, or behind, its columns."""
    index = batch.schema.get_field_index(name)
    if index < 0:
        return batch.append_column(name, column)
    return batch.set_column(index, pa.field(name, column.type), column)
