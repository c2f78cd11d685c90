"""The books of a run: the funnel, the drop rates against the recipe's bands, and the two identities.

records framed = kept + dropped (+ left out of a trial's sample), and for each file
bytes = record spans + format structure + gaps. Framed is counted in the reader; kept and dropped are
counted in the committed tables. A run whose books do not balance fails.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.errors import PromiseError
from pipeline.ledger import Ledger, Row
from pipeline.step_labels import DEDUP_LABEL, HOST_LABEL, NOT_SAMPLED, PASSED, SUBSTRINGS_LABEL

if TYPE_CHECKING:
    from pipeline.work import Context

JUDGE_FROM = 1_000
"""Records that must have entered a stage before its drop rate is judged in mid-run, or in a trial run."""


_PHASES = {HOST_LABEL: "host", DEDUP_LABEL: "clusters", SUBSTRINGS_LABEL: "spans"}
"""The phases of the steps that are no stages; those are all of phase clean."""
_JUDGED = ("clean", *_PHASES.values())
SHOWN = 20
"""Files that a message names at most."""


@dataclass
class Step:
    """One line of the funnel."""

    stage: str
    entered: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    characters: int = 0
    seconds: float = 0.0

    @property
    def lost(self) -> int:
        """Records dropped."""
        return sum(self.dropped.values())

    @property
    def kept(self) -> int:
        """Records that went on: neither dropped nor left out of a trial run's sample."""
        return self.entered - self.lost - self.counts[NOT_SAMPLED]

    @property
    def judged(self) -> int:
        """Records that the stage is for: those of its sources."""
        return self.lost + self.kept - self.counts[PASSED]


def funnel(ledger: Ledger) -> list[Step]:
    """What each stage let in and dropped, summed over all committed units, in the order of the recipe."""
    steps: dict[str, Step] = {}
    for phase in ("clean", *_PHASES.values()):
        for row in ledger.rows(phase):
            enter(steps, row)
    return list(steps.values())


def enter(steps: dict[str, Step], row: Row) -> None:
    """Adds a unit's part of the funnel to that of the units before it, by stage."""
    for label, phase in _PHASES.items():
        if row.phase == phase:
            _enter_one(steps.setdefault(label, Step(label)), row)
    for item in row.body["funnel"] if row.phase == "clean" else ():
        step = steps.setdefault(item["stage"], Step(item["stage"]))
        step.entered += item["entered"]
        step.dropped.update(item["dropped"])
        step.counts.update(item["counts"])
        step.characters += item["characters"]
        step.seconds += row.body["timing"]["stages"].get(item["stage"], 0.0)


def _enter_one(step: Step, row: Row) -> None:
    """Adds a unit of a phase that is one step of the funnel."""
    step.entered += row.body["entered"]
    step.dropped.update(row.body["dropped"])
    if row.phase == "clusters":
        if row.body["marked"]:
            step.counts["duplicates_that_stay"] += sum(row.body["marked"].values())
        return
    step.counts.update(row.body["counts"])
    step.characters += row.body["characters"]
    step.seconds += row.body["timing"]["cpu_s"]


def check_bands(context: Context, phase: str, *, final: bool) -> None:
    """Raises PromiseError where a stage of the phase that was just at work drops more or less than expected."""
    if phase not in _JUDGED:
        return
    whole = final and not context.trial.given  # a few records of a trial run say nothing of rates
    for step in funnel(context.ledger):
        band = context.recipe.expect.get(step.stage)
        judged = step.judged
        if band is None or judged == 0 or (not whole and judged < JUDGE_FROM):
            continue
        if _PHASES.get(step.stage, "clean") != phase:
            continue
        rate = step.lost / judged
        low, high = band.drop
        if low <= rate <= high:
            continue
        reasons = ", ".join(f"{reason} {count}" for reason, count in step.dropped.most_common(4)) or "none"
        raise PromiseError(
            f"stage {step.stage} dropped {rate:.1%} of the {judged} records that entered it; the recipe expects "
            f"{low:.1%} to {high:.1%} (expect.{step.stage}.drop). Reasons: {reasons}. "
            f"Look at them with `corpusmill dropped {context.ledger.store}`; what is done so far stays."
        )


