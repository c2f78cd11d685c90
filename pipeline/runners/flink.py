"""Flink: a session cluster with a pool of our workers (`corpusmill worker`) beside each task manager.

A phase is one job. Flink starts it again where a task manager or a worker is lost (units that are committed are not
done again); where that does not help, the driver begins a new attempt on the ledger, on what is left of the cluster.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.cluster.flink import JAVA
from pipeline.errors import RecipeError, UserError
from pipeline.failures import WorkersDied
from pipeline.runners import flags as runner_flags
from pipeline.runners.base import Runner
from pipeline.runners.flinkrest import Cluster, Overview, Unreachable
from pipeline.runners.jobserver import JobServer, free_port, known_options, listens, split_address

PATIENCE = 15.0
"""Seconds that a run waits for a cluster with free task managers, when it begins."""
AGAIN_PATIENCE = 180.0
"""The same after workers were lost: a machine is replaced in that time."""
SILENCE = 60.0
"""Seconds without an answer of the job manager after which a job counts as lost."""
LOOK = 2.0
"""Seconds between two looks at the cluster."""
GRACE = 20.0
"""Seconds that a job may be unknown to the job manager, when it begins and when it ends."""


class Flink(Runner):
    """Jobs on a Flink session cluster, by Beam's job server."""

    def __init__(self, options: Sequence[str]) -> None:
        super().__init__(options)
        local = _local_cluster()
        self.master: str | None = self.flags.take("flink_master") or (local.master if local else None)
        self._endpoint = self.flags.take("job_endpoint")
        self._jar = self.flags.take("flink_job_server_jar")
        self.flags.set_default("environment_type", "EXTERNAL")
        if local and local.master == self.master:
            self.flags.set_default("environment_config", local.environment_config)
            if self._jar is None:
                self._endpoint = self._endpoint or local.job_endpoint
        self._server: JobServer | None = None
        self._cluster = Cluster(self.master or "")
        self._slots: Overview | None = None
        self._looked = self._answered = self._known = 0.0
        self._watched = ""

    def check(self) -> None:
        """Raises RecipeError for a setting that is missing or unknown."""
        if not self.master:
            raise RecipeError(
                "--runner flink needs the address of a cluster: `-- --flink_master=HOST:PORT`. "
                "`make cluster-up` starts one on this machine."
            )
        if self.flags.get("environment_config") is None and self.flags.get("environment_type") == "EXTERNAL":
            raise RecipeError(
                "--runner flink needs the address at which each task manager reaches its pool of workers "
                "(`corpusmill worker`): `-- --environment_config=localhost:50000`"
            )
        if self._endpoint:
            split_address(self._endpoint, "job_endpoint")
        elif not self._jar:
            raise RecipeError(
                "--runner flink needs Beam's job server for this version of Flink: "
                "`-- --flink_job_server_jar=beam-runners-flink-1.20-job-server-2.77.0.jar`, "
                "or the address of one that runs, `-- --job_endpoint=HOST:PORT`"
            )
        if self._jar and not Path(self._jar).is_file():
            raise RecipeError(f"runner option --flink_job_server_jar={self._jar}: there is no such file")
        for name in ("parallelism", "sdk_worker_parallelism"):
            self.flags.whole_number(name)
        if not self._endpoint:  # else the job server is asked what it knows
            self.flags.check_known(runner_flags.of_beam() | _JAVA)

    def __enter__(self) -> Flink:
        """Waits for the cluster, ends jobs that an earlier attempt left there, and starts a job server."""
        self._slots = self._wait_for_slots()
        if self._endpoint:
            if not listens(*split_address(self._endpoint, "job_endpoint")):
                raise UserError(f"no job server answers at {self._endpoint} (--job_endpoint)")
        else:
            self._server = self._start_server()
            self._endpoint = self._server.endpoint
        try:
            self.flags.check_known(runner_flags.of_beam() | known_options(self._endpoint))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the job server, if it is ours."""
        if self._server is not None:
            self._server.close()
            self._server = self._endpoint = None

    def workers(self, asked: int | None) -> int:
        """As asked for, but no more than the cluster has slots: a job that asks for more would wait for ever."""
        slots = self._slots.slots if self._slots else asked or 1
        return min(asked or self.flags.whole_number("parallelism") or slots, slots)

    def beam(self, job: str, workers: int, nursery: str | None) -> tuple[Any, list[str]]:
        """Beam's portable runner, with one worker process for each slot: threads of one would share an interpreter."""
        each = self._slots.slots_each if self._slots else 1
        given = runner_flags.Flags(dict(self.flags.values))
        given.values |= {"job_name": [job], "parallelism": [str(workers)], "job_endpoint": [self._endpoint]}
        given.set_default("sdk_worker_parallelism", str(each))
        return "PortableRunner", given.to_list()

    def watch(self, job: str) -> None:
        """Raises WorkersDied where the job manager is silent, or no longer knows the job: it was started anew."""
        now = time.monotonic()
        if self._watched != job:
            self._watched, self._answered, self._known = job, now, now
        if now - self._looked < LOOK:
            return
        self._looked = now
        try:
            there = any(one.name == job and not one.over for one in self._cluster.jobs())
        except Unreachable as error:
            if now - self._answered > SILENCE:
                raise WorkersDied(f"the job manager has not answered for {SILENCE:.0f} s: {error}") from error
            return
        self._answered = now
        if there:
            self._known = now
        elif now - self._known > GRACE:
            raise WorkersDied("the job manager no longer knows the job; was it started anew?")

    def end_jobs(self, prefix: str) -> None:
        """Cancels them."""
        with suppress(Unreachable):
            for job in self._cluster.jobs():
                if job.name.startswith(prefix) and not job.over:
                    self._cluster.cancel(job)

    def _wait_for_slots(self) -> Overview:
        assert self.master is not None
        patience = time.monotonic() + (AGAIN_PATIENCE if self.again else PATIENCE)
        while True:
            try:
                found = self._cluster.overview()
                if found.slots:
                    return found
                problem = "its cluster has no task manager"
            except Unreachable as error:
                problem = str(error)
            if time.monotonic() > patience:
                raise UserError(
                    f"no Flink to work on at {self.master}: {problem}. What is committed stays. "
                    "`make cluster-up` starts a cluster on this machine."
                )
            time.sleep(0.5)

    def _start_server(self) -> JobServer:
        assert self.master is not None and self._jar is not None
        ports, scratch = [free_port() for _ in range(3)], tempfile.TemporaryDirectory(prefix="corpusmill-")
        command = [
            *(*JAVA, "-Xmx512m", "-jar", self._jar, f"--flink-master={self.master}", "--job-host=127.0.0.1"),
            *(f"--{name}-port={port}" for name, port in zip(("job", "artifact", "expansion"), ports, strict=True)),
            f"--artifacts-dir={scratch.name}",
        ]
        server = JobServer(command, f"127.0.0.1:{ports[0]}", scratch)
        try:
            server.wait_until_ready()
        except BaseException:
            server.close()
            raise
        return server


_JAVA = {"fixed_restart", "execution_mode_for_batch", "execution_retry_delay", "number_of_execution_retries"}


def _local_cluster() -> Any:
    """The cluster that `make cluster-up` started on this machine, if there is one."""
    if os.environ.get("CORPUSMILL_NO_LOCAL_CLUSTER"):
        return None
    from pipeline.cluster import local

    return local.running()
