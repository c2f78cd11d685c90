"""What an element does to the text around it, and which tables are tables: what `render` looks up while it writes."""

from __future__ import annotations

import numpy as np

from stages.extract.markup import Bytes, Numbers, attribute, holds, name, number_in
from stages.extract.scan import IS_HIDDEN, IS_INLINE, OPEN, TAG_NUMBER, TAGS, TEXT, TRAITS
from stages.kernels import inline

(NOTHING, DIVISION, PARAGRAPH, HEADING, LIST, ITEM, QUOTE, PRE, TABLE, ROW, CELL, BREAK, TERM, DEFINITION) = range(14)
(STRONG, EMPHASIS, STRIKE, CODE, RAISED, MATH, ANNOTATION, SCRIPT, IMAGE, SPAN, SKIPPED, BOX, HIDDEN) = range(14, 27)

_ROLES: dict[int, str] = {
    PARAGRAPH: "p article section aside main header footer nav form fieldset figure figcaption caption details dialog "
    "address dl hr",
    HEADING: "h1 h2 h3 h4 h5 h6",
    LIST: "ul ol menu dir",
    ITEM: "li",
    QUOTE: "blockquote",
    PRE: "pre listing xmp plaintext",
    TABLE: "table",
    ROW: "tr",
    CELL: "td th",
    BREAK: "br",
    TERM: "dt",
    DEFINITION: "dd",
    STRONG: "b strong",
    EMPHASIS: "i em",
    STRIKE: "s strike del",
    CODE: "code tt kbd samp",
    RAISED: "sup",
    MATH: "math",
    ANNOTATION: "annotation annotation-xml",
    SCRIPT: "script",
    IMAGE: "img",
    SPAN: "span",
    BOX: "select textarea svg iframe object canvas audio video",  # words beside it stand apart
    SKIPPED: "rt rp rtc",  # how a word is read aloud, which would stand in the midst of it
}


def _roles() -> Bytes:
    table = np.zeros(len(TAGS), np.uint8)
    for number, tag in enumerate(TAGS):
        if TRAITS[number] & IS_HIDDEN:
            table[number] = HIDDEN
        elif not TRAITS[number] & IS_INLINE and tag not in ("thead", "tbody", "tfoot", "html", "body"):
            table[number] = DIVISION
    for role, tags in _ROLES.items():
        for tag in tags.split():
            table[TAG_NUMBER[tag]] = role
    return table


ROLES = _roles()
"""Role of each tag."""

_TH, _CAPTION, _THEAD, _OL = (TAG_NUMBER[tag] for tag in ("th", "caption", "thead", "ol"))
_COLSPAN, _ROWSPAN, _ROLE, _CLASS = name("colspan"), name("rowspan"), name("role"), name("class")
_PRESENTATION, _NONE = name("presentation"), name("none")
_MOST_COLUMNS = 64
_MOST_ACROSS = 32
_LONG_CELL = 1_000  # bytes: a cell that holds more is a part of the page, not a datum
_LONG_HEADED_CELL = 4_000  # in a table that has column heads
_LONG_TITLED_CELL = 200  # in a table with headings inside cells, which mostly are a page's columns


@inline
def place(html: Bytes, start: int, end: int, column: int, taken: Numbers) -> tuple[int, int]:
    """Where a cell with these attributes goes: (its column, the first column behind it).

    `taken` counts for each column the rows, this one included, that cells from above still reach into.
    """
    while column < len(taken) and taken[column] > 0:
        column += 1
    behind = column + 1
    across = number_in(html, start, end, _COLSPAN)
    if across > 1:
        behind = column + (across if across < _MOST_ACROSS else _MOST_ACROSS)
    down = number_in(html, start, end, _ROWSPAN)
    for at in range(column, behind):
        if at < len(taken):
            taken[at] = down if down > 1 else 1
    return column, behind


@inline
def next_row(taken: Numbers) -> None:
    """One row further down."""
    for at in range(len(taken)):
        if taken[at] > 0:
            taken[at] -= 1


