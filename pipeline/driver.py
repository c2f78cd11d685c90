"""The process that the user started: it holds the folder's lock, starts the process that works, and watches.

The working process is started again on the ledger when it or one of its workers dies, at most `RESTARTS` times in
each phase of a run; it is ended when nothing has moved for too long. Its own output, Beam's and gRPC's go to a log.
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
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

import psutil
import yaml

from pipeline import nursery, runners
from pipeline.desk import retire
from pipeline.errors import RecipeError, UserError
from pipeline.failures import Failure, as_user_error
from pipeline.forks import Forked, environment
from pipeline.ledger import Ledger
from pipeline.pool.logs import last_line
from pipeline.progress import moving, reports
from pipeline.runners.base import Runner
from pipeline.settings import listed
from pipeline.show import Display
from pipeline.spent import RunClock
from pipeline.store import Lock, Store
from pipeline.work import Context

DIED_OF = "died"
"""The file in an attempt's folder that says why."""
DIED = 70
"""What the working process ends with where its pipeline broke though no unit failed; it is then started again."""
RESTARTS = 3
"""In one phase of one run. A unit that kills its worker each time is given up so."""
CALM_SECONDS = 3600.0
"""An attempt that lasted so long, and committed units, begins the count anew: a run of weeks, in which now and then a
machine is taken away, is not given up."""
POLL = 0.2
"""Seconds between two looks at the working process."""

CANCEL_SECONDS = 15.0
"""What a working process has, when it is ended, to cancel its job on a cluster."""


Process = subprocess.Popen[bytes] | Forked


class Stopped(UserError):
    """The run in this folder was stopped by a signal; what is committed stays."""

    def __init__(self, number: int, folder: Store) -> None:
        name = signal.Signals(number).name
        super().__init__(f"stopped by {name}. What is committed stays in {folder}; run the same command to go on.")
        self.exit_code = 128 + number


@dataclass
class RunRequest:
    """What `corpusmill run` was asked for, besides the recipe."""

    workers: int | None = None
    """None for as many as the runner has."""
    runner: str = "local"
    options: list[str] = field(default_factory=list)
    stall_seconds: float = 600.0
    recipe: str = "the recipe"
    """How messages call it: its path."""
    until: str | None = None
    """The phase behind which the run ends; None for a whole run."""

    @cached_property
    def beam(self) -> Runner:
        """The runner. Raises RecipeError where there is none of this name."""
        return runners.make(self.runner, self.options)

    @property
    def forks(self) -> bool:
        """Whether workers are forks of a nursery, which then binds the stages."""
        return self.beam.shares_desk and nursery.available()


def check_request(request: RunRequest) -> None:
    """Raises RecipeError where the runner cannot be used."""
    if request.workers is not None and request.workers < 1:
        raise RecipeError(f"--workers {request.workers}: at least one")
    request.beam.check()


def run(context: Context, request: RunRequest, display: Display) -> dict[str, int]:
    """Runs a recipe to its end; returns units done by phase.

    Raises RecipeError where a stage cannot be bound, LockedError where another run works in the folder, Stopped after
    a signal, UserError otherwise.
    """
    check_request(request)
    request.beam.check_out(str(context.out))
    try:
        context.ledger.check(context.recipe.name)
        _check_trial(context, context.ledger)
        clock = RunClock()
        with _Nurseries(context, request) as nurseries:
            return _run(context, request, display, nurseries, clock)
    except OSError as error:
        raise as_user_error(error) or error from error


class _Nurseries:
    """The nursery of each attempt: it ends with all that it forked, and the next attempt has a fresh one."""

    def __init__(self, context: Context, request: RunRequest) -> None:
        self._context = context
        self._request = request
        self._nursery: nursery.Nursery | None = None
        self.cpu_seconds = 0.0
        """CPU time until each of them had forked the working process."""

    def __enter__(self) -> _Nurseries:
        self.get()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def get(self) -> nursery.Nursery | None:
        """The one that is there, or a new one; None where workers are no forks. Raises RecipeError."""
        if self._nursery is None and self._request.forks:
            self._nursery = nursery.Nursery(self._context)
            try:
                problems = self._nursery.problems()
            except BaseException:
                self.end()
                raise
            if problems:
                self.end()
                raise RecipeError(listed(self._request.recipe, problems))
        return self._nursery

    def note(self) -> None:
        """Takes down what the one that is there has spent so far."""
        if self._nursery is not None:
            self.cpu_seconds += self._nursery.cpu_seconds()

    def end(self) -> None:
        """Ends the one that is there."""
        if self._nursery is not None:
            self._nursery.close()
        self._nursery = None


