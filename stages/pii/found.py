"""What is found, and the text in which it is looked for."""

from __future__ import annotations

import functools
import unicodedata
from typing import NamedTuple

import numpy as np
import regex

from stages.text.characters import DIGIT, classes

TYPES = ("email", "ip", "phone", "card", "iban", "national_id")


class Found(NamedTuple):
    """Personal data in a text: `text[start:end]`, in code points."""

    type: str
    start: int
    end: int
    value: str
    """As two spellings of one value compare: digits and letters alone, in small letters."""


@functools.cache
def _plain() -> dict[int, int]:
    """Full-width forms, digits of all scripts, dashes and blanks to ASCII, one by one, so that places stay."""
    table = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
    for code in np.flatnonzero(classes() & DIGIT).tolist():
        table[code] = 48 + unicodedata.decimal(chr(code), 0)
    for code in (*range(0x2010, 0x2016), 0x2212, 0xFE63):
        table[code] = ord("-")
    for code in (0xA0, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000):
        table[code] = ord(" ")
    return table


def plain(text: str) -> str:
    """The text as patterns look at it, of the same length."""
    return text if text.isascii() else text.translate(_plain())


_NOT_VALUE = regex.compile(r"[^\p{L}\p{N}@]+")


def value_of(text: str) -> str:
    """The value of a number or code, whatever its separators."""
    value: str = _NOT_VALUE.sub("", text)
    return value.lower()
