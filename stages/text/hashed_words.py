"""The words of a text as hashes, found in its bytes: what `stages.words.words` finds in the folded text."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.kernels import inline
from stages.lookup import SEED_1, SEED_2, step_1, step_2
from stages.text.characters import (
    CODES,
    CONNECTOR,
    JOINER,
    LETTER,
    MARK,
    NOT_ALONE,
    NUMBER,
    SPACELESS,
    classes,
    folds,
)
from stages.text.utf8 import code_at, width
from stages.words import fold

BETWEEN = 0
"""In a table of letters: this code point is no part of a word."""
UNFIT = 0xFFFFFFFF
"""In a table of letters: the text must be folded by `stages.words.fold` first."""

_WORD = LETTER | NUMBER | CONNECTOR | MARK | JOINER


@inline
def word_at(data: Any, at: int, end: int, letters: Any, classes: Any) -> tuple[int, int, bool, Any, Any]:
    """The next word as `stages.words.words` has it: (start, end, whether it is a single character, two hashes).

    `letters` is `fitting()`, or `folded()` for a text that is folded already; joiners are not hashed. Start is `end`
    where there is none more, -1 where the text is unfit.
    """
    single = False
    start = end
    first, second = SEED_1, SEED_2
    while at < end:
        folded = letters[code_at(data, at)]
        if folded == UNFIT:
            return -1, at, single, first, second
        kind = classes[folded]
        wordy = kind & (LETTER | NUMBER) != 0
        if start == end:
            single = wordy and kind & SPACELESS != 0
            if folded != BETWEEN and (single or ((wordy or kind & CONNECTOR != 0) and kind & SPACELESS == 0)):
                start = at
                first, second = step_1(first, folded), step_2(second, folded)
        elif single:
            if kind & MARK == 0:
                break
            first, second = step_1(first, folded), step_2(second, folded)
        elif kind & JOINER == 0:
            if folded == BETWEEN or (kind & SPACELESS != 0 and kind & LETTER != 0):
                break
            if not wordy and kind & (CONNECTOR | MARK) == 0:
                break
            first, second = step_1(first, folded), step_2(second, folded)
        at += width(data[at])
    return start, at, single, first, second


@functools.cache
def fitting() -> npt.NDArray[np.uint32]:
    """Code points as words have them, or `BETWEEN`, or `UNFIT` where their neighbours matter too."""
    table = folds().copy()
    kinds = classes()
    alone = table != NOT_ALONE
    table[alone] = np.where(kinds[table[alone]] & _WORD != 0, table[alone], BETWEEN)
    for code in np.flatnonzero(~alone).tolist():
        if 0xD800 <= code < 0xE000 or any(kinds[ord(letter)] & _WORD for letter in fold(chr(code))):
            table[code] = UNFIT
        else:
            table[code] = BETWEEN  # such as an ellipsis
    table.setflags(write=False)
    return table


@functools.cache
def folded() -> npt.NDArray[np.uint32]:
    """The same for texts that are folded already."""
    table = np.where(classes() & _WORD != 0, np.arange(CODES), BETWEEN).astype(np.uint32)
    table.setflags(write=False)
    return table
