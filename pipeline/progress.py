"""What workers tell the driver while they work: one small file a worker, replaced a few times a second."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

INTERVAL = 0.3
"""Seconds between two reports of a worker, at least."""


class Reporter:
    """Counts what this process has done in this phase and tells the driver now and then."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{os.getpid()}.json"
        self.facts: dict[str, Any] = {"pid": os.getpid(), "unit": "", "documents": 0, "kept": 0, "bytes": 0, "units": 0}
        self._told = 0.0

    def begin(self, unit: str) -> None:
        """A unit is taken up."""
        self.facts["unit"] = unit
        self.tell()

    def add(self, *, documents: int = 0, kept: int = 0, size: int = 0) -> None:
        """So many more documents read and kept, so many more bytes done."""
        self.facts["documents"] += documents
        self.facts["kept"] += kept
        self.facts["bytes"] += size
        if time.monotonic() - self._told > INTERVAL:
            self.tell()

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
        self._told = time.monotonic()
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.facts))
        os.replace(temporary, self.path)


def reports(folder: Path) -> list[dict[str, Any]]:
    """The latest report of each worker."""
    found = []
    for path in folder.glob("*.json"):
        try:
            found.append(json.loads(path.read_text()))
        except (OSError, ValueError):
            continue
    return found
