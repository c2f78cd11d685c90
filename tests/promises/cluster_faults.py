"""Every part of a cluster lost in every kind of phase, with real signals: `make bench-faults`, about half an hour.

The tests have one fault of each kind; here are all pairs. Whatever befell it, a run must end with the shards and the
statistics of the undisturbed one, and leave no job behind. Flink with a folder, Flink with all in an object store,
Spark.
"""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import flink_helpers as flink
import promise_helpers as help
import pytest
from loopback import ENVIRONMENT, download, moto_app, serving
from promise_helpers import Small

from pipeline.cluster.local import Cluster

MOMENTS = ("clean", "signatures", "join", "documents", "tokenise", "shard")
DEEDS: dict[str, Callable[[Cluster], None]] = {
    "task manager": lambda cluster: cluster.kill_task_manager(1),
    "worker pool": lambda cluster: cluster.kill_worker_pool(2),
    "job manager": lambda cluster: cluster.restart_job_manager(),
}


def check(out: Path, small: Small) -> None:
    """The run's result is that of the undisturbed one."""
    assert help.shards(out) == small.shards
    assert help.statistics(help.inspect(out)) == small.statistics


@pytest.mark.parametrize("phase", MOMENTS)
@pytest.mark.parametrize("part", DEEDS)
def test_part_lost(flink_cluster: Cluster, small: Small, tmp_path: Path, part: str, phase: str) -> None:
    """Else a run of days would not outlive the machines that it runs on."""
    out = tmp_path / "out"
    process = flink.start(flink_cluster, small.recipe, out)
    flink.when(process, out, phase, lambda: DEEDS[part](flink_cluster))
    status, output = help.finish(process)
    assert status == 0, output
    check(out, small)
    assert flink.at_work(flink_cluster) == []


@pytest.mark.parametrize("phase", MOMENTS)
def test_driver_lost(flink_cluster: Cluster, small: Small, tmp_path: Path, phase: str) -> None:
    """Else whoever closes a laptop would lose the work of the cluster."""
    out = tmp_path / "out"
    process = flink.start(flink_cluster, small.recipe, out)
    flink.when(process, out, phase, lambda: os.kill(process.pid, signal.SIGKILL))
    assert help.finish(process)[0] == -signal.SIGKILL
    status, output = help.finish(flink.start(flink_cluster, small.recipe, out))
    assert status == 0, output
    check(out, small)


@pytest.mark.parametrize("phase", ["clean", "join", "shard"])
def test_driver_and_task_manager_lost_in_a_store(
    flink_cluster: Cluster, small: Small, tmp_path: Path, phase: str
) -> None:
    """Else what a half-dead attempt still writes could come between, where there is no rename and no kernel's lock."""
    with serving(moto_app()) as where:
        path = flink.recipe_in_store(small, where, tmp_path)
        words = ("run", path, "--out", "s3://mill/run", *flink.flags(flink_cluster))
        reach = ENVIRONMENT | {"CORPUSMILL_SCRATCH": str(tmp_path / "cache"), "CORPUSMILL_LEASE": "4"}
        process = help.start(*words, env=reach)
        prefix = f"run/ledger/rows/{phase}/"
        assert help.until(lambda: process.poll() is not None or download(where, "mill", prefix))
        assert process.poll() is None, process.communicate()[0]
        flink_cluster.kill_task_manager(1)
        os.kill(process.pid, signal.SIGKILL)
        assert help.finish(process)[0] == -signal.SIGKILL
        status, output = help.run(*words, env=reach)
        assert status == 0, output
        found = {name.rpartition("/")[2]: data for name, data in download(where, "mill", "run/shards/").items()}
        status, output = help.run("verify", "s3://mill/run", env=reach | {"AWS_ENDPOINT_URL": where})
        assert status == 0, output
    kept = {name: data for name, data in found.items() if name.endswith((".bin", ".idx"))}
    assert {name: hashlib.sha256(data).hexdigest() for name, data in kept.items()} == small.shards


@pytest.mark.parametrize("phase", ["clean", "join", "shard"])
@pytest.mark.parametrize("victim", ["worker", "driver"])
def test_on_spark(small: Small, tmp_path: Path, victim: str, phase: str) -> None:
    """Else Spark would be of use in fair weather alone."""
    out = tmp_path / "out"
    words = ("run", small.recipe, "--out", out, "--runner", "spark", "--workers", 2)
    process = help.start(*words)

    def deed() -> None:
        if victim == "driver":
            os.kill(process.pid, signal.SIGKILL)
            return
        flink.kill_worker(out, phase)

    flink.when(process, out, phase, deed)
    status, output = help.finish(process)
    if victim == "driver":
        assert status == -signal.SIGKILL
        status, output = help.run(*words)
    assert status == 0, output
    check(out, small)
