"""The metrics log with what watches it: rows go to its file, and then to trackers, behind the loop's back.

A tracker costs a step no more than putting its row into a queue. One that fails is told once and left out from then
on; the metrics log, which a resume relies on, must succeed.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from trainer.config import TrainConfig
from trainer.metrics import Log, MetricsLog, NoLog
from trainer.trackers import Mlflow, Row, TensorBoard, Tracker, Wandb

EVERY = 1.0
"""Seconds that rows are gathered for: sent together they cost less."""
PATIENCE = 30.0
"""Seconds that the end of a run waits for a tracker, and a twentieth of them a checkpoint."""
MOST = 200_000
"""Rows that may wait; a tracker that is so far behind is given up."""


class Feed:
    """A tracker, and the thread that hands it rows; `first` is called before, so that the metrics log has them too: a
    run that is killed must not forget what a tracker knows."""

    def __init__(self, tracker: Tracker, every: float = EVERY, first: Callable[[], None] = lambda: None) -> None:
        self.tracker, self._every, self._first = tracker, every, first
        self.fault: str | None = None
        """Why it is left out."""
        self._rows: queue.SimpleQueue[Row | threading.Event] = queue.SimpleQueue()
        self._hurry, self._ended = threading.Event(), False
        self._thread = threading.Thread(target=self._work, name=tracker.name, daemon=True)
        self._thread.start()

    def add(self, row: Row) -> None:
        """Puts a row into the queue."""
        if self.fault is None:
            self._rows.put(row)
            if self._rows.qsize() > MOST:
                self.fault = f"it is {MOST:,} rows behind"

    def sync(self, seconds: float) -> None:
        """Waits until all rows so far are written, or that long."""
        done = threading.Event()
        self._rows.put(done)
        self._hurry.set()
        if self.fault is None:
            done.wait(seconds)

    def close(self, seconds: float) -> None:
        """The same, and ends it."""
        self._ended = True
        self._hurry.set()
        self._thread.join(seconds)
        if self._thread.is_alive() and self.fault is None:
            self.fault = f"it did not take all rows within {seconds:g} s; the last are missing"

    def _work(self) -> None:
        try:
            while not self._ended and self.fault is None:
                self._hurry.wait(self._every)
                self._hurry.clear()
                self._write()
            if self.fault is None:
                self._write()
            self.tracker.close()
        except Exception as error:  # whatever it is, the training goes on
            self.fault = self.fault or f"{type(error).__name__}: {error}"
            while not self._rows.empty():
                if isinstance(waiting := self._rows.get(), threading.Event):
                    waiting.set()

    def _write(self) -> None:
        rows: list[Row] = []
        waiting: list[threading.Event] = []
        for _ in range(self._rows.qsize()):
            found = self._rows.get()
            if isinstance(found, Row):
                rows.append(found)
            else:
                waiting.append(found)
        try:
            if rows:
                self._first()
                self.tracker.write(rows)
        finally:
            for one in waiting:
                one.set()


class Journal:
    """The metrics log and the trackers of a run."""

    def __init__(self, log: MetricsLog, trackers: Sequence[Tracker], say: Callable[[str], None]) -> None:
        self._log, self._feeds, self._say = log, [Feed(tracker, first=log.flush) for tracker in trackers], say

    def write(self, kind: str, **values: Any) -> None:
        """Adds a row. Raises UserError where the disk does not take it for the metrics log, or did not take those
        before."""
        self._log.write(kind, **values)
        if self._feeds:
            row = Row(kind, int(values.get("step", 0)), time.time(), values)
            for feed in self._feeds:
                feed.add(row)
            self._tell()

    def sync(self) -> None:
        """Waits until all rows are on the disk, or a moment for what is local of the trackers."""
        self._log.sync()
        for feed in self._feeds:
            if feed.tracker.local:
                feed.sync(PATIENCE / 20)

    def close(self) -> None:
        """Ends log and trackers."""
        self._log.close()
        for feed in self._feeds:
            feed.close(PATIENCE)
        self._tell()

    def _tell(self) -> None:
        failed = [feed for feed in self._feeds if feed.fault is not None]
        if failed:
            self._feeds = [feed for feed in self._feeds if feed.fault is None]
            for feed in failed:
                self._say(
                    f"{feed.tracker.name} is given up: {feed.fault}. The training goes on, and the metrics log has all "
                    "rows"
                )


def journal(config: TrainConfig, attempt: int, step: int, first: bool, say: Callable[[str], None]) -> Log:
    """The log of a run that goes on behind `step` of `attempt`; nothing's, where this process is not the first.

    Raises RecipeError or UserError where a tracker cannot be begun.
    """
    if not first:
        return NoLog()
    log, folder = MetricsLog(config.log_file, attempt, step), config.checkpoint.folder
    trackers: list[Tracker] = []
    try:
        if config.log.tensorboard:
            last = [Row(str(row["kind"]), step, time.time(), row) for row in log.last if "kind" in row]
            trackers.append(TensorBoard(folder / "tensorboard", step, last))
        if config.log.wandb is not None:
            trackers.append(Wandb(config.log.wandb, config, step, log.reached))
        if config.log.mlflow is not None:
            trackers.append(Mlflow(config.log.mlflow, config, step, log.reached))
    except Exception:
        log.close()
        for tracker in trackers:
            tracker.close()
        raise
    return Journal(log, trackers, say)
