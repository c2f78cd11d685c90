"""How much work a page asks of an HTML parser, estimated in one compiled pass before any parser sees it.

Parsers are quadratic in places: they compare each attribute of an element with all others, look for an element
among all that are open, open formatting elements again in every block (HTML standard, 13.2.4.3), look through all
options of a list. 5 MB of such markup take a parser minutes. The limit is a count, so it says the same everywhere.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.extract.formatting import (
    CELL,
    COLUMNS,
    FOREIGN,
    HIDDEN,
    KIND,
    LISTED,
    POINT,
    REOPENED,
    ROW,
    ROWS,
    SCOPE,
    SELECT,
    SLOT,
    TABLE,
    WALLS,
    WRITTEN,
    build,
    end_of_wall,
    nothing_listed,
    pull_down,
    push,
    table_tag,
    take,
)
from stages.kernels import inline, njit

Bytes = npt.NDArray[np.uint8]

MOST_WORK = 250_000_000
"""Steps of at most some 10 ns each. Measured with lexbor: what is below takes under 3 s of CPU."""

_VOID, _IMPLIED, _FORMATTING, _ANCHOR, _RAW, _FOREIGN, _OPTION, _SELECT, _ROOT, _TABLE, _ROW, _CELL, _SCOPE = range(
    1, 14
)
_OF_SVG, _OF_MATH, _ROWS, _COLUMNS = range(14, 18)
_KINDS = {
    _VOID: "area base basefont bgsound br embed frame hr img input keygen link meta param source track wbr image",
    # closed by what follows them, or never nested within their like
    _IMPLIED: "p li dd dt rb rp rt rtc button form head optgroup h1 h2 h3 h4 h5 h6",
    _FORMATTING: "b big code em font i s small strike strong tt u",
    _ANCHOR: "a nobr",  # formatting elements as well, but the next one takes the place of the last
    _RAW: "script style title textarea xmp iframe noembed noframes plaintext",
    _FOREIGN: "svg math",
    _OPTION: "option",
    _SELECT: "select",
    _ROOT: "html body",
    _TABLE: "table",
    _ROW: "tr",
    _ROWS: "thead tbody tfoot",
    _COLUMNS: "col colgroup",
    _CELL: "td th caption",
    _SCOPE: "template object applet marquee",
    # HTML may stand in them
    _OF_SVG: "foreignobject desc",
    _OF_MATH: "mi mo mn ms mtext annotation-xml",
}
_ENDS_FOREIGN = (
    "b big blockquote body br center code dd div dl dt em embed h1 h2 h3 h4 h5 h6 head hr i img li listing menu meta "
    "nobr ol p pre ruby s small span strong strike sub sup table tt u ul var font"
)
"""Elements that close the drawings and formulas that they are in (HTML standard, 13.2.6.5)."""
_ENDS = 32
"""Set in the kind of those."""
_SLOTS = 4096


def _hash(name: bytes) -> int:
    value = 2166136261
    for byte in name:
        value = ((value ^ byte) * 16777619) & 0xFFFFFFFF
    return value


def _slot_of(name: str) -> int:
    value = _hash(name.encode())
    return (value ^ value >> 12) % _SLOTS


_KIND = np.zeros(_SLOTS, np.uint8)
_NAME = np.zeros(_SLOTS, np.uint32)  # which name the slot is for: another one that falls into it has no kind
_KIND_OF = {name: kind for kind, names in _KINDS.items() for name in names.split()}
for _name in {*_KIND_OF, *_ENDS_FOREIGN.split()}:
    assert not _NAME[_slot_of(_name)], _name
    _NAME[_slot_of(_name)] = _hash(_name.encode())
    _KIND[_slot_of(_name)] = _KIND_OF.get(_name, 0) | (_ENDS if _name in _ENDS_FOREIGN.split() else 0)
_A, _CAPTION, _FONT, _SVG, _MATH, _TITLE, _SCRIPT, _PLAINTEXT = (
    _slot_of(name) for name in "a caption font svg math title script plaintext".split()
)


class Effort(NamedTuple):
    """What a page asks of a parser."""

    work: int
    """Estimated steps, to be held against MOST_WORK."""
    unclosed: int
    """Most elements that are open at a time, where those of optional end tags do not count."""
    attributes: int
    """Most attributes of one tag."""


def effort(html: bytes) -> Effort:
    """The effort of a page in UTF-8."""
    return Effort(*map(int, _effort(np.frombuffer(html, np.uint8), _KIND, _NAME)))


@inline
def _ends_name(byte: int) -> bool:
    return byte == 62 or byte == 47 or byte == 32 or 9 <= byte <= 13


@inline
def _is_letter(byte: int) -> bool:
    return 65 <= byte <= 90 or 97 <= byte <= 122


@inline
def _raw_end(html: Bytes, at: int, name: int, name_end: int) -> int:
    """Where the end tag of a raw text element begins, whose name stands at `name`."""
    size = len(html)
    length = name_end - name
    while at < size:
        if html[at] == 60 and at + 2 + length < size and html[at + 1] == 47 and _ends_name(html[at + 2 + length]):
            same = True
            for place in range(length):
                if html[at + 2 + place] | 32 != html[name + place] | 32:
                    same = False
                    break
            if same:
                return at
        at += 1
    return size


@inline
def _holds_script(html: Bytes, at: int, end: int) -> bool:
    """Whether `<!--` and then `<script` begin between two places: behind them, an end tag does not end a script."""
    comment = False
    while at + 6 < end:
        byte = html[at]
        if byte == 60:
            if html[at + 1] == 33 and html[at + 2] == 45 and html[at + 3] == 45:
                comment = True
            elif comment and html[at + 1] | 32 == 115 and html[at + 2] | 32 == 99:  # <sc
                return True
        elif byte == 62 and html[at - 1] == 45 and html[at - 2] == 45:
            comment = False
        at += 1
    return False


@inline
def _end_foreign(listed: Any) -> None:
    while listed.walls[listed.now[WALLS], KIND] == FOREIGN:
        pull_down(listed)


@njit
def _effort(html: Bytes, kinds: Bytes, names: npt.NDArray[np.uint32]) -> Any:
    size = len(html)
    open_of = np.zeros(_SLOTS, np.int32)  # elements that are open, by the hash of their name
    work = unclosed = deepest = most = at = 0
    foreign = options = roots = implied = 0
    tags = 0
    for place in range(size):
        tags += html[place] == 60
    listed = nothing_listed(tags, _SLOTS)
    data_end = 0
    raw_ends = np.full(_SLOTS, -1, np.int64)
    quiet = 0  # what may be text ends here: its start tags count, its end tags do not
    while at < size:
        if html[at] != 60:
            at += 1
            continue
        at += 1
        if at >= size:
            break
        if html[at] == 33 and at + 2 < size and html[at + 1] == 45 and html[at + 2] == 45:  # a comment
            at += 1  # `<!-->` is one, too
            while at + 2 < size and not (html[at] == 45 and html[at + 1] == 45 and html[at + 2] == 62):
                if (
                    html[at] == 45
                    and html[at + 1] == 45
                    and html[at + 2] == 33
                    and at + 3 < size
                    and html[at + 3] == 62
                ):
                    break
                at += 1
            if at + 2 >= size:
                break
            at += 3
            continue
        closing = html[at] == 47
        if closing:
            at += 1
        if at >= size or not _is_letter(html[at]):
            if (
                at + 1 < size and html[at] == 33 and html[at + 1] == 91 and listed.now[HIDDEN] > 0
            ):  # to a drawing this is text
                while data_end < size and not (
                    data_end > at and html[data_end] == 62 and html[data_end - 1] == 93 and html[data_end - 2] == 93
                ):
                    data_end += 1
                quiet = max(quiet, data_end)
            if at < size and (closing or html[at] == 33 or html[at] == 63):  # a bogus comment, a doctype
                while at < size and html[at] != 62:
                    at += 1
            continue
        name = at
        value = np.uint32(2166136261)
        while at < size and not _ends_name(html[at]):
            byte = html[at]
            if 65 <= byte <= 90:
                byte |= 32
            value = np.uint32((value ^ np.uint32(byte)) * np.uint32(16777619))
            at += 1
        name_end = at
        slot = np.int64(value ^ (value >> np.uint32(12))) % _SLOTS
        attributes = 0
        slash = False
        while at < size and html[at] != 62:
            byte = html[at]
            if byte == 47 or byte == 32 or 9 <= byte <= 13:
                slash = byte == 47
                at += 1
                continue
            attributes += 1
            slash = False
            at += 1  # the first byte of a name may be anything
            while at < size and html[at] != 61 and not _ends_name(html[at]):
                at += 1
            while at < size and (html[at] == 32 or 9 <= html[at] <= 13):
                at += 1
            if at >= size or html[at] != 61:
                continue
            at += 1
            while at < size and (html[at] == 32 or 9 <= html[at] <= 13):
                at += 1
            if at < size and (html[at] == 34 or html[at] == 39):
                quote = html[at]
                at += 1
                while at < size and html[at] != quote:
                    at += 1
                at += 1
            else:
                while at < size and html[at] != 62 and html[at] != 32 and not 9 <= html[at] <= 13:
                    at += 1
        at += 1
        most = max(most, attributes)
        work += attributes * attributes + unclosed
        kind = np.int64(kinds[slot]) if names[slot] == value else 0
        ends_foreign = kind >= _ENDS and (slot != _FONT or attributes > 0)
        kind %= _ENDS
        if kind == _ROOT:
            roots += attributes
            work += attributes * roots
            continue
        if closing or kind != _FORMATTING:
            work += listed.now[LISTED] * REOPENED + listed.now[WRITTEN]
        sure = name >= quiet
        if kind in (_TABLE, _CELL, _ROW, _ROWS, _COLUMNS):
            if ends_foreign and sure and not closing:
                _end_foreign(listed)
            part = COLUMNS
            for known, other in ((_TABLE, TABLE), (_CELL, CELL), (_ROW, ROW), (_ROWS, ROWS)):
                if kind == known:
                    part = other
            caption = listed.walls[listed.now[WALLS], SLOT] == _CAPTION
            table_tag(listed, part, slot, closing, sure and listed.now[HIDDEN] == 0, caption, unclosed + implied)
        if closing:
            implied -= kind == _IMPLIED
            if sure and kind in (_FORMATTING, _ANCHOR):
                work += take(listed, slot, unclosed, False)
            elif sure and kind not in (_TABLE, _CELL):
                end_of_wall(listed, slot, unclosed + implied)
            if kind not in (_VOID, _IMPLIED, _ANCHOR, _OPTION, _ROW, _ROWS, _COLUMNS, _CELL) and open_of[slot] > 0:
                open_of[slot] -= 1
                unclosed -= 1
                foreign -= kind == _FOREIGN
            continue
        if ends_foreign and sure:
            _end_foreign(listed)
        if kind in (_FORMATTING, _ANCHOR):
            if kind == _ANCHOR and sure:  # the next one closes it
                work += take(listed, slot, unclosed, slot == _A)
            if kind == _FORMATTING:
                open_of[slot] += 1
                unclosed += 1
                deepest = max(deepest, unclosed)
            push(listed, slot, at - name, unclosed)
            continue
        if kind == _OPTION:
            options += 1
            work += options
        within = listed.walls[listed.now[WALLS], SLOT]
        point = not slash and ((within == _SVG and kind == _OF_SVG) or (within == _MATH and kind == _OF_MATH))
        if within == _SVG and slot == _TITLE:
            point = not slash
        elif kind == _RAW:
            if slot == _PLAINTEXT:
                raw_ends[slot] = size
            elif raw_ends[slot] < at:
                raw_ends[slot] = _raw_end(html, at, name, name_end)
            end = raw_ends[slot]
            quiet = max(quiet, end)
            if slot != _PLAINTEXT and listed.now[HIDDEN] == 0:
                if slot == _SCRIPT and _holds_script(html, at, end):
                    quiet = max(quiet, _raw_end(html, end + 1, name, name_end))
                at = end
        implied += kind == _IMPLIED
        if (
            kind not in (_VOID, _IMPLIED, _OPTION, _ROW, _ROWS, _COLUMNS, _CELL)
            and not (slash and foreign > 0)
            and (kind != _RAW or foreign > 0)
        ):
            if kind == _SELECT:
                options = 0
            open_of[slot] += 1
            unclosed += 1
            deepest = max(deepest, unclosed)
            foreign += kind == _FOREIGN
        if kind == _SELECT:
            if sure and listed.walls[listed.now[WALLS], KIND] == SELECT:
                pull_down(listed)
            build(listed, SELECT, slot, unclosed + implied)
        elif kind == _SCOPE or point or (kind == _FOREIGN and not slash):
            build(listed, SCOPE if kind == _SCOPE else POINT if point else FOREIGN, slot, unclosed + implied)
    return work, deepest, most
