"""What stands in the way of a planned run: what fails, in the order of the phases, and what it waits for longest."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline import components
from pipeline.planning import laws
from pipeline.planning.lines import BOUNDS, Line, Plan, Problem, single
from pipeline.show import size_text

PATH_BYTES = 60
"""Of the name of a part in a unit's specification."""
NAMES_EVERYWHERE = {"repeats": "fingerprints", "matches": "stretches"}
"""Phases each of whose units is told the names of all parts of another."""
SERIAL = 0.1
"""Share of the CPU time that one process alone may spend, at most."""


def find(plan: Plan) -> list[Problem]:
    """What fails, in the order in which a run would meet it; then what it waits for longest."""
    found = [problem for line in plan.lines for problem in _of_line(plan, line)]
    if plan.machines.count == 1 and plan.disk > plan.machines.disk:
        text = f"the run folder takes {size_text(plan.disk)}, the disk has {size_text(plan.machines.disk)}"
        found.append(Problem("disk", text, "more machines with a shared store, a larger disk, or the crawl in pieces"))
    return [*found, *_slow(plan)]


def _of_line(plan: Plan, line: Line) -> Iterator[Problem]:
    machines = plan.machines
    if line.phase == "exact" and plan.amounts.signed >= components.MOST:
        yield Problem(
            "exact",
            f"{plan.amounts.signed:,.0f} documents: one run numbers them with 32 bits and refuses {components.MOST:,} "
            "or more",
            "filter more before deduplication, or run the crawl in pieces that know nothing of one another "
            "(documents of an index, `dedup.index`, count as well)",
        )
    if single(line) and line.memory > machines.memory:
        yield Problem(
            line.phase,
            f"one process holds {size_text(line.memory)}, a machine has {size_text(machines.memory)}",
            f"one machine with more memory for this phase ({laws.WHOLE[line.phase].memory:.0f} bytes a document), or "
            "the crawl in pieces",
        )
    elif line.memory > machines.memory:
        most = max(1, int(machines.memory // line.worker_memory))
        yield Problem(
            line.phase,
            f"{line.workers // machines.count or 1} workers of {size_text(line.worker_memory)} each are more than the "
            f"{size_text(machines.memory)} of a machine",
            f"at most {most} workers a machine",
        )
    if machines.count > 1 and line.held > machines.disk:
        yield Problem(
            line.phase,
            f"each machine reads {size_text(line.held)} of parts, and its disk holds {size_text(machines.disk)}: parts "
            "are fetched again and again",
            "larger disks; machines that share a file system, on which only what is looked at is read; fewer and "
            "larger machines; or the crawl in pieces",
        )
    if line.phase in NAMES_EVERYWHERE:
        other = laws.LAWS[NAMES_EVERYWHERE[line.phase]].units(plan.sizes)
        size = PATH_BYTES * line.units * other
        if size > machines.memory / 4:
            yield Problem(
                line.phase,
                f"each of {line.units:,.0f} units is told the names of {other:,.0f} parts: {size_text(size)} in the "
                "working process",
                "larger input files, so fewer parts; or no `substrings` over the whole, but within pieces",
            )


def _slow(plan: Plan) -> Iterator[Problem]:
    """What the run waits for longest beyond an even spread of its CPU time; and a large serial share."""
    workers = plan.machines.workers
    lost = {line.phase: line.wall_s - line.cpu_s / workers for line in plan.lines}
    worst = max(plan.lines, key=lambda line: lost[line.phase])
    if workers > 1 and lost[worst.phase] > 0.05 * plan.wall_s:
        yield Problem(
            worst.phase,
            f"{lost[worst.phase] / plan.wall_s:.0%} of the time is lost to {BOUNDS[worst.bound]}",
            _EASE[worst.bound],
            fails=False,
        )
    if plan.serial_cpu_s > SERIAL * plan.cpu_s:
        phases = [line for line in plan.lines if single(line)]
        largest = max(phases, key=lambda line: line.cpu_s, default=None)
        what = f", most of it by {largest.phase}" if largest and largest.cpu_s > plan.serial_cpu_s / 2 else ""
        yield Problem(
            largest.phase if largest else "start",
            f"{plan.serial_cpu_s / plan.cpu_s:.0%} of the CPU time is spent by one process while others wait{what}",
            "a larger crawl for the same machines, or fewer of them",
            fails=False,
        )


_EASE = {
    "cpu": "nothing: all workers are at work",
    "one process": "faster cores; other machines may be handed back meanwhile",
    "longest unit": "input files of even sizes, and smaller ones",
    "network": "a faster network, or machines near the store",
    "planning": "larger input files, so fewer units",
    "start": "fewer machines, or a larger crawl for them",
}
