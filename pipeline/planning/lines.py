"""What a plan is made of: a line for each phase, their sums, and what stands in the way."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.planning.asked import Crawl, Machines
from pipeline.planning.laws import LAWS, Sizes
from pipeline.planning.measured import Amounts, Measured
from pipeline.planning.startup import Startup
from pipeline.recipe import Recipe


@dataclass(frozen=True)
class Line:
    """What one phase will take."""

    phase: str
    scales: str
    units: float
    jobs: float
    """One after another, each with a start of its own: those of a cluster hold so many units at most."""
    workers: int
    here: bool
    """Whether it is so small that the working process does it, without another."""
    cpu_s: float
    """Of its units."""
    wall_s: float
    worker_memory: float
    """Bytes that one worker holds."""
    memory: float
    """Bytes on the machine that holds most."""
    written: float
    network: float
    """Bytes over the network, of all machines."""
    shuffled: float
    """Of these, what each machine reads of every part."""
    held: float
    """Bytes of parts that a machine must have on its disk at once."""
    parts_s: dict[str, float]
    """What the wall time is made of, the largest of which binds: see BOUNDS."""
    source: str
    """`run` where the run's own figures were scaled, `bench` where constants were taken."""

    @property
    def bound(self) -> str:
        """What the phase waits for."""
        return max(self.parts_s, key=lambda name: self.parts_s[name])


BOUNDS = {
    "cpu": "CPU time over all workers",
    "one process": "CPU time of the one process that does it",
    "longest unit": "its longest unit",
    "network": "bytes over the network",
    "planning": "the working process, which keeps the books of units",
    "start": "starting its pipeline",
}


@dataclass(frozen=True)
class Problem:
    """What stands in the way."""

    phase: str
    what: str
    ease: str
    fails: bool = True
    """Whether the run ends there; else it is only slow."""


@dataclass(frozen=True)
class Plan:
    """All of it."""

    measured: Measured
    recipe: Recipe
    crawl: Crawl
    machines: Machines
    scale: float
    """The planned crawl in those of the run."""
    sizes: Sizes
    startup: Startup
    lines: list[Line]
    serial_cpu_s: float
    other_cpu_s: float
    """Of workers beside their units."""
    problems: list[Problem]
    differs: list[str]
    """Sections of the recipe that are not those of the run."""

    @property
    def amounts(self) -> Amounts:
        """Of the planned crawl."""
        return self.sizes.amounts

    @property
    def wall_s(self) -> float:
        """Of the whole run."""
        return self.startup.run_s + sum(line.wall_s for line in self.lines)

    @property
    def cpu_s(self) -> float:
        """Of the whole run, by all processes."""
        return self.serial_cpu_s + self.other_cpu_s + sum(line.cpu_s for line in self.lines if not single(line))

    @property
    def alone_s(self) -> float:
        """Seconds in which one process works, and all others wait."""
        return sum(line.wall_s for line in self.lines if single(line))

    @property
    def disk(self) -> float:
        """Bytes of the run folder at its end, the ledger's rows included."""
        rows = self.measured.rows_size * sum(line.units for line in self.lines) / max(1, self.measured.units)
        return rows + sum(line.written for line in self.lines)

    @property
    def memory(self) -> Line:
        """The phase that holds most on a machine."""
        return max(self.lines, key=lambda line: line.memory)

    @property
    def shuffle(self) -> Line:
        """The phase that moves most between machines."""
        return max(self.lines, key=lambda line: line.shuffled)

    @property
    def cost(self) -> float | None:
        """In the money of the price of a machine."""
        price = self.machines.price
        return None if price is None else price * self.machines.count * self.wall_s / 3600


def single(line: Line) -> bool:
    """Whether the phase is one process's work by its nature."""
    return LAWS[line.phase].single
