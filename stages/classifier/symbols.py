"""What a code point is to the classifier: its folded form and its part in a word, packed into one table."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from stages.text import characters

CODE = (1 << 21) - 1
"""The bits of the folded code point."""
BLANK = 1 << 21
WORD = 1 << 22
"""Letters, numbers, marks, connectors: what words are made of."""
SPACELESS = 1 << 23
"""A letter of a script without spaces: a word of its own."""
IGNORED = 1 << 24
"""Formats and controls (zero-width characters, soft hyphens): as if they were not there."""
BREAK = 1 << 25
"""Ends a line."""


@functools.cache
def symbols() -> npt.NDArray[np.uint32]:
    """The bits above by code point (4.4 MB, once a process).

    Folded one by one (`characters.folds`); code points that fold only together with their neighbours stay as
    they are. Decimal digits are all `0`.
    """
    kinds = characters.classes()
    table = characters.folds_alone().copy()
    table[(kinds & characters.DIGIT) != 0] = ord("0")
    word = characters.LETTER | characters.NUMBER | characters.MARK | characters.CONNECTOR
    spaceless = ((kinds & characters.SPACELESS) != 0) & ((kinds & (characters.LETTER | characters.NUMBER)) != 0)
    ignored = (kinds & (characters.CONTROL | characters.JOINER)) != 0
    blank = (kinds & characters.BLANK) != 0
    table[(kinds & word) != 0] |= np.uint32(WORD)
    table[spaceless] |= np.uint32(SPACELESS)
    table[ignored & ~blank] |= np.uint32(IGNORED)
    table[blank] |= np.uint32(BLANK)
    for code in (0x0A, 0x0B, 0x0C, 0x0D, 0x85, 0x2028, 0x2029):
        table[code] |= np.uint32(BREAK | BLANK)
    table.setflags(write=False)
    return table
