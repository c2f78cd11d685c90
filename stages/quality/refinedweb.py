"""RefinedWeb's rules on lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
from annotated_types import Ge

from stages.base import Outcome, Processor, judged, with_column
from stages.kernels import inline, njit
from stages.quality.fields import WORDS
from stages.quality.phrases import Phrases, found_at, phrase_end, phrases
from stages.quality.rules import Limit, Share, WordsStage, counts_of_cut, no_text, ratio, refuse_empty_phrases
from stages.quality.statistics import cuts_of
from stages.segmenters import Cuts, goes_on
from stages.text import characters
from stages.text.characters import BLANK, LETTER, NUMBER, SPACELESS, UPPER
from stages.text.column import Edits, Ints, Texts, edited, texts
from stages.text.utf8 import Bytes, code_at, width

_CUT = ("", "capitals", "numbers", "counter", "one_word", "phrase")
_KEPT, _CAPITALS, _NUMBERS, _COUNTER, _ONE_WORD, _PHRASE = range(6)


@dataclass(frozen=True, kw_only=True)
class RefinedWebLines(WordsStage):
    """Cuts lines that are no text, and drops documents that have many (Penedo et al. 2023, RefinedWeb, appendix G.2).

    A line goes if it is mostly capitals, nothing but numbers, a counter (`3 likes`) or a single word; in a line of at
    most `short_line` words a phrase goes at its beginning, at its end or anywhere. The document goes if the words that
    were cut are too many. The paper names one phrase of each kind; the lists here are ours, English and Chinese: set
    your own for other languages. Counts `lines_cut_*` by reason and `characters_cut`.
    """

    name: ClassVar[str] = "refinedweb_lines"
    version: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ("regex",)

    max_capitals: Share = 0.5
    """Greatest share of capitals among the letters of a line."""
    numbers: bool = True
    """Cut lines that hold numbers and no letters."""
    one_word: bool = True
    """Cut lines of a single word, or a single character of a script without spaces (with a `segmenter`: word)."""
    counters: tuple[str, ...] = (
        "likes", "like", "comments", "comment", "shares", "share", "views", "view", "replies", "reply", "retweets",
        "followers", "following", "votes", "vote", "points", "reviews", "ratings", "tweets", "posts", "photos",
        "downloads", "个赞", "赞", "条评论", "评论", "次浏览", "浏览", "次阅读", "阅读", "转发", "收藏", "回复",
    )  # fmt: skip
    """What a number at the start of a line may count, if nothing follows."""
    short_line: Annotated[int, Ge(0)] = 10
    """Most words of a line in which phrases are cut; characters are words in scripts without spaces, unless a
    `segmenter` cuts words there."""
    first_phrases: tuple[str, ...] = ("sign in", "sign-in", "log in", "sign up", "登录", "注册")
    """Cut at the beginning of a line."""
    last_phrases: tuple[str, ...] = (
        "read more", "continue reading", "learn more", "show more", "阅读更多", "查看更多", "阅读全文", "查看全文",
    )  # fmt: skip
    """Cut at the end of a line, marks behind them apart."""
    phrases: tuple[str, ...] = ("items in cart", "item in cart", "add to cart", "加入购物车")
    """Cut anywhere."""
    max_flagged_words: Share = 0.05
    """Greatest share of the document's words that may be cut (`flagged_words`)."""

    def __post_init__(self) -> None:
        refuse_empty_phrases(self, "counters", "first_phrases", "last_phrases", "phrases")
        super().__post_init__()

    @classmethod
    def limits_of_rules(cls) -> list[str]:
        return ["short_line", "max_flagged_words"]

    def bind(self, files: Mapping[str, bytes]) -> Processor:
        super().bind(files)
        listed = phrases((*self.counters, *self.first_phrases, *self.last_phrases, *self.phrases))
        return partial(self._process, listed)

    def _process(self, listed: Phrases, batch: pa.RecordBatch) -> Outcome:
        batch, counts = self.counted(batch)
        cuts = cuts_of(batch, self.segmenter)
        before = batch.column("text")
        spans, flagged, cut = self._spans(texts(before), self.limit("short_line", batch), listed, cuts)
        after = edited(before, spans)
        share = ratio(flagged, counts[WORDS])
        rules = [no_text(batch), self.at_most("max_flagged_words", "flagged_words", share, batch)]
        batch = with_column(batch, "text", after)
        return judged(batch, rules, counts_of_cut(rules, _CUT, cut, before, after))

    def _spans(self, view: Texts, short: Limit, listed: Phrases, cuts: Cuts) -> tuple[Edits, Ints, Ints]:
        """What to cut from each text, how many of its words that is, and how many lines by reason."""
        rows = len(view.valid)
        most = np.broadcast_to(np.asarray(short, np.int64), rows)
        used = view.data[view.offsets[0] : view.offsets[-1]]
        flagged, cut = np.zeros(rows, np.int64), np.zeros((rows, len(_CUT)), np.int64)
        # A line has no more phrases than words.
        spans = np.empty((4, (int((used == 10).sum()) + rows) * (int(most.max(initial=0)) + 3)), np.int64)
        kinds = (len(self.counters), len(self.first_phrases), len(self.last_phrases))
        number = _scan(
            view.data, view.offsets, characters.classes(), characters.folds_alone(),
            (self.max_capitals, self.numbers, self.one_word), most, np.cumsum(np.array((0, *kinds))),
            *listed, *cuts, flagged, cut, spans,
        )  # fmt: skip
        return Edits(*spans[:, :number]), flagged, cut


