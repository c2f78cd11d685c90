"""A stage that may hang or crash, run in a child process: what a page costs it, it costs alone.

Extractors are libraries in C over pages that anyone may have written. A stage that states `limits` runs in a child
of the worker, which is fed whole batches. When the child dies, a new one gets the rows one by one until the row at
fault is found; that row is dropped, and the rest goes on as a batch. So a row's outcome depends neither on the
batch that it came in nor on what else the machine is at. A child's start is nobody's CPU time.
"""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO, Any, BinaryIO

import pyarrow as pa

from pipeline import forks
from pipeline.errors import UserError
from pipeline.guard_child import HEADER, NO_MEMORY, SIZE, Raised
from stages.base import Limits, Outcome, Stage

REASONS = ("cpu_time", "memory", "crashed")
"""Reasons of this module. A run that met one is reproducible only with its pins: see `pipeline.pins`."""
TRIES = 3
"""Deaths of the child at the same work that are blamed on something else, before the run is ended."""
_SHARED = 1 << 20


class _Died(Exception):
    """The child died at work on a batch: one of REASONS, or `killed` by a signal that comes from outside."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.reason = {-signal.SIGPROF: "cpu_time", NO_MEMORY: "memory"}.get(status, "crashed")
        if status in (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP):
            self.reason = "killed"
        super().__init__(self.reason)


class Guard:
    """A processor (a batch in, an Outcome out) that runs `stage`, which must state limits, in a child process.

    The child starts at once and is waited for at the first batch. `progress` is called whenever a batch or row is
    done, so that a long search for the row at fault does not look like a hanging run. Calls from several threads
    take turns.
    """

    def __init__(self, stage: Stage, files: Mapping[str, bytes], progress: Callable[[], None] | None = None) -> None:
        limits = stage.limits()
        assert limits is not None, stage
        self.limits: Limits = limits
        self.progress = progress
        self.cpu_seconds = 0.0
        """CPU time that the children spent on batches."""
        self.peak = 0
        """Most bytes of memory that a child had."""
        self._name = stage.name
        self._order = pickle.dumps((stage, dict(files)))
        self._lock = threading.Lock()
        self._memory = _Shared()
        self._child: _Child | None = _Child(self._order, self._memory.handle)

    def __call__(self, batch: pa.RecordBatch) -> Outcome:
        """What becomes of the batch. Raises what the stage raises, UserError where children are killed from outside."""
        with self._lock:
            return self._judge(batch)

    def _judge(self, batch: pa.RecordBatch) -> Outcome:
        parts: list[Outcome] = []
        starts: list[int] = []
        start = 0
        at_once = True
        while start < batch.num_rows or not parts:
            rest = batch.slice(start)
            if not at_once or rest.num_rows == 1:
                rest = batch.slice(start, 1)
                outcome, at_once = self._alone(rest)
            else:
                try:
                    outcome = self._ask(rest)
                except _Died as died:
                    if not rest.num_rows:
                        raise RuntimeError(f"stage {self._name} ends its process over a batch without rows") from died
                    at_once = False
                    continue
            if self.progress:
                self.progress()
            starts.append(start)
            parts.append(outcome)
            start += rest.num_rows
        return parts[0] if len(parts) == 1 else _joined(parts, starts)

    def _alone(self, row: pa.RecordBatch) -> tuple[Outcome, bool]:
        """The outcome of a batch of one row, and whether it was at fault."""
        deaths: Counter[str] = Counter()
        reason = ""
        # CPU time is counted; anything else must happen twice, in two fresh processes, to be the row's fault.
        while reason != "cpu_time" and deaths[reason] < 2:
            try:
                return self._ask(row), False
            except _Died as died:
                reason = died.reason
                deaths[reason] += 1
        figure = {"cpu_time": self.limits.cpu_seconds, "memory": self.limits.memory}.get(reason)
        value = None if figure is None else float(figure)
        return Outcome(self._ask(row.slice(0, 0)).batch, [(0, reason, value, value)]), True

    def _ask(self, batch: pa.RecordBatch) -> Outcome:
        """What the child makes of the batch; raises _Died where it dies of it, UserError where others kill it."""
        for _ in range(TRIES):
            try:
                return self._exchange(batch)
            except _Died as died:
                self._child = None
                if died.reason != "killed":
                    self.cpu_seconds += self.limits.cpu_seconds * (died.reason == "cpu_time")
                    raise
        url = batch.column("url")[0].as_py() if batch.num_rows and "url" in batch.schema.names else None
        where = f" near {url}" if url else ""
        raise UserError(
            f"the process that runs stage {self._name} was killed {TRIES} times in a row{where}. "
            f"Is memory short? Give fewer --workers, or the stage a lower max_memory (now {self.limits.memory} bytes)."
        )

    def _exchange(self, batch: pa.RecordBatch) -> Outcome:
        if self._child is None:
            self._child = _Child(self._order, self._memory.handle)
        self._child.wait_until_ready(self._name)
        size = self._memory.write(batch)
        facts, rows = self._child.ask(size)
        if isinstance(facts, Raised):
            raise facts.error from RuntimeError(f"in the process that runs stage {self._name}:\n{facts.trace}")
        dropped, counts, seconds, peak = facts
        self.cpu_seconds += seconds
        self.peak = max(self.peak, peak)
        return Outcome(pa.ipc.open_stream(rows).read_next_batch(), dropped, counts)


def _joined(parts: list[Outcome], starts: list[int]) -> Outcome:
    """The outcomes of consecutive rows as that of the whole batch."""
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part.counts)
    dropped = [(start + row, *rest) for part, start in zip(parts, starts, strict=True) for row, *rest in part.dropped]
    return Outcome(pa.concat_batches([part.batch for part in parts]), dropped, dict(counts))  # type: ignore[arg-type]


class _Shared:
    """Memory that the worker and its children map: a batch is copied once, and read where it lies."""

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self._file: IO[bytes] = open(os.memfd_create("corpusmill"), "r+b")  # noqa: SIM115 (ends with this object)
        else:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self.handle = self._file.fileno()
        self._grow(_SHARED)

    def _grow(self, size: int) -> None:
        os.ftruncate(self.handle, size)
        self._map = mmap.mmap(self.handle, size)

    def write(self, batch: pa.RecordBatch) -> int:
        """Puts the batch there; returns its bytes."""
        measure = pa.MockOutputStream()
        with pa.ipc.new_stream(measure, batch.schema) as stream:
            stream.write_batch(batch)
        size = int(measure.size())
        if size > len(self._map):
            self._grow(size + size // 4)
        with pa.ipc.new_stream(pa.FixedSizeBufferWriter(pa.py_buffer(self._map)), batch.schema) as stream:
            stream.write_batch(batch)
        return size


class _Child:
    """A child process. It is ended when this object goes."""

    def __init__(self, order: bytes, shared: int) -> None:
        self._process, self._requests, self._replies = _start(shared)
        weakref.finalize(self, _end, self._process, self._requests, self._replies)
        self._ready = False
        data = pickle.dumps((os.getpid(), shared, order))
        with suppress(BrokenPipeError):  # it is dead: told when it is waited for
            self._send(SIZE.pack(len(data)) + data)

    def wait_until_ready(self, name: str) -> None:
        """Waits for a child that is still starting. Raises what kept it from that."""
        if self._ready:
            return
        try:
            problem, _ = self._receive()
        except _Died as died:
            if died.reason == "killed":
                raise
            raise RuntimeError(f"the process for stage {name} ended with status {died.status} at its start") from died
        if isinstance(problem, Raised):
            raise problem.error from RuntimeError(f"in the process for stage {name}, at its start:\n{problem.trace}")
        self._ready = True

    def ask(self, size: int) -> tuple[Any, bytes]:
        """Facts and rows of the child's answer to the batch in the shared memory. Raises _Died."""
        try:
            self._send(SIZE.pack(size))
        except BrokenPipeError:
            raise _Died(self._process.wait()) from None
        return self._receive()

    def _send(self, data: bytes) -> None:
        self._requests.write(data)
        self._requests.flush()

    def _receive(self) -> tuple[Any, bytes]:
        facts, rows = HEADER.unpack(self._read(HEADER.size))
        return pickle.loads(self._read(facts)), self._read(rows)

    def _read(self, size: int) -> bytes:
        data = self._replies.read(size)
        if len(data) < size:
            raise _Died(self._process.wait())
        return data


