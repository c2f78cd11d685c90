"""What a worker on another host logs and prints, put into the folder of the run while it works for it.

As one small file, replaced as a whole every few seconds: an object store knows no appending. A worker that is killed
leaves what it had put there.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import stat
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TextIO, cast

from pipeline.desk import Desk
from pipeline.errors import UserError

LIMIT = 256 << 10
"""Bytes of a log that are kept: the last ones."""
INTERVAL = 3.0
"""Seconds between two looks at whether there is more."""


class WorkerLog:
    """The log of this process from now on; `put` replaces the file in the folder of the run."""

    def __init__(self, put: Callable[[bytes], None]) -> None:
        self._put = put
        self._lock = threading.Lock()
        self._file = _what_is_printed()
        self._begun = os.fstat(self._file).st_size
        self._seen = self._begun
        threading.Thread(target=self._watch, daemon=True, name="worker-log").start()

    @contextmanager
    def during(self, unit: str) -> Iterator[None]:
        """Says when a unit begins and how it ends; what it printed is put down then, if not before."""
        _say(f"{unit}: begun")
        try:
            yield
        except BaseException:
            traceback.print_exc()
            _say(f"{unit}: failed")
            raise
        else:
            _say(f"{unit}: done")
        finally:
            self.flush()

    def flush(self) -> None:
        """Puts down what is new. What cannot be written is no reason to fail: the next time there is more."""
        with self._lock, suppress(OSError, UserError):
            size = os.fstat(self._file).st_size
            if size == self._seen:
                return
            if size < self._seen:
                self._begun = 0  # it was cut from outside
            start = max(self._begun, size - LIMIT)
            data = os.pread(self._file, size - start, start)
            self._put(data if start == self._begun else data.partition(b"\n")[2])
            self._seen = size

    def _watch(self) -> None:
        while True:
            time.sleep(INTERVAL)
            self.flush()


def of(desk: Desk) -> WorkerLog:
    """The log of this process for the attempt that this desk belongs to: one for all its phases, and all threads."""
    with _making:
        if desk.folder.parent not in _logs:
            host = re.sub(r"[^A-Za-z0-9._-]+", "_", socket.gethostname())
            _logs[desk.folder.parent] = WorkerLog(partial(desk.put_log, f"{host}-{os.getpid()}.log"))
        return _logs[desk.folder.parent]


_making = threading.Lock()
_logs: dict[Path, WorkerLog] = {}


def _say(text: str) -> None:
    with suppress(OSError):
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _what_is_printed() -> int:
    """A descriptor to read what this process prints: of the file that is its standard error, as in a pool of ours, or
    of one that gets a copy of what Python prints and logs."""
    with suppress(OSError):
        if stat.S_ISREG(os.fstat(2).st_mode):
            return os.open("/proc/self/fd/2", os.O_RDONLY | os.O_CLOEXEC)
    copy = tempfile.TemporaryFile("a+", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115
    sys.stdout, sys.stderr = (cast(TextIO, _Twice(stream, copy)) for stream in (sys.stdout, sys.stderr))
    logging.getLogger().addHandler(logging.StreamHandler(copy))
    return copy.fileno()


class _Twice:
    """A stream of which a copy is kept."""

    def __init__(self, stream: TextIO, copy: TextIO) -> None:
        self._stream, self._copy = stream, copy

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._copy.write(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
