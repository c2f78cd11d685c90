"""Stages that hang, fail or die: the run ends, and says which stage, which unit, and where to look."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import promise_helpers as help
import pytest

STAGES = """
import os
import signal
import sys
import time
from dataclasses import dataclass

from stages.base import Outcome, Stage


def _bad(batch):
    return any("the bad one" in (text or "") for text in batch.column("text").to_pylist())


@dataclass(frozen=True, kw_only=True)
class Base(Stage):
    version = 1

    def process(self, batch):
        return self.bad(batch) if _bad(batch) else Outcome(batch)


@dataclass(frozen=True, kw_only=True)
class Hangs(Base):
    name = "hangs"

    def bad(self, batch):
        while True:
            time.sleep(1)


@dataclass(frozen=True, kw_only=True)
class Loops(Base):
    name = "loops"

    def bad(self, batch):
        while True:
            pass


@dataclass(frozen=True, kw_only=True)
class Fails(Base):
    name = "fails"

    def bad(self, batch):
        raise KeyError("no such thing")


@dataclass(frozen=True, kw_only=True)
class Leaves(Base):
    name = "leaves"

    def bad(self, batch):
        sys.exit(0)


@dataclass(frozen=True, kw_only=True)
class Dies(Base):
    name = "dies"

    def bad(self, batch):
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True, kw_only=True)
class Loses(Base):
    name = "loses"

    def bad(self, batch):
        return Outcome(batch.slice(1))


@dataclass(frozen=True, kw_only=True)
class Shuffles(Base):
    name = "shuffles"

    def bad(self, batch):
        return Outcome(batch.take(list(range(batch.num_rows))[::-1]))

"""


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """A folder with stages of a user, and notes in three files, one of which holds the document that they fail on."""
    (tmp_path / "users_stages.py").write_text(STAGES)
    (tmp_path / "notes").mkdir()
    for number, name in enumerate(("early", "bad", "late")):
        word = "the bad one" if name == "bad" else "a good one"
        rows = [json.dumps({"text": f"Note {name} {line} is {word}. " * (4 - number)}) for line in range(20)]
        (tmp_path / "notes" / f"{name}.jsonl").write_text("\n".join(rows))
    return tmp_path


def _recipe(folder: Path, stage: str) -> Path:
    entry = {"source": "notes", "path": "notes/*", "format": "jsonl"}
    data = {"name": "bad", "inputs": [entry], "stages": [{f"users_stages:{stage}": {}}]}
    return help.write_recipe(folder / "r.yaml", data)


def _run(folder: Path, stage: str, *words: object, workers: int = 1) -> str:
    """Runs a recipe with this stage from the folder in which it lies; what the command said, which must fail."""
    recipe = _recipe(folder, stage)
    out = folder / "out"
    status, output = help.run("run", recipe, "--out", out, "--workers", workers, *words, cwd=folder)
    assert status == 1, output
    assert "Traceback" not in output
    return output


@pytest.mark.parametrize("stage", ["Hangs", "Loops"])
def test_a_stage_that_hangs_ends_the_run(bad: Path, stage: str) -> None:
    """Else a run would hang until somebody looks."""
    output = _run(bad, stage, "--stall", 12)  # time enough for the start of a worker on a busy machine
    assert "nothing has moved for 12 s in phase clean" in output
    assert "of bad.jsonl" in output
    assert "--stall" in output
    assert str(bad / "out" / "ledger" / "runs") in output


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stage_that_fails_is_named(bad: Path, workers: int) -> None:
    """Else a mistake in one's own stage would be looked for in the wrong place, or taken for a dead worker."""
    output = _run(bad, "Fails", workers=workers)
    assert "KeyError: 'no such thing' in stage fails (clean/" in output
    assert "of bad.jsonl" in output
    assert "A worker died" not in output
    log = next(word for word in output.split() if word.endswith("/trace,")).rstrip(",")
    assert "users_stages.py" in Path(log).read_text()


def test_a_stage_that_exits_is_named(bad: Path) -> None:
    """Else a stage that calls `sys.exit` would end the run as if it were done."""
    assert "SystemExit: 0 in stage leaves" in _run(bad, "Leaves")


def test_a_stage_that_kills_its_process_is_given_up(bad: Path) -> None:
    """Else the same document would be tried for ever."""
    output = _run(bad, "Dies")
    assert output.count("A worker died; going on") == 3
    assert "workers died 4 times" in output
    assert "of bad.jsonl" in output
    rows = [json.loads(path.read_text())["row"] for path in (bad / "out" / "ledger" / "rows" / "clean").iterdir()]
    names = {row["body"]["input"]["name"] for row in rows}
    assert "early.jsonl" in names  # larger, so it was done first and stays
    assert "bad.jsonl" not in names


@pytest.mark.parametrize("stage", ["Loses", "Shuffles"])
def test_a_stage_that_loses_rows_is_refused(bad: Path, stage: str) -> None:
    """Else a user's stage could lose documents, or give one document's verdict to another."""
    output = _run(bad, stage)
    assert f"stage {stage.lower()} took 20 rows" in output
    assert "must be kept, in its place and with its id, or be dropped once" in output


def test_the_working_folder_gives_stages_and_shadows_nothing(bad: Path) -> None:
    """Else one's own stage would have to be installed first, or one's own folder `pipeline` break the run from inside.

    Workers and the children that guard a stage find it as well.
    """
    for name in ("pipeline", "stages", "trainer", "json", "queue"):
        (bad / f"{name}.py").write_text("raise RuntimeError('the wrong one')")
    (bad / "mine.py").write_text(MINE)
    entry = {"source": "notes", "path": "notes/*", "format": "jsonl"}
    stages = [{"mine:Loud": {}}, {"mine:Guarded": {}}]
    help.write_recipe(bad / "r.yaml", {"name": "own", "inputs": [entry], "stages": stages})

    def script(*args: str) -> str:
        """The installed command, which does not look into the working folder by itself."""
        done = subprocess.run(
            [Path(sys.executable).with_name("corpusmill"), *args], cwd=bad, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    script("run", "r.yaml", "--workers", "2")
    texts = [row["text"] for row in help.rows(bad / "runs" / "own", "documents")]
    assert len(texts) == 60
    assert all(text.startswith("<NOTE ") for text in texts)
    (bad / "page.txt").write_text("a page")
    assert "<A PAGE>" in script("try", "r.yaml", "page.txt", "--json")


MINE = """
from dataclasses import dataclass
import pyarrow as pa
from stages.base import Limits, Outcome, Stage


def _changed(batch, change):
    texts = pa.array([change(text) for text in batch.column("text").to_pylist()], batch.schema.field("text").type)
    return Outcome(batch.set_column(batch.schema.get_field_index("text"), batch.schema.field("text"), texts))


@dataclass(frozen=True, kw_only=True)
class Loud(Stage):
    name = "loud"
    version = 1

    def process(self, batch):
        return _changed(batch, str.upper)


@dataclass(frozen=True, kw_only=True)
class Guarded(Stage):
    name = "guarded"
    version = 1

    def limits(self):
        return Limits(cpu_seconds=100, memory=1 << 30)

    def process(self, batch):
        return _changed(batch, lambda text: f"<{text}>")
"""
