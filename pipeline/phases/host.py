"""Phases lines, host_lines and host: boilerplate lines that recur on many pages of one host are cut.

`lines` writes for each clean part which page has which line, as sorted keys; `host_lines` finds, a unit for each range
of keys, the lines on enough pages; `host` makes of them the edits of each clean part, and judges the length rules of
the recipe's stages again where it cut. A changed limit redoes the last two; a recipe without `host` has no units.

What goes goes from every page, the first one too: a menu is no text of any of them. What is left of a page is byte for
byte what it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import bound, edits, hostlines
from pipeline.edits import FOLDER, SCHEMA
from pipeline.hostcuts import Example, decided, most_pages
from pipeline.hostlines import RECORD, Records, Table, hosts_of
from pipeline.ledger import Part, Staged
from pipeline.limited import SETTING as SOURCES
from pipeline.limited import limited
from pipeline.parts import PartWriter, read_batches
from pipeline.phases import signatures
from pipeline.progress import Reporter
from pipeline.recipe import HOST_LABEL, RepeatedLines
from pipeline.resources import digests, load
from pipeline.work import Context, Task, once, unit_key
from stages.base import Stage
from stages.keys import text_keys
from stages.schema import DROPPED
from stages.text import keyed_lines
from stages.text.column import texts

PACKAGES = ("idna", "numpy", "regex", "tldextract")
CHUNK = 1 << 20
"""Records that a unit sorts at a time."""
RANGE = 4 * CHUNK
"""Records of a range of keys, about; there are at most RANGES."""
RANGES = 256


def settings_of(context: Context) -> RepeatedLines:
    """The recipe's settings."""
    assert context.recipe.host is not None
    return context.recipe.host.repeated_lines


@once
def line_tasks(context: Context) -> list[Task]:
    """One unit for each clean part; none where the recipe has no `host`."""
    if context.recipe.host is None:
        return []
    settings = settings_of(context)
    spec = {name: getattr(settings, name) for name in ("min_letters", "max_characters", "by", "sources")}
    found = []
    for part in signatures.clean_parts(context):
        key = unit_key("lines", PACKAGES, spec | {"part": part.digest, "lines": keyed_lines.VERSION})
        found.append(Task("lines", key, part.bytes, {"path": part.path}))
    return found


def line_work(
    task: Task, context: Context, folder: Path, reporter: Reporter
) -> tuple[Sequence[Staged], dict[str, Any]]:
    """Which page has which line, for the pages of a part, in files of sorted records."""
    settings = settings_of(context)
    held: list[Records] = []
    staged: list[Staged] = []
    pages = written = size = 0

    def flush() -> None:
        nonlocal size, written
        if size:
            number = len(staged)
            records = hostlines.distinct(Records(*(np.concatenate(column) for column in zip(*held, strict=True))))
            hostlines.write(folder / f"{number}", records)
            staged.append(Staged(folder / f"{number}", f"host/lines-{task.key[:20]}-{number:03d}.bin"))
            written += len(records.first)
            held.clear()
            size = 0

    for batch in _pieces(context.file(task.spec["path"]), ["source", "url", "text"]):
        records, count = page_lines(batch, settings)
        pages += count
        held.append(records)
        size += len(records.first)
        if size >= CHUNK:
            flush()
        reporter.add(documents=batch.num_rows, kept=count)
    flush()
    reporter.add(size=task.size)
    return staged, {"pages": pages, "lines": written}


