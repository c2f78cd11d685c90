"""What workers tell the driver while they work: one small file a worker, replaced now and then."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.aside import write_whole
from pipeline.desk import Abandoned, Desk
from pipeline.errors import LockedError, UserError
from pipeline.storage.patience import Unavailable

INTERVAL = 0.3
"""Seconds between two reports of a worker of this machine, at least."""
FAR_INTERVAL = 3.0
"""The same of a worker elsewhere, who reports also when nothing is done yet: how much CPU time it has used."""


class Reporter:
    """Counts what this process has done in this phase and tells the driver now and then.

    `folder` is where it tells. With the desk, too, of a worker that the driver cannot see (`far`), it tells there, and
    finds out when the attempt is over: the unit then ends.
    """

    def __init__(self, folder: Path, far: Desk | None = None) -> None:
        self.path = folder / f"{os.getpid()}.json"
        self._far = far
        self.facts: dict[str, Any] = {"pid": os.getpid(), "unit": "", "documents": 0, "kept": 0, "bytes": 0, "units": 0}
        self._interval = INTERVAL if far is None else FAR_INTERVAL
        self._told = 0.0
        self._lock = threading.Lock()
        self._ended: UserError | None = None
        if far is not None:
            self.facts["host"] = socket.gethostname()
            threading.Thread(target=self._beat, daemon=True, name="report").start()

    def begin(self, unit: str) -> None:
        """A unit is taken up."""
        self.facts["unit"] = unit
        self.tell()

    def add(self, *, documents: int = 0, kept: int = 0, size: int = 0) -> None:
        """So many more documents read and kept, so many more bytes done. Raises Abandoned where nobody waits for it."""
        if self._ended is not None:
            raise self._ended
        self.facts["documents"] += documents
        self.facts["kept"] += kept
        self.facts["bytes"] += size
        if time.monotonic() - self._told > self._interval:
            self.tell()

    def check(self) -> None:
        """Raises Abandoned where the attempt is over: nothing is to be committed for it."""
        if self._far is not None:
            self._far.check()

    def alive(self) -> None:
        """The unit is at work, though no batch is done: what watches the run must see that something moves."""
        self.facts["steps"] = self.facts.get("steps", 0) + 1
        self.add()

    def end(self) -> None:
        """The unit is committed."""
        self.facts["unit"] = ""
        self.facts["units"] += 1
        self.tell()

    def give_up(self) -> None:
        """The unit failed."""
        self.facts["unit"] = ""
        self.tell()

    def tell(self) -> None:
        """Writes the report."""
        with self._lock:
            self._told = time.monotonic()
            if self._far is not None:
                with suppress(Unavailable):
                    self._far.report(f"{self.facts['host']}-{os.getpid()}", self.facts)
                return
            write_whole(self.path, json.dumps(self.facts).encode())

    def _beat(self) -> None:
        assert self._far is not None
        while self._ended is None:
            time.sleep(self._interval)
            self.facts["cpu"] = round(time.process_time(), 1)
            try:
                self._far.check()
                self.tell()
            except (Abandoned, LockedError) as over:
                self._ended = over
            except (OSError, Unavailable):
                continue  # a file system or a store that is away for a moment


def reports(folder: Path) -> list[dict[str, Any]]:
    """The latest report of each worker."""
    found = []
    for path in folder.glob("*.json"):
        try:
            found.append(json.loads(path.read_text()))
        except (OSError, ValueError):
            continue
    return found


def moving(working: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What changes in reports as the work goes on: CPU time is used also where nothing moves."""
    return [{name: value for name, value in report.items() if name != "cpu"} for report in working]
