"""A user's stage that gives documents a number."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from stages.base import Outcome, Stage, with_column


@dataclass(frozen=True, kw_only=True)
class Shortness(Stage):
    """The shorter a text, the better."""

    name = "shortness"
    version = 1

    def process(self, batch: pa.RecordBatch) -> Outcome:
        """All rows, with a column `shortness`."""
        length = pa.compute.utf8_length(batch.column("text"))
        return Outcome(with_column(batch, "shortness", pa.compute.negate(length)))


@dataclass(frozen=True, kw_only=True)
class Hostile(Stage):
    """Drops what says so, for a reason that is markup."""

    name = "hostile"
    version = 1

    def process(self, batch: pa.RecordBatch) -> Outcome:
        """The rows without the word REFUSED."""
        refused = pa.compute.match_substring(batch.column("text"), "REFUSED")
        rows = [row for row, yes in enumerate(refused.to_pylist()) if yes]
        kept = batch.filter(pa.compute.invert(refused))
        return Outcome(kept, [(row, "<script>document.title='pwned'</script>", 3.0, 2.0) for row in rows])
