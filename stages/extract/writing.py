"""How `render` writes: gaps that wait until a character follows them, line starts, marks, cells.

What has been written and what is open lives in one integer array (`state`, indexed by the names below) and three
small tables, so that compiled helpers can share it: `items` (list items and quotations around the position),
`lists` (next number of each open list, -1 where it has none) and `marks` (emphasis and code).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stages.extract.markup import Bytes, blank, entity, name, wide
from stages.kernels import inline

Table = npt.NDArray[np.int64]

(LENGTH, MARKDOWN, GAP, GAP_BREAKS, WAS_BREAK, ITEMS, LISTS, MARKS, HEAD, IN_HEAD, DEFINING, TERM_FROM, TERMED,
 RAISING, QUOTES, LEAST_QUOTES, CLOSED_AT, CLOSED_KIND, IN_TABLE, IN_ROW, IN_CELL, ROW_BEGUN, CELL_BEGUN, CELL_AT,
 CELL_TO, COLUMN, COLUMNS, ROWS, STATES) = range(29)  # fmt: skip

NO_GAP, SPACE, LINE, PARAGRAPH_GAP = range(4)

IS_QUOTE, PENDING, WIDTH, NUMBER, FROM, LOOSE, ITEM_FIELDS = range(7)
"""A row of `items`: whether it is a quotation; of an item: whether its marker is still to be written, what it is
indented by, its number or -1, the length of the text when it began, whether blank lines stand in it."""
KIND, WRITTEN, TICKS, MARK_FIELDS = range(4)
"""A row of `marks`: which (0: none), whether it stands in the text, the length of a run of backticks."""
MARK_STRONG, MARK_EMPHASIS, MARK_STRIKE, MARK_CODE = range(1, 5)

MOST_ITEMS, MOST_LISTS, MOST_MARKS = 64, 64, 32
MOST_PREFIXES = 8
"""Levels of lists and quotations that lines are indented by; deeper ones stand like the last."""
ROOM = 8_192
"""Bytes that an event may write beyond twice its own."""

_BAR, _DOLLAR, _BACKSLASH, _STAR, _TILDE = (ord(sign) for sign in "|$\\*~")
BLANK, END, TICK = name(" "), name("\n"), name("`")
QUOTE_PREFIX = name("> ")
ROW_START, CELL_END, EMPTY_CELL, HEAD_CELL = name("|"), name(" |"), name("  |"), name(" --- |")
_CELL_GAP, _STRONG, _EMPHASIS, _STRIKE, _DOLLARS = name(" | "), name("**"), name("*"), name("~~"), name("$")
_BULLET, _POINT, _HASH, _DEFINES, _POWER, _QUOTED = name("- "), name(". "), name("#"), name(": "), name("^"), name(">")


@inline
def put(out: Bytes, state: Table, text: Bytes) -> None:
    """Writes some bytes."""
    length = state[LENGTH]
    for number in range(len(text)):
        out[length + number] = text[number]
    state[LENGTH] = length + len(text)


@inline
def put_times(out: Bytes, state: Table, text: Bytes, times: int) -> None:
    """Writes some bytes several times."""
    for _ in range(times):
        put(out, state, text)


@inline
def put_number(out: Bytes, state: Table, number: int) -> None:
    """Writes a number of up to nine digits."""
    scale = 1
    while scale * 10 <= number:
        scale *= 10
    while scale > 0:
        out[state[LENGTH]] = 48 + (number // scale) % 10
        state[LENGTH] += 1
        scale //= 10


@inline
def depth(count: int, table: Table) -> int:
    """How many of the open elements a table holds: what is nested deeper has no row of its own."""
    return count if count < len(table) else len(table)


@inline
def pending(state: Table, items: Table) -> bool:
    """Whether an item has begun of which nothing is written yet."""
    top = state[ITEMS] - 1
    return bool(0 <= top < MOST_ITEMS and items[top, IS_QUOTE] == 0 and items[top, PENDING] == 1)


@inline
def gap(state: Table, items: Table, size: int) -> None:
    """At least this gap before what comes next; cells and headings stay on one line, items begin on their own."""
    if state[IN_CELL] or state[IN_HEAD]:
        size = SPACE if size > SPACE else size
    elif state[DEFINING] or pending(state, items):
        size = LINE if size > LINE else size
    if size > state[GAP]:
        state[GAP] = size
        state[GAP_BREAKS] = 0


@inline
def put_mark(out: Bytes, state: Table, marks: Table, number: int, opens: bool) -> None:
    """Writes what opens or closes a mark."""
    kind = marks[number, KIND]
    if kind == MARK_STRONG:
        put(out, state, _STRONG)
    elif kind == MARK_EMPHASIS:
        put(out, state, _EMPHASIS)
    elif kind == MARK_STRIKE:
        put(out, state, _STRIKE)
    else:
        ticks = marks[number, TICKS]
        if ticks > 1 and not opens:
            put(out, state, BLANK)
        put_times(out, state, TICK, ticks)
        if ticks > 1 and opens:
            put(out, state, BLANK)
    marks[number, WRITTEN] = opens


@inline
def close_marks(out: Bytes, state: Table, marks: Table) -> None:
    """Closes what is open, the last first; it opens again with the next character."""
    for number in range(depth(state[MARKS], marks) - 1, -1, -1):
        if marks[number, WRITTEN]:
            put_mark(out, state, marks, number, False)


@inline
def close_mark(out: Bytes, state: Table, marks: Table) -> None:
    """An element of emphasis or code ends."""
    state[MARKS] -= 1
    number = state[MARKS]
    if number < MOST_MARKS and marks[number, WRITTEN]:
        put_mark(out, state, marks, number, False)
        state[CLOSED_AT] = state[LENGTH]
        state[CLOSED_KIND] = marks[number, KIND] * 16 + marks[number, TICKS]


@inline
def _open_marks(out: Bytes, state: Table, marks: Table) -> None:
    for number in range(depth(state[MARKS], marks)):
        kind = marks[number, KIND]
        if kind == 0 or marks[number, WRITTEN] or (kind == MARK_STRONG and state[IN_HEAD]):
            continue
        if state[CLOSED_AT] == state[LENGTH] and state[CLOSED_KIND] == kind * 16 + marks[number, TICKS]:
            # The same mark ended right here, as in <b>a</b><b>b</b>: it goes on.
            ticks = marks[number, TICKS]
            state[LENGTH] -= 1 if kind == MARK_EMPHASIS else 2 if kind != MARK_CODE else ticks + (ticks > 1)
            marks[number, WRITTEN] = 1
        else:
            put_mark(out, state, marks, number, True)
        state[CLOSED_AT] = -1


@inline
def to_margin(state: Table, items: Table) -> None:
    """What comes next stands at the margin, and the open items go on there."""
    for number in range(depth(state[ITEMS], items)):
        items[number, PENDING] = 0
        items[number, WIDTH] = 0


@inline
def end_line(out: Bytes, state: Table, items: Table, marks: Table, quoted: bool) -> None:
    """Ends the line, where there is one, and puts the blank line that the gap asks for."""
    close_marks(out, state, marks)
    if state[LENGTH] == 0:
        return
    put(out, state, END)
    if state[GAP] < PARAGRAPH_GAP:
        return
    left = state[LEAST_QUOTES] if quoted and state[MARKDOWN] else 0
    for number in range(depth(state[ITEMS], items)):
        if items[number, IS_QUOTE] == 0 and items[number, PENDING] == 0:
            items[number, LOOSE] = 1
        if left > 0 and number < MOST_PREFIXES:
            if items[number, IS_QUOTE]:
                put(out, state, QUOTE_PREFIX if left > 1 else _QUOTED)
                left -= 1
            else:
                put_times(out, state, BLANK, items[number, WIDTH])
    while out[state[LENGTH] - 1] == 32:
        state[LENGTH] -= 1
    put(out, state, END)


@inline
def _start_line(out: Bytes, state: Table, items: Table, marks: Table) -> None:
    """Ends the line before and writes what stands before the text of the next: quotation, indent, marker, heading."""
    if state[HEAD] or (state[IN_CELL] and state[MARKDOWN]):
        to_margin(state, items)
    deepest = depth(state[ITEMS], items)
    last = -1  # the innermost item that waits for its marker; what it is alone in needs none
    for number in range(deepest):
        if items[number, IS_QUOTE] == 0 and items[number, PENDING]:
            last = number
    for number in range(deepest):
        waits = items[number, IS_QUOTE] == 0 and items[number, PENDING]
        if waits and (number != last or deepest - 1 > last or state[IN_CELL]):
            items[number, PENDING] = 0
            items[number, WIDTH] = 0
    end_line(out, state, items, marks, True)
    for number in range(deepest):
        shown = number < MOST_PREFIXES
        if items[number, IS_QUOTE]:
            if state[MARKDOWN] and shown:
                put(out, state, QUOTE_PREFIX)
        elif items[number, PENDING]:
            items[number, PENDING] = 0
            before = state[LENGTH]
            if items[number, NUMBER] < 0:
                put(out, state, _BULLET)
            else:
                put_number(out, state, items[number, NUMBER])
                put(out, state, _POINT)
            items[number, WIDTH] = state[LENGTH] - before if state[MARKDOWN] else 2
        elif shown and (state[MARKDOWN] or last >= 0):
            put_times(out, state, BLANK, items[number, WIDTH])
    if state[DEFINING]:
        state[DEFINING] = 0
        if state[MARKDOWN]:
            put(out, state, _DEFINES)
    if state[HEAD]:
        if state[MARKDOWN]:
            put_times(out, state, _HASH, state[HEAD])
            put(out, state, BLANK)
        state[HEAD] = 0
        state[IN_HEAD] = 1


@inline
def _start_cell(out: Bytes, state: Table, items: Table, marks: Table) -> None:
    """Writes what stands between the row's last text and this cell's first."""
    first = not state[ROW_BEGUN]
    if first:
        _start_line(out, state, items, marks)
        state[ROW_BEGUN] = 1
        state[CELL_TO] = 0
        if state[MARKDOWN]:
            put(out, state, ROW_START)
    state[CELL_BEGUN] = 1
    if state[MARKDOWN]:
        fill_cells(out, state, state[CELL_AT])
        put(out, state, BLANK)
    elif not first:
        put(out, state, _CELL_GAP)


@inline
def fill_cells(out: Bytes, state: Table, column: int) -> None:
    """Empty cells of a Markdown row up to a column."""
    while state[CELL_TO] < column:
        put(out, state, EMPTY_CELL)
        state[CELL_TO] += 1


@inline
def _joins(out: Bytes, state: Table, first: int, second: int) -> bool:
    """Whether a line break of the source between the text and a character of these first bytes is no space: both
    sides are Chinese or Japanese (CSS Text 3, segment break transformation)."""
    at = state[LENGTH] - 3
    while at >= 0 and (out[at + 2] == _STAR or out[at + 2] == _TILDE):
        at -= 1  # what closes emphasis
    return bool(at >= 0 and wide(out[at], out[at + 1]) and wide(first, second))


@inline
def begin(out: Bytes, state: Table, items: Table, marks: Table, first: int, second: int) -> None:
    """Writes all that waits before a visible character whose first bytes these are."""
    raised = state[RAISING] and state[GAP] == NO_GAP and state[LENGTH] > 0
    if state[IN_CELL] and not state[CELL_BEGUN]:
        _start_cell(out, state, items, marks)
        raised = False
    elif state[GAP] >= LINE or state[LENGTH] == 0:
        _start_line(out, state, items, marks)
        raised = False
    elif state[GAP] == SPACE and not (state[GAP_BREAKS] and _joins(out, state, first, second)):
        put(out, state, BLANK)
    state[GAP] = NO_GAP
    if raised:
        before = out[state[LENGTH] - 1]
        signed = first == 45 or first == 43 or (first == 0xE2 and second == 0x88) or 48 <= first <= 57
        if 48 <= before <= 57 and signed:
            put(out, state, _POWER)  # 10 to the 6th is not 106
    state[RAISING] = 0
    state[WAS_BREAK] = 0
    state[LEAST_QUOTES] = state[QUOTES]
    _open_marks(out, state, marks)


@inline
def write_text(out: Bytes, state: Table, items: Table, marks: Table, html: Bytes, start: int, end: int) -> None:
    """Writes a text as a browser shows it: white space collapsed, entities resolved."""
    at = start
    begun = False
    barred = state[IN_CELL] and state[MARKDOWN]
    while at < end:
        space = False
        breaks = False
        while at < end:
            size = blank(html, at, end)
            if size == 0:
                break
            breaks = breaks or html[at] == 10
            space = True
            at += size
        if space and not begun:
            if state[GAP] < SPACE:
                state[GAP] = SPACE
                state[GAP_BREAKS] = breaks
            elif state[GAP] == SPACE and breaks:
                state[GAP_BREAKS] = 1
        if at == end:
            if space and begun:
                state[GAP] = SPACE
                state[GAP_BREAKS] = breaks
            return
        second = html[at + 1] if at + 1 < end else 0
        if not begun:
            begin(out, state, items, marks, html[at], second)
            begun = True
        elif space and not (breaks and _joins(out, state, html[at], second)):
            put(out, state, BLANK)
        length = state[LENGTH]
        while at < end:
            byte = html[at]
            if byte == 32 or 9 <= byte <= 13 or (byte == 194 and blank(html, at, end)):
                break
            if byte == 38:
                character, size = entity(html, at, end)
                if size == 6 and character == 32:
                    break
                out[length] = character
                at += size
            else:
                if byte == _BAR and barred:
                    out[length] = _BACKSLASH
                    length += 1
                out[length] = byte
                at += 1
            length += 1
        state[LENGTH] = length


@inline
def write_formula(
    out: Bytes, state: Table, items: Table, marks: Table, html: Bytes, start: int, end: int, display: bool, raw: bool
) -> None:
    """Writes TeX between dollar signs, in lines of its own where it is displayed; nothing where it is empty.

    `raw`: the source holds no entities. What is in dollar signs or the like already gets no others.
    """
    while start < end and blank(html, start, end):
        start += blank(html, start, end)
    while start < end and (html[end - 1] == 32 or 9 <= html[end - 1] <= 13):
        end -= 1
    if start == end:
        return
    lines = display and not (state[IN_CELL] or state[IN_HEAD])
    if lines:
        gap(state, items, LINE)
    opener = html[start + 1] if start + 1 < end else 0
    begin(out, state, items, marks, html[start], opener)
    marked = html[start] == _DOLLAR or (html[start] == _BACKSLASH and (opener == 40 or opener == 91))
    dollars = 0 if marked else 2 if display else 1
    put_times(out, state, _DOLLARS, dollars)
    barred = state[IN_CELL] and state[MARKDOWN]
    at = start
    while at < end:
        byte = np.int64(html[at])
        size = 1
        if byte == 38 and not raw:
            byte, size = entity(html, at, end)
        elif 9 <= byte <= 13:
            byte = 10 if lines and byte == 10 else 32
            if byte == 10 and out[state[LENGTH] - 1] == 10:
                byte = 0  # an empty line would end the formula
        if byte == _BAR and barred:
            out[state[LENGTH]] = _BACKSLASH
            state[LENGTH] += 1
        if byte:
            out[state[LENGTH]] = byte
            state[LENGTH] += 1
        at += size
    put_times(out, state, _DOLLARS, dollars)
    if lines:
        gap(state, items, LINE)
