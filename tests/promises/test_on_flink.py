"""The same recipes on a Flink cluster: the same bytes, whatever part of it is lost on the way."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from pathlib import Path

import flink_helpers as flink
import promise_helpers as help
import pytest
from loopback import ENVIRONMENT, download, moto_app, serving
from promise_helpers import Small

from pipeline.cluster.local import Cluster

pytestmark = pytest.mark.slow

DEMO = help.ROOT / "configs" / "demo.yaml"


def test_the_demo_gives_equal_bytes(flink_cluster: Cluster, demo_run: Path, tmp_path: Path) -> None:
    """Else a corpus would depend on where it was made, and a trial on a laptop say nothing of it."""
    out = tmp_path / "out"
    status, output = help.finish(flink.start(flink_cluster, DEMO, out))
    assert status == 0, output
    assert help.shards(out) == help.shards(demo_run)
    assert help.statistics(help.inspect(out)) == help.statistics(help.inspect(demo_run))
    assert "documents" in output
    assert flink.at_work(flink_cluster) == []


def test_each_part_of_the_cluster_lost_once(flink_cluster: Cluster, small: Small, tmp_path: Path) -> None:
    """Else a run of days would not outlive the machines that it runs on."""
    out = tmp_path / "out"
    process = flink.start(flink_cluster, small.recipe, out)
    flink.when(process, out, "clean", lambda: flink_cluster.kill_task_manager(1))
    flink.when(process, out, "signatures", lambda: flink_cluster.kill_worker_pool(2))
    flink_cluster.start_worker_pool(2)
    flink.when(process, out, "documents", flink_cluster.restart_job_manager)
    status, output = help.finish(process)
    assert status == 0, output
    assert help.shards(out) == small.shards
    assert help.statistics(help.inspect(out)) == small.statistics


@pytest.mark.thorough  # a minute each; what a stop leaves on one machine is tried in CI
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_stopped(flink_cluster: Cluster, small: Small, tmp_path: Path, number: int, status: int) -> None:
    """Else jobs of a command that is gone would hold the cluster's slots, and write into the next one's folder."""
    out = tmp_path / "out"
    process = flink.start(flink_cluster, small.recipe, out)
    flink.when(process, out, "clean", lambda: os.kill(process.pid, number))
    if number == signal.SIGINT:  # who is impatient presses it again
        time.sleep(0.5)
        os.kill(process.pid, number)
    ended, output = help.finish(process)
    assert ended == status, output
    assert help.until(lambda: not flink.at_work(flink_cluster), 30)
    if number == signal.SIGINT:
        assert "run the same command to go on" in output
        assert "Traceback" not in output
        assert not list(out.glob("ledger/runs/*/*/job.json")), "late workers would go on"
    ended, output = help.run("run", small.recipe, "--out", out, "--workers", 1)  # on this machine
    assert ended == 0, output
    assert help.shards(out) == small.shards


@pytest.mark.thorough  # each runner and each store is tried by itself
def test_all_folders_in_an_object_store(flink_cluster: Cluster, small: Small, tmp_path: Path) -> None:
    """Else machines that share no file system could not work together; and what is read must be whole."""
    with serving(moto_app()) as where:
        path = flink.recipe_in_store(small, where, tmp_path)
        words = ("run", path, "--out", "s3://mill/run", *flink.flags(flink_cluster))
        process = help.start(*words, env=ENVIRONMENT | {"CORPUSMILL_SCRATCH": str(tmp_path / "cache")})
        status, output = help.finish(process)
        assert status == 0, output
        found = {name.rpartition("/")[2]: data for name, data in download(where, "mill", "run/shards/").items()}
        left = [
            name for name in download(where, "mill", "run/ledger/runs/") if name.endswith(("job.json", "sums.json"))
        ]
    digests = {
        name: hashlib.sha256(data).hexdigest() for name, data in found.items() if name.endswith((".bin", ".idx"))
    }
    assert digests == small.shards
    assert left == []


@pytest.mark.thorough  # each by itself on one machine
def test_a_band_and_a_fault_end_the_run(flink_cluster: Cluster, small: Small, tmp_path: Path) -> None:
    """Else a mistake in a recipe would be tried again and again by the cluster, or come out as a trace of Java's."""
    recipe = help.recipe(small.crawl) | {"expect": {"gopher_quality": {"drop": [0.0, 0.01]}}}
    path = help.write_recipe(tmp_path / "bands.yaml", recipe)
    status, output = help.finish(flink.start(flink_cluster, path, tmp_path / "bands"))
    assert status == 3, output
    assert "gopher_quality" in output
    assert "Traceback" not in output
    (tmp_path / "crawl").mkdir()
    status, output = help.finish(
        flink.start(flink_cluster, small.recipe, tmp_path / "none", "--set", f"inputs.1.path={tmp_path / 'none.jsonl'}")
    )
    assert status == 2, output
