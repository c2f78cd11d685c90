"""Phases fingerprints, repeats, stretches, matches and spans: substrings that recur across documents are cut.

They look at the documents that deduplication keeps, as it leaves them, in its order: the better of two documents keeps
what both say. `fingerprints` writes for each part the chosen runs of its texts, sorted; `repeats` finds, a unit for
each range of keys, those that recur, and says of most what becomes of them; of the rest `stretches` writes the digests
of their stretches, and `matches` finds those that recur; `spans` makes of it the edits of each part. How it works: see
`stages.substrings`. A recipe without `dedup.substrings` has no units.

A document is its number in the order of the parts, so that what a range of keys gives lies in order for each part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import edits, records
from pipeline.ledger import Part, Row, Staged
from pipeline.phases import clusters, exact, signatures
from pipeline.progress import Reporter
from pipeline.recipe import Substrings
from pipeline.records import Numbers
from pipeline.work import Context, Task, once, unit_key
from stages.substrings import winnow
from stages.substrings.groups import CUT, OPEN, Sharing, decide, recurring
from stages.substrings.located import located, pieces
from stages.substrings.winnow import fingerprints, matching, place_of, windows
from stages.text.column import Ints

PACKAGES = ("numpy", "regex")
Flags = npt.NDArray[np.bool_]

FOLDER = "substrings"
COLUMNS = {"fingerprints": 4, "stretches": 3}
"""Of the records that a phase writes: key, two digests, place; two digests, place."""
CHUNK = 1 << 21
"""Records that a unit sorts at a time."""
RANGE = 4 * CHUNK
"""Records of a range of keys, about."""


def settings_of(context: Context) -> Substrings | None:
    """The recipe's settings; None where it asks for none of it."""
    return context.recipe.dedup.substrings if context.recipe.dedup else None


def sharing_of(context: Context) -> Sharing:
    """The settings as the stages have them."""
    settings = settings_of(context)
    assert settings is not None
    return Sharing(tokens=settings.tokens, least=settings.min_documents, most=settings.max_documents)


class Documents(NamedTuple):
    """The documents of a clean part."""

    part: Part
    decision: Part
    first: int
    """Number of the first."""
    rows: int

    def spec(self, context: Context) -> dict[str, Any]:
        """What a unit must know to read them."""
        place = {"first": self.first, "count": self.rows}
        return {"documents": list(edits.where(context, self.part)), "decisions": self.decision.path} | place

    def facts(self, context: Context) -> dict[str, Any]:
        """What they depend on."""
        return {"part": edits.digest(context, self.part), "decisions": self.decision.digest}


@once
def numbered(context: Context) -> list[Documents]:
    """The documents of all clean parts, in their order."""
    found, first = [], int(exact.committed(context).body["known"])  # of earlier runs, in the index
    decisions = clusters.decisions(context)
    for part in signatures.clean_parts(context):
        count = edits.rows_of(context, part)
        found.append(Documents(part, decisions[part.path], first, count))
        first += count
    return found


def kept_of(context: Context, spec: dict[str, Any]) -> tuple[Flags, Flags]:
    """Which documents of a part are kept, and which of those take part: not the duplicates that stay (`mode: mark`),
    of which nothing would be left."""
    table = pq.read_table(context.file(spec["decisions"]))
    kept = table.column("cluster_size").to_numpy() > 0
    return kept, kept & table.column("duplicate_of").is_null().to_numpy()


def chosen(batch: pa.RecordBatch, rows: Ints) -> Iterator[tuple[Ints, pa.Array]]:
    """The texts of some rows of a batch, piece by piece."""
    column = batch.column("text")
    column = column if len(rows) == len(column) else column.take(pa.array(rows))
    for start, piece in pieces(column):
        yield rows[start : start + len(piece)], piece


@once
def fingerprint_tasks(context: Context) -> list[Task]:
    """One unit for each clean part."""
    settings = settings_of(context)
    if settings is None:
        return []
    found = []
    for documents in numbered(context):
        facts = {"tokens": settings.tokens, "version": winnow.VERSION} | documents.facts(context)
        key = unit_key("fingerprints", PACKAGES, facts)
        found.append(Task("fingerprints", key, documents.part.bytes, documents.spec(context)))
    return found


