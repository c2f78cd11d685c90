"""The process that the user started: it holds the folder's lock, starts the process that works, and watches.

The working process is started again on the ledger, at most `RESTARTS` times, when it or one of its workers
dies; it is ended when nothing has moved for too long. Its own output, Beam's and gRPC's go to a log file.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import yaml

from pipeline.errors import RecipeError, UserError, nearest
from pipeline.ledger import Ledger, write_durably
from pipeline.lock import FolderLock
from pipeline.progress import reports
from pipeline.show import Display
from pipeline.work import Context

RESTARTS = 3
POLL = 0.2
"""Seconds between two looks at the working process."""

REFUSED = {
    "DirectRunner": "it first tries to download another runner, and which one then runs depends on that",
    "DaskRunner": "it loses data silently where a collection has two consumers, and reports success",
    "InteractiveRunner": "it keeps every collection in memory",
}
KNOWN_RUNNERS = ("local", "FlinkRunner", "PortableRunner", "SparkRunner", "DataflowRunner", "BundleBasedDirectRunner")


@dataclass
class Stopped(Exception):
    """The run was stopped by a signal; what is committed stays."""

    signal: int


@dataclass
class RunRequest:
    """What `corpusmill run` was asked for, besides the recipe."""

    workers: int = 1
    runner: str = "local"
    options: list[str] = field(default_factory=list)
    stall_seconds: float = 600.0


def check_request(request: RunRequest) -> None:
    """Raises RecipeError where the runner cannot be used."""
    if request.workers < 1:
        raise RecipeError(f"--workers {request.workers}: at least one")
    if request.runner in REFUSED:
        raise RecipeError(f"--runner {request.runner} is refused: {REFUSED[request.runner]}. Use local.")
    if request.runner not in KNOWN_RUNNERS:
        raise RecipeError(f"--runner {request.runner}: no such runner.{nearest(request.runner, KNOWN_RUNNERS)}")
    if request.runner == "local" and request.options:
        raise RecipeError(f"runner options {request.options} need another runner than local")


def run(context: Context, request: RunRequest, display: Display) -> dict[str, int]:
    """Runs a recipe to its end; returns units done by phase.

    Raises LockedError where another run works in the folder, Stopped after a signal, UserError otherwise.
    """
    check_request(request)
    ledger = Ledger(context.out)
    _make_folder(context.out)
    lock = FolderLock(ledger.folder)
    try:
        ledger.create(context.recipe.name)
        recipe = yaml.safe_dump(context.recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        asked = {context.out / "recipe.yaml": recipe, ledger.folder / "context.json": json.dumps(context.to_json())}
        for path, text in asked.items():
            if not path.exists() or path.read_bytes() != text.encode():
                ledger.set_complete(False)
                write_durably(path, text.encode(), ledger.scratch)
        for old in sorted((ledger.folder / "runs").glob("*"))[:-4]:
            shutil.rmtree(old, ignore_errors=True)
        with _signals_raise():
            for attempt in range(RESTARTS + 1):
                result = _attempt(context, request, display, lock)
                if result is not None:
                    return result
                if attempt < RESTARTS:
                    display.say("A worker died; going on from what is committed.")
        raise UserError(
            f"workers died {RESTARTS + 1} times, the last time at work on: {_units_at_work(context)}. Out of memory? "
            f"The log is in {_latest_desk(context)}."
        )
    finally:
        lock.release()


def _make_folder(out: Path) -> None:
    try:
        (out / "ledger").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the output folder {out} cannot be made: {error.strerror}") from error
    if not os.access(out, os.W_OK | os.X_OK):
        raise UserError(f"the output folder {out} may not be written to")


def _attempt(context: Context, request: RunRequest, display: Display, lock: FolderLock) -> dict[str, int] | None:
    """One life of the working process: units done by phase, or None where it or a worker died."""
    desk = Ledger(context.out).folder / "runs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"
    desk.mkdir(parents=True)
    order = {
        "context": context.to_json(),
        "workers": request.workers,
        "runner": request.runner,
        "options": request.options,
    }
    (desk / "order.json").write_text(json.dumps(order))
    paths = os.pathsep.join(path or os.getcwd() for path in [*sys.path, os.getcwd()])  # a user's own stages
    with (desk / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.runner", str(desk / "order.json")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": paths, "PYTHONHASHSEED": "0"},
            pass_fds=[lock.fileno()],  # the lock outlives this process while a worker may still commit
        )
        try:
            return _watch(process, desk, request, display)
        finally:
            _end(process)


def _watch(
    process: subprocess.Popen[bytes], desk: Path, request: RunRequest, display: Display
) -> dict[str, int] | None:
    moved = time.monotonic()
    before: Any = None
    while True:
        ended = process.poll() is not None
        phase, working = _state(desk)
        display.update(phase, working)
        if ended:
            return _result(desk)
        if _dead(working):
            return None
        now = (phase, working)
        if now != before:
            before, moved = now, time.monotonic()
        elif time.monotonic() - moved > request.stall_seconds:
            units = ", ".join(sorted(report["unit"] for report in working if report["unit"])) or "none"
            raise UserError(
                f"nothing has moved for {request.stall_seconds:.0f} s in phase {phase.get('phase', 'start')}; "
                f"units at work: {units}. The run is ended; what is committed stays. The log is {desk / 'log'}."
            )
        time.sleep(POLL)


def _state(desk: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    try:
        phase = dict(json.loads((desk / "phase.json").read_text()))
    except (OSError, ValueError):
        return {}, []
    working: list[dict[str, Any]] = []
    for folder in sorted(desk.glob(f"{phase['phase']}-*/reports")):
        working += reports(folder)
    return phase, working


def _dead(working: list[dict[str, Any]]) -> bool:
    """Whether a process that took up a unit is gone without having finished it."""
    return any(report["unit"] and not _alive(report["pid"]) for report in working)


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _result(desk: Path) -> dict[str, int] | None:
    path = desk / "result.json"
    if not path.exists():
        return None
    result = json.loads(path.read_text())
    if result["ok"]:
        return dict(result["done"])
    if not result["expected"]:
        if _dead(_state(desk)[1]):
            return None  # Beam found out first that a worker had died
        (desk / "trace").write_text(result["trace"])
        raise UserError(
            f"{result['message'].splitlines()[0]}\nThis is a fault of corpusmill or of a stage. "
            "What is committed stays. "
            f"The trace is {desk / 'trace'}, the log {desk / 'log'}."
        )
    error = UserError(result["message"])
    error.exit_code = result["exit_code"]
    raise error


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the working process and everything below it."""
    try:
        below = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        below = []
    if process.poll() is None:
        process.kill()
    for child in below:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()
    psutil.wait_procs(below, timeout=10)


def _latest_desk(context: Context) -> Path:
    return max((Ledger(context.out).folder / "runs").iterdir())


def _units_at_work(context: Context) -> str:
    _, working = _state(_latest_desk(context))
    return ", ".join(sorted(report["unit"] for report in working if report["unit"])) or "none"


@contextmanager
def _signals_raise() -> Iterator[None]:
    """While this lasts, Ctrl-C and SIGTERM raise Stopped."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    earlier = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
