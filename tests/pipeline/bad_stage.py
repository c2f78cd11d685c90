"""A stage whose pages say what they do to the process: for tests of what keeps such a process in bounds."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from stages.base import Limits, Outcome, Stage, with_column


@dataclass(frozen=True, kw_only=True)
class Bad(Stage):
    """Keeps each text in upper case; drops `drop`; does what other texts say.

    `hang`: never ends. `crash`: a segmentation fault. `gorge`: takes ever more memory. `once FILE`: is killed as from
    outside, unless the file is there, which it makes. `always`: is killed every time. `raise`, `exit`: as in Python.
    `heavy FILE`: hangs unless the file is there.
    """

    name: ClassVar[str] = "bad"
    version: ClassVar[int] = 1

    seconds: int = 1
    """CPU seconds of a row."""

    def limits(self) -> Limits:
        """Tight ones."""
        return Limits(self.seconds, 400 << 20)

    def process(self, batch: pa.RecordBatch) -> Outcome:
        """See above."""
        texts: list[str | None] = batch.column("text").to_pylist()
        for text in texts:
            _obey((text or "").split())
        upper = pa.array([text and text.upper() for text in texts], pa.string())
        keep = [text != "drop" for text in texts]
        dropped = [(row, "asked", None, None) for row, kept in enumerate(keep) if not kept]
        return Outcome(
            with_column(batch, "text", upper).filter(pa.array(keep, pa.bool_())), dropped, {"seen": len(texts)}
        )


def _obey(words: Sequence[str]) -> None:
    match words:
        case ["hang"]:
            while True:
                pass
        case ["heavy", file]:
            while not Path(file).exists():
                pass
        case ["crash"]:
            ctypes.string_at(0)
        case ["gorge"]:
            held = []
            while True:
                held.append(bytes(32 << 20))
        case ["once", file]:
            if not Path(file).exists():
                Path(file).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        case ["broken", file]:  # as a machine that fails once
            if not Path(file).exists():
                Path(file).touch()
                ctypes.string_at(0)
        case ["always"]:
            os.kill(os.getpid(), signal.SIGKILL)
        case ["raise"]:
            raise ValueError("no such luck")
        case ["exit"]:
            sys.exit(3)
