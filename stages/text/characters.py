"""What a code point is, as tables that kernels look up; by the Unicode data of the package `regex`.

Kernels take the tables as arguments and hold the bits as constants: `stages.kernels` finds this file by its name
here, and takes it into the digest of their sources.
"""

from __future__ import annotations

import functools
import unicodedata

import numpy as np
import numpy.typing as npt
import regex

from stages.words import SPACELESS as _SPACELESS
from stages.words import fold

CODES = 0x110000
TAKEN = ((0, 0x40000), (0xE0000, 0xE1000))
"""Ranges outside of which no code point is assigned, but to private use: a fifth of all."""

LETTER = 1 << 0
NUMBER = 1 << 1
MARK = 1 << 2
CONNECTOR = 1 << 3
ALPHABETIC = 1 << 4
BLANK = 1 << 5
"""What `str.split()` parts at."""
PUNCTUATION = 1 << 6
SYMBOL = 1 << 7
UPPER = 1 << 8
DIGIT = 1 << 9
"""Decimal digits of any script."""
SPACELESS = 1 << 10
"""Letters and marks of scripts that put no blanks between words (`stages.words.SPACELESS`)."""
JOINER = 1 << 11
"""Zero-width (non-)joiners, which part no word."""
CONTROL = 1 << 12
"""Cc and Cf."""
HANGUL = 1 << 13
KATAKANA = 1 << 14
"""With the mark of length."""
TERMINAL = 1 << 15
"""Ends a sentence, in any script."""
CLOSING = 1 << 16
"""Closing brackets and quotes, which may follow the end of a sentence: all but `„` and its like, for what opens a quote
in English (`“`) closes it in German. `"` and `'` too."""
LOWER = 1 << 17
FINAL = 1 << 18
"""Quotes that close in some language (`“` does in German); `"` and `'` too. Not those that are arrows as often: `»`."""

_PROPERTIES = {
    LETTER: r"\p{L}",
    NUMBER: r"\p{N}",
    MARK: r"\p{M}",
    CONNECTOR: r"\p{Pc}",
    ALPHABETIC: r"\p{Alphabetic}",
    PUNCTUATION: r"\p{P}",
    SYMBOL: r"\p{S}",
    UPPER: r"\p{Lu}",
    DIGIT: r"\p{Nd}",
    SPACELESS: f"[{_SPACELESS}]",
    JOINER: "[\u200c\u200d]",
    CONTROL: r"[\p{Cc}\p{Cf}]",
    HANGUL: r"\p{Hangul}",
    KATAKANA: r"[\p{Katakana}\u30fc\uff70]",
    TERMINAL: r"[\p{Sentence_Terminal}\u17d6\u17d9\u17da]",
    CLOSING: "[\\p{Pe}\\p{Pf}\\p{Pi}\"']",
    LOWER: r"\p{Ll}",
    FINAL: "[”’“‘\"'」』｣〞〟]",
}


def every_code() -> str:
    """The string of all code points in their order, so that a match's position is the code point."""
    return np.arange(CODES, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")


@functools.cache
def classes() -> npt.NDArray[np.uint32]:
    """The bits above, by code point (4.4 MB; made in a tenth of a second, once a process)."""
    table = np.zeros(CODES, np.uint32)
    text = every_code()
    for bit, pattern in _PROPERTIES.items():
        for begin, end in TAKEN:
            for match in regex.finditer(f"{pattern}+", text, pos=begin, endpos=end):
                table[match.start() : match.end()] |= np.uint32(bit)
    for code in (9, 10, 11, 12, 13, 28, 29, 30, 31, 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B)):
        table[code] |= np.uint32(BLANK)
    for code in (0x2028, 0x2029, 0x202F, 0x205F, 0x3000):
        table[code] |= np.uint32(BLANK)
    table.setflags(write=False)
    return table


NOT_ALONE = 0xFFFFFFFF
"""In `folds`: this code point must be folded together with its neighbours, by `stages.words.fold`."""


_FOLDABLE = regex.compile(
    r"[\P{Cn}--[\p{Cs}\p{Co}\u3400-\u4DBF\u4E00-\u9FFF\uAC00-\uD7A3\U00017000-\U00018CFF\U00020000-\U0002EBEF"
    r"\U00030000-\U000323AF]]+",
    regex.V1,
)
"""All but what is unassigned or private, and ideographs and syllables that are letters by themselves: a tenth."""


@functools.cache
def folds() -> npt.NDArray[np.uint32]:
    """For each code point what `stages.words.fold` makes of it, or `NOT_ALONE`.

    A text without a code point that is `NOT_ALONE` is folded code point by code point: the others become one
    code point each, which neither is composed with what stands before it nor put in another order.
    """
    table = np.arange(CODES, dtype=np.uint32)
    few = [chr(code) for part in regex.finditer(_FOLDABLE, every_code()) for code in range(part.start(), part.end())]
    joined = {character for character in few if unicodedata.combining(character)}
    for character in few:
        parts = unicodedata.decomposition(character)
        if parts and parts[0] != "<":
            joined.update(chr(int(part, 16)) for part in parts.split()[1:])
    joined |= {chr(code) for code in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))}  # Hangul is composed by rule
    few.remove("\n")
    for character, folded in zip(few, fold("\n".join(few)).split("\n"), strict=True):
        table[ord(character)] = ord(folded) if len(folded) == 1 and folded not in joined else NOT_ALONE
    table.setflags(write=False)
    return table


@functools.cache
def folds_alone() -> npt.NDArray[np.uint32]:
    """`folds`, where a code point that is `NOT_ALONE` stays: for comparison code point by code point."""
    table = np.where(folds() == NOT_ALONE, np.arange(CODES, dtype=np.uint32), folds())
    table.setflags(write=False)
    return table
