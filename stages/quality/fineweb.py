"""FineWeb's rules on lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import pyarrow as pa
from annotated_types import Ge

from stages.base import Rule
from stages.quality.fields import (
    BREAKS,
    CHARACTERS,
    LINES,
    MARKS,
    REPEATED_LINE_LENGTH,
    TERMINAL_LINES,
    TERMS,
)
from stages.quality.lines import lines_longer_than
from stages.quality.rules import Share, WordsStage, ratio
from stages.text.column import Ints, texts


@dataclass(frozen=True, kw_only=True)
class FineWebQuality(WordsStage):
    """Drops documents by the lines that they are made of (Penedo et al. 2024, FineWeb, section 3.6).

    A line ends a sentence by a terminal mark of any script, before closing quotes and brackets. Lines are compared and
    measured without the blanks around them.
    """

    name: ClassVar[str] = "fineweb_quality"
    version: ClassVar[int] = 2
    packages: ClassVar[tuple[str, ...]] = ("regex",)

    min_terminal_lines: Share = 0.12
    """Least share of lines that end with a terminal mark (`terminal_lines`)."""
    max_short_lines: Share = 0.67
    """Greatest share of lines of at most `short_line` characters (`short_lines`)."""
    short_line: Annotated[int, Ge(0)] = 30
    """Most characters of a short line. Scripts without spaces say more with as many."""
    max_repeated_characters: Share = 0.01
    """Greatest share of characters, line breaks apart, in lines that stood before (`repeated_characters`)."""
    max_breaks: Annotated[float, Ge(0)] = 0.3
    """Most line breaks per word, where marks count as words (`breaks`)."""

    def rules(self, counts: Ints, batch: pa.RecordBatch) -> Sequence[Rule]:
        lines = counts[LINES]
        short = lines - lines_longer_than(texts(batch.column("text")), self.limit("short_line", batch))
        repeated = ratio(counts[REPEATED_LINE_LENGTH], counts[CHARACTERS] - counts[BREAKS])
        return [
            Rule("empty", lines == 0),
            self.at_least("min_terminal_lines", "terminal_lines", ratio(counts[TERMINAL_LINES], lines), batch),
            self.at_most("max_short_lines", "short_lines", ratio(short, lines), batch),
            self.at_most("max_repeated_characters", "repeated_characters", repeated, batch),
            self.at_most("max_breaks", "breaks", ratio(counts[BREAKS], counts[TERMS] + counts[MARKS]), batch),
        ]
