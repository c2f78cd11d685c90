"""What a Flink cluster says of itself, by the REST interface of its job manager."""

from __future__ import annotations

import http.client
import json
import urllib.request
from dataclasses import dataclass
from typing import Any

TIMEOUT = 5.0
"""Seconds for one answer."""


class Unreachable(OSError):
    """The job manager gave no answer that could be understood."""


@dataclass(frozen=True)
class Overview:
    """What the cluster has."""

    task_managers: int
    slots: int
    version: str

    @property
    def slots_each(self) -> int:
        """Slots of a task manager, where all have the same number."""
        return max(1, self.slots // max(1, self.task_managers))


@dataclass(frozen=True)
class Job:
    """A job that the job manager knows of."""

    id: str
    name: str
    state: str

    @property
    def over(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.state in ("FINISHED", "FAILED", "CANCELED", "SUSPENDED")


class JobManager:
    """The job manager at `host:port` or a http(s) address."""

    def __init__(self, master: str) -> None:
        self.address = master.rstrip("/") if "://" in master else f"http://{master}"

    def overview(self) -> Overview:
        """Task managers and slots. Raises Unreachable."""
        found = self.ask("/overview", wanted="taskmanagers")
        return Overview(found["taskmanagers"], found["slots-total"], found["flink-version"])

    def jobs(self) -> list[Job]:
        """All jobs, also those that ended a while ago. Raises Unreachable."""
        return [Job(job["jid"], job["name"], job["state"]) for job in self.ask("/jobs/overview", wanted="jobs")["jobs"]]

    def cancel(self, job: Job) -> None:
        """Asks for the end of a job. Raises Unreachable."""
        self.ask(f"/jobs/{job.id}?mode=cancel", "PATCH")

    def ask(self, path: str, method: str = "GET", wanted: str = "") -> Any:
        """What it answers, for example to `/overview`; `wanted` must be in it. Raises Unreachable."""
        request = urllib.request.Request(self.address + path, method=method)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                found = json.loads(answer.read())
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or str(error) or type(error).__name__
            raise Unreachable(f"{self.address}: {reason}") from error
        if wanted and (not isinstance(found, dict) or wanted not in found):
            raise Unreachable(f"{self.address}: what answers there is no job manager of Flink")
        return found
