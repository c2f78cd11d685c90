"""The attributes of an element, one behind another, and the words in their values.

Canonical HTML writes them as ` name="value"`. Spans are byte positions.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stages.extract.scan import Bytes
from stages.kernels import inline


def text(name: str) -> Bytes:
    """A text to look for, in small letters, as the kernels take it."""
    return np.frombuffer(name.encode(), np.uint8)


@inline
def equal(data: Bytes, start: int, end: int, text: Bytes) -> bool:
    """Whether a span is this text; ASCII case is ignored."""
    if end - start != len(text):
        return False
    for i in range(len(text)):  # noqa: SIM110  (a loop is what compiles well)
        if data[start + i] | 32 != text[i] and data[start + i] != text[i]:
            return False
    return True


@inline
def holds(data: Bytes, start: int, end: int, text: Bytes) -> bool:
    """Whether a span holds this text; ASCII case is ignored, but for the first letter."""
    for at in range(start, end - len(text) + 1):
        if data[at] == text[0] and equal(data, at, at + len(text), text):
            return True
    return False


@inline
def attribute(data: Bytes, at: int, end: int) -> tuple[int, int, int, int, int]:
    """The attribute at a position: begin and end of its name, of its value, and where the next one begins."""
    name = at + 1
    stop = name + 1
    while stop < end and data[stop] != 61 and data[stop] != 32:
        stop += 1
    if stop >= end or data[stop] != 61:
        return name, min(stop, end), stop, stop, stop
    value = stop + 2
    last = value
    while last < end and data[last] != 34:
        last += 1
    return name, stop, min(value, end), min(last, end), last + 1


@inline
def value_holds(data: Bytes, at: int, end: int, name: Bytes, text: Bytes) -> bool:
    """Whether the attribute of this name holds a text."""
    while at < end:
        name_start, name_end, value, last, at = attribute(data, at, end)
        if equal(data, name_start, name_end, name):
            return bool(holds(data, value, last, text))
    return False


@inline
def add_words(
    data: Bytes, start: int, end: int, salt: int, found: npt.NDArray[np.uint32], count: int, most: int
) -> int:
    """Appends the hashes of a value's words to `found`, until there are `most`; gives the new count.

    A word is a whole name without its digits, and each of its parts (camelCase, a-b, a_b) of two letters or more.
    Attributes of different `salt` have different words.
    """
    at = start
    while at < end and count + 2 <= most:
        while at < end and data[at] == 32:
            at += 1
        whole = np.uint32(2166136261 + 2 * salt + 1)
        part = np.uint32(2166136261 + 2 * salt)
        length = parts = 0
        was_small = False
        while at < end and data[at] != 32:
            byte = np.int64(data[at])
            at += 1
            capital = 65 <= byte <= 90
            if capital:
                byte += 32
            letter = 97 <= byte <= 122 or byte >= 0x80
            if letter and not (capital and was_small):
                part = np.uint32((part ^ np.uint32(byte)) * np.uint32(16777619))
                length += 1
            else:
                if length > 1 and count < most:
                    found[count] = part
                    count += 1
                    parts += 1
                part = np.uint32(2166136261 + 2 * salt)
                length = 0
                if letter:
                    part = np.uint32((part ^ np.uint32(byte)) * np.uint32(16777619))
                    length = 1
            was_small = letter and not capital
            if not 48 <= byte <= 57:
                whole = np.uint32((whole ^ np.uint32(byte)) * np.uint32(16777619))
        if length > 1 and count < most:
            found[count] = part
            count += 1
            parts += 1
        if parts > 1 and count < most:
            found[count] = whole
            count += 1
    return count
