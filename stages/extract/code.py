"""How `render` writes code: what stands in a `pre`, byte for byte."""

from __future__ import annotations

import numpy as np

from stages.extract import layout as role_of
from stages.extract.layout import language_in
from stages.extract.markup import Bytes, Numbers, entity, name
from stages.extract.scan import OPEN, TAG_NUMBER, TEXT
from stages.extract.writing import (
    END,
    GAP,
    LEAST_QUOTES,
    LENGTH,
    MARKDOWN,
    PARAGRAPH_GAP,
    TICK,
    Table,
    end_line,
    gap,
    put,
    put_times,
    to_margin,
)  # fmt: skip
from stages.kernels import inline

_CODE, _XMP, _PLAINTEXT = (TAG_NUMBER[tag] for tag in ("code", "xmp", "plaintext"))
_TICK = 96
_TAB = name("\t")


@inline
def _language(html: Bytes, kind: Bytes, tag: Bytes, start: Numbers, end: Numbers, at: int) -> tuple[int, int]:
    """The programming language that the `pre` of event `at` names, or the `code` in it, or an element around it."""
    first, last = language_in(html, start[at], end[at])
    number = at + 1
    while first < 0 and number < len(kind) and number < at + 4 and kind[number] == OPEN:
        if tag[number] == _CODE:
            first, last = language_in(html, start[number], end[number])
        number += 1
    number = at - 1
    while first < 0 and number >= 0 and number > at - 6 and (kind[number] == OPEN or kind[number] == TEXT):
        if kind[number] == OPEN:
            first, last = language_in(html, start[number], end[number])
        elif end[number] - start[number] > 0 and html[start[number]] > 32:
            break
        number -= 1
    return first, last


@inline
def _fence(html: Bytes, kind: Bytes, start: Numbers, end: Numbers, at: int, last: int) -> int:
    """A fence longer than any run of backticks between two events."""
    longest = run = 0
    for number in range(at + 1, last):
        if kind[number] == TEXT:
            for place in range(start[number], end[number]):
                run = run + 1 if html[place] == _TICK else 0
                longest = run if run > longest else longest
    return longest + 1 if longest > 2 else 3


@inline
def write_code(
    out: Bytes, state: Table, items: Table, marks: Table, html: Bytes, kind: Bytes, tag: Bytes,
    start: Numbers, end: Numbers, roles: Bytes, at: int, last: int,
) -> None:  # fmt: skip
    """Writes what stands between events `at` and `last`, as it is; only blank lines at either end go.

    Elements that begin a line on the page begin one here (pages that wrap each line in an element of its own).
    """
    gap(state, items, PARAGRAPH_GAP)
    to_margin(state, items)
    end_line(out, state, items, marks, False)
    fence = 0
    if state[MARKDOWN]:
        fence = _fence(html, kind, start, end, at, last)
        put_times(out, state, TICK, fence)
        first, stop = _language(html, kind, tag, start, end, at)
        for place in range(first, stop):
            out[state[LENGTH]] = html[place]
            state[LENGTH] += 1
        put(out, state, END)
    begin = state[LENGTH]
    empty = True  # nothing but white space so far
    for number in range(at + 1, last):
        role = roles[tag[number]]
        if kind[number] == TEXT:
            raw = tag[number] == _XMP or tag[number] == _PLAINTEXT
            place = start[number]
            while place < end[number]:
                byte = np.int64(html[place])
                size = 1
                if byte == 38 and not raw:
                    byte, size = entity(html, place, end[number])
                elif byte == 194 and place + 1 < end[number] and html[place + 1] == 160:
                    byte, size = 32, 2
                place += size
                if byte == 10 and empty:
                    state[LENGTH] = begin
                else:
                    out[state[LENGTH]] = byte
                    state[LENGTH] += 1
                    empty = empty and (byte == 32 or 9 <= byte <= 13)
        elif empty:
            continue
        elif role == role_of.BREAK:
            put(out, state, END)
        elif out[state[LENGTH] - 1] != 10:
            if role_of.DIVISION <= role <= role_of.ROW:
                put(out, state, END)
            elif role == role_of.CELL and kind[number] == OPEN:
                put(out, state, _TAB)
    while state[LENGTH] > begin and (out[state[LENGTH] - 1] == 32 or 9 <= out[state[LENGTH] - 1] <= 13):
        state[LENGTH] -= 1
    if fence:
        put(out, state, END)
        put_times(out, state, TICK, fence)
    state[GAP] = PARAGRAPH_GAP
    state[LEAST_QUOTES] = 0
