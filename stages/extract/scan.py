"""A page as a list of events: elements that open and close, and the texts between them, cut into blocks.

The DOM is built by lexbor (the HTML standard's own algorithm) and written out again by it. In that canonical
form every element is closed, every attribute is quoted and nothing is left to guess, so one compiled pass over
the bytes sees the whole tree, without a Python object for any node.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from selectolax.lexbor import LexborHTMLParser

from stages.kernels import inline, njit

Bytes = npt.NDArray[np.uint8]
OPEN, CLOSE, TEXT = 0, 1, 2

_VOID = "area base basefont bgsound br col embed frame hr img input keygen link meta param source track wbr".split()
_RAW = "script style xmp iframe noembed noframes plaintext".split()  # their text is written without escapes
_HIDDEN = (
    "head title script style template select option optgroup datalist textarea svg iframe noembed noframes object "
    "canvas audio video frameset"
).split()
_INLINE = (
    "a abbr acronym b bdi bdo big blink cite code data del dfn em embed font i img ins kbd label mark nobr output "
    "picture q rb rp rt rtc ruby s samp small source span strike strong sub sup time track tt u var wbr input meta "
    "link script style math annotation annotation-xml menclose merror mfenced mfrac mi mmultiscripts mn mo mover "
    "mpadded mphantom mprescripts mroot mrow ms mspace msqrt mstyle msub msubsup msup mtable mtd mtext mtr munder "
    "munderover none semantics maction"
).split()
_BLOCK = (
    "html body div p li ul ol dl dt dd table thead tbody tfoot tr td th caption colgroup h1 h2 h3 h4 h5 h6 pre "
    "blockquote section article main aside header footer nav form fieldset legend figure figcaption address center "
    "details summary dialog menu noscript button hgroup dir listing hr br search slot marquee"
).split()

TAGS: tuple[str, ...] = ("", *dict.fromkeys(_VOID + _RAW + _HIDDEN + _INLINE + _BLOCK))
"""Tag names by number; 0 stands for any other element."""
TAG_NUMBER = {name: number for number, name in enumerate(TAGS)}

IS_VOID, _IS_RAW, IS_HIDDEN, IS_INLINE = 1, 2, 4, 8
TRAITS = np.zeros(len(TAGS), np.uint8)
for _names, _trait in ((_VOID, IS_VOID), (_RAW, _IS_RAW), (_HIDDEN, IS_HIDDEN), (_INLINE, IS_INLINE)):
    for _name in _names:
        TRAITS[TAG_NUMBER[_name]] |= _trait

_BR, _PRE, _SCRIPT, _MATH = (TAG_NUMBER[name] for name in ("br", "pre", "script", "math"))
_NAME_SLOTS = 1024
_LONGEST_NAME = max(map(len, TAGS))


def _hash(name: bytes) -> int:
    value = 2166136261
    for byte in name:
        value = ((value ^ byte) * 16777619) & 0xFFFFFFFF
    return value


_NAMES = np.zeros((_NAME_SLOTS, 2), np.int64)  # (hash, tag number), linear probing
for _name, _number in TAG_NUMBER.items():
    if _name:
        _slot = _hash(_name.encode()) % _NAME_SLOTS
        while _NAMES[_slot, 1]:
            _slot = (_slot + 1) % _NAME_SLOTS
        _NAMES[_slot] = (_hash(_name.encode()), _number)


class Events(NamedTuple):
    """The events of a page, in document order, one row each in arrays of equal length."""

    html: Bytes
    """The canonical HTML that the positions count in, UTF-8."""
    kind: npt.NDArray[np.uint8]
    """OPEN, CLOSE or TEXT. Void elements (br, img, meta ...) have no CLOSE; all others have one."""
    tag: npt.NDArray[np.uint8]
    """Index into TAGS; of a TEXT its parent's."""
    start: npt.NDArray[np.int32]
    end: npt.NDArray[np.int32]
    """OPEN: the span of the attributes, behind the tag's name up to its `>`. TEXT: its bytes, entities not yet
    resolved. CLOSE: its position, twice."""
    block: npt.NDArray[np.int32]
    """TEXT: the number of its block, ascending from 0; -1 for text that no reader sees (and for OPEN, CLOSE)."""
    blocks: int
    """How many blocks there are."""
    depth: int
    """Deepest nesting of elements."""