def _run(
    context: Context, request: RunRequest, display: Display, nurseries: _Nurseries, clock: RunClock
) -> dict[str, int]:
    with _signals_raise(context.ledger.store), _locked(context, display) as lock:
        written = json.dumps(context.to_json())
        context = replace(context, fence=lock.number)
        ledger = context.ledger
        ledger.create(context.recipe.name)
        recipe = yaml.safe_dump(context.recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        for name, text in {"recipe.yaml": recipe, "ledger/context.json": written}.items():
            if ledger.small(name) != text.encode():
                ledger.set_complete(False)
                ledger.store.write(name, text.encode())
        for old in sorted(ledger.store.desks.glob("*"))[:-4]:
            shutil.rmtree(old, ignore_errors=True)
        deaths: Counter[str] = Counter()
        while True:
            retire(ledger.store)  # first, so that workers of it put down nothing more
            ledger.clear_attempts()
            desk = ledger.store.desks / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"
            begun = time.monotonic()
            result = _attempt(context, request, display, lock, desk, nurseries, again=bool(deaths))
            display.close_phase(finished=result is not None)
            if result is not None:
                workers = request.beam.workers(request.workers)
                binding = nurseries.cpu_seconds
                clock.end(context.ledger.store, result, workers, binding, local=request.beam.shares_desk)
                return result
            facts, working = _state(desk)
            phase = facts.get("phase", "start")
            calm = time.monotonic() - begun > CALM_SECONDS and any(report["units"] for report in working)
            deaths[phase] = 1 if calm else deaths[phase] + 1
            if deaths[phase] > RESTARTS:
                raise UserError(
                    f"workers died {deaths[phase]} times in phase {phase}, the last time at work on: "
                    f"{_units_at_work(working)}. {_died_of(desk) or 'Out of memory?'} What is committed stays. "
                    f"The log is {desk / 'log'}."
                )
            display.restarted(phase, _died_of(desk))


def _died_of(desk: Path) -> str:
    """What the runner said of it, in a line, if it did."""
    try:
        said = (desk / DIED_OF).read_text("utf-8").strip()
    except OSError:
        return ""
    line = next((line for line in said.splitlines() if line.strip()), "")
    return line[:400] + ("" if line.endswith(".") else ".")


def _locked(context: Context, display: Display) -> Lock:
    try:
        return context.ledger.store.lock(display.say)
    except OSError as error:
        raise UserError(f"the output folder {context.ledger.store} cannot be made: {error.strerror}") from error


def _check_trial(context: Context, ledger: Ledger) -> None:
    """Raises RecipeError where a trial run would take the place of a whole one."""
    data = ledger.small("ledger/context.json") if context.trial.given else None
    if data is None:
        return
    try:
        there = Context.from_json(json.loads(data.decode("utf-8"))).trial
    except (ValueError, KeyError, TypeError):
        return  # of another version or damaged: nothing that could be resumed
    if not there.given:
        raise RecipeError(
            f"{ledger.store} holds a run over the whole of its inputs, which a trial would replace. "
            "Give another folder with --out."
        )


def _attempt(
    context: Context,
    request: RunRequest,
    display: Display,
    lock: Lock,
    desk: Path,
    nurseries: _Nurseries,
    *,
    again: bool,
) -> dict[str, int] | None:
    """One life of the working process: units done by phase, or None where it or a worker died."""
    desk.mkdir(parents=True)
    try:
        forks = nurseries.get()
    except nursery.Died:
        return None
    order = {
        "context": context.to_json(),
        "workers": request.workers,
        "runner": request.runner,
        "options": request.options,
        "driver": os.getpid(),
        "nursery": forks and forks.address,
        "until": request.until,
        "again": again,
    }
    (desk / "order.json").write_text(json.dumps(order))
    try:
        process, told = _started(desk, context, forks, lock)
    except nursery.Died:
        nurseries.end()
        return None
    group = forks.group if forks else process.pid
    with told:
        try:
            nurseries.note()
            return _watch(process, told, desk, request, display, group, lock)
        finally:
            if isinstance(process, subprocess.Popen) and not request.beam.shares_desk:
                _call_off(process, context.ledger.store)
            _end(process, group)
            nurseries.end()
            with suppress(UserError):  # what went wrong before is the news
                context.ledger.store.keep_logs(desk)


def _started(desk: Path, context: Context, forks: nursery.Nursery | None, lock: Lock) -> tuple[Process, BinaryIO]:
    """The working process, a fork of the nursery where there is one; and the pipe by which its result comes.

    The lock outlives this process while a worker may still commit. Raises nursery.Died, UserError where the system
    has no room for another process.
    """
    order = str(desk / "order.json")
    told, tells = os.pipe()
    try:
        with (desk / "log").open("wb") as log, open(os.devnull, "rb") as nothing:
            if forks is not None:
                descriptors = [nothing.fileno(), tells, log.fileno(), *lock.handles]
                units = context.ledger.complete() is None  # else it is likely that there are none to be done
                forked = forks.working(order, descriptors, units=units)
                if forked.pid < 0:
                    said = last_line(desk / "log")
                    raise UserError(f"the working process: {said}") if said else nursery.Died("it ended at the fork")
                return forked, os.fdopen(told, "rb")
            process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.runner", order],
                stdin=nothing,
                stdout=tells,
                stderr=log,
                env=os.environ | environment(),
                process_group=0,  # so that it can be ended with all that it started
                pass_fds=lock.handles,
            )
            return process, os.fdopen(told, "rb")
    except BaseException:
        os.close(told)
        raise
    finally:
        os.close(tells)


