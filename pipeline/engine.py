"""The Beam side of a phase: a pipeline whose elements are the names of units, never their contents.

Each worker takes units from a common queue, largest first, streams the unit's batches through its work and
commits the result in the ledger. What travels through Beam is a small Arrow table of counts a unit; their
sum must equal what the ledger gained.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, TextIO, cast

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline import coders, fingerprint, workerlog
from pipeline.desk import REPORTS, Abandoned, Desk, Relay, StoreDesk, Unseen
from pipeline.errors import LockedError
from pipeline.failures import Failure, UnitFailed, WorkersDied
from pipeline.ledger import Row
from pipeline.phases import PHASES
from pipeline.pool.telling import told
from pipeline.processes import Unfailing, follow, forget_peak, peak_memory
from pipeline.progress import Reporter
from pipeline.runners.base import Runner, job_prefix
from pipeline.work import Context, Task

coders.register()

POLL = 0.2
"""Seconds between two looks at a job."""
RETRIES = 3
TRANSIENT = {errno.EIO, errno.EAGAIN, errno.EINTR, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET, errno.ENOBUFS}
COUNTS = pa.schema([("units", pa.int64()), ("parts", pa.int64()), ("bytes", pa.int64())])


def run_units(
    tasks: list[Task], context: Context, workers: int, runner: Runner, folder: Path, nursery: str | None = None
) -> dict[str, int]:
    """Runs and commits the units of one phase; `folder` is the phase's own in that of the attempt.

    With the address of a nursery, the local runner's workers are forks of it; one worker without it is this process.

    Returns units, parts and bytes committed. Raises UnitFailed, or WorkersDied where no unit says why.
    """
    tasks = sorted(tasks, key=lambda task: (-task.size, task.key))
    near = runner.shares_desk
    desk = Desk(folder)
    if not near and isinstance(context.out, str):
        desk = StoreDesk(folder, context.out, context.recipe.storage, context.fence)
    desk.open(
        {
            "context": context.to_json(),
            "tasks": [[task.phase, task.key, task.size, task.spec] for task in tasks],
            "near": near,
            "runner": os.getpid(),
            "fingerprint": None if near else fingerprint.of(context),
        }
    )
    name = f"{job_prefix(context.out)}{folder.parent.name[-8:]}-{folder.name}"
    kind, flags = runner.beam(name, workers, nursery)
    flags = told(flags, context)
    relay = Relay(desk)

    def look() -> None:
        runner.watch(name)
        relay()

    try:
        pipeline = beam.Pipeline(runner=kind, options=PipelineOptions(flags))
        # To spread units over workers costs Beam a grouping: not for one.
        graph(pipeline, [task.key for task in tasks], desk, spread=not near or workers > 1)
        wait(pipeline.run(), look)
    except Exception as error:
        failed = UnitFailed.within(error)
        if failed is not None:
            raise failed from error
        if isinstance(error, WorkersDied):
            raise
        raise WorkersDied(f"{type(error).__name__}: {error}") from error
    failure = desk.failure()
    if failure is not None:
        raise UnitFailed(failure)
    sums = desk.sums()
    desk.close()
    return sums


def graph(pipeline: beam.Pipeline, keys: list[str], desk: Desk, *, spread: bool) -> None:
    """Adds what Beam does in every phase: the units by name, their work, the sums of their counts."""
    (
        pipeline
        | "units" >> beam.Create(keys, reshuffle=spread)
        | "work" >> beam.ParDo(Work(desk)).with_output_types(tuple[bytes, pa.RecordBatch])
        | "gather" >> beam.GroupByKey()  # Beam's way of combining is four times as many transforms, to be built anew
        | "note" >> beam.Map(note, desk)
    )


def wait(result: Any, watch: Callable[[], None]) -> None:
    """Waits for the end of a job, which is cancelled where this is interrupted. Raises what the runner says of it."""
    failed: list[Exception] = []

    def until_finished() -> None:
        try:
            result.wait_until_finish()
        except Exception as error:
            failed.append(error)

    waiting = threading.Thread(target=until_finished, daemon=True, name="job")
    waiting.start()
    try:
        while waiting.is_alive():
            waiting.join(POLL)
            watch()
    except BaseException:
        with suppress(Exception):
            result.cancel()
        raise
    if failed:
        raise failed[0]


class Work(beam.DoFn):
    """Does units of a phase. Workers of one machine share the queue among themselves; others do what they are given."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def setup(self) -> None:
        """Reads the job once a worker."""
        try:
            job = self.desk.job()
        except Unseen as error:  # told by way of the runner: this worker and the driver share no desk
            raise UnitFailed(Failure.of(error)) from error
        self.near = job["near"]
        if self.near and job["runner"] != os.getpid():
            follow(job["runner"])
            # Beam prints a failure before it tells of it, and the log may lie on the disk that is full.
            sys.stderr = cast(TextIO, Unfailing(sys.stderr))
        self.refused = False
        try:
            self.context = fingerprint.checked(job)
        except fingerprint.WorkerMismatch as error:
            self.desk.fail(Failure.of(error))
            self.refused = True
            return
        self.tasks = {key: Task(phase, key, size, spec) for phase, key, size, spec in job["tasks"]}
        self.queue = iter(self.tasks.values())
        """What this worker has not tried to claim yet: each unit once, whatever the number of elements it is given."""
        self.reporter = Reporter(self.desk.folder / REPORTS, None if self.near else self.desk)

    def process(self, key: str) -> Iterator[tuple[bytes, pa.RecordBatch]]:
        """Does this unit; or, where the queue is shared, whatever is left in it. Its counts have one key for all."""
        if self.refused:
            return
        for task in self.queue if self.near else [self.tasks[key]]:  # largest first, as they were listed
            row = self._unit(task)
            if row is not None:
                values = [[1], [len(row.parts)], [sum(part.bytes for part in row.parts)]]
                arrays = [pa.array(value, pa.int64()) for value in values]
                yield b"", pa.RecordBatch.from_arrays(arrays, schema=COUNTS)

    def _unit(self, task: Task) -> Row | None:
        """Does a unit, unless another worker has claimed it, or one has failed."""
        if self.desk.failed:
            return None  # the phase has failed; what this worker was at is done
        try:
            if self.near:
                if not self.desk.claim(task.key):
                    return None
            else:
                self.desk.check()
                row = self.context.ledger.valid_row(task.phase, task.key)
                if row is not None:  # of a worker that was lost afterwards
                    return row
            self.reporter.begin(task.title)
            with nullcontext() if self.near else workerlog.of(self.desk).during(task.title):
                row = do_unit(task, self.context, self.reporter)
            self.reporter.end()
        except BaseException as error:  # a stage may well call sys.exit
            if not self.near and isinstance(error, Abandoned | LockedError):
                raise  # there is nobody to tell
            failure = Failure.of(error, task.title)
            self.desk.fail(failure)
            with suppress(OSError):
                self.reporter.give_up()
            if self.near:
                raise UnitFailed(failure) from error
            return None  # raised, it would be tried again and again; the desk has it
        measure(row)
        return row


