"""What goes from a batch of documents because it stands on many pages of their host, and what that makes too short."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.hostlines import HostKeys, Table, hosts_of
from pipeline.recipe import HOST_LABEL, RepeatedLines
from stages.base import Processor, with_column
from stages.text import keyed_lines
from stages.text.column import Edits, Texts, edited, texts
from stages.text.keyed_lines import Lines

EXAMPLES = 10
"""Lines that the report shows."""
SHOWN = 100
"""Characters of each of them."""
_PARTS = 1_000_000
"""Shares are compared as integers, in millionths."""


class Cut(NamedTuple):
    """What is cut from a batch: (spans,) each in the order of the texts."""

    rows: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]

    def applied(self, texts: pa.Array) -> pa.Array:
        """The texts without the spans."""
        return edited(texts, Edits(*self, np.zeros(len(self.rows), np.int64)))


Drop = tuple[int, str, float | None, float | None]


class Example(NamedTuple):
    """A line that is cut."""

    host: str
    line: str
    """Its beginning."""
    pages: int
    """Pages of the host that have it."""


def most_pages(examples: Sequence[Example]) -> list[Example]:
    """Those on the most pages, in order."""
    return sorted(set(examples), key=lambda one: (-one.pages, one.host, one.line))[:EXAMPLES]


class Decision(NamedTuple):
    """What becomes of the n documents of a batch."""

    cut: Cut
    dropped: list[Drop]
    """In the order of the rows."""
    texts: pa.Array
    """What is left of all texts."""
    figures: Counter[str]
    examples: list[Example]


def decided(
    batch: pa.RecordBatch, settings: RepeatedLines, table: Table, rules: Sequence[tuple[str, Processor]]
) -> Decision:
    """What goes from a batch of documents, by the pages of each line and the rules on length, each with the name of
    its stage."""
    before = batch.column("text")
    view = texts(before)
    hosts = hosts_of(batch, settings)
    lines = repeated(view, hosts, settings, table)
    cut = spans(view, lines)
    after = cut.applied(before)
    sizes, left = (pc.fill_null(pc.utf8_length(x), 0).to_numpy().astype(np.int64) for x in (before, after))
    whole = (sizes - left) * _PARTS > round(settings.max_cut * _PARTS) * sizes
    figures = Counter({"left_whole": int(whole.sum())})
    if whole.any():
        cut = Cut(*(column[~whole[cut.rows]] for column in cut))
        lines = lines.only(~whole[lines.rows])
        after = cut.applied(before)
    touched = np.unique(cut.rows)
    dropped = _judged(batch, after, touched, rules)
    kept = np.ones(batch.num_rows, np.bool_)
    kept[[row for row, *_ in dropped]] = False
    figures["lines_cut"] = int(kept[lines.rows].sum())
    figures["documents_cut"] = int(kept[touched].sum())
    figures["characters_cut"] = int((sizes - left)[touched][kept[touched]].sum())
    return Decision(cut, dropped, after, figures, _examples(view, lines, hosts, table))


def _examples(view: Texts, lines: Lines, hosts: HostKeys, table: Table) -> list[Example]:
    """The lines on the most pages."""
    _, places = np.unique(lines.first, return_index=True)
    pages = table.pages(lines.first[places], lines.second[places])
    if len(places) > EXAMPLES:
        places = places[pages >= np.partition(pages, -EXAMPLES)[-EXAMPLES]][: 10 * EXAMPLES]
        pages = table.pages(lines.first[places], lines.second[places])
    found = []
    for place, number in zip(places.tolist(), pages.tolist(), strict=True):
        row, start, end = (int(column[place]) for column in (lines.rows, lines.starts, lines.ends))
        begin = int(view.offsets[row])
        line = view.data[begin + start : begin + end].tobytes().decode().strip()
        found.append(Example(hosts.names[hosts.place[row]] or "", line[:SHOWN], number))
    return most_pages(found)


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
