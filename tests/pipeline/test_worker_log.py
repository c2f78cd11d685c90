"""Logs of workers on other hosts in the folder of the run: what is there when the worker, or its host, is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.workerlog import LIMIT

WORK = """
import logging, os, sys, time
from pathlib import Path
from pipeline import workerlog
from pipeline.desk import Desk
workerlog.INTERVAL = 0.05
print("before it worked for this run", file=sys.stderr)
desk = Desk(Path(sys.argv[1]) / "clean-0")
log = workerlog.of(desk)
assert workerlog.of(Desk(Path(sys.argv[1]) / "host-0")) is log
with log.during("clean/1"):
    print("printed", flush=True)
    logging.getLogger().warning("logged")
try:
    with log.during("clean/2"):
        raise ValueError("no page")
except ValueError:
    pass
with log.during("clean/3"):
    for number in range(int(sys.argv[2])):
        print("line", number, flush=True)
    time.sleep(60)
"""


def begun(folder: Path, lines: int, where: Path | None) -> tuple[subprocess.Popen[bytes], Path]:
    """A worker that prints to this file, or to a pipe, and its log once its last line is there."""
    (folder / "clean-0").mkdir(parents=True)
    to = where.open("ab") if where else subprocess.PIPE
    worker = subprocess.Popen([sys.executable, "-u", "-c", WORK, str(folder), str(lines)], stdout=to, stderr=to)
    for _ in range(1200):
        logs = list((folder / "workers").glob("*.log"))
        if logs and logs[0].read_text().rstrip().endswith(f"line {lines - 1}"):
            return worker, logs[0]
        assert worker.poll() is None
        time.sleep(0.05)
    raise AssertionError("the last line is not there")


@pytest.mark.parametrize("to_a_file", [True, False])
def test_a_worker_that_is_killed_leaves_its_log(tmp_path: Path, *, to_a_file: bool) -> None:
    """Why a worker died stands in its last lines, on a host that may be gone."""
    worker, path = begun(tmp_path, 3, tmp_path / "stderr" if to_a_file else None)
    os.kill(worker.pid, signal.SIGKILL)
    worker.communicate()
    text = path.read_text()
    assert path.name.endswith(f"-{worker.pid}.log")
    assert "before it worked" not in text
    order = ["clean/1: begun", "printed", "logged", "clean/1: done", "ValueError: no page", "clean/2: failed", "line 2"]
    places = [text.index(item) for item in order]
    assert places == sorted(places)


def test_a_log_is_bounded(tmp_path: Path) -> None:
    """A worker that prints for weeks would be put down anew, and ever larger, every three seconds."""
    worker, path = begun(tmp_path, 60_000, tmp_path / "stderr")
    worker.kill()
    worker.wait()
    assert LIMIT - 100 < path.stat().st_size <= LIMIT
    assert path.read_text().startswith("line ")
    assert list(path.parent.iterdir()) == [path]
