"""What others use of a cluster on this machine: `Cluster` starts one, `running` finds one that somebody started."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.cluster import flink, jars
from pipeline.cluster.flink import SLOTS, TASK_MANAGERS, Ports
from pipeline.cluster.keeper import kill_all
from pipeline.cluster.rest import JobManager, Unreachable
from pipeline.cluster.state import FOLDER, Facts, end, held, memory, running
from pipeline.errors import UserError
from pipeline.ports import listens

__all__ = ["FOLDER", "Cluster", "ClusterFailed", "Facts", "end", "memory", "running"]

READY_WITHIN = 180.0
"""Seconds that a cluster may take until it can be used; ten on a quiet machine."""


class ClusterFailed(UserError):
    """A cluster that did not start, or lost a part that it does not get back."""


class Cluster:
    """A cluster of one job manager, two task managers with a worker pool beside each, and Beam's job server.

    A context manager: started on entry, and ended with all its processes on exit, or when this process is gone.
    Parts have the names `job-manager`, `job-server`, `task-manager-1`, `pool-1`, `task-manager-2`, `pool-2`.
    """

    def __init__(
        self, folder: Path, *, ports: Ports | None = None, keep: bool = False, follow: int | None = None
    ) -> None:
        """Nothing is started yet.

        `ports` are free ones unless given; with `keep` a part that died is started anew after a second; the cluster
        ends with the process `follow`: None is this one, 0 none.
        """
        self.folder = folder.resolve()
        self._ports = ports
        self._keep = keep
        self._follow = os.getpid() if follow is None else follow

    @property
    def facts(self) -> Facts:
        """Raises ClusterFailed where it does not run."""
        found = running(self.folder)
        if found is None:
            raise ClusterFailed(f"no cluster runs in {self.folder}{self._last_words()}")
        return found

    @property
    def master(self) -> str:
        """Host and port of Flink's REST interface."""
        return self.facts.master

    @property
    def job_endpoint(self) -> str:
        """Host and port of Beam's job server."""
        return self.facts.job_endpoint

    @property
    def environment_config(self) -> str:
        """Host and port of the pool beside each task manager."""
        return self.facts.environment_config

    def start(self) -> None:
        """Starts it and waits until it is ready. Raises ClusterFailed, JarsMissing, and UserError for a wrong jar."""
        if sys.platform != "linux":
            raise ClusterFailed(f"a cluster on this machine needs Linux; this is {sys.platform}")
        fetched = jars.fetch()
        if not shutil.which("java"):
            raise jars.JarsMissing(f"a cluster needs java, which is not on the PATH. {jars.PACKAGES}")
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "start.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ClusterFailed(f"a cluster is being started in {self.folder}; wait until it is ready") from None
            if held(self.folder):
                raise ClusterFailed(f"a cluster runs in {self.folder} already")
            self._write(fetched)
            keeper = self._begin()
            try:
                self.wait_ready(keeper=keeper)
            except BaseException:
                keeper.terminate()
                keeper.wait()
                raise

    def _write(self, fetched: jars.Jars) -> None:
        """Writes what the keeper and the parts read, in place of what an earlier cluster left."""
        for name in ("logs", "start", "tmp", "conf"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir()
        (self.folder / "cluster.json").unlink(missing_ok=True)
        ports = self._ports or Ports.free()
        flink.write_settings(self.folder, ports)
        facts = flink.facts(ports)
        order = {
            "facts": facts,
            "keep": self._keep,
            "follow": self._follow or None,
            "parts": _parts(fetched, self.folder, ports, str(facts["master"])),
        }
        (self.folder / "order.json").write_text(json.dumps(order, indent=1))

    def _begin(self) -> subprocess.Popen[bytes]:
        """Starts the keeper."""
        with (self.folder / "logs" / "keeper.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "pipeline.cluster.keeper", str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop(self) -> None:
        """Ends all of its processes; nothing where it does not run."""
        end(self.folder)

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def wait_ready(
        self,
        task_managers: int = TASK_MANAGERS,
        within: float = READY_WITHIN,
        keeper: subprocess.Popen[bytes] | None = None,
    ) -> None:
        """Waits until so many task managers have registered, and the job server and their pools answer.

        Raises ClusterFailed where that takes too long, or a part is down that is not to be started anew, or was down
        before all was ready: with `keeper`, the cluster's own process that was just started.
        """
        deadline = time.monotonic() + within
        while True:
            missing = self._missing(task_managers)
            if not missing:
                return
            if keeper is not None and keeper.poll() is not None:
                raise ClusterFailed(f"the cluster has ended{self._last_words()}")
            facts = running(self.folder)
            kept = self._keep and keeper is None
            down = [] if facts is None or kept else [name for name, pid in facts.parts.items() if pid is None]
            if len([name for name in down if name.startswith("task-manager")]) <= TASK_MANAGERS - task_managers:
                down = [name for name in down if not name.startswith(("task-manager", "pool"))]
            if down:
                raise ClusterFailed(f"the cluster's {down[0]} ended{self._last_words(down[0])}")
            if time.monotonic() > deadline:
                raise ClusterFailed(f"{missing} is not there after {within:.0f} s{self._last_words(missing)}")
            time.sleep(0.1)

    def kill(self, name: str) -> None:
        """Ends a part by SIGKILL, with all that it started, and waits until the keeper has seen it."""
        pid = self.facts.parts[name]
        if pid is None:
            raise ClusterFailed(f"the cluster's {name} does not run")
        kill_all(pid)
        _until(lambda: self.facts.parts[name] != pid)

    def begin(self, name: str) -> None:
        """Starts a part that is down; it takes some seconds until it is of use: see `wait_ready`."""
        if self.facts.parts[name] is not None:
            raise ClusterFailed(f"the cluster's {name} runs")
        (self.folder / "start" / name).touch()
        _until(lambda: self.facts.parts[name] is not None)

    def kill_task_manager(self, number: int) -> None:
        """Ends the first, second... task manager by SIGKILL."""
        self.kill(f"task-manager-{number}")

    def start_task_manager(self, number: int) -> None:
        """Starts a task manager that was killed."""
        self.begin(f"task-manager-{number}")

    def kill_worker_pool(self, number: int) -> None:
        """Ends the first, second... worker pool and its workers by SIGKILL."""
        self.kill(f"pool-{number}")

    def start_worker_pool(self, number: int) -> None:
        """Starts a worker pool that was killed."""
        self.begin(f"pool-{number}")

    def restart_job_manager(self) -> None:
        """Ends the job manager by SIGKILL and starts it anew: Flink then knows none of its jobs any more."""
        self.kill("job-manager")
        if not self._keep:
            self.begin("job-manager")

    def ask(self, path: str) -> Any:
        """What Flink's REST interface answers, for example to `/overview`. Raises Unreachable where it does not."""
        return JobManager(self.master).ask(path)

    def _missing(self, task_managers: int) -> str:
        """The name of a part that is not of use yet, or nothing."""
        facts = running(self.folder)
        if facts is None:
            return "keeper"
        try:
            overview = JobManager(facts.master).overview()
        except Unreachable:
            return "job-manager"
        if overview.task_managers < task_managers or overview.slots < task_managers * SLOTS:
            return f"task-manager-{overview.task_managers + 1}"
        if not listens(facts.job_endpoint, 1):
            return "job-server"
        port = facts.environment_config.rpartition(":")[2]
        for number in range(1, TASK_MANAGERS + 1):
            if facts.parts[f"task-manager-{number}"] is not None and not listens(f"{flink.host(number)}:{port}", 1):
                return f"pool-{number}"
        return ""

    def _last_words(self, name: str = "keeper") -> str:
        """What a part's log says of its end."""
        path = self.folder / "logs" / f"{name}.log"
        with suppress(OSError):
            lines = path.read_text("utf-8", "replace").splitlines()
            causes = [line for line in lines if line.startswith("Caused by: ")]
            return "\n".join([f"; from its log, {path}:", *(causes or lines)[-5:]]) if lines else f"; see {path}"
        return ""


def _parts(fetched: jars.Jars, folder: Path, ports: Ports, master: str) -> list[dict[str, Any]]:
    commands: dict[str, list[str]] = {
        "job-manager": flink.job_manager_command(fetched, folder),
        "job-server": flink.job_server_command(master, fetched, ports, folder),
    }
    for number in range(1, TASK_MANAGERS + 1):
        commands[f"task-manager-{number}"] = flink.task_manager_command(fetched, folder, number)
        commands[f"pool-{number}"] = flink.pool_command(number, ports.pool, folder)
    return [{"name": name, "command": command, "environment": {}} for name, command in commands.items()]


def _until(true: Any, within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not true():
        if time.monotonic() > deadline:
            raise ClusterFailed("the cluster's keeper does not answer")
        time.sleep(0.05)