def canonical(html: str) -> Bytes:
    """The page as lexbor writes it out again, as UTF-8 bytes."""
    written = LexborHTMLParser(html).html or ""
    return np.frombuffer(written.encode("utf-8", "replace"), np.uint8)


def scan(html: Bytes) -> Events:
    """The events of canonical HTML.

    A block is a run of inline content: it ends where a block-level element begins or ends, and at two line
    breaks in a row. A `pre` is one block; elements of no known name are block-level; MathML is inline.
    """
    kind, tag, start, end, block, blocks, depth = _scan(html, _NAMES, TRAITS)
    return Events(html, kind, tag, start, end, block, blocks, depth)


@inline
def _blank(html: Bytes, start: int, end: int) -> bool:
    """Whether a text is white space alone."""
    at = start
    while at < end:
        byte = html[at]
        if byte == 32 or 9 <= byte <= 13:
            at += 1
        elif byte == 38 and at + 6 <= end and html[at + 1] == 110 and html[at + 5] == 59:  # &nbsp;
            at += 6
        else:
            return False
    return True


@inline
def _tag_of(html: Bytes, start: int, end: int, names: npt.NDArray[np.int64]) -> int:
    value = np.uint32(2166136261)
    for at in range(start, end):
        value = np.uint32((value ^ np.uint32(html[at])) * np.uint32(16777619))
    slot = np.int64(value) % len(names)
    while names[slot, 1]:
        if names[slot, 0] == np.int64(value):
            return int(names[slot, 1])
        slot = (slot + 1) % len(names)
    return 0


@inline
def _attributes_end(html: Bytes, at: int) -> int:
    """The position of the `>` that ends a tag: attributes are ` name="value"`, and a value holds no quote."""
    size = len(html)
    while at < size and html[at] != 62:
        at += 2  # the blank, and the first byte of the name, which may be anything
        while at < size and html[at] != 61 and html[at] != 62 and html[at] != 32:
            at += 1
        if at < size and html[at] == 61:
            at += 2
            while at < size and html[at] != 34:
                at += 1
            at += 1
    return min(at, size)


@inline
def _is_formula(html: Bytes, start: int, end: int) -> bool:
    """Whether the attributes of a script say `type="math/...`."""
    for at in range(start, end - 5):
        if (
            html[at] == 34 and html[at + 1] == 109 and html[at + 2] == 97 and html[at + 3] == 116
            and html[at + 4] == 104 and html[at + 5] == 47 and html[at - 1] == 61 and html[at - 2] == 101
        ):  # fmt: skip
            return True
    return False


@inline
def _name_end(html: Bytes, at: int) -> int:
    size = len(html)
    while at < size and html[at] != 32 and html[at] != 62:
        at += 1
    return at


