"""A text as tokens: their hashes, and how many characters of which class it has.

A token is a word in small letters, or a single character where a script has no blanks between words.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stages.extract.characters import CLASSES, COMMA, DIGIT, IDEOGRAPH, LETTER, LOWER, OTHER, STOP, SYMBOL
from stages.extract.scan import Bytes
from stages.kernels import inline

COUNTS = (
    "tokens linked characters capitalised numbers stops commas symbols ends stressed images breaks coded links "
    "capital described trigrams titled digest"
).split()
"""The columns of `Blocks.counts`. `linked`, `stressed` and `coded` count tokens inside links, emphasis and code;
`ends` says whether the text ends a sentence, `capital` whether it begins with a capital letter; `described` counts
the trigrams of tokens that the page's own description or its JSON-LD holds too, `titled` the tokens that its
title holds; `digest` tells equal texts."""
(
    TOKENS, LINKED, CHARACTERS, CAPITALISED, NUMBERS, STOPS, COMMAS, SYMBOLS, ENDS, STRESSED, IMAGES, BREAKS, CODED,
    LINKS, CAPITAL, DESCRIBED, TRIGRAMS, TITLED, DIGEST,
) = range(len(COUNTS))  # fmt: skip
PLAIN, ESCAPED, JSON = 0, 1, 2
"""Forms of a text: as it is; with the entities of canonical HTML; with the escapes of a JSON string."""


def word_hash(text: str) -> int:
    """The hash of a token as `Blocks.token` has it: FNV-1a over the code points of its small letters."""
    value = 2166136261
    for character in text.lower():
        value = ((value ^ ord(character)) * 16777619) & 0xFFFFFFFF
    return value


def tokens(text: str) -> npt.NDArray[np.uint32]:
    """The token hashes of a plain text, as `Blocks.token` would have them."""
    data = np.frombuffer(text.encode("utf-8", "replace"), np.uint8)
    found = np.empty(len(data) + 1, np.uint32)
    row = np.zeros(len(COUNTS), np.int32)
    return found[: add_tokens(data, 0, len(data), PLAIN, CLASSES, LOWER, found, 0, row)]


@inline
def _hex(byte: int) -> int:
    if 48 <= byte <= 57:
        return byte - 48
    byte |= 32
    return byte - 87 if 97 <= byte <= 102 else 0


@inline
def add_tokens(
    data: Bytes, start: int, end: int, form: int, classes: Bytes, lower: npt.NDArray[np.uint16],
    found: npt.NDArray[np.uint32], count: int, row: npt.NDArray[np.int32],
) -> int:  # fmt: skip
    """Appends the hashes of a text's tokens to `found`, adds what its characters are to `row`; gives the new count."""
    at = start
    inside = False  # a word
    value = np.uint32(0)
    number = False
    ends = row[ENDS]
    begun = row[CHARACTERS] > 0
    while at < end:
        byte = data[at]
        code = np.int64(byte)
        step = 1
        if byte >= 0x80:
            if byte >= 0xF0 and at + 3 < end:
                code = (code & 7) << 18 | (data[at + 1] & 63) << 12 | (data[at + 2] & 63) << 6 | (data[at + 3] & 63)
                step = 4
            elif byte >= 0xE0 and at + 2 < end:
                code = (code & 15) << 12 | (data[at + 1] & 63) << 6 | (data[at + 2] & 63)
                step = 3
            elif at + 1 < end:
                code = (code & 31) << 6 | (data[at + 1] & 63)
                step = 2
        elif byte == 38 and form == ESCAPED:  # an entity: only &nbsp; is no symbol
            stop = at + 1
            while stop < end and stop < at + 6 and data[stop] != 59:
                stop += 1
            code = 32 if data[at + 1] == 110 else 38
            step = stop - at + 1
        elif byte == 92 and form == JSON and at + 1 < end:
            after = data[at + 1]
            step = 2
            code = 32
            if after == 117 and at + 5 < end:
                code = (
                    np.int64(_hex(data[at + 2])) << 12 | _hex(data[at + 3]) << 8 | _hex(data[at + 4]) << 4
                    | _hex(data[at + 5])
                )  # fmt: skip
                step = 6
            elif after == 34:
                code = 34
        at += step
        kind = classes[code] if code < 0x10000 else IDEOGRAPH if 0x20000 <= code < 0x40000 else SYMBOL
        if kind in (LETTER, DIGIT):
            small = np.uint32(lower[code] if code < 0x10000 else code)
            if not inside:
                inside = True
                value = np.uint32(2166136261)
                number = kind == DIGIT
                if small != code:
                    row[CAPITALISED] += 1
                    if not begun:
                        row[CAPITAL] = 1
            value = np.uint32((value ^ small) * np.uint32(16777619))
            row[CHARACTERS] += 1
            begun = True
            ends = 0
            continue
        if inside:
            inside = False
            found[count] = value
            count += 1
            row[NUMBERS] += number
        if kind == OTHER:
            continue
        row[CHARACTERS] += 1
        begun = True
        ends = 0
        if kind == IDEOGRAPH:
            found[count] = np.uint32((np.uint32(2166136261) ^ np.uint32(code)) * np.uint32(16777619))
            count += 1
        elif kind == STOP:
            row[STOPS] += 1
            ends = 1
        elif kind == COMMA:
            row[COMMAS] += 1
        else:
            row[SYMBOLS] += 1
            ends = ends if code == 34 or code == 0x201D or code == 0x300D or code == 41 else 0
    if inside:
        found[count] = value
        count += 1
        row[NUMBERS] += number
    row[ENDS] = ends
    return count
