"""Asking the nursery (`pipeline.nursery`) for processes: what workers, and what Beam starts for them, need of it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

SIZE = struct.Struct("<Q")
"""In front of a request: its bytes. The descriptors come with it."""
TOLD = struct.Struct("<i")
"""A pid, then an exit status; negative: the signal that ended it."""
DESCRIPTORS = 8
"""Most descriptors that come with a request: standard input, output, error, and others."""
MEMORY = {
    # Large pieces of memory are the system's again as soon as they are free. In the C library's own heap, small ones
    # that live on come to lie between them, and a process's memory would creep up from page to page.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 20),
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}
"""The environment of processes that put page after page through libraries."""
WORKER, GUARDED, WORKING = "worker", "guarded", "working"
"""What a process can be: a Beam worker, the child of a guarded stage, the working process of a run."""
BACKLOG = 1024
"""Requests that wait while a nursery binds stages, which takes seconds."""

nursery: str | None = None
"""The address of the nursery that this process was forked from."""


def environment() -> dict[str, str]:
    """By what the processes of a run find modules, and hash."""
    # A user's own stages may lie in the working folder, but last, so that nothing there stands in for a module of ours.
    paths = [*filter(None, sys.path), os.getcwd()]
    return {"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1", "PYTHONHASHSEED": "0"}


def place(address: str) -> str:
    """The socket of an address, in Linux's abstract namespace: no file, so none is in the way or left behind."""
    return f"\0{address}"


def worker_command(address: str) -> str:
    """The command line with which Beam starts a worker."""
    client = Path(__file__).with_name("nursery_client.py")
    return f"exec {shlex.join([sys.executable, '-I', '-S', str(client), address])}"


def ask(address: str, kind: str, descriptors: Sequence[int] = (), **facts: Any) -> socket.socket:
    """The connection on which a process was asked for: its pid comes by it, then its exit status. Raises OSError."""
    line = socket.socket(socket.AF_UNIX)
    data = json.dumps({"kind": kind, "descriptors": len(descriptors)} | facts).encode()
    try:
        line.connect(place(address))
        socket.send_fds(line, [SIZE.pack(len(data))], descriptors)
        line.sendall(data)
    except BaseException:
        line.close()
        raise
    return line


class Forked:
    """A process that the nursery forked for this one, with the part of `subprocess.Popen` that its askers use.

    Raises OSError where the nursery is gone.
    """

    def __init__(self, address: str, kind: str, descriptors: Sequence[int], **facts: Any) -> None:
        self._line = ask(address, kind, descriptors, **facts)
        (self.pid,) = TOLD.unpack(self._read())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit status; None as long as it has none."""
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, negative where a signal ended it. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            self._line.settimeout(timeout)
            try:
                (self.returncode,) = TOLD.unpack(self._read())
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired("forked", timeout or 0) from None
            self._line.close()
        return self.returncode

    def kill(self) -> None:
        """Ends it: the nursery does so when it is not asked for any more."""
        self._line.shutdown(socket.SHUT_WR)

    def _read(self) -> bytes:
        data = b""
        while len(data) < TOLD.size:
            try:
                piece = self._line.recv(TOLD.size - len(data))
            except ConnectionResetError:
                piece = b""
            if not piece:  # the nursery is gone, as by the system in want of memory
                return TOLD.pack(-signal.SIGKILL)
            data += piece
        return data
