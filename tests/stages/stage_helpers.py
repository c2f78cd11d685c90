"""What the tests of stages share: batches, stages bound to their built-in files, and the folder of large test data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import xxhash

import stages
from stages.base import Outcome, Processor, Stage
from stages.schema import READ

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
DATA = Path(stages.__path__[0]) / "data"

needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the large test data (../shared/data beside the checkout) is not here"
)


def batch(texts: list[str | None], **columns: list[Any]) -> pa.RecordBatch:
    """A batch of the READ schema with these texts; other columns by name."""
    number = len(texts)
    values: dict[str, list[Any]] = {name: [None] * number for name in READ.names}
    values |= {"text": texts, "source": ["test"] * number, **columns}
    values["id"] = [xxhash.xxh3_128_digest(str(row).encode()) for row in range(number)]
    return pa.RecordBatch.from_arrays([pa.array(values[f.name], f.type) for f in READ], schema=READ)


def pages(payloads: list[bytes | None], content_type: str | None = "text/html") -> pa.RecordBatch:
    """A batch of HTML pages."""
    return batch([None] * len(payloads), payload=payloads, content_type=[content_type] * len(payloads))


def bound(stage: Stage) -> Processor:
    """The stage with its built-in files."""
    names = {role: path.removeprefix("builtin:") for role, path in stage.files().items()}
    return stage.bind({role: (DATA / name).read_bytes() for role, name in names.items()})


def texts(outcome: Outcome) -> list[str]:
    """The texts that were kept."""
    kept: list[str] = outcome.batch.column("text").to_pylist()
    return kept


def reasons(outcome: Outcome) -> list[tuple[int, str]]:
    """Rows and reasons of what was dropped."""
    return [(row, reason) for row, reason, _, _ in outcome.dropped]
