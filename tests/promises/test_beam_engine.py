"""Beam under the run: its coder for batches, the runners that are refused, and equal bytes on another one."""

from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import promise_helpers as help
import pyarrow as pa
import pytest
from apache_beam.coders import registry
from hypothesis import given, settings
from hypothesis import strategies as st
from promise_helpers import Small

from pipeline import coders, engine
from pipeline.coders import ArrowBatchCoder
from pipeline.desk import Desk
from pipeline.driver import RunRequest, check_request
from pipeline.errors import DamageError, RecipeError, UserError
from pipeline.failures import Failure, UnitFailed
from pipeline.ledger import Ledger, Staged

SCHEMA = pa.schema(
    [("id", pa.binary(16)), ("text", pa.string()), ("score", pa.float64()), ("many", pa.list_(pa.int32()))]
)


def _batch(texts: list[str | None]) -> pa.RecordBatch:
    rows = [
        {"id": None if text is None else (text.encode() + bytes(16))[:16], "text": text, "score": None, "many": [1, 2]}
        for text in texts
    ]
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


@given(st.lists(st.none() | st.text(st.characters(codec="utf-8"))), st.integers(0, 5), st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_batches_come_back_from_their_coder(texts: list[str | None], start: int, length: int) -> None:
    """Else what travels between workers would change on its way."""
    coder = ArrowBatchCoder()
    for batch in (_batch(texts), _batch(texts).slice(start, length)):
        back = coder.decode(coder.encode(batch))
        assert back.equals(batch)
        assert back.schema == batch.schema
        assert coder.encode(back) == coder.encode(batch)


def test_a_slice_leaves_its_parent_behind() -> None:
    """Else one row would ship the buffers of all rows, as pickling does."""
    batch = _batch(["x" * 1000] * 1000)
    assert len(ArrowBatchCoder().encode(batch.slice(500, 1))) < 4_000


def test_beam_codes_batches_with_it() -> None:
    """Else Beam would fall back to pickling without a word."""
    coders.register()
    assert isinstance(registry.get_coder(pa.RecordBatch), ArrowBatchCoder)
    assert ArrowBatchCoder().is_deterministic()
    assert ArrowBatchCoder() == ArrowBatchCoder()
    hints = beam.ParDo(engine.Work(Desk(Path("desk")))).with_output_types(pa.RecordBatch)
    assert hints.get_type_hints().simple_output_type("work") is pa.RecordBatch


@pytest.mark.parametrize(
    ("runner", "reason"),
    [("DirectRunner", "download"), ("DaskRunner", "loses data silently"), ("flnik", "Did you mean 'flink'")],
)
def test_runners_that_are_refused(runner: str, reason: str) -> None:
    """Else a runner that loses data, or fetches programs, would be taken for one that works."""
    with pytest.raises(RecipeError, match=reason) as refused:
        check_request(RunRequest(runner=runner))
    assert f"--runner {runner}" in str(refused.value)


def test_a_refused_runner_ends_the_command(small: Small, tmp_path: Path) -> None:
    """Else the refusal would come after some work, or as a traceback."""
    status, output = help.run("run", small.recipe, "--out", tmp_path / "out", "--runner", "DaskRunner")
    assert status == 2
    assert output.startswith("corpusmill: --runner DaskRunner is refused")
    assert not (tmp_path / "out").exists()


def test_another_runner_gives_equal_bytes(small: Small, tmp_path: Path) -> None:
    """Else the corpus would depend on where it was made."""
    out = tmp_path / "out"
    status, output = help.run("run", small.recipe, "--out", out, "--runner", "BundleBasedDirectRunner")
    assert status == 0, output
    assert help.shards(out) == small.shards
    assert help.statistics(help.inspect(out)) == small.statistics


def test_a_failure_survives_whatever_a_runner_wraps_it_in() -> None:
    """Else the user would read of gRPC instead of the file that is missing."""
    failure = Failure.of(UserError("the file 'ä b' is\nmissing"), "clean/0123")
    wrapped = RuntimeError(f"Traceback ...\n  File x\n{UnitFailed(failure)!r} [while running 'work']\n")
    found = UnitFailed.within(wrapped)
    assert found is not None
    assert found.failure == failure
    assert UnitFailed.within(RuntimeError("something else")) is None


def test_two_attempts_at_one_unit(tmp_path: Path) -> None:
    """Else a stage that gives another result each time would go unnoticed, or the later attempt win by chance."""
    ledger = Ledger(tmp_path)
    ledger.folder.mkdir()
    ledger.create("two")

    def attempt(data: bytes) -> list[Staged]:
        path = ledger.attempt() / "kept"
        path.write_bytes(data)
        return [Staged(path, "clean/0123.parquet")]

    row = ledger.commit("clean", "0123", attempt(b"one"), {"documents": 1})
    assert ledger.commit("clean", "0123", attempt(b"one"), {"documents": 1}) == row
    with pytest.raises(DamageError, match="gave different results"):
        ledger.commit("clean", "0123", attempt(b"other"), {"documents": 1})
    assert (tmp_path / "clean" / "0123.parquet").read_bytes() == b"one"


def test_counts_of_workers_add_up(tmp_path: Path) -> None:
    """Else a unit that was lost on its way would not be missed, or a phase with nothing to do fail on its sums."""
    desk = Desk(tmp_path)
    assert desk.sums() == {"units": 0, "parts": 0, "bytes": 0}
    counts = [{"units": 1, "parts": 2, "bytes": 30}, {"units": 1, "parts": 0, "bytes": 4}]
    engine.note((b"", [pa.RecordBatch.from_pylist([one], schema=engine.COUNTS) for one in counts]), desk)
    assert desk.sums() == {"units": 2, "parts": 2, "bytes": 34}
