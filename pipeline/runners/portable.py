"""What Flink and Spark have in common: Beam's job server takes the pipeline, worker pools do its units."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from pipeline.cluster.flink import JAVA
from pipeline.errors import RecipeError, UserError
from pipeline.pool.telling import config_of
from pipeline.ports import free_port, listens
from pipeline.runners import flags as runner_flags
from pipeline.runners.base import Runner
from pipeline.runners.jobserver import JobServer, check_address, known_options

PATIENCE = 15.0
"""Seconds that a run waits for a cluster that can be used, when it begins."""
AGAIN_PATIENCE = 180.0
"""The same after workers were lost: a machine is replaced in that time."""


class Portable(Runner):
    """Jobs on a cluster, by a job server that is there (`--job_endpoint`) or that is started from its jar."""

    name = ""
    example_jar = ""

    def __init__(self, options: Sequence[str]) -> None:
        super().__init__(options)
        self.endpoint = self.flags.take("job_endpoint")
        self.jar = self.flags.take(f"{self.name}_job_server_jar")
        self.flags.set_default("environment_type", "EXTERNAL")
        self._server: JobServer | None = None

    def check(self) -> None:
        """Raises RecipeError for a setting that is missing or unknown."""
        if self.flags.get("environment_config") is None and self.flags.get("environment_type") == "EXTERNAL":
            raise RecipeError(
                f"--runner {self.name} needs the address at which each machine of the cluster reaches its pool of "
                "workers (`corpusmill worker`): `-- --environment_config=localhost:50000`"
            )
        _check_environment(self.flags)
        if self.endpoint:
            check_address(self.endpoint, "job_endpoint")
        elif not self.jar and not self._can_start():
            raise RecipeError(
                f"--runner {self.name} needs Beam's job server for the cluster's version: "
                f"`-- --{self.name}_job_server_jar={self.example_jar}`, "
                "or the address of one that runs, `-- --job_endpoint=HOST:PORT`"
            )
        if self.jar and not Path(self.jar).is_file():
            raise RecipeError(f"runner option --{self.name}_job_server_jar={self.jar}: there is no such file")
        if not self.endpoint and not shutil.which("java"):
            raise RecipeError(
                f"--runner {self.name} needs java to start Beam's job server, and there is none on the PATH; "
                "install it, or give the address of a job server that runs, `-- --job_endpoint=HOST:PORT`"
            )
        self.flags.whole_number("parallelism")
        if self.flags.get("sdk_worker_parallelism") != "0":  # Beam's word for: by the machine's cores
            self.flags.whole_number("sdk_worker_parallelism")
        if not self.endpoint:  # else the job server is asked what it knows
            self.flags.check_known(runner_flags.of_beam() | JAVA_FLAGS)

    def __enter__(self) -> Self:
        """Starts a job server, or finds the one that is there, and asks it about the flags."""
        if self.endpoint:
            deadline = self._deadline()
            while not listens(self.endpoint):
                if time.monotonic() > deadline:
                    raise UserError(f"no job server of Beam answers at {self.endpoint} (--job_endpoint)")
                time.sleep(0.5)
        else:
            self._server = self._start_server()
            self.endpoint = self._server.endpoint
        try:
            self.flags.check_known(runner_flags.of_beam() | known_options(self.endpoint))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the job server, if it is ours."""
        if self._server is not None:
            self._server.close()
            self._server = self.endpoint = None

    def beam(self, job: str, workers: int, nursery: str | None) -> tuple[Any, list[str]]:
        """Beam's portable runner, with one worker process for each slot: threads of one would share an interpreter."""
        given = runner_flags.Flags(dict(self.flags.values))
        given.values |= {"job_name": [job], "job_endpoint": [self.endpoint], "parallelism": [str(workers)]}
        given.set_default("sdk_worker_parallelism", str(self._processes_each()))
        return "PortableRunner", given.to_list()

    def _deadline(self) -> float:
        """Until when what is not there yet is waited for."""
        return time.monotonic() + (AGAIN_PATIENCE if self.again else PATIENCE)

    def _processes_each(self) -> int:
        """Worker processes on each machine."""
        raise NotImplementedError

    def _can_start(self) -> bool:
        """Whether a job server can be started without a jar of the user's."""
        return False

    def _java_command(self) -> list[str]:
        """The job server by its jar."""
        assert self.jar is not None
        return [*JAVA, "-Xmx512m", "-jar", self.jar]

    def _driver_flags(self) -> list[str]:
        """What the job server is told of the cluster."""
        raise NotImplementedError

    def _start_server(self) -> JobServer:
        port, scratch = free_port(), tempfile.TemporaryDirectory(prefix="corpusmill-")
        command = [
            *(*self._java_command(), *self._driver_flags(), "--job-host=127.0.0.1", f"--job-port={port}"),
            f"--artifact-port={free_port()}",
            "--expansion-port=-1",  # it would listen to the whole network, and run what it is told
            f"--artifacts-dir={scratch.name}",
        ]
        server = JobServer(command, f"127.0.0.1:{port}", scratch)
        try:
            server.wait_until_ready()
        except BaseException:
            server.close()
            raise
        return server


JAVA_FLAGS = {"fixed_restart", "execution_mode_for_batch", "execution_retry_delay", "number_of_execution_retries"}
"""Flags of the Java side that are of use in a batch job; the job server itself has the whole list."""


def _check_environment(flags: runner_flags.Flags) -> None:
    """Raises RecipeError for an address of pools that is none: as text, or in JSON as Beam also takes it."""
    value = flags.get("environment_config") or ""
    if flags.get("environment_type") != "EXTERNAL" or not value:
        return
    try:
        address = str(config_of(value)["url"])
    except (ValueError, KeyError) as error:
        raise RecipeError(
            f"runner option --environment_config={value}: HOST:PORT is wanted, or JSON with a `url`: {error}"
        ) from error
    check_address(address, "environment_config", "localhost:50000")
