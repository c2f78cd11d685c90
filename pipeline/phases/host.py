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
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import bound, edits, hostlines
from pipeline.edits import FOLDER, SCHEMA
from pipeline.hostlines import RECORD, HostKeys, Records, Table, host_keys
from pipeline.ledger import Part, Staged
from pipeline.parts import PartWriter, read_batches
from pipeline.phases import signatures
from pipeline.progress import Reporter
from pipeline.recipe import HOST_LABEL, RepeatedLines
from pipeline.resources import digests, load
from pipeline.work import Context, Task, once, unit_key
from stages.base import Processor, with_column
from stages.keys import text_keys
from stages.schema import DROPPED
from stages.text import keyed_lines
from stages.text.column import Texts, texts
from stages.text.keyed_lines import Lines

PACKAGES = ("idna", "numpy", "regex", "tldextract")
CHUNK = 1 << 20
"""Records that a unit sorts at a time."""
RANGE = 4 * CHUNK
"""Records of a range of keys, about; there are at most RANGES."""
RANGES = 256
_PARTS = 1_000_000
"""Shares are compared as integers, in millionths."""


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

    for batch in _pieces(context.out / task.spec["path"], ["source", "url", "text"]):
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


def _hosts(batch: pa.RecordBatch, settings: RepeatedLines) -> HostKeys:
    """The hosts of the documents that are looked at."""
    hosts = host_keys(batch.column("url"), settings.by)
    if settings.sources:
        chosen = pc.is_in(batch.column("source"), pa.array(settings.sources, pa.string()))
        hosts = hosts._replace(known=hosts.known & chosen.to_numpy(zero_copy_only=False))
    return hosts


def page_lines(batch: pa.RecordBatch, settings: RepeatedLines) -> tuple[Records, int]:
    """Which page of a batch has which line, its host first, and how many pages there are."""
    text = batch.column("text")
    hosts = _hosts(batch, settings)
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
    files = [context.out / path for path in paths]
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
def _length_stages(context: Context) -> list[tuple[str, Any]]:
    """The rules on length of the recipe's stages, each with the name of its stage, in their order."""
    found = ((stage.name, stage.length_rules()) for _, stage in context.chain)
    return [(name, stage) for name, stage in found if stage is not None]


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
            bound.facts_of(stage, digests(stage.files(), context.folder)) for _, stage in _length_stages(context)
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


class Cut(NamedTuple):
    """What is cut from a batch: (spans,) each in the order of the texts."""

    rows: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]

    def lists(self, rows: int) -> tuple[pa.ListArray, pa.ListArray]:
        """Starts and ends as a list for each row of the batch."""
        offsets = pa.array(np.searchsorted(self.rows, np.arange(rows + 1)).astype(np.int32))
        starts, ends = (pa.ListArray.from_arrays(offsets, pa.array(x.astype(np.int32))) for x in self[1:])
        return starts, ends


def work(task: Task, context: Context, folder: Path, reporter: Reporter) -> tuple[Sequence[Staged], dict[str, Any]]:
    """The edits of a part, and the rows of the documents that they leave too short."""
    settings = settings_of(context)
    names = sorted({part.path for row in context.ledger.rows("host_lines") for part in row.parts})
    table = Table([context.out / name for name in names])
    rules = [(name, stage.bind(load(stage.files(), context.folder))) for name, stage in _length_stages(context)]
    reasons: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    entered = characters = 0
    with PartWriter(folder / "edits", SCHEMA) as out, PartWriter(folder / "dropped", DROPPED) as lost:
        for batch in _pieces(context.out / task.spec["path"], None):
            starts, ends, dropped, after, figures = decided(batch, settings, table, rules)
            gone = np.zeros(batch.num_rows, np.bool_)
            gone[[row for row, *_ in dropped]] = True
            if dropped:
                records = batch.select(["id", "source", "url", "origin"]).take([row for row, *_ in dropped]).to_pylist()
                for record, (_, reason, value, limit) in zip(records, dropped, strict=True):
                    reasons[reason] += 1
                    record |= {"stage": HOST_LABEL, "reason": reason, "value": value, "limit": limit, "survivor": None}
                lost.write_rows(records)
            out.write(_rows(batch, starts, ends, gone))
            counts.update(figures)
            entered += batch.num_rows
            characters += pc.sum(pc.utf8_length(after).filter(pa.array(~gone))).as_py() or 0
            reporter.add(documents=batch.num_rows, kept=batch.num_rows - len(dropped))
    reporter.add(size=task.size)
    body = {
        "clean": task.spec["digest"],
        "entered": entered,
        "kept": entered - lost.rows,
        "dropped": dict(sorted(reasons.items())),
        "counts": {name: counts[name] for name in sorted(counts) if counts[name]},
        "characters": characters,
        "changed": bool(lost.rows or counts["lines_cut"]),
    }
    return [
        Staged(folder / "edits", f"{FOLDER}/{task.key[:20]}.parquet"),
        Staged(folder / "dropped", f"dropped/host-{task.key[:20]}.parquet"),
    ], body


