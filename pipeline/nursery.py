"""The process that workers are forked from: it binds the recipe's stages once, and holds what all of them share.

A Beam worker takes three seconds of CPU time to start (Beam alone imports 2,700 modules) and a few hundred megabytes
for what every other one holds as well. So a local run has one process, without threads of its own, that imports,
reads models and compiles kernels; a worker, and the child of a guarded stage, is a fork of it, which starts in
milliseconds and owns only the pages that it writes to. `driver` starts it before anything else: a stage that cannot
be bound to its files is a problem of the recipe, told before there is a run folder.

Who wants a process connects to the nursery's socket, sends what it is to be and the descriptors that it is to have,
and is told its pid, then its exit status. The process lives as long as that connection: when the asker is gone, the
nursery kills what it asked for.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import traceback
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pipeline import bound, forks
from pipeline.errors import RecipeError, UserError
from pipeline.failures import Failure
from pipeline.forks import DESCRIPTORS, SIZE, TOLD
from pipeline.work import Context

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def available() -> bool:
    """Whether processes can be had this way: elsewhere, system libraries do not survive a fork."""
    return sys.platform == "linux"


class Died(UserError):
    """The process that loads the stages was ended from outside."""


class Nursery:
    """The driver's handle; `close` ends what it started."""

    def __init__(self, context: Context) -> None:
        self.address = f"corpusmill-{uuid.uuid4().hex}"
        self._said = open(os.memfd_create("corpusmill-nursery"), "r+b")  # noqa: SIM115 - closed with it
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.nursery", self.address, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=os.environ | forks.environment() | forks.MEMORY,
            process_group=0,
        )
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it is dead: told when it is waited for
            self._process.stdin.write(json.dumps(context.to_json()).encode())
            self._process.stdin.close()

    @property
    def group(self) -> int:
        """The process group of all that it forks."""
        return self._process.pid

    def problems(self) -> list[str]:
        """Waits until all stages are bound; what keeps some from it, a line each.

        Raises Died where the process did, and what it raised: as UserError what the user can mend.
        """
        assert self._process.stdout is not None
        told = self._process.stdout.read()
        if not told:
            status = self._process.wait()
            self._said.seek(0)
            last = self._said.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
            why = "Out of memory?" if status == -signal.SIGKILL else last
            raise Died(f"the process that loads the stages ended with status {status}. {why}")
        found = json.loads(told)
        if "missing" in found:
            raise ImportError(found["missing"])
        if "failure" in found:
            failure = Failure(**found["failure"])
            if not failure.expected:
                raise RuntimeError(f"in the process that loads the stages:\n{failure.trace}")
            error = UserError(failure.message)
            error.exit_code = failure.exit_code
            raise error
        return list(found["problems"])

    def close(self) -> None:
        """Ends it, and what it forked."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._said.close()


def main(address: str, driver: int) -> None:
    """Binds the stages of the context on standard input, tells of problems, then forks whom it is asked for."""
    _end_with(driver)
    forks.nursery = address
    result = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    found: dict[str, Any] = {}
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(forks.place(address))
        listener.listen(64)
        found["problems"] = _bind(Context.from_json(json.loads(sys.stdin.buffer.read())))
    except ImportError as error:
        found["missing"] = str(error)
    except BaseException as error:  # a stage may well call sys.exit
        found["failure"] = vars(Failure.of(error))
    with result:
        result.write(json.dumps(found).encode())
    _Server(listener).serve()


def _end_with(parent: int) -> None:
    """Has the system end this process with its parent."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _bind(context: Context) -> list[str]:
    """Binds every stage of ours and puts a page through it, so that all it loads on the way is there before a fork.

    A user's stage is not even imported: it may start threads, which do not survive a fork. Each worker binds it.
    """
    import pyarrow as pa

    from pipeline.guard_child import PAGE
    from pipeline.limited import taken_apart
    from pipeline.resources import digest, load
    from stages.registry import STAGES, make
    from stages.schema import READ

    values = {"id": bytes(16), "source": "", "url": "https://example.org/", "content_type": "text/html"}
    page = pa.RecordBatch.from_pylist([values | {"payload": PAGE}], schema=READ)
    problems = []
    for item in context.recipe.stages:
        ((name, settings),) = item.items()
        if name not in STAGES:
            continue
        stage = make(STAGES[name], taken_apart(STAGES[name], settings)[0])
        try:
            files = load(stage.files(), context.folder)
            processor = stage.bind(files)
        except (RecipeError, ValueError) as error:
            problems.append(f"stages.{name}: {error}")
            continue
        bound.keep(bound.facts_of(stage, {role: digest(data) for role, data in files.items()}), processor)
        with suppress(Exception):  # what is wrong is told with the first real batch
            made = processor(page).batch
            page = made if made.num_rows else page
    return problems


