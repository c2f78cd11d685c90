"""The gate: which lines ftfy or the Unicode form may change, and which documents have something to tidy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stages.kernels import njit
from stages.normalize.form import disturbs
from stages.normalize.kinds import (
    BLANK,
    BREAK,
    END,
    HYPHEN,
    JOINER,
    NON_JOINER,
    ORDER,
    REMOVED,
    RETURN,
    TAG,
    ZERO_SPACE,
    Kinds,
    combining,
    pairs,
)
from stages.normalize.suspicious import CHANGES, ENTITY, STATE
from stages.text.column import Ints, Texts
from stages.text.utf8 import Bytes, before, code_at, width

FTFY = 1
"""In `Lines.why`: ftfy may change the line."""
FORM = 2
"""The line may not be in the Unicode form."""
TAGGED = 4
"""A line before it has a `<`, so entities stay."""

_SEGMENT = 1_000_000  # characters that ftfy looks at together at most (`max_decode_length`)
_TOUCH = RETURN | BREAK | REMOVED | NON_JOINER | JOINER | ZERO_SPACE


class Lines(NamedTuple):
    """Lines for Python to look at, in their order."""

    rows: Ints
    starts: Ints
    """Bytes from the start of the row's own text."""
    ends: Ints
    """Behind the line end, if there is one."""
    why: Ints


def scan(view: Texts, kinds: Kinds, most: int, collapse: bool, join: bool) -> tuple[Lines, npt.NDArray[np.bool_]]:
    """The lines that ftfy or the form may change, and the documents that may have something to tidy.

    `most` empty lines may follow each other; `collapse` says that runs of blanks matter, `join` that hyphens at line
    ends do.
    """
    hot = END | TAG | ORDER | _TOUCH | (BLANK if collapse else 0) | (HYPHEN if join else 0)
    room = 256
    touched = np.zeros(len(view.valid), np.bool_)
    while True:
        found = np.empty((4, room), np.int64)
        count = _scan(view.data, view.offsets, *kinds, combining(), pairs(), hot, most, found, touched)
        if count <= room:
            return Lines(*found[:, :count]), touched
        room = count


@njit
def _scan(
    data: Bytes, offsets: Ints, kinds: npt.NDArray[np.uint16], bits: npt.NDArray[np.uint32],
    steps: npt.NDArray[np.uint16], combining: Bytes, pairs: Ints, hot: int, most: int, found: Ints,
    touched: npt.NDArray[np.bool_],
) -> int:  # fmt: skip
    count = 0
    for row in range(len(offsets) - 1):
        start, end = offsets[row], offsets[row + 1]
        at = line = start
        state = np.int64(0)
        characters = why = 0
        tag_before = tag = entity = touch = False
        breaks = most + 1  # none may be first
        marked = blank = hyphen = np.int64(-1)  # where the last character with an order, blank, hyphen ended
        starter = last = np.int64(0)
        while at < end:
            byte = data[at]
            if byte < 0x80:
                kind = kinds[byte]
                following = at + 1
            else:
                kind = kinds[code_at(data, at)]
                following = at + width(byte)
            bit = np.int64(bits[kind])
            if bit & hot:
                touch |= bit & _TOUCH != 0
                if bit & RETURN and following < end and data[following] == 10:
                    at = following  # ftfy is given lines with `\n` alone
                    continue
                if bit & TAG:
                    tag = True
                if bit & BLANK:
                    touch |= blank == at
                    blank = following
                if bit & HYPHEN:
                    hyphen = following
                if bit & ORDER:
                    if marked != at:
                        starter = code_at(data, before(data, at, line)) if at > line else np.int64(0)
                        last = np.int64(0)
                    code = code_at(data, at)
                    order = np.int64(combining[code])
                    if disturbs(code, bit, order, starter, np.int64(bits[kinds[starter]]), last, pairs):
                        why |= FORM
                    if order == 0:
                        starter = code
                    last = order
                    marked = following
            step = np.int64(steps[state, kind])
            state = step & STATE
            if step > STATE:
                if step & CHANGES:
                    why |= FTFY
                if step & ENTITY:
                    entity = True
            at = following
            characters += 1
            if bit & END or at == end or characters == _SEGMENT:
                if entity and not tag:
                    why |= FTFY
                entity = False
                state = np.int64(0)
                characters = 0
                if not (bit & END or at == end):
                    continue
                close = at - 1 if bit & END else at
                if close > line:
                    breaks = 0
                    code = code_at(data, before(data, close, line))
                    touch |= bits[kinds[code]] & BLANK != 0 or hyphen == close
                if bit & END:
                    breaks += 1
                    touch |= breaks > most + 1 or at == end
                if why:
                    if count < found.shape[1]:
                        found[0, count] = row
                        found[1, count] = line - start
                        found[2, count] = at - start
                        found[3, count] = why | (TAGGED if tag_before else 0)
                    count += 1
                why = 0
                line = at
                tag_before = tag
        touched[row] = touch
    return count
