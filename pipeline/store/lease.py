"""One run at a time at an address: a numbered lock object, put only where there was none, and a heartbeat beside it.

The holder of the highest number holds the lock. It renews its heartbeat; whoever finds one that did not change for a
lease, by their own monotonic clock, puts the next number, which only one can. No clocks of two machines are compared.
A holder that finds a higher number than its own has lost the lock, and whatever still works for it commits nothing
more (`check`). At its end a run says so, and the next one need not wait.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
import xxhash

from pipeline.errors import LockedError, RecipeError
from pipeline.storage.patience import Unavailable
from pipeline.store.protocols import Objects

LEASE = 30.0
"""Seconds without a heartbeat after which a holder counts as dead; `CORPUSMILL_LEASE` sets it."""
BEATS = 6
"""Heartbeats in a lease."""
FOLDER = "ledger/lock/"
_NAME = re.compile(r"(\d{6})(\.beat|\.end)?")


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, as its object says."""

    host: str
    place: str
    """Boot and namespace of the process: where these are one's own, `pid` means the same."""
    pid: int
    born: float
    """When the process began, for a pid is given again."""
    since: str
    lease: float

    def __str__(self) -> str:
        return f"pid {self.pid} on host {self.host}, since {self.since}"

    def dead(self) -> bool:
        """Whether it was a process of this host that is no more."""
        if (self.host, self.place) != (socket.gethostname(), _place()):
            return False
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.born) > 1 or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


def check(objects: Objects, number: int, folder: str) -> None:
    """Raises LockedError where lock `number` is not the newest one any more."""
    newest = max(_numbers(objects, folder), default=0)
    if newest != number:
        raise LockedError(_lost(objects, newest, folder))


def _lost(objects: Objects, newest: int, folder: str) -> str:
    who = _holder(objects, newest, folder)
    return (
        f"this run has lost its lock at {objects.address}: it gave no sign of life for longer than its lease, and "
        f"another run works there now ({who or 'holder unknown'}). What is committed stays; this run is ended."
    )


class StoreLock:
    """The lock of a run at an address. Raises LockedError where another run holds it, RecipeError where the store
    cannot keep one."""

    def __init__(self, address: str, folder: str = FOLDER, waiting: Callable[[str], None] = lambda text: None) -> None:
        """`waiting` is told, once, where it takes a while to see whether a holder is alive."""
        self.objects = Objects(address)
        self._folder = folder
        self.lost: str | None = None
        """Why the lock is held no longer, if it is not."""
        self._lease = _lease()
        self.number = self._taken(waiting)
        self._ended = threading.Event()
        self._beats = threading.Thread(target=self._beat, daemon=True, name="heartbeat")
        self._beats.start()

    def _taken(self, waiting: Callable[[str], None]) -> int:
        newest = max(_numbers(self.objects, self._folder), default=0)
        if newest:
            self._refuse_living(newest, waiting)
        mine = Holder(
            socket.gethostname(), _place(), os.getpid(), psutil.Process().create_time(),
            datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"), self._lease,
        )  # fmt: skip
        data = json.dumps(asdict(mine)).encode()
        name = f"{self._folder}{newest + 1:06d}"
        put = self._put(name, data) or _holder(self.objects, newest + 1, self._folder) == mine
        if not put or max(_numbers(self.objects, self._folder), default=0) != newest + 1:
            raise LockedError(self._held(_holder(self.objects, newest + 1, self._folder)))
        if self._put(name, data):
            raise RecipeError(
                f"{self.objects.address}: this store puts an object where there is one already, though it was asked "
                "not to (If-None-Match): two workers could not tell whose part counts. Use another store."
            )
        for old in self.objects.list(self._folder):
            if int(_NAME.fullmatch(old.removeprefix(self._folder))[1]) < newest + 1:  # type: ignore[index]
                self.objects.remove(old)
        return newest + 1

    def _put(self, name: str, data: bytes) -> bool:
        return self.objects.put(name, data, xxhash.xxh3_128_hexdigest(data), replace=False)

    def _refuse_living(self, newest: int, waiting: Callable[[str], None]) -> None:
        """Returns where the holder has ended; raises LockedError where it shows life within its lease."""
        name = f"{self._folder}{newest:06d}"
        if self.objects.look(f"{name}.end") is not None:
            return
        holder = _holder(self.objects, newest, self._folder)
        if holder is not None and holder.dead():
            return
        lease = holder.lease if holder else self._lease
        begun = time.monotonic()
        first = self.objects.look(f"{name}.beat")
        waiting(f"{self.objects.address} is locked ({holder or 'holder unknown'}); looking whether it is alive")
        while time.monotonic() - begun < lease:
            time.sleep(min(1.0, lease / BEATS / 2))
            if self.objects.look(f"{name}.end") is not None:
                return
            if self.objects.look(f"{name}.beat") != first:
                raise LockedError(self._held(holder))
        return

    def _held(self, holder: Holder | None) -> str:
        return (
            f"another run works in {self.objects.address} ({holder or 'holder unknown'}). "
            "Wait for it, stop it, or give another --out."
        )

    def _beat(self) -> None:
        """Renews the heartbeat until the end, or until the lock is lost."""
        number = 0
        while not self._ended.wait(self._lease / BEATS if number else 0):
            number += 1
            with suppress(Unavailable):  # a store that does not answer takes no lock away either
                newest = max(_numbers(self.objects, self._folder), default=0)
                if newest != self.number:
                    self.lost = _lost(self.objects, newest, self._folder)
                    return
                data = str(number).encode()
                name = f"{self._folder}{self.number:06d}.beat"
                self.objects.put(name, data, xxhash.xxh3_128_hexdigest(data), replace=True)

    @property
    def handles(self) -> tuple[int, ...]:
        """No descriptors: children that outlive this process are kept from writing by `check`."""
        return ()

    def check(self) -> None:
        """Raises LockedError where the lock was lost."""
        if self.lost is not None:
            raise LockedError(self.lost)

    def release(self) -> None:
        """Gives the lock back."""
        self._ended.set()
        self._beats.join()
        if self.lost is None:
            with suppress(Unavailable):  # then the next run waits out the lease
                self._put(f"{self._folder}{self.number:06d}.end", b"")

    def __enter__(self) -> StoreLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _numbers(objects: Objects, folder: str) -> list[int]:
    found = (_NAME.fullmatch(name.removeprefix(folder)) for name in objects.list(folder))
    return [int(one[1]) for one in found if one]


def _holder(objects: Objects, number: int, folder: str) -> Holder | None:
    with suppress(FileNotFoundError, ValueError, TypeError, KeyError):
        return Holder(**json.loads(objects.read(f"{folder}{number:06d}")))
    return None


def _lease() -> float:
    given = os.environ.get("CORPUSMILL_LEASE", str(LEASE))
    try:
        lease = float(given)
    except ValueError:
        lease = 0.0
    if lease <= 0:
        raise RecipeError(f"CORPUSMILL_LEASE={given}: give a number of seconds, such as {LEASE:.0f}")
    return lease


def _place() -> str:
    """What tells processes of one pid apart on hosts of one name."""
    parts = []
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)
