"""C4's rules on lines and pages, and mC4's on paragraphs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from annotated_types import Ge

from stages.base import Outcome, Processor, Rule, Stage, judged, with_column
from stages.kernels import inline, njit
from stages.quality.fields import SENTENCES
from stages.quality.lines import lines_longer_than
from stages.quality.phrases import Phrases, found_at, phrases
from stages.quality.rules import Limit, QualityStage, WordsStage, counts_of_cut, no_text, refuse_empty_phrases
from stages.quality.statistics import cuts_of
from stages.segmenters import Cuts, goes_on
from stages.text import characters
from stages.text.characters import BLANK, FINAL, LETTER, NUMBER, SPACELESS, TERMINAL
from stages.text.column import Edits, Ints, Texts, edited, texts
from stages.text.utf8 import Bytes, code_at, width

_THRESHOLDS = {"c4": (5, 3), "datatrove": (3, 5)}
_KEPT, _LONG_WORD, _NO_END, _FEW_WORDS, _PHRASE = range(5)
_CUT = ("", "long_word", "no_end_mark", "few_words", "phrase")
_PAGE, _BRACKET = 1, 2
_ANGLES = (0xAB, 0xBB, 0x2039, 0x203A)
"""`«»‹›`: quotes, and arrows as often (`Read more »`)."""


@dataclass(frozen=True, kw_only=True)
class C4(WordsStage):
    """Cuts lines that are no sentences and drops pages with too few (Raffel et al. 2020, section 2.2, and its code).

    A line stays if it ends with a terminal mark of any script or a closing quote (of `»` and `«`, arrows as often,
    what stands before them counts), has enough words, none longer than `max_word_length`, and none of the
    `line_phrases`. A page goes if such a line has one of the `page_phrases` or a curly bracket, or if too few sentences
    are left. Marks of citation are cut. The lines that stay follow each other without empty ones. Characters of scripts
    without spaces are words, unless a `segmenter` cuts words there. Phrases are compared without regard to case and
    width. Counts `lines_cut_*` by reason and `characters_cut`.
    """

    name: ClassVar[str] = "c4"
    version: ClassVar[int] = 2
    packages: ClassVar[tuple[str, ...]] = ("regex",)

    thresholds: Literal["c4", "datatrove"] = "c4"
    """Words a line and sentences a page must have at least: `c4` 5 and 3 (as its code), `datatrove` 3 and 5 (as the
    paper's first edition has it)."""
    min_line_words: Annotated[int, Ge(0)] | None = None
    """Fewest words of a line, in place of that of `thresholds`."""
    min_sentences: Annotated[int, Ge(0)] | None = None
    """Fewest sentences of a page (`few_sentences`), in place of that of `thresholds`."""
    max_word_length: Annotated[int, Ge(1)] = 1_000
    """Most characters of a word; a line with a longer one is cut."""
    end_marks: bool = True
    """Cut lines that do not end with a mark. Thai and Lao are written without: switch it off for them."""
    citations: bool = True
    """Cut `[1]`, `[]`, `[edit]` and `[citation needed]`."""
    curly_brackets: bool = True
    """Drop pages with a `{` in a line that would stay (`curly_bracket`): they hold code."""
    line_phrases: tuple[str, ...] = (
        "javascript", "terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies",
        "use cookies",
    )  # fmt: skip
    """A line with one of these is cut."""
    page_phrases: tuple[str, ...] = ("lorem ipsum",)
    """A page with one of these is dropped (`page_phrase`)."""

    def __post_init__(self) -> None:
        refuse_empty_phrases(self, "line_phrases", "page_phrases")
        super().__post_init__()

    @classmethod
    def limits_of_rules(cls) -> list[str]:
        return ["min_line_words", "min_sentences"]

    def limit(self, name: str, batch: pa.RecordBatch) -> Limit:
        if getattr(self, name) is not None:
            return super().limit(name, batch)
        place = ("min_line_words", "min_sentences").index(name)
        return replace(self, **{name: _THRESHOLDS[self.thresholds][place]}).limit(name, batch)  # type: ignore[arg-type]

    def length_rules(self) -> Stage:
        """Sentences: `min_sentences`. No line is cut for what it is."""
        return self.only(
            "min_sentences", min_line_words=0, max_word_length=sys.maxsize, end_marks=False, citations=False,
            curly_brackets=False, line_phrases=(), page_phrases=(),
        )  # fmt: skip

    def bind(self, files: Mapping[str, bytes]) -> Processor:
        super().bind(files)
        return partial(self._process, phrases((*self.line_phrases, *self.page_phrases)))

    def _process(self, listed: Phrases, batch: pa.RecordBatch) -> Outcome:
        before = batch.column("text")
        cuts = cuts_of(batch, self.segmenter)
        spans, pages, cut = self._lines(texts(before), self.limit("min_line_words", batch), listed, cuts)
        after = edited(before, spans, [b"", b"\n"])
        batch, counts = self.counted(with_column(batch, "text", after))
        rules = [
            no_text(batch),
            Rule("page_phrase", pages == _PAGE),
            Rule("curly_bracket", pages == _BRACKET),
            self.at_least("min_sentences", "few_sentences", counts[SENTENCES], batch),
        ]
        return judged(batch, rules, counts_of_cut(rules, _CUT, cut, before, after))

    def _lines(self, view: Texts, least: Limit, listed: Phrases, cuts: Cuts) -> tuple[Edits, Ints, Ints]:
        """What to cut from each text, why its page goes (0 where it stays), and how many lines are cut by reason."""
        rows = len(view.valid)
        used = view.data[view.offsets[0] : view.offsets[-1]]
        pages, cut = np.zeros(rows, np.int64), np.zeros((rows, len(_CUT)), np.int64)
        spans = np.empty((4, int(np.isin(used, (10, 91)).sum()) + 2 * rows), np.int64)
        number = _scan(
            view.data, view.offsets, characters.classes(), characters.folds_alone(),
            np.broadcast_to(np.asarray(least, np.float64), rows), self.max_word_length,
            (self.end_marks, self.citations, self.curly_brackets), len(self.line_phrases),
            *listed, *cuts, pages, cut, spans,
        )  # fmt: skip
        return Edits(*spans[:, :number]), pages, cut


@dataclass(frozen=True, kw_only=True)
class C4Paragraphs(QualityStage):
    """Drops pages with fewer than three long lines (mC4: Xue et al. 2021, section 3.1)."""

    name: ClassVar[str] = "c4_paragraphs"
    version: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ("regex",)

    min_paragraphs: Annotated[int, Ge(0)] = 3
    """Fewest long lines (`few_paragraphs`)."""
    long_line: Annotated[int, Ge(1)] = 200
    """Fewest characters of a long line. Scripts without spaces say as much in half as many."""

    def length_rules(self) -> Stage:
        """Long lines are all that it asks for."""
        return self

    def rules(self, counts: Ints, batch: pa.RecordBatch) -> Sequence[Rule]:
        found = lines_longer_than(texts(batch.column("text")), self.limit("long_line", batch) - 1)
        return [self.at_least("min_paragraphs", "few_paragraphs", found, batch)]


_EDIT, _NEEDED = (np.frombuffer(text, np.uint8) for text in (b"[edit]", b"[citation needed]"))


@inline
def _same(data: Bytes, at: int, end: int, text: Bytes) -> bool:
    if at + len(text) > end:
        return False
    for index in range(len(text)):  # noqa: SIM110  (numba knows no generators)
        if data[at + index] != text[index]:
            return False
    return True


@inline
def _citation(data: Bytes, at: int, end: int) -> int:
    """The length of a mark of citation that begins here, 0 where none does."""
    place = at + 1
    while place < end and 48 <= data[place] <= 57:
        place += 1
    if place < end and data[place] == 93:
        return place + 1 - at
    if _same(data, at, end, _EDIT):
        return len(_EDIT)
    return len(_NEEDED) if _same(data, at, end, _NEEDED) else 0


@njit
def _scan(
    data: Bytes, offsets: Ints, classes: Any, folds: Any, least: Any, longest: int, flags: Any, of_lines: int,
    codes: Any, starts: Ints, firsts: Any, cuts: Ints, cut_starts: Ints, pages: Ints, cut: Any, spans: Any,
) -> int:  # fmt: skip
    end_marks, citations, brackets = flags
    count = 0
    for row in range(len(pages)):
        before = count
        begin, end = offsets[row], offsets[row + 1]
        at = begin
        next_cut, last_cut = cut_starts[row], cut_starts[row + 1]
        behind = begin  # the end of the line that was kept last
        kept_any = False
        while at < end:
            line = at
            stop = at
            while stop < end and data[stop] != 10:
                stop += 1
            at = stop + 1
            first = last = -1  # the line without blanks around it
            word = words = size = too_long = 0
            said = count  # citations are cut only if the line stays
            place = line
            final = dots = 0  # of the last character that is no blank, no angle quote and in no citation
            page = phrase = bracket = False
            while place < stop:
                code = code_at(data, place)
                kind = classes[code]
                step = width(data[place])
                if citations and code == 91:
                    length = _citation(data, place, stop)
                    if length:
                        if first >= 0:
                            spans[0, count], spans[1, count] = row, place - begin
                            spans[2, count], spans[3, count] = place + length - begin, 0
                            count += 1
                        place += length
                        continue
                if kind & BLANK:
                    word = size = 0
                else:
                    if first < 0:
                        first = place
                    last = place + step
                    if kind & SPACELESS and kind & (LETTER | NUMBER):
                        next_cut, onward = goes_on(cuts, next_cut, last_cut, place - begin)
                        words += word != 2 or not onward
                        word, size = 2, 0
                    elif word == 0 or (word == 2 and kind & (LETTER | NUMBER)):
                        words += 1
                        word = 1
                    size += 1
                    too_long |= size > longest
                    if code not in _ANGLES:
                        final = kind & (TERMINAL | FINAL)
                        dots = dots + 1 if code == 46 else 0
                    bracket |= code == 123
                    found = found_at(data, place, stop, folds, codes, starts, firsts, 0, len(starts) - 1)
                    if found >= 0:
                        if found < of_lines:
                            phrase = True
                        else:
                            page = True
                place += step
            if first < 0:
                continue
            while count > said and spans[1, count - 1] >= last - begin:
                count -= 1  # what stands behind the line goes as one piece
            why = _KEPT
            if too_long:
                why = _LONG_WORD
            elif end_marks and (final == 0 or dots >= 3):
                why = _NO_END
            elif words < least[row]:
                why = _FEW_WORDS
            elif page:
                pages[row] = _PAGE
                break
            elif phrase:
                why = _PHRASE
            if why == _KEPT and brackets and bracket:
                pages[row] = _BRACKET
                break
            if why != _KEPT:
                cut[row, why] += 1
                count = said
                continue
            # what lies between this line and the one before becomes one line break, and goes before its citations
            if first > behind and not (kept_any and first == behind + 1):
                for index in range(count, said, -1):
                    for part in range(4):
                        spans[part, index] = spans[part, index - 1]
                spans[0, said], spans[1, said] = row, behind - begin
                spans[2, said], spans[3, said] = first - begin, kept_any
                count += 1
            behind = last
            kept_any = True
        if pages[row]:
            count = before
        elif behind < end:
            spans[0, count], spans[1, count], spans[2, count], spans[3, count] = row, behind - begin, end - begin, 0
            count += 1
    return count
