"""What a nursery does all its life: forks the processes that it is asked for, and tells their askers how they end.

Who wants a process connects to the socket, sends what it is to be and the descriptors that it is to have, and is told
its pid, then its exit status. The process lives as long as that connection. See `pipeline.forks` for the asking side.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import json
import logging
import os
import selectors
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from pipeline import forks
from pipeline.forks import DESCRIPTORS, SIZE, TOLD

Closing = socket.socket | selectors.BaseSelector

_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 15, 36
_libc = ctypes.CDLL(None)


def end_with(parent: int) -> None:
    """Has the system end this process with its parent."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def name_of(kind: str) -> str:
    """What processes of this kind are called, as `top` shows them."""
    return f"mill-{kind}"


def fork(role: Callable[[list[int]], None], descriptors: Sequence[int], closing: Iterable[Closing] = ()) -> int:
    """The pid of a fork of this process that plays `role`, and ends with this one.

    The first three descriptors become its standard ones, `role` gets the others. It does not have what is `closing`.
    """
    gc.collect()
    gc.freeze()  # so that the collector, in the child, does not write to what is shared
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        end_with(parent)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        for one in closing:
            one.close()
        for place, descriptor in enumerate(descriptors[:3]):
            os.dup2(descriptor, place)
            os.close(descriptor)
        role(list(descriptors[3:]))
        status = 0
    except SystemExit as exit:
        status = exit.code if isinstance(exit.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stderr.flush()
        os._exit(status)


def reaped() -> Iterator[tuple[int, int]]:
    """Pid and exit status (negative: the signal) of every child that has ended, also of those that others left."""
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            yield pid, os.waitstatus_to_exitcode(status)


def has_children() -> bool:
    """Whether this process has children, ended or not."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def adopt_orphans() -> None:
    """Makes this process the parent of what its children leave: who else is there may not reap them."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)


class Wakeful:
    """A selector that signals wake: of children that end, and others that are asked for."""

    def __init__(self, *signals: signal.Signals) -> None:
        self.selector = selectors.DefaultSelector()
        self._ended, self._wake = socket.socketpair()
        for end in (self._ended, self._wake):
            end.setblocking(False)
        self.selector.register(self._ended, selectors.EVENT_READ)
        for number in (signal.SIGCHLD, *signals):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)

    def wait(self, seconds: float | None = None) -> tuple[list[selectors.SelectorKey], set[int]]:
        """What can be read, and the numbers of the signals that came."""
        ready = [key for key, _ in self.selector.select(seconds)]
        came: set[int] = set()
        with suppress(BlockingIOError):
            came.update(self._ended.recv(4096))
        return [key for key in ready if key.fileobj is not self._ended], came

    @property
    def parts(self) -> list[Closing]:
        """What a fork has no use for."""
        return [self.selector, self._ended, self._wake]


