"""Stages in a child process: a page that hangs or crashes costs itself, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest
import xxhash
from bad_stage import Bad
from small_run import a_nursery

from pipeline import forks
from pipeline.errors import UserError
from pipeline.guard import Guard
from stages.base import Outcome
from stages.schema import READ


def batch(texts: list[str]) -> pa.RecordBatch:
    """A batch with these texts."""
    values: dict[str, list[Any]] = {name: [None] * len(texts) for name in READ.names}
    values |= {"text": texts, "url": [f"https://example.org/{number}" for number in range(len(texts))]}
    values["id"] = [xxhash.xxh3_128_digest(str(row).encode()) for row in range(len(texts))]
    return pa.RecordBatch.from_arrays([pa.array(values[f.name], f.type) for f in READ], schema=READ)


def told(outcome: Outcome) -> tuple[list[str], list[tuple[int, str]]]:
    """The texts that were kept; rows and reasons of the others."""
    return outcome.batch.column("text").to_pylist(), [(row, reason) for row, reason, _, _ in outcome.dropped]


def until(gone: psutil.Process) -> bool:
    """Whether a process ends soon."""
    for _ in range(400):
        if not gone.is_running() or gone.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def child_of(guard: Guard) -> psutil.Process:
    """The process at work for it."""
    assert guard._child is not None
    return psutil.Process(guard._child._process.pid)


@pytest.fixture(scope="module", params=["fresh", "forked"])
def guard(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    """A guard over the bad stage, whose child is a fresh process, as in `corpusmill try`, or a fork, as in a run."""
    if request.param == "fresh":
        yield Guard(Bad(), {})
        return
    with pytest.MonkeyPatch.context() as patch, a_nursery(tmp_path_factory.mktemp("nursery")) as nursery:
        patch.setattr(forks, "nursery", nursery.address)
        yield Guard(Bad(), {})


def test_an_outcome_comes_back_as_the_stage_gave_it(guard: Guard) -> None:
    """Documents would change, or lose their reasons, on their way through the child."""
    rows = batch(["one", "drop", "zwei", "三"])
    for given in (rows, rows.slice(1, 2), rows.slice(0, 0)):
        mine, plain = guard(given), Bad().process(given)
        assert mine.batch.equals(plain.batch)
        assert mine.batch.schema.equals(plain.batch.schema)
        assert list(mine.dropped) == list(plain.dropped)
        assert mine.counts == plain.counts
    assert guard.cpu_seconds > 0
    assert guard.peak > 0


@pytest.mark.parametrize(
    ("command", "reason", "limit"),
    [("hang", "cpu_time", 1.0), ("crash", "crashed", None), ("gorge", "memory", 400 << 20)],
)
def test_a_page_at_fault_is_dropped_alone(guard: Guard, command: str, reason: str, limit: float | None) -> None:
    """One page would end the run, or take its neighbours along."""
    texts = ["one", command, "drop", "two", "three"]
    outcome = guard(batch(texts))
    assert told(outcome) == (["ONE", "TWO", "THREE"], [(1, reason), (2, "asked")])
    assert outcome.dropped[0][2:] == (limit, limit)
    assert outcome.counts == {"seen": 4}
    assert told(guard(batch([command]))) == ([], [(0, reason)])
    assert told(guard(batch(["after"]))) == (["AFTER"], [])


def test_the_outcome_does_not_depend_on_the_batches(guard: Guard) -> None:
    """Another number of rows a batch would drop other pages."""
    texts = ["a", "b", "drop", "c", "crash"]
    whole = guard(batch(texts))
    rows = batch(texts)
    for size in (2, 3):
        parts = [guard(rows.slice(start, size)) for start in range(0, len(texts), size)]
        assert pa.concat_batches([part.batch for part in parts]).equals(whole.batch)
        shifted = [(size * part + row, reason) for part, one in enumerate(parts) for row, reason, _, _ in one.dropped]
        assert shifted == told(whole)[1]


def test_a_child_killed_from_outside_costs_nothing(guard: Guard, tmp_path: Path) -> None:
    """An operator's kill, or a fault of the machine, would drop an innocent page."""
    assert told(guard(batch(["a", f"once {tmp_path / 'killed'}", "b"])))[1] == []
    assert (tmp_path / "killed").exists()
    assert told(guard(batch([f"broken {tmp_path / 'broken'}"])))[1] == []
    assert told(guard(batch(["a", f"broken {tmp_path / 'again'}"])))[1] == []
    child = child_of(guard)
    child.kill()
    assert until(child)
    assert told(guard(batch(["c"]))) == (["C"], [])


def test_a_child_that_is_always_killed_ends_the_run(guard: Guard) -> None:
    """A machine without memory would book every page as crashed, and report success (seen in datatrove)."""
    with pytest.raises(UserError, match=r"stage bad was killed .* near https://example.org/1.*max_memory"):
        guard(batch(["a", "always"]).slice(1))
    assert told(guard(batch(["a"]))) == (["A"], [])


def test_what_a_stage_raises_is_raised(guard: Guard) -> None:
    """A broken installation would pass for a bad page."""
    child = child_of(guard)
    with pytest.raises(ValueError, match="no such luck") as caught:
        guard(batch(["a", "raise"]))
    assert "bad_stage.py" in str(caught.value.__cause__)
    with pytest.raises(SystemExit):
        guard(batch(["exit"]))
    assert told(guard(batch(["a"]))) == (["A"], [])
    assert child_of(guard) == child  # an exception is no death


def test_a_large_batch_after_a_small_one(guard: Guard) -> None:
    """Batches above the first one's size would be cut off."""
    text = "x" * 3_000_000
    assert told(guard(batch(["a"])))[0] == ["A"]
    assert told(guard(batch([text, text])))[0] == [text.upper()] * 2
    assert told(guard(batch(["b"])))[0] == ["B"]


def test_the_peak_is_the_child_s_own() -> None:
    """A run would say that it needs twice the memory it needs: Linux books a parent's peak to the child it starts."""
    held = bytearray(os.urandom(1 << 20) * 400)
    guard = Guard(Bad(), {})
    guard(batch(["a"]))
    assert 10 << 20 < guard.peak < len(held)


def test_the_search_for_a_page_at_fault_shows_progress() -> None:
    """A batch with several bad pages would look like a run that hangs."""
    moved: list[int] = []
    watched = Guard(Bad(), {}, progress=lambda: moved.append(1))
    watched(batch(["a", "b", "crash", "c", "d"]))
    assert len(moved) == 4  # a, b, crash, and the rest at once


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_child_ends_with_its_parent(number: int, tmp_path: Path) -> None:
    """Every killed run would leave processes that eat CPU for ever."""
    code = (
        "import sys; from test_guard import *\n"
        "guard = Guard(Bad(seconds=100), {}); guard(batch(['a'])); print(child_of(guard).pid, flush=True)\n"
        "guard(batch([sys.argv[1]]))"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    for text in ("hang", "a"):
        parent = subprocess.Popen(
            [sys.executable, "-c", code if text == "hang" else code + "; import time; time.sleep(1000)", text],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": paths},
        )
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(number)
        parent.communicate()
        assert until(child)


def test_the_child_is_light() -> None:
    """Each worker would start, and hold in memory, a second Beam."""
    code = "import pipeline.guard_child, stages.extract, sys; print({'apache_beam', 'torch'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