def _watch(
    process: Process, told: BinaryIO, desk: Path, request: RunRequest, display: Display, group: int, lock: Lock
) -> dict[str, int] | None:
    moved, spent = time.monotonic(), 0.0
    before: Any = None
    while True:
        lock.check()
        ended = process.poll() is not None
        phase, working = _state(desk)
        display.update(phase, working)
        if ended:
            _end(process, group)  # what it may have left
            return _result(process, told.read(), working, desk)
        still = time.monotonic() - moved
        now = phase, moving(working)
        if now != before:
            before, moved = now, time.monotonic()
        elif still > request.stall_seconds:
            earlier, spent = spent, _cpu_seconds(group) + sum(report.get("cpu", 0.0) for report in working)
            # At the start, and in phases that report nothing: so much CPU time no process takes that hangs.
            if phase.get("silent", True) and spent - earlier > still / 10:
                moved = time.monotonic()
                continue
            raise UserError(
                f"nothing has moved for {request.stall_seconds:.0f} s in phase {phase.get('phase', 'start')}; "
                f"units at work: {_units_at_work(working)}. The run is ended; what is committed stays. "
                f"If a unit may take that long, raise --stall. The log is {desk / 'log'}."
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


def _cpu_seconds(group: int) -> float:
    """CPU time of the working process and all that works for it: a sign of life of units that report nothing."""
    seconds = 0.0
    for one in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(one.pid) == group:
                times = one.cpu_times()
                seconds += times.user + times.system
    return seconds


def _units_at_work(working: list[dict[str, Any]]) -> str:
    return ", ".join(sorted(report["unit"] for report in working if report["unit"])) or "none"


def _result(process: Process, told: bytes, working: list[dict[str, Any]], desk: Path) -> dict[str, int] | None:
    if not told:
        status = process.wait()
        in_a_unit = any(report["unit"] for report in working)  # as where a library of C calls exit
        if status < 0 or status == DIED or in_a_unit:
            return None
        last = last_line(desk / "log")
        raise UserError(f"the working process ended by itself: {last}\nThe log is {desk / 'log'}.")
    result = json.loads(told)
    if "done" in result:
        return dict(result["done"])
    failure = Failure(**result)
    with suppress(OSError):
        (desk / "trace").write_text(failure.trace)
    if failure.expected:
        error = UserError(failure.message)
        error.exit_code = failure.exit_code
        raise error
    raise UserError(
        f"{failure.message}\nThis is a fault of corpusmill or of a stage. What is committed stays. "
        f"The trace is {desk / 'trace'}, the log {desk / 'log'}."
    )


def _call_off(process: subprocess.Popen[bytes], store: Store) -> None:
    """Ends what is at work elsewhere, which would outlive the working process.

    Its job is taken back, so that workers commit nothing more, and the working process cancels it. A second Ctrl-C
    breaks none of this off.
    """
    heeded = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    earlier = {number: signal.signal(number, signal.SIG_IGN) for number in heeded}
    try:
        with suppress(UserError, OSError):  # the store may be what failed
            retire(store)
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(CANCEL_SECONDS)
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _end(process: Process, group: int) -> None:
    """Ends the working process and all that works for it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
    process.wait()


@contextmanager
def _signals_raise(folder: Store) -> Iterator[None]:
    """While this lasts, Ctrl-C and SIGTERM raise Stopped."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number, folder)

    heeded = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup has it
        heeded.append(signal.SIGHUP)
    earlier = {number: signal.signal(number, stop) for number in heeded}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
