"""How the patterns of GPT-4's family cut text into words: a small automaton over classes of characters."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.kernels import inline
from stages.text.utf8 import Bytes, code_at, width

OTHER, LETTER, DIGIT, BLANK, NEWLINE = range(5)
"""Classes of characters."""
Classes = npt.NDArray[np.uint8]
"""(0x110000,) the class of each code point."""


class Cut(NamedTuple):
    """How a pattern of the family cuts text."""

    marks: bool
    """Whether marks are parts of words."""
    digits: int
    """Most digits of a piece."""
    tail: bool
    """Whether white space at the end of a text is one piece, newlines and all."""


_FORM = re.compile(
    r"(?:'\(\?i:\[sdmt\]\|ll\|ve\|re\)|\(\?i:'s\|'t\|'re\|'ve\|'m\|'ll\|'d\))"
    r"\|\[\^\\r\\n\\p\{L\}(?P<m1>\\p\{M\})?\\p\{N\}\]\?\+?(?:\\p\{L\}|(?P<m2>\[\\p\{L\}\\p\{M\}\]))\+\+?"
    r"\|\\p\{N\}(?P<digits>\{1,3\}\+?)?"
    r"\| \?\[\^\\s\\p\{L\}(?P<m3>\\p\{M\})?\\p\{N\}\]\+\+?\[\\r\\n\]\*\+?"
    r"(?P<tail>\|\\s\+\+\$)?\|\\s\*\[\\r\\n\]\+?\|\\s\+\(\?!\\S\)\|\\s\+?"
)


def cut_of(pattern: str) -> Cut | None:
    """What the automaton has to do for a regular expression, or None for one of another form."""
    found = _FORM.fullmatch(pattern)
    if found is None or len({found[name] is None for name in ("m1", "m2", "m3")}) > 1:
        return None
    return Cut(found["m1"] is not None, 3 if found["digits"] else 1, found["tail"] is not None)


@inline
def _class(data: Bytes, place: int, classes: Classes) -> Any:
    """(the class of the character here, its bytes)."""
    return np.int64(classes[code_at(data, place)]), width(data[place])


@inline
def _run(data: Bytes, place: int, stop: int, classes: Classes, of: int) -> Any:
    """Where characters of a class end."""
    while place < stop:
        kind, size = _class(data, place, classes)
        if kind != of:
            break
        place += size
    return place


@inline
def end_of_word(data: Bytes, place: int, stop: int, classes: Classes, cut: Cut) -> Any:
    """Where the word that begins here ends; the alternatives of the pattern in their order."""
    kind, size = _class(data, place, classes)
    if data[place] == 0x27 and place + 1 < stop:  # '
        one = data[place + 1] | 0x20
        if one == 0x73 or one == 0x64 or one == 0x6D or one == 0x74:  # s d m t
            return place + 2
        if place + 2 < stop:
            if data[place + 1] == 0xC5 and data[place + 2] == 0xBF:  # U+017F, an s without regard to case
                return place + 3
            two = data[place + 2] | 0x20
            if (one == 0x6C and two == 0x6C) or ((one == 0x76 or one == 0x72) and two == 0x65):  # ll ve re
                return place + 3
    if kind == LETTER:
        return _run(data, place + size, stop, classes, LETTER)
    behind, wide = OTHER, 0
    if place + size < stop:
        behind, wide = _class(data, place + size, classes)
        if behind == LETTER and kind in (OTHER, BLANK):
            return _run(data, place + size + wide, stop, classes, LETTER)
    if kind == DIGIT:
        end, left = place + size, cut.digits - 1
        while left > 0 and end < stop:
            other, wide = _class(data, end, classes)
            if other != DIGIT:
                break
            end += wide
            left -= 1
        return end
    if kind == OTHER or (data[place] == 0x20 and wide > 0 and behind == OTHER):
        end = _run(data, place + size, stop, classes, OTHER)
        return _run(data, end, stop, classes, NEWLINE)
    end, newline, last = place, -1, place
    while end < stop:
        kind, size = _class(data, end, classes)
        if kind != BLANK and kind != NEWLINE:
            break
        last = end
        end += size
        if kind == NEWLINE:
            newline = end
    if end == stop and cut.tail:
        return end
    if newline > 0:
        return newline
    return end if end == stop or last == place else last