def check_identities(context: Context) -> None:
    """Raises PromiseError where a record or a byte is unaccounted for, or an input was incomplete."""
    from pipeline.phases.clean import split_specs  # brings every stage's libraries, which readers of books do not need

    rows = context.ledger.rows("clean")
    problems = identity_problems(context.ledger)
    if problems:
        raise PromiseError("the books do not balance, which is a fault of corpusmill:\n  " + "\n  ".join(problems))
    accepted = {spec["digest"] for spec, _ in split_specs(context) if spec["allow_incomplete"]}
    judged = [row for row in rows if row.body["input"]["digest"] not in accepted]
    away = unavailable(judged)
    cut = [path for path in incomplete(judged) if path not in away]
    lacking = [f"{path}: {why}" for path, why in away.items()]
    lacking = lacking if len(lacking) <= SHOWN else [*lacking[:SHOWN], f"and {len(lacking) - SHOWN} more"]
    problems = []
    if cut:
        problems.append(
            "these inputs were cut off at their end or hold no record at all, as after a broken download:\n  "
            + "\n  ".join(cut)
            + "\nGet them again, or set `allow_incomplete: true` on their inputs."
        )
    if away:
        problems.append(
            f"{len(away)} of the listed files stayed away:\n  "
            + "\n  ".join(lacking)
            + "\nRun again to try each once more, or set `allow_incomplete: true` on their inputs."
        )
    if problems:
        raise PromiseError("the run is complete and its books balance, but " + "\nAnd ".join(problems))


def identity_problems(ledger: Ledger) -> list[str]:
    """Where the two identities do not hold, over all rows of a finished run."""
    rows = ledger.rows("clean")
    problems = file_problems(rows)
    framed = sum(row.body["framed"] for row in rows)
    left_out = sum(row.body["not_sampled"] for row in rows)
    kept = counted(ledger, "documents", "documents")
    dropped = sum(counted(ledger, phase, "dropped") for phase in ("clean", "host", "losers", "spans"))
    if framed != kept + dropped + left_out:
        problems.append(f"{framed} records were framed, but {kept} kept + {dropped} dropped + {left_out} not sampled")
    return problems


def counted(ledger: Ledger, phase: str, folder: str) -> int:
    """Rows in the committed tables of a phase: read from the files, or from the row where they were removed."""
    parts = [(row, part) for row in ledger.rows(phase) for part in row.parts if part.path.startswith(folder + "/")]
    there = {part.path: part for _, part in parts if ledger.holds(part.path)}
    stated = sum(_stated(row, folder) for row, part in parts if part.path not in there)
    return stated + sum(ledger.rows_in(*there.values()))


def _stated(row: Row, folder: str) -> int:
    if isinstance(row.body.get("dropped"), dict) and folder == "dropped":
        return sum(row.body["dropped"].values())
    return int(row.body["dropped" if folder == "dropped" else "documents"])


def file_problems(rows: list[Row]) -> list[str]:
    """Splits whose bytes do not add up."""
    problems = []
    for row in rows:
        body = row.body
        size = body["input"]["end"] - body["input"]["start"]
        covered = body["spans"] + body["structure"] + sum(length for _, length, _ in body["gaps"])
        if size != covered:
            problems.append(
                f"{body['input']['path']}, bytes {body['input']['start']} to {body['input']['end']}: {size} bytes, "
                f"but {body['spans']} in records + {body['structure']} structure + "
                f"{sum(length for _, length, _ in body['gaps'])} in gaps"
            )
        if body["framed"] != body["funnel"][0]["entered"]:
            problems.append(
                f"{body['input']['path']}: {body['framed']} framed, {body['funnel'][0]['entered']} passed on"
            )
    return problems


def gaps(rows: list[Row]) -> list[dict[str, Any]]:
    """Every damaged stretch of every file."""
    return [
        {"source": row.body["input"]["source"], "file": row.body["input"]["path"], "offset": offset, "length": length,
         "reason": reason}
        for row in rows
        for offset, length, reason in row.body["gaps"]
        if reason != "limit"
    ]  # fmt: skip


def unavailable(rows: list[Row]) -> dict[str, str]:
    """Listed files of which a split or all stayed away, with the reason."""
    found = {row.body["input"]["path"]: row.body["unavailable"] for row in rows if "unavailable" in row.body}
    return dict(sorted(found.items()))


def incomplete(rows: list[Row]) -> list[str]:
    """Paths of the files that end inside a record, or that hold bytes or none, but not one record."""
    cut: set[str] = set()
    framed: Counter[str] = Counter()
    damaged: set[str] = set()
    for row in rows:
        path = row.body["input"]["path"]
        reasons = [reason for _, _, reason in row.body["gaps"] if reason != "limit"]
        framed[path] += row.body["framed"]
        if row.body["input"]["end"] == 0 or "truncated" in reasons or "unavailable" in row.body:
            cut.add(path)
        if reasons:
            damaged.add(path)
    return sorted(cut | {path for path in damaged if not framed[path]})