def fingerprint_work(
    task: Task, context: Context, folder: Path, reporter: Reporter
) -> tuple[Sequence[Staged], dict[str, Any]]:
    """The fingerprints of the documents of a part that are kept, by their places in the part."""
    tokens = sharing_of(context).tokens
    kept, judged = kept_of(context, task.spec)
    written = _Written(folder, task, COLUMNS["fingerprints"])
    at = characters = 0
    for batch in edits.read_documents(context, task.spec["documents"], ["text"]):
        mine = judged[at : at + batch.num_rows]
        for rows, column in chosen(batch, np.flatnonzero(mine)):
            found = fingerprints(located(column), tokens)
            written.add(found.keys, found.first, found.second, place_of(at + rows[found.rows], found.places))
        staying = pc.utf8_length(batch.column("text")).filter(pa.array(kept[at : at + batch.num_rows]))
        characters += pc.sum(staying).as_py() or 0
        at += batch.num_rows
        reporter.add(documents=batch.num_rows, kept=int(mine.sum()))
    reporter.add(size=task.size)
    body = {"documents": int(kept.sum()), "characters": characters, "records": written.total}
    return written.staged(), body


class _Written:
    """Records of a unit, in sorted files of about CHUNK."""

    def __init__(self, folder: Path, task: Task, columns: int) -> None:
        self.folder, self.task, self.columns = folder, task, columns
        self.total = self._size = 0
        self._held: list[Sequence[Numbers]] = []
        self._files: list[Staged] = []

    def add(self, *columns: Numbers) -> None:
        """Takes records: the place last."""
        self._held.append(columns)
        self._size += len(columns[0])
        if self._size >= CHUNK:
            self._flush()

    def staged(self) -> list[Staged]:
        """The files; none where there is no record."""
        if self._size:
            self._flush()
        return self._files

    def _flush(self) -> None:
        path = self.folder / f"{len(self._files)}"
        records.write(path, [np.concatenate(column) for column in zip(*self._held, strict=True)])
        name = f"{FOLDER}/{self.task.phase}-{self.task.key[:20]}-{len(self._files):03d}.bin"
        self._files.append(Staged(path, name))
        self.total += self._size
        self._held, self._size = [], 0


def _row(context: Context, task: Task) -> Row:
    row = context.ledger.read_row(task.phase, task.key)
    assert row is not None
    return row


