"""A real Flink cluster: its parts are processes of this machine, and die by real signals."""

from __future__ import annotations

import ast
import subprocess
import sys
import threading
import time
from pathlib import Path

import beam_job
import psutil
import pytest
from flink_fixture import call

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
    job = start(flink_cluster, tmp_path / "out", 0.5, "--parallelism=2")  # what one alone has slots for
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


def test_second_up_starts_nothing_and_status_tells_what_is_alive(flink_cluster: Cluster, tmp_path: Path) -> None:
    """Else `make cluster-up` by mistake would cost two gigabytes, and a lost part would not be seen."""
    folder, facts = flink_cluster.folder, flink_cluster.facts
    said = call("up", folder)
    assert "runs already" in said
    assert "corpusmill run configs/demo.yaml" in said
    assert running(folder) == facts
    said = call("status", folder)
    assert "2 task managers, 4 of 4 slots free" in said
    assert all(str(pid) in said for pid in facts.parts.values())
    assert call("down", tmp_path) == "No cluster runs.\n"
    with pytest.raises(AssertionError, match="Start one with: make cluster-up"):
        call("status", tmp_path)
