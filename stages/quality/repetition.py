"""Gopher's rules on repetition inside a document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from stages.base import Rule
from stages.quality.fields import (
    CHARACTERS,
    LINES,
    PARAGRAPHS,
    REPEATED_5,
    REPEATED_LINE_LENGTH,
    REPEATED_LINES,
    REPEATED_PARAGRAPH_LENGTH,
    REPEATED_PARAGRAPHS,
    TOP_2,
)
from stages.quality.rules import Share, WordsStage, ratio
from stages.text.column import Ints


@dataclass(frozen=True, kw_only=True)
class GopherRepetition(WordsStage):
    """Drops documents that repeat themselves (Rae et al. 2021, appendix A.1.1, table A1).

    A line, a paragraph or an n-gram is repeated where it stood before; the first time does not count. n-grams are
    of terms: runs of letters and digits, and single characters in scripts without spaces, or the words that a
    `segmenter` cuts there. Shares are of the document's
    characters. The most frequent n-gram counts with all its occurrences, if it has two; of the n-grams of 5
    to 10 terms all that stood before, no term twice.
    """

    name: ClassVar[str] = "gopher_repetition"
    version: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ("regex",)

    max_repeated_lines: Share = 0.3
    """Greatest share of lines that are repeated (`lines`)."""
    max_repeated_paragraphs: Share = 0.3
    """Greatest share of paragraphs that are repeated (`paragraphs`)."""
    max_repeated_line_characters: Share = 0.2
    """Greatest share of characters in repeated lines (`line_characters`)."""
    max_repeated_paragraph_characters: Share = 0.2
    """Greatest share of characters in repeated paragraphs (`paragraph_characters`)."""
    max_top_2: Share = 0.2
    """Greatest share of characters in the most frequent 2-gram (`top_2`)."""
    max_top_3: Share = 0.18
    """The same for 3-grams (`top_3`)."""
    max_top_4: Share = 0.16
    """The same for 4-grams (`top_4`)."""
    max_repeated_5: Share = 0.15
    """Greatest share of characters in repeated 5-grams (`repeated_5`)."""
    max_repeated_6: Share = 0.14
    """The same for 6-grams (`repeated_6`)."""
    max_repeated_7: Share = 0.13
    """The same for 7-grams (`repeated_7`)."""
    max_repeated_8: Share = 0.12
    """The same for 8-grams (`repeated_8`)."""
    max_repeated_9: Share = 0.11
    """The same for 9-grams (`repeated_9`)."""
    max_repeated_10: Share = 0.1
    """The same for 10-grams (`repeated_10`)."""

    def rules(self, counts: Ints, batch: pa.RecordBatch) -> Sequence[Rule]:
        found = {
            "paragraphs": ratio(counts[REPEATED_PARAGRAPHS], counts[PARAGRAPHS]),
            "paragraph_characters": ratio(counts[REPEATED_PARAGRAPH_LENGTH], counts[CHARACTERS]),
            "lines": ratio(counts[REPEATED_LINES], counts[LINES]),
            "line_characters": ratio(counts[REPEATED_LINE_LENGTH], counts[CHARACTERS]),
        }
        top = {f"top_{size}": counts[TOP_2 + size - 2] for size in (2, 3, 4)}
        again = {f"repeated_{size}": counts[REPEATED_5 + size - 5] for size in range(5, 11)}
        return [
            *(self.at_most(f"max_repeated_{reason}", reason, value, batch) for reason, value in found.items()),
            *(
                self.at_most(f"max_{reason}", reason, ratio(value, counts[CHARACTERS]), batch)
                for reason, value in (top | again).items()
            ),
        ]
