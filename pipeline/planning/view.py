"""What `plan-run` prints: a line for each phase, the sums, what stands in the way; or all of it as one JSON value."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console

from pipeline.look.tables import percent
from pipeline.look.tables import table as ruled
from pipeline.planning.lines import BOUNDS, Line, Plan
from pipeline.planning.measured import Measured
from pipeline.planning.problems import SERIAL
from pipeline.show import duration_text, size_text

ALWAYS_BENCH = ("stars", "tokenizer")
"""Phases that constants are taken for however large the run is."""


def assumed(plan: Plan) -> list[str]:
    """What a plan takes for granted."""
    size = plan.crawl.file_size
    files = "files as large as the run's" if size is None else f"files of {size_text(size)}"
    return [
        f"pages are as the run's: as long, kept and lost in the same shares; in {files}",
        "duplicates are as frequent as in the run; a larger crawl has more of them, and less is left to do behind them",
        "clusters of near duplicates stay as large as they are, so comparisons grow with documents, not with their "
        "pairs",
        "cores are as fast as the run's (--busy says by what they are slower when all of a machine's work at once)",
    ]


def facts(plan: Plan) -> dict[str, Any]:
    """The plan as JSON: seconds, bytes, and money in that of the price."""
    shuffle, memory, run = plan.shuffle, plan.memory, plan.measured
    return {
        "by": str(run.folder),
        "trial": run.trial.given,
        "differs": plan.differs,
        "machines": asdict(plan.machines),
        "scale": plan.scale,
        "run": asdict(run.amounts)
        | {
            "sampled": run.sampled,
            "files": run.files,
            "indexed": run.indexed,
            "splits": run.splits,
            "parts": run.parts,
            "stage_cpu_s": run.stage_cpu_s,
        },
        "crawl": asdict(plan.amounts)
        | {"files": plan.sizes.files, "splits": plan.sizes.splits, "parts": plan.sizes.parts},
        "startup": asdict(plan.startup),
        "phases": [_line(line, run) for line in plan.lines],
        "wall_seconds": plan.wall_s,
        "cpu_seconds": plan.cpu_s,
        "serial_seconds": plan.serial_cpu_s,
        "serial_share": plan.serial_cpu_s / plan.cpu_s,
        "beside_units_seconds": plan.other_cpu_s,
        "alone_seconds": plan.alone_s,
        "disk_bytes": plan.disk,
        "memory_bytes": memory.memory,
        "memory_phase": memory.phase,
        "network_bytes": sum(line.network for line in plan.lines),
        "widest_shuffle": {"phase": shuffle.phase, "bytes": shuffle.shuffled} if shuffle.shuffled else None,
        "cost": plan.cost,
        "first_bottleneck": asdict(plan.problems[0]) if plan.problems else None,
        "problems": [asdict(problem) for problem in plan.problems],
        "assumed": assumed(plan),
    }


def _line(line: Line, run: Measured) -> dict[str, Any]:
    cost = run.phases[line.phase]
    return {
        "phase": line.phase,
        "units": line.units,
        "jobs": line.jobs,
        "workers": line.workers,
        "cpu_seconds": line.cpu_s,
        "wall_seconds": line.wall_s,
        "worker_memory_bytes": line.worker_memory,
        "memory_bytes": line.memory,
        "written_bytes": line.written,
        "network_bytes": line.network,
        "shuffled_bytes": line.shuffled,
        "held_bytes": line.held,
        "bound": line.bound,
        "seconds_of": line.parts_s,
        "scales_with": line.scales,
        "source": line.source,
        "run": {
            "units": cost.units,
            "cpu_seconds": cost.cpu_s,
            "wall_seconds": cost.wall_s,
            "longest_seconds": cost.longest_s,
            "memory_bytes": cost.peak,
            "written_bytes": run.committed[line.phase],
        },
    }


def show(plan: Plan, console: Console) -> None:
    """Prints the plan."""
    here, there, machines = plan.measured.amounts, plan.amounts, plan.machines
    console.print(
        f"by the run in {plan.measured.folder}: {here.pages:,.0f} pages of {size_text(here.size)}; planned: "
        f"{there.pages:,.0f} pages of {size_text(there.size)}, {plan.scale:,.1f} times as much, on {machines.count} "
        f"machine{'s' if machines.count > 1 else ''} of {machines.cores} cores", highlight=False,
    )  # fmt: skip
    console.print(
        f"that is {there.documents:,.0f} documents, {there.survivors:,.0f} after deduplication, "
        f"{there.shard_tokens:,.0f} tokens in shards", highlight=False,
    )  # fmt: skip
    if plan.differs:
        console.print(
            f"the run had other settings in {', '.join(plan.differs)}: what follows from these is the run's",
            style="yellow", highlight=False,
        )  # fmt: skip
    made = ruled(
        "Phases", "phase", "units", "CPU", "wall", "memory", "written", "network", "bound by", text=["bound by"]
    )
    for line in plan.lines:
        star = "*" if line.source == "bench" else ""
        made.add_row(
            line.phase, f"{line.units:,.0f}", duration_text(line.cpu_s) + star, duration_text(line.wall_s),
            size_text(line.memory), size_text(line.written), size_text(line.network) if line.network else "-",
            BOUNDS[line.bound],
        )  # fmt: skip
    console.print(made)
    if bench := [line.phase for line in plan.lines if line.source == "bench"]:
        small = [name for name in bench if name not in ALWAYS_BENCH]
        why = f"; the run is too small to tell of {', '.join(small)}" if small else ""
        console.print(f"* by constants measured at a million documents{why}", highlight=False)
    _sums(plan, console)
    for number, problem in enumerate(plan.problems):
        head = "first bottleneck" if number == 0 else "then"
        verb = "fails" if problem.fails else "is slow"
        style = "red" if problem.fails else "yellow"
        console.print(f"{head}: {problem.phase} {verb}: {problem.what}", style=style, highlight=False)
        console.print(f"  what would ease it: {problem.ease}", highlight=False)
    if not plan.problems:
        console.print("first bottleneck: none; all workers are at work nearly all the time", highlight=False)
    console.print(f"assumed: {'; '.join(assumed(plan))}", highlight=False)


def _sums(plan: Plan, console: Console) -> None:
    machines, shuffle, memory = plan.machines, plan.shuffle, plan.memory
    cost = plan.cost
    money = f"; cost {cost:,.2f} at {machines.price:g} a machine and hour" if cost is not None else ""
    hours = machines.count * plan.wall_s / 3600
    console.print(
        f"wall {duration_text(plan.wall_s)}, CPU {duration_text(plan.cpu_s)}, {hours:,.1f} machine hours{money}",
        highlight=False,
    )
    console.print(
        f"disk for the run folder {size_text(plan.disk)}; memory of a machine up to {size_text(memory.memory)} (in "
        f"{memory.phase})", highlight=False,
    )  # fmt: skip
    if shuffle.shuffled:
        console.print(
            f"widest shuffle: {shuffle.phase}, {size_text(shuffle.shuffled)} between machines; over the network in all "
            f"{size_text(sum(line.network for line in plan.lines))}", highlight=False,
        )  # fmt: skip
    console.print(
        f"serial share: {percent(plan.serial_cpu_s, plan.cpu_s)} of the CPU time is one process's (goal: at most "
        f"{SERIAL:.0%}), which works alone for {duration_text(plan.alone_s)}", highlight=False,
    )  # fmt: skip