@inline
def table_width(
    html: Bytes, kind: Bytes, tag: Bytes, start: Numbers, end: Numbers, roles: Bytes, at: int, taken: Numbers
) -> int:
    """How many columns the table that event `at` opens has, or 0 where it only lays out the page.

    Data have two rows and columns or more, no table, code or quotation inside, and no cell as long as a paragraph of
    prose, or as a sentence where cells hold headings. It is judged by reading up to the first inner table, so that
    nested tables cost no more than flat ones.
    """
    value, value_end = attribute(html, start[at], end[at], _ROLE)
    if value >= 0 and (holds(html, value, value_end, _PRESENTATION) or holds(html, value, value_end, _NONE)):
        return 0
    taken[:] = 0
    rows = width = column = 0
    headed = titled = False
    in_cell = in_head = False
    cell = longest = 0
    number = at + 1
    while number < len(kind):
        role = roles[tag[number]]
        if kind[number] == TEXT:
            if in_cell:
                cell += end[number] - start[number]
        elif kind[number] == OPEN:
            if role in (TABLE, PRE, QUOTE):
                return 0
            titled = titled or (role == HEADING and not in_head)
            if role == ROW:
                rows += 1
                column = 0
            elif role == CELL:
                in_cell = True
                in_head = tag[number] == _TH
                headed = headed or in_head
                cell = 0
                _, column = place(html, start[number], end[number], column, taken)
                width = column if column > width else width
            elif tag[number] == _CAPTION or tag[number] == _THEAD:
                headed = True
        elif role == CELL:
            in_cell = in_head = False
            longest = cell if cell > longest else longest
        elif role == ROW:
            next_row(taken)
        elif role == TABLE:
            break
        number += 1
    taken[:] = 0
    longest_allowed = _LONG_TITLED_CELL if titled else _LONG_HEADED_CELL if headed else _LONG_CELL
    return width if rows > 1 and 1 < width <= _MOST_COLUMNS and longest <= longest_allowed else 0


_WRITTEN_AS = tuple(
    name(text)
    for text in (
        "highlight-source-",
        "highlight-text-",
        "language-",
        "lang-",
        "highlight-",
        "brush:",
        "lang:",
        "hljs ",
        "sourceCode ",
    )
)
_DATA_LANG, _DATA_LANGUAGE = name("data-lang"), name("data-language")


def _joined() -> tuple[Bytes, Numbers]:
    data = np.concatenate(_WRITTEN_AS)
    return data, np.cumsum([0, *map(len, _WRITTEN_AS)]).astype(np.int64)


_PREFIXES, _PREFIX_AT = _joined()


@inline
def language_in(html: Bytes, start: int, end: int) -> tuple[int, int]:
    """The span of the programming language that the attributes of an element name, (-1, -1) where none is named."""
    for wanted in (_DATA_LANG, _DATA_LANGUAGE):
        at, stop = attribute(html, start, end, wanted)
        if 0 <= at < stop:
            return _token(html, at, stop)
    value, value_end = attribute(html, start, end, _CLASS)
    if value < 0:
        return -1, -1
    for number in range(len(_PREFIX_AT) - 1):
        prefix = _PREFIXES[_PREFIX_AT[number] : _PREFIX_AT[number + 1]]
        at = value
        while at + len(prefix) < value_end:
            if at == value or html[at - 1] == 32:
                step = 0
                while step < len(prefix) and html[at + step] == prefix[step]:
                    step += 1
                if step == len(prefix):
                    at += step
                    while at < value_end and html[at] == 32:
                        at += 1
                    first, stop = _token(html, at, value_end)
                    if first >= 0:
                        return first, stop
            at += 1
    return -1, -1


@inline
def _token(html: Bytes, at: int, end: int) -> tuple[int, int]:
    """The span of letters, digits and `+#-_.` at `at`, at most 20; (-1, -1) where there are none."""
    stop = at
    while stop < end and stop - at < 21:
        byte = html[stop] | 32
        if (
            97 <= byte <= 122
            or 48 <= html[stop] <= 57
            or html[stop] == 43
            or html[stop] == 35
            or 45 <= html[stop] <= 46
            or html[stop] == 95
        ):
            stop += 1
        else:
            break
    if stop == at or stop - at > 20:
        return -1, -1
    return at, stop
