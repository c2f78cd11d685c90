"""A real Flink cluster: its parts are processes of this machine, and die by real signals."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import beam_job
import psutil
import pytest

from pipeline.cluster.keeper import family
from pipeline.cluster.local import Cluster, memory, running

pytestmark = pytest.mark.slow

JOB = Path(beam_job.__file__)


def start(cluster: Cluster, out: Path, seconds: float, *options: str) -> subprocess.Popen[str]:
    words = [cluster.job_endpoint, cluster.environment_config, str(out), str(seconds), *options]
    return subprocess.Popen(
        [sys.executable, str(JOB), *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def result(job: subprocess.Popen[str], out: Path) -> tuple[set[str], list[int]]:
    """The pools that worked, and the numbers that came out."""
    said, _ = job.communicate(timeout=120)
    assert job.returncode == 0, said
    rows = [line.partition(" ") for line in out.read_text().splitlines()]
    return {pool for pool, _, _ in rows}, sorted(number for _, _, text in rows for number in ast.literal_eval(text))


def test_job_is_done_by_both_pools_and_uploads_nothing(flink_cluster: Cluster, tmp_path: Path) -> None:
    """Else half of a cluster's machines would idle, or each phase would begin with an upload of 200 MB."""
    uploaded = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.05):
            sizes = []
            for path in (flink_cluster.folder / "tmp").rglob("*"):
                if "blob" in str(path) and path.is_file():
                    sizes.append(path.stat().st_size)
            uploaded.append(sum(sizes))

    looking = threading.Thread(target=look)
    looking.start()
    found = result(start(flink_cluster, tmp_path / "out", 0.05, "--parallelism=4"), tmp_path / "out")
    ended.set()
    looking.join()
    assert found == ({"127.0.0.1", "127.0.0.2"}, list(range(beam_job.NUMBERS)))
    assert uploaded
    assert max(uploaded) < 1_000_000


def test_killed_task_manager_is_noticed_and_its_work_done_again(flink_cluster: Cluster, tmp_path: Path) -> None:
    """Else a lost machine of a cluster would cost the run, or stop it for minutes."""
    job = start(flink_cluster, tmp_path / "out", 1.0, "--parallelism=2")  # what one alone has slots for
    deadline = time.monotonic() + 60
    while not all((tmp_path / f"out.begun.{pool}").exists() for pool in ("127.0.0.1", "127.0.0.2")):
        assert job.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    flink_cluster.kill_task_manager(1)
    killed = time.monotonic()
    while flink_cluster.ask("/overview")["taskmanagers"] == 2:
        assert time.monotonic() - killed < 10
        time.sleep(0.1)
    assert result(job, tmp_path / "out") == ({"127.0.0.2"}, list(range(beam_job.NUMBERS)))
    assert flink_cluster.facts.parts["task-manager-1"] is None, "no keeping was asked for"
    flink_cluster.start_task_manager(1)
    flink_cluster.wait_ready()


def test_job_manager_that_came_back_finds_its_task_managers(flink_cluster: Cluster) -> None:
    """Else a cluster would have to be started anew by hand."""
    before = flink_cluster.facts.parts
    flink_cluster.restart_job_manager()
    flink_cluster.wait_ready(within=40)
    after = flink_cluster.facts.parts
    assert after["job-manager"] != before["job-manager"]
    assert after["task-manager-1"] == before["task-manager-1"]


def test_cluster_fits_a_small_machine_and_listens_to_it_alone(flink_cluster: Cluster) -> None:
    """Else it could not be tried on a laptop, or the network could run programs on it.

    Beam's Java side is excepted: it binds its ports on all interfaces, whatever host it is told.
    """
    parts = {name: pid for name, pid in flink_cluster.facts.parts.items() if pid is not None}
    used = {name: memory(pid)[0] for name, pid in parts.items()}
    assert 300e6 < sum(used.values()) < 4 * 2**30, used
    for name in ("job-manager", "pool-1", "pool-2"):
        found = [at for process in family(parts[name]) for at in process.net_connections("tcp")]
        listening = [at.laddr.ip.removeprefix("::ffff:") for at in found if at.status == psutil.CONN_LISTEN]
        assert listening
        assert all(ip.startswith("127.0.0.") for ip in listening), (name, listening)


def test_up_twice_and_down_leave_nothing(flink_jars: None, tmp_path: Path) -> None:
    """Else a second `make cluster-up` would start another gigabyte, and `make cluster-down` leave some of it."""
    folder = tmp_path / "cluster"

    def call(what: str) -> tuple[int, str]:
        words = [sys.executable, "-m", "pipeline.cluster", what, "--folder", str(folder)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    try:
        code, said = call("up")
        assert (code, "corpusmill run configs/demo.yaml" in said) == (0, True), said
        facts = running(folder)
        assert facts is not None
        assert all(facts.parts.values())
        assert json.loads((folder / "cluster.json").read_text())["master"] == facts.master
        assert "runs already" in call("up")[1]
        assert running(folder) == facts
        code, said = call("status")
        assert (code, "2 task managers, 4 of 4 slots free" in said) == (0, True), said
        pool = facts.parts["pool-2"]
        assert pool is not None
        os.kill(pool, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while (now := running(folder)) is None or now.parts["pool-2"] in (pool, None):
            assert time.monotonic() < deadline, "a part that died is started anew"
            time.sleep(0.1)
    finally:
        code, said = call("down")
    assert (code, said) == (0, "The cluster has ended.\n")
    left = [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(folder) in " ".join(process.info["cmdline"] or [])
    ]
    assert left == []
    assert running(folder) is None
    assert call("down")[1] == "No cluster runs.\n"
    assert call("status")[0] == 1