def _start(shared: int) -> tuple[subprocess.Popen[bytes] | forks.Forked, BinaryIO, BinaryIO]:
    """A child, and the pipes to it and from it: a fork of the nursery where this process is one, else a fresh one."""
    theirs_in, requests = os.pipe()
    replies, theirs_out = os.pipe()
    process: subprocess.Popen[bytes] | forks.Forked
    try:
        if forks.nursery is not None:
            process = _forked(forks.nursery, [theirs_in, theirs_out, 2, shared])
        else:
            paths = os.pathsep.join(map(os.path.abspath, sys.path))
            environment = {"PYTHONPATH": paths, "PYTHONSAFEPATH": "1"} | forks.MEMORY
            process = subprocess.Popen(
                [sys.executable, "-c", "from pipeline.guard_child import main; main()"],
                stdin=theirs_in,
                stdout=theirs_out,
                env=os.environ | environment,
                pass_fds=[shared],
            )
    finally:
        os.close(theirs_in)
        os.close(theirs_out)
    return process, os.fdopen(requests, "wb"), os.fdopen(replies, "rb")


def _forked(nursery: str, descriptors: list[int]) -> forks.Forked:
    try:
        return forks.Forked(nursery, forks.GUARDED, descriptors)
    except OSError:
        os._exit(1)  # a worker without its nursery has died: the run begins again with both


def _end(process: subprocess.Popen[bytes] | forks.Forked, *pipes: BinaryIO) -> None:
    """Lets a child go: it ends when nobody can ask it any more."""
    for pipe in pipes:
        with suppress(OSError):
            pipe.close()
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