class Forker:
    """Forks processes, tells who asked for them how they end, and kills those for whom nobody asks any more."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._children: dict[int, socket.socket] = {}
        """By pid: the connection that it was asked for on."""
        self._wakeful = Wakeful()
        self._wakeful.selector.register(listener, selectors.EVENT_READ)

    def serve(self) -> None:
        """Until it is killed."""
        while True:
            ready, _ = self._wakeful.wait()
            for pid, status in reaped():
                self._has_ended(pid, status)
            for key in ready:
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._hung_up(key.data)

    def _accept(self) -> None:
        """Forks what the next connection asks for; where the system refuses, the asker is told so and goes without."""
        descriptors: list[int] = []
        line: socket.socket | None = None
        pid = 0
        try:
            line, _ = self._listener.accept()
            ask = request(line, descriptors)
            role = _ROLES[ask["kind"]](ask)
            pid = fork(
                _called(name_of(ask["kind"]), role),
                descriptors,
                [*self._wakeful.parts, self._listener, line, *self._children.values()],
            )
        except (OSError, ValueError, KeyError, struct.error) as error:
            with suppress(OSError):
                os.write(descriptors[2] if len(descriptors) > 2 else 2, f"no process: {error}\n".encode())
        for descriptor in descriptors:
            os.close(descriptor)
        if not pid:
            if line is not None:
                line.close()
            return
        assert line is not None
        self._children[pid] = line
        self._wakeful.selector.register(line, selectors.EVENT_READ, pid)
        with suppress(OSError):
            line.sendall(TOLD.pack(pid))

    def _has_ended(self, pid: int, status: int) -> None:
        line = self._children.pop(pid, None)
        if line is None:
            return
        with suppress(KeyError):  # it has hung up
            self._wakeful.selector.unregister(line)
        with suppress(OSError):
            line.sendall(TOLD.pack(status))
        line.close()

    def _hung_up(self, pid: int) -> None:
        if pid in self._children:  # it says nothing more than that, so whatever can be read is its end
            self._wakeful.selector.unregister(self._children[pid])
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _called(name: str, role: Callable[[list[int]], None]) -> Callable[[list[int]], None]:
    """`role`, by a process of this name."""

    def become(descriptors: list[int]) -> None:
        _libc.prctl(_PR_SET_NAME, name.encode())
        role(descriptors)

    return become


def request(line: socket.socket, descriptors: list[int]) -> dict[str, Any]:
    """What is asked for; its descriptors are added to `descriptors` whatever happens.

    Raises ValueError and struct.error where that is no request of this user, OSError where descriptors ran out.
    """
    _, user, _ = struct.unpack("iII", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if user != os.getuid():
        raise ValueError("somebody else's request")
    head, found, _, _ = socket.recv_fds(line, SIZE.size, DESCRIPTORS)
    descriptors += found
    (size,) = SIZE.unpack(head)
    data = b""
    while len(data) < size:
        piece = line.recv(size - len(data))
        if not piece:
            raise ValueError("a request that ends early")
        data += piece
    ask: dict[str, Any] = json.loads(data)
    if ask["descriptors"] != len(found):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return ask


def _worker(ask: dict[str, Any]) -> Callable[[list[int]], None]:
    """A Beam worker, with the environment that Beam gave to the client."""
    import apache_beam.runners.worker.sdk_worker_main as beam_worker

    import pipeline.engine  # noqa: F401 - here, so that its workers share it

    def become(_: list[int]) -> None:
        os.environ.clear()
        os.environ.update(ask["environment"])
        os.chdir(ask["folder"])
        sys.argv = sys.orig_argv = [sys.executable, beam_worker.__name__]
        if ask.get("logs"):
            _log_to_stderr()
        beam_worker.main([])  # type: ignore[no-untyped-call]

    return become


def _log_to_stderr() -> None:
    """Beam sends what is logged to the runner alone, which may keep it who knows where."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(lambda record: record.levelno >= logging.WARNING or not record.name.startswith("apache_beam"))
    logging.getLogger().addHandler(handler)


def _guarded(ask: dict[str, Any]) -> Callable[[list[int]], None]:
    """The child that runs a guarded stage."""
    from pipeline import guard_child

    def become(descriptors: list[int]) -> None:
        sys.argv = sys.orig_argv = [sys.executable, guard_child.__name__]
        guard_child.main(shared=descriptors[0])

    return become


def _working(ask: dict[str, Any]) -> Callable[[list[int]], None]:
    """The working process of a run, with this nursery for its workers."""
    with suppress(Exception):  # the fork meets it itself, and can tell
        import pipeline.runner

        if ask["units"]:
            import pipeline.engine  # noqa: F401 - here, so that workers share it too

    def become(_: list[int]) -> None:
        from pipeline import runner

        sys.argv = sys.orig_argv = [sys.executable, runner.__name__]
        try:
            status = runner.main(ask["order"])
        finally:
            sys.stdout.flush()
        sys.exit(status)

    return become


_ROLES = {forks.WORKER: _worker, forks.GUARDED: _guarded, forks.WORKING: _working}
