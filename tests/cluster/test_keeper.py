"""The process that owns a cluster's parts, here with small ones: whatever happens to it, none outlives it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.cluster import keeper as keeping
from pipeline.cluster import local
from pipeline.cluster import state as states
from pipeline.cluster.local import Cluster, ClusterFailed, running
from pipeline.errors import UserError
from pipeline.processes import alive

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a cluster on one machine needs Linux")

PARENT = "import subprocess, time; subprocess.Popen(['sleep', '1000']); time.sleep(1000)"
Begin = Callable[..., "tuple[subprocess.Popen[bytes], dict[str, int]]"]


def state(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "cluster.json").read_text()))


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Starts a keeper of a part that sleeps and of one with a child; returns it and the processes by name."""
    started: list[subprocess.Popen[bytes]] = []

    def start(keep: bool = False, follow: int | None = None) -> tuple[subprocess.Popen[bytes], dict[str, int]]:
        commands = {"sleeper": ["sleep", "1000"], "parent": [sys.executable, "-c", PARENT]}
        parts = [{"name": name, "command": command, "environment": {}} for name, command in commands.items()]
        order = {"facts": {}, "keep": keep, "follow": follow, "parts": parts}
        (tmp_path / "order.json").write_text(json.dumps(order))
        for name in ("logs", "start"):
            (tmp_path / name).mkdir(exist_ok=True)
        process = subprocess.Popen([sys.executable, "-m", "pipeline.cluster.keeper", str(tmp_path)])
        started.append(process)
        until((tmp_path / "cluster.json").exists)
        pids: dict[str, int] = state(tmp_path)["parts"]
        until(lambda: len(psutil.Process(pids["parent"]).children()) == 1)
        return process, pids | {"child": psutil.Process(pids["parent"]).children()[0].pid}

    yield start
    for process in started:
        process.terminate()
        process.wait(10)


def test_ends_all_with_itself(begin: Begin, tmp_path: Path) -> None:
    """Else `make cluster-down` would leave processes, also those that a part had started."""
    process, pids = begin()
    process.terminate()
    assert process.wait(10) == 0
    assert not any(map(alive, pids.values()))
    assert not (tmp_path / "cluster.json").exists()


def test_killed_outright_leaves_no_part(begin: Begin) -> None:
    """Else a killed test session would leave gigabytes of Java behind."""
    process, pids = begin()
    process.kill()
    until(lambda: not alive(pids["sleeper"]) and not alive(pids["parent"]))
    os.kill(pids["child"], signal.SIGKILL)  # what a part started, it must mind itself: pools and JVMs do


def test_ends_with_the_process_that_it_follows(begin: Begin) -> None:
    """Else a killed test session would leave a cluster behind."""
    followed = subprocess.Popen(["sleep", "1000"])
    process, pids = begin(follow=followed.pid)
    followed.kill()
    followed.wait()
    assert process.wait(10) == 0
    assert not any(map(alive, pids.values()))


def test_starts_anew_what_died_and_ends_what_it_left(begin: Begin, tmp_path: Path) -> None:
    """Else a run on the cluster would wait for a machine that nobody brings back."""
    _, pids = begin(keep=True)
    os.kill(pids["parent"], signal.SIGKILL)
    until(lambda: state(tmp_path)["parts"]["parent"] not in (None, pids["parent"]))
    assert not alive(pids["child"])
    assert state(tmp_path)["parts"]["sleeper"] == pids["sleeper"]


def test_starts_on_request_alone_where_keeping_is_off(begin: Begin, tmp_path: Path) -> None:
    """Else a test of a lost machine would find it back before it looks."""
    _, pids = begin()
    os.kill(pids["sleeper"], signal.SIGKILL)
    until(lambda: state(tmp_path)["parts"]["sleeper"] is None)
    time.sleep(keeping.PAUSE + 0.5)
    assert state(tmp_path)["parts"]["sleeper"] is None
    (tmp_path / "start" / "sleeper").touch()
    until(lambda: state(tmp_path)["parts"]["sleeper"])


def test_two_starts_at_once_are_one(flink_jars: None, tmp_path: Path) -> None:
    """Else the second of two people who type `make cluster-up` would end what the first one began."""
    with (tmp_path / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ClusterFailed, match="is being started in"):
            Cluster(tmp_path).start()
    assert not (tmp_path / "order.json").exists()


def test_part_that_cannot_start_is_named_with_its_reason(
    flink_jars: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else `make cluster-up` would wait for minutes, and not say for what."""
    sleeping = {"environment": {}, "command": ["sleep", "1000"]}
    broken = {"environment": {}, "command": ["sh", "-c", "echo 'Caused by: no such port'; exit 1"]}
    parts = [{"name": "job-manager", **sleeping}, {"name": "task-manager-1", **broken}]
    monkeypatch.setattr(local, "_parts", lambda *_: parts)
    with pytest.raises(ClusterFailed, match=r"(?s)task-manager-1 ended.*Caused by: no such port"):
        Cluster(tmp_path, keep=True).start()
    assert running(tmp_path) is None


def test_second_keeper_of_a_folder_is_refused(begin: Begin, tmp_path: Path) -> None:
    """Else two clusters would write one state, and one of them would be lost from sight."""
    begin()
    assert keeping.main(tmp_path) == keeping.BUSY


def test_a_folder_that_something_else_holds_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else `make cluster-down` would wait for ever, as for a keeper on another machine that shares the folder."""
    monkeypatch.setattr(states, "LONGEST", 0.3)
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="does not end"):
            states.end(tmp_path)
