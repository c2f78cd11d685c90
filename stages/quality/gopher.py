"""Gopher's document quality rules, for every script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal

import numpy as np
import pyarrow as pa
from annotated_types import Ge

from stages.base import Outcome, Processor, Rule, Stage
from stages.quality.fields import (
    BULLET_LINES,
    ELLIPSES,
    ELLIPSIS_LINES,
    HASHES,
    LETTER_TERMS,
    LETTER_WORDS,
    LINES,
    MARKS,
    SPACED_LENGTH,
    SPACED_WORDS,
    TERM_LENGTH,
    TERMS,
    WORDS,
)
from stages.quality.rules import Share, WordsStage, ratio
from stages.quality.statistics import cuts_of
from stages.quality.stopwords import StopWords, read_stop_words
from stages.text.column import Ints, texts


@dataclass(frozen=True, kw_only=True)
class GopherQuality(WordsStage):
    """Drops documents that fail Gopher's quality rules (Rae et al. 2021, appendix A.1.1).

    Words are what stands between blanks, as in the paper. In scripts without spaces (Chinese, Japanese,
    Thai, Lao, Khmer, Burmese ...) each character is a word; the rule on word length then looks at the words
    between blanks alone, and only where they are at least half of all words, for a length of single
    characters says nothing. With a `segmenter` it cuts their words; as the paper's limits on their length are
    those of English, they are held against limits that `by_language` sets for the language, and no others.
    The rule on stop words asks for those of the document's language (column `language`); it is not applied to a
    language for which the list has none.
    """

    name: ClassVar[str] = "gopher_quality"
    version: ClassVar[int] = 3
    packages: ClassVar[tuple[str, ...]] = ("regex",)

    words: Literal["blanks", "marks"] = "blanks"
    """What a word is: `blanks`: what stands between blanks (the paper); `marks`: runs of letters and digits, and each
    mark by itself in the rules on symbols and letters (as datatrove's tokenisers part text: stricter on letters)."""
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
        super().__post_init__()

    def length_rules(self) -> Stage:
        """Words: `min_words`, `max_words`."""
        return self.only(
            "min_words", "max_words", min_word_length=0.0, max_word_length=math.inf, max_symbols=math.inf,
            max_bullet_lines=1.0, max_ellipsis_lines=1.0, min_alphabetic=0.0, min_stop_words=0,
        )  # fmt: skip

    def files(self) -> dict[str, str]:
        return {"stop_words": self.stop_words}

    def bind(self, files: Mapping[str, bytes]) -> Processor:
        super().bind(files)
        lists = read_stop_words(files["stop_words"])
        if self.fallback_language and self.fallback_language not in lists.languages:
            raise ValueError(
                f"fallback_language: the file of stop words has no list for '{self.fallback_language}', only for "
                + ", ".join(lists.languages)
            )
        return partial(self._judge, lists)

    def _judge(self, lists: StopWords, batch: pa.RecordBatch) -> Outcome:
        batch, _ = self.counted(batch)
        cuts = cuts_of(batch, self.segmenter)
        listed = lists.rows(batch.column("language"), self.fallback_language)
        number = np.where(listed >= 0, lists.count(texts(batch.column("text")), listed, cuts), np.nan)
        return self.process(batch, [self.at_least("min_stop_words", "stop_words", number, batch)])

    def rules(self, counts: Ints, batch: pa.RecordBatch) -> Sequence[Rule]:
        if self.words == "blanks":
            words, all_words, letters = counts[WORDS], counts[WORDS], counts[LETTER_WORDS]
            spaced, length = counts[SPACED_WORDS], counts[SPACED_LENGTH]
        else:
            words, all_words, letters = counts[TERMS], counts[TERMS] + counts[MARKS], counts[LETTER_TERMS]
            spaced, length = counts[TERMS], counts[TERM_LENGTH]
        # A rule is not held against what is no number.
        mean = np.where((2 * counts[SPACED_WORDS] >= counts[WORDS]) & (spaced > 0), ratio(length, spaced), np.nan)
        if self.segmenter:
            asked = {"min_word_length", "max_word_length"}
            rows = self.segmented(batch, [language for language, own in self.by_language.items() if own.keys() & asked])
            mean = np.where(rows & (counts[TERMS] > 0), ratio(counts[TERM_LENGTH], counts[TERMS]), mean)
        alphabetic = np.where(all_words > 0, ratio(letters, all_words), np.nan)
        symbols = ratio(np.maximum(counts[HASHES], counts[ELLIPSES]), all_words)
        return [
            self.at_least("min_words", "few_words", words, batch),
            self.at_most("max_words", "many_words", words, batch),
            self.at_least("min_word_length", "word_length", mean, batch),
            self.at_most("max_word_length", "word_length", mean, batch),
            self.at_most("max_symbols", "symbols", symbols, batch),
            self.at_most("max_bullet_lines", "bullets", ratio(counts[BULLET_LINES], counts[LINES]), batch),
            self.at_most("max_ellipsis_lines", "ellipses", ratio(counts[ELLIPSIS_LINES], counts[LINES]), batch),
            self.at_least("min_alphabetic", "alphabetic", alphabetic, batch),
        ]