def _range_tasks(context: Context, phase: str, sources: Sequence[Task]) -> list[Task]:
    """One unit for each range of the keys that the `sources` wrote, as many as there is to sort."""
    paths, firsts, digests, size = [], [], [], 0
    for task in sources:
        for part in _row(context, task).parts:
            paths.append(part.path)
            firsts.append(task.spec["first"])
            digests.append(part.digest)
            size += part.bytes
    settings = settings_of(context)
    if size == 0 or settings is None:
        return []
    columns = COLUMNS[sources[0].phase]
    count = -(-size // (8 * columns * RANGE))
    limits = [settings.tokens, settings.min_documents, settings.max_documents]
    facts = {"parts": digests, "firsts": firsts, "ranks": exact.digest(context), "count": count, "limits": limits}
    spec = {"paths": paths, "firsts": firsts, "count": count, "columns": columns}
    reads = tuple(part.path for part in exact.committed(context).parts)
    return [
        Task(
            phase,
            unit_key(phase, PACKAGES, facts | {"number": number}),
            size // count,
            spec | {"number": number},
            reads,
        )
        for number in range(count)
    ]


@once
def repeat_tasks(context: Context) -> list[Task]:
    """One unit for each range of keys of fingerprints."""
    return _range_tasks(context, "repeats", fingerprint_tasks(context))


@once
def match_tasks(context: Context) -> list[Task]:
    """One unit for each range of digests of stretches."""
    return _range_tasks(context, "matches", stretch_tasks(context))


def range_work(
    task: Task, context: Context, folder: Path, reporter: Reporter
) -> tuple[Sequence[Staged], dict[str, Any]]:
    """The places of the records of a range that are cut, and of those that are open, each in order."""
    spec = task.spec
    files = [records.mapped(path, spec["columns"]) for path in context.files(spec["paths"])]
    firsts = np.array(spec["firsts"], np.uint64) << np.uint64(32)
    ranks = exact.found(context, "rank")
    sharing = sharing_of(context)
    found: dict[int, list[Numbers]] = {CUT: [], OPEN: []}
    for slices in records.in_pieces(files, *records.bounds(spec["number"], spec["count"]), CHUNK):
        keys = np.concatenate([file[0, part] for file, part in zip(files, slices, strict=True)])
        again = recurring(keys)
        ends = np.cumsum([part.stop - part.start for part in slices])
        some = [part.start + np.flatnonzero(x) for part, x in zip(slices, np.split(again, ends[:-1]), strict=True)]
        first, second, places = (
            np.concatenate([file[column, rows] for file, rows in zip(files, some, strict=True)])
            for column in range(spec["columns"] - 3, spec["columns"])
        )
        places += np.repeat(firsts, [len(rows) for rows in some])
        documents = (places >> np.uint64(32)).astype(np.int64)
        words = (places & np.uint64(0xFFFFFFFF)).astype(np.int64)
        verdicts = decide(keys[again], first, second, ranks[documents].astype(np.int64), words, sharing)
        for verdict, held in found.items():
            held.append(places[verdicts == verdict])
        reporter.add(size=task.size * len(keys) // max(1, sum(file.shape[1] for file in files)))
    staged = []
    counts = {}
    for verdict, name in ((CUT, "cut"), (OPEN, "open")):
        places = np.concatenate(found[verdict])
        counts[name] = len(places)
        records.write(folder / name, [places])
        staged.append(Staged(folder / name, f"{FOLDER}/{task.phase}-{name}-{spec['number']:05d}-{task.key[:20]}.bin"))
    return staged, counts


def _verdicts(context: Context, tasks: Sequence[Task], number: int) -> tuple[list[str], list[str]]:
    """Paths and digests of the places that the units of a range phase found, cut (0) or open (1)."""
    parts = [_row(context, task).parts[number] for task in tasks]
    parts = [part for part in parts if part.bytes]
    return [part.path for part in parts], [part.digest for part in parts]


def wanted(context: Context, spec: dict[str, Any], name: str) -> Numbers:
    """The places in a part that are listed in the files under this name, in order."""
    low, high = spec["first"] << 32, (spec["first"] + spec["count"]) << 32
    files = [records.mapped(path, 1) for path in context.files(spec[name])]
    found = np.concatenate([np.zeros(0, np.uint64), *(file[0, records.between(file, low, high)] for file in files)])
    return np.sort(found) - np.uint64(low)


def within(places: Numbers, low: int, high: int) -> Numbers:
    """The places in rows `low` to `high` of a part, counted from row `low`."""
    start, stop = np.searchsorted(places, np.array([low << 32, high << 32], np.uint64))
    return places[start:stop] - np.uint64(low << 32)


def rows_of(places: Numbers) -> Ints:
    """The rows of places."""
    return (places >> np.uint64(32)).astype(np.int64)


@once
def stretch_tasks(context: Context) -> list[Task]:
    """One unit for each clean part."""
    if settings_of(context) is None:
        return []
    paths, digests = _verdicts(context, repeat_tasks(context), 1)
    found = []
    for source, documents in zip(fingerprint_tasks(context), numbered(context), strict=True):
        facts = {"fingerprints": source.key, "first": documents.first, "open": digests}
        spec = documents.spec(context) | {"open": paths}
        found.append(Task("stretches", unit_key("stretches", PACKAGES, facts), documents.part.bytes, spec))
    return found


def stretch_work(
    task: Task, context: Context, folder: Path, reporter: Reporter
) -> tuple[Sequence[Staged], dict[str, Any]]:
    """The stretches of the open fingerprints of a part, by their places in it."""
    tokens = sharing_of(context).tokens
    written = _Written(folder, task, COLUMNS["stretches"])
    places = wanted(context, task.spec, "open")
    at = 0
    for batch in edits.read_documents(context, task.spec["documents"], ["text"]) if len(places) else ():
        here = within(places, at, at + batch.num_rows)
        for rows, column in chosen(batch, np.unique(rows_of(here))):
            words = located(column)
            prints = fingerprints(words, tokens)
            mine = matching(prints, here, rows)
            found = windows(words, tokens, prints.rows[mine], prints.lows[mine], prints.highs[mine])
            written.add(found.first, found.second, place_of(at + rows[found.rows], found.places))
        at += batch.num_rows
        reporter.add(documents=batch.num_rows, kept=batch.num_rows)
    reporter.add(size=task.size)
    staged = written.staged()
    return staged, {"records": written.total}


@once
def verdict_parts(context: Context) -> dict[str, tuple[list[str], list[str]]]:
    """Paths and digests of what is cut: of `whole` fingerprints, and `single` stretches."""
    return {
        "whole": _verdicts(context, repeat_tasks(context), 0),
        "single": _verdicts(context, match_tasks(context), 0),
    }
