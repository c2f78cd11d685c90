"""The gate: one pass over the bytes finds where personal data may be, so that clean text is never decoded."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from stages.kernels import inline, njit
from stages.text.column import Ints, Texts
from stages.text.utf8 import Bytes, code_at, width

AT, NUMBER, COLONS, CODE = 1, 2, 3, 4
"""Kinds of places: an at sign; digits with separators; colons between hexadecimal digits; letters and digits mixed."""

_DIGIT_CLASS = 1 << 9  # stages.text.characters.DIGIT, a constant to the compiler
_MIN_DIGITS = 7
_MOST_DIGITS = 19
_LONGEST_CODE = 34


def places(texts: Texts, classes: npt.NDArray[np.uint32]) -> Ints:
    """Rows of (text, start, end, kind), ascending by text: spans in code points of the text.

    A number is digits of any script, with at most three separators in a row between them, that holds at least
    seven digits or three single dots; but for decimals, and more than nineteen digits in a row. Linear in the bytes.
    """
    found: Ints = _places(texts.data, texts.offsets, classes)
    return found


@inline
def _digit(data: Bytes, at: int, end: int, classes: npt.NDArray[np.uint32]) -> Any:
    """Bytes of the digit that begins at `at`, 0 where there is none."""
    if at >= end:
        return 0
    byte = data[at]
    if byte < 0x80:
        return 1 if 48 <= byte <= 57 else 0
    if byte < 0xD9 or 0xE2 <= byte <= 0xE9:  # no digits in these blocks
        return 0
    return width(byte) if classes[code_at(data, at)] & _DIGIT_CLASS else 0


@inline
def _separator(data: Bytes, at: int, end: int) -> Any:
    """Bytes of the separator that begins at `at`, 0 where there is none."""
    if at >= end:
        return 0
    byte = data[at]
    if byte == 32 or byte == 45 or byte == 46 or byte == 40 or byte == 41 or byte == 47 or byte == 43:
        return 1
    if byte < 0xC2:
        return 0
    code = code_at(data, at)
    if code == 0xA0 or 0x2000 <= code <= 0x2015 or code == 0x202F or code == 0x2212 or code == 0x3000:
        return width(byte)
    if 0xFF08 <= code <= 0xFF0F and code != 0xFF0A and code != 0xFF0C:
        return 3
    return 0


@inline
def _alnum(byte: Any) -> Any:
    return 48 <= byte <= 57 or 65 <= byte <= 90 or 97 <= byte <= 122


@inline
def _hex(byte: Any) -> Any:
    return 48 <= byte <= 57 or 65 <= byte <= 70 or 97 <= byte <= 102


@inline
def _characters(data: Bytes, start: int, end: int) -> Any:
    """Code points that begin in these bytes."""
    count = 0
    for at in range(start, end):
        count += data[at] & 0xC0 != 0x80
    return count


@inline
def _colons(data: Bytes, at: int, first: int, end: int) -> Any:
    """Start and end of the hexadecimal digits and colons around the colon at `at`; end 0 where they are no address."""
    start = at
    while start > first and at - start < 4 and _hex(data[start - 1]):
        start -= 1
    stop, colons, twice, digits = at, 0, False, at - start
    while stop < end and stop - at < 64 and (data[stop] == 58 or data[stop] == 46 or _hex(data[stop])):
        if data[stop] == 58:
            colons += 1
            twice |= stop > first and data[stop - 1] == 58
        elif data[stop] <= 57 and data[stop] != 46:
            digits += 1
        stop += 1
    return start, stop if digits and (colons >= 6 or (twice and colons >= 2)) else 0


@inline
def _code(data: Bytes, at: int, first: int, end: int) -> Any:
    """Start and end of the letters and digits around the digit at `at`; end 0 where they are no ID number or IBAN."""
    start = at
    while start > first and at - start < _LONGEST_CODE and _alnum(data[start - 1]):
        start -= 1
    if start == at:
        return start, 0
    stop, numbers, size = at, 0, at - start
    blocks = size == 2 and at + 1 < end and 48 <= data[at + 1] <= 57  # an IBAN may be written in blocks
    while stop < end and stop - start < 60:
        if _alnum(data[stop]):
            numbers += data[stop] <= 57
            size += 1
        elif not (blocks and (data[stop] == 32 or data[stop] == 45) and stop + 1 < end and _alnum(data[stop + 1])):
            break
        stop += 1
    return start, stop if numbers >= 4 and size >= 7 else 0


@inline
def _roomy(out: Ints, count: int) -> Ints:
    """Rows of which the first `count` are in use, with room for two more."""
    if count + 2 <= len(out):
        return out
    larger = np.empty((len(out) * 2, 4), np.int64)
    larger[:count] = out[:count]
    return larger


@njit
def _places(data: Bytes, offsets: Ints, classes: npt.NDArray[np.uint32]) -> Ints:
    stops = np.zeros(256, np.bool_)
    stops[48:59] = True
    stops[64] = True
    for lead in (0xD9, 0xDB, 0xDF, 0xE0, 0xE1, 0xEA, 0xEF, 0xF0):  # of digits of other scripts, and full-width forms
        stops[lead] = True
    out = np.empty((256, 4), np.int64)
    count = 0
    for row in range(len(offsets) - 1):
        first, at, end = offsets[row], offsets[row], offsets[row + 1]
        known = first  # up to here the characters are counted
        chars = 0
        coded = first  # what lies before has been looked at as a code, or as colons
        coloned = first
        while True:
            while at < end and not stops[data[at]]:
                at += 1
            if at >= end:
                break
            byte = data[at]
            size = 1 if byte < 0x80 else width(byte)
            start, stop, kind = at, 0, 0
            digit = 48 <= byte <= 57
            if byte >= 0x80:
                code = code_at(data, at)
                digit = classes[code] & _DIGIT_CLASS != 0
                if code == 0xFF20:
                    stop, kind = at + size, AT
            elif byte == 64:
                if at > first and data[at - 1] > 32 and at + 1 < end and (_alnum(data[at + 1]) or data[at + 1] > 127):
                    stop, kind = at + 1, AT
            elif byte == 58 and at >= coloned:
                start, stop = _colons(data, at, first, end)
                kind = COLONS
                coloned = max(coloned, stop)
            elif digit and at >= coded:
                start, stop = _code(data, at, first, end)
                kind = CODE
                coded = max(coded, stop)
            if stop:
                out = _roomy(out, count)
                chars += _characters(data, known, at)
                known = at
                begin = chars - (at - start)  # what stands before is ASCII
                out[count] = row, begin, begin + _characters(data, start, stop), kind
                count += 1
            if not digit:
                at += size
                continue
            # How far does the number go?
            place, digits, dots, parts = at, 0, 0, 0
            while True:
                size = _digit(data, place, end, classes)
                while size:
                    digits += 1
                    place += size
                    size = _digit(data, place, end, classes)
                last = place
                separators = 0
                while separators < 3:
                    size = _separator(data, place, end)
                    if not size:
                        break
                    separators += 1
                    place += size
                if not separators or not _digit(data, place, end, classes):
                    break
                parts += 1
                if separators == 1 and data[last] == 46:
                    dots += 1
            decimal = parts == 1 and dots == 1
            long = parts == 0 and digits > _MOST_DIGITS
            if dots >= 3 or (digits >= _MIN_DIGITS and not decimal and not long):
                out = _roomy(out, count)
                chars += _characters(data, known, at)
                known = at
                out[count] = row, chars, chars + _characters(data, at, last), NUMBER
                count += 1
            at = last
    return out[:count]