def _pieces(path: Path, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    """The batches of a part in smaller ones: what is computed of them lies beside them in memory."""
    for batch in read_batches(path, columns):
        for start in range(0, batch.num_rows, 2048):
            yield batch.slice(start, 2048)


def page_lines(batch: pa.RecordBatch, settings: RepeatedLines) -> tuple[Records, int]:
    """Which page of a batch has which line, its host first, and how many pages there are."""
    text = batch.column("text")
    hosts = hosts_of(batch, settings)
    known = hosts.known & text.is_valid().to_numpy(zero_copy_only=False)
    keys = text_keys(text)
    page = np.frombuffer(keys.buffers()[1], "<u8").reshape(-1, 2)[keys.offset : keys.offset + len(keys), 0]
    lines = keyed_lines.keyed_lines(texts(text), hosts.keys, known, settings.min_letters, settings.max_characters)
    rows = np.concatenate([np.flatnonzero(known), lines.rows])
    return Records(
        np.concatenate([hosts.keys[known, 0], lines.first]),
        np.concatenate([hosts.keys[known, 1], lines.second]),
        page[rows],
    ), int(known.sum())


@once
def _line_parts(context: Context) -> list[Part]:
    rows = [context.ledger.read_row("lines", task.key) for task in line_tasks(context)]
    return [part for row in rows if row is not None for part in row.parts]


@once
def range_tasks(context: Context) -> list[Task]:
    """One unit for each range of keys, as many as the corpus needs."""
    parts = list({part.path: part for part in _line_parts(context)}.values())
    size = sum(part.bytes for part in parts)
    if not size:
        return []
    count = min(-(-size // (RANGE * RECORD)), RANGES)
    paths = tuple(part.path for part in parts)
    facts = {"parts": [part.digest for part in parts], "min_pages": settings_of(context).min_pages, "count": count}
    found = []
    for number in range(count):
        key = unit_key("host_lines", ("numpy",), facts | {"number": number})
        # The paths, the same for each unit, do not travel: a worker reads them in the ledger.
        found.append(Task("host_lines", key, size // count, {"number": number, "count": count}, paths))
    return found


def range_work(
    task: Task, context: Context, folder: Path, reporter: Reporter
) -> tuple[Sequence[Staged], dict[str, Any]]:
    """The lines (and hosts) of a range of keys that are on enough pages."""
    number, count = task.spec["number"], task.spec["count"]
    low, high = ((number + step) * (1 << 64) // count for step in (0, 1))
    paths = sorted({part.path for row in context.ledger.rows("lines") for part in row.parts})
    files = context.files(paths)
    found = 0
    with (folder / "out").open("wb") as out:
        pieces = list(hostlines.pages_of_lines(files, low, high, settings_of(context).min_pages, CHUNK))
        table = Records(*(np.concatenate(column) for column in zip(*pieces, strict=True)))
        found = len(table.first)
        for column in table:
            out.write(np.ascontiguousarray(column, "<u8").data)
    reporter.add(size=task.size)
    return [Staged(folder / "out", f"host/pages-{number:05d}-{task.key[:20]}.bin")], {"lines": found}


@once
def _tables(context: Context) -> list[Part]:
    rows = [context.ledger.read_row("host_lines", task.key) for task in range_tasks(context)]
    return [row.part("host") for row in rows if row is not None]


@once
def _length_stages(context: Context) -> list[tuple[str, Stage, list[str] | None]]:
    """The rules on length of the recipe's stages, each with the name of its stage and its sources, in their order."""
    only = context.recipe.sources_of()
    found = ((stage.name, stage.length_rules(), only.get(label)) for label, stage in context.chain)
    return [(name, stage, sources) for name, stage, sources in found if stage is not None]


@once
def tasks(context: Context) -> list[Task]:
    """One unit for each clean part."""
    if context.recipe.host is None:
        return []
    settings = settings_of(context)
    tables = _tables(context)
    facts = {
        "tables": [table.digest for table in tables],
        "settings": settings.model_dump(mode="json"),
        "rules": [
            bound.facts_of(stage, digests(stage.files(), context.folder)) | ({SOURCES: sources} if sources else {})
            for _, stage, sources in _length_stages(context)
        ],
        "lines": keyed_lines.VERSION,
    }
    reads = tuple(table.path for table in tables)
    seen: Counter[str] = Counter()
    found = []
    for part in signatures.clean_parts(context):
        seen[part.digest] += 1  # of two equal parts each has its own books
        key = unit_key("host", PACKAGES, facts | {"part": part.digest, "number": seen[part.digest]})
        found.append(Task("host", key, part.bytes, {"path": part.path, "digest": part.digest}, reads))
    return found


def work(task: Task, context: Context, folder: Path, reporter: Reporter) -> tuple[Sequence[Staged], dict[str, Any]]:
    """The edits of a part, and the rows of the documents that they leave too short."""
    settings = settings_of(context)
    names = sorted({part.path for row in context.ledger.rows("host_lines") for part in row.parts})
    table = Table(context.files(names))
    rules = [
        (name, limited(stage.bind(load(stage.files(), context.folder)), sources))
        for name, stage, sources in _length_stages(context)
    ]
    reasons: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    shown: list[Example] = []
    entered = characters = 0
    with PartWriter(folder / "edits", SCHEMA) as out, PartWriter(folder / "dropped", DROPPED) as lost:
        for batch in _pieces(context.file(task.spec["path"]), None):
            found = decided(batch, settings, table, rules)
            gone = np.zeros(batch.num_rows, np.bool_)
            gone[[row for row, *_ in found.dropped]] = True
            if found.dropped:
                records = batch.select(["id", "source", "url", "origin"]).filter(pa.array(gone)).to_pylist()
                for record, (_, reason, value, limit) in zip(records, found.dropped, strict=True):
                    reasons[reason] += 1
                    record |= {"stage": HOST_LABEL, "reason": reason, "value": value, "limit": limit, "survivor": None}
                lost.write_rows(records)
            out.write(edits.rows(batch, *found.cut, gone))
            counts.update(found.figures)
            shown = most_pages([*shown, *found.examples])
            entered += batch.num_rows
            characters += pc.sum(pc.utf8_length(found.texts).filter(pa.array(~gone))).as_py() or 0
            reporter.add(documents=batch.num_rows, kept=batch.num_rows - len(found.dropped))
    reporter.add(size=task.size)
    body = {
        "clean": task.spec["digest"],
        "entered": entered,
        "kept": entered - lost.rows,
        "dropped": dict(sorted(reasons.items())),
        "counts": {name: counts[name] for name in sorted(counts) if counts[name]},
        "characters": characters,
        "examples": [example._asdict() for example in shown],
        "changed": bool(lost.rows or counts["lines_cut"]),
    }
    return [
        Staged(folder / "edits", f"{FOLDER}/{task.key[:20]}.parquet"),
        Staged(folder / "dropped", f"dropped/host-{task.key[:20]}.parquet"),
    ], body
