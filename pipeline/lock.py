"""One run at a time in a folder: an advisory lock that the kernel releases when its holders die."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from pathlib import Path

from pipeline.errors import LockedError
from pipeline.processes import alive

PATIENCE = 30.0
"""Seconds that a run waits for the processes of one that was killed to end."""


class FolderLock:
    """The lock of a run folder, held until the process (and children that inherit `fileno`) end."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        folder.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "a+")  # noqa: SIM115 - lives as long as the lock
        patience = time.monotonic() + PATIENCE
        while not self._taken():
            self._file.seek(0)
            holder = _holder(self._file.read())
            if holder is not None and _dead(*holder) and time.monotonic() < patience:
                time.sleep(0.1)  # what it had started follows it
                continue
            self._file.close()
            who = "pid {} on host {}".format(*holder) if holder else "holder unknown"
            raise LockedError(
                f"another run works in {folder.parent} ({who}). Wait for it, stop it, or give another --out."
            )
        self._file.truncate(0)
        self._file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        self._file.flush()

    def _taken(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    @property
    def handles(self) -> tuple[int, ...]:
        """Descriptors that hold the lock, to be passed on to children that work for this run."""
        return (self.fileno(),)

    @property
    def number(self) -> None:
        """It has none: see `pipeline.store.lease`."""
        return None

    def check(self) -> None:
        """Nobody can take it away."""

    def fileno(self) -> int:
        """The descriptor that holds the lock, to pass on to children that work for this run."""
        return self._file.fileno()

    def release(self) -> None:
        """Gives the lock back."""
        self._file.close()

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _holder(text: str) -> tuple[int, str] | None:
    try:
        facts = json.loads(text)
        return int(facts["pid"]), str(facts["host"])
    except (ValueError, KeyError, TypeError):
        return None


def _dead(pid: int, host: str) -> bool:
    return host == socket.gethostname() and not alive(pid)
