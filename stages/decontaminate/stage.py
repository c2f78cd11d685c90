"""Documents that hold items of a benchmark, which a model should not have read before it is tested."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from annotated_types import Ge, Gt, Le
from pydantic import ConfigDict

from stages.base import Outcome, Processor, Rule, Stage, judged
from stages.decontaminate.benchmarks import Item, items, names
from stages.decontaminate.index import Grams, Index, grams, index, size
from stages.decontaminate.spans import characters, sentences
from stages.listfiles import bare
from stages.rows import outcome, text_array

_PARTS = 1000
_FOUND = pa.list_(pa.struct([pa.field("item", pa.string()), pa.field("share", pa.float32())]))


class Sought(NamedTuple):
    """The items of all benchmarks, ready to be looked for."""

    items: list[Item]
    names: list[str]
    table: Index


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """The items of one benchmark, or of a folder of benchmarks."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    path: str
    """A file of JSON lines or of text with an item a line, also as .gz, .bz2, .xz, .zst or .tar; or a folder of such
    files, of which README, LICENSE and Markdown are passed over."""
    fields: tuple[str, ...] = ()
    """Fields of JSON lines that are joined to an item; empty: all that hold strings."""
    name: str = ""
    """How its items are named; empty: as the file is."""


@dataclass(frozen=True, kw_only=True)
class Decontaminate(Stage):
    """Drops, cuts, or tags documents that have n-grams of words in common with items of benchmarks.

    N-grams of 13 words as for GPT-3 (Brown et al. 2020, appendix C), 8 for shorter items, of which all must be there.
    Words are compared after NFKC and case folding, without punctuation; in scripts without spaces each character
    counts as `words / characters` of a word. N-grams are compared by 128-bit hashes. Writes `contamination`: the
    share of the document's words that lie in n-grams of items (in thousandths), and `contaminated_by`: the items, as
    `benchmark:line` (`benchmark/file:line` where it has several files). Counts the documents by benchmark
    (`contaminated_gsm8k`), and `characters_cut`. `inspect --contamination` reports by item.
    """

    name: ClassVar[str] = "decontaminate"
    version: ClassVar[int] = 2
    packages: ClassVar[tuple[str, ...]] = ("regex",)

    benchmarks: tuple[Benchmark, ...] = ()
    """Whose items to look for."""
    mode: Literal["drop", "cut", "tag"] = "drop"
    """`drop` takes out documents beyond `max_share`; `cut` takes the sentences (or lines) that hold n-grams out of
    them, and drops what is left empty; `tag` only writes the columns."""
    max_share: Annotated[float, Ge(0), Le(1)] = 0.0
    """Greatest share of a document's words that may lie in n-grams of items (`contamination`)."""
    min_item_share: Annotated[float, Ge(0), Le(1)] = 0.1
    """Least share of an item's n-grams that a document must have, for the item to count (PaLM asks for 0.7 of
    8-grams: Chowdhery et al. 2022, section 8). Of items shorter than an n-gram all are asked for."""
    words: Annotated[int, Ge(2), Le(100)] = 13
    """Words in an n-gram (Brown et al. 2020, appendix C)."""
    short_words: Annotated[int, Ge(1), Le(100)] = 8
    """Words in the n-grams of items that have less than `words`; items with less than these are not looked for."""
    characters: Annotated[int, Ge(2), Le(400)] = 26
    """Characters that make an n-gram in scripts without spaces: two a word, as a Chinese word has 1.5 to 2."""
    max_items: Annotated[int, Gt(0)] = 20
    """N-grams in more items than this are templates or instructions, and say nothing about an item."""
    max_named: Annotated[int, Gt(0)] = 16
    """Most items that `contaminated_by` names."""

    def __post_init__(self) -> None:
        if self.short_words > self.words:
            raise ValueError(f"short_words: {self.short_words} is more than words: {self.words}")

    def files(self) -> dict[str, str]:
        return {f"benchmarks/{number}/": benchmark.path for number, benchmark in enumerate(self.benchmarks)}

    def bind(self, files: Mapping[str, bytes]) -> Processor:
        sought = self.sought(files)
        return lambda batch: self._judge(batch, sought)

    def sought(self, files: Mapping[str, bytes]) -> Sought:
        """The items in the contents of the stage's files. Raises ValueError where a benchmark has none to look for."""
        found: list[Item] = []
        ends: list[tuple[int, str]] = []
        for number, benchmark in enumerate(self.benchmarks):
            role = f"benchmarks/{number}/"
            for key in sorted(key for key in files if key.startswith(role)):
                inner = key.removeprefix(role)
                if inner.rpartition("/")[2].partition(".")[0] in ("README", "LICENSE") or bare(inner).endswith(".md"):
                    continue
                shown = benchmark.path if benchmark.path.endswith(inner) else f"{benchmark.path}/{inner}"
                found += items(shown, inner, files[key], benchmark.name, benchmark.fields)
            ends.append((len(found), benchmark.path))
        _check_names(found, [end for end, _ in ends])
        table = index(
            [item.text for item in found], size(self.words, self.characters, self.short_words), self.max_items
        )
        begin = 0
        for end, path in ends:
            if not (table.sizes[begin:end] > 0).any():
                raise ValueError(
                    f"benchmarks: no item of {path} has {self.short_words} words that are in no more than "
                    f"{self.max_items} items"
                )
            begin = end
        return Sought(found, names(found), table)

    def _judge(self, batch: pa.RecordBatch, sought: Sought) -> Outcome:
        table = sought.table
        column = batch.column("text")
        number = batch.num_rows
        found = grams(column, size(self.words, self.characters, self.short_words), table)
        shares = np.zeros(number, np.int64)
        by: list[list[str]] = [[] for _ in range(number)]
        counts: Counter[str] = Counter()
        overlaps: list[list[dict[str, object]] | None] = [None] * number
        left_empty = np.zeros(number, np.bool_)
        texts: dict[int, str] = {}
        limit = round(self.max_share * _PARTS)
        bounds = np.searchsorted(found.rows, np.arange(number + 1))
        for row in np.unique(found.rows).tolist():
            spans, which = self._items(found, table, int(bounds[row]), int(bounds[row + 1]))
            if not which:
                continue
            covered = reach = 0
            for _, _, start, end in spans:
                covered += max(end - max(start, reach), 0)
                reach = max(reach, end)
            shares[row] = -(-covered * _PARTS // int(found.weight[row]))  # upwards: what is there is not nothing
            by[row] = [sought.names[item] for item in list(which)[: self.max_named]]
            overlaps[row] = [{"item": sought.names[item], "share": part / _PARTS} for item, part in which.items()]
            counts.update({f"contaminated_{sought.items[item].benchmark}" for item in which})
            if self.mode == "cut" and shares[row] > limit:
                text = column[row].as_py()
                places = characters(text, [(start, end) for start, end, _, _ in spans], bool(found.refolded[row]))
                left, at = "", 0
                for start, end in sentences(text, places):
                    left += text[at:start]
                    at = end
                left = (left + text[at:]).strip("\n")
                counts["characters_cut"] += len(text) - len(left)
                if left.strip():
                    texts[row] = left
                else:
                    left_empty[row] = True
        columns = {
            "contamination": pa.array(shares.astype(np.float32) / np.float32(_PARTS)),
            "contaminated_by": pa.array(by, pa.list_(pa.string())),
        }
        if texts:
            columns["text"] = text_array([texts.get(row, value) for row, value in enumerate(column.to_pylist())])
        written = outcome(batch, [], columns, counts)
        hit = left_empty if self.mode == "cut" else (shares > limit) & (self.mode == "drop")
        setting = "max_share" if self.mode == "drop" else None
        rules = [
            Rule("no_text", column.is_null().to_numpy(zero_copy_only=False)),
            Rule("contaminated", hit, shares / _PARTS, self.max_share, setting),
        ]
        done = judged(written.batch, rules, written.counts)
        findings = {"contamination": columns["contamination"], "items": pa.array(overlaps, _FOUND)}
        return replace(done, findings=findings)

    def _items(self, found: Grams, table: Index, begin: int, end: int) -> tuple[list[list[int]], dict[int, int]]:
        """Of one document's n-grams: the spans of those of items that count, by place, and these items with the share
        of each one's n-grams that are there, in 1/_PARTS."""
        numbers = np.unique(found.numbers[begin:end])
        there: Counter[int] = Counter()
        for gram in numbers.tolist():
            there.update(table.items[table.bounds[gram] : table.bounds[gram + 1]].tolist())
        least = round(self.min_item_share * _PARTS)
        which = {
            item: count * _PARTS // int(table.sizes[item])
            for item, count in sorted(there.items())
            if count * _PARTS >= (_PARTS if table.short[item] else least) * int(table.sizes[item])
        }
        spans = [
            found.spans[place].tolist()
            for place in range(begin, end)
            if not which.keys().isdisjoint(
                table.items[table.bounds[found.numbers[place]] : table.bounds[found.numbers[place] + 1]].tolist()
            )
        ]
        return sorted(spans, key=lambda span: (span[2], span[3])), which


def _check_names(found: Sequence[Item], ends: Sequence[int]) -> None:
    """Raises ValueError where two of the benchmarks, which end at `ends`, have files of one name."""
    known: dict[tuple[str, str], int] = {}
    for number, (begin, end) in enumerate(itertools.pairwise((0, *ends))):
        for item in found[begin:end]:
            if known.setdefault((item.benchmark, item.file), number) != number:
                raise ValueError(
                    f"benchmarks: two have a file {item.file} and would be called {item.benchmark!r}; give one a `name`"
                )
