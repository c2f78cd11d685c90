"""The desk of a phase: what the working process and its workers tell each other, as small files under `ledger/runs`.

The job (its units), claims and reports of workers, and why a unit failed. Where workers are on other machines the desk
is all that they share with the driver beside the ledger, and the job file is their licence: it goes when the attempt
is over, and a worker that comes late then finds that nobody waits for it.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.failures import Failure

JOB, SUMS, CLAIMS, REPORTS = "job.json", "sums.json", "claims", "reports"
LOGS = "workers"
"""The folder beside a phase's with the logs of workers on other hosts."""
FAILED, WHY = "failed", "failed.json"
"""An empty file, which can be made on a full disk too; and what can be said of the failure."""


class Abandoned(UserError):
    """The attempt that this worker works for is over."""


@dataclass(frozen=True)
class Desk:
    """A phase's folder in the folder of an attempt."""

    folder: Path

    def open(self, job: dict[str, Any]) -> None:
        """Lays out a job for workers."""
        (self.folder / CLAIMS).mkdir(parents=True)
        (self.folder / REPORTS).mkdir(exist_ok=True)
        self._put(JOB, json.dumps(job).encode())

    def job(self) -> dict[str, Any]:
        """The job. Raises Abandoned where it is over."""
        try:
            return dict(json.loads((self.folder / JOB).read_bytes()))
        except FileNotFoundError:
            raise Abandoned(f"{self.folder}: this attempt is over") from None

    def check(self) -> None:
        """Raises Abandoned where the attempt is over."""
        if not (self.folder / JOB).exists():
            raise Abandoned(f"{self.folder}: this attempt is over")

    def claim(self, key: str) -> bool:
        """Takes a unit, unless another worker did."""
        try:
            os.close(os.open(self.folder / CLAIMS / key, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        return True

    def fail(self, failure: Failure) -> None:
        """Notes that a unit failed, and why, as far as there is room: others then take up nothing more."""
        with suppress(OSError):
            (self.folder / FAILED).touch()
            self._put(WHY, json.dumps(vars(failure)).encode())

    @property
    def failed(self) -> bool:
        """Whether a unit failed."""
        return (self.folder / FAILED).exists()

    def failure(self) -> Failure | None:
        """Why a unit failed; None where none did."""
        if not self.failed:
            return None
        try:
            return Failure(**json.loads((self.folder / WHY).read_bytes()))
        except (OSError, ValueError):
            return Failure("a unit failed and could not say why; is the disk full?", 1, True, "")

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
        try:
            return dict(json.loads((self.folder / SUMS).read_bytes()))
        except FileNotFoundError:
            return {"units": 0, "parts": 0, "bytes": 0}

    def _put(self, name: str, data: bytes) -> None:
        path = self.folder / name
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        temporary.write_bytes(data)
        os.replace(temporary, path)


def retire(runs: Path) -> None:
    """Takes back the jobs of all attempts so far: workers that are still at one commit nothing more."""
    for job in runs.glob(f"*/*/{JOB}"):
        job.unlink(missing_ok=True)
