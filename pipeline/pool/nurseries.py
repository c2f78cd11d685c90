"""The nurseries of a pool, and the workers that it asked them for."""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys
import time
import traceback
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline import fingerprint, forks
from pipeline.forker import Forker
from pipeline.forks import TOLD
from pipeline.ledger import digest_of
from pipeline.nursery import bind
from pipeline.pool.logs import Logs, last_line
from pipeline.work import Context
from stages.registry import STAGES
from stages.segmenters import KNOWN

GRACE = 3.0
"""Seconds that a worker has for its own end when the runner stops it."""
IDLE = 600.0
"""Seconds that the models of a run stay in memory when it has no worker."""
RUNS = 4
"""Most nurseries without a worker that stay."""

Fork = Callable[[Callable[[], None], list[socket.socket]], int]
"""Forks the pool: what the fork is to do, what it has no use for; its pid."""


@dataclass(eq=False)
class _Nursery:
    """A process that workers are forked from: for one run, or for those that say nothing of themselves."""

    address: str
    pid: int
    workers: set[_Worker] = field(default_factory=set)
    idle_since: float = 0.0


@dataclass(eq=False)
class _Worker:
    """A worker from when it was asked for until its end."""

    name: str
    nursery: _Nursery
    line: socket.socket
    """To the nursery: it says pid and status, and lets the worker live as long as it is open."""
    log: Path
    asker: socket.socket | None
    """Who waits for its pid."""
    told: bytes = b""
    kill_at: float | None = None


class Nurseries:
    """Starts and stops workers. Lines of theirs stand in `selector` with the worker as data: see `news_of`."""

    def __init__(self, fork: Fork, selector: selectors.BaseSelector, logs: Logs) -> None:
        self._fork = fork
        self._selector = selector
        self._logs = logs
        self._nurseries: dict[str, _Nursery] = {}
        """By digest of the run."""
        self.workers: set[_Worker] = set()

    def __bool__(self) -> bool:
        return bool(self._nurseries)

    def start(self, name: str, environment: dict[str, str], run: dict[str, Any] | None, asker: socket.socket) -> None:
        """Asks for a worker of this name for a run (its context), and has `asker` told. Raises OSError."""
        nursery = self._nursery(run, asker)
        log, descriptor = self._logs.begin(f"worker-{name}")
        nothing = os.open(os.devnull, os.O_RDONLY)
        try:
            line = forks.ask(
                nursery.address,
                forks.WORKER,
                [nothing, descriptor, descriptor],
                environment=dict(os.environ) | environment,
                folder=os.getcwd(),
                logs=True,
            )
        except OSError:
            self._logs.end(log)
            raise
        finally:
            os.close(nothing)
            os.close(descriptor)
        worker = _Worker(name, nursery, line, log, asker)
        self.workers.add(worker)
        nursery.workers.add(worker)
        self._selector.register(line, selectors.EVENT_READ, worker)

    def stop(self, name: str) -> None:
        """Lets the worker of this name end, and ends it soon.

        Two runners may both have called a worker by this name, and which one is meant cannot be known. Then it is left
        to the right one to see that its runner is gone.
        """
        named = [worker for worker in self.workers if worker.name == name]
        if len(named) == 1:
            named[0].kill_at = time.monotonic() + GRACE

    def news_of(self, worker: _Worker) -> None:
        """Reads what the nursery says of a worker: its pid, then its end."""
        try:
            data = worker.line.recv(2 * TOLD.size - len(worker.told))
        except OSError:
            data = b""
        worker.told += data
        if len(worker.told) >= TOLD.size and worker.asker is not None:
            (pid,) = TOLD.unpack(worker.told[: TOLD.size])
            self._answer(worker, {"pid": pid})
        if not data or len(worker.told) == 2 * TOLD.size:
            self._gone(worker)

    def ended(self, pid: int) -> None:
        """A process of the pool has ended; if it was a nursery, its workers went with it."""
        for digest, nursery in list(self._nurseries.items()):
            if nursery.pid == pid:
                del self._nurseries[digest]

    def look_after(self) -> None:
        """Ends workers whose time is up, and nurseries that nobody needs; to be called every second."""
        now = time.monotonic()
        for worker in self.workers:
            if worker.kill_at is not None and now >= worker.kill_at:
                worker.kill_at = None
                with suppress(OSError):
                    worker.line.shutdown(socket.SHUT_WR)  # its nursery then kills it
        idle = sorted(
            ((nursery.idle_since, digest) for digest, nursery in self._nurseries.items() if not nursery.workers),
            reverse=True,
        )
        for place, (since, digest) in enumerate(idle):
            if place >= RUNS or now - since > IDLE:
                self._end(digest)

    @property
    def sockets(self) -> list[socket.socket]:
        """What a fork of the pool has no use for."""
        askers = [worker.asker for worker in self.workers if worker.asker is not None]
        return [*(worker.line for worker in self.workers), *askers]

    def end(self) -> None:
        """Ends them all, and their workers."""
        for digest in list(self._nurseries):
            self._end(digest)

    def _nursery(self, run: dict[str, Any] | None, asker: socket.socket) -> _Nursery:
        digest = digest_of(run) if run else ""
        if digest not in self._nurseries:
            address = f"corpusmill-{uuid.uuid4().hex}"
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(forks.place(address))
                listener.listen(forks.BACKLOG)
                pid = self._fork(lambda: _live(address, listener, run), [*self.sockets, asker])
            self._nurseries[digest] = _Nursery(address, pid, idle_since=time.monotonic())
        return self._nurseries[digest]

    def _end(self, digest: str) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._nurseries.pop(digest).pid, 9)

    def _gone(self, worker: _Worker) -> None:
        self._selector.unregister(worker.line)
        worker.line.close()
        if worker.asker is not None:
            self._answer(worker, {"error": last_line(worker.log) or "its nursery ended"})
        self.workers.discard(worker)
        worker.nursery.workers.discard(worker)
        worker.nursery.idle_since = time.monotonic()
        self._logs.end(worker.log)

    def _answer(self, worker: _Worker, facts: dict[str, Any]) -> None:
        assert worker.asker is not None
        answer(worker.asker, facts)
        worker.asker = None


def answer(line: socket.socket, facts: dict[str, Any]) -> None:
    """Tells who asked on this line, and closes it."""
    with line, suppress(OSError):
        line.sendall(json.dumps(facts).encode())
        line.shutdown(socket.SHUT_RDWR)  # whoever else may hold it


def _live(address: str, listener: socket.socket, run: dict[str, Any] | None) -> None:
    """The life of a nursery: it binds the stages of the run as far as that goes, then forks."""
    forks.nursery = address
    if run is not None:
        try:
            context = Context.from_json(run)
            given = context.recipe.stages
            ours = [item for item in given if _is_ours(item)]
            for problem in bind(replace(context, recipe=context.recipe.model_copy(update={"stages": ours}))):
                print(problem, file=sys.stderr, flush=True)
            if len(ours) == len(given):
                fingerprint.of(context)  # it will be asked of each worker, which then has it
        except BaseException:  # a stage may well call sys.exit; and what is wrong each worker will tell
            traceback.print_exc()
    Forker(listener).serve()


def _is_ours(item: dict[str, dict[str, Any] | None]) -> bool:
    """Whether a stage of a recipe needs no code of the user's.

    That code each worker imports by itself: it may be mended while the nursery lives, and may start threads.
    """
    ((name, settings),) = item.items()
    return name in STAGES and all(named in KNOWN for named in ((settings or {}).get("segmenter") or {}).values())
