"""Phase clean: reads a split of an input file and puts its documents through all document-local stages.

One unit streams batches through the chain of stages, a batch at a time in memory. It commits the documents
that were kept, a row for each record that was not, and the books: what the reader framed, what each stage
let in and dropped, how long each took.
"""

from __future__ import annotations

import itertools
import time
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import bound, grouping, groups, listing, measures, pins, prefix
from pipeline.errors import RecipeError, UserError, nearest
from pipeline.formats import FORMATS, versions
from pipeline.guard import REASONS, Guard
from pipeline.ledger import Staged
from pipeline.limited import SETTING as SOURCES
from pipeline.limited import limited
from pipeline.parts import PartsWriter, PartWriter
from pipeline.phases import index
from pipeline.processes import peak_memory
from pipeline.progress import Reporter
from pipeline.readers import READERS
from pipeline.readers.base import Gap, Piece, Read, Tally, batches, origin_row
from pipeline.recipe import NOT_SAMPLED, READ_LABEL
from pipeline.resources import digests, load
from pipeline.storage.patience import Unavailable
from pipeline.verdicts import check_outcome
from pipeline.versions import VERSIONS
from pipeline.work import Context, Task, once, unit_key
from stages.base import Processor, Stage
from stages.hashing import keyed_all, threshold
from stages.quality import statistics
from stages.releases import release
from stages.schema import DROPPED, READ

PACKAGES = ("brotli", "isal", "lz4", "pyarrow", "resiliparse", "xxhash", "zstandard")
NO_LONGER_NEEDED = ("payload", "content_type", "headers", statistics.COLUMN)
BATCH_ROWS = 64  # about a second of work, so that progress moves


@once
def tasks(context: Context) -> list[Task]:
    """One unit for each split. Keyed by contents: two files of equal contents are told apart by a count."""
    chain = chain_facts(context)
    found: list[Task] = []
    seen: Counter[str] = Counter()
    left = dict.fromkeys(context.recipe.sources, context.trial.limit)
    for spec, splits in split_specs(context):
        for start, end, records in splits:
            limit = left[spec["source"]]
            if limit is not None:
                if limit == 0:
                    continue
                records = min(records, limit)
                left[spec["source"]] = limit - records
            facts = {
                "input": [spec["digest"], start, end],
                "source": [spec["source"], spec["format"], spec["fields"], spec["options"]],
                "reader": [FORMATS[spec["format"]].version, versions(spec["format"])],
                "records": records,
                "sample": context.trial.sample and [context.trial.sample, context.recipe.seed],
                "stages": chain,
            }
            if context.recipe.pins is not None:
                facts["pins"] = pins.digest(pins.read(Path(context.recipe.pins)))
            key = unit_key("clean", PACKAGES, facts)
            seen[key] += 1
            if seen[key] > 1:
                key = unit_key("clean", PACKAGES, facts | {"again": seen[key]})
            found.append(Task("clean", key, end - start, spec | {"start": start, "end": end, "records": records}))
    return found


@once
def chain_facts(context: Context) -> list[dict[str, Any]]:
    """What the outcome of each stage depends on: name, version, settings, packages, digests of its files, sources."""
    only = context.recipe.sources_of()
    return [
        bound.facts_of(stage, digests(stage.files(), context.folder))
        | ({SOURCES: only[label]} if label in only else {})
        for label, stage in context.chain
    ]


@once
def split_specs(context: Context) -> list[tuple[dict[str, Any], list[list[Any]]]]:
    """Each input file with its splits, in the order of their digests: names play no part."""
    found = []
    for task in index.tasks(context):
        row = context.ledger.read_row("index", task.key)
        if row is None:
            raise UserError(f"{task.spec['path']} changed while the run was at work; run again")
        told = {"digest": row.body["digest"], "unavailable": row.body.get("unavailable")}
        found.append((task.spec | told, row.body["splits"]))
    order = ("source", "digest", "generation", "path")
    return sorted(found, key=lambda item: tuple(item[0][name] for name in order))