class _Server:
    """Forks processes, tells who asked for them how they end, and kills those for whom nobody asks any more."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._children: dict[int, socket.socket] = {}
        """By pid: the connection that it was asked for on."""
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._ended, wake = socket.socketpair()
        self._wake = wake
        self._ended.setblocking(False)
        wake.setblocking(False)
        self._selector.register(self._ended, selectors.EVENT_READ)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)

    def serve(self) -> None:
        """Until it is killed."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj is self._ended:
                    with suppress(BlockingIOError):
                        self._ended.recv(4096)
                    self._reap()
                else:
                    self._hung_up(key.data)

    def _accept(self) -> None:
        """Forks what the next connection asks for; where the system refuses, the asker is told so and goes without."""
        descriptors: list[int] = []
        line: socket.socket | None = None
        pid = 0
        try:
            line, _ = self._listener.accept()
            _, user, _ = struct.unpack("iII", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if user != os.getuid():
                raise ValueError("somebody else's request")
            ask = _request(line, descriptors)
            role = _ROLES[ask["kind"]](ask)
            gc.collect()
            gc.freeze()  # so that the collector, in the child, does not write to what is shared
            parent = os.getpid()
            pid = os.fork()
            if pid == 0:
                _end_with(parent)
                line.close()
                self._become(role, descriptors)
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
        self._selector.register(line, selectors.EVENT_READ, pid)
        with suppress(OSError):
            line.sendall(TOLD.pack(pid))

    def _become(self, role: Callable[[list[int]], None], descriptors: list[int]) -> None:
        """In the child: never returns."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._selector.close()
            for line in (self._listener, self._ended, self._wake, *self._children.values()):
                line.close()
            for place, descriptor in enumerate(descriptors[:3]):
                os.dup2(descriptor, place)
                os.close(descriptor)
            role(descriptors[3:])
            status = 0
        except SystemExit as exit:
            status = exit.code if isinstance(exit.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            with suppress(Exception):
                sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> None:
        for pid in list(self._children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                line = self._children.pop(pid)
                with suppress(KeyError):  # it has hung up
                    self._selector.unregister(line)
                with suppress(OSError):
                    line.sendall(TOLD.pack(os.waitstatus_to_exitcode(status)))
                line.close()

    def _hung_up(self, pid: int) -> None:
        if pid in self._children:  # it says nothing more than that, so whatever can be read is its end
            self._selector.unregister(self._children[pid])
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _request(line: socket.socket, descriptors: list[int]) -> dict[str, Any]:
    """What is asked for; its descriptors are added to `descriptors` whatever happens."""
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
        beam_worker.main([])  # type: ignore[no-untyped-call]

    return become


def _guarded(ask: dict[str, Any]) -> Callable[[list[int]], None]:
    """The child that runs a guarded stage."""
    from pipeline import guard_child

    def become(descriptors: list[int]) -> None:
        sys.argv = sys.orig_argv = [sys.executable, guard_child.__name__]
        guard_child.main(shared=descriptors[0])

    return become


_ROLES = {forks.WORKER: _worker, forks.GUARDED: _guarded}

if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
