"""The Beam side of a phase: a pipeline whose elements are the names of units, never their contents.

Each worker takes units from a common queue, largest first, streams the unit's batches through its work and
commits the result in the ledger. What travels through Beam is a small Arrow table of counts a unit; their
sum must equal what the ledger gained.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO, cast

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from pipeline import coders, forks
from pipeline.errors import UserError
from pipeline.failures import Failure, UnitFailed, WorkersDied
from pipeline.ledger import Row
from pipeline.phases import PHASES
from pipeline.processes import Unfailing, follow
from pipeline.progress import Reporter
from pipeline.work import Context, Task

coders.register()

FAILED = "failed"
"""The file on a phase's desk by which workers learn that a unit of another one failed."""
RETRIES = 3
TRANSIENT = {errno.EIO, errno.EAGAIN, errno.EINTR, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET, errno.ENOBUFS}
COUNTS = pa.schema([("units", pa.int64()), ("parts", pa.int64()), ("bytes", pa.int64())])


def run_units(
    tasks: list[Task],
    context: Context,
    workers: int,
    runner: str,
    options: list[str],
    desk: Path,
    nursery: str | None = None,
) -> dict[str, int]:
    """Runs and commits the units of one phase; `desk` is the attempt's folder for claims and reports.

    With the address of a nursery, the local runner's workers are forks of it.

    Returns units, parts and bytes committed. Raises UnitFailed, or WorkersDied where no unit says why.
    """
    tasks = sorted(tasks, key=lambda task: (-task.size, task.key))
    job = {
        "context": context.to_json(),
        "tasks": [[task.phase, task.key, task.size, task.spec] for task in tasks],
        "desk": str(desk),
        "runner": os.getpid(),
    }
    job_file = desk / "job.json"
    job_file.write_text(json.dumps(job))
    (desk / "claims").mkdir()
    (desk / "reports").mkdir(exist_ok=True)
    local = runner == "local"
    flags = list(options)
    environment = None
    if local and nursery is not None:
        flags.append(f"--direct_num_workers={workers}")
        environment = SubprocessSDKEnvironment.from_command_string(forks.worker_command(nursery))
    elif local and workers > 1:
        flags += [f"--direct_num_workers={workers}", "--direct_running_mode=multi_processing"]
    sums = desk / "sums.json"
    try:
        pipeline = beam.Pipeline(runner=FnApiRunner(environment) if local else runner, options=PipelineOptions(flags))
        (
            pipeline
            # To spread units over workers costs Beam a grouping: not for one.
            | "units" >> beam.Create([task.key for task in tasks], reshuffle=not local or workers > 1)
            | "work"
            >> beam.ParDo(Work(str(job_file), claiming=local, watching=local)).with_output_types(pa.RecordBatch)
            | "add up" >> beam.CombineGlobally(add_up).without_defaults()
            | "note" >> beam.Map(note, str(sums))
        )
        pipeline.run().wait_until_finish()
    except Exception as error:
        failed = UnitFailed.within(error)
        if failed is not None:
            raise failed from error
        if not local:  # its workers are its own to look after
            last = str(error).strip().rpartition("\n")[2]
            raise UserError(
                f"the runner {runner} failed: {type(error).__name__}: {last}\n"
                "Are its options, behind --, right? What is committed stays."
            ) from error
        raise WorkersDied(f"{type(error).__name__}: {error}") from error
    return dict(json.loads(sums.read_text()))


class Work(beam.DoFn):
    """Does units of a phase. With `claiming`, the workers of one machine share the queue among themselves."""

    def __init__(self, job_file: str, *, claiming: bool, watching: bool) -> None:
        self.job_file = job_file
        self.claiming = claiming
        self.watching = watching

    def setup(self) -> None:
        """Reads the job once a worker."""
        job = json.loads(Path(self.job_file).read_text())
        if self.watching and job["runner"] != os.getpid():
            follow(job["runner"])
            # Beam prints a failure before it tells of it, and the log may lie on the disk that is full.
            sys.stderr = cast(TextIO, Unfailing(sys.stderr))
        self.desk = Path(job["desk"])
        self.context = Context.from_json(job["context"])
        self.tasks = {key: Task(phase, key, size, spec) for phase, key, size, spec in job["tasks"]}
        self.reporter = Reporter(self.desk / "reports")

    def process(self, key: str) -> Iterator[pa.RecordBatch]:
        """Does this unit; or, claiming, whatever is left in the queue."""
        for task in self.tasks.values() if self.claiming else [self.tasks[key]]:  # largest first, as they were listed
            counts = self._unit(task)
            if counts is not None:
                yield counts

    def _unit(self, task: Task) -> pa.RecordBatch | None:
        """Does a unit, unless another worker has claimed it, or one has failed."""
        try:
            if self.claiming and not self._claim(task):
                return None
            self.reporter.begin(task.title)
            row = do_unit(task, self.context, self.reporter)
            self.reporter.end()
        except BaseException as error:  # a stage may well call sys.exit
            with suppress(OSError):
                (self.desk / FAILED).touch()
                self.reporter.give_up()
            raise UnitFailed(Failure.of(error, task.title)) from error
        measure(row)
        values = [[1], [len(row.parts)], [sum(part.bytes for part in row.parts)]]
        return pa.RecordBatch.from_arrays([pa.array(value, pa.int64()) for value in values], schema=COUNTS)

    def _claim(self, task: Task) -> bool:
        if (self.desk / FAILED).exists():
            return False  # the phase has failed; what this worker was at is done
        try:
            os.close(os.open(self.desk / "claims" / task.key, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        return True


def do_unit(task: Task, context: Context, reporter: Reporter) -> Row:
    """Does one unit and commits it; failures that may pass are tried again."""
    for attempt in range(1, RETRIES + 1):
        folder = context.ledger.attempt()
        try:
            begun = time.process_time()
            staged, body = PHASES[task.phase].work(task, context, folder, reporter)
            timing = body.setdefault("timing", {})
            timing["cpu_s"] = round(time.process_time() - begun + timing.get("children_s", 0.0), 3)
            return context.ledger.commit(task.phase, task.key, staged, body)
        except OSError as error:
            if error.errno not in TRANSIENT or attempt == RETRIES:
                raise
            time.sleep(0.5 * 2**attempt)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    raise AssertionError("unreachable")


def measure(row: Row) -> None:
    """Reports what the unit did as Beam metrics, for runners that show them: records by stage, milliseconds."""
    for item in row.body.get("funnel", []):
        stage = item["stage"]
        Metrics.counter(stage, "entered").inc(item["entered"])
        Metrics.counter(stage, "dropped").inc(sum(item["dropped"].values()))
        Metrics.counter(stage, "cpu_ms").inc(round(1000 * row.body["timing"]["stages"].get(stage, 0)))
    Metrics.counter(row.phase, "cpu_ms").inc(round(1000 * row.body["timing"]["cpu_s"]))


def add_up(batches: Iterable[pa.RecordBatch]) -> pa.RecordBatch:
    """The sums of tables of counts, as one row."""
    table = pa.Table.from_batches(list(batches), COUNTS)
    sums = [pa.array([sum(table[name].to_pylist())], pa.int64()) for name in COUNTS.names]
    return pa.RecordBatch.from_arrays(sums, schema=COUNTS)


def note(batch: pa.RecordBatch, path: str) -> None:
    """Leaves the sums where the driver of the phase finds them."""
    try:
        Path(path).write_text(json.dumps(batch.to_pylist()[0]))
    except OSError as error:  # a full disk is no death of a worker
        raise UnitFailed(Failure.of(error)) from error
