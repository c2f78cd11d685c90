"""The metrics log: rows that another thread writes are all there when they are asked for, and none is lost unsaid."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import UserError
from trainer.metrics import WAITS, MetricsLog, read

ROWS = 20_000


@pytest.fixture
def full_at_a_mebibyte() -> Iterator[None]:
    """A disk that takes a mebibyte of each file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_step_that_hangs_hides_no_row(tmp_path: Path) -> None:
    """Else who looks at a run that stands still would look for the fault in the wrong step."""
    log = MetricsLog(tmp_path / "metrics.jsonl", 0, 0)
    log.write("step", step=1)
    log.write("step", step=2)
    until = time.monotonic() + 30 * WAITS
    while len(read(tmp_path / "metrics.jsonl")) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    assert [row["step"] for row in read(tmp_path / "metrics.jsonl")] == [1, 2]
    log.close()


def test_all_rows_are_there_once_and_in_order(tmp_path: Path) -> None:
    """Else rows that come while the thread writes would be lost, and the curve would have holes."""
    log = MetricsLog(tmp_path / "metrics.jsonl", 0, 0)
    for step in range(1, ROWS + 1):
        log.write("step", step=step)
        if step % 1000 == 0:
            log.sync()
            assert read(tmp_path / "metrics.jsonl")[-1]["step"] == step
        if step % 5000 == 0:
            log.write("evaluation", step=step)
            time.sleep(WAITS)  # the thread's turn
    log.close()
    rows = read(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows if row["kind"] == "step"] == list(range(1, ROWS + 1))
    assert [rows[n - 1]["step"] for n, row in enumerate(rows) if row["kind"] == "evaluation"] == [
        5000,
        10000,
        15000,
        ROWS,
    ]


def test_a_full_disk_ends_the_run_in_words(tmp_path: Path, full_at_a_mebibyte: None) -> None:
    """Else a run would go on without its log, of which a resume takes the rows to be there."""
    log = MetricsLog(tmp_path / "metrics.jsonl", 0, 0)
    with pytest.raises(UserError, match="cannot be written to: File too large"):  # noqa: PT012  (whichever comes first)
        for step in range(1, 100 * ROWS):
            log.write("step", step=step, loss=1 / step)
            if step % 1000 == 0:
                time.sleep(WAITS / 100)
    with pytest.raises(UserError, match="cannot be written to"):
        log.sync()
    with pytest.raises(UserError, match="cannot be written to"):
        log.close()
    steps = [row["step"] for row in read(tmp_path / "metrics.jsonl")]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) > 1000
