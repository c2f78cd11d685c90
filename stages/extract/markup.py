"""Small compiled helpers over the events of a page: attributes, matching ends, characters.

Canonical HTML writes attributes as ` name="value"`, with `&` `"` `<` `>` and the no-break space escaped.
Spans are byte positions in `Events.html`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stages.extract.scan import CLOSE, OPEN
from stages.kernels import inline

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]
"""Positions and block numbers, wider than `Events` holds them, and constants as arrays: numba compiles a helper once
for each type, and each literal, that it is called with."""


def name(text: str) -> Bytes:
    """A name to look for, as the kernels take it."""
    return np.frombuffer(text.encode(), np.uint8).copy()


@inline
def same(html: Bytes, at: int, end: int, wanted: Bytes) -> bool:
    """Whether `wanted` (lower case) stands at `at` and ends at or before `end`; ASCII case is ignored."""
    if at + len(wanted) > end:
        return False
    for step in range(len(wanted)):
        byte = html[at + step]
        if 65 <= byte <= 90:
            byte += 32
        if byte != wanted[step]:
            return False
    return True


@inline
def holds(html: Bytes, start: int, end: int, wanted: Bytes) -> bool:
    """Whether `wanted` (lower case) stands anywhere in a span; ASCII case is ignored."""
    first = wanted[0]
    upper = first - 32 if 97 <= first <= 122 else first
    for at in range(start, end - len(wanted) + 1):
        if (html[at] == first or html[at] == upper) and same(html, at, end, wanted):
            return True
    return False


@inline
def attribute(html: Bytes, start: int, end: int, wanted: Bytes) -> tuple[int, int]:
    """The span of the value of an attribute (lower case name) within the span of all; (-1, -1) where there is none."""
    at = start
    while at < end:
        at += 1  # the blank
        begin = at
        at += 1  # a name's first byte may be anything, an equals sign too
        while at < end and html[at] != 61 and html[at] != 32:
            at += 1
        stop = at
        value = value_end = at
        if at < end and html[at] == 61:
            value = at + 2
            value_end = value
            while value_end < end and html[value_end] != 34:
                value_end += 1
            at = value_end + 1
        if stop - begin == len(wanted) and same(html, begin, stop, wanted):
            return value, value_end
    return -1, -1


@inline
def number_in(html: Bytes, start: int, end: int, wanted: Bytes) -> int:
    """The number from 0 to 999,999,999 that the value of an attribute starts with; -1 where there is none."""
    at, stop = attribute(html, start, end, wanted)
    while 0 <= at < stop and html[at] == 32:
        at += 1
    value = -1
    while 0 <= at < stop and 48 <= html[at] <= 57:
        value = (0 if value < 0 else value * 10) + np.int64(html[at]) - 48
        at += 1
        if value > 999_999_999:
            return 999_999_999
    return value


@inline
def close_of(kind: Bytes, tag: Bytes, at: int) -> int:
    """The number of the event that closes the element which event `at` opens; elements of its name are counted."""
    wanted = tag[at]
    open_now = 0
    number = at
    while number < len(kind):
        if tag[number] == wanted:
            if kind[number] == OPEN:
                open_now += 1
            elif kind[number] == CLOSE:
                open_now -= 1
                if open_now == 0:
                    return number
        number += 1
    return len(kind) - 1


@inline
def entity(html: Bytes, at: int, end: int) -> tuple[int, int]:
    """The character that the `&` at `at` starts, and how many bytes it takes; a no-break space is a plain one."""
    if at + 3 < end and html[at + 2] == 116 and html[at + 3] == 59:
        if html[at + 1] == 108:
            return 60, 4  # &lt;
        if html[at + 1] == 103:
            return 62, 4  # &gt;
    if at + 4 < end and html[at + 1] == 97 and html[at + 2] == 109 and html[at + 3] == 112 and html[at + 4] == 59:
        return 38, 5  # &amp;
    if at + 5 < end and html[at + 5] == 59:
        if html[at + 1] == 110 and html[at + 2] == 98 and html[at + 3] == 115 and html[at + 4] == 112:
            return 32, 6  # &nbsp;
        if html[at + 1] == 113 and html[at + 2] == 117 and html[at + 3] == 111 and html[at + 4] == 116:
            return 34, 6  # &quot;
    return 38, 1


@inline
def blank(html: Bytes, at: int, end: int) -> int:
    """How many bytes the white space character at `at` takes (a no-break space is one), 0 if it is none."""
    byte = html[at]
    if byte == 32 or 9 <= byte <= 13:
        return 1
    if byte == 38 and at + 5 < end and html[at + 1] == 110 and html[at + 2] == 98 and html[at + 5] == 59:
        return 6
    if byte == 194 and at + 1 < end and html[at + 1] == 160:
        return 2
    return 0


@inline
def wide(first: int, second: int) -> bool:
    """Whether a UTF-8 sequence starts a Chinese or Japanese character: U+3000 to U+9FFF, or a fullwidth form."""
    return 0xE3 <= first <= 0xE9 or (first == 0xEF and (second == 0xBC or second == 0xBD))
