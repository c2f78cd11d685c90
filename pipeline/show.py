"""What a run shows while it works: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from pipeline.metrics import Metrics

PLAIN_SECONDS = 10.0
"""Between two lines of progress where the output is not a terminal."""


class Display:
    """Progress of a run; `metrics` are told what is shown."""

    def __init__(self, console: Console, metrics: Metrics | None = None) -> None:
        self.console = console
        self._metrics = metrics
        self._phase = ""
        self._over = 0
        """Phases of this attempt that were said to be done."""
        self._begun = 0.0
        self._told = 0.0
        self._facts: dict[str, Any] = {}
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            columns = [TextColumn("{task.description:<11}"), BarColumn(24), TextColumn("{task.fields[text]}")]
            self._bar = Progress(*columns, TimeElapsedColumn(), console=self.console, transient=True)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close_phase()
        if self._bar is not None:
            self._bar.stop()

    def say(self, text: str) -> None:
        """A line of its own."""
        self.console.print(text, highlight=False)

    def update(self, phase: dict[str, Any], working: list[dict[str, Any]]) -> None:
        """Shows where the run stands: the phase, and the latest report of each worker."""
        if self._metrics is not None:
            self._metrics.update(phase, working)
        if not phase:
            return
        for over in phase.get("over", [])[self._over :]:  # some come and go between two looks
            self._over += 1
            self._take_down()
            self._say_end(over["phase"], over["pending"], over["pending"], over["seconds"])
        if phase["phase"] != self._phase:
            self._close()
            self._phase, self._begun, self._told = phase["phase"], time.monotonic(), time.monotonic()
            if self._bar is not None:
                self._task = self._bar.add_task(self._phase, total=max(1, phase["bytes"]), text="")
        sums = {name: sum(report[name] for report in working) for name in ("documents", "kept", "bytes", "units")}
        self._facts = phase | sums
        seconds = max(1e-3, time.monotonic() - self._begun)
        text = _progress_text(self._facts, phase["bytes"], seconds)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=sums["bytes"], text=text)
        elif time.monotonic() - self._told > PLAIN_SECONDS:
            self._told = time.monotonic()
            self.say(f"{self._phase}: {text}")

    def restarted(self, phase: str, why: str) -> None:
        """Says that the run goes on after a death in this phase, and what is known of it."""
        if self._metrics is not None:
            self._metrics.restarted(phase)
        self.say(f"A worker died; going on from what is committed. {why}".rstrip())

    def close_phase(self, *, finished: bool = False) -> None:
        """Says what became of the last phase of an attempt; the reports of its last units are seldom seen."""
        self._close(finished=finished)
        self._over = 0

    def _close(self, *, finished: bool = True) -> None:
        if self._phase:
            units = self._facts["pending"] if finished else self._facts["units"]
            self._say_end(self._phase, units, self._facts["pending"], time.monotonic() - self._begun)
            self._take_down()

    def _say_end(self, phase: str, units: int, pending: int, seconds: float) -> None:
        done = f"{units} of {pending} units done" if pending else "nothing to do"
        self.say(f"{phase:<11} {done} in {seconds:.1f} s")

    def _take_down(self) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
        self._phase = ""


def _progress_text(facts: dict[str, Any], total: int, seconds: float) -> str:
    """Documents, bytes, kept share, speeds and the time left."""
    share = f", {facts['kept'] / facts['documents']:.0%} kept" if facts["documents"] else ""
    left = ""
    if 0 < facts["bytes"] < total and seconds > 2:
        rest = seconds * (total - facts["bytes"]) / facts["bytes"]
        left = f", {_clock(rest)} left"
    return (
        f"{facts['units']}/{facts['pending']} units, {facts['documents']} documents "
        f"({facts['documents'] / seconds:.0f}/s){share}, {size_text(facts['bytes'])} of {size_text(total)} "
        f"({size_text(facts['bytes'] / seconds)}/s){left}"
    )


def size_text(size: float) -> str:
    """A number of bytes for people, in powers of 1,000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def duration_text(seconds: float) -> str:
    """A time for people: seconds, minutes, hours."""
    if seconds < 120:
        return f"{seconds:,.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} hours" if hours else f"{minutes}:{rest:02d} minutes"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
