"""Figures of a run in the terms of Prometheus; `exposition` serves them and keeps them in a file.

They are what the driver knows anyhow, so they are the same on every runner: the phase and the workers' reports, and
the ledger's rows, each read once when it is there. A counter is told from when the rows behind it were read: a resumed
run goes on from what the ledger holds, and never from 0, which Prometheus would take for work done once more. What a
run changed in its recipe takes back, Prometheus sees as the reset of a counter.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline import accounts
from pipeline.errors import DamageError
from pipeline.ledger import Ledger, Row
from pipeline.progress import moving
from pipeline.storage.patience import Unavailable
from pipeline.versions import VERSIONS

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

OUTCOMES = ("running", "done", "failed", "stopped")
PREFIX = "corpusmill_"
LIVE = {
    "documents": ("documents", "documents read"),
    "kept": ("kept_documents", "documents kept"),
    "bytes": ("bytes", "bytes read"),
}
"""What workers report of the phase at work, committed or not."""

ROWS_AT_ONCE = 512
"""Rows that are held at once while they are added up."""

Labels = TypeVar("Labels", bound=tuple[str, ...])


@dataclass
class _Tally:
    """What the committed units of a phase add up to."""

    keys: set[str] = field(default_factory=set)
    cpu: float = 0.0
    written: int = 0
    documents: int = 0
    """Read by phase clean, written by phase documents."""
    input: Counter[str] = field(default_factory=Counter)
    steps: dict[str, accounts.Step] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        body = row.body
        self.keys.add(row.key)
        self.cpu += body.get("timing", {}).get("cpu_s", 0.0)
        self.written += sum(part.bytes for part in row.parts)
        accounts.enter(self.steps, row)
        if row.phase == "clean":
            self.documents += body["framed"]
            gaps = sum(length for _, length, _ in body["gaps"])
            self.input.update(records=body["spans"], structure=body["structure"], gaps=gaps)
        elif row.phase == "documents":
            self.documents += body["documents"]


class Metrics:
    """A collector of prometheus_client: told by the driver's display, asked by the server's and the file's threads."""

    def __init__(self, ledger: Ledger, run: str, facts: dict[str, str]) -> None:
        self._ledger = ledger
        self._run = run
        self._facts = facts
        self._begun = time.time()
        self._moved = self._begun
        self._before: object = None
        self.begun = False
        """Whether the run holds its folder: before, the ledger may be another run's."""
        self._phase: dict[str, Any] = {}
        self._working: list[dict[str, Any]] = []
        self._phases: dict[str, float] = {}
        """When each phase of this run began."""
        self._restarts: Counter[str] = Counter()
        self._tallies: dict[str, _Tally] = {}
        """Of phases whose rows were read."""
        self._stale: set[str] = set()
        """Phases whose rows are to be looked for again."""
        self._ended: tuple[str, int, float] | None = None
        """Outcome, exit code, when."""
        self._telling = threading.Lock()
        self._asking = threading.Lock()

    @property
    def known(self) -> bool:
        """Whether anything of the ledger was read yet."""
        return bool(self._tallies)

    def update(self, phase: dict[str, Any], working: list[dict[str, Any]]) -> None:
        """Where the run stands: the phase, none before the first one, and the latest report of each worker."""
        self.begun = True
        if not phase:
            return
        with self._telling:
            if (now := (phase, moving(working))) != self._before:
                self._before, self._moved = now, time.time()
            name = phase["phase"].removesuffix("-again")
            if name not in self._phases or name != self._phase.get("phase"):
                self._phases.setdefault(name, time.time())
                self._stale.update(VERSIONS)  # some phases come and go between two looks
            self._stale.add(name)
            self._phase, self._working = phase | {"phase": name}, working

    def restarted(self, phase: str) -> None:
        """The run goes on after a death in this phase."""
        with self._telling:
            self._restarts[phase] += 1

    def end(self, outcome: str, exit_code: int) -> None:
        """The run is over; what the ledger gained since the last look is told as well."""
        with self._telling:
            self._ended = outcome, exit_code, time.time()
            self._working = []
            self._stale.update(VERSIONS)

    def collect(self) -> Iterator[Metric]:
        """All figures, as prometheus_client asks for them."""
        with self._asking:
            with self._telling:
                stale, self._stale = self._stale, set()
                phase, working, ended = self._phase, self._working, self._ended
                begun, moved = dict(self._phases), self._moved
                restarts = {name: self._restarts[name] for name in begun} | self._restarts
            left = [name for name in VERSIONS if name in stale and phase]
            try:
                while left:
                    self._read(left[0])
                    del left[0]
            except (OSError, Unavailable):  # a store does not answer: what is known is told, the rest next time
                with self._telling:
                    self._stale.update(left)
            yield from self._of_run(phase, working, ended, moved)
            yield from self._of_phases(phase, begun, restarts, working, ended)
            yield from self._of_documents()

    def _read(self, phase: str) -> None:
        """Adds the rows that a phase gained; where it lost some, all of them anew."""
        tally = self._tallies.get(phase)
        keys = set(self._ledger.keys(phase, now=True))
        if tally is None or tally.keys - keys:
            tally = _Tally()  # told when it is whole: a part of it would be less than was told before
        new = sorted(keys - tally.keys)
        for start in range(0, len(new), ROWS_AT_ONCE):
            some = new[start : start + ROWS_AT_ONCE]
            for row in self._ledger.store.each(lambda key: self._row(phase, key), some):
                if row is not None:
                    tally.add(row)
        self._tallies[phase] = tally

    def _row(self, phase: str, key: str) -> Row | None:
        try:
            return self._ledger.read_row(phase, key, now=True)
        except DamageError:  # it counts for nothing, and is redone
            return None

    def _of_run(
        self,
        phase: dict[str, Any],
        working: list[dict[str, Any]],
        ended: tuple[str, int, float] | None,
        moved: float,
    ) -> Iterator[Metric]:
        yield self._gauge("run_info", "What is run: always 1.", {tuple(self._facts.values()): 1}, tuple(self._facts))
        yield self._gauge("run_start_time_seconds", "When the run was started, in Unix time.", {(): self._begun})
        outcome = ended[0] if ended else OUTCOMES[0]
        outcomes = {(name,): float(name == outcome) for name in OUTCOMES}
        yield self._gauge("run_outcome", "How the run stands: 1 for what holds.", outcomes, ("outcome",))
        if ended:
            yield self._gauge("run_exit_code", "What the command ended with.", {(): ended[1]})
            yield self._gauge("run_end_time_seconds", "When the run ended, in Unix time.", {(): ended[2]})
        about = "When something last moved, in Unix time; a unit of a silent phase says nothing before its end."
        yield self._gauge("last_progress_timestamp_seconds", about, {(): moved})
        busy = sum(1 for report in working if report["unit"])
        yield self._gauge("workers", "Workers that are at a unit.", {(): busy})
        if phase:
            sums = {name: sum(report[name] for report in working) for name in LIVE}
            for field_, (name, text) in LIVE.items():
                about = f"Of the phase at work: {text} in this attempt, as the workers tell before they commit."
                yield self._gauge(f"phase_{name}", about, {(phase["phase"],): sums[field_]}, ("phase",))
            about = "Of the phase at work: bytes that this attempt is to read."
            yield self._gauge("phase_expected_bytes", about, {(phase["phase"],): phase["bytes"]}, ("phase",))

    def _of_phases(
        self,
        phase: dict[str, Any],
        begun: dict[str, float],
        restarts: dict[str, int],
        working: list[dict[str, Any]],
        ended: tuple[str, int, float] | None,
    ) -> Iterator[Metric]:
        now: str | None = phase.get("phase")
        starts = {(name,): when for name, when in begun.items()}
        at_work = {(name,): float(name == now) for name in begun}
        yield self._gauge("phase", "The phases of this run: 1 for the latest.", at_work, ("phase",))
        yield self._gauge("phase_start_time_seconds", "When a phase began, in Unix time.", starts, ("phase",))
        deaths = {(name,): float(number) for name, number in restarts.items()}
        yield self._counter("restarts", "Times that a phase was begun again after a death.", deaths, ("phase",))
        there = [name for name in VERSIONS if name in self._tallies and (name in begun or self._tallies[name].keys)]
        tallies = {name: self._tallies[name] for name in there}
        done = {(name,): float(len(tally.keys)) for name, tally in tallies.items()}
        yield self._gauge("units_done", "Units that the ledger holds.", done, ("phase",))
        left = dict.fromkeys(done, 0.0)
        if now is not None and (now,) in left and not (ended and ended[0] == "done"):
            left[now,] = max(0, phase["pending"] - sum(report["units"] for report in working))
        yield self._gauge("units_pending", "Units that are still to be done.", left, ("phase",))
        cpu = {(name,): tally.cpu for name, tally in tallies.items()}
        yield self._counter("cpu_seconds", "CPU time of committed units, by phase.", cpu, ("phase",))
        written = {(name,): float(tally.written) for name, tally in tallies.items()}
        yield self._counter("written_bytes", "Bytes of committed parts, by phase.", written, ("phase",))

    def _of_documents(self) -> Iterator[Metric]:
        clean, documents = (self._tallies.get(name) for name in ("clean", "documents"))
        if clean is not None:
            yield self._counter("documents_read", "Records that the reader framed.", {(): clean.documents})
            about = "Bytes of the inputs: in records, in the format's structure, in gaps."
            yield self._counter("input_bytes", about, {(kind,): n for kind, n in clean.input.items()}, ("kind",))
        if documents is not None:
            yield self._counter("documents_written", "Documents that outlived everything.", {(): documents.documents})
        steps = [step for name in VERSIONS if name in self._tallies for step in self._tallies[name].steps.values()]
        kept = {(step.stage,): float(step.kept) for step in steps}
        yield self._counter("documents_kept", "Documents that a stage let pass.", kept, ("stage",))
        dropped = {(step.stage, reason): float(n) for step in steps for reason, n in step.dropped.items()}
        yield self._counter("documents_dropped", "Documents that a stage dropped.", dropped, ("stage", "reason"))
        spent = {(step.stage,): step.seconds for step in steps}
        yield self._counter("stage_cpu_seconds", "CPU time of a stage in committed units.", spent, ("stage",))

    def _gauge(self, name: str, text: str, values: Mapping[Labels, float], labels: tuple[str, ...] = ()) -> Metric:
        from prometheus_client.core import GaugeMetricFamily

        family = GaugeMetricFamily(PREFIX + name, text, labels=("run", *labels))
        for key, value in values.items():
            family.add_metric((self._run, *key), value)
        return family

    def _counter(self, name: str, text: str, values: Mapping[Labels, float], labels: tuple[str, ...] = ()) -> Metric:
        from prometheus_client.core import CounterMetricFamily

        family = CounterMetricFamily(PREFIX + name, text, labels=("run", *labels))
        for key, value in values.items():
            family.add_metric((self._run, *key), value)
        return family
