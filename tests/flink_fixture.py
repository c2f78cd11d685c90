"""One Flink cluster for all tests of a session, whichever test process they run in, used by one test at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import psutil
import pytest
from loopback import ENVIRONMENT

from pipeline.cluster.flink import TASK_MANAGERS
from pipeline.cluster.jars import JarsMissing, fetch
from pipeline.cluster.local import Cluster, ClusterFailed, running

COUNTED = pytest.StashKey[int]()
NAME = "flink_cluster"


def count(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Counts the tests of the cluster: behind the last one it ends, and its memory is free for others."""
    config.stash[COUNTED] = sum(NAME in getattr(item, "fixturenames", ()) for item in items)


@pytest.fixture(scope="session")
def flink_jars() -> None:
    """Skips what needs a cluster's jars where they cannot be had."""
    if sys.platform != "linux":
        pytest.skip("a cluster on one machine needs Linux")
    if not shutil.which("java"):
        pytest.skip("no java here: apt-get install default-jre-headless")
    try:
        fetch()
    except JarsMissing as error:
        pytest.skip(str(error))


@pytest.fixture
def flink_cluster(
    flink_jars: None, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """A running cluster that is this test's alone while it lasts; every part lives when it begins.

    Started by the first test that wants it, it ends behind the last one, and with the session at the latest. Parts
    that the test killed may stay down: they are started again for the next one.
    """
    base, session = tmp_path_factory.getbasetemp(), os.getpid()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base, session = base.parent, os.getppid()
    folder = base / NAME
    folder.mkdir(exist_ok=True)
    with (folder / "test.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        cluster = Cluster(folder)
        with mock.patch.dict(os.environ, ENVIRONMENT):  # workers reach the tests' own stores
            if running(folder) is None or not _mended(cluster):
                _ended(folder)
                call("up", folder, "--no-keep", "--follow", str(session))
        yield cluster
        done = folder / "tests.done"
        with done.open("a") as file:
            file.write(".")
        if done.stat().st_size >= pytestconfig.stash[COUNTED]:
            _ended(folder)


def call(what: str, folder: Path, *options: str) -> str:
    """What `python -m pipeline.cluster` says; it must succeed."""
    words = [sys.executable, "-m", "pipeline.cluster", what, "--folder", str(folder), *options]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _mended(cluster: Cluster) -> bool:
    """Starts what the test before left dead; returns whether all is of use then."""
    try:
        for name, pid in cluster.facts.parts.items():
            if pid is None:
                cluster.begin(name)
        cluster.wait_ready(TASK_MANAGERS)
    except ClusterFailed:
        return False
    return True


def _ended(folder: Path) -> None:
    """Ends the cluster as a user does. A process of it that is left then fails the test, for it would stay for good."""
    call("down", folder)
    commands = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert [command for command in commands if str(folder) in command] == []
    assert running(folder) is None
