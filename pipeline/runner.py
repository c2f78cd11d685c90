"""The process that does a run's phases, one Beam pipeline after another; started and watched by the driver.

Phases with little to do it does itself; else its workers do.

It may die at any moment: the ledger holds what is done, and the next one goes on from there.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline import accounts, index, listing, pins, runners
from pipeline.aside import write_whole
from pipeline.driver import CANCEL_SECONDS, DIED, DIED_OF
from pipeline.errors import UserError
from pipeline.failures import Failure, UnitFailed, WorkersDied
from pipeline.phases import PHASES, SMALL, Phase
from pipeline.processes import follow
from pipeline.runners.base import Runner, job_prefix
from pipeline.spent import Clock
from pipeline.work import Context, Task

PROBE_FROM = 16
"""Splits from which on the first ones are judged against the recipe's bands before the rest is read."""

JOB_UNITS = 20_000
"""Most units of one job on a cluster: their names travel in the job itself."""

LOOKS = 64
"""Remote files between two signs of life."""


@dataclass(frozen=True)
class Order:
    """What the driver asks for."""

    context: Context
    workers: int | None
    """As asked for; None for as many as the runner has."""
    runner: str
    options: list[str]
    desk: Path
    """The attempt's own folder, for messages between the processes."""
    nursery: str | None = None
    """Where workers are forked, if anywhere: see `pipeline.nursery`."""
    until: str | None = None
    """The phase behind which to end."""
    again: bool = False
    """Whether an earlier attempt lost its workers."""

    @cached_property
    def beam(self) -> Runner:
        """The runner."""
        found = runners.make(self.runner, self.options)
        found.again, found.asked = self.again, self.workers
        return found

    over: list[dict[str, Any]] = field(default_factory=list)
    """The phases that were announced, and are over: those with units to do, and how many seconds they took."""
    announced: dict[str, Any] = field(default_factory=dict)
    """The phase that is at work, as it was announced, and when."""

    @functools.cached_property
    def clock(self) -> Clock:
        """What is spent, and on which phase."""
        return Clock(self.context.ledger.store)


def main(path: str) -> int:
    """Does the run that the order in this file describes; its result goes to standard output, unless a worker died.

    A pipe to the driver, not a file: the disk may be full.
    """
    result_to = os.dup(1)
    os.dup2(2, 1)  # what others print goes to the log
    data = json.loads(Path(path).read_text())
    order = Order(
        Context.from_json(data["context"]),
        data["workers"],
        data["runner"],
        data["options"],
        Path(path).parent,
        data["nursery"],
        data["until"],
        data["again"],
    )
    if order.beam.shares_desk:
        follow(data["driver"])
        threading.excepthook = functools.partial(_end_where_a_worker_died, order.desk)
    else:
        follow(data["driver"], _cancel)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        result: dict[str, Any] = {"done": run(order)}
    except WorkersDied as error:
        traceback.print_exc()
        (order.desk / DIED_OF).write_text(str(error))
        return DIED
    except UnitFailed as error:
        result = vars(error.failure)
    except Exception as error:
        result = vars(Failure.of(error))
    with open(result_to, "w") as pipe:
        json.dump(result, pipe)
    return 0 if "done" in result else 1


def _end_where_a_worker_died(desk: Path, failed: threading.ExceptHookArgs) -> None:
    """Ends this process when the Beam thread that waits for a worker process reports that it died.

    Beam itself finds out late, or never where the worker was still starting. Where a unit failed, workers
    end as a consequence, and the failure is the news.
    """
    threading.__excepthook__(failed)
    died = failed.thread is not None and failed.thread.name == "run_worker"
    if died and next(desk.glob("*/failed"), None) is None:
        os._exit(DIED)


