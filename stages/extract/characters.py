"""Classes of characters, as tables that kernels look up by code point: what is a word, in any script.

Kernels hold the numbers of the classes as constants: `stages.kernels` finds this file by its name here, and takes it
into the digest of their sources.
"""

from __future__ import annotations

import unicodedata

import numpy as np
import numpy.typing as npt

OTHER, LETTER, DIGIT, IDEOGRAPH, STOP, COMMA, SYMBOL = range(7)
"""OTHER: blanks and controls. IDEOGRAPH: letters of scripts that put no blanks between words; each is a token of
its own. STOP: ends a sentence. COMMA: parts one."""

_SPACELESS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # Kana
    (0x3400, 0x9FFF),  # Han
    (0xF900, 0xFAFF),
)
_STOPS = ".!?…。！？｡؟۔।॥።"
_COMMAS = ",;:、，；：،؛"


def _classes() -> npt.NDArray[np.uint8]:
    table = np.full(0x10000, OTHER, np.uint8)
    for code in range(0x10000):
        category = unicodedata.category(chr(code))
        if category[0] in "LM":
            table[code] = LETTER
        elif category[0] == "N":
            table[code] = DIGIT
        elif category[0] in "PS":
            table[code] = SYMBOL
    for first, last in _SPACELESS:
        part = table[first : last + 1]
        part[part == LETTER] = IDEOGRAPH
    for text, kind in ((_STOPS, STOP), (_COMMAS, COMMA)):
        for character in text:
            table[ord(character)] = kind
    return table


def _lower() -> npt.NDArray[np.uint16]:
    table = np.arange(0x10000, dtype=np.uint16)
    for code in range(0x10000):
        small = chr(code).lower()
        if len(small) == 1 and ord(small) < 0x10000:
            table[code] = ord(small)
    return table


CLASSES = _classes()
"""Class of each code point of the basic plane; beyond it are ideographs (planes 2 and 3) and symbols."""
LOWER = _lower()
"""Small letter of each code point of the basic plane."""
