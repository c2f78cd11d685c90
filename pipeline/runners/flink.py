"""Flink: a session cluster with a pool of our workers (`corpusmill worker`) beside each task manager.

A phase is one job. Flink starts it again where a task manager or a worker is lost, if the cluster's settings say so
(Beam's own for that it does not hand to a batch job); units that are committed are not done again. Where that does not
help, the driver begins a new attempt on the ledger, on what is left of the cluster.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Self

from pipeline.cluster.rest import JobManager, Overview, Unreachable
from pipeline.errors import RecipeError, UserError
from pipeline.failures import WorkersDied
from pipeline.runners.jobserver import check_address
from pipeline.runners.portable import Portable

SILENCE = 60.0
"""Seconds without an answer of the job manager after which a job counts as lost."""
SHORT = 20.0
"""Seconds that a job waits for slots which were lost. Then it begins anew on those that are left, since nobody knows
whether a lost machine comes back."""
LOOK = 2.0
"""Seconds between two looks at the cluster."""
SOON = 0.3
"""The same until it knows the job."""
GRACE = 20.0
"""Seconds that a job may be unknown to the job manager that knew it: between two lives of it, and when it ends."""
START = 600.0
"""The same for a job that it did not know yet: a job server uploads its jars first, 215 MB."""


class Flink(Portable):
    """Jobs on a Flink session cluster."""

    name = "flink"
    example_jar = "beam-runners-flink-1.20-job-server-2.77.0.jar"

    def __init__(self, options: Sequence[str]) -> None:
        super().__init__(options)
        local = _local_cluster()
        self.master: str | None = self.flags.take("flink_master") or (local.master if local else None)
        self._start = START
        if local and self.master and self.master.replace("localhost", "127.0.0.1") == local.master:
            self._start = GRACE  # this cluster has the jars
            self.flags.set_default("environment_config", local.environment_config)
            if self.jar is None:
                self.endpoint = self.endpoint or local.job_endpoint
        self._manager = JobManager(self.master or "")
        self._slots: Overview | None = None
        self._looked = self._answered = 0.0
        self._watched, self._needs, self._known = "", 0, False
        self._gone_since: float | None = None
        self._few_since: float | None = None

    def check(self) -> None:
        """Raises RecipeError for a setting that is missing or unknown."""
        if not self.master:
            raise RecipeError(
                "--runner flink needs the address of a cluster: `-- --flink_master=HOST:PORT`. "
                "`make cluster-up` starts one on this machine."
            )
        if "://" not in self.master:
            check_address(self.master, "flink_master", "jobmanager:8081")
        super().check()

    def __enter__(self) -> Self:
        """Waits for the cluster; then for a job server."""
        self._slots = self._wait_for_slots()
        return super().__enter__()

    def workers(self, asked: int | None) -> int:
        """As asked for, but no more than the cluster has slots: a job that asks for more would wait for ever."""
        wanted = asked or self.flags.whole_number("parallelism")
        if self._slots is None:  # nobody has asked the cluster
            return wanted or 1
        return min(wanted or self._slots.slots, self._slots.slots)

    def beam(self, job: str, workers: int, nursery: str | None) -> tuple[Any, list[str]]:
        """As for every cluster; `watch` sees to it that there are so many slots."""
        self._needs = workers
        return super().beam(job, workers, nursery)

    def _processes_each(self) -> int:
        return self._slots.slots_each if self._slots else 1

    def _driver_flags(self) -> list[str]:
        return [f"--flink-master={self.master}"]

    def watch(self, job: str) -> None:
        """Raises WorkersDied where the job manager is silent or no longer knows the job, or slots stay away."""
        now = time.monotonic()
        if self._watched != job:
            self._watched, self._answered, self._known = job, now, False
            self._gone_since = self._few_since = None
        if now - self._looked < (LOOK if self._known else SOON):
            return
        self._looked = now
        try:
            there = any(one.name == job and not one.over for one in self._manager.jobs())
            slots = self._manager.overview().slots
        except Unreachable as error:
            if now - self._answered > SILENCE:
                raise WorkersDied(f"the job manager has not answered for {SILENCE:.0f} s: {error}") from error
            return
        self._answered = now
        self._known = self._known or there
        self._gone_since = None if there else self._gone_since or now
        self._few_since = None if slots >= self._needs else self._few_since or now
        if self._gone_since and now - self._gone_since > (GRACE if self._known else self._start):
            raise WorkersDied("the job manager does not know the job; was it started anew?")
        if self._few_since and now - self._few_since > SHORT:
            raise WorkersDied(f"the cluster has {slots} slots left of the {self._needs} that the job needs")

    def end_jobs(self, prefix: str) -> None:
        """Cancels them."""
        with suppress(Unreachable):
            for job in self._manager.jobs():
                if job.name.startswith(prefix) and not job.over:
                    self._manager.cancel(job)

    def _wait_for_slots(self) -> Overview:
        deadline = self._deadline()
        while True:
            try:
                found = self._manager.overview()
                if found.slots:
                    return found
                problem = "its cluster has no task manager"
            except Unreachable as error:
                problem = str(error)
            if time.monotonic() > deadline:
                raise UserError(
                    f"no Flink to work on at {self.master}: {problem}. What is committed stays. "
                    "`make cluster-up` starts a cluster on this machine."
                )
            time.sleep(0.5)


def _local_cluster() -> Any:
    """The cluster that `make cluster-up` started on this machine, if there is one."""
    if os.environ.get("CORPUSMILL_NO_LOCAL_CLUSTER"):
        return None
    from pipeline.cluster import local

    return local.running()