def do_unit(task: Task, context: Context, reporter: Reporter) -> Row:
    """Does one unit and commits it; failures that may pass are tried again."""
    for attempt in range(1, RETRIES + 1):
        folder = context.ledger.attempt()
        try:
            begun, clock = time.process_time(), time.monotonic()
            forget_peak()
            staged, body = PHASES[task.phase].work(task, context, folder, reporter)
            timing = body.setdefault("timing", {})
            timing["cpu_s"] = round(time.process_time() - begun + timing.get("children_s", 0.0), 3)
            timing["wall_s"] = round(time.monotonic() - clock, 3)
            timing.setdefault("peak_rss", peak_memory())
            reporter.check()
            return context.ledger.commit(task.phase, task.key, staged, body)
        except OSError as error:
            if error.errno not in TRANSIENT or attempt == RETRIES:
                raise
            time.sleep(0.5 * 2**attempt)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            context.ledger.store.done()
    raise AssertionError("unreachable")


def measure(row: Row) -> None:
    """Reports what the unit did as Beam metrics, for runners that show them: records by stage, milliseconds."""
    for item in row.body.get("funnel", []):
        stage = item["stage"]
        Metrics.counter(stage, "entered").inc(item["entered"])
        Metrics.counter(stage, "dropped").inc(sum(item["dropped"].values()))
        Metrics.counter(stage, "cpu_ms").inc(round(1000 * row.body["timing"]["stages"].get(stage, 0)))
    Metrics.counter(row.phase, "cpu_ms").inc(round(1000 * row.body["timing"]["cpu_s"]))


def note(gathered: tuple[bytes, Iterable[pa.RecordBatch]], desk: Desk) -> None:
    """Leaves the sums of all counts where the working process finds them."""
    sums = dict.fromkeys(COUNTS.names, 0)
    for batch in gathered[1]:
        for name, column in zip(COUNTS.names, batch.columns, strict=True):
            sums[name] += sum(column.to_pylist())
    try:
        desk.note_sums(sums)
    except OSError as error:  # a full disk is no death of a worker
        raise UnitFailed(Failure.of(error)) from error
