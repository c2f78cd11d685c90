"""Misspelt words put right. Off unless a recipe names it, for it does harm."""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
import regex
from annotated_types import Ge, Le

from stages.base import Outcome, Processor, Stage
from stages.rows import Drop, outcome, strings, text_array


@dataclass(frozen=True, kw_only=True)
class Spelling(Stage):
    """Replaces words that a dictionary lacks by its most frequent word an edit away (SymSpell, Garbe 2012).

    Not recommended, and in no recipe that corpusmill ships. A model should read what people write: dialects, learners'
    errors, names, terms and words younger than the dictionary are text too, some of what is "put right" was right, and
    a model that never saw an error understands none. It is for small corpora whose errors have one known source, such
    as a scanner's.

    Only words of small letters are looked at, in documents of one language; not within addresses, paths, compounds
    with hyphens or code spans. Writes `words_corrected`; counts them and `characters_cut`, those of the words replaced.
    """

    name: ClassVar[str] = "spelling"
    version: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ("regex", "symspellpy")
    extra: ClassVar[str | None] = "spelling"

    language: str = "en"
    """Documents of this language (column `language`) are looked at, and no others."""
    dictionary: str = ""
    """File of words, one a line: the word, a blank, how often it is used. Empty: the English one of symspellpy."""
    max_distance: Annotated[int, Ge(1), Le(2)] = 1
    """Most edits (a letter put in, left out, replaced, or two swapped) between a word and what replaces it."""
    min_length: Annotated[int, Ge(1)] = 6
    """Fewest letters of a word that is looked at: short words have too many neighbours."""
    min_count: Annotated[int, Ge(0)] = 1_000_000
    """Least use of the word put in place, as the dictionary counts."""

    def __post_init__(self) -> None:
        if self.language != "en" and not self.dictionary:
            raise ValueError(f"dictionary: must be set for language '{self.language}'; there is one for 'en' alone")

    def files(self) -> dict[str, str]:
        return {"dictionary": self.dictionary} if self.dictionary else {}

    def bind(self, files: Mapping[str, bytes]) -> Processor:
        right = _corrector(files.get("dictionary"), self.max_distance, self.min_count)
        word = regex.compile(
            rf"`[^`\n]*`|(?<![\w@#/\\.\-'’$<&])\p{{Ll}}{{{self.min_length},40}}(?![\w@/\\\-'’(]|\.\w|://)"
        )

        def process(batch: pa.RecordBatch) -> Outcome:
            drops: list[Drop] = []
            texts, languages = strings(batch, "text"), strings(batch, "language")
            numbers = np.zeros(batch.num_rows, np.int32)
            cut = 0
            for row, text in enumerate(texts):
                if text is None:
                    drops.append((row, "no_text", None, None))
                    continue
                if (languages[row] or "").lower().replace("_", "-").split("-")[0] != self.language:
                    continue
                parts: list[str] = []
                place = 0
                for match in word.finditer(text):
                    better = None if match.group()[0] == "`" else right(match.group())
                    if better is not None:
                        parts += (text[place : match.start()], better)
                        place = match.end()
                        cut += match.end() - match.start()
                        numbers[row] += 1
                if parts:
                    texts[row] = "".join((*parts, text[place:]))
            columns = {"words_corrected": pa.array(numbers)}
            if numbers.any():
                columns["text"] = text_array(texts)
            return outcome(batch, drops, columns, {"words_corrected": int(numbers.sum()), "characters_cut": cut})

        return process


@functools.lru_cache(maxsize=2)
def _corrector(data: bytes | None, distance: int, least: int) -> Callable[[str], str | None]:
    """What gives a word's correction, or None. Raises ValueError where the dictionary is none."""
    import symspellpy  # of an extra

    if data is None:
        data = (importlib.resources.files("symspellpy") / "frequency_dictionary_en_82_765.txt").read_bytes()
    found = symspellpy.SymSpell(max_dictionary_edit_distance=distance, prefix_length=7)
    for number, line in enumerate(data.decode("utf-8-sig", "replace").splitlines(), 1):
        term, _, count = line.strip().rpartition(" ")
        if line.strip() and not (term and count.isdecimal()):
            raise ValueError(f"dictionary: line {number} should be a word, a blank and its count, and is {line[:60]!r}")
        if term:
            found.create_dictionary_entry(term, int(count))

    @functools.lru_cache(maxsize=1 << 16)
    def right(word: str) -> str | None:
        near: list[Any] = found.lookup(word, symspellpy.Verbosity.TOP, max_edit_distance=distance)
        return near[0].term if near and near[0].distance and near[0].count >= least else None

    return right
