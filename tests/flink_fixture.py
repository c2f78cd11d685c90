"""One Flink cluster for all tests of a session, whichever test process they run in, used by one test at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator

import pytest

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
        cluster = Cluster(folder, follow=session)
        if running(folder) is None:
            cluster.start()
        else:
            _mend(cluster)
        yield cluster
        done = folder / "tests.done"
        with done.open("a") as file:
            file.write(".")
        if done.stat().st_size >= pytestconfig.stash[COUNTED]:
            cluster.stop()


def _mend(cluster: Cluster) -> None:
    """Starts what the test before left dead; a cluster that cannot be mended is started anew."""
    try:
        for name, pid in cluster.facts.parts.items():
            if pid is None:
                cluster.begin(name)
        cluster.wait_ready(TASK_MANAGERS)
    except ClusterFailed:
        cluster.stop()
        cluster.start()