@dataclass
class StageBook:
    """What one stage did in one unit."""

    label: str
    entered: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    characters: int = 0
    """Characters of text that came out."""
    groups: dict[str, groups.Tally] = field(default_factory=dict)
    """What it did to the groups of the stages so far, by their labels."""
    seconds: float = 0.0
    """CPU time."""
    pinned: list[pins.Pin] = field(default_factory=list)
    """Documents that it dropped by a limit on time or memory."""


class Chain:
    """The stages of a recipe, bound to their files and ready to take batches."""

    def __init__(self, context: Context) -> None:
        self.guards: dict[str, Guard] = {}
        """The child processes in which stages with limits run, by label."""
        self._pinning: dict[str, pins.Obeying] = {}
        only = context.recipe.sources_of()
        self.steps = [
            (label, stage.name, limited(self._processor(label, stage, facts, context), only.get(label)))
            for (label, stage), facts in zip(context.chain, chain_facts(context), strict=True)
        ]
        empty = READ.empty_table().to_batches()
        batch = empty[0] if empty else pa.RecordBatch.from_pylist([], schema=READ)
        found = {}
        for label, _, step in self.steps:
            found[label] = step(batch)
            batch = found[label].batch
        self.measures = measures.schema_of(found)
        """The columns of the part of measures; nothing but the id where no stage measures."""
        self.schema = pa.schema([f.remove_metadata() for f in batch.schema if f.name not in NO_LONGER_NEEDED])
        """The columns of the documents part: the document schema and the stages' scores."""
        if context.recipe.tokenizer is not None:
            prefix.check(context.recipe.tokenizer.prefix_columns, self.schema)
        if context.recipe.dedup is not None and context.recipe.dedup.quality is not None:
            check_quality(context.recipe.dedup.quality, self.schema)
        if context.recipe.mixture is not None:
            later = [pa.field("cluster_size", pa.int32()), pa.field("characters", pa.int32())]
            grouping.check(context.recipe.mixture.by, context.recipe.mixture.buckets, pa.schema([*self.schema, *later]))

    def _processor(self, label: str, stage: Stage, facts: dict[str, Any], context: Context) -> Processor:
        facts = {name: value for name, value in facts.items() if name != SOURCES}
        if stage.limits() is None:
            return bound.kept(facts) or stage.bind(load(stage.files(), context.folder))
        guard = self.guards[label] = Guard(stage, load(stage.files(), context.folder))
        step = self._pinning[label] = pins.Obeying(guard, label, facts)
        if context.recipe.pins is not None:
            step.obey(pins.read(Path(context.recipe.pins)), whatever_made_them=True)
        step.obey(pins.of_run(context.ledger), whatever_made_them=False)
        return step

    @property
    def child_seconds(self) -> float:
        """CPU time that child processes spent on batches so far."""
        return sum(guard.cpu_seconds for guard in self.guards.values())

    def books(self) -> list[StageBook]:
        """Empty books for a unit."""
        return [StageBook(label) for label, _, _ in self.steps]

    def run(
        self, batch: pa.RecordBatch, books: list[StageBook]
    ) -> tuple[pa.RecordBatch, list[dict[str, Any]], pa.RecordBatch]:
        """A batch through all stages: the kept rows, a DROPPED row for each other one, and what rules measured."""
        dropped: list[dict[str, Any]] = []
        measured, grouped = measures.Measured(self.measures, batch), groups.Grouped()
        for (label, name, step), book in zip(self.steps, books, strict=True):
            begun = time.thread_time() + self.child_seconds
            try:
                outcome = step(batch)
            except BaseException as error:
                error.add_note(f"in stage {label}")
                raise
            book.seconds += time.thread_time() + self.child_seconds - begun
            kept = check_outcome(label, batch, outcome)
            measured.add(label, outcome, kept)
            grouped.add(label, outcome, kept, book.groups)
            book.entered += batch.num_rows
            book.counts.update(outcome.counts)
            if outcome.dropped:
                lost = batch.select(["id", "source", "url", "origin"]).take([row for row, *_ in outcome.dropped])
                for facts, (_, reason, value, limit) in zip(lost.to_pylist(), outcome.dropped, strict=True):
                    book.dropped[f"{name}.{reason}"] += 1
                    facts |= {"stage": label, "reason": f"{name}.{reason}", "value": value, "limit": limit}
                    dropped.append(facts)
                    if label in self._pinning and reason in REASONS:
                        book.pinned.append(self._pinning[label].pin(facts, reason, limit))
            batch = outcome.batch
            if batch.num_rows:
                book.characters += pa.compute.sum(pa.compute.utf8_length(batch.column("text"))).as_py() or 0
        return batch, dropped, measured.table()


