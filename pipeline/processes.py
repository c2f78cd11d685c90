"""Processes that follow one another, so that a killed run leaves none behind; and the memory that one took."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import psutil

INTERVAL = 0.2
"""Seconds between two looks at the process that is followed."""


def alive(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        return _alive(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False


def follow(pid: int, first: Callable[[], None] = lambda: None) -> None:
    """Ends this process soon after process `pid` is gone, whatever this one is at; but `first` is called."""
    try:
        followed = psutil.Process(pid)
    except psutil.NoSuchProcess:
        os._exit(1)

    def watch() -> None:
        while _alive(followed):
            time.sleep(INTERVAL)
        first()
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name=f"follow-{pid}").start()


class Unfailing:
    """A text stream that loses what it cannot write, in place of raising an OSError."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """The number of characters, written or not."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """As far as it goes."""
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def peak_memory() -> int:
    """Most bytes of memory that this process ever had, or since `forget_peak`.

    Linux books a parent's memory to `ru_maxrss` of the child that it starts, so the kernel's own mark is read.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # no such file on this system
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def forget_peak() -> None:
    """Has `peak_memory` count from now on, where the system can (Linux, proc(5): clear_refs)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
