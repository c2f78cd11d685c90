"""The desk of a phase: what the working process and its workers tell each other, as small files under `ledger/runs`.

The job (its units), claims and reports of workers, and why a unit failed. Where workers are on other machines the desk
is all that they share with the driver beside the ledger, and the job file is their licence: it goes when the attempt
is over, and a worker that comes late then finds that nobody waits for it.

A run in an object store has its desk there too, as far as others need it (`StoreDesk`); the working process brings
reports over to this machine, where the driver looks.
"""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.aside import write_whole
from pipeline.errors import UserError
from pipeline.failures import Failure
from pipeline.storage.address import use
from pipeline.store import Store, opened

JOB, SUMS, CLAIMS, REPORTS = "job.json", "sums.json", "claims", "reports"
LOGS = "workers"
"""The folder beside a phase's with the logs of workers on other hosts."""
FAILED, WHY = "failed", "failed.json"
"""An empty file, which can be made on a full disk too; and what can be said of the failure."""

RELAY = 2.0
"""Seconds between two looks for reports in a store."""


class Abandoned(UserError):
    """The attempt that this worker works for is over."""


class Unseen(UserError):
    """The run folder cannot be seen from where this worker is."""


@dataclass(frozen=True)
class Desk:
    """A phase's folder in the folder of an attempt."""

    folder: Path

    def open(self, job: dict[str, Any]) -> None:
        """Lays out a job for workers."""
        (self.folder / CLAIMS).mkdir(parents=True)
        (self.folder / REPORTS).mkdir(exist_ok=True)
        self._put(JOB, json.dumps(job).encode())

    def close(self) -> None:
        """Removes what nobody needs any more."""

    def relay(self) -> None:
        """Brings reports to where the driver looks, if they lie elsewhere."""

    def job(self) -> dict[str, Any]:
        """The job. Raises Abandoned where it is over, Unseen where the run folder is not here."""
        data = self._get(JOB)
        if data is None:
            self._check_seen()
            raise self._over()
        return dict(json.loads(data))

    def check(self) -> None:
        """Raises Abandoned where the attempt is over."""
        if not self._has(JOB):
            raise self._over()

    def claim(self, key: str) -> bool:
        """Takes a unit, unless another worker of this machine did."""
        try:
            os.close(os.open(self.folder / CLAIMS / key, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        return True

    def fail(self, failure: Failure) -> None:
        """Notes that a unit failed, and why, as far as there is room: others then take up nothing more."""
        with suppress(OSError):
            self._put(FAILED, b"")
            self._put(WHY, json.dumps(vars(failure)).encode())

    @property
    def failed(self) -> bool:
        """Whether a unit failed."""
        return self._has(FAILED)

    def failure(self) -> Failure | None:
        """Why a unit failed; None where none did."""
        if not self.failed:
            return None
        data = self._get(WHY)
        if not data:
            return Failure("a unit failed and could not say why; is the disk full?", 1, True, "")
        return Failure(**json.loads(data))

    def report(self, name: str, facts: dict[str, Any]) -> None:
        """Puts down where a worker stands."""
        self._put(f"{REPORTS}/{name}.json", json.dumps(facts).encode())

    def put_log(self, name: str, data: bytes) -> None:
        """Puts down what a worker printed so far in this attempt, in whatever phase."""
        logs = self.folder.parent / LOGS
        logs.mkdir(exist_ok=True)
        Desk(logs)._put(name, data)

    def note_sums(self, sums: dict[str, int]) -> None:
        """Leaves what the workers' counts add up to."""
        self._put(SUMS, json.dumps(sums).encode())

    def sums(self) -> dict[str, int]:
        """What the workers' counts add up to; of nothing where no unit was done."""
        data = self._get(SUMS)
        return dict(json.loads(data)) if data else {"units": 0, "parts": 0, "bytes": 0}

    def _check_seen(self) -> None:
        run = self.folder.parents[3]
        if not (run / "ledger").exists():
            raise Unseen(
                f"worker on host {socket.gethostname()}: there is no run folder {run}. Workers must reach it by "
                "the driver's name for it: give --out a folder that all machines share, or an address as s3://BUCKET/RUN."
            )

    def _over(self) -> Abandoned:
        return Abandoned(f"{self.folder}: this attempt is over")

    def _put(self, name: str, data: bytes) -> None:
        path = self.folder / name
        if not data:  # takes no room
            path.touch()
            return
        write_whole(path, data)

    def _get(self, name: str) -> bytes | None:
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def _has(self, name: str) -> bool:
        return (self.folder / name).exists()


@dataclass(frozen=True)
class StoreDesk(Desk):
    """The desk of a run whose folder is an address, for workers on other machines."""

    out: str
    storage: dict[str, dict[str, Any]] = field(hash=False)
    """Options of file systems: a worker opens the store anew."""
    fence: int | None = None

    @cached_property
    def store(self) -> Store:
        """The run's store."""
        use(self.storage)
        return opened(self.out, self.fence)

    def open(self, job: dict[str, Any]) -> None:
        """Lays out a job for workers."""
        (self.folder / REPORTS).mkdir(parents=True)
        super()._put(JOB, b"{}")  # for whoever looks into the attempt's folder
        self._put(JOB, json.dumps(job).encode())

    def close(self) -> None:
        """Removes all of it from the store."""
        self.relay()
        self.store.delete(*self.store.names(self._name("")))

    def relay(self) -> None:
        """Brings reports here, now and then."""
        for name, data in self.store.read_all(f"{self._name(REPORTS)}/").items():
            super()._put(f"{REPORTS}/{name.rpartition('/')[2]}", data)

    def put_log(self, name: str, data: bytes) -> None:
        """Puts down what a worker printed so far in this attempt, in whatever phase."""
        self.store.write(f"ledger/runs/{self.folder.parent.name}/{LOGS}/{name}", data)

    def _check_seen(self) -> None:
        """A store that cannot be reached says so itself."""

    def _name(self, name: str) -> str:
        return f"ledger/runs/{self.folder.parent.name}/{self.folder.name}/{name}"

    def _put(self, name: str, data: bytes) -> None:
        self.store.write(self._name(name), data)

    def _get(self, name: str) -> bytes | None:
        try:
            return self.store.read(self._name(name))
        except FileNotFoundError:
            return None

    def _has(self, name: str) -> bool:
        return self.store.exists(self._name(name))

    def __reduce__(self) -> tuple[Any, ...]:
        return StoreDesk, (self.folder, self.out, self.storage, self.fence)


class Relay:
    """Calls `Desk.relay` once in a while, from a loop that turns faster."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._last = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._last > RELAY:
            self._last = time.monotonic()
            with suppress(UserError, OSError):  # the store may be away for a moment
                self._desk.relay()


def retire(store: Store) -> None:
    """Takes back the jobs of all attempts so far: workers that are still at one commit nothing more.

    What a failed attempt left in a store goes as well; in a folder the driver keeps the last few.
    """
    names = [name for name in store.names("ledger/runs/") if name.count("/") > 3]
    desks = [name for name in names if name.split("/")[3] != LOGS]
    store.delete(*(name for name in desks if store.distant or name.endswith(f"/{JOB}")))