def _rows(
    batch: pa.RecordBatch, starts: pa.ListArray, ends: pa.ListArray, gone: npt.NDArray[np.bool_]
) -> pa.RecordBatch:
    origin = batch.column("origin")
    places = [pc.struct_field(origin, name) for name in ("offset", "inner_offset")]
    return pa.RecordBatch.from_arrays([batch.column("id"), *places, starts, ends, pa.array(gone)], schema=SCHEMA)


Drop = tuple[int, str, float | None, float | None]


def decided(
    batch: pa.RecordBatch, settings: RepeatedLines, table: Table, rules: Sequence[tuple[str, Processor]]
) -> tuple[pa.ListArray, pa.ListArray, list[Drop], pa.Array, Counter[str]]:
    """Starts and ends of what is cut from each text, the rows that are dropped, the texts behind it, and figures."""
    before = batch.column("text")
    view = texts(before)
    lines = repeated(view, _hosts(batch, settings), settings, table)
    cut = spans(view, lines)
    after = edits.apply(before, *cut.lists(batch.num_rows))
    sizes, left = (pc.fill_null(pc.utf8_length(x), 0).to_numpy().astype(np.int64) for x in (before, after))
    whole = (sizes - left) * _PARTS > round(settings.max_cut * _PARTS) * sizes
    figures = Counter({"left_whole": int(whole.sum())})
    if whole.any():
        cut = Cut(*(column[~whole[cut.rows]] for column in cut))
        lines = lines.only(~whole[lines.rows])
        after = edits.apply(before, *cut.lists(batch.num_rows))
    touched = np.unique(cut.rows)
    dropped = _judged(batch, after, touched, rules)
    kept = np.ones(batch.num_rows, np.bool_)
    kept[[row for row, *_ in dropped]] = False
    figures["lines_cut"] = int(kept[lines.rows].sum())
    figures["documents_cut"] = int(kept[touched].sum())
    figures["characters_cut"] = int((sizes - left)[touched][kept[touched]].sum())
    return *cut.lists(batch.num_rows), dropped, after, figures


def repeated(view: Texts, hosts: HostKeys, settings: RepeatedLines, table: Table) -> Lines:
    """The lines of some texts that stand on enough pages of their hosts, and where the rules on place let them go."""
    pages = table.pages(hosts.keys[:, 0], hosts.keys[:, 1])
    lines = keyed_lines.keyed_lines(
        view, hosts.keys, hosts.known & (pages > 0), settings.min_letters, settings.max_characters
    )
    found = table.pages(lines.first, lines.second)
    share = round(settings.min_share * _PARTS)
    hit = (found >= settings.min_pages) & (found * _PARTS >= share * pages[lines.rows])
    lines = lines.only(hit)
    return lines.only((lines.letters >= settings.long_line) | at_edges(lines))


def at_edges(lines: Lines) -> npt.NDArray[np.bool_]:
    """Which of some lines have nothing but others of them, and blanks, before or behind them in their text."""
    number = np.arange(len(lines.rows))
    first = np.searchsorted(lines.rows, lines.rows)
    last = np.searchsorted(lines.rows, lines.rows, "right") - 1
    at: npt.NDArray[np.bool_] = (lines.above == number - first) | (lines.below == last - number)
    return at


def spans(view: Texts, lines: Lines) -> Cut:
    """What to cut for these lines: each with its line break; at the end of a text, where it has none, with the one
    before it. Neighbours are one span."""
    rows, starts, ends = lines.rows, lines.starts, lines.ends
    if not len(rows):
        return Cut(rows, starts, ends)
    begins = np.ones(len(rows), np.bool_)
    begins[1:] = (rows[1:] != rows[:-1]) | (starts[1:] != ends[:-1])
    stops = np.append(begins[1:], True)
    rows, starts, ends = rows[begins], starts[begins].copy(), ends[stops]
    base = view.offsets[rows]
    open_end = (ends == view.offsets[rows + 1] - base) & (view.data[base + ends - 1] != 10) & (starts > 0)
    starts[open_end] -= 1
    carriage = open_end & (starts > 0) & (view.data[base + np.maximum(starts - 1, 0)] == 13)
    starts[carriage] -= 1
    return Cut(rows, starts, ends)


def _judged(
    batch: pa.RecordBatch, after: pa.Array, touched: npt.NDArray[np.int64], rules: Sequence[tuple[str, Processor]]
) -> list[Drop]:
    """The cut texts that are empty now, or that a rule on length would drop: by row, the first reason of each."""
    if not len(touched):
        return []
    cut = with_column(batch, "text", after).take(pa.array(touched))
    empty = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(cut.column("text"))), 0).to_numpy(zero_copy_only=False)
    found: dict[int, Drop] = {int(row): (int(row), f"{HOST_LABEL}.empty", None, None) for row in touched[empty]}
    rows, cut = touched[~empty], cut.filter(pa.array(~empty))
    for name, process in rules:
        outcome = process(cut) if cut.num_rows else None
        for place, reason, value, limit in outcome.dropped if outcome else ():
            row = int(rows[place])
            found.setdefault(row, (row, f"{name}.{reason}", value, limit))
    return [found[row] for row in sorted(found)]
