"""One run at a time in a folder: an advisory lock that the kernel releases when its holders die."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from pathlib import Path

from pipeline.errors import LockedError


class FolderLock:
    """The lock of a run folder, held until the process (and children that inherit `fileno`) end."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        folder.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "a+")  # noqa: SIM115 - lives as long as the lock
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.seek(0)
            holder = _holder(self._file.read())
            self._file.close()
            raise LockedError(
                f"another run works in {folder.parent} ({holder}). Wait for it, stop it, or give another --out."
            ) from error
        self._file.truncate(0)
        self._file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        self._file.flush()

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


def _holder(text: str) -> str:
    try:
        facts = json.loads(text)
        return f"pid {facts['pid']} on host {facts['host']}"
    except (ValueError, KeyError, TypeError):
        return "holder unknown"
