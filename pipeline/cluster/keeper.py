"""The process that owns the parts of a cluster: starts them, starts anew what died, and ends them all with itself.

It has one thread, and every part is told by the kernel when it is gone, so that none outlives it, not even a kill -9.
Its folder: `order.json` (what it was started with), `lock` (held as long as it lives), `cluster.json` (what is there,
written whenever a part came or went), `start/NAME` (a request to start this part) and `logs`.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from pipeline.aside import write_whole
from pipeline.processes import alive

LOOK = 0.1
"""Seconds between two looks at the parts."""
PAUSE = 1.0
"""Seconds until a part that died is started anew; twice as long each time that it did not even live for `STEADY`."""
STEADY = 10.0
LONGEST_PAUSE = 30.0
GRACE = 3.0
"""Seconds that parts have for their own end."""
BUSY = 75
"""Exit code where another keeper has the folder."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


@dataclass
class Part:
    """A process of the cluster, running or not."""

    name: str
    command: list[str]
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause: float = PAUSE
    due: float | None = field(default=None)
    """When to start it anew, if at all."""

    def start(self, logs: Path) -> int:
        """Starts it in a group of its own; what it prints goes to `logs/NAME.log`, behind what is there. Its pid."""
        keeper = os.getpid()

        def tie() -> None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != keeper:
                os._exit(1)

        with (logs / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | self.environment,
                process_group=0,
                preexec_fn=tie,
            )
        self.started, self.due = time.monotonic(), None
        return self.process.pid


class Keeper:
    """See the module."""

    def __init__(self, folder: Path) -> None:
        order = json.loads((folder / "order.json").read_text())
        self._folder = folder
        self._facts: dict[str, Any] = order["facts"]
        self._keep: bool = order["keep"]
        self._follow: int | None = order["follow"]
        self._parts = [Part(**part) for part in order["parts"]]
        self._stopped = False

    def run(self) -> None:
        """Keeps the parts until a signal comes or the process that is followed has gone; then ends them."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)
        try:
            for part in self._parts:
                part.start(self._folder / "logs")
            self._write()
            while not self._stopped and (self._follow is None or alive(self._follow)):
                if self._look():
                    self._write()
                time.sleep(LOOK)
        finally:
            self._end()

    def _stop(self, *_: object) -> None:
        self._stopped = True

    def _look(self) -> bool:
        """Whether a part came or went."""
        changed = False
        now = time.monotonic()
        for part in self._parts:
            if part.process is not None and part.process.poll() is not None:
                self._say(f"{part.name} (pid {part.process.pid}) ended with {part.process.returncode}")
                end_all([part.process.pid])  # what it started itself
                part.pause = PAUSE if now - part.started > STEADY else min(2 * part.pause, LONGEST_PAUSE)
                part.due = now + part.pause if self._keep else None
                part.process = None
                changed = True
            asked = self._folder / "start" / part.name
            if asked.exists():
                part.due = now
                asked.unlink()
            if part.process is None and part.due is not None and part.due <= now:
                self._say(f"{part.name} started anew (pid {part.start(self._folder / 'logs')})")
                changed = True
        return changed

    def _write(self) -> None:
        pids = {part.name: part.process.pid if part.process else None for part in self._parts}
        facts = self._facts | {"keeper": os.getpid(), "parts": pids}
        write_whole(self._folder / "cluster.json", json.dumps(facts, indent=1).encode())

    def _end(self) -> None:
        self._say("the cluster ends")
        (self._folder / "cluster.json").unlink(missing_ok=True)
        end_all([part.process.pid for part in self._parts if part.process is not None])
        for part in self._parts:
            if part.process is not None:
                part.process.wait()
        shutil.rmtree(self._folder / "tmp", ignore_errors=True)

    def _say(self, text: str) -> None:
        with suppress(OSError):
            print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def family(pid: int) -> list[psutil.Process]:
    """The process, all that it started, and all of its group: what goes with it where a machine goes."""
    found = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == pid:
                found[process.pid] = process
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        found |= {each.pid: each for each in [process, *process.children(recursive=True)]}
    return list(found.values())


def kill_all(pid: int) -> None:
    """Ends a part and all that it started by SIGKILL, at once."""
    for process in family(pid):
        with suppress(psutil.Error):
            process.kill()


def end_all(pids: list[int]) -> None:
    """Ends these parts and all that they started: asked first, killed `GRACE` seconds later."""
    processes = [process for pid in pids for process in family(pid)]
    for process in processes:
        with suppress(psutil.Error):
            process.terminate()
    _, left = psutil.wait_procs(processes, GRACE)
    for process in left:
        with suppress(psutil.Error):
            process.kill()


def main(folder: Path) -> int:
    """Is the keeper of this folder; returns the exit code."""
    with (folder / "lock").open("w") as lock:
        for _ in range(10):  # who only asks whether it is held, holds it for a moment
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(LOOK)
        else:
            return BUSY
        Keeper(folder).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
