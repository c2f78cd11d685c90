"""The process that those of a run are forked from: it binds the stages once, and holds what all of them share.

A Beam worker takes three seconds of CPU time to start (Beam alone imports 2,700 modules) and a few hundred megabytes
for what every other one holds as well. So a local run has one process, without threads of its own, that imports,
reads models and compiles kernels; the working process, its workers, and the children of guarded stages are forks of
it, which start in milliseconds and own only the pages that they write to. `driver` starts it before anything else: a
stage that cannot be bound to its files is a problem of the recipe, told before there is a run folder.

How it forks is told in `pipeline.forker`. The nurseries of `corpusmill worker` (`pipeline.pool`) are of the same kind.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from contextlib import suppress
from typing import Any

import psutil

from pipeline import bound, forks
from pipeline.errors import RecipeError, UserError
from pipeline.failures import Failure
from pipeline.forker import Forker, end_with
from pipeline.work import Context


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

    def working(self, order: str, descriptors: list[int], *, units: bool) -> forks.Forked:
        """The working process for the order in this file, with these as its standard descriptors and further ones.

        `units`: whether it is likely to have some to do, and so to need Beam. Raises Died.
        """
        try:
            return forks.Forked(self.address, forks.WORKING, descriptors, order=order, units=units)
        except OSError as error:
            raise Died(f"the process that loads the stages is gone: {error}") from error

    def cpu_seconds(self) -> float:
        """CPU time that it took so far, without what it forked."""
        with suppress(psutil.Error):
            times = psutil.Process(self._process.pid).cpu_times()
            return times.user + times.system
        return 0.0

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
    end_with(driver)
    forks.nursery = address
    result = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    found: dict[str, Any] = {}
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(forks.place(address))
        listener.listen(forks.BACKLOG)
        found["problems"] = bind(Context.from_json(json.loads(sys.stdin.buffer.read())))
    except ImportError as error:
        found["missing"] = str(error)
    except BaseException as error:  # a stage may well call sys.exit
        found["failure"] = vars(Failure.of(error))
    with result:
        result.write(json.dumps(found).encode())
    sys.stdout.flush()  # what stages printed is not the forks' to say
    Forker(listener).serve()


def bind(context: Context) -> list[str]:
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


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
