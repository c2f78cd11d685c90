"""What a run spent outside of its units: planning, starting workers, waiting; `plan-run` and `inspect` go by it.

The manifest row of each unit says what the unit cost. Here, in `ledger/spent`, the working process leaves a file a
phase, and the driver one for the whole run, about the last run in which there was something to do. Nothing of it
decides on any result: a run whose account cannot be written goes on without it.
"""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.processes import peak_memory
from pipeline.storage.patience import Unavailable
from pipeline.store import Store

FOLDER = "ledger/spent"
RUN, WORKING = "run", "working"


@dataclass
class Pipeline:
    """A Beam pipeline over units of one phase."""

    units: int
    workers: int
    alone: bool
    """Whether there was so little to do that one worker did it, however many there are: see `pipeline.phases`."""
    wall_s: float = 0.0
    """From before the pipeline was built until all units were committed."""
    cpu_s: float = 0.0
    """Of the working process in this time, units apart; workers are mostly processes of their own."""
    here: bool = False
    """Whether the working process did the units itself."""
    units_cpu_s: float = 0.0
    """What they took it, then."""


@dataclass
class PhaseSpent:
    """What a phase took of the working process, last time it had units to do."""

    phase: str
    planning_wall_s: float = 0.0
    """Finding out which units there are, and which of them are to be done."""
    planning_cpu_s: float = 0.0
    pipelines: list[Pipeline] = field(default_factory=list)
    peak_rss: int = 0
    """Most bytes of memory of the working process so far."""

    @property
    def wall_s(self) -> float:
        """Seconds in this phase."""
        return self.planning_wall_s + sum(one.wall_s for one in self.pipelines)

    @property
    def cpu_s(self) -> float:
        """CPU seconds of the working process in this phase, units apart."""
        return self.planning_cpu_s + sum(one.cpu_s for one in self.pipelines)


@dataclass
class Working:
    """The working process of that run, to its end."""

    cpu_s: float
    """Units apart that it did itself."""
    peak_rss: int


@dataclass
class RunSpent:
    """The last run that did something, as its driver saw it."""

    wall_s: float
    workers: int
    cores: int
    """Of the driver's machine."""
    local: bool
    """Whether workers were on the driver's machine. Elsewhere their CPU time is not in `cpu_s`."""
    cpu_s: float
    """Of the driver and all that it started: the working process, and on this machine the workers."""
    driver_cpu_s: float
    """Of the driver itself, which watches."""
    binding_cpu_s: float
    """Of the process that the others are forked from, until they are: imports, models, compiled kernels."""
    units: dict[str, int]
    """Units done, by phase."""


class Clock:
    """The working process's account of a run, phase by phase."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._wall, self._cpu = time.monotonic(), time.process_time()
        self._phase = PhaseSpent("")
        self._worked = False
        self._in_units = 0.0
        self._peak = 0

    def begin(self, phase: str) -> None:
        """What is spent from now on is this phase's."""
        self._wall, self._cpu = time.monotonic(), self._own()
        self._phase = PhaseSpent(phase)

    @contextmanager
    def pipeline(self, units: int, workers: int, *, alone: bool, here: bool) -> Iterator[Pipeline]:
        """Books what is spent meanwhile as a pipeline of the phase; who did units `here` fills in what they took."""
        made = Pipeline(units, workers, alone, here=here)
        self._peak = max(self._peak, peak_memory())  # units begin it anew
        wall, cpu = time.monotonic(), self._own()
        yield made
        self._in_units += made.units_cpu_s
        made.wall_s, made.cpu_s = round(time.monotonic() - wall, 3), round(self._own() - cpu, 3)
        self._phase.pipelines.append(made)

    def end(self) -> None:
        """Writes the phase's file, where units were done."""
        phase = self._phase
        if not phase.pipelines:
            return
        self._worked = True
        phase.planning_wall_s = round(time.monotonic() - self._wall - phase.wall_s, 3)
        phase.planning_cpu_s = round(self._own() - self._cpu - phase.cpu_s, 3)
        phase.peak_rss = self._peak = max(self._peak, peak_memory())
        _write(self._store, phase.phase, asdict(phase))

    def finish(self) -> None:
        """Writes what the process took in all, where it did something."""
        if not self._worked:
            return
        _write(self._store, WORKING, asdict(Working(round(self._own(), 3), max(self._peak, peak_memory()))))

    def _own(self) -> float:
        """CPU seconds of this process, units apart."""
        return time.process_time() - self._in_units


class RunClock:
    """The driver's account of a run."""

    def __init__(self) -> None:
        self._wall, self._cpu, self._mine = time.monotonic(), cpu_so_far(), time.process_time()

    def end(self, store: Store, units: dict[str, int], workers: int, binding: float, *, local: bool) -> None:
        """Writes it, where units were done; all that the driver started has ended."""
        if any(units.values()):
            wall, cpu = time.monotonic() - self._wall, cpu_so_far() - self._cpu
            mine = round(time.process_time() - self._mine, 3)
            cores = os.cpu_count() or 1
            found = RunSpent(round(wall, 3), workers, cores, local, round(cpu, 3), mine, round(binding, 3), units)
            _write(store, RUN, asdict(found))


def cpu_so_far() -> float:
    """CPU seconds of this process and of those that it waited for."""
    spent = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in spent)


def _write(store: Store, name: str, facts: dict[str, Any]) -> None:
    with suppress(OSError, Unavailable):
        store.write(f"{FOLDER}/{name}.json", json.dumps(facts).encode(), durable=False)


def of_phase(store: Store, phase: str) -> PhaseSpent | None:
    """What the phase took; None where no file says so, as in runs of older versions."""
    facts = _read(store, phase)
    if facts is None:
        return None
    return PhaseSpent(**facts | {"pipelines": [Pipeline(**one) for one in facts["pipelines"]]})


def of_run(store: Store) -> RunSpent | None:
    """What the run took; None where no file says so."""
    facts = _read(store, RUN)
    return None if facts is None else RunSpent(**facts)


def of_working(store: Store) -> Working | None:
    """What its working process took; None where no file says so."""
    facts = _read(store, WORKING)
    return None if facts is None else Working(**facts)


def _read(store: Store, name: str) -> dict[str, Any] | None:
    try:
        return dict(json.loads(store.read(f"{FOLDER}/{name}.json")))
    except (FileNotFoundError, ValueError):
        return None