@inline
def _tail(data: Bytes, at: int, stop: int, classes: Any) -> bool:
    """Whether nothing but blanks and marks follows."""
    while at < stop:
        if classes[code_at(data, at)] & (LETTER | NUMBER):
            return False
        at += width(data[at])
    return True


@inline
def _words(data: Bytes, at: int, stop: int, classes: Any, cuts: Ints, cut: int, last_cut: int, begin: int) -> int:
    """Words between blanks and characters, or cut words, of scripts without spaces."""
    words = word = 0
    while at < stop:
        kind = classes[code_at(data, at)]
        if kind & BLANK:
            word = 0
        elif kind & SPACELESS and kind & (LETTER | NUMBER):
            cut, onward = goes_on(cuts, cut, last_cut, at - begin)
            words += word != 2 or not onward
            word = 2
        elif word == 0 or (word == 2 and kind & (LETTER | NUMBER)):
            words += 1
            word = 1
        at += width(data[at])
    return words


@inline
def _ends_word(data: Bytes, at: int, stop: int, classes: Any) -> bool:
    """Whether a phrase that ends here ends a word."""
    if at >= stop:
        return True
    kind = classes[code_at(data, at)]
    return not kind & (LETTER | NUMBER) or kind & SPACELESS != 0


@njit
def _scan(
    data: Bytes, offsets: Ints, classes: Any, folds: Any, settings: Any, short: Ints, kinds: Ints, codes: Any,
    starts: Ints, firsts: Any, cuts: Ints, cut_starts: Ints, flagged: Ints, cut: Any, spans: Any,
) -> int:  # fmt: skip
    max_capitals, cut_numbers, cut_single = settings
    count = 0
    for row in range(len(flagged)):
        begin, end = offsets[row], offsets[row + 1]
        next_cut, last_cut = cut_starts[row], cut_starts[row + 1]
        at = begin
        while at < end:
            line = stop = place = at
            letters = capitals = numbers = 0
            counter = -1  # behind the number that the line begins with
            while stop < end and data[stop] != 10:
                stop += 1
            at = stop + 1
            while place < stop:
                kind = classes[code_at(data, place)]
                letters += (kind & LETTER) != 0
                capitals += (kind & UPPER) != 0
                numbers += (kind & NUMBER) != 0
                if kind & LETTER and letters == 1 and numbers:
                    counter = place
                place += width(data[place])
            if letters + numbers == 0:
                continue
            while next_cut < last_cut and cuts[next_cut] < line - begin:
                next_cut += 1
            words = _words(data, line, stop, classes, cuts, next_cut, last_cut, begin)
            why = _KEPT
            if capitals > max_capitals * letters:
                why = _CAPITALS
            elif cut_numbers and letters == 0:
                why = _NUMBERS
            elif cut_single and words <= 1:
                why = _ONE_WORD
            elif counter >= 0:
                found = found_at(data, counter, stop, folds, codes, starts, firsts, kinds[0], kinds[1])
                if found >= 0 and _tail(data, phrase_end(data, counter, starts, found), stop, classes):
                    why = _COUNTER
            if why != _KEPT:
                # with its line break, or the one before it where it is the last
                first = line - 1 if stop == end and line > begin else line
                if count and spans[0, count - 1] == row and spans[2, count - 1] > first - begin:
                    first = line
                spans[0, count], spans[1, count] = row, first - begin
                spans[2, count], spans[3, count] = min(at, end) - begin, 0
                count += 1
                flagged[row] += words
                cut[row, why] += 1
                continue
            if words > short[row]:
                continue
            place = line
            fresh = True  # a word may begin here
            begun = False
            some = False
            while place < stop:
                kind = classes[code_at(data, place)]
                if kind & (LETTER | NUMBER) and (fresh or kind & SPACELESS):
                    found = -1
                    if not begun:
                        found = found_at(data, place, stop, folds, codes, starts, firsts, kinds[1], kinds[2])
                    if found < 0:
                        found = found_at(data, place, stop, folds, codes, starts, firsts, kinds[2], kinds[3])
                        if found >= 0 and not _tail(data, phrase_end(data, place, starts, found), stop, classes):
                            found = -1
                    if found < 0:
                        found = found_at(data, place, stop, folds, codes, starts, firsts, kinds[3], len(starts) - 1)
                    begun = True
                    if found >= 0:
                        last = phrase_end(data, place, starts, found)
                        if _ends_word(data, last, stop, classes):
                            if kinds[2] <= found < kinds[3]:
                                last = stop
                            flagged[row] += _words(data, place, last, classes, cuts, next_cut, last_cut, begin)
                            first = place
                            while last == stop and first > line and data[first - 1] == 32:
                                first -= 1
                            while place == line and last < stop and data[last] == 32:
                                last += 1
                            spans[0, count], spans[1, count] = row, first - begin
                            spans[2, count], spans[3, count] = last - begin, 0
                            count += 1
                            some = True
                            place = last
                            fresh = True
                            continue
                fresh = not kind & (LETTER | NUMBER)
                place += width(data[place])
            cut[row, _PHRASE] += some
    return count
