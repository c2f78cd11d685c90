"""What the engine asks of a runner."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import xxhash

from pipeline.runners.flags import Flags


class Runner:
    """One way of having Beam do the phases of a run; a context for as long as the run lasts."""

    shares_desk = False
    """Whether its workers are processes of this machine that the run started: they claim units from a common queue,
    and end with the run."""

    again = False
    """Whether an earlier attempt of this run lost its workers: a cluster is then given time to recover."""

    asked: int | None = None
    """How many units at once `--workers` asks for; None for as many as the runner has. Known before it is entered."""

    def __init__(self, options: Sequence[str]) -> None:
        self.flags = Flags.parse(options)

    def check(self) -> None:
        """Raises RecipeError where a setting is wrong; touches nothing outside this process."""

    def check_out(self, out: str) -> None:
        """Raises RecipeError for a run folder that workers cannot reach."""

    def rehearse(self) -> str:
        """What can be said of a job without sending one; nothing where all was checked."""
        return ""

    def __enter__(self) -> Self:
        """Makes it ready for jobs. Raises UserError where it cannot be had."""
        return self

    def __exit__(self, *_: object) -> None:
        """Gives back what entering took."""

    def workers(self, asked: int | None) -> int:
        """How many units may be at work at once."""
        raise NotImplementedError

    def beam(self, job: str, workers: int, nursery: str | None) -> tuple[Any, list[str]]:
        """Beam's runner and flags for one job of this name, on so many workers."""
        raise NotImplementedError

    def end_jobs(self, prefix: str) -> None:
        """Ends jobs that an earlier attempt left at work elsewhere, as where its driver was killed."""

    def watch(self, job: str) -> None:
        """Called about twice a second while a job is at work. Raises WorkersDied where it cannot come to an end."""


class Plain(Runner):
    """A runner of Beam by its own name: flags go to it as they are."""

    def __init__(self, name: str, options: Sequence[str]) -> None:
        super().__init__(options)
        self._name = name

    def workers(self, asked: int | None) -> int:
        """As asked for, else one."""
        return asked or 1

    def beam(self, job: str, workers: int, nursery: str | None) -> tuple[Any, list[str]]:
        """Its name, and the user's flags."""
        return self._name, self.flags.to_list()


def job_prefix(out: Path | str) -> str:
    """How the names of all jobs of a run folder begin, by which they are known on a cluster."""
    return f"corpusmill-{xxhash.xxh3_64_hexdigest(str(out).encode())[:8]}-"
