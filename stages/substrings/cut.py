"""From stretches that are cut to the bytes that go."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from stages.kernels import inline, njit
from stages.substrings.located import Words
from stages.text.characters import BLANK, classes
from stages.text.column import Ints, texts
from stages.text.utf8 import before, code_at, width


class Cuts(NamedTuple):
    """Byte spans of texts that go, ascending and apart."""

    rows: Ints
    """Number of the text."""
    starts: Ints
    ends: Ints
    words: Ints
    """Words in the span."""
    characters: Ints


def spans(column: pa.Array, words: Words, rows: Ints, lows: Ints, highs: Ints, tokens: int) -> Cuts:
    """The spans of the stretches of `tokens` words from word `lows[i]` to word `highs[i]` of text `rows[i]`.

    Overlapping and adjacent stretches are one span, from the first word's start to the last word's end, with what
    stands between its words. Beyond that go only: what else stands on its lines, where no word of these lines is left;
    and of the blanks on its two sides, where there are some on both, those with fewer line breaks, but no indentation
    of what follows. A word whose character stands for a word outside of the span too (as of ½) stays.
    """
    order = np.lexsort((lows, rows))
    view = texts(column)
    found = np.empty((5, len(rows)), np.int64)
    count = _spans(
        view.data, view.offsets, classes(), words.starts, words.ends, words.begins, words.counts,
        rows[order], lows[order], highs[order] + tokens, *found,
    )  # fmt: skip
    return Cuts(*(part[:count].copy() for part in found))


@inline
def _breaks_line(code: Any) -> bool:
    return bool(code == 10 or code == 13 or code == 0x85 or code == 0x2028 or code == 0x2029)


@inline
def _blanks_before(data: Any, at: int, start: int, classes: Any) -> tuple[int, int, int]:
    """Where the blanks before `at` begin, where the first of their line breaks stands (else the same), how many."""
    breaks = 0
    first = at
    while at > start:
        place = before(data, at, start)
        code = code_at(data, place)
        if classes[code] & BLANK == 0:
            break
        at = place
        if _breaks_line(code):
            breaks += 1
            first = at
    return at, first if breaks else at, breaks


@inline
def _blanks_behind(data: Any, at: int, end: int, classes: Any) -> tuple[int, int, int]:
    """Where the blanks from `at` on end, where what follows the last of their line breaks begins, how many."""
    breaks = 0
    last = at
    while at < end:
        code = code_at(data, at)
        if classes[code] & BLANK == 0:
            break
        at += width(data[at])
        if _breaks_line(code):
            breaks += 1
            last = at
    return at, last if breaks else at, breaks


@inline
def _line_start(data: Any, at: int, start: int) -> int:
    """Where the line begins that reaches `at`; -1 where it began before `start`."""
    while at > start:
        place = before(data, at, start)
        if _breaks_line(code_at(data, place)):
            return at
        at = place
    return -1


@inline
def _line_end(data: Any, at: int, end: int) -> int:
    while at < end:
        if _breaks_line(code_at(data, at)):
            return at
        at += width(data[at])
    return -1


@njit
def _spans(
    data: Any, offsets: Any, classes: Any, starts: Any, ends: Any, begins: Any, counts: Any,
    rows: Any, lows: Any, highs: Any,
    out_rows: Any, out_starts: Any, out_ends: Any, out_words: Any, out_characters: Any,
) -> int:  # fmt: skip
    """Writes the spans and gives their number. Words from `lows` to before `highs`, by row and `lows`."""
    written = 0
    at = 0
    while at < len(rows):
        row, low, high = rows[at], lows[at], highs[at]
        at += 1
        while at < len(rows) and rows[at] == row and lows[at] <= high:
            high = max(high, highs[at])
            at += 1
        first, text = begins[row], offsets[row]
        size = offsets[row + 1] - text
        while low < high and low > 0 and starts[first + low] < ends[first + low - 1]:
            low += 1
        while low < high and high < counts[row] and ends[first + high - 1] > starts[first + high]:
            high -= 1
        if low == high:
            continue
        begin, end = text + starts[first + low], text + ends[first + high - 1]
        left = text + (ends[first + low - 1] if low > 0 else 0)
        right = text + (starts[first + high] if high < counts[row] else size)
        line, line_end = _line_start(data, begin, left), _line_end(data, end, right)
        if line < 0 and low == 0:
            line = text
        if line_end < 0 and high == counts[row]:
            line_end = text + size
        if line >= 0 and line_end >= 0:
            begin, end = line, line_end
        bare, blank, breaks = _blanks_before(data, begin, left, classes)
        bare_end, blank_end, breaks_end = _blanks_behind(data, end, right, classes)
        if bare == text:
            end = blank_end
        elif bare_end == text + size or (bare < begin and bare_end > end and breaks < breaks_end):
            begin = blank
        elif bare < begin:
            end = blank_end
        characters = 0
        for place in range(begin, end):
            characters += data[place] & 0xC0 != 0x80
        out_rows[written], out_starts[written], out_ends[written] = row, begin - text, end - text
        out_words[written], out_characters[written] = high - low, characters
        written += 1
    return written
