"""Spark 3, by Beam's job server for it: a cluster (`--spark_master_url=spark://...`) or Spark inside the job server.

A phase is one job. Spark tries a lost task again by itself; units that are committed are not done again.

`--workers` is the threads of a Spark inside the job server, and on a cluster of Spark's own (`spark://...`) the cores
that it is asked for. A job server that runs already (`--job_endpoint`), YARN and Kubernetes have a setting for that.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, Self

from pipeline import forks
from pipeline.cluster import jars
from pipeline.cluster.flink import JAVA
from pipeline.errors import RecipeError, UserError
from pipeline.ports import free_port, listens
from pipeline.runners.portable import Portable

EMBEDDED = re.compile(r"local(?:\[(\d+|\*)\])?$")
"""Spark's own way of saying that it runs within one process, on so many threads."""
POOL_SECONDS = 60.0
"""A pool of workers on a busy machine."""
BY_CORES = 0
"""As many worker processes on a machine as it has cores, but one: what Beam's Java side makes of this number."""


class Spark(Portable):
    """Jobs on Spark 3; without `--spark_master_url`, on Spark inside a job server on this machine."""

    name = "spark"
    example_jar = "beam-runners-spark-3-job-server-2.77.0.jar"

    def __init__(self, options: Sequence[str]) -> None:
        super().__init__(options)
        self.master = self.flags.take("spark_master_url") or self.flags.take("spark_master") or "local"
        self._embedded = EMBEDDED.match(self.master)
        self._pool: subprocess.Popen[bytes] | None = None
        self._own_pool = self._embedded is not None and self.flags.get("environment_config") is None
        if self._own_pool:
            self.flags.set_default("environment_config", f"localhost:{free_port()}")

    def check(self) -> None:
        """Raises RecipeError for a setting that is missing or unknown."""
        if not self._embedded and not self.master.startswith(("spark://", "yarn", "k8s://")):
            raise RecipeError(
                f"runner option --spark_master_url={self.master}: "
                "spark://HOST:PORT, yarn, k8s://... or local[N] is wanted"
            )
        super().check()

    def __enter__(self) -> Self:
        """Starts a pool of workers, where Spark runs on this machine, and the job server."""
        if self._own_pool:
            self._pool = self._start_pool()
        try:
            return super().__enter__()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *error: object) -> None:
        """Ends what was started."""
        super().__exit__(*error)
        if self._pool is not None:
            self._pool.terminate()
            self._pool.wait()
            self._pool = None

    def workers(self, asked: int | None) -> int:
        """As asked for; else the threads of an embedded Spark, or one."""
        threads = self._embedded[1] if self._embedded else None
        found = os.cpu_count() if threads in (None, "*") and self._embedded else int(threads or 1)
        return asked or self.flags.whole_number("parallelism") or found or 1

    def beam(self, job: str, workers: int, nursery: str | None) -> tuple[Any, list[str]]:
        """As for every cluster; on other machines, where processes are fewer than cores, units wait for a free one."""
        kind, given = super().beam(job, workers, nursery)
        return kind, given if self._embedded else [*given, "--load_balance_bundles"]

    def _processes_each(self) -> int:
        return self.workers(self.asked) if self._embedded else BY_CORES

    def _can_start(self) -> bool:
        return self._embedded is not None

    def _java_command(self) -> list[str]:
        if self.jar:
            java, *rest = super()._java_command()
            limit = [f"-Dspark.cores.max={self.asked}"] if self.asked and not self._embedded else []
            return [java, *limit, *rest]
        driver = "org.apache.beam.runners.spark.SparkJobServerDriver"
        return [*JAVA, "-Xmx1g", "-cp", jars.fetch("spark").class_path, driver]

    def _driver_flags(self) -> list[str]:
        return [f"--spark-master-url={f'local[{self.workers(self.asked)}]' if self._embedded else self.master}"]

    def _start_pool(self) -> subprocess.Popen[bytes]:
        address = self.flags.get("environment_config") or ""
        port = address.rpartition(":")[2]
        pool = subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli", "worker", "--host", "localhost", "--port", port],
            stdin=subprocess.DEVNULL,
            env=os.environ | forks.environment(),
        )
        patience = time.monotonic() + POOL_SECONDS
        while not listens(address):
            if pool.poll() is not None or time.monotonic() > patience:
                pool.kill()
                raise UserError("the pool of workers on this machine did not start; the log of the run says why")
            time.sleep(0.1)
        return pool
