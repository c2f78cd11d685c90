"""Keys, tokens and passwords out of the text."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Annotated, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from annotated_types import Ge

from stages.base import Outcome, Stage
from stages.pii.found import Found
from stages.pii.replace import Mode, replaced
from stages.secrets.patterns import ASSIGNMENT, KINDS, NAMES, secrets

_KEY = xxhash.xxh3_64_intdigest(b"corpusmill/secrets")


@dataclass(frozen=True, kw_only=True)
class Secrets(Stage):
    """Replaces API keys, tokens, private key blocks and passwords in URLs.

    A secret is known by the form that its service gives it, and by its random part being random: what stands in for one
    in a manual (`AKIAIOSFODNN7EXAMPLE`, `xxxxxxxx`, `your-api-key-here`) stays. Code and documentation hold most of
    them.

    Writes `secrets`: a list of (type, start, end) in code points of the text as it leaves the stage. Counts finds
    by type
    and `characters_cut`, those of the values that were replaced.
    """

    name: ClassVar[str] = "secrets"
    version: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ("regex",)

    types: tuple[str, ...] = NAMES
    """What is looked for, by name; all by default."""
    assignments: bool = False
    """Also what is assigned to a name such as `password`, `token` or `api_key`, where it looks random (`assignment`).
    Off: code that compares or derives such values is cut with it."""
    mode: Mode = "placeholder"
    """`placeholder`: `placeholder` takes its place; `fake`: a value that is none, the same for the same value within a
    document; `drop`: documents with more than `max_found` finds go as `found`; `tag`: only the column."""
    placeholder: str = "<SECRET>"
    """What stands in place of a secret."""
    max_found: Annotated[int, Ge(0)] = 0
    """Most finds that a document may have with `mode: drop`."""

    def __post_init__(self) -> None:
        for name in self.types:
            if name not in NAMES:
                near = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.4)
                hint = f"Did you mean '{near[0]}'?" if near else f"There are: {', '.join(NAMES)}."
                raise ValueError(f"types: there is no '{name}'. {hint}")

    def process(self, batch: pa.RecordBatch) -> Outcome:
        kinds = tuple(kind for kind in KINDS if kind.name in self.types) + (ASSIGNMENT,) * self.assignments
        found: dict[int, tuple[str, list[Found]]] = {}
        if kinds and batch.num_rows:
            # RE2 looks at every text in one pass; no more than it lets through becomes a string.
            column = batch.column("text")
            gate = pc.match_substring_regex(column, "|".join(f"(?:{kind.gate})" for kind in kinds))
            for row in pc.indices_nonzero(gate.fill_null(False)).to_pylist():
                text = column[row].as_py()
                finds = secrets(text, kinds)
                if finds:
                    found[row] = text, finds
        written = None
        if self.mode == "placeholder":
            written = lambda row, one: self.placeholder  # noqa: E731
        elif self.mode == "fake" and found:
            ids = batch.column("id")
            written = lambda row, one: _fake(ids[row].as_py() or b"", one)  # noqa: E731
        return replaced(batch, found, written, "secrets", ("found", self.max_found) if self.mode == "drop" else None)


def _fake(document: bytes, one: Found) -> str:
    """A value of no form that a service knows, by a keyed hash of document and value."""
    return f"EXAMPLE{xxhash.xxh3_64_hexdigest(document + one.value.encode(), seed=_KEY)}"