def check_quality(name: str, schema: pa.Schema) -> None:
    """Raises RecipeError where no stage writes this column of numbers."""
    numbers = [field.name for field in schema if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)]
    if name not in numbers:
        there = f" Numbers are: {', '.join(numbers)}." if numbers else " No stage writes numbers."
        raise RecipeError(
            f"dedup.quality: no stage writes a column of numbers '{name}'.{nearest(name, numbers)}{there}"
        )


def made_with(context: Context) -> dict[str, Any]:
    """The versions that a unit's outcome depends on, which `trace` compares with those it runs on."""
    return {
        "phase": VERSIONS["clean"],
        "packages": {package: release(package) for package in ("pyarrow", *PACKAGES)} | _readers_packages(context),
        "unicode": unicodedata.unidata_version,
        "stages": chain_facts(context),
    }


def _readers_packages(context: Context) -> dict[str, str]:
    kinds = {kind for item in context.recipe.inputs for kind in item.formats}
    return {package: found for kind in sorted(kinds) for package, found in versions(kind).items()}


_chains: dict[str, Chain] = {}


def chain_of(context: Context) -> Chain:
    """The recipe's chain; models are loaded once a process."""
    name = repr((context.recipe.stages, context.folder, context.recipe.pins, context.out))
    if name not in _chains:
        _chains.clear()
        _chains[name] = Chain(context)
    return _chains[name]


def work(task: Task, context: Context, folder: Path, reporter: Reporter) -> tuple[Sequence[Staged], dict[str, Any]]:
    """One split, from bytes to committed documents; of a listed file that stays away, all of it as one gap."""
    why = task.spec["unavailable"]
    if why is None:
        try:
            return _split(task, context, folder, reporter)
        except (Unavailable, FileNotFoundError, PermissionError) as error:
            if not task.spec["listed"]:
                raise
            why = error.why if isinstance(error, Unavailable) else error.strerror
    folder = folder / listing.UNAVAILABLE
    folder.mkdir()
    staged, body = _split(task, context, folder, reporter, away=True)
    return staged, body | {"unavailable": why}


