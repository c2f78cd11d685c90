"""Gopher's document quality rules, for every script."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import pyarrow as pa
from annotated_types import Ge, Le

from stages.base import Outcome, Processor, Stage
from stages.rows import Drop, outcome, strings
from stages.statistics import Statistics, statistics
from stages.words import is_spaceless, words

Share = Annotated[float, Ge(0), Le(1)]


@dataclass(frozen=True, kw_only=True)
class GopherQuality(Stage):
    """Drops documents that fail Gopher's quality rules (Rae et al. 2021, appendix A.1.1).

    Words are what stands between blanks, as in the paper. In scripts without spaces (Chinese, Japanese,
    Thai, Lao, Khmer, Burmese ...) each character is a word; the rule on word length then looks at the words
    between blanks alone, and only where they are at least half of all words, for a length of single
    characters says nothing. The rule on stop words asks for those of the document's language (column
    `language`); it is not applied to a language for which the list has none.
    """

    name: ClassVar[str] = "gopher_quality"
    version: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ("regex",)

    min_words: Annotated[int, Ge(0)] = 50
    """Fewest words (`few_words`)."""
    max_words: Annotated[int, Ge(0)] = 100_000
    """Most words (`many_words`)."""
    min_word_length: Annotated[float, Ge(0)] = 3.0
    """Least mean word length, code points (`word_length`)."""
    max_word_length: Annotated[float, Ge(0)] = 10.0
    """Greatest mean word length, code points (`word_length`)."""
    max_symbols: Annotated[float, Ge(0)] = 0.1
    """Most hash signs, or ellipses, per word (`symbols`)."""
    max_bullet_lines: Share = 0.9
    """Greatest share of lines that begin with a bullet (`bullets`)."""
    max_ellipsis_lines: Share = 0.3
    """Greatest share of lines that end with an ellipsis (`ellipses`)."""
    min_alphabetic: Share = 0.8
    """Least share of words with an alphabetic character (`alphabetic`)."""
    min_stop_words: Annotated[int, Ge(0)] = 2
    """Fewest different stop words of the document's language (`stop_words`); 0 switches the rule off."""
    stop_words: str = "builtin:stopwords.json"
    """File of stop words: a JSON object of language code to list of words. English holds the paper's eight."""
    fallback_language: str = ""
    """Language assumed where the column `language` is empty; empty: the stop-word rule is not applied there."""

    def __post_init__(self) -> None:
        for least, most in (("min_words", "max_words"), ("min_word_length", "max_word_length")):
            if getattr(self, least) > getattr(self, most):
                raise ValueError(f"{least} ({getattr(self, least)}) is above {most} ({getattr(self, most)})")

    def files(self) -> dict[str, str]:
        return {"stop_words": self.stop_words}

    def bind(self, files: Mapping[str, bytes]) -> Processor:
        lists = read_stop_words(files["stop_words"])

        def process(batch: pa.RecordBatch) -> Outcome:
            drops: list[Drop] = []
            for row, (text, language) in enumerate(
                zip(strings(batch, "text"), strings(batch, "language"), strict=True)
            ):
                broken = ("no_text", None, None) if text is None else self.judge(text, language, lists)
                if broken:
                    drops.append((row, *broken))
            return outcome(batch, drops)

        return process

    def judge(
        self, text: str, language: str | None, lists: Mapping[str, StopWords]
    ) -> tuple[str, float | None, float | None] | None:
        """The first rule, in the paper's order, that the text breaks: (reason, value, limit), or None."""
        found = statistics(text)
        if broken := self._counts(found):
            return broken
        stop_words = lists.get((language or self.fallback_language).lower().split("-")[0])
        if stop_words and self.min_stop_words:
            number = stop_words.count(text, self.min_stop_words)
            if number < self.min_stop_words:
                return "stop_words", number, self.min_stop_words
        return None

    def _counts(self, found: Statistics) -> tuple[str, float, float] | None:
        total = found.words
        if total < self.min_words:
            return "few_words", total, self.min_words
        if total > self.max_words:
            return "many_words", total, self.max_words
        if not total:
            return None
        if 2 * found.spaced_words >= total:
            mean = found.spaced_length / found.spaced_words
            if mean < self.min_word_length:
                return "word_length", mean, self.min_word_length
            if mean > self.max_word_length:
                return "word_length", mean, self.max_word_length
        symbols = max(found.hashes, found.ellipses) / total
        if symbols > self.max_symbols:
            return "symbols", symbols, self.max_symbols
        if found.bullet_lines / found.lines > self.max_bullet_lines:
            return "bullets", found.bullet_lines / found.lines, self.max_bullet_lines
        if found.ellipsis_lines / found.lines > self.max_ellipsis_lines:
            return "ellipses", found.ellipsis_lines / found.lines, self.max_ellipsis_lines
        if found.letter_words / total < self.min_alphabetic:
            return "alphabetic", found.letter_words / total, self.min_alphabetic
        return None


class StopWords:
    """The stop words of one language; those of a script without spaces are looked for inside the text."""

    def __init__(self, entries: list[str]) -> None:
        folded = [entry.casefold() for entry in entries]
        self.inside = sorted({entry for entry in folded if is_spaceless(entry)})
        self.alone = frozenset(folded) - set(self.inside)

    def count(self, text: str, enough: int) -> int:
        """How many different stop words the text has; counting may end at `enough`."""
        folded = text.casefold()
        number = len(self.alone.intersection(words(folded))) if self.alone else 0
        for entry in self.inside:
            if number >= enough:
                break
            number += entry in folded
        return number


def read_stop_words(data: bytes) -> dict[str, StopWords]:
    """The lists of a JSON file by language. Raises ValueError where the file is something else."""
    try:
        lists = json.loads(data)
    except ValueError as error:
        raise ValueError(f"the file of stop words is no JSON: {error}") from error
    if not isinstance(lists, dict) or not all(
        isinstance(entries, list) and all(isinstance(entry, str) and entry for entry in entries)
        for entries in lists.values()
    ):
        raise ValueError("the file of stop words should be a JSON object of language code to list of words")
    return {language: StopWords(entries) for language, entries in lists.items()}
