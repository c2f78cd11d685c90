"""The pool's own process: it has loaded what workers need, and forks its server and nurseries; it has no threads.

A server that is killed is started again, a nursery that is killed takes its workers along, and the next worker has a
new one. When this process ends, however it does, the kernel ends all others.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import struct
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pipeline import forker, forks
from pipeline.errors import UserError
from pipeline.pool.logs import Logs
from pipeline.pool.nurseries import Nurseries, answer
from pipeline.pool.server import LISTENS, START, STOP, serve

HASTE = 5.0
"""A server that lives shorter than this, in seconds, has died of its start."""
STARTS = 5
"""Such deaths in a row before the pool gives up."""
PULSE = 1.0
"""Seconds between two looks at logs and workers that are to end."""


class Pool:
    """The pool of one host. `ready` is called with the port when it first serves."""

    def __init__(self, host: str, port: int, logs: Logs, ready: Callable[[int], None]) -> None:
        self._host, self._port, self._logs, self._ready = host, port, logs, ready
        self._address = f"corpusmill-pool-{uuid.uuid4().hex}"
        self._wakeful = forker.Wakeful(signal.SIGTERM, signal.SIGINT)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(forks.place(self._address))
        self._listener.listen(forks.BACKLOG)
        self._wakeful.selector.register(self._listener, selectors.EVENT_READ)
        self._nurseries = Nurseries(self._fork, self._wakeful.selector, logs)
        _, self._printed = logs.begin("pool")
        """Where server and nurseries print to."""
        self._server = 0
        self._served = 0.0
        self._short_lives = 0
        self._was_ready = False

    def run(self) -> int:
        """Serves until a signal ends it; returns that signal's number. Raises UserError where it cannot serve."""
        forker.adopt_orphans()
        try:
            self._serve()
            while True:
                keys, signals = self._wakeful.wait(PULSE if self._nurseries else None)
                for number in signals & {signal.SIGTERM, signal.SIGINT}:
                    return number
                for key in keys:
                    if key.fileobj is self._listener:
                        self._hear()
                    else:
                        self._nurseries.news_of(key.data)
                for pid, status in forker.reaped():
                    self._nurseries.ended(pid)
                    if pid == self._server:
                        self._serve_again(status)
                self._nurseries.look_after()
                self._logs.cut()
        finally:
            self._end()

    def _serve(self) -> None:
        self._served = time.monotonic()
        self._server = self._fork(lambda: serve(self._host, self._port, self._address), self._nurseries.sockets)

    def _serve_again(self, status: int) -> None:
        self._short_lives = self._short_lives + 1 if time.monotonic() - self._served < HASTE else 0
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        if self._short_lives == STARTS:
            raise UserError(f"the server of the worker pool {how}, {STARTS} times in a row; see {self._logs.folder}")
        print(f"corpusmill worker: the server {how}; it is started again", file=sys.stderr, flush=True)
        time.sleep(0.2 * max(0, self._short_lives - 1))
        self._serve()

    def _fork(self, role: Callable[[], None], closing: list[socket.socket]) -> int:
        """A process of the pool that Ctrl-C does not reach."""

        def become(_: list[int]) -> None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            role()

        descriptors = [os.open(os.devnull, os.O_RDONLY), os.dup(self._printed), os.dup(self._printed)]
        try:
            return forker.fork(become, descriptors, [*self._wakeful.parts, self._listener, *closing])
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _hear(self) -> None:
        """Does what the server asks for."""
        line, _ = self._listener.accept()
        line.settimeout(HASTE)
        try:
            ask = forker.request(line, [])
            told = self._do(ask, line)
        except (OSError, ValueError, KeyError, struct.error) as error:  # also of a server killed in mid-sentence
            told = {"error": f"{type(error).__name__}: {error}"}
        if told is not None:
            answer(line, told)

    def _do(self, ask: dict[str, Any], line: socket.socket) -> dict[str, Any] | None:
        """The answer to one request; None where it comes when there is one."""
        if ask["kind"] == START:
            self._nurseries.start(ask["name"], ask["environment"], ask["run"], line)
            return None
        if ask["kind"] == STOP:
            self._nurseries.stop(ask["name"])
        elif ask["kind"] == LISTENS:
            self._port = ask["port"]
            if not self._was_ready:
                self._was_ready = True
                self._ready(self._port)
        return {}

    def _end(self) -> None:
        """Ends all processes of the pool, and waits for them."""
        if self._server:
            with suppress(ProcessLookupError):
                os.kill(self._server, signal.SIGKILL)
        self._nurseries.end()
        until = time.monotonic() + HASTE
        while time.monotonic() < until and forker.has_children():
            list(forker.reaped())
            time.sleep(0.01)
