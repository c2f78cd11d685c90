"""The kept blocks of a page as text or as Markdown, in one compiled pass over its events.

White space collapses as a browser collapses it, and lines break where the page breaks them: a blank line
around paragraphs, headings, lists, tables and code, a line for each division, list item, table row and `br`.
Both formats mark list items (`- `, `1. `), join the cells of data tables with ` | `, keep `pre` as it is written
and formulas as TeX between dollar signs. Markdown adds headings, emphasis, code, quotations and GitHub's
tables; nothing is escaped but the bars in their cells, since the text is to read like the page. Addresses of
links are left out. Code, tables and headings inside a list stand at the margin, so that code keeps its own
indentation and nothing else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from stages.extract import formulas
from stages.extract import layout as role_of
from stages.extract import writing as w
from stages.extract.code import write_code
from stages.extract.layout import ROLES, next_row, place, table_width
from stages.extract.markup import Bytes, Numbers, attribute, close_of, holds, name, number_in
from stages.extract.scan import CLOSE, OPEN, TAG_NUMBER, TEXT, Events
from stages.extract.writing import Table, gap
from stages.kernels import inline, njit

_H1, _OL, _MATH, _SCRIPT = (TAG_NUMBER[tag] for tag in ("h1", "ol", "math", "script"))
_START, _VALUE, _CLASS, _POST, _MESSAGE = (name(text) for text in ("start", "value", "class", "post", "message"))
_MOST_NUMBER = 999_999_999  # CommonMark's
_FAR_AWAY = 1_000  # events


def render(events: Events, keep: npt.NDArray[np.bool_], markdown: bool) -> bytes:
    """The text of the blocks for which `keep` is true, UTF-8, without a line end at its end.

    `keep` has a value for each block of the page. A formula that has no text of its own is kept with its neighbours.
    """
    if len(keep) != events.blocks:
        raise ValueError(f"{len(keep)} flags for {events.blocks} blocks")
    if not keep.any():
        return b""
    start, end, block = (column.astype(np.int64) for column in (events.start, events.end, events.block))
    out, length = _render(events.html, events.kind, events.tag, start, end, block, keep, markdown, ROLES)
    return bytes(out[:length].tobytes())


@inline
def _open_list(html: Bytes, start: int, end: int, numbered: bool, state: Table, items: Table, lists: Table) -> None:
    """A list begins: with a blank line before it, or right under the text of the item that it is in."""
    if state[w.LISTS] < w.MOST_LISTS:
        first = -1
        if numbered:
            first = number_in(html, start, end, _START)
            first = 1 if first < 0 else first
        lists[state[w.LISTS]] = first
    state[w.LISTS] += 1
    top = w.depth(state[w.ITEMS], items) - 1
    if top < 0 or items[top, w.IS_QUOTE]:
        gap(state, items, w.PARAGRAPH_GAP)
    elif state[w.LENGTH] > items[top, w.FROM] and state[w.GAP] > w.NO_GAP and not state[w.IN_CELL]:
        state[w.GAP] = w.LINE
    else:
        gap(state, items, w.LINE)


@inline
def _close_list(state: Table, items: Table) -> None:
    state[w.LISTS] -= 1
    top = w.depth(state[w.ITEMS], items) - 1
    gap(state, items, w.PARAGRAPH_GAP if top < 0 or items[top, w.IS_QUOTE] else w.LINE)


@inline
def _open_item(html: Bytes, start: int, end: int, state: Table, items: Table, lists: Table) -> None:
    gap(state, items, w.LINE)
    number = -1
    top = state[w.LISTS] - 1
    if 0 <= top < w.MOST_LISTS and lists[top] >= 0:
        number = number_in(html, start, end, _VALUE)
        number = lists[top] if number < 0 else number
        lists[top] = number + 1 if number < _MOST_NUMBER else number
    if state[w.ITEMS] < w.MOST_ITEMS:
        new = state[w.ITEMS]
        items[new, w.IS_QUOTE] = items[new, w.WIDTH] = items[new, w.LOOSE] = 0
        items[new, w.PENDING] = 0 if state[w.IN_CELL] or state[w.IN_HEAD] else 1
        items[new, w.NUMBER] = number
        items[new, w.FROM] = state[w.LENGTH]
    state[w.ITEMS] += 1


@inline
def _close_item(state: Table, items: Table) -> None:
    """An item ends: the next follows in the next line, unless blank lines part what is in it."""
    state[w.ITEMS] -= 1
    if state[w.ITEMS] >= w.MOST_ITEMS or state[w.IN_CELL] or state[w.IN_HEAD]:
        gap(state, items, w.LINE)
        return
    if state[w.LENGTH] > items[state[w.ITEMS], w.FROM]:
        state[w.GAP] = w.PARAGRAPH_GAP if items[state[w.ITEMS], w.LOOSE] else w.LINE


@inline
def _open_mark(
    html: Bytes, kind: Bytes, tag: Bytes, start: Numbers, end: Numbers, at: int, mark: int, state: Table, marks: Table
) -> None:
    """Emphasis or code begins. A kind that is open already, or anything inside code, adds no mark."""
    number = state[w.MARKS]
    state[w.MARKS] += 1
    if number >= w.MOST_MARKS:
        return
    marks[number, w.KIND] = marks[number, w.WRITTEN] = marks[number, w.TICKS] = 0
    for outer in range(number):
        if marks[outer, w.KIND] == mark or marks[outer, w.KIND] == w.MARK_CODE:
            return
    if mark == w.MARK_CODE:
        longest = run = 0
        last = close_of(kind, tag, at)
        for event in range(at + 1, last):
            if kind[event] == TEXT:
                for place_ in range(start[event], end[event]):
                    run = run + 1 if html[place_] == 96 else 0
                    longest = run if run > longest else longest
        if longest > 8:
            return
        marks[number, w.TICKS] = longest + 1
    marks[number, w.KIND] = mark


@inline
def _open_table(
    html: Bytes, kind: Bytes, tag: Bytes, start: Numbers, end: Numbers, roles: Bytes, at: int,
    state: Table, items: Table, taken: Numbers,
) -> None:  # fmt: skip
    gap(state, items, w.PARAGRAPH_GAP)
    if state[w.IN_TABLE]:
        return
    state[w.COLUMNS] = table_width(html, kind, tag, start, end, roles, at, taken)
    if state[w.COLUMNS] > 0:
        state[w.IN_TABLE] = 1
        state[w.ROWS] = state[w.IN_ROW] = state[w.ROW_BEGUN] = 0


@inline
def _close_row(out: Bytes, state: Table, items: Table, taken: Numbers) -> None:
    next_row(taken)
    state[w.IN_ROW] = 0
    if not state[w.ROW_BEGUN]:
        return
    state[w.ROW_BEGUN] = 0
    state[w.GAP] = w.LINE
    state[w.ROWS] += 1
    if state[w.MARKDOWN] and state[w.ROWS] == 1:
        w.fill_cells(out, state, state[w.COLUMNS])
        w.put(out, state, w.END)
        for number in range(w.depth(state[w.ITEMS], items)):
            if number < w.MOST_PREFIXES and items[number, w.IS_QUOTE]:
                w.put(out, state, w.QUOTE_PREFIX)
        w.put(out, state, w.ROW_START)
        w.put_times(out, state, w.HEAD_CELL, state[w.CELL_TO])


@inline
def _open_cell(html: Bytes, start: int, end: int, division: int, state: Table, items: Table, taken: Numbers) -> None:
    if not state[w.IN_ROW]:
        gap(state, items, division)
        return
    state[w.CELL_AT], state[w.COLUMN] = place(html, start, end, state[w.COLUMN], taken)
    state[w.IN_CELL] = 1
    state[w.CELL_BEGUN] = 0
    if state[w.ROW_BEGUN]:
        state[w.GAP] = w.NO_GAP


@inline
def _close_cell(out: Bytes, division: int, state: Table, items: Table, marks: Table) -> None:
    if not state[w.IN_CELL]:
        gap(state, items, division)
        return
    state[w.IN_CELL] = 0
    if state[w.CELL_BEGUN]:
        w.close_marks(out, state, marks)
        if state[w.MARKDOWN]:
            w.put(out, state, w.CELL_END)
        state[w.CELL_TO] = state[w.CELL_AT] + 1


@inline
def _beside(state: Table) -> None:
    """Words on both sides of a picture or a field stand apart; Chinese and Japanese characters have no blank there."""
    if state[w.GAP] < w.SPACE:
        state[w.GAP] = w.SPACE
        state[w.GAP_BREAKS] = 1


@inline
def _is_post(html: Bytes, start: int, end: int) -> bool:
    """Whether a `blockquote` is no quotation: older forum software writes posts in them."""
    value, value_end = attribute(html, start, end, _CLASS)
    return bool(value >= 0 and (holds(html, value, value_end, _POST) or holds(html, value, value_end, _MESSAGE)))


@inline
def _grown(out: Bytes, state: Table, more: int) -> Bytes:
    if state[w.LENGTH] + more <= len(out):
        return out
    larger = np.empty(2 * len(out) + more, np.uint8)
    larger[: state[w.LENGTH]] = out[: state[w.LENGTH]]
    return larger


@njit
def _render(
    html: Bytes, kind: Bytes, tag: Bytes, start: Numbers, end: Numbers, block: Numbers,
    keep: npt.NDArray[np.bool_], markdown: bool, roles: Bytes,
) -> Any:  # fmt: skip
    out = np.empty(len(html) // 4 + 2 * w.ROOM, np.uint8)
    state = np.zeros(w.STATES, np.int64)
    items = np.zeros((w.MOST_ITEMS, w.ITEM_FIELDS), np.int64)
    lists = np.zeros(w.MOST_LISTS, np.int64)
    marks = np.zeros((w.MOST_MARKS, w.MARK_FIELDS), np.int64)
    taken = np.zeros(64, np.int64)
    state[w.MARKDOWN] = markdown
    state[w.CLOSED_AT] = -1
    division = w.PARAGRAPH_GAP if markdown else w.LINE
    posts = 0  # open quotations that are none, as bits: 1 for a post
    formula = -_FAR_AWAY  # the event that ended the last formula
    seen = -1  # the block of the last text
    has_formulas = False
    for number in range(len(kind)):
        if kind[number] == OPEN and (tag[number] == _MATH or (tag[number] == _SCRIPT and block[number + 1] >= 0)):
            has_formulas = True
            break
    skip_from = skip_to = -1  # around the MathML of a formula that stands there twice
    tex = tex_end = -1  # a formula to be written
    shown = raw = False
    at = -1
    while at + 1 < len(kind):
        at += 1
        if at == skip_from:
            at = skip_to
            skip_from = -1
        what = kind[at]
        if what == TEXT:
            number = block[at]
            if number >= 0:
                seen = number
                if keep[number]:
                    out = _grown(out, state, 2 * (end[at] - start[at]) + w.ROOM)
                    w.write_text(out, state, items, marks, html, start[at], end[at])
            continue
        role = roles[tag[at]]
        if role == role_of.NOTHING:
            continue
        if role == role_of.SPAN and not (has_formulas and what == OPEN and start[at] < end[at]):
            continue
        out = _grown(out, state, 2 * (end[at] - start[at]) + w.ROOM)
        if role == role_of.DIVISION:
            gap(state, items, division)
        if role == role_of.DIVISION or role == role_of.SPAN:
            if has_formulas and what == OPEN and start[at] < end[at]:
                if formulas.is_copy(html, start, end, at, formula):
                    at = close_of(kind, tag, at)
                    continue
                last, inner = formulas.typeset(html, kind, tag, start, end, at)
                if last >= 0 and inner >= 0:
                    skip_from, skip_to = close_of(kind, tag, inner) + 1, last
                    at = inner - 1
                elif last >= 0:
                    at = last
        elif role == role_of.PARAGRAPH:
            gap(state, items, w.PARAGRAPH_GAP)
        elif role == role_of.HEADING:
            state[w.IN_HEAD] = 0
            state[w.HEAD] = 0
            gap(state, items, w.PARAGRAPH_GAP)
            if what == OPEN and not state[w.IN_CELL]:
                state[w.HEAD] = tag[at] - _H1 + 1
        elif role == role_of.BREAK:
            gap(state, items, w.PARAGRAPH_GAP if state[w.WAS_BREAK] else w.LINE)
            state[w.WAS_BREAK] = 1
        elif role == role_of.LIST:
            if what == OPEN:
                _open_list(html, start[at], end[at], tag[at] == _OL, state, items, lists)
            else:
                _close_list(state, items)
        elif role == role_of.ITEM:
            if what == OPEN:
                _open_item(html, start[at], end[at], state, items, lists)
            else:
                _close_item(state, items)
        elif role == role_of.QUOTE:
            gap(state, items, w.PARAGRAPH_GAP)
            if what == OPEN:
                posts = posts << 1 | _is_post(html, start[at], end[at])
                if not posts & 1:
                    if state[w.ITEMS] < w.MOST_ITEMS:
                        items[state[w.ITEMS], w.PENDING] = items[state[w.ITEMS], w.WIDTH] = 0
                        items[state[w.ITEMS], w.IS_QUOTE] = 1
                        state[w.QUOTES] += 1
                    state[w.ITEMS] += 1
            else:
                if not posts & 1:
                    state[w.ITEMS] -= 1
                    if state[w.ITEMS] < w.MOST_ITEMS:
                        state[w.QUOTES] -= 1
                        if state[w.QUOTES] < state[w.LEAST_QUOTES]:
                            state[w.LEAST_QUOTES] = state[w.QUOTES]
                posts >>= 1
        elif role == role_of.PRE:
            if what == OPEN:
                last = close_of(kind, tag, at)
                if formulas.math_kept(kind, block, keep, at, last) == 1:
                    out = _grown(out, state, 2 * (start[last] - start[at]) + w.ROOM)
                    write_code(out, state, items, marks, html, kind, tag, start, end, roles, at, last)
                for number in range(at, last):
                    seen = block[number] if block[number] > seen else seen
                at = last
        elif role == role_of.TABLE:
            if what == OPEN:
                _open_table(html, kind, tag, start, end, roles, at, state, items, taken)
            else:
                state[w.IN_TABLE] = state[w.IN_ROW] = state[w.IN_CELL] = 0
                gap(state, items, w.PARAGRAPH_GAP)
        elif role == role_of.ROW:
            gap(state, items, w.LINE)
            if state[w.IN_TABLE] and what == OPEN:
                state[w.IN_ROW] = 1
                state[w.COLUMN] = state[w.ROW_BEGUN] = 0
            elif state[w.IN_ROW]:
                _close_row(out, state, items, taken)
        elif role == role_of.CELL:
            if what == OPEN:
                _open_cell(html, start[at], end[at], division, state, items, taken)
            else:
                _close_cell(out, division, state, items, marks)
        elif role == role_of.TERM:
            gap(state, items, w.LINE)
            if what == OPEN:
                state[w.TERM_FROM] = state[w.LENGTH]
            else:
                state[w.TERMED] = state[w.LENGTH] > state[w.TERM_FROM]
        elif role == role_of.DEFINITION:
            if what == OPEN and state[w.TERMED] and not state[w.IN_CELL] and not state[w.IN_HEAD]:
                state[w.GAP] = w.LINE
                state[w.DEFINING] = 1
            else:
                gap(state, items, w.LINE)
            if what == CLOSE:
                state[w.TERMED] = state[w.DEFINING] = 0
        elif role == role_of.RAISED:
            state[w.RAISING] = what == OPEN
        elif role == role_of.MATH:
            if what == OPEN:
                last = close_of(kind, tag, at)
                first, stop = formulas.math_source(html, kind, tag, start, end, at, last)
                kept = formulas.math_kept(kind, block, keep, at, last)
                if first >= 0 and first < stop:
                    if kept == 1 or (kept < 0 and formulas.beside_kept(block, keep, seen, at)):
                        tex, tex_end, raw = first, stop, False
                        shown = formulas.displayed(html, kind, start, end, at)
                    for number in range(at, last):
                        seen = block[number] if block[number] > seen else seen
                    at = last
                    formula = at
            else:
                formula = at
        elif role == role_of.SCRIPT:
            if what == OPEN and at + 1 < len(kind) and block[at + 1] >= 0 and keep[block[at + 1]]:
                tex, tex_end, shown = formulas.script_source(html, start, end, at)
                raw = True
            if what == OPEN:
                at = close_of(kind, tag, at)
        elif role == role_of.IMAGE:
            first, stop = formulas.image_source(html, start, end, at)
            if (
                first >= 0
                and not formulas.is_copy(html, start, end, at, formula)
                and formulas.beside_kept(block, keep, seen, at)
            ):
                tex, tex_end, raw = first, stop, False
                shown = formulas.displayed(html, kind, start, end, at)
            elif first < 0:
                _beside(state)
        elif role == role_of.BOX:
            _beside(state)
            if what == OPEN:
                at = close_of(kind, tag, at)
        elif role in (role_of.HIDDEN, role_of.SKIPPED, role_of.ANNOTATION):
            if what == OPEN:
                at = close_of(kind, tag, at)
        elif markdown:  # emphasis and code
            if what == OPEN:
                _open_mark(html, kind, tag, start, end, at, role - role_of.STRONG + 1, state, marks)
            else:
                w.close_mark(out, state, marks)
        if tex >= 0:
            out = _grown(out, state, 2 * (tex_end - tex) + w.ROOM)
            w.write_formula(out, state, items, marks, html, tex, tex_end, shown, raw)
            tex = -1
    return out, state[w.LENGTH]
