"""The metrics log: JSON lines, each training step exactly once, whatever was killed on the way."""

from __future__ import annotations

import json
import math
import os
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from pipeline.errors import UserError

WAITS = 1.0
"""Seconds for which rows of steps are gathered, which another thread writes then: a fast step would pay more for its
row than for all other figures."""


class Log(Protocol):
    """What rows are written to."""

    def write(self, kind: str, **values: Any) -> None:
        """Adds a row."""

    def sync(self) -> None:
        """Waits until all rows are on the disk."""

    def close(self) -> None:
        """Ends it."""


class MetricsLog:
    """Rows such as `{"kind": "step", "step": 3, "attempt": 0, "data_step": 3, "loss": 7.1, ...}`.

    Opening one for a run that goes on behind `step` of `attempt` removes what that run writes again: the rows of later
    steps of this attempt, later attempts, the result, and a line that was cut off. An earlier attempt's rows stay,
    also behind its last checkpoint: they say what made someone jump.
    """

    def __init__(self, path: Path, attempt: int, step: int) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            found = read(path) if path.exists() else []
            self.reached = max((row["step"] for row in found if row.get("kind") == "step"), default=0)
            """The last step of which there was a row."""
            kept = [row for row in found if _stays(row, attempt, step)]
            self.last = [row for row in kept if row.get("step") == step and row.get("attempt", 0) <= attempt]
            """The rows of the step that the run goes on behind."""
            aside = path.with_name(f".{path.name}.writing")
            with aside.open("w", encoding="utf-8") as file:
                file.writelines(_line(row) for row in kept)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise UserError(f"the metrics log {path} cannot be written to: {error.strerror}") from error
        self._waiting: deque[dict[str, Any]] = deque()
        self._fault: Exception | None = None
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="metrics log", daemon=True)
        self._thread.start()

    def write(self, kind: str, **values: Any) -> None:
        """Adds a row, which is handed to the operating system at once, but one of a step within WAITS seconds. Raises
        UserError where the disk does not take it, or did not take those before."""
        self._waiting.append({"kind": kind} | values)
        if kind != "step" or self._fault is not None:
            self._hand_over()

    def flush(self) -> None:
        """Hands all rows to the operating system. Raises UserError as `sync` does."""
        self._hand_over()

    def sync(self) -> None:
        """Waits until all rows are on the disk: a checkpoint must not outlive the rows that led to it. Raises UserError
        where it does not take them."""
        self._hand_over(durably=True)

    def close(self) -> None:
        """Ends the log."""
        self._ended.set()
        self._thread.join()
        try:
            self._hand_over()
        finally:
            with self._lock, suppress(OSError):  # which was told
                self._file.close()

    def _work(self) -> None:
        while not self._ended.wait(WAITS):
            try:
                self._hand_over()
            except Exception as error:  # the loop's own thread raises it
                self._fault = self._fault or error
                return

    def _hand_over(self, durably: bool = False) -> None:
        with self._lock:
            if self._fault is not None:
                raise self._fault
            if self._file.closed:
                return
            try:
                self._file.writelines(_line(self._waiting.popleft()) for _ in range(len(self._waiting)))
                self._file.flush()
                if durably:
                    os.fsync(self._file.fileno())
            except OSError as error:
                self._fault = UserError(f"the metrics log {self._file.name} cannot be written to: {error.strerror}")
                raise self._fault from error


class NoLog:
    """That of the processes that write none."""

    def write(self, kind: str, **values: Any) -> None:
        """Nothing."""

    def sync(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a log; a line that is no JSON object (cut off by a kill) is left out."""
    rows = []
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def _stays(row: dict[str, Any], attempt: int, step: int) -> bool:
    if row.get("kind") == "result" or row.get("attempt", 0) > attempt:
        return False
    return bool(row.get("attempt", 0) < attempt or row.get("step", 0) <= step)


_encode = json.JSONEncoder(allow_nan=False).encode


def _line(row: dict[str, Any]) -> str:
    try:
        return _encode(row) + "\n"
    except ValueError:  # which happens to few
        return json.dumps(finite(row)) + "\n"


def finite(value: Any) -> Any:
    """The same with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
