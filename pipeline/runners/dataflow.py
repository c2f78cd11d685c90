"""Google's Dataflow: each phase is a job there, its workers run the image that holds corpusmill.

Crawl, run folder and index lie in Google's store (`gs://...`), which is the only place that the workers share with the
driver. `corpusmill run --runner dataflow --dry-run` checks all settings and builds a job without sending it.

`--workers` counts units at work at once, Dataflow's `num_workers` and `max_num_workers` machines, each of which has a
worker process for each core. No phase gets more machines than its units need, nor more than these flags allow.
"""

from __future__ import annotations

import importlib
import logging
import re
from pathlib import Path
from typing import Any

from pipeline.errors import RecipeError
from pipeline.runners import flags as runner_flags
from pipeline.runners.base import Runner
from pipeline.storage.address import protocol_of

WANTED = {
    "project": "the project that pays",
    "region": "where the workers run, as europe-west4",
    "temp_location": "a folder for Dataflow's own files, as gs://BUCKET/temp",
    "sdk_container_image": "the image with corpusmill: `docker build --target sdk -f configs/cluster/Dockerfile .`",
}
EXTRA = "pip install 'corpusmill[dataflow]'"
CORES = re.compile(r"-(\d+)(?:-|$)")
"""In the name of a type of machine: n2-standard-16, custom-16-65536. One that does not say so counts as one core."""


class Dataflow(Runner):
    """Jobs on Dataflow."""

    def check(self) -> None:
        """Raises RecipeError for what is missing, unknown or refused by Beam's own checks; nothing is sent."""
        missing = [f"--{name} ({what})" for name, what in WANTED.items() if not self.flags.get(name)]
        if missing:
            raise RecipeError(f"--runner dataflow needs {', '.join(missing)}: behind --, or in --runner-config FILE")
        for name in ("num_workers", "max_num_workers", "number_of_worker_harness_threads"):
            self.flags.whole_number(name)
        self.flags.check_known(runner_flags.of_beam())
        self._validate()

    def workers(self, asked: int | None) -> int:
        """As asked for, else the cores of as many machines as the flags allow."""
        machines = self.flags.whole_number("max_num_workers") or self.flags.whole_number("num_workers") or 1
        return asked or machines * self._cores()

    def beam(self, job: str, workers: int, nursery: str | None) -> tuple[Any, list[str]]:
        """Beam's runner of this name, on at most as many machines as so many units need."""
        _need()
        return "DataflowRunner", self.flags_of(job, workers)

    def flags_of(self, job: str, workers: int) -> list[str]:
        """Beam's flags for one job."""
        given = runner_flags.Flags(dict(self.flags.values))
        given.values["job_name"] = [job.lower().replace("_", "-")]  # all that Dataflow allows
        machines = -(-workers // self._cores())
        given.set_default("max_num_workers", str(machines))
        for name in ("num_workers", "max_num_workers"):
            if number := given.whole_number(name):
                given.values[name] = [str(min(number, machines))]
        # One unit at a time in each process: threads of one would share an interpreter.
        given.set_default("number_of_worker_harness_threads", "1")
        return given.to_list()

    def _cores(self) -> int:
        """Of a machine."""
        found = CORES.search(self.flags.get("machine_type") or self.flags.get("worker_machine_type") or "")
        return int(found[1]) if found else 1

    def check_out(self, out: str) -> None:
        """Raises RecipeError for a run folder that Dataflow's machines cannot reach."""
        if protocol_of(out) not in ("gs", "gcs"):
            raise RecipeError(
                f"--out {out}: Dataflow's workers share nothing with this machine but Google's store; give gs://BUCKET/RUN"
            )

    def rehearse(self) -> str:
        """Builds a job without sending it, as far as Google's packages are there."""
        try:
            _need()
        except RecipeError as error:
            return f"settings of Dataflow are right; a job was not built: {error}"
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions

        from pipeline.desk import Desk
        from pipeline.engine import graph
        from pipeline.phases import PHASES

        name = "-".join(["corpusmill-rehearsal", *PHASES])  # so that all that a job may be called is checked
        kind, given = self.beam(name, self.workers(None), None)
        pipeline = beam.Pipeline(runner=kind, options=PipelineOptions([*given, "--dry_run=True"]))
        graph(pipeline, ["unit"], Desk(Path("desk")), spread=True)
        made: Any = pipeline.run()
        steps = len(made.job.proto_pipeline.components.transforms)
        return f"settings of Dataflow are right; a job of {steps} steps was built and not sent"

    def _validate(self) -> None:
        from apache_beam.options.pipeline_options import PipelineOptions
        from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator

        class DataflowRunner:
            """Beam's checks go by the name of the runner's class; the real one needs Google's packages."""

        options = PipelineOptions([*self.flags.to_list(), "--dry_run=True"])  # else it asks the store
        logging.disable(logging.WARNING)
        problems = PipelineOptionsValidator(options, DataflowRunner()).validate()  # type: ignore[no-untyped-call]
        logging.disable(logging.NOTSET)
        if problems:
            raise RecipeError("--runner dataflow: " + " ".join(str(problem) for problem in problems))


def _need() -> None:
    try:
        importlib.import_module("google.cloud.dataflow")
    except ImportError as error:
        raise RecipeError(f"--runner dataflow needs Google's packages: {EXTRA}") from error