@njit
def _scan(html: Bytes, names: npt.NDArray[np.int64], traits: Bytes) -> Any:
    size = len(html)
    room = 16
    for at in range(size):
        if html[at] == 60:
            room += 2
    kinds = np.empty(room, np.uint8)
    tags = np.empty(room, np.uint8)
    starts = np.empty(room, np.int32)
    ends = np.empty(room, np.int32)
    block_of = np.full(room, -1, np.int32)
    stack = np.zeros(1024, np.uint8)  # the open elements
    shown = np.zeros(1024, np.uint8)  # whether a reader sees what is in them
    count = depth = deepest = blocks = at = 0
    in_block = False  # whether block number `blocks - 1` still takes text
    breaks = 0  # line breaks since the last text
    pres = maths = 0  # open elements of these names
    visible = True
    while at < size:
        raw = depth > 0 and traits[stack[depth - 1]] & _IS_RAW and not _closes(html, at, stack[depth - 1], names)
        if raw or html[at] != 60:
            stop = at
            if raw:
                while stop < size and not _closes(html, stop, stack[depth - 1], names):
                    stop += 1
            else:
                while stop < size and html[stop] != 60:
                    stop += 1
            kinds[count] = TEXT
            tags[count] = stack[depth - 1] if depth else 0
            starts[count] = at
            ends[count] = stop
            if visible:
                if not _blank(html, at, stop):
                    blocks += not in_block
                    in_block = True
                    breaks = 0
                if in_block:
                    block_of[count] = blocks - 1
            count += 1
            at = stop
            continue
        if at + 1 < size and (html[at + 1] == 33 or html[at + 1] == 63):
            at = _declaration_end(html, at)
            continue
        closing = at + 1 < size and html[at + 1] == 47
        name = at + 2 if closing else at + 1
        name_end = _name_end(html, name)
        tag = _tag_of(html, name, name_end, names)
        trait = traits[tag]
        boundary = visible and not trait & (IS_INLINE | IS_HIDDEN) and pres == 0 and maths == 0
        if closing:
            at = name_end + 1
            if depth == 0 or stack[depth - 1] != tag:
                continue  # of an element that is void by its name, in SVG or MathML
            depth -= 1
            if tag == _PRE:
                pres -= 1
                boundary = visible and pres == 0
            elif tag == _MATH:
                maths -= 1
            visible = shown[depth - 1] if depth else True
            kinds[count] = CLOSE
            tags[count] = tag
            starts[count] = ends[count] = at
        else:
            stop = _attributes_end(html, name_end)
            kinds[count] = OPEN
            tags[count] = tag
            starts[count] = name_end
            ends[count] = stop
            at = stop + 1
            if tag == _BR:
                breaks += visible
                boundary = visible and breaks >= 2 and pres == 0 and maths == 0
            elif not trait & IS_VOID:
                if depth == len(stack):
                    stack = np.concatenate((stack, np.zeros(depth, np.uint8)))
                    shown = np.concatenate((shown, np.zeros(depth, np.uint8)))
                if trait & IS_HIDDEN and not (tag == _SCRIPT and _is_formula(html, name_end, stop)):
                    visible = False
                stack[depth] = tag
                shown[depth] = visible
                depth += 1
                deepest = max(deepest, depth)
                pres += tag == _PRE
                maths += tag == _MATH
        count += 1
        if boundary:
            in_block = False
            breaks = breaks if tag == _BR else 0
    return kinds[:count], tags[:count], starts[:count], ends[:count], block_of[:count], blocks, deepest


@inline
def _closes(html: Bytes, at: int, tag: int, names: npt.NDArray[np.int64]) -> bool:
    """Whether the end tag of an element of this name stands here."""
    if at + 1 >= len(html) or html[at] != 60 or html[at + 1] != 47:
        return False
    end = at + 2
    while end < len(html) and html[end] != 32 and html[end] != 62:
        end += 1
        if end > at + 2 + _LONGEST_NAME:  # `</style</style</style`: looked at to its end each time, it took seconds
            return False
    return bool(_tag_of(html, at + 2, end, names) == tag)


@inline
def _declaration_end(html: Bytes, at: int) -> int:
    """The position behind a comment, a doctype, or a processing instruction, which ends at its first `>`."""
    size = len(html)
    if at + 3 < size and html[at + 2] == 45 and html[at + 3] == 45:
        at += 4
        while at + 2 < size and not (html[at] == 45 and html[at + 1] == 45 and html[at + 2] == 62):
            at += 1
        return at + 3
    while at < size and html[at] != 62:
        at += 1
    return at + 1
