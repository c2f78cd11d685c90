"""Documents that hold items of a benchmark, which a model should not have read before it is tested."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import pyarrow as pa
from annotated_types import Ge, Gt, Le
from pydantic import ConfigDict

from stages.base import Outcome, Processor, Stage
from stages.decontaminate.benchmarks import Item, items
from stages.decontaminate.index import Grams, Index, grams, index, size
from stages.decontaminate.spans import characters, sentences
from stages.rows import Drop, outcome, text_array

_PARTS = 1000


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """The items of one benchmark, or of a folder of benchmarks."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    path: str
    """A file of JSON lines or of text with an item a line, also as .gz, .bz2, .xz, .zst or .tar; or a folder of such
    files."""
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
    `benchmark:line`. Counts the documents by benchmark (`contaminated_gsm8k`), and `characters_cut`.
    """

    name: ClassVar[str] = "decontaminate"
    version: ClassVar[int] = 1
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
        found: list[Item] = []
        ends: list[tuple[int, str]] = []
        for number, benchmark in enumerate(self.benchmarks):
            role = f"benchmarks/{number}/"
            for key in sorted(key for key in files if key.startswith(role)):
                inner = key.removeprefix(role)
                if inner.rpartition("/")[2].partition(".")[0] in ("README", "LICENSE"):
                    continue
                shown = benchmark.path if benchmark.path.endswith(inner) else f"{benchmark.path}/{inner}"
                found += items(shown, files[key], benchmark.name, benchmark.fields)
            ends.append((len(found), benchmark.path))
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
        names = [(item.benchmark, f"{item.benchmark}:{item.number}") for item in found]
        return lambda batch: self._judge(batch, table, names)

    def _judge(self, batch: pa.RecordBatch, table: Index, names: Sequence[tuple[str, str]]) -> Outcome:
        column = batch.column("text")
        number = batch.num_rows
        found = grams(column, size(self.words, self.characters, self.short_words), table)
        shares = np.zeros(number, np.int64)
        by: list[list[str]] = [[] for _ in range(number)]
        counts: Counter[str] = Counter()
        drops: list[Drop] = [
            (row, "no_text", None, None)
            for row in np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist()
        ]
        texts: dict[int, str] = {}
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
            by[row] = [names[item][1] for item in which[: self.max_named]]
            counts.update({f"contaminated_{names[item][0]}" for item in which})
            beyond = shares[row] > round(self.max_share * _PARTS)
            verdict = (row, "contaminated", int(shares[row]) / _PARTS, self.max_share)
            if self.mode == "drop" and beyond:
                drops.append(verdict)
            elif self.mode == "cut" and beyond:
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
                    drops.append(verdict)
        columns = {
            "contamination": pa.array(shares.astype(np.float32) / np.float32(_PARTS)),
            "contaminated_by": pa.array(by, pa.list_(pa.string())),
        }
        if texts:
            columns["text"] = text_array([texts.get(row, value) for row, value in enumerate(column.to_pylist())])
        return outcome(batch, drops, columns, counts)

    def _items(self, found: Grams, table: Index, begin: int, end: int) -> tuple[list[list[int]], list[int]]:
        """Of one document's n-grams: the spans of those of items that count, by place, and these items."""
        numbers = np.unique(found.numbers[begin:end])
        there: Counter[int] = Counter()
        for gram in numbers.tolist():
            there.update(table.items[table.bounds[gram] : table.bounds[gram + 1]].tolist())
        least = round(self.min_item_share * _PARTS)
        which = {
            item
            for item, count in there.items()
            if count * _PARTS >= (_PARTS if table.short[item] else least) * int(table.sizes[item])
        }
        spans = [
            found.spans[place].tolist()
            for place in range(begin, end)
            if which.intersection(
                table.items[table.bounds[found.numbers[place]] : table.bounds[found.numbers[place] + 1]].tolist()
            )
        ]
        return sorted(spans, key=lambda span: (span[2], span[3])), sorted(which)