def _split(
    task: Task, context: Context, folder: Path, reporter: Reporter, *, away: bool = False
) -> tuple[Sequence[Staged], dict[str, Any]]:
    spec = task.spec
    piece = Piece(
        spec["source"], spec["format"], spec["path"], spec["name"], spec["start"], spec["end"],
        tuple((ours, theirs) for ours, theirs in spec["fields"]),
        tuple((name, value) for name, value in spec["options"]),
    )  # fmt: skip
    chain = chain_of(context)
    children = chain.child_seconds
    for guard in chain.guards.values():
        guard.progress = reporter.alive
    books = chain.books()
    read_book = StageBook(READ_LABEL)
    tally = Tally()
    not_sampled = 0
    done = 0
    reads = iter(()) if away else READERS[piece.format].read(piece, tally)
    with (
        PartsWriter(folder, "kept", chain.schema) as kept,
        PartWriter(folder / "dropped", DROPPED) as lost,
        PartWriter(folder / measures.FOLDER, chain.measures) as seen,
    ):
        for batch, rejected in batches(itertools.islice(reads, spec["records"]), piece.source, BATCH_ROWS):
            read_book.entered += batch.num_rows + len(rejected)
            if context.trial.sample is not None:
                batch, rejected, skipped = _sampled(batch, rejected, context.trial.sample, context.recipe.seed)
                not_sampled += skipped
            lost.write_rows([rejected_row(read, piece.source) for read in rejected])
            read_book.dropped.update(f"{READ_LABEL}.{read.reason}" for read in rejected)
            batch, dropped, measured = chain.run(batch, books)
            lost.write_rows(dropped)
            seen.write(measured)
            kept.write(batch.select(chain.schema.names).cast(chain.schema))
            covered = tally.spans + tally.structure + sum(gap.length for gap in tally.gaps)
            reporter.add(
                documents=len(rejected) + batch.num_rows + len(dropped), kept=batch.num_rows, size=covered - done
            )
            done = covered
    framed = tally.framed
    if away:
        tally.gaps.append(Gap(piece.start, task.size, listing.UNAVAILABLE))
    elif spec["records"] is not None:  # a trial run stopped here on purpose
        framed = read_book.entered
        tally.gaps.append(Gap(piece.start, task.size - done, "limit")) if task.size > done else None
    if not away:
        check_unchanged(spec)
    read_book.counts.update(tally.counts)
    if not_sampled:
        read_book.counts[NOT_SAMPLED] = not_sampled
    body = {
        "input": {
            name: spec[name]
            for name in ("source", "path", "name", "digest", "start", "end", "format", "fields", "options")
        },
        "made_with": made_with(context),
        "framed": framed,
        "not_sampled": not_sampled,
        "kept": kept.rows,
        "dropped": lost.rows,
        "spans": tally.spans,
        "structure": tally.structure,
        "gaps": [[gap.offset, gap.length, gap.reason] for gap in tally.gaps],
        "funnel": [book_row(book) for book in (read_book, *books)],
        "pins": [asdict(pin) for book in books for pin in sorted(book.pinned, key=lambda pin: pin.id)],
        "timing": {
            "stages": {book.label: round(book.seconds, 4) for book in books},
            "peak_rss": peak_memory() + sum(guard.peak for guard in chain.guards.values()),
            "children_s": round(chain.child_seconds - children, 4),
        },
    }
    stem = task.key[:20]
    return [
        *(Staged(path, f"clean/{stem}-{number:03d}.parquet") for number, path in enumerate(kept.paths)),
        Staged(folder / "dropped", f"dropped/clean-{stem}.parquet"),
        *([Staged(folder / measures.FOLDER, f"{measures.FOLDER}/{stem}.parquet")] if len(chain.measures) > 1 else []),
    ], body


def book_row(book: StageBook) -> dict[str, Any]:
    """The part of a stage's book that does not depend on the clock."""
    return {
        "stage": book.label,
        "entered": book.entered,
        "dropped": dict(sorted(book.dropped.items())),
        "counts": dict(sorted(book.counts.items())),
        "characters": book.characters,
        "groups": {label: tally.facts() for label, tally in sorted(book.groups.items())},
    }


def rejected_row(read: Read, source: str) -> dict[str, Any]:
    """The DROPPED row of a record that the reader found to be no document."""
    return {
        "id": read.id, "source": source, "url": read.url, "origin": origin_row(read.origin), "stage": READ_LABEL,
        "reason": f"{READ_LABEL}.{read.reason}", "value": read.value, "limit": read.limit, "survivor": None,
    }  # fmt: skip


def _sampled(
    batch: pa.RecordBatch, rejected: list[Read], share: float, seed: int
) -> tuple[pa.RecordBatch, list[Read], int]:
    """What a trial run's sample keeps of a batch, and how many records it leaves out."""
    limit = threshold(share)
    hashes = keyed_all("try", seed, batch.column("id").to_pylist())
    chosen = np.array([int(value) < limit for value in hashes], bool)
    kept = batch.filter(pa.array(chosen, pa.bool_()))
    stay = [
        r for r, h in zip(rejected, keyed_all("try", seed, (r.id for r in rejected)), strict=True) if int(h) < limit
    ]
    return kept, stay, batch.num_rows - kept.num_rows + len(rejected) - len(stay)


def check_unchanged(spec: dict[str, Any]) -> None:
    """Raises UserError where an input file was written to or replaced since its digest was taken."""
    if listing.look(spec["path"], listed=False, again=True).looks != spec["looks"]:
        raise UserError(f"{spec['path']} changed while the run was at work; run again")
