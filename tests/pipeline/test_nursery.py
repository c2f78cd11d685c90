"""The process that workers are forked from: what it tells, whom it forks, and that nobody outlives their asker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml
from small_run import a_nursery, write_recipe

from pipeline import forks, nursery
from pipeline.recipe import read_recipe
from pipeline.work import Context

pytestmark = pytest.mark.skipif(not nursery.available(), reason="processes are forked on Linux only")


def held(where: nursery.Nursery) -> tuple[forks.Forked, int]:
    """A child that waits for its order, and the descriptor that it would come by."""
    theirs, ours = os.pipe()
    shared = os.memfd_create("test")
    try:
        return forks.Forked(where.address, forks.GUARDED, [theirs, 1, 2, shared]), ours
    finally:
        os.close(theirs)
        os.close(shared)


def test_a_child_lives_as_long_as_it_is_asked_for(tmp_path: Path) -> None:
    """Workers of a run that was killed would go on, and eat CPU for ever."""
    with a_nursery(tmp_path) as where:
        child, pipe = held(where)
        assert psutil.Process(child.pid).ppid() == where.group
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.05)
        child.kill()
        assert child.wait(60) == -signal.SIGKILL
        os.close(pipe)

        code = (
            "import os, sys; from pipeline.forks import *; r, w = os.pipe(); m = os.memfd_create('x')\n"
            "print(Forked(sys.argv[1], GUARDED, [r, 1, 2, m]).pid, flush=True); os.kill(os.getpid(), 9)"
        )
        asker = subprocess.run([sys.executable, "-c", code, where.address], stdout=subprocess.PIPE, check=False)
        assert asker.returncode == -signal.SIGKILL
        assert psutil.wait_procs(processes(int(asker.stdout)), timeout=60)[1] == []

        other, pipe = held(where)
    assert psutil.wait_procs(processes(other.pid), timeout=60)[1] == []
    assert other.wait(60) == -signal.SIGKILL  # the nursery cannot tell any more
    os.close(pipe)


def test_its_children_end_with_it(tmp_path: Path) -> None:
    """The system may take it in want of memory: what nobody watches any more would go on."""
    with a_nursery(tmp_path) as where:
        child, pipe = held(where)
        os.kill(where.group, signal.SIGKILL)
        assert psutil.wait_procs(processes(child.pid), timeout=60)[1] == []
        os.close(pipe)


def processes(pid: int) -> list[psutil.Process]:
    """The process of this number, if it is still there."""
    try:
        return [psutil.Process(pid)]
    except psutil.NoSuchProcess:
        return []


def test_a_broken_request_costs_only_itself(tmp_path: Path) -> None:
    """A client that dies as it asks would take every worker of the run along."""
    with a_nursery(tmp_path) as where:
        with forks.socket.socket(forks.socket.AF_UNIX) as line:
            line.connect(forks.place(where.address))
            line.sendall(forks.SIZE.pack(1000) + b"{")
        few = (tmp_path / "few").open("w+")
        with forks.socket.socket(forks.socket.AF_UNIX) as line:  # fewer descriptors than it says, as where they ran out
            line.connect(forks.place(where.address))
            ask = json.dumps({"kind": forks.GUARDED, "descriptors": 4}).encode()
            forks.socket.send_fds(line, [forks.SIZE.pack(len(ask))], [few.fileno()] * 3)
            line.sendall(ask)
            assert line.recv(1) == b""
        few.seek(0)
        assert "no process" in few.read()
        child, pipe = held(where)
        assert processes(child.pid)
        os.close(pipe)  # no order will come
        assert child.wait(60) != -signal.SIGKILL


def test_stages_that_cannot_be_bound_are_told(tmp_path: Path) -> None:
    """A list in the wrong form would be found out by a worker, when the run has begun."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "m.bin").write_bytes(b"no model at all")
    recipe = write_recipe(
        tmp_path, stages=[{"classify": {"model": "models/m.bin", "column": "topic"}}, {"normalize": {}}]
    )
    context = Context(tmp_path / "out", tmp_path, read_recipe(recipe, bind=False))
    where = nursery.Nursery(context)
    try:
        (problem,) = where.problems()
    finally:
        where.close()
    assert problem.startswith("stages.classify: ")
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "run", str(recipe), "--out", str(tmp_path / "out")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert problem.split(": ", 1)[1][:40] in " ".join(done.stderr.split())
    assert str(recipe) in "".join(done.stderr.split())
    assert not (tmp_path / "out").exists()
    assert yaml.safe_load(recipe.read_text())
