"""The phase host in plain Python, and its compiled parts without a run around them, to be held against each other."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import regex
import xxhash

from pipeline import edits, hostlines
from pipeline.hostcuts import Drop, decided
from pipeline.hostlines import Records, Table
from pipeline.phases import host
from pipeline.recipe import RepeatedLines
from stages.base import Processor
from stages.keys import sound
from stages.schema import DOCUMENTS
from stages.words import SPACELESS

_LETTER = regex.compile(r"[\p{L}\p{N}]")
_SPACELESS = regex.compile(rf"[{SPACELESS}]", regex.V1)


class Page(NamedTuple):
    """A document."""

    url: str | None
    text: str | None
    source: str = "web"


class Line(NamedTuple):
    """A line with its break, and what is within."""

    whole: str
    plain: str

    @property
    def letters(self) -> int:
        """Letters and digits, double in scripts without spaces."""
        return sum(2 if _SPACELESS.match(c) else 1 for c in _LETTER.findall(self.plain))


def lines_of(text: str) -> list[Line]:
    """The lines of a text; together they are the text."""
    return [Line(line, line.strip()) for line in re.findall(r"[^\n]*\n|[^\n]+", text)]


def counted(line: Line, settings: RepeatedLines) -> bool:
    """Whether a line is one that may go."""
    indented = line.whole.startswith(("\t", "  "))
    fits = line.letters >= settings.min_letters and len(line.plain) <= settings.max_characters
    return bool(line.plain) and fits and not indented


def host_of(page: Page, settings: RepeatedLines) -> str | None:
    """The host of a URL of the plain kind that tests use."""
    if page.url is None or page.text is None or (settings.sources and page.source not in settings.sources):
        return None
    return re.sub(r"^https?://(www\.)?([^/]+).*", r"\2", page.url)


def reference(pages: Sequence[Page], settings: RepeatedLines) -> list[str | None]:
    """The texts behind the phase."""
    all_pages: dict[str, set[str]] = defaultdict(set)
    with_line: dict[tuple[str, str], set[str]] = defaultdict(set)
    for page in pages:
        name = host_of(page, settings)
        if name is not None and page.text is not None:
            same = sound(page.text) or page.text
            all_pages[name].add(same)
            for line in lines_of(page.text):
                if counted(line, settings):
                    with_line[name, line.plain].add(same)
    return [_cut(page, settings, all_pages, with_line) for page in pages]


def _cut(
    page: Page,
    settings: RepeatedLines,
    all_pages: dict[str, set[str]],
    with_line: dict[tuple[str, str], set[str]],
) -> str | None:
    name = host_of(page, settings)
    if name is None or page.text is None:
        return page.text
    lines = lines_of(page.text)

    def repeated(line: Line) -> bool:
        number = len(with_line.get((name, line.plain), ()))
        share = round(settings.min_share * 1_000_000)
        enough = number >= settings.min_pages and number * 1_000_000 >= share * len(all_pages[name])
        return enough and counted(line, settings)

    full = [place for place, line in enumerate(lines) if line.plain]
    goes = [repeated(lines[place]) for place in full]
    gone = {
        place
        for number, place in enumerate(full)
        if goes[number]
        and (lines[place].letters >= settings.long_line or all(goes[:number]) or all(goes[number + 1 :]))
    }
    left = "".join(line.whole for place, line in enumerate(lines) if place not in gone)
    last = len(lines) - 1
    if last in gone and not lines[last].whole.endswith("\n"):
        left = left.removesuffix("\n").removesuffix("\r")
    cut = len(page.text) - len(left)
    return page.text if cut * 1_000_000 > round(settings.max_cut * 1_000_000) * len(page.text) else left


def batch_of(pages: Sequence[Page]) -> pa.RecordBatch:
    """The pages as documents of a clean part."""
    values: dict[str, list[object]] = {name: [None] * len(pages) for name in DOCUMENTS.names}
    values["id"] = [xxhash.xxh3_128_digest(f"{row} {page}".encode()) for row, page in enumerate(pages)]
    values["source"] = [page.source for page in pages]
    values["url"] = [page.url for page in pages]
    values["text"] = [page.text for page in pages]
    columns = [pa.array(values[field.name], field.type) for field in DOCUMENTS]
    return pa.RecordBatch.from_arrays(columns, schema=DOCUMENTS)


class Result(NamedTuple):
    """What the phase made of some batches."""

    texts: list[str | None]
    dropped: list[Drop]
    figures: dict[str, int]


def phase(
    batches: Sequence[pa.RecordBatch],
    settings: RepeatedLines,
    folder: Path,
    rules: Sequence[tuple[str, Processor]] = (),
    ranges: int = 1,
    budget: int = 1 << 20,
) -> Result:
    """The three phases over these batches, each of them a part."""
    files = []
    for number, batch in enumerate(batches):
        records, _ = host.page_lines(batch, settings)
        files.append(folder / f"lines-{number}")
        hostlines.write(files[-1], hostlines.distinct(records))
    tables = []
    for number in range(ranges):
        low, high = ((number + step) * (1 << 64) // ranges for step in (0, 1))
        counts = list(hostlines.pages_of_lines(files, low, high, settings.min_pages, budget))
        tables.append(folder / f"pages-{number}")
        hostlines.write(tables[-1], Records(*(np.concatenate(column) for column in zip(*counts, strict=True))))
    table = Table(tables)
    texts: list[str | None] = []
    dropped: list[Drop] = []
    figures: dict[str, int] = defaultdict(int)
    for batch in batches:
        found = decided(batch, settings, table, rules)
        stored = edits.rows(batch, *found.cut, np.zeros(batch.num_rows, bool))
        assert edits.apply(batch.column("text"), stored.column("starts"), stored.column("ends")).equals(found.texts)
        dropped += [(row + len(texts), *rest) for row, *rest in found.dropped]
        texts += found.texts.to_pylist()
        for name, value in found.figures.items():
            figures[name] += value
    return Result(texts, dropped, figures)
