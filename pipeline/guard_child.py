"""The child process that runs one stage for `pipeline.guard`: batches in, outcomes out, one at a time.

A batch that costs more CPU time than one row may is ended by the kernel (ITIMER_PROF counts this process's CPU
time, whatever else the machine is at), one that takes too much memory by the limit on the address space.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import mmap
import os
import pickle
import resource
import signal
import struct
import time
import traceback
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

import psutil
import pyarrow as pa

from pipeline import bound
from pipeline.processes import follow, peak_memory
from pipeline.resources import digest
from stages.base import Limits, Processor, Stage
from stages.schema import READ

NO_MEMORY = 86
"""Exit status of a child that ran into its limit of memory."""
HEADER = struct.Struct("<QQ")
"""In front of a reply: bytes of its pickled facts, bytes of its kept rows as an Arrow stream."""
SIZE = struct.Struct("<Q")
"""A request: bytes of the batch as an Arrow stream, which lies in the memory that both processes map."""

PAGE = (
    b"<html lang=en><head><title>A page</title></head><body><nav><a href=/>Home</a></nav><article><h1>A page</h1>"
    + b"<p>This is a paragraph with some words in it, and <a href=/b>a link</a>.</p>" * 8
    + b"<ul><li>one<li>two</ul><table><tr><td>1<td>2</table><pre>code()</pre></article></body></html>"
)
"""What warms a stage up."""


def main(shared: int | None = None) -> None:
    """Reads the order from standard input, says when it is ready, then answers requests until the parent is gone.

    `shared`: the descriptor of the memory that parent and child map, where it is not the one that the order names.
    """
    before = peak_memory() if shared is not None else 0  # of a fork: what it has of the process that it comes from
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what a stage prints goes where its messages go
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPROF])
    (size,) = SIZE.unpack(requests.read(SIZE.size))
    parent, its_shared, data = pickle.loads(requests.read(size))
    shared = its_shared if shared is None else shared
    follow(parent)
    try:
        stage, files = pickle.loads(data)
        limits = _limits(stage)
        facts = bound.facts_of(stage, {role: digest(data) for role, data in files.items()})
        process = bound.kept(facts) or stage.bind(files)
        _warm_up(process)
    except BaseException as error:
        _reply(replies, Raised.of(error), b"")
        return
    _limit_memory(limits)
    _reply(replies, None, b"")
    memory = mmap.mmap(-1, 1)
    give_back = _trimmer()
    while request := requests.read(SIZE.size):
        (size,) = SIZE.unpack(request)
        if size > len(memory):
            memory = mmap.mmap(shared, 0, access=mmap.ACCESS_READ)
        _reply(replies, *_answer(process, memory, size, limits.cpu_seconds, before))
        give_back()
    os._exit(0)  # no library's clean-up may keep it


def _answer(
    process: Processor, memory: mmap.mmap, size: int, cpu_seconds: int, before: int
) -> tuple[object, bytes | pa.Buffer]:
    """The facts and the kept rows of one batch; or what the stage raised."""
    begun = time.process_time()
    try:
        batch = pa.ipc.open_stream(pa.py_buffer(memory)[:size]).read_next_batch()
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)  # SIGPROF ends the process
        try:
            outcome = process(batch)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, outcome.batch.schema) as stream:
            stream.write_batch(outcome.batch)
    except MemoryError:
        os._exit(NO_MEMORY)  # whatever it holds is gone with it: the next batch must not suffer for this one
    except BaseException as error:  # a stage may well call sys.exit
        return Raised.of(error), b""
    facts = (list(outcome.dropped), dict(outcome.counts), time.process_time() - begun, peak_memory() - before)
    return facts, sink.getvalue()


def _reply(replies: BinaryIO, facts: object, rows: bytes | pa.Buffer) -> None:
    data = pickle.dumps(facts)
    replies.write(HEADER.pack(len(data), len(memoryview(rows))))
    replies.write(data)
    replies.write(rows)
    replies.flush()


class Raised(NamedTuple):
    """What the stage raised, in a form that survives the way to the parent, and where."""

    error: BaseException
    trace: str

    @classmethod
    def of(cls, error: BaseException) -> Raised:
        """Call it where the exception is caught."""
        trace = "".join(traceback.format_exception(error))
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            error = RuntimeError(f"{type(error).__name__}: {error}")
        return cls(error, trace)


def _limits(stage: Stage) -> Limits:
    limits = stage.limits()
    assert limits is not None, stage
    return limits


def _warm_up(process: Processor) -> None:
    """Puts a page through the stage, so that loading and compiling are nobody's CPU time."""
    values = {"id": bytes(16), "source": "", "content_type": "text/html", "payload": PAGE}
    with contextlib.suppress(Exception):  # what is wrong is told with the first real batch
        process(pa.RecordBatch.from_pylist([values], schema=READ))


def _trimmer() -> Callable[[], object]:
    """What gives free memory back to the system after a batch, where the C library knows how."""
    try:
        return functools.partial(ctypes.CDLL(None).malloc_trim, 0)
    except (OSError, AttributeError):
        return lambda: None


def _limit_memory(limits: Limits) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    room = psutil.Process().memory_info().vms + limits.memory
    if soft == resource.RLIM_INFINITY or soft > room:
        with contextlib.suppress(ValueError, OSError):  # where the system knows no such limit
            resource.setrlimit(resource.RLIMIT_AS, (room, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
