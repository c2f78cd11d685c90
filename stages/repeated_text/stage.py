"""The stage that cuts lines and paragraphs that a text holds twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from annotated_types import Ge, Le

from stages.base import Outcome, Rule, Stage, judged, with_column
from stages.repeated_text.kernels import scan
from stages.text import characters
from stages.text.column import Edits, Ints, Texts, edited, texts

Scope = Literal["none", "runs", "all"]
_SCOPES = ("none", "runs", "all")


@dataclass(frozen=True, kw_only=True)
class RepeatedText(Stage):
    """Cuts paragraphs and lines that stood in the same text before; the first of them stays.

    The papers measure such repetition and drop the documents (Rae et al. 2021, Gopher, appendix A.1.1: see
    `gopher_repetition`), or cut paragraphs that recur in the corpus (Wenzek et al. 2020, CCNet, section 3.1, as
    RedPajama has it). Within a document a second copy is mostly a page's own doing: a summary, a layout for small
    screens. A paragraph is what stands between empty lines. It goes with the empty lines behind it, a line with its
    line break. The defaults leave what may repeat itself for a reason: lines that come back later (a refrain, a reply
    in a play), short ones (a bullet, a closing bracket), code, rows of tables. Counts `paragraphs_cut`, `lines_cut`
    (apart from those of paragraphs) and `characters_cut`.
    """

    name: ClassVar[str] = "repeated_text"
    version: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ("regex",)

    paragraphs: Scope = "all"
    """Which paragraphs are cut: `all` that stood before, `runs` those that follow their equal, or `none`."""
    lines: Scope = "runs"
    """The same for lines, of the paragraphs that stay; empty lines between them do not matter."""
    min_paragraph: Annotated[int, Ge(1)] = 100
    """Fewest characters of a paragraph that is cut, blanks around it apart; letters of scripts without spaces count
    two."""
    min_line: Annotated[int, Ge(1)] = 20
    """The same for lines."""
    compare: Literal["exact", "folded"] = "exact"
    """What makes two the same: all between the blanks around them (`exact`), or all but case, width, blanks and numbers
    (`folded`, nearly CCNet's way); then what is left out has no length either."""
    keep_code: bool = True
    """Leave code: what stands between fences of backticks or tildes, and lines that begin with four spaces or a tab."""
    keep_tables: bool = True
    """Leave lines with a `|`: rows of tables, in Markdown and as `extract` writes them."""
    max_cut: Annotated[float, Ge(0), Le(1)] = 1.0
    """Greatest share of a document's characters that is cut; one with more of them is dropped (`cut`)."""

    def process(self, batch: pa.RecordBatch) -> Outcome:
        before = batch.column("text")
        spans, cut = self._spans(texts(before))
        after = edited(before, spans)
        missing = before.is_null().to_numpy(zero_copy_only=False)
        lost, share = np.zeros(len(missing), np.int64), np.zeros(len(missing))
        if after is not before:
            whole, rest = (pc.utf8_length(column.fill_null("")).to_numpy() for column in (before, after))
            lost = whole - rest
            share = lost / np.maximum(whole, 1)
        rules = [Rule("no_text", missing), Rule("cut", share > self.max_cut, share, self.max_cut, "max_cut")]
        kept = ~(rules[0].hit | rules[1].hit)
        paragraphs, lines = cut[kept].sum(axis=0).tolist()
        counts = {"paragraphs_cut": paragraphs, "lines_cut": lines, "characters_cut": int(lost[kept].sum())}
        counts = {name: count for name, count in counts.items() if count}
        return judged(with_column(batch, "text", after), rules, counts)

    def _spans(self, view: Texts) -> tuple[Edits, Ints]:
        """What to cut; for each text how many paragraphs and lines that is."""
        settings = (
            _SCOPES.index(self.paragraphs), _SCOPES.index(self.lines), self.min_paragraph, self.min_line,
            self.compare == "folded", self.keep_code, self.keep_tables,
        )  # fmt: skip
        cut = np.zeros((len(view.valid), 2), np.int64)
        spans = np.empty((4, 1 << 10), np.int64)
        tables = (characters.classes(), characters.folds_alone())
        number = scan(view.data, view.offsets, *tables, settings, cut, spans)
        if number > spans.shape[1]:
            spans = np.empty((4, number), np.int64)
            scan(view.data, view.offsets, *tables, settings, cut, spans)
        return Edits(*spans[:, :number]), cut
