"""What workers print, a file for each of them, bounded in size and number."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path

LIMIT = 8 << 20
"""Bytes from which on a file loses its beginning."""
KEPT = 1 << 20
"""Bytes that then stay: the last ones."""
FILES = 500
"""Files of workers that have ended which stay: the last ones."""


class Logs:
    """The files in a folder. Those that are open for a worker are cut from outside, while it writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._number = 0
        self._begun = time.strftime("%Y%m%d-%H%M%S")
        self._open: set[Path] = set()

    def begin(self, name: str) -> tuple[Path, int]:
        """A new file for a process of this name, and a descriptor that appends to it. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._number += 1
        plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:80]
        path = self.folder / f"{self._begun}-{self._number:06d}-{plain}.log"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._open.add(path)
        return path, descriptor

    def end(self, path: Path) -> None:
        """Its process has ended."""
        self._open.discard(path)
        ended = sorted(other for other in self.folder.glob("*.log") if other not in self._open)
        for old in ended[:-FILES]:
            with suppress(OSError):
                old.unlink()

    def cut(self) -> None:
        """Cuts what has grown too large. What is written at that very moment may be lost."""
        for path in self._open:
            with suppress(OSError):
                size = path.stat().st_size
                if size > LIMIT:
                    with path.open("rb") as file:
                        file.seek(size - KEPT)
                        last = file.read(KEPT)
                    os.truncate(path, 0)
                    with path.open("ab") as file:
                        file.write(b"(what came before is cut)\n" + last.partition(b"\n")[2])


def last_line(path: Path) -> str:
    """The last line of a file that says something, or nothing."""
    try:
        lines = path.read_text("utf-8", "replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