def _cancel() -> None:
    """Has the main thread cancel the job that is at work elsewhere, and leaves it some time for that."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(CANCEL_SECONDS)


def run(order: Order) -> dict[str, int]:
    """Brings every phase up to date; returns units done by phase."""
    with order.beam:
        return _run(order)


def _run(order: Order) -> dict[str, int]:
    context = order.context
    order.beam.end_jobs(job_prefix(context.out))
    done: dict[str, int] = {}
    listing.begin()
    listing.progress = functools.partial(_announce_looks, order)
    index.begin(context)
    _try_once_more(context)
    pins.gather(context.ledger)  # of a run that was stopped in mid-phase
    for phase in PHASES.values():
        order.clock.begin(phase.name)
        tasks = phase.tasks(context)
        pending = missing(phase, tasks, context)
        if phase.spent is not None and _used_up(phase, pending, context):
            context.ledger.keep_only(phase.name, [])
            tasks = pending = phase.tasks(context)
        for name, units in removed_but_needed(context, pending).items():
            done[name] += _again(PHASES[name], units, order, phase.name)
        _announce(order, phase, phase.name, tasks, pending)
        done[phase.name] = len(pending)
        if pending:
            context.ledger.set_complete(False)
            if phase.name == "shard":
                context.ledger.store.delete("corpus.json")  # it describes the shards that go now
        context.ledger.keep_only(phase.name, [task.key for task in tasks])
        if pending:
            for number, group in enumerate(_groups(phase, tasks, pending, order)):
                _do(phase, group, order, f"{phase.name}-{number}")
                accounts.check_bands(context, phase.name, final=False)
            context.known.clear()
            pins.gather(context.ledger)
        if phase.spent is not None:
            done[phase.name] += _rounds(phase, order, f"{phase.name}-round")
        accounts.check_bands(context, phase.name, final=True)
        order.clock.end()
        _conclude(order)
        if phase.name == order.until:
            break
    else:
        _finish(order, done)
    order.clock.finish()
    return done


def _finish(order: Order, done: dict[str, int]) -> None:
    """What is left to do behind the last phase of a whole run."""
    context = order.context
    from pipeline.phases import shard

    shard.finish(context)
    context.ledger.sweep()
    for name, units in removed_but_needed(context, index.needs(context)).items():
        done[name] += _again(PHASES[name], units, order, "index")
    index.add(context)  # before the run counts as done: what is published must be remembered
    context.ledger.set_complete(True)
    accounts.check_identities(context)


def _rounds(phase: Phase, order: Order, name: str) -> int:
    """Brings a phase whose units follow from one another to its end; returns units done."""
    context = order.context
    assert phase.spent is not None
    done: list[Task] = []
    for turn in itertools.count():
        context.ledger.release(phase.spent(context))
        tasks = phase.tasks(context)
        pending = missing(phase, tasks, context)
        if not pending:
            break
        done += pending
        _announce(order, phase, phase.name, tasks, done)  # what workers report is of all rounds too
        _do(phase, pending, order, f"{name}-{turn}")
        context.known.clear()
    return len(done)


def _again(phase: Phase, units: list[Task], order: Order, wanted_by: str) -> int:
    """Does units anew whose parts were taken away, a phase in rounds from its first one on; returns units done."""
    name = f"{phase.name}-again-for-{wanted_by}"
    if phase.spent is not None:
        order.context.ledger.keep_only(phase.name, [])
        done = _rounds(phase, order, name)
        _conclude(order)
        return done
    _announce(order, phase, f"{phase.name}-again", units, units)
    _do(phase, units, order, name)
    _conclude(order)
    return len(units)


def _used_up(phase: Phase, pending: list[Task], context: Context) -> bool:
    """Whether a unit of a phase in rounds is to be done that reads files of an earlier round which were deleted."""
    gone = {part.path for row in context.ledger.rows(phase.name) for part in row.parts}
    read = {path for task in pending for path in _reads(task) if path in gone}
    return any(not context.ledger.holds(path) for path in read)


def _try_once_more(context: Context) -> None:
    """Forgets that listed files stayed away, so that they are asked for again."""
    for phase in ("index", "clean"):
        rows = context.ledger.rows(phase)
        if any("unavailable" in row.body for row in rows):
            context.ledger.keep_only(phase, [row.key for row in rows if "unavailable" not in row.body])


def missing(phase: Phase, tasks: list[Task], context: Context) -> list[Task]:
    """The units that have no whole result yet; parts that `corpusmill clean` took away are not missed.

    Equal work is done once: two units of one key, as for two parts without a row, have one result.
    """
    ledger = context.ledger
    found = [task for task in tasks if ledger.valid_row(phase.name, task.key, removed_is_fine=True) is None]
    return list({task.key: task for task in found}.values())


def removed_but_needed(context: Context, pending: list[Task]) -> dict[str, list[Task]]:
    """Units whose parts `corpusmill clean` took away, but which the pending ones must read: by phase, in order.

    They are done again, and so are units whose parts these must read, back to the crawl if need be.
    """
    ledger = context.ledger
    if not pending or not ledger.any_removed():
        return {}
    owners = {part.path: (row, part) for row in ledger.rows() for part in row.parts}
    tasks = {name: {task.key: task for task in phase.tasks(context)} for name, phase in _before(pending[0].phase)}
    needed: dict[str, dict[str, Task]] = {}
    waiting = list(pending)
    seen: set[str] = set()
    while waiting:
        for path in _reads(waiting.pop()):
            if path in seen:
                continue
            seen.add(path)
            row, part = owners.get(path, (None, None))
            if row is None or part is None or ledger.part_problem(part, trust_stat=True) is None:
                continue
            if row.key not in needed.setdefault(row.phase, {}):
                task = needed[row.phase][row.key] = tasks[row.phase][row.key]
                waiting.append(task)
    return {name: list(needed[name].values()) for name in PHASES if name in needed}


def _before(name: str) -> list[tuple[str, Phase]]:
    """The phases ahead of this one."""
    return list(itertools.takewhile(lambda item: item[0] != name, PHASES.items()))


def _reads(task: Task) -> list[str]:
    """What a unit reads: the strings of its specification, among them parts, and what stands beside it."""
    values = task.spec.values()
    lists = [value for value in values if isinstance(value, list | tuple)]
    return [value for value in (*task.reads, *values, *itertools.chain(*lists)) if isinstance(value, str)]


def _groups(phase: Phase, tasks: list[Task], pending: list[Task], order: Order) -> list[list[Task]]:
    """The pending units in jobs; in a large clean phase with bands to keep, the first ones in hash order are one."""
    most = len(pending) if order.beam.shares_desk else JOB_UNITS
    if phase.name != "clean" or not order.context.recipe.expect or len(tasks) < PROBE_FROM:
        return _cut(pending, most)
    probe = {task.key for task in sorted(tasks, key=lambda task: task.key)[: max(4, len(tasks) // 50)]}
    first = [task for task in pending if task.key in probe]
    rest = [task for task in pending if task.key not in probe]
    return [*_cut(first, most), *_cut(rest, most)]


def _cut(tasks: list[Task], most: int) -> list[list[Task]]:
    return [tasks[start : start + most] for start in range(0, len(tasks), most)]


def _do(phase: Phase, tasks: list[Task], order: Order, name: str) -> None:
    amount = sum(task.size for task in tasks)
    alone = amount < phase.parallel_from
    workers = 1 if alone else min(order.beam.workers(order.workers), len(tasks))
    nursery = None if alone and amount < SMALL else order.nursery
    here = order.beam.shares_desk and workers == 1 and nursery is None
    from pipeline.engine import run_units  # Beam takes more than a second to import: not where nothing is to do

    ledger = order.context.ledger
    with order.clock.pipeline(len(tasks), workers, alone=alone, here=here) as spent:
        made = run_units(tasks, order.context, workers, order.beam, order.desk / name, nursery)
        ledger.refresh()
        if here:
            rows = [ledger.valid_row(phase.name, task.key) for task in tasks]
            timings = [row.body["timing"] for row in rows if row is not None]
            spent.units_cpu_s = sum(one["cpu_s"] - one.get("children_s", 0.0) for one in timings)
    if made["units"] != len(tasks):
        raise UserError(f"phase {phase.name}: {len(tasks)} units were given out, {made['units']} came back; run again")


def _announce(order: Order, phase: Phase, name: str, tasks: list[Task], pending: list[Task]) -> None:
    facts = {
        "phase": name,
        "silent": phase.silent,
        "units": len(tasks),
        "pending": len(pending),
        "bytes": sum(task.size for task in pending),
    }
    order.announced.setdefault("begun", time.monotonic())
    order.announced.update(facts)
    _tell(order, facts)


def _conclude(order: Order) -> None:
    """Notes that the phase which was announced last is over; told with the next."""
    told = order.announced
    if told.get("pending"):
        seconds = time.monotonic() - told["begun"]
        order.over.append({"phase": told["phase"], "pending": told["pending"], "seconds": seconds})
    told.clear()


def _announce_looks(order: Order, number: int, total: int) -> None:
    """A sign of life while a store is asked about very many files."""
    if number % LOOKS == 0:
        _tell(order, {"phase": "look", "silent": False, "units": number, "pending": total, "bytes": 0})


def _tell(order: Order, facts: dict[str, Any]) -> None:
    """Leaves word where the driver looks, now and then: so what it may have missed stands there too."""
    write_whole(order.desk / "phase.json", json.dumps(facts | {"over": order.over}).encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
